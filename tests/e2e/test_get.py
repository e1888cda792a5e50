"""basic.get."""

from __future__ import annotations

import pytest

from harness import amqp
from harness.amqp import Consumer


def test_empty(ch, name, durable) -> None:
    ch.queue_declare(name, durable=durable)
    assert ch.basic_get(name) == (None, None, None)


def test_get_ok(pub, sub, name, durable) -> None:
    pub.exchange_declare(name, "direct")
    pub.queue_declare(name, durable=durable)
    pub.queue_bind(name, name, "key")
    for i in range(3):
        pub.basic_publish(name, "key", b"%d" % i)
    method, _, body = sub.basic_get(name)
    assert body == b"0"
    assert method.delivery_tag == 1
    assert not method.redelivered
    assert (method.exchange, method.routing_key) == (name, "key")
    assert method.message_count == 2
    method, _, body = sub.basic_get(name)
    assert (body, method.delivery_tag, method.message_count) == (b"1", 2, 1)


def test_unacknowledged_comes_back(pub, connect, sub, name, durable) -> None:
    pub.queue_declare(name, durable=durable)
    amqp.fill(pub, name, [b"x"])
    connection = connect(2)
    amqp.get(connection.channel(), name)
    connection.close()
    again = amqp.get(sub, name)
    assert (again.body, again.redelivered) == (b"x", True)


def test_auto_ack(pub, connect, sub, name, durable) -> None:
    pub.queue_declare(name, durable=durable)
    amqp.fill(pub, name, [b"1", b"2"])
    connection = connect(2)
    assert amqp.get(connection.channel(), name, auto_ack=True).body == b"1"
    connection.close()
    message = amqp.get(sub, name)
    assert (message.body, message.redelivered) == (b"2", False)


def test_get_beside_a_consumer_without_credit(pub, sub, connect, name, durable) -> None:
    pub.queue_declare(name, durable=durable)
    sub.basic_qos(prefetch_count=1)
    consumer = Consumer(sub, name)
    amqp.fill(pub, name, [b"1", b"2", b"3"])
    assert consumer.next().body == b"1"
    assert amqp.get(connect(2).channel(), name, auto_ack=True).body == b"2"


@pytest.mark.parametrize("count", [300])
def test_polling_from_three_nodes_takes_each_once(pub, connect, name, durable, count) -> None:
    pub.queue_declare(name, durable=durable)
    plain = pub.connection.channel()
    for i in range(count):
        plain.basic_publish("", name, b"%d" % i, amqp.PERSISTENT)
    amqp.wait_ready_count(pub, name, count)
    channels = [connect(node).channel() for node in range(3)]
    found = []
    for i in range(count):
        _, _, body = channels[i % 3].basic_get(name, auto_ack=i % 2 == 0)
        found.append(int(body))
    assert found == list(range(count))
    assert channels[0].basic_get(name)[0] is None
