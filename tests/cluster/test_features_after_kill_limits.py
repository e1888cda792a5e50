"""Lengths and what happens above them, when the queue's leader is killed."""

from __future__ import annotations

import pika
import pytest

from harness import amqp
from harness.amqp import Consumer


def refused(pub, queue: str, body: bytes) -> None:
    with pytest.raises(pika.exceptions.NackError):
        pub.basic_publish("", queue, body, amqp.PERSISTENT)


def test_drop_head(stage) -> None:
    """Reached before the kill, and held to in the middle of it."""
    s = stage({"x-max-length": 10})
    for i in range(100):
        if i == 50:
            s.kill()
        s.pub.basic_publish("", s.queue, b"%d" % i, amqp.PERSISTENT)
    assert amqp.get_all(s.sub, s.queue, 10) == [b"%d" % i for i in range(90, 100)]
    amqp.fill(s.pub, s.queue, [b"%d" % i for i in range(11)])
    assert amqp.get_all(s.sub, s.queue, 10) == [b"%d" % i for i in range(1, 11)]


def test_drop_head_by_bytes(stage) -> None:
    s = stage({"x-max-length-bytes": 100})
    amqp.fill(s.pub, s.queue, [b"a" * 40, b"b" * 40])
    s.kill()
    amqp.fill(s.pub, s.queue, [b"c" * 15])
    amqp.wait_ready_count(s.sub, s.queue, 3)
    amqp.fill(s.pub, s.queue, [b"d" * 40])
    assert amqp.get_all(s.sub, s.queue, 3) == [b"b" * 40, b"c" * 15, b"d" * 40]
    amqp.fill(s.pub, s.queue, [b"e" * 101])
    amqp.wait_ready_count(s.sub, s.queue, 0)


@pytest.mark.parametrize("arguments", [{"x-max-length": 2}, {"x-max-length-bytes": 20}])
@pytest.mark.parametrize("before", [1, 2], ids=["reached-after", "reached-before"])
def test_reject_publish(stage, arguments, before) -> None:
    s = stage({"x-overflow": "reject-publish", **arguments})
    bodies = [b"%010d" % i for i in range(4)]
    amqp.fill(s.pub, s.queue, bodies[:before])
    s.kill()
    amqp.fill(s.pub, s.queue, bodies[before:2])
    refused(s.pub, s.queue, b"%010d" % 9)
    held = amqp.get(s.sub, s.queue)
    assert held.body == bodies[0]
    amqp.fill(s.pub, s.queue, bodies[2:3])
    refused(s.pub, s.queue, b"%010d" % 9)
    s.sub.basic_ack(held.tag)
    assert amqp.get_all(s.sub, s.queue, 2) == bodies[1:3]


@pytest.mark.parametrize("before", [1, 2], ids=["reached-after", "reached-before"])
def test_reject_publish_dlx(stage, names, before) -> None:
    grave = names()
    s = stage(
        {
            "x-max-length": 2,
            "x-overflow": "reject-publish-dlx",
            "x-dead-letter-exchange": "",
            "x-dead-letter-routing-key": grave,
        }
    )
    s.declare(grave)
    expected = [b"after", b"again"]
    amqp.fill(s.pub, s.queue, [b"1", b"2"][:before])
    if before == 2:
        refused(s.pub, s.queue, b"before")
        expected.insert(0, b"before")
    s.kill()
    amqp.fill(s.pub, s.queue, [b"1", b"2"][before:])
    refused(s.pub, s.queue, b"after")
    refused(s.pub, s.queue, b"again")
    graves = Consumer(s.sub, grave)
    graves.wait(len(expected))
    assert graves.bodies == expected
    for message in graves.messages:
        (death,) = message.properties.headers["x-death"]
        assert (death["reason"], death["queue"], death["count"]) == ("maxlen", s.queue, 1)
    assert amqp.get_all(s.pub, s.queue, 2) == [b"1", b"2"]


def test_what_consumers_hold_does_not_count(stage) -> None:
    """Nor for the next leader; given back it does, and the oldest goes."""
    s = stage({"x-max-length": 2})
    amqp.fill(s.pub, s.queue, [b"1", b"2"])
    held = [amqp.get(s.sub, s.queue) for _ in range(2)]
    amqp.fill(s.pub, s.queue, [b"3"])
    s.kill()
    amqp.fill(s.pub, s.queue, [b"4"])
    amqp.wait_ready_count(s.pub, s.queue, 2)
    s.sub.basic_ack(held[0].tag)
    s.sub.basic_nack(held[1].tag)
    amqp.counts(s.sub, s.queue)
    assert amqp.get_all(s.pub, s.queue, 2) == [b"3", b"4"]


def test_zero_delivers_to_waiting_consumers_only(stage) -> None:
    s = stage({"x-max-length": 0})
    consumer = Consumer(s.sub, s.queue)
    amqp.fill(s.pub, s.queue, [b"before"])
    consumer.ack(consumer.next())
    s.kill()
    amqp.fill(s.pub, s.queue, [b"after"])
    assert consumer.next().body == b"after"
    consumer.cancel()
    amqp.fill(s.pub, s.queue, [b"nobody"])
    amqp.wait_ready_count(s.sub, s.queue, 0)
