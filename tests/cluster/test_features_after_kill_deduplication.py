"""What was accepted stays known when the queue's leader is killed: publishing it again doubles nothing."""

from __future__ import annotations

from typing import Any

import pika

from harness import amqp
from harness.wait import eventually


def identified(identity: Any) -> pika.BasicProperties:
    return pika.BasicProperties(headers={"x-deduplication-header": identity}, delivery_mode=2)


def arguments(size: int = 100, **more: Any) -> dict[str, Any]:
    return {"x-message-deduplication": True, "x-cache-size": size, **more}


def publish(channel, exchange: str, key: str, *identities: str) -> None:
    for identity in identities:
        channel.basic_publish(exchange, key, identity.encode(), identified(identity))


def test_of_a_queue(stage) -> None:
    """Also of what was consumed before the kill."""
    s = stage(arguments())
    publish(s.pub, "", s.queue, "a", "b")
    assert amqp.get(s.sub, s.queue, auto_ack=True).body == b"a"
    s.kill()
    publish(s.pub, "", s.queue, "a", "b", "c")
    publish(s.pub, "", s.queue, "c", "b", "a")
    assert amqp.get_all(s.sub, s.queue, 2) == [b"b", b"c"]


def test_its_size_is_kept(stage) -> None:
    s = stage(arguments(size=2))
    publish(s.pub, "", s.queue, "a", "b")
    s.kill()
    publish(s.pub, "", s.queue, "a", "b", "c", "b", "a")
    # c pushed a out, and a then pushed b out.
    publish(s.pub, "", s.queue, "b")
    assert amqp.get_all(s.sub, s.queue, 5) == [b"a", b"b", b"c", b"a", b"b"]


def test_its_time_is_counted_on(stage) -> None:
    s = stage(arguments(**{"x-cache-ttl": 3000}))
    publish(s.pub, "", s.queue, "a")
    s.kill()
    published = 1

    def accepted_again() -> bool:
        nonlocal published
        publish(s.pub, "", s.queue, "a")
        published += 1
        return amqp.counts(s.pub, s.queue)[0] == 2

    eventually(accepted_again, what="the identity is forgotten")
    assert published > 2, "forgotten at once"


def test_of_an_exchange(stage, names) -> None:
    """Its memory is that of the queues behind it: one led by the node that dies, one not."""
    s = stage()
    exchange, other = names(), names()
    s.declare(other, at=s.a)
    s.pub.exchange_declare(exchange, "fanout", durable=True, arguments=arguments())
    for queue in (s.queue, other):
        s.pub.queue_bind(queue, exchange)
    publish(s.pub, exchange, "", "a", "b")
    s.kill()
    publish(s.pub, exchange, "", "b", "a", "c", "c")
    for queue in (s.queue, other):
        assert amqp.get_all(s.sub, queue, 3) == [b"a", b"b", b"c"]


def test_a_client_that_retries(stage) -> None:
    """It does not know what became of its last publishes, because its node died, and repeats them."""
    s = stage(arguments(size=1000))
    doomed = amqp.connect(s.leader.amqp_port).channel()
    identities = [f"{i}" for i in range(200)]
    publish(doomed, "", s.queue, *identities)
    amqp.pump(s.pub.connection, lambda: amqp.counts(s.pub, s.queue)[0] > 0, what="a first one")
    s.kill()
    publish(s.pub, "", s.queue, *identities)
    got = amqp.get_all(s.sub, s.queue, len(identities))
    assert sorted(got, key=int) == [i.encode() for i in identities]
