"""Streams over AMQP 0-9-1: messages are read from anywhere, as often as wanted, and stay."""

from __future__ import annotations

import datetime
import time
from typing import Any

import pika
import pytest
from pika.adapters.blocking_connection import BlockingChannel

from harness import amqp
from harness.amqp import Consumer, Delivered
from harness.wait import eventually

STREAM = {"x-queue-type": "stream"}


def stream(channel: BlockingChannel, name: str, **arguments: Any) -> None:
    more = {key.replace("_", "-"): value for key, value in arguments.items()}
    channel.queue_declare(name, durable=True, arguments=STREAM | more)


def read(channel: BlockingChannel, name: str, offset: Any = None, prefetch: int = 100) -> Consumer:
    channel.basic_qos(prefetch_count=prefetch)
    arguments = {} if offset is None else {"x-stream-offset": offset}
    return Consumer(channel, name, arguments=arguments)


def offset(message: Delivered) -> int:
    return message.properties.headers["x-stream-offset"]


def numbers(count: int) -> list[bytes]:
    return [b"%d" % i for i in range(count)]


def test_many_read_the_same(pub, sub, connect, name) -> None:
    """On every node, from the first message on; acknowledged, they are still there."""
    stream(pub, name)
    amqp.fill(pub, name, numbers(250))
    for node in range(3):
        channel = connect(node).channel()
        consumer = read(channel, name, "first", prefetch=10)
        for i in range(250):
            message = consumer.next()
            assert message.body == b"%d" % i
            assert offset(message) == i
            assert not message.redelivered
            consumer.ack(message)
    assert amqp.counts(sub, name) == (250, 3)


@pytest.mark.parametrize("start", ["first", "next", None, 0, 7, 9, 10, 12])
def test_where_a_consumer_begins(pub, sub, name, start) -> None:
    stream(pub, name)
    amqp.fill(pub, name, numbers(10))
    consumer = read(sub, name, start)
    amqp.fill(pub, name, [b"%d" % i for i in range(10, 15)])
    begins = {"first": 0, "next": 10, None: 10}.get(start, start)
    found = consumer.wait(15 - begins)
    assert [offset(message) for message in found] == list(range(begins, 15))
    assert consumer.bodies == [b"%d" % i for i in range(begins, 15)]


def test_last_begins_with_the_end_of_what_is_there(pub, sub, name) -> None:
    """With RabbitMQ that is the last chunk, of however many messages."""
    stream(pub, name)
    amqp.fill(pub, name, numbers(10))
    consumer = read(sub, name, "last")
    assert consumer.wait(1)[0].body <= b"9"
    amqp.fill(pub, name, [b"new"])
    amqp.pump(
        consumer.connection,
        lambda: consumer.bodies[-1] == b"new",
        what=lambda: f"the new one after {consumer.bodies}",
    )


@pytest.mark.parametrize(
    ("start", "begins"), [("between", 5), ("epoch", 0), ("tomorrow", 9), ("1h", 0)]
)
def test_begins_at_a_time(pub, sub, name, start, begins) -> None:
    stream(pub, name)
    amqp.fill(pub, name, numbers(5))
    # Times are whole seconds in this argument.
    second = int(time.time()) + 1
    eventually(lambda: time.time() >= second + 0.2, what="the next second")
    amqp.fill(pub, name, [b"%d" % i for i in range(5, 9)])
    seconds = {"between": second, "epoch": 0, "tomorrow": second + 86_400}
    at = datetime.datetime.fromtimestamp(seconds.get(start, 0), datetime.UTC)
    consumer = read(sub, name, at if start in seconds else start)
    # What comes now ends the wait of who begins behind all others.
    amqp.fill(pub, name, [b"9"])
    assert offset(consumer.wait(1)[0]) == begins


@pytest.mark.parametrize("how", ["ack", "multiple", "nack", "reject", "requeue"])
def test_whatever_ends_a_delivery_makes_room(pub, sub, name, how) -> None:
    stream(pub, name)
    amqp.fill(pub, name, numbers(30))
    consumer = read(sub, name, "first", prefetch=3)
    for i in range(0, 30, 3):
        batch = [consumer.next() for _ in range(3)]
        assert [message.body for message in batch] == [b"%d" % n for n in range(i, i + 3)]
        consumer.settle()
        assert consumer.messages == []
        if how == "multiple":
            sub.basic_ack(batch[-1].tag, multiple=True)
            continue
        for message in batch:
            match how:
                case "ack":
                    sub.basic_ack(message.tag)
                case "nack":
                    sub.basic_nack(message.tag, requeue=False)
                case "requeue":
                    sub.basic_nack(message.tag, requeue=True)
                case "reject":
                    sub.basic_reject(message.tag, requeue=False)
    assert amqp.counts(pub, name)[0] == 30


def test_properties_and_headers_come_along(pub, sub, name) -> None:
    stream(pub, name)
    properties = pika.BasicProperties(
        content_type="text/plain", headers={"mine": 1}, expiration="1", priority=9
    )
    pub.basic_publish("", name, b"x", properties)
    message = read(sub, name, "first").next()
    assert message.properties.headers == {"mine": 1, "x-stream-offset": 0}
    assert message.properties.content_type == "text/plain"
    # Its own time to live ends nothing.
    assert amqp.counts(pub, name)[0] == 1


def test_large_messages(pub, sub, name) -> None:
    stream(pub, name)
    bodies = [bytes([i]) * (1 << 20) for i in range(12)]
    amqp.fill(pub, name, bodies)
    consumer = read(sub, name, "first", prefetch=2)
    for body in bodies:
        message = consumer.next()
        assert message.body == body
        consumer.ack(message)


def test_more_than_is_in_memory(pub, sub, name) -> None:
    """Fifty megabytes: most of it has been written away when it is read."""
    stream(pub, name)
    body = b"x" * 9990
    amqp.fill(pub, name, [b"%010d" % i + body for i in range(5000)])
    consumer = read(sub, name, "first", prefetch=200)
    for i in range(5000):
        message = consumer.next()
        assert message.body[:10] == b"%010d" % i
        assert offset(message) == i
        consumer.ack(message)
    middle = sub.connection.channel()
    later = read(middle, name, 2500, prefetch=10)
    assert later.next().body[:10] == b"0000002500"


def test_age(pub, sub, name) -> None:
    stream(pub, name, x_max_age="1s")
    amqp.fill(pub, name, numbers(5))
    amqp.wait_ready_count(sub, name, 0)
    amqp.fill(pub, name, [b"young"])
    message = read(sub, name, "first").next()
    assert (message.body, offset(message)) == (b"young", 5)


def test_length(pub, sub, name) -> None:
    stream(pub, name, x_max_length_bytes=1000, x_stream_max_segment_size_bytes=500)
    amqp.fill(pub, name, [b"%04d" % i * 25 for i in range(50)])
    amqp.wait_ready_count(sub, name, 10)
    message = read(sub, name, 0).next()
    assert (message.body[:4], offset(message)) == (b"0040", 40)


def test_filter(pub, sub, name) -> None:
    stream(pub, name)
    for i in range(90):
        headers = {"x-stream-filter-value": "abc"[i % 3]} if i % 10 else None
        pub.basic_publish("", name, b"%d" % i, pika.BasicProperties(headers=headers))
    sub.basic_qos(prefetch_count=5)
    arguments = {"x-stream-offset": "first", "x-stream-filter": "b"}
    consumer = Consumer(sub, name, arguments=arguments)
    expected = [i for i in range(90) if i % 10 and i % 3 == 1]
    for i in expected:
        message = consumer.next()
        assert message.body == b"%d" % i
        consumer.ack(message)


def test_routing_and_transactions(connect, name) -> None:
    """A stream is a queue to exchanges, and to whoever commits."""
    channel = connect(0).channel()
    stream(channel, name)
    channel.exchange_declare(name, "topic")
    channel.queue_bind(name, name, "a.*")
    channel.tx_select()
    channel.basic_publish(name, "a.b", b"1")
    channel.basic_publish(name, "b.b", b"none")
    channel.basic_publish(name, "a.c", b"2")
    channel.tx_commit()
    consumer = read(connect(1).channel(), name, "first")
    consumer.wait(2)
    assert consumer.bodies == [b"1", b"2"]
    channel.exchange_delete(name)


def test_a_dead_letter_may_go_to_a_stream(pub, sub, name) -> None:
    stream(pub, name)
    arguments = {
        "x-dead-letter-exchange": "",
        "x-dead-letter-routing-key": name,
        "x-message-ttl": 1,
    }
    pub.queue_declare(name + "-q", durable=True, arguments=arguments)
    amqp.fill(pub, name + "-q", [b"dead"])
    message = read(sub, name, "first").next()
    assert message.body == b"dead"
    assert message.properties.headers["x-first-death-reason"] == "expired"
    pub.queue_delete(name + "-q")


def test_a_stream_that_is_deleted(pub, sub, name) -> None:
    stream(pub, name)
    consumer = read(sub, name)
    pub.queue_delete(name)
    amqp.pump(consumer.connection, lambda: consumer.cancelled_by_broker, what="a cancellation")
    # Another one of the same name begins anew.
    stream(pub, name)
    amqp.fill(pub, name, [b"x"])
    message = read(sub, name, "first").next()
    assert offset(message) == 0


def test_cancel_and_come_back(pub, sub, name) -> None:
    stream(pub, name)
    amqp.fill(pub, name, numbers(20))
    consumer = read(sub, name, "first", prefetch=5)
    consumer.wait(5)
    consumer.cancel()
    assert amqp.counts(pub, name) == (20, 0)
    again = read(sub, name, 5, prefetch=5)
    again.wait(5)
    assert [offset(message) for message in again.messages] == [5, 6, 7, 8, 9]


def test_redeclared(pub, ch, name) -> None:
    stream(pub, name, x_max_age="1h")
    stream(pub, name, x_max_age="1h")
    text = (
        f"PRECONDITION_FAILED - inequivalent arg 'x-max-age' for queue '{name}' in vhost '/': "
        "received '2h' but current is '1h'"
    )
    with amqp.channel_error(406, text):
        stream(ch, name, x_max_age="2h")


@pytest.mark.parametrize(
    ("properties", "arguments", "text"),
    [
        ({"durable": False}, {}, "invalid property 'non-durable' for queue '{q}' in vhost '/'"),
        ({"exclusive": True}, {}, "invalid property 'exclusive-owner' for queue '{q}' in vhost '/'"),
        ({"auto_delete": True}, {}, "invalid property 'auto-delete' for queue '{q}' in vhost '/'"),
        (
            {},
            {"x-overflow": "reject-publish"},
            "invalid arg 'x-overflow' for queue '{q}' in vhost '/' of queue type rabbit_stream_queue",
        ),
        (
            {},
            {"x-max-length": 5},
            "invalid arg 'x-max-length' for queue '{q}' in vhost '/' of queue type rabbit_stream_queue",
        ),
        (
            {},
            {"x-max-age": "1 day"},
            "invalid arg 'x-max-age' for queue '{q}' in vhost '/': invalid_max_age",
        ),
        ({}, {"x-stream-filter-size-bytes": 256}, "Invalid value for x-stream-filter-size-bytes"),
        (
            {},
            {"x-stream-max-segment-size-bytes": 3_000_000_001},
            "Exceeded max value for x-stream-max-segment-size-bytes",
        ),
    ],
)  # fmt: skip
def test_declarations_that_are_refused(ch, name, properties, arguments, text) -> None:
    with amqp.channel_error(406, "PRECONDITION_FAILED - " + text.format(q=name)):
        ch.queue_declare(name, arguments=STREAM | arguments, **({"durable": True} | properties))


def test_a_stream_needs_a_name(ch) -> None:
    text = "PRECONDITION_FAILED - Cannot declare a server-named queue for type rabbit_stream_queue"
    with amqp.channel_error(406, text):
        ch.queue_declare("", durable=True, arguments=STREAM)


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (
            {"x-priority": 10},
            "invalid arg 'x-priority' for queue '{q}' in vhost '/' of queue type rabbit_stream_queue",
        ),
        (
            {"x-stream-offset": "yesterday"},
            "invalid arg 'x-stream-offset' for queue '{q}' in vhost '/': "
            '{{invalid_stream_offset_arg,{{longstr,<<"yesterday">>}}}}',
        ),
    ],
)  # fmt: skip
def test_consumers_that_are_refused(pub, ch, name, arguments, text) -> None:
    stream(pub, name)
    ch.basic_qos(prefetch_count=1)
    with amqp.channel_error(406, "PRECONDITION_FAILED - " + text.format(q=name)):
        ch.basic_consume(name, lambda *_: None, arguments=arguments)


def test_an_offset_belongs_to_streams(pub, ch, name) -> None:
    pub.queue_declare(name)
    text = (
        f"PRECONDITION_FAILED - invalid arg 'x-stream-offset' for queue '{name}' in vhost '/' "
        "of queue type rabbit_classic_queue"
    )
    with amqp.channel_error(406, text):
        ch.basic_consume(name, lambda *_: None, arguments={"x-stream-offset": "first"})


def test_what_streams_cannot_do(pub, connect, name) -> None:
    stream(pub, name)
    without = connect(0)
    with amqp.channel_error(
        406,
        "PRECONDITION_FAILED - consumer prefetch count is not set for stream "
        f"queue '{name}' in vhost '/'",
    ):
        without.channel().basic_consume(name, lambda *_: None)
    for act, text in [
        (
            lambda channel: channel.basic_get(name),
            f"basic.get not supported by stream queues queue '{name}' in vhost '/'",
        ),
        (
            lambda channel: channel.queue_purge(name),
            f"queue.purge not supported by stream queues queue '{name}' in vhost '/'",
        ),
        (
            lambda channel: channel.basic_consume(name, lambda *_: None, auto_ack=True),
            f"automatic acknowledgement not supported by stream queue '{name}' in vhost '/'",
        ),
    ]:
        connection = connect(0)
        channel = connection.channel()
        channel.basic_qos(prefetch_count=1)
        with amqp.connection_error(540, "NOT_IMPLEMENTED - " + text):
            act(channel)
