"""Fixtures of all tests, and the ends of node logs beside every failure."""

from __future__ import annotations

import re
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import pika
import pytest
from pika.adapters.blocking_connection import BlockingChannel

from harness import amqp, wire
from harness.broker import Broker, external_ports
from harness.cluster import Cluster, live

_failed = pytest.StashKey[bool]()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if external_ports() is None:
        return
    for item in items:
        marker = item.get_closest_marker("warren_only")
        if marker is not None:
            item.add_marker(pytest.mark.skip(reason=f"Warren only: {marker.args[0]}"))


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: Any) -> Iterator[None]:
    outcome = yield
    report = outcome.get_result()
    if report.failed:
        item.stash[_failed] = True
        for cluster in list(live):
            cluster.keep = True
            report.sections.append(("cluster", f"logs are kept in {cluster.root}"))
            for node in cluster.nodes:
                state = "running" if node.running else "not running"
                report.sections.append((f"end of the log of {node} ({state})", node.log_tail()))


@pytest.fixture(scope="session")
def broker() -> Iterator[Broker]:
    """Three nodes shared by all protocol tests (or the broker named by the environment)."""
    ports = external_ports()
    if ports is not None:
        yield Broker(ports)
        return
    cluster = Cluster(3)
    try:
        cluster.start()
        yield Broker([n.amqp_port for n in cluster.nodes], cluster)
    finally:
        cluster.close(graceful=True)


@pytest.fixture(autouse=True)
def no_node_died(request: pytest.FixtureRequest) -> Iterator[None]:
    """A protocol test that ends or panics a node has failed, whatever it saw itself."""
    yield
    if "broker" not in request.fixturenames:
        return
    shared: Broker = request.getfixturevalue("broker")
    if shared.cluster is not None:
        for node in shared.cluster.nodes:
            assert node.running, f"{node} is gone"
            assert not node.panics(), node.panics()


@pytest.fixture
def name(request: pytest.FixtureRequest) -> str:
    """A name that no other test uses, readable in logs."""
    plain = re.sub(r"[^A-Za-z0-9]+", "-", request.node.name).strip("-")[:60]
    return f"{plain}-{uuid.uuid4().hex[:8]}"


@pytest.fixture
def names(name: str) -> Callable[[], str]:
    """More such names: `a = names()`."""
    count = 0

    def another() -> str:
        nonlocal count
        count += 1
        return f"{name}-{count}"

    return another


@pytest.fixture
def connect(
    request: pytest.FixtureRequest, broker: Broker
) -> Iterator[Callable[..., pika.BlockingConnection]]:
    """`connect(node, **parameters)`; closed after the test."""
    opened: list[pika.BlockingConnection] = []

    def make(node: int = 0, **parameters: Any) -> pika.BlockingConnection:
        connection = broker.connect(node, **parameters)
        opened.append(connection)
        return connection

    yield make
    for connection in opened:
        if request.node.stash.get(_failed, False):
            amqp.drop(connection)  # It may be in a state in which closing waits for ever.
            continue
        try:
            if connection.is_open:
                connection.close()
        except pika.exceptions.AMQPError:
            pass  # The test has seen to it.


@pytest.fixture
def ch(connect: Callable[..., pika.BlockingConnection]) -> BlockingChannel:
    """A channel on the first node."""
    return connect(0).channel()


@pytest.fixture
def pub(connect: Callable[..., pika.BlockingConnection]) -> BlockingChannel:
    """A channel with confirms on the first node: a publish that returned has been accepted."""
    return amqp.confirmed(connect(0))


@pytest.fixture
def sub(connect: Callable[..., pika.BlockingConnection]) -> BlockingChannel:
    """A channel on the second node."""
    return connect(1).channel()


@pytest.fixture
def peer(broker: Broker) -> Iterator[wire.Peer]:
    """A scripted peer, connected by TCP only, to the third node."""
    with broker.peer(2) as scripted:
        yield scripted


@pytest.fixture(params=[True, False], ids=["durable", "transient"])
def durable(request: pytest.FixtureRequest) -> bool:
    """For behaviour that has to be the same on replicated and on local queues."""
    return request.param
