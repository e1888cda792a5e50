"""The queues of a round, and the clients that load them."""

from __future__ import annotations

import random
from dataclasses import dataclass

from bystanders import Operator, TemporaryQueues
from consumer import HABITS, Consumer, Habit
from ledger import Ledger
from publisher import Publisher
from worker import Worker

from harness.cluster import Cluster

FANOUT = "chaos-fanout"
#: Its losses are allowed: it lives in the memory of one node.
LOCAL = "local"
SOURCE, TARGET = "dead-source", "dead-target"
PRIORITY = "priority"
#: Durable queues and their arguments.
QUEUES: dict[str, dict[str, object]] = {
    "plain-1": {},
    "plain-2": {},
    "fan-1": {},
    "fan-2": {},
    SOURCE: {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": TARGET},
    TARGET: {},
    "bounded": {"x-max-length": 1_000_000},
    PRIORITY: {"x-max-priority": 5},
}
#: Exchange, routing key, queues that are reached, number of publishers.
ROUTES: list[tuple[str, str, tuple[str, ...], int]] = [
    ("", "plain-1", ("plain-1",), 3),
    ("", "plain-2", ("plain-2",), 1),
    (FANOUT, "", ("fan-1", "fan-2"), 2),
    ("", SOURCE, (SOURCE,), 1),
    ("", "bounded", ("bounded",), 1),
    ("", PRIORITY, (PRIORITY,), 1),
    ("", LOCAL, (), 1),
]


@dataclass
class Load:
    """All clients of a round."""

    publishers: list[Publisher]
    consumers: list[Consumer]
    bystanders: list[Worker]

    @property
    def workers(self) -> list[Worker]:
        return [*self.publishers, *self.consumers, *self.bystanders]

    def start(self) -> None:
        for worker in self.workers:
            worker.start()

    def give_up(self) -> None:
        """Whoever is left ends as soon as it can, at the latest when there are no nodes any more."""
        for worker in self.workers:
            worker.stop()
            worker.given_up.set()


def declare(cluster: Cluster) -> None:
    connection = cluster.connect(1)
    channel = connection.channel()
    channel.exchange_declare(FANOUT, "fanout", durable=True)
    for queue, arguments in QUEUES.items():
        channel.queue_declare(queue, durable=True, arguments=arguments)
    channel.queue_declare(LOCAL)
    for queue in ("fan-1", "fan-2"):
        channel.queue_bind(queue, FANOUT)
    connection.close()


def cast(cluster: Cluster, ledger: Ledger, seed: int, rate: float) -> Load:
    """The clients; who lives where, and with which habits, follows from the seed."""
    rng = random.Random(f"{seed} cast")
    nodes = cluster.nodes

    def home(number: int):
        # Some stay with a node whatever happens to it, so that each has some; others wander.
        return nodes[number % len(nodes)] if rng.random() < 0.6 else None

    publishers, consumers = [], []
    for exchange, key, targets, count in ROUTES:
        for _ in range(count):
            number = len(publishers)
            publishers.append(
                Publisher(
                    f"publisher {number} of {key or exchange}", nodes, ledger, seed,
                    exchange=exchange, routing_key=key, targets=targets, rate=rate,
                    mandatory=key != LOCAL, home=home(number),
                )
            )  # fmt: skip
    for queue in [*QUEUES, LOCAL]:
        for habit in rng.sample(HABITS, 2):
            consumers.append(_consumer(queue, habit, len(consumers), cluster, ledger, seed, home))
    bystanders: list[Worker] = [
        TemporaryQueues("temporary", nodes, ledger, seed),
        Operator("operator", nodes, ledger, seed),
    ]
    return Load(publishers, consumers, bystanders)


def _consumer(queue: str, habit: Habit, number: int, cluster, ledger, seed, home) -> Consumer:
    return Consumer(
        f"consumer {number} of {queue}", cluster.nodes, ledger, seed, queue, habit,
        rejects=queue == SOURCE, transient=queue == LOCAL, home=home(number),
    )  # fmt: skip


def drainer(queue: str, cluster: Cluster, ledger: Ledger, seed: int) -> Consumer:
    """Takes what is left in a queue."""
    return Consumer(
        f"drain of {queue}", cluster.nodes, ledger, seed, queue, Habit(prefetch=200),
        rejects=queue == SOURCE,
    )  # fmt: skip
