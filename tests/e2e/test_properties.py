"""Properties and headers come back as they were sent, byte by byte."""

from __future__ import annotations

import datetime
import struct

import pika
import pytest
from pika import spec

from harness import amqp, wire
from harness.amqp import Consumer

ALL_FLAGS = 0xFFF8  # content-type … app-id; without cluster-id.


def all_properties(headers: bytes) -> bytes:
    """Every property set, in wire order, behind its flag word."""
    return struct.pack(">H", ALL_FLAGS) + b"".join(
        [
            wire.short("application/json"),
            wire.short("utf-8"),
            headers,
            b"\x02",
            b"\x09",
            wire.short("correlation"),
            wire.short("reply-to"),
            wire.short("3600000"),
            wire.short("message-id"),
            struct.pack(">Q", 1_700_000_000),
            wire.short("type"),
            wire.short("guest"),
            wire.short("app"),
        ]
    )


def round_trip(peer: wire.Peer, pub, name: str, durable: bool, properties: bytes) -> bytes:
    pub.queue_declare(name, durable=durable)
    peer.open().open_channel()
    peer.publish(1, "", name, b"body", properties)
    peer.method(1, spec.Basic.Consume(queue=name, no_ack=True))
    peer.expect(spec.Basic.ConsumeOk, 1)
    content = peer.content(spec.Basic.Deliver)
    assert content.body == b"body"
    return content.properties


def test_all_properties(peer, pub, name, durable) -> None:
    properties = all_properties(wire.table(wire.EVERY_TYPE))
    assert round_trip(peer, pub, name, durable, properties) == properties


@pytest.mark.parametrize("field", wire.EVERY_TYPE, ids=lambda f: f[0])
def test_each_header_type(peer, pub, name, field) -> None:
    properties = b"\x20\x00" + wire.table([field])
    assert round_trip(peer, pub, name, True, properties) == properties


def test_no_properties(peer, pub, name, durable) -> None:
    assert round_trip(peer, pub, name, durable, wire.NO_PROPERTIES) == wire.NO_PROPERTIES


def test_empty_values(peer, pub, name) -> None:
    properties = b"\xa0\x00" + wire.short("") + wire.table([])
    assert round_trip(peer, pub, name, True, properties) == properties


def test_order_and_odd_names_of_headers(peer, pub, name) -> None:
    fields = [("z", b"t\x01"), ("a", b"t\x00"), ("größe", b"V"), ("", b"V"), ("x" * 128, b"V")]
    properties = b"\x20\x00" + wire.table(fields)
    assert round_trip(peer, pub, name, True, properties) == properties


def test_large_headers(peer, pub, name) -> None:
    """Near the limit of one header frame."""
    fields = [(f"h{i}", wire.string("v" * 1000)) for i in range(120)]
    properties = b"\x20\x00" + wire.table(fields)
    assert round_trip(peer, pub, name, True, properties) == properties


def test_deep_tables(peer, pub, name) -> None:
    value = b"V"
    for _ in range(30):
        value = wire.nested([("n", wire.array([value]))])
    properties = b"\x20\x00" + wire.table([("deep", value)])
    assert round_trip(peer, pub, name, True, properties) == properties


def test_properties_as_pika_sees_them(pub, sub, connect, name, durable) -> None:
    pub.queue_declare(name, durable=durable)
    properties = pika.BasicProperties(
        content_type="text/plain",
        content_encoding="gzip",
        headers={
            "text": "grüße",
            "number": -5,
            "large": 2**40,
            "truth": True,
            "nothing": None,
            "list": [1, "two", {"three": 3}],
            "table": {"k": "v"},
            "bytes": b"\x00\xff",
            "time": datetime.datetime(2024, 1, 2, 3, 4, 5, tzinfo=datetime.UTC),
        },
        delivery_mode=2,
        priority=7,
        correlation_id="c",
        reply_to="r",
        expiration="600000",
        message_id="m",
        timestamp=1_700_000_000,
        type="t",
        user_id="guest",
        app_id="a",
    )
    pub.basic_publish("", name, b"x", properties)
    consumer = Consumer(sub, name)
    message = consumer.next()
    assert message.properties == properties
    # A redelivery to another node brings them again.
    sub.basic_reject(message.tag, requeue=True)
    consumer.cancel()
    sub.connection.close()
    again = amqp.get(connect(2).channel(), name).properties
    assert again == properties


@pytest.mark.parametrize(
    "properties",
    [
        b"\x80\x00",  # A flag without its value.
        b"\x20\x00" + b"\x00\x00\x00\x05\x01kt",  # A table cut short.
        b"\x20\x00" + b"\x00\x00\x00\xff",  # A table longer than the frame.
        b"\x20\x00" + wire.table([("k", b"?")]),  # An unknown letter.
    ],
    ids=["missing", "cut", "too-long", "letter"],
)
def test_malformed_properties_end_the_connection(peer, pub, name, properties) -> None:
    """Never the node; and the queue does not get a message that would break its consumers."""
    pub.queue_declare(name)
    peer.open().open_channel()
    peer.publish(1, "", name, b"x", properties)
    assert peer.refused() in (501, 502, 541)
    assert amqp.get_all(pub, name, 0) == []
