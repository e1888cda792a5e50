"""x-single-active-consumer."""

from __future__ import annotations

import pytest

from harness import amqp
from harness.amqp import Consumer, channel_error


@pytest.fixture
def queue(pub, name, durable) -> str:
    pub.queue_declare(name, durable=durable, arguments={"x-single-active-consumer": True})
    return name


def test_the_first_gets_everything_then_the_next(pub, connect, queue) -> None:
    connections = [connect(node) for node in (1, 2, 0)]
    consumers = [Consumer(c.channel(), queue) for c in connections]
    bodies = [b"%d" % i for i in range(10)]
    amqp.fill(pub, queue, bodies)
    consumers[0].wait(10)
    assert consumers[0].bodies == bodies
    for other in consumers[1:]:
        other.settle()
        assert other.messages == []
    consumers[0].channel.basic_ack(0, multiple=True)
    connections[0].close()
    amqp.fill(pub, queue, [b"next"])
    assert consumers[1].next().body == b"next"
    assert amqp.counts(pub, queue)[1] == 2


def test_a_cancelled_one_keeps_what_it_holds(pub, connect, queue) -> None:
    first = Consumer(connect(1).channel(), queue)
    second = Consumer(connect(2).channel(), queue)
    amqp.fill(pub, queue, [b"1", b"2"])
    held = first.wait(2)
    first.cancel()
    amqp.fill(pub, queue, [b"3"])
    assert second.next().body == b"3"
    first.ack(held[0])
    first.channel.basic_nack(held[1].tag)
    again = second.next()
    assert (again.body, again.redelivered) == (b"2", True)


def test_lost_connection_hands_over_in_order(pub, connect, queue) -> None:
    """What ordering by single active consumer is for."""
    victim = connect(1)
    first = Consumer(victim.channel(), queue)
    second = Consumer(connect(2).channel(), queue)
    bodies = [b"%d" % i for i in range(20)]
    amqp.fill(pub, queue, bodies)
    first.wait(20)
    first.channel.basic_ack(5, multiple=True)
    amqp.sync(first.channel)
    amqp.drop(victim)
    second.wait(15)
    assert second.bodies == bodies[5:]
    assert all(m.redelivered for m in second.messages)


def test_exclusive_is_refused(sub, queue) -> None:
    with channel_error(403) as caught:
        Consumer(sub, queue, exclusive=True)
    assert caught.value.reply_text.startswith("ACCESS_REFUSED - ")


@pytest.mark.warren_only("classic queues of RabbitMQ take the next by age only")
def test_higher_priority_takes_over_when_idle(pub, connect, queue) -> None:
    old = Consumer(connect(1).channel(), queue)
    amqp.fill(pub, queue, [b"1"])
    held = old.next()
    new = Consumer(connect(2).channel(), queue, arguments={"x-priority": 5})
    new.settle()
    old.ack(held)
    amqp.sync(old.channel)
    # From some message on the newcomer gets them; none is lost, and no two are active at once.
    seen = []
    for i in range(2, 30):
        amqp.fill(pub, queue, [b"%d" % i])
        amqp.pump(new.connection, lambda: new.messages or _take(old))
        if new.messages:
            seen.append(new.next().body)
            break
        message = old.next()
        old.ack(message)
        seen.append(message.body)
    else:
        raise AssertionError("the newcomer never became active")
    assert seen == [b"%d" % i for i in range(2, 2 + len(seen))]


def _take(consumer: Consumer) -> bool:
    consumer.connection.process_data_events(time_limit=0)
    return bool(consumer.messages)
