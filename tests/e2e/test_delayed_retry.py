"""Delayed retry: what comes back waits before it is handed out again (RabbitMQ 4.3)."""

from __future__ import annotations

import time
from typing import Any

import pika
import pytest

from harness import amqp
from harness.amqp import Consumer
from harness.broker import Broker, part
from harness.wait import eventually

pytestmark = pytest.mark.warren_only("delayed retry is of RabbitMQ 4.3")

#: Longer than any test takes.
LONG = 600_000


def retrying(kind: str, least: int, **more: Any) -> dict[str, Any]:
    return {
        "x-queue-type": "quorum",
        "x-delayed-retry-type": kind,
        "x-delayed-retry-min": least,
        **{key.replace("_", "-"): value for key, value in more.items()},
    }


def row(broker: Broker, name: str) -> dict[str, Any]:
    return broker.get(f"/api/queues/%2F/{part(name)}")


def wait_delayed(broker: Broker, name: str, count: int) -> dict[str, Any]:
    def reached() -> dict[str, Any]:
        found = row(broker, name)
        assert found["messages_delayed"] == count, found
        return found

    return eventually(reached)


@pytest.mark.parametrize(
    ("kind", "reject", "nack"),
    [("all", 1, 1), ("failed", 1, 0), ("returned", 0, 1), ("disabled", 0, 0)],
)
def test_who_waits(broker, pub, sub, name, kind, reject, nack) -> None:
    pub.queue_declare(name, durable=True, arguments=retrying(kind, LONG))
    for waits, give_back in ((reject, sub.basic_reject), (nack, sub.basic_nack)):
        amqp.fill(pub, name, [b"x"])
        message = amqp.get(sub, name)
        give_back(message.tag, requeue=True)
        amqp.wait_ready_count(pub, name, 1 - waits)
        found = wait_delayed(broker, name, waits)
        assert found["messages"] == 1
        assert found["messages_ready"] == 1 - waits
        assert ("next_delayed_at" in found) == bool(waits)
        # What waits is purged too, and counted.
        assert pub.queue_purge(name).method.message_count == 1


def test_a_connection_that_ends(broker, pub, connect, name) -> None:
    pub.queue_declare(name, durable=True, arguments=retrying("failed", LONG))
    amqp.fill(pub, name, [b"x"])
    connection = connect(1)
    amqp.get(connection.channel(), name)
    amqp.drop(connection)
    found = wait_delayed(broker, name, 1)
    assert found["delayed_retry"] == f"failed (min: {LONG}ms, max: {LONG}ms)"
    assert found["next_delayed_at"] == found["last_delayed_at"]
    assert abs(found["next_delayed_at"] / 1000 - time.time() - LONG / 1000) < 60


def test_waits_longer_each_time(pub, sub, name) -> None:
    arguments = retrying("all", 300, x_delayed_retry_max=700)
    pub.queue_declare(name, durable=True, arguments=arguments)
    amqp.fill(pub, name, [b"x"])
    consumer = Consumer(sub, name)
    message = consumer.next()
    for attempt, least in enumerate((0.3, 0.6, 0.7, 0.7), 1):
        before = time.monotonic()
        sub.basic_reject(message.tag, requeue=True)
        message = consumer.next()
        assert time.monotonic() - before > least - 0.02
        assert message.redelivered
        assert message.properties.headers["x-delivery-count"] == attempt


def test_others_do_not_wait_for_it(pub, sub, name) -> None:
    pub.queue_declare(name, durable=True, arguments=retrying("all", 500))
    amqp.fill(pub, name, [b"a", b"b", b"c"])
    sub.basic_qos(prefetch_count=1)
    consumer = Consumer(sub, name)
    sub.basic_nack(consumer.next().tag)
    for expected in (b"b", b"c", b"a"):
        message = consumer.next()
        assert message.body == expected
        consumer.ack(message)


def test_counts_towards_limits(pub, sub, name) -> None:
    arguments = retrying("all", LONG, x_max_length=2, x_overflow="reject-publish")
    pub.queue_declare(name, durable=True, arguments=arguments)
    pub.confirm_delivery()
    amqp.fill(pub, name, [b"a"])
    sub.basic_nack(amqp.get(sub, name).tag)
    amqp.wait_ready_count(pub, name, 0)
    amqp.fill(pub, name, [b"b"])
    with pytest.raises(pika.exceptions.NackError):
        amqp.fill(pub, name, [b"c"])


def test_by_policy(broker, pub, sub, name) -> None:
    """Also on a queue that is there, and without it from then on."""
    policy = f"/api/policies/%2F/{part(name)}"
    pub.queue_declare(name, durable=True, arguments={"x-queue-type": "quorum"})
    definition = {"delayed-retry-type": "all", "delayed-retry-min": LONG}
    broker.put(policy, {"pattern": f"^{name}$", "definition": definition, "apply-to": "queues"})
    eventually(lambda: row(broker, name)["delayed_retry"] != "disabled")
    amqp.fill(pub, name, [b"a", b"b"])
    sub.basic_nack(amqp.get(sub, name).tag)
    wait_delayed(broker, name, 1)
    broker.delete(policy)
    eventually(lambda: row(broker, name)["delayed_retry"] == "disabled")
    sub.basic_nack(amqp.get(sub, name).tag)
    amqp.wait_ready_count(pub, name, 1)
    assert row(broker, name)["messages_delayed"] == 1


def test_argument_of_quorum_queues(ch, name) -> None:
    for key in ("type", "min", "max"):
        with amqp.channel_error(406, starts="PRECONDITION_FAILED - invalid arg"):
            ch.queue_declare(name, durable=True, arguments={f"x-delayed-retry-{key}": 1})
        ch = ch.connection.channel()
