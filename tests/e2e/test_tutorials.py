"""The six tutorial programs that everybody starts with, producer and consumer on different nodes.

Each is played twice: with pika's BlockingConnection and with its SelectConnection.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable
from typing import Any

import pika
import pytest

from harness import amqp
from harness.amqp import Consumer
from harness.broker import Broker
from harness.wait import SOON

# --- BlockingConnection ------------------------------------------------------------------------


def test_hello_world(connect, name) -> None:
    sender = connect(0).channel()
    sender.queue_declare(queue=name)
    receiver = connect(1).channel()
    receiver.queue_declare(queue=name)
    consumer = Consumer(receiver, name, auto_ack=True)
    sender.basic_publish(exchange="", routing_key=name, body="Hello World!")
    assert consumer.next().body == b"Hello World!"


def test_work_queue_is_fair_and_redelivers(connect, name) -> None:
    """A slow worker holds one task; the other does the rest; a lost worker's task comes back."""
    sender = amqp.confirmed(connect(0))
    sender.queue_declare(queue=name, durable=True)
    slow_connection = connect(1)
    slow_channel, quick_channel = slow_connection.channel(), connect(2).channel()
    for channel in (slow_channel, quick_channel):
        channel.basic_qos(prefetch_count=1)
    slow, quick = Consumer(slow_channel, name), Consumer(quick_channel, name)
    tasks = [f"task {i}".encode() for i in range(20)]
    amqp.fill(sender, name, tasks)
    held = slow.next()
    done = []
    while len(done) < len(tasks) - 1:
        task = quick.next()
        assert not task.redelivered
        done.append(task.body)
        quick.ack(task)
    assert sorted([*done, held.body]) == sorted(tasks)
    assert slow.messages == []

    slow_connection.close()
    again = quick.next()
    assert again.body == held.body
    assert again.redelivered
    quick.ack(again)
    amqp.wait_ready_count(sender, name, 0)


def test_publish_subscribe(connect, name) -> None:
    sender = connect(0).channel()
    sender.exchange_declare(exchange=name, exchange_type="fanout")
    consumers = []
    for node in (1, 2):
        channel = connect(node).channel()
        queue = channel.queue_declare(queue="", exclusive=True).method.queue
        channel.queue_bind(exchange=name, queue=queue)
        consumers.append(Consumer(channel, queue, auto_ack=True))
    sender.basic_publish(exchange=name, routing_key="", body=b"to all")
    assert [c.next().body for c in consumers] == [b"to all", b"to all"]


def test_routing(connect, name) -> None:
    sender = connect(0).channel()
    sender.exchange_declare(exchange=name, exchange_type="direct")
    consumers = {}
    for node, keys in ((1, ["error"]), (2, ["info", "warning", "error"])):
        channel = connect(node).channel()
        queue = channel.queue_declare(queue="", exclusive=True).method.queue
        for key in keys:
            channel.queue_bind(exchange=name, queue=queue, routing_key=key)
        consumers[node] = Consumer(channel, queue, auto_ack=True)
    for key in ("info", "debug", "error"):
        sender.basic_publish(exchange=name, routing_key=key, body=key.encode())
    assert [m.body for m in consumers[2].wait(2)] == [b"info", b"error"]
    assert [m.body for m in consumers[1].wait(1)] == [b"error"]


def test_topics(connect, name) -> None:
    sender = connect(2).channel()
    sender.exchange_declare(exchange=name, exchange_type="topic")
    consumers = {}
    for node, patterns in ((0, ["*.orange.*"]), (1, ["*.*.rabbit", "lazy.#"])):
        channel = connect(node).channel()
        queue = channel.queue_declare(queue="", exclusive=True).method.queue
        for pattern in patterns:
            channel.queue_bind(exchange=name, queue=queue, routing_key=pattern)
        consumers[node] = Consumer(channel, queue, auto_ack=True)
    for key in (
        "quick.orange.rabbit",
        "lazy.orange.elephant",
        "quick.orange.fox",
        "lazy.brown.fox",
        "lazy.pink.rabbit",
        "quick.brown.fox",
        "orange",
        "lazy",
    ):
        sender.basic_publish(exchange=name, routing_key=key, body=key.encode())
    assert [m.body for m in consumers[0].wait(3)] == [
        b"quick.orange.rabbit",
        b"lazy.orange.elephant",
        b"quick.orange.fox",
    ]
    assert [m.body for m in consumers[1].wait(5)] == [
        b"quick.orange.rabbit",
        b"lazy.orange.elephant",
        b"lazy.brown.fox",
        b"lazy.pink.rabbit",
        b"lazy",
    ]


def test_rpc(connect, name) -> None:
    """The Fibonacci server on one node, its caller on another."""

    def fib(n: int) -> int:
        a, b = 0, 1
        for _ in range(n):
            a, b = b, a + b
        return a

    server_connection = connect(0)
    server = server_connection.channel()
    server.queue_declare(queue=name)
    server.basic_qos(prefetch_count=1)

    def on_request(channel: Any, method: Any, properties: Any, body: bytes) -> None:
        channel.basic_publish(
            exchange="",
            routing_key=properties.reply_to,
            properties=pika.BasicProperties(correlation_id=properties.correlation_id),
            body=str(fib(int(body))),
        )
        channel.basic_ack(method.delivery_tag)

    server.basic_consume(queue=name, on_message_callback=on_request)

    client = connect(1).channel()
    callback_queue = client.queue_declare(queue="", exclusive=True).method.queue
    replies = Consumer(client, callback_queue, auto_ack=True)
    for n in (1, 10, 30):
        correlation_id = str(uuid.uuid4())
        client.basic_publish(
            exchange="",
            routing_key=name,
            properties=pika.BasicProperties(reply_to=callback_queue, correlation_id=correlation_id),
            body=str(n),
        )

        def answered() -> bool:
            server_connection.process_data_events(time_limit=0)
            return bool(replies.messages)

        amqp.pump(client.connection, answered, SOON, f"fib({n})")
        reply = replies.next()
        assert reply.properties.correlation_id == correlation_id
        assert int(reply.body) == fib(n)


# --- SelectConnection --------------------------------------------------------------------------


class Script:
    """Runs a SelectConnection until the script says that it is done."""

    def __init__(self, port: int, on_channel: Callable[[Script, Any], None]) -> None:
        self.on_channel = on_channel
        self.failure: str | None = None
        self.finished = False
        self.received: list[bytes] = []
        self.connection = pika.SelectConnection(
            amqp.parameters(port),
            on_open_callback=lambda c: c.channel(on_open_callback=lambda ch: on_channel(self, ch)),
            on_open_error_callback=lambda c, error: self._end(repr(error)),
            on_close_callback=lambda c, reason: self._end(None if self.finished else repr(reason)),
        )

    def done(self) -> None:
        self.finished = True
        self.connection.close()

    def _end(self, failure: str | None) -> None:
        self.failure = failure
        self.connection.ioloop.stop()

    def run(self) -> Script:
        self.connection.ioloop.call_later(SOON, lambda: self._end("out of time"))
        self.connection.ioloop.start()
        assert self.failure is None, self.failure
        assert self.finished
        return self


def _publish_with_confirms(
    exchange: str, messages: list[tuple[str, bytes]], properties: pika.BasicProperties | None = None
) -> Callable[[Script, Any], None]:
    def on_channel(script: Script, channel: Any) -> None:
        settled = 0

        def on_answer(frame: Any) -> None:
            nonlocal settled
            assert isinstance(frame.method, pika.spec.Basic.Ack), frame
            tag = frame.method.delivery_tag
            settled = tag if frame.method.multiple else settled + 1
            if settled == len(messages):
                script.done()

        def on_selected(_: Any) -> None:
            for key, body in messages:
                channel.basic_publish(exchange, key, body, properties)

        channel.confirm_delivery(ack_nack_callback=on_answer, callback=on_selected)

    return on_channel


def _consume(queue: str, count: int) -> Callable[[Script, Any], None]:
    def on_channel(script: Script, channel: Any) -> None:
        def on_message(channel: Any, method: Any, properties: Any, body: bytes) -> None:
            script.received.append(body)
            channel.basic_ack(method.delivery_tag)
            if len(script.received) == count:
                script.done()

        channel.basic_qos(
            prefetch_count=10,
            callback=lambda _: channel.basic_consume(queue, on_message_callback=on_message),
        )

    return on_channel


def test_select_hello_world(broker: Broker, ch, name) -> None:
    ch.queue_declare(queue=name)
    Script(broker.port(0), _publish_with_confirms("", [(name, b"Hello World!")])).run()
    assert Script(broker.port(1), _consume(name, 1)).run().received == [b"Hello World!"]


def test_select_work_queue(broker: Broker, ch, name) -> None:
    ch.queue_declare(queue=name, durable=True)
    tasks = [f"task {i}".encode() for i in range(100)]
    Script(
        broker.port(0),
        _publish_with_confirms("", [(name, task) for task in tasks], amqp.PERSISTENT),
    ).run()
    assert Script(broker.port(1), _consume(name, len(tasks))).run().received == tasks
    amqp.wait_ready_count(ch, name, 0)


@pytest.mark.parametrize(
    ("kind", "bindings", "published", "expected"),
    [
        ("fanout", [""], ["a", "b"], [b"a", b"b"]),
        ("direct", ["error"], ["info", "error"], [b"error"]),
        (
            "topic",
            ["kern.*"],
            ["kern.info", "mail.info", "kern.error"],
            [b"kern.info", b"kern.error"],
        ),
    ],
)
def test_select_exchanges(broker: Broker, ch, name, kind, bindings, published, expected) -> None:
    """Publish/subscribe, routing and topics."""
    ch.exchange_declare(exchange=name, exchange_type=kind)
    ch.queue_declare(queue=name)
    for key in bindings:
        ch.queue_bind(queue=name, exchange=name, routing_key=key)
    messages = [(key, key.encode()) for key in published]
    Script(broker.port(2), _publish_with_confirms(name, messages)).run()
    assert Script(broker.port(1), _consume(name, len(expected))).run().received == expected


def test_select_rpc(broker: Broker, connect, name) -> None:
    server_channel = connect(0).channel()
    server_channel.queue_declare(queue=name)
    server = Consumer(server_channel, name, auto_ack=True)

    def on_channel(script: Script, channel: Any) -> None:
        def on_reply(channel: Any, method: Any, properties: Any, body: bytes) -> None:
            assert properties.correlation_id == "42"
            script.received.append(body)
            script.done()

        def on_queue(frame: Any) -> None:
            queue = frame.method.queue
            channel.basic_consume(queue, on_message_callback=on_reply, auto_ack=True)
            channel.basic_publish(
                "",
                name,
                b"question",
                pika.BasicProperties(reply_to=queue, correlation_id="42"),
            )
            serve(script)

        def serve(script: Script) -> None:
            server_channel.connection.process_data_events(time_limit=0)
            if server.messages:
                request = server.next()
                server_channel.basic_publish(
                    "",
                    request.properties.reply_to,
                    b"answer to " + request.body,
                    pika.BasicProperties(correlation_id=request.properties.correlation_id),
                )
            else:
                script.connection.ioloop.call_later(0.01, lambda: serve(script))

        channel.queue_declare(queue="", exclusive=True, callback=on_queue)

    assert Script(broker.port(1), on_channel).run().received == [b"answer to question"]
