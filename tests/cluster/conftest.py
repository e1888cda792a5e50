"""Clusters for tests that kill, freeze and cut."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pika
import pytest
from scenes import Stage

from harness import amqp
from harness.broker import external_ports
from harness.cluster import Cluster
from harness.load import ConsumerLoad, Producer
from harness.node import Node


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if external_ports() is not None:
        for item in items:
            item.add_marker(pytest.mark.skip(reason="needs nodes that the tests may kill"))


@pytest.fixture
def fresh() -> Iterator[Callable[..., Cluster]]:
    """`fresh(size, …)`: a cluster of this test's own, not yet started."""
    made: list[Cluster] = []

    def make(*arguments: Any, **options: Any) -> Cluster:
        cluster = Cluster(*arguments, **options)
        made.append(cluster)
        return cluster

    yield make
    problems = []
    for cluster in made:
        try:
            cluster.close()
        except AssertionError as error:
            problems.append(str(error))
    assert not problems, "\n".join(problems)


@pytest.fixture(scope="module")
def shared() -> Iterator[Cluster]:
    """One cluster for the tests of a module; each leaves it whole or `whole` repairs it."""
    cluster = Cluster(3)
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.close()


@pytest.fixture
def whole(shared: Cluster) -> Cluster:
    """The shared cluster with all nodes running and ready."""
    for node in shared.nodes:
        node.thaw()
    shared.start()
    for node in shared.nodes:
        node.wait_ready()
    return shared


class Load:
    """Producers and consumers of one test, closed at its end."""

    def __init__(self) -> None:
        self.producers: list[Producer] = []
        self.consumers: list[ConsumerLoad] = []

    def produce(self, node: Node, routing_key: str, **options: Any) -> Producer:
        options.setdefault("number", len(self.producers) + 1)
        producer = Producer(node.amqp_port, routing_key, **options)
        self.producers.append(producer)
        return producer.start()

    def consume(self, node: Node, queue: str, **options: Any) -> ConsumerLoad:
        consumer = ConsumerLoad(node.amqp_port, queue, **options)
        self.consumers.append(consumer)
        return consumer.start()

    def close(self) -> None:
        for producer in self.producers:
            producer.close()
        for consumer in self.consumers:
            consumer.close()


@pytest.fixture
def load() -> Iterator[Load]:
    made = Load()
    yield made
    made.close()


@pytest.fixture
def open_at() -> Iterator[Callable[..., pika.BlockingConnection]]:
    """`open_at(node)`: a connection to this node, dropped at the end of the test."""
    opened: list[pika.BlockingConnection] = []

    def make(node: Node, **parameters: Any) -> pika.BlockingConnection:
        connection = amqp.connect(node.amqp_port, **parameters)
        opened.append(connection)
        return connection

    yield make
    for connection in opened:
        amqp.drop(connection)


@pytest.fixture
def stage(
    whole: Cluster, name: str, open_at: Callable[..., pika.BlockingConnection]
) -> Callable[..., Stage]:
    """`stage(arguments)`: a durable queue with these arguments, ready for the loss of its leader."""

    def make(arguments: dict[str, Any] | None = None, queue: str = name) -> Stage:
        channel = open_at(whole.nodes[0]).channel()
        channel.queue_declare(queue, durable=True, arguments=arguments)
        leader = whole.leader(queue)
        a, b = whole.others(leader)
        return Stage(whole, queue, leader, a, b, amqp.confirmed(open_at(a)), open_at(b).channel())

    return make
