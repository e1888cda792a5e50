"""Alarms: a watermark that is passed on one node blocks publishers on all, consumers go on."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pika
import pytest
from pika import spec

from harness import amqp, wire
from harness.cluster import Cluster
from harness.node import Node
from harness.wait import eventually

pytestmark = pytest.mark.warren_only("starts nodes of its own")


class Watcher:
    """A connection that notes when it is blocked and unblocked."""

    def __init__(self, port: int) -> None:
        self.said: list[str] = []
        self.connection = amqp.connect(port)
        self.connection.add_on_connection_blocked_callback(self._blocked)
        self.connection.add_on_connection_unblocked_callback(
            lambda *_: self.said.append("unblocked")
        )

    def _blocked(self, _, method) -> None:
        reason = method.method.reason
        self.said.append(reason.decode() if isinstance(reason, bytes) else reason)

    def hears(self, what: str) -> None:
        def heard() -> bool:
            self.connection.process_data_events(0.1)
            return bool(self.said) and self.said[-1] == what

        eventually(heard, what=f"{what!r} is heard")


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    with Cluster(3) as made:
        made.start()
        yield made


def restarted(cluster: Cluster, *arguments: str, node: Node | None = None) -> None:
    """A node, the third if none is named, comes back with other limits; a majority stays up."""
    again = node or cluster.nodes[2]
    again.kill()
    again.extra_args = list(arguments)
    cluster.start([again])


def know_of_alarm(cluster: Cluster) -> None:
    """The nodes that have no alarm of their own ask the others now and then."""
    for node in cluster.nodes[:2]:
        eventually(
            lambda node=node: "publishers are blocked" in node.log_text(),
            what=f"node {node.id} knows of the alarm",
        )


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (("--memory-total", "1MB"), "low on memory"),
        (("--disk-free-limit", "8000000GB"), "low on disk"),
    ],
)
def test_an_alarm_blocks_all_publishers(cluster, name, arguments, reason) -> None:
    setup = amqp.confirmed(cluster.connect(1))
    setup.queue_declare(name, durable=True)
    amqp.fill(setup, name, [b"before"])
    watchers = [Watcher(node.amqp_port) for node in cluster.nodes[:2]]
    restarted(cluster, *arguments)
    know_of_alarm(cluster)
    # `connection.blocked` goes to connections that publish.
    for watcher in watchers:
        channel = watcher.connection.channel()
        channel.basic_publish("", name, b"last")
        watcher.hears(reason)
        channel.basic_publish("", name, b"held")
    # Consumers go on draining, on other connections.
    consumer = cluster.connect(2).channel()
    assert amqp.get(consumer, name, auto_ack=True).body == b"before"
    # Also the publish that was met by the alarm comes afterwards.
    assert consumer.basic_get(name) == (None, None, None)
    restarted(cluster)
    for watcher in watchers:
        watcher.hears("unblocked")
        watcher.connection.close()
    amqp.wait_ready_count(cluster.connect(1).channel(), name, 4)


def told(node: Node, queue: str) -> str | None:
    """What a publisher that comes now is told, if it is blocked."""
    with wire.Peer(node.amqp_port) as peer:
        peer.open().open_channel()
        peer.publish(1, "", queue, b"x")
        peer.method(2, spec.Channel.Open())
        method = peer.receive().method
        return method.reason if isinstance(method, spec.Connection.Blocked) else None


def test_two_alarms_are_two_reasons(cluster, name) -> None:
    """Publishers go on when both are over."""
    first, second, third = cluster.nodes
    amqp.confirmed(cluster.connect(1)).queue_declare(name, durable=True)
    restarted(cluster, "--memory-total", "1MB", node=third)
    restarted(cluster, "--disk-free-limit", "8000000GB", node=second)
    both = "low on memory & disk"
    eventually(lambda: told(first, name) == both, what="both alarms are known")
    watcher = Watcher(first.amqp_port)
    watcher.connection.channel().basic_publish("", name, b"held")
    watcher.hears(both)
    restarted(cluster, node=second)
    eventually(lambda: told(first, name) == "low on memory", what="one alarm is over")
    watcher.connection.process_data_events(0.5)
    assert watcher.said == [both]
    restarted(cluster, node=third)
    watcher.hears("unblocked")
    assert watcher.said == [both, "unblocked"]
    watcher.connection.close()


def test_a_new_publisher_is_blocked_too(cluster, name) -> None:
    setup = cluster.connect(1).channel()
    setup.queue_declare(name, durable=True)
    restarted(cluster, "--disk-free-limit", "8000000GB")
    know_of_alarm(cluster)
    watcher = Watcher(cluster.nodes[0].amqp_port)
    channel = watcher.connection.channel()
    channel.basic_publish("", name, b"first")
    watcher.hears("low on disk")
    done = threading.Event()

    def publish() -> None:
        with pika.BlockingConnection(amqp.parameters(cluster.nodes[1].amqp_port)) as connection:
            confirmed = amqp.confirmed(connection)
            confirmed.basic_publish("", name, b"second")
        done.set()

    thread = threading.Thread(target=publish, daemon=True)
    thread.start()
    assert not done.wait(3), "a confirm arrived while publishers are blocked"
    restarted(cluster)
    assert done.wait(30), "the publisher goes on after the alarm"
    watcher.hears("unblocked")
    watcher.connection.close()
