"""Client libraries as their users know them, against three nodes.

`nodes` is the shared cluster; the tests that kill a node own a fresh one.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from harness.broker import external_ports
from harness.cluster import Cluster


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if "clients" in str(item.path):
            item.add_marker(pytest.mark.client)


@pytest.fixture
def victim_cluster() -> Iterator[Cluster]:
    """Three nodes of this test's own, one of which it may kill."""
    if external_ports() is not None:
        pytest.skip("needs nodes that the test may kill")
    cluster = Cluster(3)
    try:
        yield cluster.start()
    finally:
        cluster.close()
