"""Messages far above the default limit, as large as the configuration allows, and transactions of many."""

from __future__ import annotations

import pika

from harness import amqp

MIB = 1 << 20
PERSISTENT = pika.BasicProperties(delivery_mode=2)


def test_a_configured_limit_holds_between_nodes(fresh, name) -> None:
    """90 MiB pass from node to node, and nothing stands still behind them."""
    cluster = fresh(3, config='max_message_size = "100MiB"\n').start()
    channel = amqp.confirmed(cluster.connect(1))
    channel.queue_declare(name, durable=True)
    leader = cluster.leader(name)
    one, other = cluster.others(leader)
    publisher = amqp.confirmed(cluster.connect(one))
    large = bytes(range(256)) * (90 * MIB // 256)
    publisher.basic_publish("", name, large, PERSISTENT)
    publisher.basic_publish("", name, b"behind it", PERSISTENT)
    receiver = cluster.connect(other).channel()
    assert amqp.get(receiver, name, auto_ack=True).body == large
    assert amqp.get(receiver, name, auto_ack=True).body == b"behind it"


def test_a_large_transaction(fresh, name) -> None:
    cluster = fresh(3).start()
    connection = cluster.connect(1)
    channel = connection.channel()
    channel.queue_declare(name, durable=True)
    channel.tx_select()
    for _ in range(100):
        channel.basic_publish("", name, bytes(MIB), PERSISTENT)
    channel.tx_commit()
    assert amqp.counts(connection.channel(), name)[0] == 100
