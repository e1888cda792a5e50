"""Checked load: producers and consumers that know what they did, and the verdict over both.

Frames by hand and threads, because thousands of messages a second have to leave most of a small
machine to the broker under test. Every body begins with the publisher's number and a sequence
number, so that loss, doubling and disorder can be named exactly.
"""

from __future__ import annotations

import socket
import struct
import threading
import time
from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any

from pika import spec

from harness import wire
from harness.wait import SOON, eventually

_IDENTITY = struct.Struct(">QQ")
#: content-type absent, delivery-mode 2.
_PERSISTENT_PROPERTIES = b"\x10\x00\x02"


def gaps(times: list[float], begin: float, end: float) -> float:
    """The longest time without an event between `begin` and `end`."""
    inside = [begin, *[t for t in times if begin < t < end], end]
    return max(b - a for a, b in zip(inside, inside[1:]))


class _Thread:
    """A thread whose failure reaches the test."""

    def __init__(self, name: str) -> None:
        self.error: BaseException | None = None
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._guarded, name=name, daemon=True)

    def _guarded(self) -> None:
        try:
            self._run()
        except BaseException as error:  # noqa: BLE001 - told to the test by `check`.
            self.error = error

    def _run(self) -> None:
        raise NotImplementedError

    def check(self) -> None:
        if self.error is not None:
            raise AssertionError(f"{self._thread.name}: {self.error!r}") from self.error


class Producer(_Thread):
    """Publishes at a steady rate with confirms, at most `window` unconfirmed."""

    def __init__(
        self,
        port: int,
        routing_key: str,
        *,
        exchange: str = "",
        number: int = 1,
        rate: float = 500,
        window: int = 2000,
        size: int = 256,
    ) -> None:
        super().__init__(f"producer {number}")
        self.number = number
        self.rate, self.window = rate, window
        self.sent = 0
        self.confirmed: set[int] = set()
        self.nacked: set[int] = set()
        self.confirm_times: list[float] = []
        self.send_times: list[float] = []
        self.closed: Any = None
        self.state = threading.Condition()
        self._open = 1  # The lowest tag without an answer.
        self._early: set[int] = set()  # Answered tags above it.
        self._padding = bytes(max(0, size - _IDENTITY.size))
        self._peer = wire.Peer(port).open().open_channel(1)
        self._peer.method(1, spec.Confirm.Select())
        self._peer.expect(spec.Confirm.SelectOk, 1)
        publish = spec.Basic.Publish(exchange=exchange, routing_key=routing_key)
        body_size = _IDENTITY.size + len(self._padding)
        self._prefix = wire.method_frame(1, publish) + wire.frame(
            wire.HEADER, 1, struct.pack(">HHQ", 60, 0, body_size) + _PERSISTENT_PROPERTIES
        )
        self._prefix += struct.pack(">BHI", wire.BODY, 1, body_size)
        self._suffix = self._padding + b"\xce"
        self._reader = threading.Thread(
            target=self._read_confirms, name=f"confirms {number}", daemon=True
        )

    def start(self) -> Producer:
        self._reader.start()
        self._thread.start()
        return self

    @property
    def unanswered(self) -> int:
        return self.sent - len(self.confirmed) - len(self.nacked)

    def _run(self) -> None:
        start = time.monotonic()
        while not self._stop.is_set() and self.closed is None:
            with self.state:
                due = int((time.monotonic() - start) * self.rate) + 1 - self.sent
                count = min(due, self.window - self.unanswered, 500)
                if count <= 0:
                    if due > 1000:
                        # Held up by the window: do not make up for it in a burst.
                        start += (due - 1) / self.rate
                    self.state.wait(0.004)
                    continue
                first = self.sent + 1
                self.sent += count
            parts = []
            for sequence in range(first, first + count):
                parts += [self._prefix, _IDENTITY.pack(self.number, sequence), self._suffix]
            try:
                self._peer.send(b"".join(parts))
            except (wire.Closed, OSError):
                if self.closed is None:
                    self.closed = "tcp"
                return
            time.sleep(0.002)  # Pacing only: several messages to a packet.

    def _read_confirms(self) -> None:
        try:
            while True:
                frame = self._peer.receive(timeout=3600)
                if frame.kind == wire.HEARTBEAT:
                    continue
                method = frame.method
                if isinstance(method, (spec.Basic.Ack, spec.Basic.Nack)):
                    self._answer(method)
                else:
                    self.closed = method
                    return
        except (wire.Closed, OSError, TimeoutError):
            if self.closed is None:
                self.closed = "tcp"
        except BaseException as error:  # noqa: BLE001
            self.error = error
            self.closed = self.closed or "error"

    def _answer(self, method: Any) -> None:
        into = self.confirmed if isinstance(method, spec.Basic.Ack) else self.nacked
        with self.state:
            tag = method.delivery_tag
            assert tag <= self.sent, f"an answer to {tag}, which was never published"
            if method.multiple:
                tags = [t for t in range(self._open, tag + 1) if t not in self._early]
            else:
                assert tag >= self._open and tag not in self._early, f"a second answer to {tag}"
                tags = [tag]
            into.update(tags)
            self._early.update(tags)
            while self._open in self._early:
                self._early.remove(self._open)
                self._open += 1
            if into is self.confirmed:
                self.confirm_times.append(time.monotonic())
            self.state.notify()

    def stop(self, timeout: float = SOON) -> None:
        """Stops publishing and waits until everything sent is answered."""
        self._stop.set()
        self._thread.join(timeout)
        self.check()

        def answered() -> bool:
            if self.closed is not None:
                raise RuntimeError(f"producer {self.number} lost its channel: {self.closed!r}")
            assert self.unanswered == 0, (
                f"{self.unanswered} of {self.sent} publishes without answer"
            )
            return True

        eventually(answered, timeout, f"answers to producer {self.number}")

    def wait_confirmed(self, more: int, timeout: float = SOON) -> None:
        """Until `more` further messages are confirmed: the load flows."""
        target = len(self.confirmed) + more

        def reached() -> bool:
            self.check()
            if self.closed is not None:
                raise RuntimeError(f"producer {self.number} lost its channel: {self.closed!r}")
            return len(self.confirmed) >= target

        eventually(reached, timeout, f"{more} more confirms for producer {self.number}")

    def close(self) -> None:
        self._stop.set()
        try:
            self._peer.socket.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
        self._peer.socket.close()


@dataclass
class Arrival:
    """One delivery of one message."""

    sequence: int
    redelivered: bool
    time: float


class ConsumerLoad(_Thread):
    """Consumes with manual acknowledgement, in batches."""

    def __init__(self, port: int, queue: str, *, prefetch: int = 200, ack: bool = True) -> None:
        super().__init__(f"consumer of {queue}")
        self.arrivals: dict[int, list[Arrival]] = defaultdict(list)
        self.times: list[float] = []
        self.closed: Any = None
        self.cancelled = False
        self.count = 0
        self._ack = ack
        self._peer = wire.Peer(port).open().open_channel(1)
        self._peer.method(1, spec.Basic.Qos(prefetch_count=prefetch))
        self._peer.expect(spec.Basic.QosOk, 1)
        self._peer.method(1, spec.Basic.Consume(queue=queue, consumer_tag="load"))
        self._peer.expect(spec.Basic.ConsumeOk, 1)

    def start(self) -> ConsumerLoad:
        self._thread.start()
        return self

    def _run(self) -> None:
        peer = self._peer
        tag, redelivered = 0, False
        unacked = 0
        try:
            while not self._stop.is_set():
                frame = peer.receive(timeout=3600)
                if frame.kind == wire.BODY:
                    number, sequence = _IDENTITY.unpack_from(frame.payload)
                    now = time.monotonic()
                    self.arrivals[number].append(Arrival(sequence, redelivered, now))
                    self.times.append(now)
                    self.count += 1
                    unacked += 1
                    # Acknowledge when nothing more is waiting in our buffer, or often enough.
                    if self._ack and (len(peer.buffer) < 8 or unacked >= 50):
                        peer.method(1, spec.Basic.Ack(delivery_tag=tag, multiple=True))
                        unacked = 0
                elif frame.kind == wire.METHOD:
                    # 60,60: parsed by hand, this is the hot path.
                    if frame.payload[:4] == b"\x00\x3c\x00\x3c":
                        at = 5 + frame.payload[4]
                        (tag,) = struct.unpack_from(">Q", frame.payload, at)
                        redelivered = bool(frame.payload[at + 8])
                    elif isinstance(frame.method, spec.Basic.Cancel):
                        self.cancelled = True
                        return
                    else:
                        self.closed = frame.method
                        return
        except (wire.Closed, OSError, TimeoutError):
            if self.closed is None and not self._stop.is_set():
                self.closed = "tcp"

    def close(self) -> None:
        """Ends the connection without a word; what is unacknowledged goes back."""
        self._stop.set()
        try:
            self._peer.socket.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
        self._peer.socket.close()
        self._thread.join(SOON)

    def assert_undisturbed(self) -> None:
        """This consumer has noticed nothing but a pause."""
        self.check()
        assert self.closed is None, f"the consumer's channel was closed: {self.closed!r}"
        assert not self.cancelled, "the consumer was cancelled"


@dataclass
class Verdict:
    """What was found wrong; empty lists are a pass."""

    lost: dict[int, list[int]] = field(default_factory=dict)
    doubled: dict[int, list[int]] = field(default_factory=dict)
    disorder: dict[int, list[tuple[int, int]]] = field(default_factory=dict)
    unknown: list[tuple[int, int]] = field(default_factory=list)

    @property
    def clean(self) -> bool:
        return not (self.lost or self.doubled or self.disorder or self.unknown)

    def __str__(self) -> str:
        def some(found: dict[int, list[Any]]) -> str:
            return ", ".join(
                f"publisher {n}: {len(v)} ({', '.join(map(str, v[:5]))}{' …' if len(v) > 5 else ''})"
                for n, v in found.items()
            )

        lines = []
        if self.lost:
            lines.append(f"confirmed but never delivered: {some(self.lost)}")
        if self.doubled:
            lines.append(f"delivered more than once: {some(self.doubled)}")
        if self.disorder:
            lines.append(f"out of order (before, after): {some(self.disorder)}")
        if self.unknown:
            lines.append(f"never published: {self.unknown[:5]}")
        return "; ".join(lines) or "nothing lost, nothing doubled, in order"


def judge(
    producers: list[Producer],
    consumers: list[ConsumerLoad],
    *,
    redelivery_allowed: bool = False,
) -> Verdict:
    """Compares what was confirmed with what arrived.

    `redelivery_allowed`: a second delivery is no fault if it is flagged as redelivered (a consumer
    was lost). With several consumers of one queue the order is judged per consumer.
    """
    verdict = Verdict()
    known = {p.number: p for p in producers}
    seen: dict[int, set[int]] = defaultdict(set)
    for consumer in consumers:
        for number, arrivals in consumer.arrivals.items():
            if number not in known:
                verdict.unknown.append((number, arrivals[0].sequence))
                continue
            last = 0
            for arrival in arrivals:
                sequence = arrival.sequence
                if sequence > known[number].sent:
                    verdict.unknown.append((number, sequence))
                if sequence in seen[number]:
                    if not (redelivery_allowed and arrival.redelivered):
                        verdict.doubled.setdefault(number, []).append(sequence)
                    continue
                if sequence < last and not (redelivery_allowed and arrival.redelivered):
                    verdict.disorder.setdefault(number, []).append((last, sequence))
                last = max(last, sequence)
                seen[number].add(sequence)
    for number, producer in known.items():
        lost = sorted(producer.confirmed - seen[number])
        if lost:
            verdict.lost[number] = lost
    return verdict


def settle(producers: list[Producer], consumers: list[ConsumerLoad], timeout: float = SOON) -> None:
    """Stops the producers and waits until everything confirmed has been delivered."""
    for producer in producers:
        producer.stop(timeout)

    def all_there() -> bool:
        for consumer in consumers:
            consumer.assert_undisturbed()
        for producer in producers:
            seen: set[int] = set()
            for consumer in consumers:
                seen.update(a.sequence for a in list(consumer.arrivals.get(producer.number, [])))
            missing = producer.confirmed - seen
            assert not missing, (
                f"{len(missing)} of {len(producer.confirmed)} confirmed messages of producer "
                f"{producer.number} not delivered, first {sorted(missing)[:5]}"
            )
        return True

    eventually(all_there, timeout, "everything confirmed is delivered")
