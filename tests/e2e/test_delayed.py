"""`x-delayed-message`: messages that are routed when their time has come."""

from __future__ import annotations

import time
from typing import Any

import pika
import pytest

from harness import amqp
from harness.amqp import Consumer
from harness.broker import part
from harness.wait import eventually

pytestmark = pytest.mark.warren_only("a community plugin of RabbitMQ")


def delayed(ms: Any, **properties: Any) -> pika.BasicProperties:
    headers = {"x-delay": ms, **properties.pop("headers", {})}
    return pika.BasicProperties(headers=headers, delivery_mode=2, **properties)


def declare(pub, name: str, kind: str = "direct", durable: bool = True) -> None:
    pub.exchange_declare(
        name, "x-delayed-message", durable=durable, arguments={"x-delayed-type": kind}
    )


def test_routed_as_its_type_says(pub, sub, names, durable) -> None:
    exchange, one, two = names(), names(), names()
    declare(pub, exchange, "topic", durable)
    for queue, key in ((one, "a.*"), (two, "#")):
        pub.queue_declare(queue, durable=durable)
        pub.queue_bind(queue, exchange, key)
    pub.basic_publish(exchange, "a.b", b"both", delayed(50))
    pub.basic_publish(exchange, "c", b"second", delayed(50))
    assert amqp.get_all(sub, one, 1) == [b"both"]
    amqp.wait_ready_count(sub, two, 2)
    assert sorted(amqp.get_all(sub, two, 2)) == [b"both", b"second"]


def test_what_is_delivered(pub, sub, name, durable) -> None:
    declare(pub, name)
    pub.queue_declare(name, durable=durable)
    pub.queue_bind(name, name, "k")
    sent = delayed(
        100, headers={"own": "kept"}, message_id="m", priority=3, expiration="60000"
    )
    pub.basic_publish(name, "k", b"body", sent)
    message = amqp.get(sub, name, auto_ack=True)
    assert (message.method.exchange, message.method.routing_key) == (name, "k")
    assert message.properties.headers == {"x-delay": -100, "own": "kept"}
    properties = message.properties
    assert (properties.message_id, properties.priority) == ("m", 3)
    assert properties.expiration == "60000"
    assert not message.redelivered


@pytest.mark.parametrize("delay", [0, -500, "soon", True])
def test_at_once(pub, sub, name, delay) -> None:
    declare(pub, name)
    pub.queue_declare(name)
    pub.queue_bind(name, name, "k")
    pub.basic_publish(name, "k", b"now", delayed(delay), mandatory=True)
    message = amqp.get(sub, name, auto_ack=True)
    assert message.properties.headers["x-delay"] == delay
    with pytest.raises(pika.exceptions.UnroutableError):
        pub.basic_publish(name, "nobody", b"now", delayed(delay), mandatory=True)


def test_mandatory_with_a_delay_is_not_returned(pub, name) -> None:
    """Whether somebody gets it is known when its time has come."""
    declare(pub, name)
    pub.basic_publish(name, "nobody", b"late", delayed(50), mandatory=True)


def test_copies(pub, sub, names) -> None:
    exchange, *queues = [names() for _ in range(4)]
    declare(pub, exchange)
    for queue in queues:
        pub.queue_declare(queue, durable=True)
        pub.queue_bind(queue, exchange, queue)
    headers = {"CC": [queues[1]], "BCC": [queues[2]]}
    pub.basic_publish(exchange, queues[0], b"x", delayed(50, headers=headers))
    for queue in queues:
        assert "BCC" not in amqp.get(sub, queue, auto_ack=True).properties.headers


def test_a_dead_letter_goes_by_all_keys(pub, sub, names) -> None:
    """Also by the blind copies of a message that was delayed before it died."""
    exchange, letters, dying, bcc = (names() for _ in range(4))
    declare(pub, exchange)
    pub.exchange_declare(letters, "direct")
    pub.queue_declare(dying, durable=True, arguments={"x-dead-letter-exchange": letters})
    pub.queue_bind(dying, exchange, "k")
    pub.queue_declare(bcc)
    pub.queue_bind(bcc, letters, "blind")
    pub.basic_publish(exchange, "k", b"x", delayed(50, headers={"BCC": ["blind"]}))
    message = amqp.get(sub, dying)
    assert "BCC" not in message.properties.headers
    sub.basic_reject(message.tag, requeue=False)
    assert "BCC" not in amqp.get(sub, bcc, auto_ack=True).properties.headers


def test_behind_another_exchange(pub, sub, names) -> None:
    front, exchange, early, late = names(), names(), names(), names()
    declare(pub, exchange, "fanout")
    pub.exchange_declare(front, "fanout")
    pub.exchange_bind(exchange, front)
    for queue, source in ((early, front), (late, exchange)):
        pub.queue_declare(queue)
        pub.queue_bind(queue, source)
    consumer = Consumer(sub, late, auto_ack=True)
    began = time.monotonic()
    pub.basic_publish(front, "", b"x", delayed(400))
    assert amqp.get(pub, early, auto_ack=True).properties.headers["x-delay"] == 400
    assert consumer.next().properties.headers["x-delay"] == -400
    assert time.monotonic() - began >= 0.35


def test_listed_and_gone_with_its_exchange(broker, pub, sub, name) -> None:
    declare(pub, name)
    pub.queue_declare(name, durable=True)
    pub.queue_bind(name, name, "k")
    for _ in range(5):
        pub.basic_publish(name, "k", b"much later", delayed(3_600_000))
    pub.basic_publish(name, "k", b"soon", delayed(100))
    assert amqp.get(sub, name, auto_ack=True).body == b"soon"
    path = f"/api/exchanges/%2F/{part(name)}"
    for node in range(len(broker.ports)):

        def counted(node: int = node) -> bool:
            info = broker.get(path, node)
            assert (info["type"], info["messages_delayed"]) == ("x-delayed-message", 5), info
            return True

        eventually(counted, what=f"the number of delayed messages at node {node + 1}")
    rows = {row["name"]: row for row in broker.get("/api/exchanges/%2F")}
    assert rows[name]["messages_delayed"] == 5
    assert "messages_delayed" not in rows["amq.direct"]
    # Nobody sees a queue of it.
    assert [q["name"] for q in broker.get("/api/queues/%2F") if name in q["name"]] == [name]
    pub.exchange_delete(name)
    declare(pub, name)
    assert broker.get(path)["messages_delayed"] == 0


def test_shown_while_they_wait(broker, pub, name) -> None:
    declare(pub, name)
    began = time.time() * 1000
    for minutes in (60, 10, 30):
        properties = delayed(minutes * 60_000, message_id=str(minutes))
        pub.basic_publish(name, f"k.{minutes}", b"at %d" % minutes, properties)
    path = f"/api/exchanges/%2F/{part(name)}/delayed"
    for node in range(len(broker.ports)):
        rows = broker.get(path, node)
        assert [row["payload"] for row in rows] == ["at 10", "at 30", "at 60"]
        assert [row["routing_key"] for row in rows] == ["k.10", "k.30", "k.60"]
        assert [row["properties"]["message_id"] for row in rows] == ["10", "30", "60"]
        assert {(row["exchange"], row["payload_bytes"]) for row in rows} == {(name, 5)}
        for row, minutes in zip(rows, (10, 30, 60), strict=True):
            assert row["due_at"] >= began + minutes * 60_000 - 1000
            assert row["due_at"] <= time.time() * 1000 + minutes * 60_000 + 1000
    # The last that came, and they stay.
    assert [row["payload"] for row in broker.get(f"{path}?count=2&truncate=2")] == ["at", "at"]
    assert {row["payload"] for row in broker.get(f"{path}?count=2")} == {"at 10", "at 30"}
    assert broker.get(path.removesuffix("/delayed"))["messages_delayed"] == 3
    # Also those that are on disk only.
    for _ in range(20):
        pub.basic_publish(name, "k", bytes(1 << 20), delayed(3_600_000))
    rows = broker.get(f"{path}?truncate=1")
    assert [row["payload_bytes"] for row in rows] == [1 << 20] * 15  # 16 MiB, overhead included.


def test_many_with_times_of_their_own(pub, sub, name, durable) -> None:
    declare(pub, name)
    pub.queue_declare(name, durable=durable)
    pub.queue_bind(name, name, "k")
    plain = pub.connection.channel()
    count = 3000
    for i in range(count):
        plain.basic_publish(name, "k", b"%d" % i, delayed(1 + (i * 7919) % 2000))
    amqp.sync(plain)
    consumer = Consumer(sub, name, auto_ack=True)
    consumer.wait(count)
    assert len(set(consumer.bodies)) == count


INVALID = (
    "PRECONDITION_FAILED - Invalid argument, 'x-delayed-type' must be an existing exchange type"
)


@pytest.mark.parametrize(
    "arguments",
    [None, {"x-delayed-type": "x-none"}, {"x-delayed-type": 1},
     {"x-delayed-type": "x-delayed-message"}],
)  # fmt: skip
def test_refused(ch, name, arguments) -> None:
    with amqp.channel_error(406, INVALID):
        ch.exchange_declare(name, "x-delayed-message", arguments=arguments)


def test_redeclared_with_another_type(ch, pub, name) -> None:
    declare(pub, name)
    declare(pub, name)
    text = (
        f"PRECONDITION_FAILED - inequivalent arg 'x-delayed-type' for exchange '{name}' in "
        "vhost '/': received 'topic' but current is 'direct'"
    )
    with amqp.channel_error(406, text):
        declare(ch, name, "topic")
