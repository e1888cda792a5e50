"""A client as a thread: it connects, works, is thrown out, and connects again."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Sequence

import pika
from ledger import Ledger, Stay

from harness import amqp
from harness.node import Node

#: A frozen node accepts and says nothing; a client gives such a one up.
CONNECT_SECONDS = 5


class Worker:
    """One client. `home`: it stays with this node; without one it takes whichever lets it in."""

    def __init__(
        self, name: str, nodes: Sequence[Node], ledger: Ledger, seed: int, home: Node | None = None
    ) -> None:
        self.name, self.ledger, self.home = name, ledger, home
        self.rng = random.Random(f"{seed} {name}")
        #: Of a queue in one node's memory: whatever happens to any node may happen to it.
        self.local = False
        self.error: BaseException | None = None
        self.stopping = threading.Event()
        #: Set when the client is not to wait for anything any more.
        self.given_up = threading.Event()
        self._nodes = list(nodes)
        self.thread = threading.Thread(target=self._guarded, name=name, daemon=True)

    def start(self) -> Worker:
        self.thread.start()
        return self

    def stop(self) -> None:
        """Asks it to finish what it has begun and to leave."""
        self.stopping.set()

    def _guarded(self) -> None:
        try:
            while not self.stopping.is_set():
                self._once()
        except BaseException as error:  # noqa: BLE001 - told by the round.
            self.error = error

    def _once(self) -> None:
        node = self.home or self.rng.choice(self._nodes)
        stay = Stay(self.name, node.id, time.monotonic(), local=self.local)
        try:
            self.work(node, stay)
        except amqp.CONNECT_ERRORS as error:
            stay.reason = stay.reason or repr(error)
        finally:
            stay.end = time.monotonic()
            # Who was never let in has nothing to complain about here; readiness is judged elsewhere.
        self.stopping.wait(0.2)  # As a client that does not hammer on the door.

    def work(self, node: Node, stay: Stay) -> None:
        """One connection; `admitted` has to be called when it stands."""
        raise NotImplementedError

    def admitted(self, stay: Stay) -> None:
        stay.begin = time.monotonic()
        self.ledger.stays.append(stay)

    def complain(self, node: int, what: str) -> None:
        self.ledger.complaints.append((time.monotonic(), node, f"{self.name}: {what}"))

    def parameters(self, node: Node) -> pika.ConnectionParameters:
        return amqp.parameters(
            node.amqp_port, socket_timeout=CONNECT_SECONDS, stack_timeout=CONNECT_SECONDS
        )
