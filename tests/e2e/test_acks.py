"""ack, nack and reject: multiple, tag 0, requeue to the original position, wrong tags."""

from __future__ import annotations

import pytest

from harness import amqp
from harness.amqp import Consumer, channel_error


@pytest.fixture
def holding(pub, connect, name, durable):
    """A channel that holds ten messages, and the name of their queue."""
    pub.queue_declare(name, durable=durable)
    amqp.fill(pub, name, [b"%d" % i for i in range(1, 11)])
    consumer = Consumer(connect(1).channel(), name)
    consumer.wait(10)
    return consumer


def left(pub, consumer: Consumer) -> list[tuple[bytes, bool]]:
    """What comes back when the holder's connection ends, in order."""
    consumer.connection.close()
    queue = consumer.queue
    found = []
    from harness.wait import eventually

    eventually(lambda: amqp.counts(pub, queue)[1] == 0, what="the consumer is gone")
    while True:
        method, _, body = pub.basic_get(queue, auto_ack=True)
        if method is None:
            return found
        found.append((body, method.redelivered))


def test_single_acks(pub, holding) -> None:
    for tag in (2, 9, 1):
        holding.channel.basic_ack(tag)
    assert [b for b, _ in left(pub, holding)] == [b"3", b"4", b"5", b"6", b"7", b"8", b"10"]


def test_multiple(pub, holding) -> None:
    holding.channel.basic_ack(7)
    holding.channel.basic_ack(4, multiple=True)
    assert left(pub, holding) == [(b"%d" % i, True) for i in (5, 6, 8, 9, 10)]


def test_multiple_with_tag_0_means_everything(pub, holding) -> None:
    holding.channel.basic_ack(0, multiple=True)
    holding.channel.basic_ack(0, multiple=True)  # Nothing left: no error.
    amqp.sync(holding.channel)
    assert left(pub, holding) == []


def test_nack_without_requeue_drops(pub, holding) -> None:
    holding.channel.basic_nack(8, multiple=True, requeue=False)
    holding.channel.basic_reject(9, requeue=False)
    assert left(pub, holding) == [(b"10", True)]


def test_nack_multiple_with_tag_0(pub, holding) -> None:
    holding.channel.basic_nack(0, multiple=True, requeue=False)
    assert left(pub, holding) == []


@pytest.mark.parametrize("how", ["nack", "reject"])
def test_requeued_messages_return_to_their_place(pub, connect, name, durable, how) -> None:
    """Before what is younger, in their old order, whatever order they came back in."""
    pub.queue_declare(name, durable=durable)
    amqp.fill(pub, name, [b"%d" % i for i in range(1, 7)])
    channel = connect(1).channel()
    tags = {}
    for _ in range(4):
        message = amqp.get(channel, name)
        tags[message.body] = message.tag
    for body in (b"3", b"1"):
        if how == "nack":
            channel.basic_nack(tags[body])
        else:
            channel.basic_reject(tags[body])
    amqp.sync(channel)
    amqp.wait_ready_count(channel, name, 4)
    found = [amqp.get(pub, name, auto_ack=True) for _ in range(4)]
    assert [(m.body, m.redelivered) for m in found] == [
        (b"1", True),
        (b"3", True),
        (b"5", False),
        (b"6", False),
    ]


def test_rejected_again_and_again_comes_back(pub, sub, name, durable) -> None:
    pub.queue_declare(name, durable=durable)
    amqp.fill(pub, name, [b"boomerang", b"behind"])
    sub.basic_qos(prefetch_count=1)
    consumer = Consumer(sub, name)
    for attempt in range(30):
        message = consumer.next()
        assert (message.body, message.redelivered) == (b"boomerang", attempt > 0)
        sub.basic_reject(message.tag, requeue=True)
    message = consumer.next()
    consumer.ack(message)
    assert consumer.next().body == b"behind"


def test_requeue_reaches_another_consumer(pub, connect, name, durable) -> None:
    pub.queue_declare(name, durable=durable)
    first_channel = connect(1).channel()
    first_channel.basic_qos(prefetch_count=1)
    first = Consumer(first_channel, name)
    amqp.fill(pub, name, [b"x"])
    message = first.next()
    second = Consumer(connect(2).channel(), name)
    first.cancel()
    first_channel.basic_nack(message.tag)
    again = second.next()
    assert (again.body, again.redelivered) == (b"x", True)


@pytest.mark.parametrize(
    ("act", "tag"),
    [
        (lambda c: c.basic_ack(11), 11),
        (lambda c: c.basic_ack(0), 0),
        (lambda c: c.basic_ack(99, multiple=True), 99),
        (lambda c: c.basic_nack(11), 11),
        (lambda c: c.basic_nack(12, multiple=True, requeue=False), 12),
        (lambda c: c.basic_reject(11), 11),
        (lambda c: (c.basic_ack(3), c.basic_ack(3)), 3),
        (lambda c: (c.basic_ack(3), c.basic_nack(3)), 3),
        (lambda c: (c.basic_nack(3), c.basic_reject(3)), 3),
        (lambda c: (c.basic_ack(5, multiple=True), c.basic_ack(2)), 2),
        (lambda c: (c.basic_ack(5, multiple=True), c.basic_ack(5, multiple=True)), 5),
        (lambda c: (c.basic_ack(4), c.basic_nack(4, multiple=True)), 4),
    ],
    ids=["ack", "ack-0", "ack-multiple", "nack", "nack-multiple", "reject", "ack-twice",
         "ack-then-nack", "nack-then-reject", "below-multiple", "multiple-twice", "multiple-up-to-settled"],
)  # fmt: skip
def test_unknown_delivery_tag(holding, act, tag) -> None:
    with channel_error(406, f"PRECONDITION_FAILED - unknown delivery tag {tag}"):
        act(holding.channel)
        amqp.sync(holding.channel)


def test_wrong_tag_requeues_what_the_channel_held(pub, holding) -> None:
    with channel_error(406):
        holding.channel.basic_ack(77)
        amqp.sync(holding.channel)
    amqp.wait_ready_count(pub, holding.queue, 10)


def test_ack_of_a_no_ack_delivery(pub, sub, name) -> None:
    pub.queue_declare(name)
    amqp.fill(pub, name, [b"x"])
    consumer = Consumer(sub, name, auto_ack=True)
    message = consumer.next()
    with channel_error(406, f"PRECONDITION_FAILED - unknown delivery tag {message.tag}"):
        sub.basic_ack(message.tag)
        amqp.sync(sub)


def test_tags_belong_to_the_channel(pub, connect, name) -> None:
    pub.queue_declare(name)
    amqp.fill(pub, name, [b"x"])
    connection = connect(1)
    message = amqp.get(connection.channel(), name)
    other = connection.channel()
    with channel_error(406, f"PRECONDITION_FAILED - unknown delivery tag {message.tag}"):
        other.basic_ack(message.tag)
        amqp.sync(other)


def test_ack_after_the_broker_closed_the_channel_is_harmless(broker, pub, name) -> None:
    """Acks that were under way when the broker closed the channel do not hurt the connection."""
    from pika import spec

    pub.queue_declare(name)
    amqp.fill(pub, name, [b"1", b"2"])
    with broker.peer(1) as peer:
        peer.open().open_channel(1)
        peer.method(1, spec.Basic.Consume(queue=name, consumer_tag="t"))
        peer.expect(spec.Basic.ConsumeOk, 1)
        tags = [peer.content(spec.Basic.Deliver).method.delivery_tag for _ in range(2)]
        peer.method(1, spec.Queue.Declare(queue=name + "-missing", passive=True))
        for tag in tags:
            peer.method(1, spec.Basic.Ack(delivery_tag=tag))
        peer.publish(1, "", name, b"ignored too")
        peer.expect_channel_close(1, 404)
        peer.open_channel(1)  # The number is free again, the connection is well.
    amqp.wait_ready_count(pub, name, 2)
