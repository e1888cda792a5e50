"""basic.qos: per consumer, per channel, both; on replicated and local queues alike."""

from __future__ import annotations

import pytest
from pika import spec

from harness import amqp
from harness.amqp import Consumer


@pytest.fixture
def queue(pub, name, durable) -> str:
    """Twenty waiting messages."""
    pub.queue_declare(name, durable=durable)
    amqp.fill(pub, name, [b"%d" % i for i in range(20)])
    return name


def holds(consumer: Consumer, count: int, ready: int, pub) -> None:
    """The consumer has this many, and the queue keeps the rest."""
    consumer.wait(count)
    consumer.settle()
    assert len(consumer.messages) == count
    amqp.wait_ready_count(pub, consumer.queue, ready)
    consumer.settle()
    assert len(consumer.messages) == count


@pytest.mark.parametrize("prefetch", [1, 5])
def test_prefetch(pub, sub, queue, prefetch) -> None:
    sub.basic_qos(prefetch_count=prefetch)
    consumer = Consumer(sub, queue)
    holds(consumer, prefetch, 20 - prefetch, pub)
    consumer.ack(consumer.messages[0])
    holds(consumer, prefetch + 1, 19 - prefetch, pub)
    consumer.channel.basic_ack(0, multiple=True)
    holds(consumer, 2 * prefetch + 1, 19 - 2 * prefetch, pub)


def test_no_prefetch_means_no_limit(sub, queue) -> None:
    consumer = Consumer(sub, queue)
    consumer.wait(20)


def test_applies_to_later_consumers_each(pub, sub, queue) -> None:
    sub.basic_qos(prefetch_count=3)
    first = Consumer(sub, queue)
    first.wait(3)
    sub.basic_qos(prefetch_count=2)
    second = Consumer(sub, queue)
    holds(second, 2, 15, pub)
    assert len(first.messages) == 3


def test_nack_and_reject_make_room(pub, sub, queue) -> None:
    sub.basic_qos(prefetch_count=1)
    consumer = Consumer(sub, queue)
    consumer.wait(1)
    sub.basic_nack(consumer.messages[0].tag, requeue=False)
    consumer.wait(2)
    sub.basic_reject(consumer.messages[1].tag, requeue=False)
    holds(consumer, 3, 17, pub)


def test_auto_ack_ignores_prefetch(pub, sub, queue) -> None:
    sub.basic_qos(prefetch_count=1)
    Consumer(sub, queue, auto_ack=True).wait(20)


def test_get_ignores_prefetch(pub, sub, queue) -> None:
    sub.basic_qos(prefetch_count=1)
    for i in range(5):
        assert amqp.get(sub, queue).body == b"%d" % i


def test_channel_wide_window_is_shared(pub, sub, queue) -> None:
    sub.basic_qos(prefetch_count=4, global_qos=True)
    first, second = Consumer(sub, queue), Consumer(sub, queue)

    def both() -> int:
        return len(first.messages) + len(second.messages)

    amqp.pump(sub.connection, lambda: both() == 4)
    first.settle()
    amqp.wait_ready_count(pub, queue, 16)
    assert both() == 4
    tag = (first.messages or second.messages)[0].tag
    sub.basic_ack(tag)
    amqp.pump(sub.connection, lambda: both() == 5)
    first.settle()
    assert both() == 5


def test_channel_wide_window_over_several_queues(pub, connect, names, durable) -> None:
    """A window of the channel, not of a queue, also where the queues live on different nodes."""
    queues = [names() for _ in range(4)]
    for queue in queues:
        pub.queue_declare(queue, durable=durable)
        amqp.fill(pub, queue, [b"%d" % i for i in range(10)])
    channel = connect(2).channel()
    channel.basic_qos(prefetch_count=5, global_qos=True)
    consumers = [Consumer(channel, queue) for queue in queues]

    def total() -> int:
        return sum(len(c.messages) for c in consumers)

    amqp.pump(channel.connection, lambda: total() == 5)
    for _ in range(2):
        for consumer in consumers:
            consumer.settle()
    assert total() == 5
    # Acknowledged one by one, everything arrives: no queue starves.
    acked = set()
    while len(acked) < 40:
        amqp.pump(channel.connection, lambda: total() > len(acked))
        for consumer in consumers:
            for message in consumer.messages:
                if message.tag not in acked:
                    acked.add(message.tag)
                    channel.basic_ack(message.tag)
        assert total() - len(acked) <= 5
    for consumer in consumers:
        assert consumer.bodies == [b"%d" % i for i in range(10)]


def test_channel_wide_window_changes_at_once(pub, sub, queue) -> None:
    """What Celery does with autoscale and ETA tasks."""
    sub.basic_qos(prefetch_count=2, global_qos=True)
    consumer = Consumer(sub, queue)
    holds(consumer, 2, 18, pub)
    sub.basic_qos(prefetch_count=6, global_qos=True)
    holds(consumer, 6, 14, pub)
    sub.basic_qos(prefetch_count=3, global_qos=True)
    for message in consumer.messages[:3]:
        consumer.ack(message)
    amqp.sync(sub)
    holds(consumer, 6, 14, pub)
    consumer.ack(consumer.messages[3])
    holds(consumer, 7, 13, pub)
    sub.basic_qos(prefetch_count=0, global_qos=True)
    consumer.wait(20)


def test_both_limits_hold_together(pub, sub, queue) -> None:
    sub.basic_qos(prefetch_count=3)
    sub.basic_qos(prefetch_count=4, global_qos=True)
    first = Consumer(sub, queue)
    holds(first, 3, 17, pub)
    second = Consumer(sub, queue)
    holds(second, 1, 16, pub)
    assert len(first.messages) == 3


def test_get_takes_no_room_in_the_shared_window(pub, sub, queue) -> None:
    sub.basic_qos(prefetch_count=3, global_qos=True)
    consumer = Consumer(sub, queue)
    holds(consumer, 3, 17, pub)
    got = [amqp.get(sub, queue) for _ in range(2)]
    for message in got:
        sub.basic_ack(message.tag)
    holds(consumer, 3, 15, pub)


def test_prefetch_size_is_refused(peer) -> None:
    peer.open().open_channel()
    peer.method(1, spec.Basic.Qos(prefetch_size=1000))
    peer.expect_close(540, "NOT_IMPLEMENTED - prefetch_size!=0 (1000)")
