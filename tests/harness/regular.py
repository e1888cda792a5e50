"""A client that goes on while others do harm."""

from __future__ import annotations

import threading
import time

from harness import amqp
from harness.wait import SOON, bound, eventually


class Regular(threading.Thread):
    """A client with a login: one message after the other, each confirmed and then received."""

    def __init__(self, port: int, queue: str) -> None:
        super().__init__(name="regular client", daemon=True)
        self.error: BaseException | None = None
        self.count = 0
        self._waits: list[float] = []
        self._begun: float | None = None
        self._stop_asked = threading.Event()
        self._connection = amqp.connect(port, socket_timeout=bound(60))
        self._publisher = amqp.confirmed(self._connection)
        self._publisher.queue_declare(queue, durable=True)
        self._consumer = amqp.Consumer(self._connection.channel(), queue)

    def run(self) -> None:
        try:
            while not self._stop_asked.is_set():
                body = str(self.count).encode()
                self._begun = begun = time.monotonic()
                self._publisher.basic_publish("", self._consumer.queue, body, amqp.PERSISTENT)
                delivered = self._consumer.next()
                self._begun = None
                self._waits.append(time.monotonic() - begun)
                assert (delivered.body, delivered.redelivered) == (body, False)
                self._consumer.ack(delivered)
                self.count += 1
                self._connection.process_data_events(time_limit=0.005)  # Pacing only.
        except BaseException as error:  # noqa: BLE001 - told to the test by `check`.
            self.error = error

    def check(self) -> None:
        if self.error is not None:
            raise AssertionError(f"the regular client: {self.error!r}") from self.error

    def worst(self) -> float:
        """The longest wait since this was asked last, one that still lasts included."""
        self.check()
        waits, self._waits = self._waits, []
        begun = self._begun
        return max([*waits, 0.0 if begun is None else time.monotonic() - begun])

    def go_on(self, more: int = 20) -> None:
        """Until this many further messages have come."""
        goal = self.count + more

        def reached() -> bool:
            self.check()
            return self.count >= goal

        eventually(reached, what=f"{more} more messages of the regular client")

    def close(self) -> None:
        self._stop_asked.set()
        self.join(SOON)
        amqp.drop(self._connection)
