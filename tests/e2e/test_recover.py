"""basic.recover and recover-async."""

from __future__ import annotations

from pika import spec

from harness import amqp
from harness.amqp import Consumer


def test_recover_requeues_all_of_the_channel(pub, sub, name, durable) -> None:
    pub.queue_declare(name, durable=durable)
    amqp.fill(pub, name, [b"1", b"2", b"3"])
    consumer = Consumer(sub, name)
    first = consumer.wait(3)[0]
    consumer.ack(first)
    sub.basic_recover(requeue=True)
    consumer.wait(5)
    assert [(m.body, m.redelivered) for m in consumer.messages[3:]] == [(b"2", True), (b"3", True)]
    sub.basic_ack(0, multiple=True)
    amqp.sync(sub)
    amqp.wait_ready_count(pub, name, 0)


def test_recovered_messages_may_go_to_another_consumer(pub, sub, connect, name, durable) -> None:
    pub.queue_declare(name, durable=durable)
    amqp.fill(pub, name, [b"1", b"2"])
    for _ in range(2):
        amqp.get(sub, name)
    sub.basic_recover(requeue=True)
    other = Consumer(connect(2).channel(), name, auto_ack=True)
    other.wait(2)
    assert [(m.body, m.redelivered) for m in other.messages] == [(b"1", True), (b"2", True)]


def test_recover_async(peer, pub, name) -> None:
    pub.queue_declare(name)
    amqp.fill(pub, name, [b"x"])
    peer.open().open_channel()
    peer.method(1, spec.Basic.Get(queue=name))
    assert peer.content(spec.Basic.GetOk).method.redelivered is False
    peer.method(1, spec.Basic.RecoverAsync(requeue=True))
    amqp.wait_ready_count(pub, name, 1)
    peer.method(1, spec.Basic.Get(queue=name))
    assert peer.content(spec.Basic.GetOk).method.redelivered is True  # No recover-ok came.


def test_recover_without_requeue_is_refused(peer) -> None:
    peer.open().open_channel()
    peer.method(1, spec.Basic.Recover(requeue=False))
    peer.expect_close(540, "NOT_IMPLEMENTED - requeue=false")
