"""Time to live when the queue's leader is killed: it is counted on, neither forgotten nor begun anew."""

from __future__ import annotations

import time

import pika

from harness import amqp
from harness.amqp import Consumer
from harness.wait import eventually


def expiring(ms: int) -> pika.BasicProperties:
    return pika.BasicProperties(expiration=str(ms), delivery_mode=2)


def passed(began: float, seconds: float) -> None:
    """Until this long after `began`."""
    eventually(lambda: time.monotonic() - began >= seconds, what="time passes")


def test_of_the_queue(stage, names) -> None:
    """A message of before the kill expires before one of afterwards that has less to live."""
    grave = names()
    s = stage(
        {
            "x-message-ttl": 3000,
            "x-dead-letter-exchange": "",
            "x-dead-letter-routing-key": grave,
        }
    )
    s.declare(grave, at=s.a)
    began = time.monotonic()
    amqp.fill(s.pub, s.queue, [b"before"])
    s.kill()
    amqp.fill(s.pub, s.queue, [b"after"])
    s.cluster.other_leader(s.queue, s.leader)
    passed(began, 1)
    last = time.monotonic()
    left = max(500, 3500 - int((last - began) * 1000))
    s.pub.basic_publish("", s.queue, b"witness", expiring(left))
    graves = Consumer(s.sub, grave, auto_ack=True)
    assert graves.next().body == b"before"
    assert time.monotonic() - began >= 3
    rest = {m.body for m in graves.wait(2)}
    assert rest == {b"witness", b"after"}
    assert time.monotonic() - last >= left / 1000
    amqp.wait_ready_count(s.pub, s.queue, 0)


def test_of_a_message_behind_one_that_stays(stage) -> None:
    s = stage()
    amqp.fill(s.pub, s.queue, [b"head"])
    began = time.monotonic()
    s.pub.basic_publish("", s.queue, b"before", expiring(2500))
    s.kill()
    amqp.fill(s.pub, s.queue, [b"middle"])
    amqp.wait_ready_count(s.sub, s.queue, 2)
    assert time.monotonic() - began >= 2.5
    began = time.monotonic()
    s.pub.basic_publish("", s.queue, b"after", expiring(700))
    amqp.fill(s.pub, s.queue, [b"tail"])
    amqp.wait_ready_count(s.sub, s.queue, 3)
    assert time.monotonic() - began >= 0.7
    assert amqp.get_all(s.sub, s.queue, 3) == [b"head", b"middle", b"tail"]


def test_what_expires_while_nobody_leads_is_not_delivered(stage) -> None:
    s = stage()
    began = time.monotonic()
    s.pub.basic_publish("", s.queue, b"late", expiring(400))
    waiting = pika.BasicProperties(expiration="3600000", delivery_mode=2)
    s.kill()
    passed(began, 0.5)
    consumer = Consumer(s.sub, s.queue)
    s.pub.basic_publish("", s.queue, b"in time", waiting)
    message = consumer.next()
    assert (message.body, message.properties.expiration) == (b"in time", "3600000")


def test_of_what_a_consumer_holds(stage) -> None:
    """Time runs on in its hands; given back to the next leader the message is gone."""
    s = stage({"x-message-ttl": 1500})
    began = time.monotonic()
    amqp.fill(s.pub, s.queue, [b"held"])
    message = amqp.get(s.sub, s.queue)
    s.kill()
    s.cluster.other_leader(s.queue, s.leader)
    passed(began, 2)
    s.sub.basic_nack(message.tag)
    amqp.counts(s.sub, s.queue)
    amqp.fill(s.pub, s.queue, [b"fresh"])
    again = amqp.get(s.sub, s.queue)
    assert again.body == b"fresh"


def test_zero_reaches_a_waiting_consumer(stage) -> None:
    """Also in the moment in which the next leader does not know yet who waits."""
    s = stage({"x-message-ttl": 0})
    consumer = Consumer(s.sub, s.queue)
    amqp.fill(s.pub, s.queue, [b"before"])
    consumer.ack(consumer.next())
    s.kill()
    amqp.fill(s.pub, s.queue, [b"%d" % i for i in range(5)])
    consumer.wait(5)
    assert consumer.bodies == [b"%d" % i for i in range(5)]
    consumer.cancel()
    amqp.fill(s.pub, s.queue, [b"nobody"])
    amqp.wait_ready_count(s.sub, s.queue, 0)
