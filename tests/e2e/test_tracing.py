"""The firehose: copies of what is published and handed out in a virtual host that is traced."""

from __future__ import annotations

import pika
import pytest

from harness import amqp
from harness.amqp import channel_error
from harness.broker import part

TRACE = "amq.rabbitmq.trace"


@pytest.fixture
def vhost(broker, name):
    broker.put(f"/api/vhosts/{part(name)}", {"tracing": True})
    everything = {"configure": ".*", "write": ".*", "read": ".*"}
    broker.put(f"/api/permissions/{part(name)}/guest", everything)
    yield name
    broker.delete(f"/api/vhosts/{part(name)}")


@pytest.fixture
def on_node(broker, vhost):
    """A channel in the virtual host, on a node."""
    connections = []

    def open_channel(node: int = 0):
        connections.append(broker.connect(node, virtual_host=vhost))
        return connections[-1].channel()

    yield open_channel
    for connection in connections:
        amqp.drop(connection)


def listen(channel, *keys: str) -> str:
    queue = channel.queue_declare("", exclusive=True).method.queue
    for key in keys:
        channel.queue_bind(queue, TRACE, key)
    return queue


def test_publish_and_delivery(on_node, vhost, durable) -> None:
    listener, worker = on_node(0), on_node(1)
    traces = listen(listener, "#")
    worker.exchange_declare("work", "fanout", durable=durable)
    for queue in ("a", "b"):
        worker.queue_declare(queue, durable=durable)
        worker.queue_bind(queue, "work")
    sent = pika.BasicProperties(
        content_type="text/plain", delivery_mode=2, priority=3, timestamp=1_700_000_000,
        headers={"one": 1}, message_id="m1",
    )  # fmt: skip
    worker.basic_publish("work", "key", b"body", sent)

    published = amqp.get(listener, traces)
    assert (published.body, published.method.exchange) == (b"body", TRACE)
    assert published.method.routing_key == "publish.work"
    headers = published.properties.headers
    assert sorted(headers.pop("routed_queues")) == ["a", "b"]
    assert headers.pop("node").startswith(("warren@", "rabbit@"))
    assert " -> " in headers.pop("connection")
    assert headers == {
        "exchange_name": "work",
        "routing_keys": ["key"],
        "properties": {
            "content_type": "text/plain", "delivery_mode": 2, "priority": 3, "timestamp": 1_700_000_000,
            "headers": {"one": 1}, "message_id": "m1",
        },
        "vhost": vhost,
        "channel": worker.channel_number,
        "user": "guest",
    }  # fmt: skip
    # Of the rest only what is in its headers is told.
    assert published.properties.content_type is None

    amqp.Consumer(worker, "a", auto_ack=True).next()
    delivered = amqp.get(listener, traces)
    assert (delivered.method.routing_key, delivered.body) == ("deliver.a", b"body")
    headers = delivered.properties.headers
    assert (headers["redelivered"], headers["exchange_name"]) == (0, "work")
    assert headers["properties"]["message_id"] == "m1"
    assert "routed_queues" not in headers

    # `basic.get` hands out too; a message that came back is told as such.
    taken = amqp.get(worker, "b", auto_ack=False)
    worker.basic_reject(taken.tag, requeue=True)
    amqp.get(worker, "b")
    redelivered = [amqp.get(listener, traces).properties.headers["redelivered"] for _ in range(2)]
    assert redelivered == [0, 1]


def test_unroutable_and_keys_of_headers(on_node) -> None:
    listener, worker = on_node(0), on_node(0)
    traces = listen(listener, "publish.#")
    worker.queue_declare("q", exclusive=True)
    worker.basic_publish("", "nowhere", b"lost")
    lost = amqp.get(listener, traces)
    assert lost.method.routing_key == "publish."
    assert lost.properties.headers["routed_queues"] == []
    worker.basic_publish("", "nowhere", b"cc", pika.BasicProperties(headers={"CC": ["q"]}))
    copied = amqp.get(listener, traces).properties.headers
    assert (copied["routing_keys"], copied["routed_queues"]) == (["nowhere", "q"], ["q"])


def test_copies_are_not_copied(on_node) -> None:
    """Who consumes the copies would make more of them for ever."""
    listener, worker = on_node(0), on_node(0)
    consumer = amqp.Consumer(listener, listen(listener, "#"), auto_ack=True)
    worker.basic_publish("", "nowhere", b"1")
    worker.basic_publish("", "nowhere", b"2")
    amqp.sync(worker)
    consumer.wait(2)
    worker.basic_publish("", "nowhere", b"3")
    consumer.wait(3)
    assert consumer.bodies == [b"1", b"2", b"3"]


def test_transactions_and_long_names(on_node) -> None:
    listener, worker = on_node(0), on_node(0)
    traces = listen(listener, "#")
    long = "x" * 255
    worker.exchange_declare(long, "direct")
    worker.tx_select()
    worker.basic_publish(long, "key", b"in a transaction")
    worker.tx_commit()
    copy = amqp.get(listener, traces)
    assert copy.body == b"in a transaction"
    assert copy.properties.headers["exchange_name"] == long
    assert copy.method.routing_key == f"publish.{long}"[:255]


def test_on_and_off(broker, on_node, vhost) -> None:
    """Channels that are open notice."""
    listener, worker = on_node(0), on_node(1)
    traces = listen(listener, "#")
    worker.basic_publish("", "nowhere", b"on")
    assert amqp.get(listener, traces).body == b"on"
    broker.put(f"/api/vhosts/{part(vhost)}", {"tracing": False})
    worker.basic_publish("", "nowhere", b"off")
    amqp.sync(worker)
    broker.put(f"/api/vhosts/{part(vhost)}", {"tracing": True})
    worker.basic_publish("", "nowhere", b"on again")
    assert amqp.get(listener, traces).body == b"on again"


def test_clients_cannot_forge_copies(on_node) -> None:
    channel = on_node()
    with channel_error(403):
        channel.basic_publish(TRACE, "publish.x", b"")
        amqp.sync(channel)
