"""Publishers with confirms, many messages under way at a time."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import pika
from ledger import Ledger, Publish, Session, Stay, priority
from worker import Worker

from harness.node import Node

#: Messages without an answer.
WINDOW = 300
TICK = 0.02


class Publisher(Worker):
    """Publishes at a steady rate; `targets` are the queues that its messages reach."""

    def __init__(
        self,
        name: str,
        nodes: Sequence[Node],
        ledger: Ledger,
        seed: int,
        *,
        exchange: str,
        routing_key: str,
        targets: tuple[str, ...],
        rate: float,
        mandatory: bool = True,
        home: Node | None = None,
    ) -> None:
        super().__init__(name, nodes, ledger, seed, home)
        self.exchange, self.routing_key, self.targets = exchange, routing_key, targets
        self.rate, self.mandatory = rate, mandatory
        self.local = not targets

    def work(self, node: Node, stay: Stay) -> None:
        _Channel(self, node, stay).run()

    def properties(self, sequence: int) -> pika.BasicProperties:
        """Of the message with this number."""
        return pika.BasicProperties(delivery_mode=2, priority=priority(sequence))


class _Channel:
    """One connection with its channel, driven by pika's loop."""

    def __init__(self, publisher: Publisher, node: Node, stay: Stay) -> None:
        self.publisher, self.node, self.stay = publisher, node, stay
        self.session: Session | None = None
        self.channel: Any = None
        self.blocked = False
        self._open = 1  # The lowest tag without an answer.
        self._unanswered = 0
        self._due = 0.0
        self.connection = pika.SelectConnection(
            publisher.parameters(node), self._opened, self._not_opened, self._closed
        )

    def run(self) -> None:
        try:
            self.connection.ioloop.start()
        finally:
            self.connection.ioloop.close()

    def _opened(self, connection: Any) -> None:
        self.publisher.admitted(self.stay)
        connection.add_on_connection_blocked_callback(lambda *_: self._set_blocked(True))
        connection.add_on_connection_unblocked_callback(lambda *_: self._set_blocked(False))
        connection.channel(on_open_callback=self._channel_opened)

    def _not_opened(self, _: Any, error: Any) -> None:
        self.stay.reason = repr(error)
        self.connection.ioloop.stop()

    def _closed(self, _: Any, reason: Any) -> None:
        if not isinstance(reason, pika.exceptions.ConnectionClosedByClient):
            self.stay.reason = self.stay.reason or repr(reason)
        self.connection.ioloop.stop()

    def _set_blocked(self, blocked: bool) -> None:
        self.blocked = blocked

    def _channel_opened(self, channel: Any) -> None:
        self.channel = channel
        channel.add_on_close_callback(self._channel_closed)
        channel.add_on_return_callback(self._returned)
        channel.confirm_delivery(self._answered, callback=self._begin)

    def _channel_closed(self, _: Any, reason: Any) -> None:
        if isinstance(reason, pika.exceptions.ChannelClosedByBroker):
            self.stay.reason = repr(reason)
            if self.connection.is_open:
                self.connection.close()

    def _returned(self, _: Any, method: Any, __: Any, ___: bytes) -> None:
        self.publisher.complain(self.node.id, f"a message was returned: {method.reply_text}")

    def _begin(self, _: Any) -> None:
        self.session = self.publisher.ledger.session(self.stay, self.publisher.targets)
        self._tick()

    def _tick(self) -> None:
        if not self.connection.is_open or not self.channel.is_open:
            return
        if self.publisher.stopping.is_set():
            if self._unanswered == 0 or self.publisher.given_up.is_set():
                self.connection.close()
                return
        elif not self.blocked:
            self._due = min(self._due + self.publisher.rate * TICK, WINDOW)
            while self._due >= 1 and self._unanswered < WINDOW:
                self._due -= 1
                self._publish()
        self.connection.ioloop.call_later(TICK, self._tick)

    def _publish(self) -> None:
        assert self.session is not None
        sequence = len(self.session.publishes) + 1
        size = (
            100_000 if self.publisher.rng.random() < 0.003 else self.publisher.rng.randint(0, 1500)
        )
        properties = self.publisher.properties(sequence)
        self.session.publishes.append(Publish(time.monotonic()))
        self._unanswered += 1
        self.channel.basic_publish(
            self.publisher.exchange,
            self.publisher.routing_key,
            self.session.body(sequence, size),
            properties,
            mandatory=self.publisher.mandatory,
        )

    def _answered(self, frame: Any) -> None:
        assert self.session is not None
        now = time.monotonic()
        method = frame.method
        outcome = "ack" if isinstance(method, pika.spec.Basic.Ack) else "nack"
        publishes = self.session.publishes
        if method.delivery_tag > len(publishes):
            self.publisher.complain(self.node.id, f"an answer to {method.delivery_tag}, never sent")
            return
        first = self._open if method.multiple else method.delivery_tag
        for publish in publishes[first - 1 : method.delivery_tag]:
            if publish.outcome is None:
                publish.outcome, publish.answered = outcome, now
                self._unanswered -= 1
            elif not method.multiple:
                self.publisher.complain(
                    self.node.id, f"a second answer to {self.session.number}.{first}"
                )
        while self._open <= len(publishes) and publishes[self._open - 1].outcome is not None:
            self._open += 1
