"""The broker's own basic.cancel: the queue is gone."""

from __future__ import annotations

import pytest
from pika import spec

from harness import amqp, wire
from harness.amqp import Consumer


def test_queue_deleted(pub, connect, name, durable) -> None:
    pub.queue_declare(name, durable=durable)
    consumers = [Consumer(connect(node).channel(), name) for node in range(3)]
    pub.queue_delete(name)
    for consumer in consumers:
        amqp.pump(consumer.connection, lambda: consumer.cancelled_by_broker, what="basic.cancel")
        # The channel lives on.
        amqp.sync(consumer.channel)


def test_the_cancel_frame(peer, pub, name) -> None:
    pub.queue_declare(name)
    peer.open().open_channel()
    peer.method(1, spec.Basic.Consume(queue=name, consumer_tag="mine"))
    peer.expect(spec.Basic.ConsumeOk, 1)
    pub.queue_delete(name)
    cancel = peer.expect(spec.Basic.Cancel, 1)
    assert (cancel.consumer_tag, cancel.nowait) == ("mine", True)
    peer.method(1, spec.Channel.Flow(active=True))
    peer.expect(spec.Channel.FlowOk, 1)


@pytest.mark.warren_only("RabbitMQ 3.10 does not know the method")
def test_the_client_may_answer(peer, pub, name) -> None:
    pub.queue_declare(name)
    peer.open().open_channel()
    peer.method(1, spec.Basic.Consume(queue=name, consumer_tag="mine"))
    peer.expect(spec.Basic.ConsumeOk, 1)
    pub.queue_delete(name)
    peer.expect(spec.Basic.Cancel, 1)
    peer.method(1, spec.Basic.CancelOk(consumer_tag="mine"))
    peer.method(1, spec.Channel.Flow(active=True))
    peer.expect(spec.Channel.FlowOk, 1)


def test_not_without_the_capability(peer, pub, name) -> None:
    capabilities = {**wire.CAPABILITIES, "consumer_cancel_notify": False}
    pub.queue_declare(name)
    peer.open(capabilities=capabilities).open_channel()
    peer.method(1, spec.Basic.Consume(queue=name, consumer_tag="mine"))
    peer.expect(spec.Basic.ConsumeOk, 1)
    pub.queue_delete(name)
    peer.method(1, spec.Channel.Flow(active=True))
    peer.expect(spec.Channel.FlowOk, 1)
    peer.method(1, spec.Channel.Close(200, "", 0, 0))
    peer.expect(spec.Channel.CloseOk, 1)


def test_deliveries_of_a_deleted_queue_can_still_be_acknowledged(pub, sub, name, durable) -> None:
    pub.queue_declare(name, durable=durable)
    amqp.fill(pub, name, [b"1", b"2"])
    consumer = Consumer(sub, name)
    consumer.wait(2)
    pub.queue_delete(name)
    amqp.pump(sub.connection, lambda: consumer.cancelled_by_broker)
    consumer.ack(consumer.messages[0])
    sub.basic_nack(consumer.messages[1].tag)
    amqp.sync(sub)


def test_the_tag_is_free_again(pub, sub, name) -> None:
    pub.queue_declare(name)
    consumer = Consumer(sub, name, consumer_tag="again")
    pub.queue_delete(name)
    amqp.pump(sub.connection, lambda: consumer.cancelled_by_broker)
    pub.queue_declare(name)
    Consumer(sub, name, consumer_tag="again")
