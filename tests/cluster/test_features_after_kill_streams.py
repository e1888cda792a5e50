"""Streams through the loss of nodes: every confirmed message is read, once and in order."""

from __future__ import annotations

from typing import Any

import pytest
from scenes import roles

from harness import amqp
from harness.amqp import Consumer

STREAM = {"x-queue-type": "stream"}


def read(channel: Any, name: str, offset: Any) -> Consumer:
    channel.basic_qos(prefetch_count=20)
    return Consumer(channel, name, arguments={"x-stream-offset": offset})


def take(consumer: Consumer, first: int, last: int) -> None:
    """The next messages are these, each with its offset."""
    for i in range(first, last):
        message = consumer.next(30)
        assert message.body == b"%d" % i
        assert message.properties.headers["x-stream-offset"] == i
        assert not message.redelivered
        consumer.ack(message)


@pytest.mark.parametrize("victim", ["leader", "follower"])
def test_a_node_is_killed_while_a_stream_is_read(whole, name, open_at, victim) -> None:
    pub = amqp.confirmed(open_at(whole.nodes[0]))
    pub.queue_declare(name, durable=True, arguments=STREAM)
    dead, a, b = roles(whole, name, victim)
    pub = amqp.confirmed(open_at(a))
    amqp.fill(pub, name, [b"%d" % i for i in range(300)])
    begun = read(open_at(b).channel(), name, "first")
    at_the_end = read(open_at(b).channel(), name, "next")
    take(begun, 0, 100)
    dead.kill()
    amqp.fill(pub, name, [b"%d" % i for i in range(300, 400)])
    take(begun, 100, 400)
    take(at_the_end, 300, 400)
    whole.start([dead])
    dead.wait_ready()
    again = read(open_at(dead).channel(), name, "first")
    take(again, 0, 400)


def test_all_nodes_are_killed(whole, name, open_at) -> None:
    """Messages, their offsets and what has been cut off come back from the disks."""
    pub = amqp.confirmed(open_at(whole.nodes[0]))
    limit = {"x-max-length-bytes": 700}
    pub.queue_declare(name, durable=True, arguments=STREAM | limit)
    # Three bytes each.
    amqp.fill(pub, name, [b"%d" % i for i in range(100, 400)])
    amqp.wait_ready_count(pub, name, 233)
    for node in whole.nodes:
        node.kill()
    whole.start()
    for node in whole.nodes:
        node.wait_ready()
    channel = open_at(whole.nodes[1]).channel()
    consumer = read(channel, name, "first")
    for i in range(67 + 100, 400):
        message = consumer.next(30)
        assert message.body == b"%d" % i
        assert message.properties.headers["x-stream-offset"] == i - 100
        consumer.ack(message)
