"""Exchanges beyond the standard ones, alternates and returns, when a node is killed."""

from __future__ import annotations

from collections import Counter

import pika
import pytest

from harness import amqp
from harness.amqp import Consumer

KEYS = [f"key {i}" for i in range(120)]


def targets(s, names, exchange: str, keys: list[str]) -> list[str]:
    """Queues bound with these keys: led by the node that dies, and by the two others in turn."""
    queues = [names() for _ in keys]
    for i, (queue, key) in enumerate(zip(queues, keys)):
        s.declare(queue, at=(s.leader, s.a, s.b)[i % 3])
        s.pub.queue_bind(queue, exchange, key)
    return queues


def emptied(channel, queues: list[str]) -> dict[str, list[bytes]]:
    return {q: amqp.get_all(channel, q, amqp.counts(channel, q)[0]) for q in queues}


@pytest.mark.parametrize("kind", ["x-consistent-hash", "x-modulus-hash"])
def test_a_key_stays_with_its_queue(stage, names, kind) -> None:
    s = stage()
    exchange = names()
    s.pub.exchange_declare(exchange, kind, durable=True)
    queues = targets(s, names, exchange, ["1", "2", "1"])
    for key in KEYS:
        s.pub.basic_publish(exchange, key, key.encode(), amqp.PERSISTENT, mandatory=True)
    before = emptied(s.sub, queues)
    assert sorted(sum(before.values(), [])) == sorted(key.encode() for key in KEYS)
    assert all(before.values()), "not spread"
    s.kill()
    for key in KEYS:
        s.pub.basic_publish(exchange, key, key.encode(), amqp.PERSISTENT, mandatory=True)
    assert emptied(s.sub, queues) == before


def test_random(stage, names) -> None:
    s = stage()
    exchange = names()
    s.pub.exchange_declare(exchange, "x-random", durable=True)
    queues = targets(s, names, exchange, ["", "", ""])
    s.kill()
    for key in KEYS:
        s.pub.basic_publish(exchange, key, key.encode(), amqp.PERSISTENT, mandatory=True)
    after = emptied(s.sub, queues)
    assert sorted(sum(after.values(), [])) == sorted(key.encode() for key in KEYS)
    assert all(len(got) > 10 for got in after.values()), "not spread"


def test_recent_history(stage, names) -> None:
    """Several exchanges, of whose stores the dead node led some; queues are bound afterwards."""
    s = stage()
    exchanges = [names() for _ in range(5)]
    for exchange in exchanges:
        arguments = {"x-recent-history-length": 4}
        s.pub.exchange_declare(exchange, "x-recent-history", durable=True, arguments=arguments)
        for i in range(6):
            s.pub.basic_publish(exchange, "", b"%d" % i, amqp.PERSISTENT)
    s.kill()
    for exchange in exchanges:
        early, late = names(), names()
        s.declare(early, at=s.a)
        s.pub.queue_bind(early, exchange)
        s.pub.basic_publish(exchange, "", b"6", amqp.PERSISTENT, mandatory=True)
        s.declare(late, at=s.b)
        s.pub.queue_bind(late, exchange)
        assert Counter(amqp.get_all(s.sub, early, 5)) == Counter([b"2", b"3", b"4", b"5", b"6"])
        assert Counter(amqp.get_all(s.sub, late, 4)) == Counter([b"3", b"4", b"5", b"6"])


def test_alternate_exchange(stage, names) -> None:
    """The alternate's queue is led by the dead node; unroutable messages reach it in order."""
    s = stage()
    main, alternate, bound = names(), names(), names()
    s.pub.exchange_declare(alternate, "fanout", durable=True)
    arguments = {"alternate-exchange": alternate}
    s.pub.exchange_declare(main, "direct", durable=True, arguments=arguments)
    s.declare(bound, at=s.a)
    s.pub.queue_bind(bound, main, "known")
    s.pub.queue_bind(s.queue, alternate)
    s.pub.basic_publish(main, "nobody", b"before", amqp.PERSISTENT, mandatory=True)
    s.kill()
    s.pub.basic_publish(main, "nobody", b"after", amqp.PERSISTENT, mandatory=True)
    s.pub.basic_publish(main, "known", b"known", amqp.PERSISTENT, mandatory=True)
    assert amqp.get_all(s.sub, s.queue, 2) == [b"before", b"after"]
    assert amqp.get_all(s.sub, bound, 1) == [b"known"]
    # Changes of routing made while the node is down count at once.
    s.pub.queue_unbind(s.queue, alternate)
    with pytest.raises(pika.exceptions.UnroutableError):
        s.pub.basic_publish(main, "nobody", b"lost", amqp.PERSISTENT, mandatory=True)


def test_mandatory(stage, names) -> None:
    """Routed although nobody leads just now; returned only without a binding, before the confirm."""
    s = stage()
    exchange = names()
    s.pub.exchange_declare(exchange, "topic", durable=True)
    s.pub.queue_bind(s.queue, exchange, "a.#")
    s.kill()
    s.pub.basic_publish(exchange, "a.b", b"routed", amqp.PERSISTENT, mandatory=True)
    with pytest.raises(pika.exceptions.UnroutableError) as caught:
        s.pub.basic_publish(exchange, "b", b"returned", amqp.PERSISTENT, mandatory=True)
    (returned,) = caught.value.messages
    method = returned.method
    assert (method.reply_code, method.reply_text) == (312, "NO_ROUTE")
    assert (method.exchange, method.routing_key, returned.body) == (exchange, "b", b"returned")
    consumer = Consumer(s.sub, s.queue, auto_ack=True)
    assert consumer.next().body == b"routed"
    s.sub.queue_delete(s.queue)
    with pytest.raises(pika.exceptions.UnroutableError):
        s.pub.basic_publish(exchange, "a.b", b"gone", amqp.PERSISTENT, mandatory=True)
