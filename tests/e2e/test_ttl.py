"""Time to live: of queues, of messages, both; zero; and across a requeue."""

from __future__ import annotations

import time

import pika
import pytest

from harness import amqp
from harness.amqp import Consumer
from harness.wait import eventually


def expiring(ms: int) -> pika.BasicProperties:
    return pika.BasicProperties(expiration=str(ms), delivery_mode=2)


def test_queue_ttl(pub, sub, name, durable) -> None:
    pub.queue_declare(name, durable=durable, arguments={"x-message-ttl": 300})
    amqp.fill(pub, name, [b"1", b"2", b"3"])
    amqp.wait_ready_count(sub, name, 0)
    assert sub.basic_get(name)[0] is None


def test_message_ttl(pub, sub, name, durable) -> None:
    pub.queue_declare(name, durable=durable)
    pub.basic_publish("", name, b"gone soon", expiring(300))
    pub.basic_publish("", name, b"stays", expiring(3_600_000))
    amqp.wait_ready_count(sub, name, 1)
    message = amqp.get(sub, name)
    assert message.body == b"stays"
    assert message.properties.expiration == "3600000"  # As published.


@pytest.mark.parametrize(("queue_ms", "message_ms"), [(300, 3_600_000), (3_600_000, 300)])
def test_the_lower_one_counts(pub, sub, name, durable, queue_ms, message_ms) -> None:
    pub.queue_declare(name, durable=durable, arguments={"x-message-ttl": queue_ms})
    pub.basic_publish("", name, b"x", expiring(message_ms))
    amqp.wait_ready_count(sub, name, 0)


def test_an_expired_message_is_never_delivered_late(pub, sub, connect, name, durable) -> None:
    """Behind a message that stays, it may still be counted, but nobody gets it."""
    pub.queue_declare(name, durable=durable)
    amqp.fill(pub, name, [b"head"])
    pub.basic_publish("", name, b"expired", expiring(200))
    amqp.fill(pub, name, [b"tail"])
    # A queue with the same time to live tells when the time has passed.
    pub.queue_declare(name + "-clock", arguments={"x-message-ttl": 400})
    amqp.fill(pub, name + "-clock", [b""])
    amqp.wait_ready_count(sub, name + "-clock", 0)
    assert amqp.get_all(sub, name, 2) == [b"head", b"tail"]


@pytest.mark.warren_only("RabbitMQ expires from the head only")
def test_an_expired_message_does_not_stay_counted_behind_the_head(pub, sub, name, durable) -> None:
    pub.queue_declare(name, durable=durable)
    amqp.fill(pub, name, [b"head"])
    pub.basic_publish("", name, b"expired", expiring(200))
    amqp.wait_ready_count(sub, name, 1)


def test_zero_expires_without_a_consumer(pub, sub, name, durable) -> None:
    pub.queue_declare(name, durable=durable, arguments={"x-message-ttl": 0})
    pub.basic_publish("", name, b"nobody there")
    amqp.wait_ready_count(sub, name, 0)
    assert sub.basic_get(name)[0] is None


def test_zero_reaches_a_waiting_consumer(pub, sub, name, durable) -> None:
    pub.queue_declare(name, durable=durable)
    consumer = Consumer(sub, name)
    amqp.sync(sub)
    pub.basic_publish("", name, b"direct", expiring(0))
    assert consumer.next().body == b"direct"


@pytest.mark.parametrize("arguments", [{"x-queue-type": "quorum"}, {"x-max-priority": 9}])
def test_zero_reaches_a_waiting_consumer_at_every_level(pub, sub, name, arguments) -> None:
    pub.queue_declare(name, durable=True, arguments=arguments)
    consumer = Consumer(sub, name)
    amqp.sync(sub)
    for priority in (None, 0, 2, 7):
        properties = pika.BasicProperties(expiration="0", priority=priority, delivery_mode=2)
        pub.basic_publish("", name, b"%r" % priority, properties)
        assert consumer.next().body == b"%r" % priority


def test_held_messages_do_not_expire_in_the_hand(pub, sub, connect, name, durable) -> None:
    """Time runs on while a consumer holds it; after a requeue it is gone."""
    pub.queue_declare(name, durable=durable, arguments={"x-message-ttl": 400})
    amqp.fill(pub, name, [b"held"])
    message = amqp.get(sub, name)
    began = time.monotonic()
    eventually(lambda: time.monotonic() - began > 1)
    sub.basic_nack(message.tag)
    amqp.sync(sub)
    amqp.wait_ready_count(pub, name, 0)
    assert connect(2).channel().basic_get(name)[0] is None


def test_ttl_survives_a_requeue(pub, sub, name, durable) -> None:
    """It counts from the publish, not from the requeue."""
    pub.queue_declare(name, durable=durable, arguments={"x-message-ttl": 1500})
    amqp.fill(pub, name, [b"x"])
    began = time.monotonic()

    def expired() -> bool:
        method, _, _ = sub.basic_get(name)
        if method is None:
            return True
        sub.basic_nack(method.delivery_tag)
        return False

    eventually(expired, what="the message expires although it is requeued again and again")
    assert time.monotonic() - began >= 1.3


def test_a_thousand_expire_in_order(pub, sub, name, durable) -> None:
    plain = pub.connection.channel()
    pub.queue_declare(name, durable=durable, arguments={"x-message-ttl": 500})
    for i in range(1000):
        plain.basic_publish("", name, b"%d" % i, amqp.PERSISTENT)
    amqp.sync(plain)
    amqp.wait_ready_count(sub, name, 0)


@pytest.mark.parametrize("size", [100_000, 3_000_000])
def test_a_large_message_without_time_reaches_who_waits(pub, sub, name, durable, size) -> None:
    """However large it is: a consumer that waits is asked for nothing first."""
    pub.queue_declare(name, durable=durable)
    consumer = Consumer(sub, name)
    for _ in range(3):
        pub.basic_publish("", name, b"x" * size, expiring(0))
        assert len(consumer.next().body) == size
