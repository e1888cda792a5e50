"""Bodies of every size, split into frames, and the limit."""

from __future__ import annotations

import hashlib

import pytest

from harness import amqp
from harness.amqp import Consumer, channel_error

MAX = 16 * 1024 * 1024
FRAME = 131072


def pattern(size: int) -> bytes:
    block = hashlib.sha256(str(size).encode()).digest() * 64
    return (block * (size // len(block) + 1))[:size]


@pytest.mark.parametrize(
    "size",
    [0, 1, 255, 4096, FRAME - 9, FRAME - 8, FRAME - 7, FRAME, 2 * (FRAME - 8), 1_000_003],
)
def test_sizes(pub, sub, name, durable, size) -> None:
    pub.queue_declare(name, durable=durable)
    body = pattern(size)
    pub.basic_publish("", name, body, amqp.PERSISTENT)
    message = amqp.get(sub, name)
    assert message.body == body


@pytest.mark.parametrize("size", [8 * 1024 * 1024, MAX], ids=["8MiB", "16MiB"])
def test_the_largest(pub, connect, name, durable, size) -> None:
    pub.queue_declare(name, durable=durable)
    body = pattern(size)
    pub.basic_publish("", name, body, amqp.PERSISTENT)
    for node in (1, 2):
        channel = connect(node).channel()
        consumer = Consumer(channel, name)
        message = consumer.next()
        assert hashlib.sha256(message.body).digest() == hashlib.sha256(body).digest()
        if node == 1:
            channel.connection.close()  # It comes back, and goes to the next node.
        else:
            consumer.ack(message)
            amqp.sync(channel)
    amqp.wait_ready_count(pub, name, 0)


def test_above_the_maximum(pub, name) -> None:
    pub.queue_declare(name)
    with channel_error(
        406,
        f"PRECONDITION_FAILED - message size {MAX + 1} is larger than configured max size {MAX}",
    ):
        pub.basic_publish("", name, bytes(MAX + 1))
    # The connection is fine.
    channel = amqp.confirmed(pub.connection)
    channel.basic_publish("", name, b"small")
    assert amqp.get_all(channel, name, 1) == [b"small"]


@pytest.mark.warren_only("RabbitMQ 3.10 waits for the bytes")
def test_absurd_announcement_is_refused_at_once(peer, name) -> None:
    """Not after buffering half a gigabyte."""
    import struct

    from pika import spec

    from harness import wire

    peer.open().open_channel().declare(1, name)
    peer.method(1, spec.Basic.Publish(exchange="", routing_key=name))
    head = struct.pack(">HHQ", 60, 0, 2**40) + wire.NO_PROPERTIES
    peer.send(wire.frame(wire.HEADER, 1, head))
    assert peer.refused() in (501, 406)


def test_small_and_large_mixed_stay_in_order(pub, sub, name, durable) -> None:
    pub.queue_declare(name, durable=durable)
    sizes = [10, 300_000, 0, 1_000_000, 5, 131_064, 7]
    for size in sizes:
        pub.basic_publish("", name, pattern(size), amqp.PERSISTENT)
    consumer = Consumer(sub, name, auto_ack=True)
    consumer.wait(len(sizes))
    assert consumer.bodies == [pattern(size) for size in sizes]


def test_many_middling_ones_from_a_backlog(pub, sub, name) -> None:
    """More than the broker will hold ready in memory for one consumer."""
    pub.queue_declare(name, durable=True)
    plain = pub.connection.channel()
    body = pattern(256 * 1024)
    for i in range(100):
        plain.basic_publish("", name, b"%04d" % i + body, amqp.PERSISTENT)
    amqp.wait_ready_count(sub, name, 100)
    sub.basic_qos(prefetch_count=5)
    consumer = Consumer(sub, name)
    for i in range(100):
        message = consumer.next()
        assert message.body == b"%04d" % i + body
        consumer.ack(message)
