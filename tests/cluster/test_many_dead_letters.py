"""Messages that die together and go to very many queues."""

from __future__ import annotations

import pika

from harness import amqp
from harness.cluster import Cluster
from harness.wait import eventually

QUEUES = 500
LETTERS = 4000
# 337 MiB before letters shared operations and queues remembered runs of them, 132 to 156 since.
GROWTH_MAX = 240 << 20


def test_letters_to_very_many_queues_take_bounded_memory() -> None:
    with Cluster(1).start() as cluster:
        node = cluster.node(1)
        connection = cluster.connect(1)
        channel = amqp.confirmed(connection)
        channel.exchange_declare("dead", "fanout", durable=True)
        for number in range(QUEUES):
            name = f"dead-{number}"
            channel.queue_declare(name, durable=True, arguments={"x-max-length": 5})
            channel.queue_bind(name, "dead")
        channel.queue_declare("q", durable=True, arguments={"x-dead-letter-exchange": "dead"})
        persistent = pika.BasicProperties(delivery_mode=2)
        publisher = connection.channel()
        publisher.tx_select()
        for _ in range(LETTERS):
            publisher.basic_publish("", "q", b"x" * 200, persistent)
        publisher.tx_commit()
        consumer = connection.channel()
        tags: list[int] = []
        consumer.basic_consume("q", lambda _, method, *__: tags.append(method.delivery_tag))
        amqp.pump(connection, lambda: len(tags) == LETTERS)
        before = node.forget_peak()
        consumer.basic_nack(0, multiple=True, requeue=False)

        def arrived() -> bool:
            connection.process_data_events(0)
            stats = (node.queue_info(f"dead-{QUEUES - 1}") or {}).get("message_stats", {})
            return stats.get("publish", 0) == LETTERS

        eventually(arrived, 60, "the last letter in the last queue")
        growth = node.peak() - before
        assert growth < GROWTH_MAX, f"{growth >> 20} MiB"
