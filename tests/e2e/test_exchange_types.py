"""Exchange types beyond the standard: consistent hash, random, recent history, delayed; deduplication."""

from __future__ import annotations

import time
from collections import Counter

import pika
import pytest

from harness import amqp
from harness.amqp import Consumer


def spread(
    pub, exchange: str, queues: list[str], keys: list[str], bind_keys: list[str]
) -> dict[str, int]:
    """Publishes to all keys; how many each queue got."""
    for queue, key in zip(queues, bind_keys):
        pub.queue_declare(queue)
        pub.queue_bind(queue, exchange, key)
    for key in keys:
        pub.basic_publish(exchange, key, key.encode())
    counts = {queue: amqp.counts(pub, queue)[0] for queue in queues}
    assert sum(counts.values()) == len(keys)  # Each to exactly one.
    return counts


def test_consistent_hash(pub, names) -> None:
    exchange, queues = names(), [names() for _ in range(3)]
    pub.exchange_declare(exchange, "x-consistent-hash")
    keys = [f"key {i}" for i in range(300)]
    counts = spread(pub, exchange, queues, keys, ["1", "1", "4"])
    assert min(counts.values()) > 10
    assert counts[queues[2]] > counts[queues[0]] and counts[queues[2]] > counts[queues[1]]
    # The same key goes to the same queue.
    before = {q: set(amqp.get_all(pub, q, n)) for q, n in counts.items()}
    for key in keys[:50]:
        pub.basic_publish(exchange, key, key.encode())
    for queue in queues:
        again = set(amqp.get_all(pub, queue, amqp.counts(pub, queue)[0]))
        assert again <= before[queue]


def test_consistent_hash_by_header(pub, names) -> None:
    exchange, queues = names(), [names() for _ in range(2)]
    pub.exchange_declare(exchange, "x-consistent-hash", arguments={"hash-header": "hash-on"})
    for queue in queues:
        pub.queue_declare(queue)
        pub.queue_bind(queue, exchange, "1")
    for i in range(20):
        pub.basic_publish(exchange, f"{i}", b"", pika.BasicProperties(headers={"hash-on": "same"}))
    assert sorted(amqp.counts(pub, q)[0] for q in queues) == [0, 20]


def test_random(pub, names) -> None:
    exchange, queues = names(), [names() for _ in range(2)]
    pub.exchange_declare(exchange, "x-random")
    counts = spread(pub, exchange, queues, [f"{i}" for i in range(200)], ["", ""])
    assert min(counts.values()) > 20


@pytest.mark.warren_only("came with RabbitMQ 4.0")
def test_local_random(broker, connect, names) -> None:
    """One of the queues of the node that is published to."""
    exchange = names()
    channels = [amqp.confirmed(connect(node)) for node in range(3)]
    channels[0].exchange_declare(exchange, "x-local-random", durable=True)
    of_nodes = [[names(), names()] for _ in range(2)]
    for channel, queues in zip(channels, of_nodes, strict=False):
        for queue in queues:
            channel.queue_declare(queue, exclusive=True)
            channel.queue_bind(queue, exchange, "")
    for channel in channels[:2]:
        for i in range(40):
            channel.basic_publish(exchange, f"{i}", b"x", mandatory=True)
    for channel, queues in zip(channels, of_nodes, strict=False):
        counts = [amqp.counts(channel, queue)[0] for queue in queues]
        assert sum(counts) == 40 and min(counts) > 2, counts
    with pytest.raises(pika.exceptions.UnroutableError):
        channels[2].basic_publish(exchange, "", b"x", mandatory=True)
    quorum = names()
    channels[0].queue_declare(quorum, durable=True, arguments={"x-queue-type": "quorum"})
    text = "PRECONDITION_FAILED - Queue type rabbit_quorum_queue not valid for this exchange type"
    with amqp.channel_error(406, text):
        channels[0].queue_bind(quorum, exchange, "")


def test_recent_history(pub, sub, name) -> None:
    pub.exchange_declare(name, "x-recent-history")
    for i in range(30):
        pub.basic_publish(name, "", b"%d" % i)
    pub.queue_declare(name)
    pub.queue_bind(name, name)
    amqp.wait_ready_count(sub, name, 20)
    bodies = amqp.get_all(sub, name, 20)
    assert Counter(bodies) == Counter(b"%d" % i for i in range(10, 30))


@pytest.mark.warren_only("a community plugin of RabbitMQ")
def test_delayed_message(pub, sub, name, durable) -> None:
    pub.exchange_declare(
        name, "x-delayed-message", durable=True, arguments={"x-delayed-type": "direct"}
    )
    pub.queue_declare(name, durable=durable)
    pub.queue_bind(name, name, "k")
    consumer = Consumer(sub, name, auto_ack=True)
    began = time.monotonic()
    for body, delay in ((b"late", 1500), (b"soon", 500), (b"now", 0)):
        pub.basic_publish(
            name, "k", body, pika.BasicProperties(headers={"x-delay": delay}, delivery_mode=2)
        )
    pub.basic_publish(name, "k", b"plain")
    consumer.wait(4)
    assert set(consumer.bodies[:2]) == {b"now", b"plain"}
    assert consumer.bodies[2:] == [b"soon", b"late"]
    assert time.monotonic() - began >= 1.4
    assert consumer.messages[2].properties.headers["x-delay"] == -500


@pytest.mark.warren_only("a community plugin of RabbitMQ")
def test_deduplication_by_queue(pub, sub, name, durable) -> None:
    pub.queue_declare(
        name, durable=durable, arguments={"x-message-deduplication": True, "x-cache-size": 1000}
    )
    for identity in ("a", "b", "a", "a", "c"):
        pub.basic_publish(
            "",
            name,
            identity.encode(),
            pika.BasicProperties(headers={"x-deduplication-header": identity}, delivery_mode=2),
        )
    pub.basic_publish("", name, b"none")
    pub.basic_publish("", name, b"none")
    assert amqp.get_all(sub, name, 5) == [b"a", b"b", b"c", b"none", b"none"]


def test_expired_exchange_history_is_bounded(pub, sub, name) -> None:
    """A long history costs no more than its length."""
    pub.exchange_declare(name, "x-recent-history", arguments={"x-recent-history-length": 3})
    plain = pub.connection.channel()
    for i in range(500):
        plain.basic_publish(name, "", b"%d" % i)
    amqp.sync(plain)
    pub.queue_declare(name)
    pub.queue_bind(name, name)
    amqp.wait_ready_count(sub, name, 3)
