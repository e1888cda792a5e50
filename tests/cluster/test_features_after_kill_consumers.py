"""Who gets what, and how much of it, when the queue's leader is killed."""

from __future__ import annotations

import pytest
from pika.exceptions import ChannelClosedByBroker

from harness import amqp
from harness.amqp import Consumer
from harness.wait import eventually


def bodies(count: int, first: int = 0) -> list[bytes]:
    return [b"%d" % i for i in range(first, first + count)]


def total(*consumers: Consumer) -> int:
    return sum(len(consumer.messages) for consumer in consumers)


def hold_exactly(count: int, *consumers: Consumer) -> None:
    """Together they get this many, and no more comes."""
    connection = consumers[0].connection
    amqp.pump(connection, lambda: total(*consumers) >= count,
              what=lambda: f"{count} in their hands, there are {total(*consumers)}")  # fmt: skip
    for _ in range(2):
        for consumer in consumers:
            consumer.settle()
    assert total(*consumers) == count


def test_higher_priority_first(stage, open_at) -> None:
    """The lower one gets what the higher one has no room for, as before the kill."""
    s = stage()
    s.sub.basic_qos(prefetch_count=2)
    high = Consumer(s.sub, s.queue, arguments={"x-priority": 5})
    low = Consumer(open_at(s.a).channel(), s.queue)
    amqp.fill(s.pub, s.queue, bodies(2))
    high.wait(2)
    s.kill()
    amqp.fill(s.pub, s.queue, bodies(1, 2))
    low.wait(1)
    assert (high.bodies, low.bodies) == (bodies(2), bodies(1, 2))
    # It has room again: the next ones are its own.
    s.sub.basic_ack(0, multiple=True)
    amqp.counts(s.sub, s.queue)
    amqp.fill(s.pub, s.queue, bodies(2, 3))
    high.wait(4)
    amqp.fill(s.pub, s.queue, bodies(1, 5))
    low.wait(2)
    assert (high.bodies, low.bodies) == (bodies(2) + bodies(2, 3), [b"2", b"5"])


@pytest.mark.parametrize("exclusive", [True, False])
def test_exclusive_ends_with_its_node(stage, open_at, exclusive) -> None:
    s = stage()
    Consumer(open_at(s.leader).channel(), s.queue, exclusive=True)
    amqp.fill(s.pub, s.queue, [b"1"])
    text = f"ACCESS_REFUSED - queue '{s.queue}' in vhost '/' in exclusive use"
    with amqp.channel_error(403, text):
        Consumer(s.pub.connection.channel(), s.queue)
    s.kill()
    heir: list[Consumer] = []

    def taken() -> bool:
        try:
            channel = s.sub.connection.channel()
            heir.append(Consumer(channel, s.queue, exclusive=exclusive))
        except ChannelClosedByBroker as error:
            assert (error.reply_code, error.reply_text) == (403, text)
        return bool(heir)

    eventually(taken, what="the dead node's consumer is forgotten")
    message = heir[0].next()
    assert (message.body, message.redelivered) == (b"1", True)


def test_prefetch_of_each_consumer(stage, open_at) -> None:
    s = stage()
    amqp.fill(s.pub, s.queue, bodies(40))
    s.sub.basic_qos(prefetch_count=5)
    first = Consumer(s.sub, s.queue)
    first.wait(5)
    channel = open_at(s.a).channel()
    channel.basic_qos(prefetch_count=3)
    second = Consumer(channel, s.queue)
    second.wait(3)
    s.kill()
    hold_exactly(5, first)
    hold_exactly(3, second)
    for message in first.messages[:2]:
        first.ack(message)
    second.channel.basic_ack(0, multiple=True)
    hold_exactly(7, first)
    hold_exactly(6, second)
    # A later consumer of the channel has a window of its own.
    third = Consumer(s.sub, s.queue)
    hold_exactly(5, third)
    assert sorted(int(b) for b in first.bodies + second.bodies + third.bodies) == list(range(18))


def test_window_of_the_channel(stage, names) -> None:
    """Shared over queues, one of them led by the node that dies, one not."""
    s = stage()
    other = names()
    s.declare(other, at=s.a)
    for queue in (s.queue, other):
        amqp.fill(s.pub, queue, bodies(20))
    s.sub.basic_qos(prefetch_count=6, global_qos=True)
    both = [Consumer(s.sub, queue) for queue in (s.queue, other)]
    hold_exactly(6, *both)
    s.kill()
    hold_exactly(6, *both)
    s.sub.basic_qos(prefetch_count=8, global_qos=True)
    hold_exactly(8, *both)
    # Acknowledged one by one everything arrives, and never more than eight are out.
    acked: set[int] = set()
    while len(acked) < 40:
        amqp.pump(s.sub.connection, lambda: total(*both) > len(acked))
        for consumer in both:
            for message in consumer.messages:
                if message.tag not in acked:
                    acked.add(message.tag)
                    consumer.ack(message)
        assert total(*both) - len(acked) <= 8
    assert [consumer.bodies for consumer in both] == [bodies(20), bodies(20)]


def test_both_windows_hold_together(stage) -> None:
    s = stage()
    amqp.fill(s.pub, s.queue, bodies(20))
    s.sub.basic_qos(prefetch_count=3)
    s.sub.basic_qos(prefetch_count=4, global_qos=True)
    first = Consumer(s.sub, s.queue)
    hold_exactly(3, first)
    s.kill()
    second = Consumer(s.sub, s.queue)
    hold_exactly(1, second)
    hold_exactly(3, first)
    s.sub.basic_ack(0, multiple=True)
    hold_exactly(8, first, second)
    assert len(first.messages) <= 6


def test_recover(stage, open_at) -> None:
    """What was delivered before the kill goes back to the next leader, and comes again."""
    s = stage()
    amqp.fill(s.pub, s.queue, bodies(4))
    consumer = Consumer(s.sub, s.queue)
    consumer.wait(4)
    consumer.ack(consumer.messages[1])
    s.kill()
    s.sub.basic_recover(requeue=True)
    consumer.wait(7)
    again = [(m.body, m.redelivered) for m in consumer.messages[4:]]
    assert again == [(b"0", True), (b"2", True), (b"3", True)]
    # And to others, if its own consumer is gone.
    consumer.cancel()
    s.sub.basic_recover(requeue=True)
    other = Consumer(open_at(s.a).channel(), s.queue, auto_ack=True)
    other.wait(3)
    assert other.bodies == [b"0", b"2", b"3"]
    amqp.wait_ready_count(s.pub, s.queue, 0)
