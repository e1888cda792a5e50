"""x-delivery-limit and the x-delivery-count header."""

from __future__ import annotations

import pytest

from harness import amqp
from harness.amqp import Consumer

pytestmark = pytest.mark.warren_only("a limit on every queue type, counted as in RabbitMQ 4.3")
#: Far away: with a limit, deliveries say how often they have failed.
LIMITED = {"x-delivery-limit": 100}


def count(message: amqp.Delivered) -> int | None:
    return (message.properties.headers or {}).get("x-delivery-count")


@pytest.mark.parametrize(
    ("durable", "arguments"),
    [(True, LIMITED), (False, LIMITED), (True, {"x-queue-type": "quorum"})],
    ids=["durable", "transient", "quorum"],
)
def test_count_of_failed_deliveries(pub, sub, name, durable, arguments) -> None:
    pub.queue_declare(name, durable=durable, arguments=arguments)
    amqp.fill(pub, name, [b"x"])
    for attempt in range(4):
        message = amqp.get(sub, name)
        assert count(message) == (attempt or None)  # Absent on the first.
        sub.basic_reject(message.tag, requeue=True)


def test_lost_connections_count(pub, connect, name, durable) -> None:
    pub.queue_declare(name, durable=durable, arguments=LIMITED)
    amqp.fill(pub, name, [b"x"])
    for attempt in range(3):
        connection = connect(attempt)
        message = amqp.get(connection.channel(), name)
        assert count(message) == (attempt or None)
        amqp.drop(connection)


def test_nack_does_not_count(pub, sub, name, durable) -> None:
    """As in 4.3: basic.nack with requeue says "not now", basic.reject says "failed"."""
    pub.queue_declare(name, durable=durable, arguments=LIMITED)
    amqp.fill(pub, name, [b"x"])
    for _ in range(3):
        message = amqp.get(sub, name)
        assert count(message) is None
        sub.basic_nack(message.tag)


def test_dropped_above_the_limit(pub, sub, name, durable) -> None:
    pub.queue_declare(name, durable=durable, arguments={"x-delivery-limit": 3})
    amqp.fill(pub, name, [b"poison", b"good"])
    sub.basic_qos(prefetch_count=1)
    consumer = Consumer(sub, name)
    for attempt in range(4):
        message = consumer.next()
        assert (message.body, count(message)) == (b"poison", attempt or None)
        sub.basic_reject(message.tag, requeue=True)
    message = consumer.next()
    assert message.body == b"good"
    consumer.ack(message)
    amqp.sync(sub)
    amqp.wait_ready_count(pub, name, 0)


def test_no_limit_and_no_header_by_default(pub, sub, name, durable) -> None:
    """A classic queue adds nothing to what was published, as RabbitMQ's."""
    pub.queue_declare(name, durable=durable)
    amqp.fill(pub, name, [b"x"])
    for _ in range(40):
        message = amqp.get(sub, name)
        assert message.properties.headers is None
        sub.basic_reject(message.tag, requeue=True)


def test_no_limit_but_a_count_on_quorum_queues(pub, sub, name) -> None:
    pub.queue_declare(name, durable=True, arguments={"x-queue-type": "quorum"})
    amqp.fill(pub, name, [b"x"])
    for _ in range(40):
        sub.basic_reject(amqp.get(sub, name).tag, requeue=True)
    assert count(amqp.get(sub, name)) == 40
