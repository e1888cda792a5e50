"""x-consumer-timeout: who does not acknowledge in time is cancelled."""

from __future__ import annotations

import re

import pytest
from pika import spec

from harness import amqp, wire
from harness.amqp import Consumer
from harness.broker import part

pytestmark = pytest.mark.warren_only(
    "RabbitMQ has timeouts on quorum queues only, looked at rarely"
)
#: Deliveries are looked at every ten seconds.
SOON_LATE = 40.0
LATE = {"x-consumer-timeout": 1000}


def wait_cancelled(consumer: Consumer) -> None:
    amqp.pump(
        consumer.connection, lambda: consumer.cancelled_by_broker, SOON_LATE, "the timeout's cancel"
    )


def test_timeout_of_the_queue(pub, sub, name, durable) -> None:
    pub.queue_declare(name, durable=durable, arguments={**LATE, "x-delivery-limit": 5})
    amqp.fill(pub, name, [b"1", b"2"])
    consumer = Consumer(sub, name)
    held = list(consumer.wait(2))
    wait_cancelled(consumer)
    # All that it held is back, and has failed once.
    again = [amqp.get(pub, name) for _ in range(2)]
    assert [(m.body, m.redelivered) for m in again] == [(b"1", True), (b"2", True)]
    assert [m.properties.headers["x-delivery-count"] for m in again] == [1, 1]
    # The channel lives on, and late acknowledgements do no harm.
    for message in held:
        consumer.ack(message)
    amqp.sync(sub)
    for message in again:
        pub.basic_ack(message.tag)
    amqp.wait_ready_count(sub, name, 0)


def test_timeout_of_the_consumer(pub, sub, name, durable) -> None:
    pub.queue_declare(name, durable=durable)
    amqp.fill(pub, name, [b"x"])
    consumer = Consumer(sub, name, arguments=LATE)
    consumer.wait(1)
    wait_cancelled(consumer)
    assert amqp.get(sub, name).redelivered


def test_others_of_the_channel_stay(pub, sub, names) -> None:
    late, calm = names(), names()
    pub.queue_declare(calm)
    pub.queue_declare(late, arguments=LATE)
    amqp.fill(pub, calm, [b"held"])
    amqp.fill(pub, late, [b"late"])
    patient = Consumer(sub, calm)
    patient.wait(1)
    hasty = Consumer(sub, late)
    hasty.wait(1)
    wait_cancelled(hasty)
    assert not patient.cancelled_by_broker
    patient.ack(patient.next())
    amqp.fill(pub, calm, [b"more"])
    assert patient.next().body == b"more"


def test_a_policy_reaches_consumers_that_are_there(broker, pub, sub, name) -> None:
    pub.queue_declare(name)
    amqp.fill(pub, name, [b"x"])
    consumer = Consumer(sub, name)
    consumer.wait(1)
    path = f"/api/policies/%2F/{part(name)}"
    broker.put(
        path,
        {
            "pattern": f"^{re.escape(name)}$",
            "definition": {"consumer-timeout": 1000},
            "priority": 9,
        },
    )
    try:
        wait_cancelled(consumer)
    finally:
        broker.delete(path)


def test_what_a_cancelled_consumer_holds(pub, sub, name, durable) -> None:
    pub.queue_declare(name, durable=durable, arguments=LATE)
    amqp.fill(pub, name, [b"x"])
    consumer = Consumer(sub, name)
    held = consumer.next()
    consumer.cancel()
    amqp.pump(sub.connection, lambda: amqp.counts(sub, name)[0] == 1, SOON_LATE, "the return")
    consumer.ack(held)
    amqp.sync(sub)
    assert amqp.counts(sub, name)[0] == 1


def test_without_the_capability_the_channel_is_closed(peer, pub, name) -> None:
    pub.queue_declare(name, arguments=LATE)
    amqp.fill(pub, name, [b"x"])
    peer.open(capabilities={**wire.CAPABILITIES, "consumer_cancel_notify": False}).open_channel()
    peer.method(1, spec.Basic.Consume(queue=name, consumer_tag="mine"))
    peer.expect(spec.Basic.ConsumeOk, 1)
    assert peer.content(spec.Basic.Deliver).body == b"x"
    amqp.pump(
        pub.connection, lambda: amqp.counts(pub, name)[0] == 1, SOON_LATE, "the channel's end"
    )
    close = peer.expect_channel_close(1, 406)
    start = "PRECONDITION_FAILED - delivery acknowledgement on channel 1 timed out. "
    assert close.reply_text.startswith(start)
