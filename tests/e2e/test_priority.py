"""x-max-priority."""

from __future__ import annotations

import pika
import pytest

from harness import amqp
from harness.amqp import Consumer


def publish(pub, queue: str, body: bytes, priority: int | None) -> None:
    pub.basic_publish("", queue, body, pika.BasicProperties(priority=priority, delivery_mode=2))


def test_higher_first_and_fifo_within(pub, sub, name, durable) -> None:
    pub.queue_declare(name, durable=durable, arguments={"x-max-priority": 5})
    for body, priority in [
        (b"1a", 1), (b"5a", 5), (b"none", None), (b"3a", 3), (b"5b", 5), (b"0", 0), (b"1b", 1),
    ]:  # fmt: skip
        publish(pub, name, body, priority)
    assert amqp.get_all(sub, name, 7) == [b"5a", b"5b", b"3a", b"1a", b"1b", b"none", b"0"]


def test_above_the_maximum_counts_as_the_maximum(pub, sub, name, durable) -> None:
    pub.queue_declare(name, durable=durable, arguments={"x-max-priority": 3})
    publish(pub, name, b"three", 3)
    publish(pub, name, b"two hundred", 200)
    publish(pub, name, b"two", 2)
    messages = [amqp.get(sub, name, auto_ack=True) for _ in range(3)]
    assert [m.body for m in messages] == [b"three", b"two hundred", b"two"]
    assert messages[1].properties.priority == 200  # The property is as published.


def test_without_the_argument_priority_means_nothing(pub, sub, name, durable) -> None:
    pub.queue_declare(name, durable=durable)
    publish(pub, name, b"low", 0)
    publish(pub, name, b"high", 9)
    assert amqp.get_all(sub, name, 2) == [b"low", b"high"]


def test_redeclare_with_another_maximum(ch, name) -> None:
    ch.queue_declare(name, arguments={"x-max-priority": 5})
    ch.queue_declare(name, arguments={"x-max-priority": 5})
    with amqp.channel_error(406):
        ch.queue_declare(name)


def test_requeue_returns_to_its_level(pub, sub, name, durable) -> None:
    pub.queue_declare(name, durable=durable, arguments={"x-max-priority": 2})
    publish(pub, name, b"high 1", 2)
    publish(pub, name, b"high 2", 2)
    publish(pub, name, b"low", 0)
    first = amqp.get(sub, name)
    assert first.body == b"high 1"
    sub.basic_nack(first.tag)
    amqp.sync(sub)
    amqp.wait_ready_count(sub, name, 3)
    assert amqp.get_all(pub, name, 3) == [b"high 1", b"high 2", b"low"]


def test_consumer_gets_the_higher_next(pub, sub, name, durable) -> None:
    pub.queue_declare(name, durable=durable, arguments={"x-max-priority": 10})
    sub.basic_qos(prefetch_count=1)
    consumer = Consumer(sub, name)
    for i in range(5):
        publish(pub, name, b"low %d" % i, 1)
    held = consumer.next()
    assert held.body == b"low 0"
    publish(pub, name, b"urgent", 10)
    consumer.ack(held)
    urgent = consumer.next()
    assert urgent.body == b"urgent"
    consumer.ack(urgent)
    assert consumer.next().body == b"low 1"


@pytest.mark.warren_only("RabbitMQ drops from the highest level")
def test_overflow_drops_from_the_lowest_level(pub, sub, name, durable) -> None:
    pub.queue_declare(name, durable=durable, arguments={"x-max-priority": 2, "x-max-length": 2})
    publish(pub, name, b"low", 0)
    publish(pub, name, b"high", 2)
    publish(pub, name, b"middle", 1)
    amqp.wait_ready_count(sub, name, 2)
    assert amqp.get_all(sub, name, 2) == [b"high", b"middle"]


@pytest.mark.warren_only("RabbitMQ 3.10 looks at the head of the highest level only")
def test_expiry_at_every_level(pub, sub, name, durable) -> None:
    """The head of a lower level expires although a higher one waits before it."""
    pub.queue_declare(name, durable=durable, arguments={"x-max-priority": 2})
    publish(pub, name, b"stays", 2)
    pub.basic_publish("", name, b"goes", pika.BasicProperties(priority=0, expiration="200"))
    amqp.wait_ready_count(sub, name, 1)
    assert amqp.get_all(sub, name, 1) == [b"stays"]


def test_255_levels(pub, sub, name, durable) -> None:
    pub.queue_declare(name, durable=durable, arguments={"x-max-priority": 255})
    levels = [0, 255, 17, 254, 100]
    for level in levels:
        publish(pub, name, b"%d" % level, level)
    expected = [b"%d" % level for level in sorted(levels, reverse=True)]
    assert amqp.get_all(sub, name, 5) == expected


def test_purge_and_counts_span_the_levels(pub, sub, name, durable) -> None:
    pub.queue_declare(name, durable=durable, arguments={"x-max-priority": 3})
    for level in range(4):
        publish(pub, name, b"x", level)
    assert amqp.counts(sub, name)[0] == 4
    assert sub.queue_purge(name).method.message_count == 4


QUORUM = {"x-queue-type": "quorum"}
SINCE_4_3 = "RabbitMQ has strict priorities on quorum queues since 4.3"


@pytest.mark.warren_only(SINCE_4_3)
def test_quorum_queues_have_levels_unasked(pub, sub, name) -> None:
    """32 strict levels; absent counts as 4, above 31 as 31."""
    pub.queue_declare(name, durable=True, arguments=QUORUM)
    for body, priority in [
        (b"none 1", None), (b"3", 3), (b"5", 5), (b"4", 4), (b"200", 200), (b"0", 0), (b"31", 31), (b"30", 30),
        (b"none 2", None),
    ]:  # fmt: skip
        publish(pub, name, body, priority)
    expected = [b"200", b"31", b"30", b"5", b"none 1", b"4", b"none 2", b"3", b"0"]
    assert amqp.get_all(sub, name, 9) == expected


def test_no_maximum_on_quorum_queues(ch, name) -> None:
    with amqp.channel_error(406):
        ch.queue_declare(name, durable=True, arguments={**QUORUM, "x-max-priority": 5})


@pytest.mark.warren_only(SINCE_4_3)
def test_limits_and_deaths_on_levels_of_quorum_queues(pub, sub, names) -> None:
    """Overflow, expiry, rejection and the delivery limit; dead letters have levels, too."""
    name, dead = names(), names()
    pub.queue_declare(dead, durable=True, arguments=QUORUM)
    to_dead = {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": dead}
    limits = {"x-max-length": 4, "x-delivery-limit": 0}
    pub.queue_declare(name, durable=True, arguments={**QUORUM, **to_dead, **limits})
    publish(pub, name, b"rejected", 20)
    publish(pub, name, b"poison", 10)
    publish(pub, name, b"stays", None)
    brief = pika.BasicProperties(priority=2, expiration="1500", delivery_mode=2)
    pub.basic_publish("", name, b"expires", brief)
    publish(pub, name, b"overflows", 1)
    message = amqp.get(sub, name)
    assert message.body == b"rejected"
    sub.basic_reject(message.tag, requeue=False)
    message = amqp.get(sub, name)
    assert message.body == b"poison"
    sub.basic_reject(message.tag, requeue=True)
    amqp.wait_ready_count(sub, dead, 4)
    assert amqp.counts(sub, name)[0] == 1
    letters = [amqp.get(sub, dead, auto_ack=True) for _ in range(4)]
    assert [(m.body, m.properties.headers["x-first-death-reason"]) for m in letters] == [
        (b"rejected", "rejected"),
        (b"poison", "delivery_limit"),
        (b"expires", "expired"),
        (b"overflows", "maxlen"),
    ]
    assert amqp.get_all(sub, name, 1) == [b"stays"]


@pytest.mark.warren_only("RabbitMQ puts what is returned before everything else")
def test_returns_on_quorum_queues_keep_their_level(pub, sub, name) -> None:
    pub.queue_declare(name, durable=True, arguments=QUORUM)
    publish(pub, name, b"low 1", 1)
    publish(pub, name, b"low 2", 1)
    first = amqp.get(sub, name)
    publish(pub, name, b"high", 9)
    sub.basic_nack(first.tag)
    amqp.sync(sub)
    amqp.wait_ready_count(sub, name, 3)
    assert amqp.get_all(pub, name, 3) == [b"high", b"low 1", b"low 2"]
