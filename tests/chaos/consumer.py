"""Consumers with manual acknowledgement, each with a habit of its own."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pika
from ledger import Delivery, Ledger, Stay, dead, identity
from worker import Worker

from harness import amqp
from harness.node import Node

#: Seconds between the round trips after which a disposal counts as settled.
SETTLE = 2.0


@dataclass(frozen=True)
class Habit:
    """How a consumer deals with what it gets."""

    prefetch: int
    #: Acknowledges so many at a time.
    multiple: int = 1
    #: Sends every seventh message back when it sees it first.
    requeue: bool = False
    #: Closes its channel after so many deliveries, with some in its hands.
    leaves_after: int | None = None


HABITS = [
    Habit(prefetch=20),
    Habit(prefetch=100, multiple=17),
    Habit(prefetch=50, requeue=True),
    Habit(prefetch=1),
    Habit(prefetch=60, multiple=25, requeue=True, leaves_after=300),
]


class Consumer(Worker):
    """Consumes `queue`. `rejects`: messages that are `dead` go to the dead letter target.

    `transient`: it declares the queue, which may vanish.
    """

    def __init__(
        self,
        name: str,
        nodes: Sequence[Node],
        ledger: Ledger,
        seed: int,
        queue: str,
        habit: Habit,
        *,
        rejects: bool = False,
        transient: bool = False,
        home: Node | None = None,
    ) -> None:
        super().__init__(name, nodes, ledger, seed, home)
        self.queue, self.habit = queue, habit
        self.rejects, self.local = rejects, transient
        self.count = 0

    def work(self, node: Node, stay: Stay) -> None:
        connection = pika.BlockingConnection(self.parameters(node))
        try:
            self.admitted(stay)
            while not self.stopping.is_set() and stay.reason is None:
                _Channel(self, connection, node, stay).run()
            connection.close()
        finally:
            amqp.drop(connection)


class _Channel:
    """One channel with its consumer."""

    def __init__(
        self, consumer: Consumer, connection: pika.BlockingConnection, node: Node, stay: Stay
    ) -> None:
        self.consumer, self.connection, self.node, self.stay = consumer, connection, node, stay
        self.habit = consumer.habit
        self.channel = connection.channel()
        self.count = 0
        self.cancelled = False
        self._held: list[tuple[int, Delivery]] = []  # To be acknowledged together.
        self._disposed: list[Delivery] = []  # Not known to be settled.
        self._settled_at = time.monotonic()

    def run(self) -> None:
        try:
            if self.consumer.local:
                self.channel.queue_declare(self.consumer.queue)
            self.channel.basic_qos(prefetch_count=self.habit.prefetch)
            self.channel.add_on_cancel_callback(self._cancel)
            self.channel.basic_consume(self.consumer.queue, self._message)
            while not self._finished():
                self.connection.process_data_events(time_limit=0.1)
                if time.monotonic() - self._settled_at > SETTLE and self.channel.is_open:
                    self._settle()
            if self.channel.is_open:
                if self.consumer.stopping.is_set():
                    self._settle()
                self.channel.close()
        except pika.exceptions.ChannelClosedByBroker as error:
            self.stay.reason = repr(error)

    def _finished(self) -> bool:
        leaves = self.habit.leaves_after is not None and self.count >= self.habit.leaves_after
        return (
            self.consumer.stopping.is_set() or self.cancelled or leaves or not self.channel.is_open
        )

    def _cancel(self, _: Any) -> None:
        self.cancelled = True
        if not self.consumer.local:
            self.consumer.complain(
                self.node.id, f"the consumer of {self.consumer.queue} was cancelled"
            )

    def _message(self, channel: Any, method: Any, _: Any, body: bytes) -> None:
        session, sequence = identity(body)
        delivery = Delivery(
            self.consumer.queue, self.consumer.name, self.node.id, session, sequence,
            method.redelivered, time.monotonic(),
        )  # fmt: skip
        self.consumer.ledger.deliveries.append(delivery)
        self.count += 1
        self.consumer.count += 1
        tag = method.delivery_tag
        if self.consumer.rejects and dead(sequence):
            channel.basic_reject(tag, requeue=False)
            self._dispose(delivery, "dead")
        elif self.habit.requeue and not method.redelivered and sequence % 7 == 0:
            back = channel.basic_nack if sequence % 2 else channel.basic_reject
            back(tag, requeue=True)
            self._dispose(delivery, "requeue")
        elif self.habit.multiple > 1:
            self._held.append((tag, delivery))
            if len(self._held) >= self.habit.multiple:
                self._acknowledge_held()
        else:
            channel.basic_ack(tag)
            self._dispose(delivery, "ack")

    def _dispose(self, delivery: Delivery, disposal: str) -> None:
        delivery.disposal = disposal
        self._disposed.append(delivery)

    def _acknowledge_held(self) -> None:
        if self._held:
            self.channel.basic_ack(self._held[-1][0], multiple=True)
            for _, delivery in self._held:
                self._dispose(delivery, "ack")
            self._held.clear()

    def _settle(self) -> None:
        """A round trip to the queue, which has dealt with all that was sent before."""
        self._acknowledge_held()
        disposed, self._disposed = self._disposed, []
        self.channel.queue_declare(self.consumer.queue, passive=True)
        self._settled_at = time.monotonic()
        for delivery in disposed:
            delivery.settled = self._settled_at
