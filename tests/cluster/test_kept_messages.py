"""What the broker remembers for deduplication, delays and histories, through the kill of a leader."""

from __future__ import annotations

import time
from collections import Counter

import pika
from scenes import roles

from harness import amqp
from harness.amqp import Consumer
from harness.wait import eventually


def identified(identity: str) -> pika.BasicProperties:
    headers = {"x-deduplication-header": identity}
    return pika.BasicProperties(headers=headers, delivery_mode=2)


def delayed(ms: int) -> pika.BasicProperties:
    return pika.BasicProperties(headers={"x-delay": ms}, delivery_mode=2)


def test_a_retry_after_the_kill_doubles_nothing(whole, names, open_at) -> None:
    """A client that does not know what became of its publishes sends all of them again."""
    queue, exchange, behind = names(), names(), names()
    channel = amqp.confirmed(open_at(whole.nodes[0]))
    window = {"x-message-deduplication": True, "x-cache-size": 1000}
    channel.queue_declare(queue, durable=True, arguments=window)
    channel.queue_declare(behind, durable=True)
    channel.exchange_declare(exchange, "fanout", durable=True, arguments=window)
    channel.queue_bind(behind, exchange)
    dead, a, b = roles(whole, queue, "leader")
    lost = amqp.confirmed(open_at(dead))
    bodies = [b"%d" % i for i in range(200)]
    for body in bodies[:100]:
        lost.basic_publish("", queue, body, identified(body.decode()))
        lost.basic_publish(exchange, "", body, identified(body.decode()))
    dead.kill()
    retry = amqp.confirmed(open_at(a))
    for body in bodies:
        retry.basic_publish("", queue, body, identified(body.decode()))
        retry.basic_publish(exchange, "", body, identified(body.decode()))
    channel = open_at(b).channel()
    assert amqp.get_all(channel, queue, 200) == bodies
    assert amqp.get_all(channel, behind, 200) == bodies
    # Also when the node is back, and when what it remembers came to it by its log.
    whole.start([dead])
    dead.wait_ready()
    back = amqp.confirmed(open_at(dead))
    for body in bodies:
        back.basic_publish("", queue, body, identified(body.decode()))
    assert amqp.get_all(channel, queue, 0) == []


def test_delayed_messages_survive_the_kill(whole, names, open_at) -> None:
    """Several exchanges, so that the dead node has led some of their stores. Nothing is missing,
    early or doubled."""
    exchanges, queue = [names() for _ in range(8)], names()
    channel = amqp.confirmed(open_at(whole.nodes[0]))
    channel.queue_declare(queue, durable=True)
    for exchange in exchanges:
        kind = {"x-delayed-type": "fanout"}
        channel.exchange_declare(exchange, "x-delayed-message", durable=True, arguments=kind)
        channel.queue_bind(queue, exchange)
    dead, a, b = roles(whole, queue, "leader")
    publisher = amqp.confirmed(open_at(a))
    consumer = Consumer(open_at(b).channel(), queue)
    due: dict[bytes, float] = {}
    for i in range(200):
        body = b"%d" % i
        ms = 500 + (i * 37) % 4000
        due[body] = time.monotonic() + ms / 1000
        publisher.basic_publish(exchanges[i % 8], "", body, delayed(ms))
    arrived: dict[bytes, float] = {}

    def work() -> bool:
        consumer.connection.process_data_events(time_limit=0.02)
        for message in consumer.messages[len(arrived) :]:
            arrived.setdefault(message.body, time.monotonic())
            consumer.ack(message)
        return True

    eventually(lambda: work() and len(arrived) >= 20, what="the first are delivered")
    dead.kill()
    eventually(lambda: work() and len(arrived) == 200, what="all delayed messages are delivered")
    assert Counter(consumer.bodies) == Counter(due.keys())
    early = {body: due[body] - at for body, at in arrived.items() if due[body] - at > 0.2}
    assert not early, early
    amqp.wait_ready_count(open_at(a).channel(), queue, 0)


def test_history_survives_the_kill(whole, names, open_at) -> None:
    exchanges, queue = [names() for _ in range(4)], names()
    channel = amqp.confirmed(open_at(whole.nodes[0]))
    channel.queue_declare(queue, durable=True)
    for exchange in exchanges:
        channel.exchange_declare(exchange, "x-recent-history", durable=True)
        for i in range(25):
            channel.basic_publish(exchange, "", b"%d" % i, amqp.PERSISTENT)
    dead, a, b = roles(whole, queue, "leader")
    channel = open_at(a).channel()
    dead.kill()
    for exchange in exchanges:
        channel.queue_bind(queue, exchange)
    bodies = amqp.get_all(open_at(b).channel(), queue, 80)
    assert Counter(bodies) == Counter(b"%d" % i for i in range(5, 25) for _ in exchanges)


def test_all_nodes_are_killed(fresh, names) -> None:
    """Windows, delayed messages and histories are on the disks."""
    queue, exchange, history = names(), names(), names()
    cluster = fresh(3).start()
    channel = amqp.confirmed(cluster.connect(1))
    window = {"x-message-deduplication": True, "x-cache-size": 1000}
    channel.queue_declare(queue, durable=True, arguments=window)
    kind = {"x-delayed-type": "fanout"}
    channel.exchange_declare(exchange, "x-delayed-message", durable=True, arguments=kind)
    channel.queue_bind(queue, exchange)
    channel.exchange_declare(history, "x-recent-history", durable=True)
    channel.basic_publish("", queue, b"once", identified("a"))
    channel.basic_publish(history, "", b"history", amqp.PERSISTENT)
    channel.basic_publish(exchange, "", b"late", delayed(3000))
    cluster.kill_all()
    cluster.start()
    channel = amqp.confirmed(cluster.connect(2))
    channel.basic_publish("", queue, b"twice", identified("a"))
    channel.queue_bind(queue, history)
    bodies = [amqp.get(channel, queue, auto_ack=True).body for _ in range(3)]
    assert (bodies[0], sorted(bodies)) == (b"once", [b"history", b"late", b"once"])
    assert amqp.get_all(channel, queue, 0) == []
