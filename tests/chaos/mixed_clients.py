"""Clients that use what plain publishers and consumers do not: transactions, `basic.get`, retry loops, replies."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import pika
from consumer import SETTLE
from ledger import Delivery, Ledger, Stay, identity
from publisher import Publisher
from worker import Worker

from harness import amqp
from harness.node import Node

#: Ends what a relay adds to the identity of a message.
_END = b"|"


@dataclass
class Got(Delivery):
    """A delivery with what its headers and its body say."""

    #: How often it was rejected in its queue before; or, of what a relay has sent, in which attempt.
    turn: int = 0
    #: The channel that got it.
    lane: int = 0


@dataclass
class Attempt:
    """One transaction of a relay."""

    #: `committed`, `rolled back`, or nothing: nobody has said.
    end: str | None = None


@dataclass
class Notes:
    """What the clients of a mixed round know beside the ledger."""

    attempts: dict[int, Attempt] = field(default_factory=dict)
    #: Replies: when the broker had taken them, by address and number.
    answered: dict[tuple[str, int], tuple[float, int]] = field(default_factory=dict)
    #: When they came.
    heard: dict[tuple[str, int], float] = field(default_factory=dict)
    #: Who waited at an address.
    addresses: dict[str, Stay] = field(default_factory=dict)
    numbers: Any = field(default_factory=lambda: itertools.count(1))


class Tagged(Publisher):
    """A publisher whose messages have headers."""

    headers: Callable[[int], dict[str, Any]] | None = None

    def properties(self, sequence: int) -> pika.BasicProperties:
        properties = super().properties(sequence)
        if self.headers is not None:
            properties.headers = self.headers(sequence)
        return properties


class Mixed(Worker):
    """One blocking connection; what it does on it is `use`, again and again."""

    def __init__(
        self,
        name: str,
        nodes: Sequence[Node],
        ledger: Ledger,
        notes: Notes,
        seed: int,
        home: Node | None,
    ) -> None:
        super().__init__(name, nodes, ledger, seed, home)
        self.notes = notes

    def work(self, node: Node, stay: Stay) -> None:
        connection = pika.BlockingConnection(self.parameters(node))
        try:
            self.admitted(stay)
            while not self.stopping.is_set() and stay.reason is None:
                self.use(connection, node, stay)
            connection.close()
        except pika.exceptions.ChannelClosedByBroker as error:
            stay.reason = repr(error)
        finally:
            amqp.drop(connection)

    def use(self, connection: pika.BlockingConnection, node: Node, stay: Stay) -> None:
        raise NotImplementedError

    def note(
        self, queue: str, node: Node, method: Any, properties: Any, body: bytes, lane: int = 0
    ) -> Got:
        session, sequence = identity(body)
        got = Got(
            queue, self.name, node.id, session, sequence, method.redelivered, time.monotonic(),
            turn=turn(queue, properties, body), lane=lane,
        )  # fmt: skip
        self.ledger.deliveries.append(got)
        return got


def turn(queue: str, properties: Any, body: bytes) -> int:
    rest = body.split(_END, 2)
    if len(rest) > 2 and rest[1].isdigit():
        return int(rest[1])
    deaths = (properties.headers or {}).get("x-death") or []
    return sum(d["count"] for d in deaths if d["queue"] == queue and d["reason"] == "rejected")


class Taker(Mixed):
    """Consumes and decides about each message; leaves its channel now and then."""

    def __init__(
        self, *arguments: Any, queue: str, prefetch: int = 20, turns: int = 0,
        consume: dict[str, Any] | None = None, leaves_after: int | None = None,
    ) -> None:  # fmt: skip
        super().__init__(*arguments)
        self.queue, self.prefetch, self.turns = queue, prefetch, turns
        self.arguments, self.leaves_after = consume or {}, leaves_after

    def use(self, connection: pika.BlockingConnection, node: Node, stay: Stay) -> None:
        channel = connection.channel()
        disposed: list[Got] = []
        count, lane = itertools.count(1), next(self.notes.numbers)
        over = False

        def message(channel: Any, method: Any, properties: Any, body: bytes) -> None:
            nonlocal over
            got = self.note(self.queue, node, method, properties, body, lane)
            if got.turn < self.turns:
                channel.basic_reject(method.delivery_tag, requeue=False)
                got.disposal = "dead"
            else:
                channel.basic_ack(method.delivery_tag)
                got.disposal = "ack"
            disposed.append(got)
            over = self.leaves_after is not None and next(count) >= self.leaves_after

        def cancelled(_: Any) -> None:
            nonlocal over
            over = True
            self.complain(node.id, f"the consumer of {self.queue} was cancelled")

        channel.basic_qos(prefetch_count=self.prefetch)
        channel.add_on_cancel_callback(cancelled)
        channel.basic_consume(self.queue, message, arguments=self.arguments)
        settled_at = time.monotonic()
        while not self.stopping.is_set() and not over and channel.is_open:
            connection.process_data_events(time_limit=0.1)
            if time.monotonic() - settled_at > SETTLE and channel.is_open:
                settled_at = settle(channel, self.queue, disposed)
        if channel.is_open:
            settle(channel, self.queue, disposed)
            channel.close()


def settle(channel: Any, queue: str, disposed: list[Got]) -> float:
    """A round trip to the queue: what was disposed of before is settled."""
    done = disposed[:]
    channel.queue_declare(queue, passive=True)
    now = time.monotonic()
    for got in done:
        got.settled = now
    del disposed[: len(done)]
    return now


class Getter(Mixed):
    """Asks for single messages, gives some back, and forgets one in a while until its channel closes."""

    queue = "get"

    def use(self, connection: pika.BlockingConnection, node: Node, stay: Stay) -> None:
        channel = connection.channel()
        disposed: list[Got] = []
        for _ in range(self.rng.randint(20, 200)):
            if self.stopping.is_set():
                break
            method, properties, body = channel.basic_get(self.queue)
            if method is None:
                connection.sleep(0.05)
                continue
            got = self.note(self.queue, node, method, properties, body)
            chance = self.rng.random()
            if chance < 0.05 and not got.redelivered:
                channel.basic_nack(method.delivery_tag, requeue=True)
                got.disposal = "requeue"
            elif chance < 0.08 and not got.redelivered:
                continue  # Held until the channel is closed.
            else:
                channel.basic_ack(method.delivery_tag)
                got.disposal = "ack"
                disposed.append(got)
        settle(channel, self.queue, disposed)
        channel.close()


class Relay(Mixed):
    """Takes from one queue and publishes to another in transactions, some of which it takes back."""

    source, target = "tx-in", "tx-out"

    def use(self, connection: pika.BlockingConnection, node: Node, stay: Stay) -> None:
        channel = connection.channel()
        channel.tx_select()
        channel.basic_qos(prefetch_count=20)
        waiting: list[tuple[int, Got]] = []

        def message(_: Any, method: Any, properties: Any, body: bytes) -> None:
            got = self.note(self.source, node, method, properties, body)
            waiting.append((method.delivery_tag, got))

        channel.basic_consume(self.source, message)
        committed: list[Got] = []
        for _ in range(self.rng.randint(5, 60)):
            connection.process_data_events(time_limit=0.05)
            if self.stopping.is_set() or not channel.is_open:
                break
            count = min(len(waiting), self.rng.randint(1, 10))
            if count == 0:
                continue
            part, waiting[:] = waiting[:count], waiting[count:]
            if not self._move(channel, part):
                break
            committed += [got for _, got in part]
        if channel.is_open:
            settle(channel, self.source, committed)
            channel.close()

    def _move(self, channel: Any, part: list[tuple[int, Got]]) -> bool:
        """Returns whether it was committed."""
        number = next(self.notes.numbers)
        attempt = self.notes.attempts.setdefault(number, Attempt())
        for tag, got in part:
            body = b"%d.%d|%d|" % (got.session, got.sequence, number)
            channel.basic_publish("", self.target, body, amqp.PERSISTENT)
            channel.basic_ack(tag)
        if self.rng.random() < 0.15:
            attempt.end = "rolled back"
            channel.tx_rollback()
            return False
        channel.tx_commit()
        attempt.end = "committed"
        for _, got in part:
            got.disposal = "ack"
        return True


class Asker(Mixed):
    """Asks by way of a durable queue, and hears the answers in an exclusive one."""

    def use(self, connection: pika.BlockingConnection, node: Node, stay: Stay) -> None:
        channel = connection.channel()
        address = channel.queue_declare("", exclusive=True).method.queue
        self.notes.addresses[address] = stay

        def heard(_: Any, __: Any, properties: Any, ___: bytes) -> None:
            self.notes.heard[address, int(properties.correlation_id)] = time.monotonic()

        channel.basic_consume(address, heard, auto_ack=True)
        for number in itertools.count(1):
            if self.stopping.is_set() or not channel.is_open:
                break
            properties = pika.BasicProperties(
                delivery_mode=2, reply_to=address, correlation_id=str(number)
            )
            channel.basic_publish("", "ask", b"?", properties)
            connection.process_data_events(time_limit=0.05)
        connection.process_data_events(time_limit=1)


class Answerer(Mixed):
    """Answers what is asked, with confirms."""

    def use(self, connection: pika.BlockingConnection, node: Node, stay: Stay) -> None:
        channel = amqp.confirmed(connection)
        channel.basic_qos(prefetch_count=10)
        waiting: list[tuple[Any, Any]] = []
        channel.basic_consume(
            "ask", lambda _, method, properties, __: waiting.append((method, properties))
        )
        while not self.stopping.is_set() and channel.is_open:
            connection.process_data_events(time_limit=0.1)
            while waiting and channel.is_open:
                method, properties = waiting.pop(0)
                reply = pika.BasicProperties(correlation_id=properties.correlation_id)
                try:
                    channel.basic_publish("", properties.reply_to, b"!", reply, mandatory=True)
                    key = (properties.reply_to, int(properties.correlation_id))
                    self.notes.answered[key] = (time.monotonic(), node.id)
                except (pika.exceptions.UnroutableError, pika.exceptions.NackError):
                    pass  # Who asked is gone, or the node that had the answers.
                channel.basic_ack(method.delivery_tag)
        if channel.is_open:
            channel.close()
