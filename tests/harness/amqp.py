"""pika with deadlines, and the words in which the tests speak about AMQP."""

from __future__ import annotations

import base64
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pika
import pytest
from pika.adapters.blocking_connection import BlockingChannel
from pika.adapters.utils.connection_workflow import AMQPConnectorException
from pika.exceptions import ChannelClosedByBroker, ConnectionClosedByBroker

from harness.wait import SOON, bound, eventually

#: What connecting may raise; pika's time-out is not among its other errors.
CONNECT_ERRORS = (pika.exceptions.AMQPError, AMQPConnectorException, OSError)

PERSISTENT = pika.BasicProperties(delivery_mode=2)


def parameters(port: int, **changes: Any) -> pika.ConnectionParameters:
    user = changes.pop("user", "guest")
    password = changes.pop("password", "guest")
    options: dict[str, Any] = {
        "host": "127.0.0.1",
        "credentials": pika.PlainCredentials(user, password),
        "socket_timeout": bound(20),
        "stack_timeout": bound(30),
        "heartbeat": 60,
    }
    options.update(changes)
    return pika.ConnectionParameters(port=port, **options)


def url(port: int) -> str:
    """For libraries that want an address."""
    return f"amqp://guest:guest@127.0.0.1:{port}/"


def connect(port: int, **changes: Any) -> pika.BlockingConnection:
    return pika.BlockingConnection(parameters(port, **changes))


def drop(connection: pika.BlockingConnection) -> None:
    """Closes the socket without a word, as a client does that dies."""
    transport = getattr(connection._impl, "_transport", None)
    raw = getattr(transport, "_sock", None)
    if raw is not None:
        try:
            raw.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass  # Closed already.


@contextmanager
def channel_error(code: int, text: str | None = None, starts: str | None = None) -> Iterator[Any]:
    """The block must make the broker close the channel with this code and this exact text."""
    with pytest.raises(ChannelClosedByBroker) as caught:
        yield caught
    _compare(caught.value, code, text, starts)


@contextmanager
def connection_error(
    code: int, text: str | None = None, starts: str | None = None
) -> Iterator[Any]:
    """The same for the connection."""
    with pytest.raises(ConnectionClosedByBroker) as caught:
        yield caught
    _compare(caught.value, code, text, starts)


def _compare(error: Any, code: int, text: str | None, starts: str | None) -> None:
    assert error.reply_code == code, error
    if text is not None:
        assert error.reply_text == text
    if starts is not None:
        assert error.reply_text.startswith(starts), error.reply_text


def sync(channel: BlockingChannel) -> None:
    """A round trip: whatever was sent before has been dealt with, an error of it surfaces here."""
    channel.exchange_declare("amq.direct", passive=True)


@dataclass
class Delivered:
    """A message as a consumer or a get received it."""

    method: Any
    properties: pika.BasicProperties
    body: bytes

    @property
    def tag(self) -> int:
        return self.method.delivery_tag

    @property
    def redelivered(self) -> bool:
        return self.method.redelivered


class Consumer:
    """A consumer that collects what it gets, in order."""

    def __init__(self, channel: BlockingChannel, queue: str, **consume: Any) -> None:
        self.channel = channel
        self.queue = queue
        self.connection = channel.connection
        self.messages: list[Delivered] = []
        self.cancelled_by_broker = False
        channel.add_on_cancel_callback(self._on_cancel)
        self.tag = channel.basic_consume(queue, self._on_message, **consume)

    def _on_message(self, channel: Any, method: Any, properties: Any, body: bytes) -> None:
        self.messages.append(Delivered(method, properties, body))

    def _on_cancel(self, frame: Any) -> None:
        if frame.method.consumer_tag == self.tag:
            self.cancelled_by_broker = True

    @property
    def bodies(self) -> list[bytes]:
        return [m.body for m in self.messages]

    def wait(self, count: int, timeout: float = SOON) -> list[Delivered]:
        """Until `count` messages in all have arrived."""
        pump(self.connection, lambda: len(self.messages) >= count, timeout,
             lambda: f"{count} deliveries (got {len(self.messages)}: {self.bodies[:20]})")  # fmt: skip
        return self.messages

    def next(self, timeout: float = SOON) -> Delivered:
        """The oldest message not yet taken by `next`."""
        self.wait(1, timeout)
        return self.messages.pop(0)

    def settle(self) -> None:
        """A round trip to the queue: what it had handed to this consumer has arrived."""
        counts(self.channel, self.queue)
        self.connection.process_data_events(time_limit=0)

    def ack(self, message: Delivered, **options: Any) -> None:
        self.channel.basic_ack(message.tag, **options)

    def cancel(self) -> None:
        self.channel.basic_cancel(self.tag)


def pump(
    connection: pika.BlockingConnection,
    done: Callable[[], Any],
    timeout: float = SOON,
    what: Callable[[], str] | str = "condition",
) -> None:
    """Lets `connection` work until `done()`."""
    deadline = time.monotonic() + timeout
    while not done():
        if time.monotonic() > deadline:
            raise AssertionError(
                f"not within {timeout:.0f} s: {what if isinstance(what, str) else what()}"
            )
        connection.process_data_events(time_limit=0.05)


def get(
    channel: BlockingChannel, queue: str, auto_ack: bool = False, timeout: float = SOON
) -> Delivered:
    """The next message by basic.get, waiting for one."""

    def once() -> Delivered | None:
        method, properties, body = channel.basic_get(queue, auto_ack=auto_ack)
        return Delivered(method, properties, body) if method is not None else None

    return eventually(once, timeout, f"a message in '{queue}'")


def get_all(channel: BlockingChannel, queue: str, count: int) -> list[bytes]:
    """Bodies of the next `count` messages, settled; then the queue has to be empty."""
    bodies = [get(channel, queue, auto_ack=True).body for _ in range(count)]
    method, _, body = channel.basic_get(queue)
    assert method is None, f"one more than {count} in '{queue}': {body[:100]!r}"
    return bodies


def counts(channel: BlockingChannel, queue: str) -> tuple[int, int]:
    """Ready messages and consumers, by a passive declare."""
    method = channel.queue_declare(queue, passive=True).method
    return method.message_count, method.consumer_count


def wait_ready_count(channel: BlockingChannel, queue: str, count: int) -> None:
    def reached() -> bool:
        now = counts(channel, queue)[0]
        assert now == count, f"{now} ready messages in '{queue}', expected {count}"
        return True

    eventually(reached, what=f"{count} ready messages in '{queue}'")


def wait_consumer_count(channel: BlockingChannel, queue: str, count: int) -> None:
    def reached() -> bool:
        now = counts(channel, queue)[1]
        assert now == count, f"{now} consumers of '{queue}', expected {count}"
        return True

    eventually(reached, what=f"{count} consumers of '{queue}'")


def confirmed(connection: pika.BlockingConnection) -> BlockingChannel:
    """A channel on which `basic_publish` returns when the broker has the message."""
    channel = connection.channel()
    channel.confirm_delivery()
    return channel


def fill(channel: BlockingChannel, queue: str, bodies: list[bytes], **properties: Any) -> None:
    """Publishes persistent messages to `queue` by the default exchange."""
    properties.setdefault("delivery_mode", 2)
    for body in bodies:
        channel.basic_publish("", queue, body, pika.BasicProperties(**properties))


def is_generated(name: str, prefix: str) -> bool:
    """Whether `name` is `prefix` and 16 bytes in base64url without padding."""
    if not name.startswith(prefix):
        return False
    rest = name[len(prefix) :]
    return len(rest) == 22 and len(base64.urlsafe_b64decode(rest + "==")) == 16
