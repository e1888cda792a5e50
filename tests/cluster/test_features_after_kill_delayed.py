"""Delayed messages through the loss of nodes: each comes once, in its time.

Where an exchange keeps what is delayed follows from its name; several exchanges have the node that dies
lead at least one of these stores.
"""

from __future__ import annotations

import time
from collections import Counter

import pika

from harness import amqp
from harness.amqp import Consumer
from harness.broker import part
from harness.cluster import json_of
from harness.wait import bound, eventually

EXCHANGES = 6


def delayed(ms: int) -> pika.BasicProperties:
    return pika.BasicProperties(headers={"x-delay": ms}, delivery_mode=2)


def exchanges(s, names) -> list[str]:
    """All bound to the stage's queue."""
    made = [names() for _ in range(EXCHANGES)]
    for exchange in made:
        arguments = {"x-delayed-type": "direct"}
        s.pub.exchange_declare(exchange, "x-delayed-message", durable=True, arguments=arguments)
        s.pub.queue_bind(s.queue, exchange, "k")
    return made


def test_once_and_in_time(stage, names) -> None:
    """Due before the next leader is there, soon afterwards and later; and published after the kill."""
    s = stage()
    made = exchanges(s, names)
    due: dict[bytes, float] = {}

    def publish(exchange: str, ms: int) -> None:
        body = b"%s %d" % (exchange.encode(), ms)
        due[body] = time.monotonic() + ms / 1000
        s.pub.basic_publish(exchange, "k", body, delayed(ms))

    for exchange in made:
        for ms in (1000, 1500, 3500):
            publish(exchange, ms)
    s.kill()
    for exchange in made:
        publish(exchange, 800)
    consumer = Consumer(s.sub, s.queue, auto_ack=True)
    arrived: dict[bytes, float] = {}
    while len(arrived) < len(due):
        message = consumer.next()
        assert message.body not in arrived, f"{message.body!r} came twice"
        arrived[message.body] = time.monotonic()
        assert message.properties.headers["x-delay"] == -int(message.body.split()[-1])
    early = {b: due[b] - at for b, at in arrived.items() if at < due[b]}
    assert not early, f"seconds too early: {early}"
    late = {b: at - due[b] for b, at in arrived.items() if at > due[b] + bound(8)}
    assert not late, f"seconds too late: {late}"
    s.pub.basic_publish("", s.queue, b"end", amqp.PERSISTENT)
    assert consumer.next().body == b"end"


def test_killed_while_they_become_due(stage, names) -> None:
    """Many, due one after another, while the node goes; they are in the queue once each."""
    s = stage()
    made = exchanges(s, names)
    plain = s.pub.connection.channel()
    bodies = [b"%d" % i for i in range(600)]
    for i, body in enumerate(bodies):
        plain.basic_publish(made[i % EXCHANGES], "k", body, delayed(800 + i * 4))
    amqp.pump(plain.connection, lambda: amqp.counts(plain, s.queue)[0] > 100, what="a hundred")
    s.kill()
    amqp.wait_ready_count(s.sub, s.queue, len(bodies))
    got = Counter(amqp.get_all(s.sub, s.queue, len(bodies)))
    assert got == Counter(bodies)
    for exchange in made:

        def none_left(exchange: str = exchange) -> bool:
            info = json_of(s.a.http(f"/api/exchanges/%2F/{part(exchange)}"))
            assert info["messages_delayed"] == 0, info
            return True

        eventually(none_left, what=f"nothing waits in '{exchange}'")


def test_what_is_due_while_all_nodes_are_down(stage, names) -> None:
    s = stage()
    exchange = exchanges(s, names)[0]
    for body, ms in ((b"first", 500), (b"second", 900), (b"much later", 3_600_000)):
        s.pub.basic_publish(exchange, "k", body, delayed(ms))
    s.cluster.kill_all()
    s.cluster.start()
    channel = amqp.connect(s.a.amqp_port).channel()
    amqp.wait_ready_count(channel, s.queue, 2)
    assert amqp.get_all(channel, s.queue, 2) == [b"first", b"second"]

    def counted() -> bool:
        info = json_of(s.b.http(f"/api/exchanges/%2F/{part(exchange)}"))
        assert info["messages_delayed"] == 1, info
        return True

    eventually(counted, what="one waits")
