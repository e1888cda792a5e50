"""A browser for all tests, and the pages of the shared cluster in it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from browser import Pages, start
from selenium import webdriver

from harness.broker import Broker


@pytest.fixture(scope="session")
def downloads(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the browser puts files."""
    return tmp_path_factory.mktemp("downloads")


@pytest.fixture(scope="session")
def driver(downloads: Path) -> Iterator[webdriver.Chrome]:
    browser = start(downloads)
    yield browser
    browser.quit()


@pytest.fixture
def pages(driver: webdriver.Chrome, broker: Broker) -> Iterator[Pages]:
    """The pages of the first node. Whatever a test does, nobody complains in the console."""
    assert broker.cluster is not None, "the pages are Warren's"
    made = Pages(driver, broker.cluster.nodes[0].management_port)
    driver.get_log("browser")
    yield made
    assert made.complaints() == []
    driver.get("about:blank")
