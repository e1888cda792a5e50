"""Large messages for very many consumers of one client that does not read, or reads slowly: the node's memory is bounded.

Each consumer may have one message at a time; all of them together would be far more than the node has.
"""

from __future__ import annotations

import time
from typing import Any

import pika
import pytest
from pika import spec

from harness import amqp, wire
from harness.cluster import Cluster
from harness.node import Node
from harness.wait import SOON, bound, eventually

MIB = 1 << 20
COUNT = 60
SIZE = 8 * MIB
#: What is on its way, what waits to be written, and what reads and writes need for a moment.
GROWTH = 160 * MIB
KINDS = {
    "quorum": {"durable": True, "arguments": {"x-queue-type": "quorum"}},
    "transient": {},
}


def settled(node: Node, queue: str) -> None:
    """Until the queue hands out no more."""
    seen: list[tuple[int, int]] = []

    def same() -> bool:
        info = node.queue_info(queue)
        seen.append((info["messages"], info["messages_unacknowledged"]))
        return seen[-1] != (COUNT, 0) and len(seen) > 20 and len(set(seen[-20:])) == 1

    eventually(same, bound(60), "the queue is quiet", interval=0.1)


def numbered(number: int) -> bytes:
    return f"{number:08}".encode() + b"x" * (SIZE - 8)


def fill(node: Node, queue: str, **declare) -> None:
    connection = amqp.connect(node.amqp_port, socket_timeout=bound(60))
    channel = amqp.confirmed(connection)
    channel.queue_declare(queue, **declare)
    for at in range(COUNT):
        channel.basic_publish("", queue, numbered(at), amqp.PERSISTENT)
    connection.close()


def consume(node: Node, queue: str, no_ack: bool = False) -> wire.Peer:
    """A client with a consumer on each of many channels, which has not read anything since."""
    peer = wire.Peer(node.amqp_port)
    peer.open()
    for channel in range(1, COUNT + 1):
        peer.method(channel, spec.Channel.Open())
        peer.method(channel, spec.Basic.Qos(prefetch_count=1))
        tag = f"c{channel}"
        consumer = spec.Basic.Consume(queue=queue, consumer_tag=tag, no_ack=no_ack, nowait=True)
        peer.method(channel, consumer)
    return peer


def delivery(peer: wire.Peer, kind: type = spec.Basic.Deliver) -> tuple[int, Any, int]:
    """The next message: channel, method, and its number."""
    while True:
        frame = peer.receive(bound(30))
        if frame.kind == wire.METHOD and isinstance(frame.method, kind):
            break
    head = peer.receive(bound(30))
    assert head.kind == wire.HEADER
    parts = []
    while sum(map(len, parts)) < SIZE:
        part = peer.receive(bound(30))
        assert (part.kind, part.channel) == (wire.BODY, frame.channel)
        parts.append(part.payload)
    assert sum(map(len, parts)) == SIZE
    return frame.channel, frame.method, int(parts[0][:8])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("at", ["leader", "follower"])
def test_a_client_that_does_not_read(fresh, kind, at) -> None:
    cluster: Cluster = fresh(1 if at == "leader" else 3, extra_args=["--local-queues-memory=16MiB"])
    cluster.start()
    fill(cluster.nodes[0], "q", **KINDS[kind])
    node = cluster.nodes[-1]
    before = [(each, each.forget_peak()) for each in cluster.nodes]
    peer = consume(node, "q")
    settled(cluster.nodes[0], "q")
    other = amqp.connect(node.amqp_port, socket_timeout=bound(60)).channel()
    assert other.basic_get("q", auto_ack=True)[0] is not None
    for each, resting in before:
        grown = each.peak() - resting
        assert grown < GROWTH, f"{each}: {grown / MIB:.0f} MiB"
    # Now it reads: everything comes, each message once, and each consumer has one at a time.
    seen: list[int] = []
    while len(seen) < COUNT - 1:
        channel, method, number = delivery(peer)
        seen.append(number)
        assert not method.redelivered
        peer.method(channel, spec.Basic.Ack(delivery_tag=method.delivery_tag))
    assert len(set(seen)) == COUNT - 1
    for each, resting in before:
        grown = each.peak() - resting
        assert grown < GROWTH, f"{each}: {grown / MIB:.0f} MiB"
    eventually(lambda: cluster.nodes[0].queue_info("q")["messages"] == 0, SOON, "all acknowledged")


def test_consumers_that_do_not_acknowledge(fresh) -> None:
    node = fresh(1).start().nodes[0]
    fill(node, "q", durable=True)
    before = node.forget_peak()
    peer = consume(node, "q", no_ack=True)
    settled(node, "q")
    assert sorted(delivery(peer)[2] for _ in range(COUNT)) == list(range(COUNT))
    grown = node.peak() - before
    assert grown < GROWTH, f"{grown / MIB:.0f} MiB"


def test_room_that_nobody_uses_goes_to_those_that_wait(fresh) -> None:
    """Consumers of queues that have become empty keep nothing from those of one that is not."""
    node = fresh(1).start().nodes[0]
    connection = amqp.connect(node.amqp_port, socket_timeout=bound(60))
    publisher = amqp.confirmed(connection)
    consumers = []
    for at in range(20):
        queue = f"q{at}"
        publisher.queue_declare(queue, durable=True)
        channel = connection.channel()
        channel.basic_qos(prefetch_count=2)
        consumers.append(amqp.Consumer(channel, queue))
    # Each has got a large one, and may have another.
    for _ in range(2):
        for at, consumer in enumerate(consumers):
            publisher.basic_publish("", f"q{at}", b"y" * (3 * MIB), amqp.PERSISTENT)
            consumer.ack(consumer.next(bound(10)))
    # A queue of many, and all others idle.
    for _ in range(20):
        publisher.basic_publish("", "q7", b"z" * (3 * MIB), amqp.PERSISTENT)
    for _ in range(20):
        consumers[7].ack(consumers[7].next(bound(10)))
    # All at once again.
    other = amqp.confirmed(amqp.connect(node.amqp_port, socket_timeout=bound(60)))
    for at in range(20):
        other.basic_publish("", f"q{at}", b"w" * (3 * MIB), amqp.PERSISTENT)
    for consumer in consumers:
        assert consumer.next(bound(10)).body[:1] == b"w"


def test_large_and_small_ones_in_turns(fresh) -> None:
    """The order of a queue is kept, whatever credit its messages need."""
    node = fresh(1).start().nodes[0]
    connection = amqp.connect(node.amqp_port, socket_timeout=bound(60))
    publisher = amqp.confirmed(connection)
    publisher.queue_declare("q", durable=True)
    sizes = [10, 200_000, 10, 10, 1_000_000, 66_000, 10, 5_000_000, 65_000, 10] * 6
    consumer = amqp.Consumer(connection.channel(), "q")
    for at, size in enumerate(sizes):
        properties = pika.BasicProperties(delivery_mode=2, message_id=str(at))
        publisher.basic_publish("", "q", b"x" * size, properties)
    messages = consumer.wait(len(sizes), bound(60))
    assert [int(message.properties.message_id) for message in messages] == list(range(len(sizes)))
    assert [len(message.body) for message in messages] == sizes
    assert not any(message.redelivered for message in messages)


def test_gets_on_very_many_channels(fresh) -> None:
    node = fresh(1).start().nodes[0]
    fill(node, "q", durable=True)
    before = node.forget_peak()
    peer = wire.Peer(node.amqp_port)
    peer.open()
    for channel in range(1, COUNT + 3):
        peer.method(channel, spec.Channel.Open())
        peer.method(channel, spec.Basic.Get(queue="q", no_ack=True))
    settled(node, "q")
    grown = node.peak() - before
    assert grown < GROWTH, f"{grown / MIB:.0f} MiB"
    # All are answered when it reads.
    seen = [delivery(peer, spec.Basic.GetOk)[2] for _ in range(COUNT)]
    assert sorted(seen) == list(range(COUNT))
    empty = [peer.expect(spec.Basic.GetEmpty) for _ in range(2)]
    assert len(empty) == 2


LITTLE = ["--memory-total", "256MiB", "--memory-high-watermark", "0.99"]


def test_clients_on_very_many_connections_that_do_not_read(fresh) -> None:
    node = fresh(1, extra_args=LITTLE).start().nodes[0]
    fill(node, "q", durable=True)
    before = node.forget_peak()
    peers = []
    for _ in range(COUNT):
        peer = wire.Peer(node.amqp_port)
        peer.open()
        peer.method(1, spec.Channel.Open())
        peer.method(1, spec.Basic.Qos(prefetch_count=1))
        peer.method(1, spec.Basic.Consume(queue="q", consumer_tag="c", nowait=True))
        peers.append(peer)
    settled(node, "q")
    assert node.queue_info("q")["messages_unacknowledged"] < COUNT / 4
    # They go, and who reads gets everything.
    for peer in peers:
        peer.socket.close()
    channel = amqp.connect(node.amqp_port, socket_timeout=bound(60)).channel()
    channel.basic_qos(prefetch_count=10)
    consumer = amqp.Consumer(channel, "q")
    seen = []
    for _ in range(COUNT):
        message = consumer.next(bound(10))
        seen.append(int(message.body[:8]))
        consumer.ack(message)
    assert sorted(seen) == list(range(COUNT))
    grown = node.peak() - before
    assert grown < GROWTH, f"{grown / MIB:.0f} MiB"


def test_room_that_no_connection_uses_goes_to_those_that_wait(fresh) -> None:
    """As above, where it is the memory of the node that all connections share."""
    node = fresh(1, extra_args=LITTLE).start().nodes[0]
    connection = amqp.connect(node.amqp_port, socket_timeout=bound(60))
    publisher = amqp.confirmed(connection)
    consumers = []
    for at in range(20):
        publisher.queue_declare(f"q{at}", durable=True)
        channel = amqp.connect(node.amqp_port, socket_timeout=bound(60)).channel()
        channel.basic_qos(prefetch_count=2)
        consumers.append(amqp.Consumer(channel, f"q{at}"))
    for _ in range(2):
        for at, consumer in enumerate(consumers):
            publisher.basic_publish("", f"q{at}", b"y" * (6 * MIB), amqp.PERSISTENT)
            consumer.ack(consumer.next(bound(10)))
    for _ in range(20):
        publisher.basic_publish("", "q7", b"z" * (6 * MIB), amqp.PERSISTENT)
    for _ in range(20):
        consumers[7].ack(consumers[7].next(bound(10)))
    # Many for one queue: of those that compete for each, one gets it.
    rivals = []
    for _ in range(10):
        channel = amqp.connect(node.amqp_port, socket_timeout=bound(60)).channel()
        rivals.append(amqp.Consumer(channel, "q7"))
    for _ in range(10):
        publisher.basic_publish("", "q7", b"v" * (6 * MIB), amqp.PERSISTENT)
    taken = [consumers[7], *rivals]
    until = time.monotonic() + bound(30)
    # A client reads but a little at a time.
    while sum(len(rival.messages) for rival in taken) < 10:
        assert time.monotonic() < until, [len(rival.messages) for rival in taken]
        for rival in taken:
            rival.connection.process_data_events(0)
    for at in (3, 11):
        publisher.basic_publish("", f"q{at}", b"w" * (6 * MIB), amqp.PERSISTENT)
        assert consumers[at].next(bound(10)).body[:1] == b"w"
