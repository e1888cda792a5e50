"""Failed deliveries are counted across the loss of the queue's leader."""

from __future__ import annotations

import pika
import pytest

from harness import amqp
from harness.amqp import Delivered


def count(message: Delivered) -> int | None:
    return (message.properties.headers or {}).get("x-delivery-count")


@pytest.mark.parametrize(
    "arguments", [{"x-delivery-limit": 100}, {"x-queue-type": "quorum"}], ids=["limit", "quorum"]
)
def test_the_count_goes_on(stage, arguments) -> None:
    s = stage(arguments)
    amqp.fill(s.pub, s.queue, [b"x"])
    for attempt in range(5):
        message = amqp.get(s.sub, s.queue)
        assert count(message) == (attempt or None)
        s.sub.basic_reject(message.tag, requeue=True)
        if attempt == 2:
            s.kill()


def test_the_limit_is_reached(stage, names) -> None:
    """Two failures before the kill and one afterwards are three; nothing of it is forgiven."""
    grave = names()
    s = stage(
        {
            "x-delivery-limit": 2,
            "x-dead-letter-exchange": "",
            "x-dead-letter-routing-key": grave,
        }
    )
    s.declare(grave, at=s.a)
    s.pub.basic_publish("", s.queue, b"poison", pika.BasicProperties(message_id="m"))
    amqp.fill(s.pub, s.queue, [b"good"])
    for _ in range(2):
        s.sub.basic_reject(amqp.get(s.sub, s.queue).tag, requeue=True)
    s.kill()
    message = amqp.get(s.sub, s.queue)
    assert (message.body, count(message)) == (b"poison", 2)
    s.sub.basic_reject(message.tag, requeue=True)
    dead = amqp.get(s.sub, grave)
    assert (dead.body, dead.properties.message_id) == (b"poison", "m")
    (death,) = dead.properties.headers["x-death"]
    assert (death["reason"], death["count"]) == ("delivery_limit", 1)
    assert amqp.get_all(s.sub, s.queue, 1) == [b"good"]


def test_held_at_a_node_that_lives_is_no_failure(stage) -> None:
    """What survives in its holder's hands was delivered once."""
    s = stage({"x-delivery-limit": 100})
    amqp.fill(s.pub, s.queue, [b"x"])
    held = amqp.get(s.sub, s.queue)
    s.kill()
    s.cluster.other_leader(s.queue, s.leader)
    s.sub.basic_nack(held.tag)
    back = amqp.get(s.pub, s.queue)
    assert (back.redelivered, count(back)) == (True, None)
    s.pub.basic_reject(back.tag, requeue=True)
    assert count(amqp.get(s.pub, s.queue)) == 1


def test_held_at_a_dead_follower_has_failed(stage) -> None:
    """As with any connection that ends."""
    s = stage({"x-delivery-limit": 100})
    amqp.fill(s.pub, s.queue, [b"x"])
    doomed = amqp.connect(s.b.amqp_port)
    amqp.get(doomed.channel(), s.queue)
    s.b.kill()
    again = amqp.get(s.pub, s.queue)
    assert (again.body, again.redelivered, count(again)) == (b"x", True, 1)


def test_held_at_the_dead_leader_comes_back_without_a_failure(stage) -> None:
    """Only the leader knew who held it. Nor does RabbitMQ 4.3 count what a lost node held."""
    s = stage({"x-delivery-limit": 100})
    amqp.fill(s.pub, s.queue, [b"x"])
    doomed = amqp.connect(s.leader.amqp_port)
    amqp.get(doomed.channel(), s.queue)
    s.leader.kill()
    again = amqp.get(s.pub, s.queue)
    assert (again.body, again.redelivered, count(again)) == (b"x", True, None)


def test_what_takes_its_node_down_reaches_the_limit(stage) -> None:
    """A message that kills where it is consumed, again and again."""
    s = stage({"x-delivery-limit": 1})
    amqp.fill(s.pub, s.queue, [b"poison"])
    s.pub.basic_reject(amqp.get(s.pub, s.queue).tag, requeue=True)
    doomed = amqp.connect(s.b.amqp_port)
    assert count(amqp.get(doomed.channel(), s.queue)) == 1
    s.b.kill()
    amqp.fill(s.pub, s.queue, [b"good"])
    assert amqp.get(s.pub, s.queue).body == b"good"
