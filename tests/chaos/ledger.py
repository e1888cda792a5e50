"""What the clients of a round did and saw. The judges read it when all of them have ended."""

from __future__ import annotations

import itertools
import threading
from dataclasses import dataclass, field

#: Ends the identity at the front of a body.
_END = b"|"


@dataclass
class Stay:
    """One connection of one client."""

    client: str
    node: int
    begin: float
    end: float | None = None
    local: bool = False
    #: Why it ended; None if the client itself wanted it to.
    reason: str | None = None


@dataclass
class Publish:
    """One message: when it was sent, and what was said about it."""

    sent: float
    answered: float | None = None
    #: `ack` or `nack`.
    outcome: str | None = None


@dataclass
class Session:
    """What was published on one channel. A message's place in it is its sequence number.

    No message is published twice: who has reconnected goes on with new ones, in a new session, so
    that a second delivery is never the client's own doing.
    """

    number: int
    stay: Stay
    #: Queues that have to get every message.
    targets: tuple[str, ...]
    publishes: list[Publish] = field(default_factory=list)

    def body(self, sequence: int, size: int) -> bytes:
        identity = b"%d.%d" % (self.number, sequence) + _END
        return identity + bytes(max(0, size - len(identity)))


def identity(body: bytes) -> tuple[int, int]:
    """Session and sequence number of a message."""
    session, sequence = body[: body.index(_END)].split(b".")
    return int(session), int(sequence)


def priority(sequence: int) -> int:
    return sequence % 4


def dead(sequence: int) -> bool:
    """Whether every consumer of the queue with a dead letter target rejects this one."""
    return sequence % 5 == 0


@dataclass
class Delivery:
    """One message as one consumer got it."""

    queue: str
    consumer: str
    node: int
    session: int
    sequence: int
    redelivered: bool
    at: float
    #: What was done with it: `ack`, `requeue`, `dead`, or nothing yet.
    disposal: str | None = None
    #: When the broker had answered something that came after the disposal.
    settled: float | None = None

    @property
    def message(self) -> tuple[int, int]:
        return self.session, self.sequence


class Ledger:
    """Sessions, stays, deliveries, and what clients themselves found wrong."""

    def __init__(self) -> None:
        self.sessions: dict[int, Session] = {}
        self.stays: list[Stay] = []
        self.deliveries: list[Delivery] = []
        #: Time, node, what.
        self.complaints: list[tuple[float, int, str]] = []
        self._numbers = itertools.count(1)
        self._lock = threading.Lock()

    def session(self, stay: Stay, targets: tuple[str, ...]) -> Session:
        with self._lock:
            session = Session(next(self._numbers), stay, targets)
            self.sessions[session.number] = session
            return session
