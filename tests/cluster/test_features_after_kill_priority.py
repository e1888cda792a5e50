"""x-max-priority when the queue's leader is killed."""

from __future__ import annotations

import pika

from harness import amqp
from harness.amqp import Consumer


def publish(channel, queue: str, *messages: tuple[bytes, int | None]) -> None:
    for body, priority in messages:
        properties = pika.BasicProperties(priority=priority, delivery_mode=2)
        channel.basic_publish("", queue, body, properties)


def test_order(stage) -> None:
    """Levels from before and after the kill are the same ones."""
    s = stage({"x-max-priority": 5})
    publish(s.pub, s.queue, (b"1a", 1), (b"5a", 5), (b"0a", None), (b"3a", 3), (b"9", 9))
    s.kill()
    publish(s.pub, s.queue, (b"3b", 3), (b"0b", 0), (b"5b", 5), (b"1b", 1))
    expected = [b"5a", b"9", b"5b", b"3a", b"3b", b"1a", b"1b", b"0a", b"0b"]
    assert amqp.get_all(s.sub, s.queue, 9) == expected


def test_what_is_given_back_keeps_its_level(stage) -> None:
    s = stage({"x-max-priority": 5})
    publish(s.pub, s.queue, (b"4a", 4), (b"2a", 2), (b"4b", 4))
    s.sub.basic_qos(prefetch_count=2)
    holder = Consumer(s.sub, s.queue)
    holder.wait(2)
    assert holder.bodies == [b"4a", b"4b"]
    publish(s.pub, s.queue, (b"1a", 1))
    s.kill()
    publish(s.pub, s.queue, (b"4c", 4), (b"2b", 2), (b"5a", 5))
    holder.cancel()
    for message in holder.messages:
        s.sub.basic_nack(message.tag)
    amqp.counts(s.sub, s.queue)
    expected = [b"5a", b"4a", b"4b", b"4c", b"2a", b"2b", b"1a"]
    assert amqp.get_all(s.sub, s.queue, 7) == expected


def test_the_lowest_level_is_dropped_first(stage) -> None:
    s = stage({"x-max-priority": 5, "x-max-length": 4})
    publish(s.pub, s.queue, (b"0a", 0), (b"5a", 5), (b"2a", 2), (b"0b", 0))
    s.kill()
    publish(s.pub, s.queue, (b"3a", 3), (b"0c", 0), (b"1a", 1), (b"5b", 5))
    assert amqp.get_all(s.sub, s.queue, 4) == [b"5a", b"5b", b"3a", b"2a"]
