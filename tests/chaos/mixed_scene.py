"""The queues of a mixed round, and its clients."""

from __future__ import annotations

import random
from typing import Any

from ledger import Ledger
from mixed_clients import Answerer, Asker, Getter, Notes, Relay, Tagged, Taker
from publisher import Publisher
from scene import Load

from harness.cluster import Cluster

DELAYED = "mixed-delayed"
#: Rejections of a message before it is taken.
TURNS = 3

#: Durable queues and their arguments.
QUEUES: dict[str, dict[str, Any]] = {
    "tx-in": {},
    "tx-out": {},
    "get": {},
    "sac": {"x-single-active-consumer": True},
    "ranked": {"x-queue-type": "quorum"},
    "late": {},
    "work": {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": "pause"},
    "pause": {
        "x-message-ttl": 300,
        "x-dead-letter-exchange": "",
        "x-dead-letter-routing-key": "work",
    },
    "ring": {
        "x-max-length": 200,
        "x-dead-letter-exchange": "",
        "x-dead-letter-routing-key": "ring-dead",
    },
    "ring-dead": {},
    "full": {
        "x-max-length": 20,
        "x-overflow": "reject-publish-dlx",
        "x-dead-letter-exchange": "",
        "x-dead-letter-routing-key": "over",
    },
    "over": {},
    "ask": {},
}
#: Exchange, routing key, number of publishers.
ROUTES = [
    ("", "tx-in", 1), ("", "get", 1), ("", "sac", 2), ("", "ranked", 1), (DELAYED, "late", 2),
    ("", "work", 2), ("", "ring", 1), ("", "full", 2),
]  # fmt: skip


def delay(sequence: int) -> float:
    """Seconds for which a delayed message waits."""
    return sequence * 37 % 25 / 10


def declare(cluster: Cluster) -> None:
    connection = cluster.connect(1)
    channel = connection.channel()
    channel.exchange_declare(
        DELAYED, "x-delayed-message", durable=True, arguments={"x-delayed-type": "direct"}
    )
    for queue, arguments in QUEUES.items():
        channel.queue_declare(queue, durable=True, arguments=arguments)
    channel.queue_bind("late", DELAYED, "late")
    connection.close()


def cast(cluster: Cluster, ledger: Ledger, notes: Notes, seed: int, rate: float) -> Load:
    rng = random.Random(f"{seed} mixed")
    nodes = cluster.nodes

    def home(number: int):
        return nodes[number % len(nodes)] if rng.random() < 0.6 else None

    publishers: list[Publisher] = []
    for exchange, key, count in ROUTES:
        for _ in range(count):
            number = len(publishers)
            publisher = Tagged(
                f"publisher {number} of {key}", nodes, ledger, seed, exchange=exchange, routing_key=key,
                targets=(key,), rate=rate, mandatory=exchange != DELAYED, home=home(number),
            )  # fmt: skip
            if exchange == DELAYED:
                publisher.headers = lambda sequence: {"x-delay": round(delay(sequence) * 1000)}
            publishers.append(publisher)
    consumers: list[Any] = []

    def add(kind: Any, what: str, count: int, **more: Any) -> None:
        for _ in range(count):
            number = len(consumers)
            name = f"{kind.__name__.lower()} {number} of {what}"
            consumers.append(kind(name, nodes, ledger, notes, seed, home(number), **more))

    add(Relay, "tx-in", 3)
    add(Taker, "tx-out", 2, queue="tx-out")
    add(Getter, "get", 3)
    add(Taker, "sac", 3, queue="sac", prefetch=5, leaves_after=400)
    for priority in (0, 5, 10):
        add(Taker, "ranked", 1, queue="ranked", prefetch=3, consume={"x-priority": priority})
    add(Taker, "late", 2, queue="late", leaves_after=300)
    add(Taker, "work", 3, queue="work", turns=TURNS)
    add(Taker, "ring", 1, queue="ring", prefetch=2)
    add(Taker, "ring-dead", 1, queue="ring-dead")
    add(Taker, "full", 1, queue="full", prefetch=1)
    add(Taker, "over", 1, queue="over")
    askers: list[Any] = []
    for number in range(3):
        askers.append(Asker(f"asker {number}", nodes, ledger, notes, seed, nodes[number]))
    add(Answerer, "ask", 2)
    return Load(publishers, consumers, askers)
