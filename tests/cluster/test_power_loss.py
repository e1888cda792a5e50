"""The power goes: what was not synced is lost, and nothing that was confirmed is among it.

kill -9 proves little here, because the page cache survives it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from scenes import declare

from harness import amqp
from harness.cluster import Cluster
from harness.disk import Disk, why_not
from harness.load import judge, settle
from harness.node import Node
from harness.wait import bound, eventually

DISK = 700 << 20
#: A node whose disk has failed ends itself within this.
SOON_DEAD = 10.0

pytestmark = pytest.mark.timeout(300)


class Powered:
    """A cluster whose nodes have disks of their own."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self.disks: dict[int, Disk] = {}
        for node in cluster.nodes:
            mount = node.data_dir.with_name(f"disk-{node.id}")
            self.disks[node.id] = Disk(mount, DISK)
            node.data_dir = mount / "data"

    def disk(self, node: Node) -> Disk:
        return self.disks[node.id]

    def blackout(self) -> None:
        """Power off everywhere, all disks first; then back, as after a reboot."""
        for disk in self.disks.values():
            disk.cut_power()
        self.cluster.kill_all()
        for disk in self.disks.values():
            disk.restore_power()

    def close(self) -> None:
        for node in self.cluster.nodes:
            node.kill()
        for disk in self.disks.values():
            disk.close()


@pytest.fixture
def powered(fresh) -> Iterator[Callable[..., Powered]]:
    reason = why_not()
    if reason is not None:
        pytest.skip(f"no disk whose power can be cut: {reason}")
    made: list[Powered] = []

    def make(*arguments: Any, **options: Any) -> Powered:
        powered = Powered(fresh(*arguments, **options))
        made.append(powered)
        return powered

    yield make
    for powered in made:
        powered.close()


@pytest.mark.parametrize("size", [1, 3])
def test_confirmed_messages_survive_a_blackout(powered, load, names, size) -> None:
    at = powered(size)
    cluster = at.cluster.start()
    queues = [names() for _ in range(3)]
    declare(cluster, *queues)
    kept: dict[str, list] = {queue: [] for queue in queues}
    number = 0
    for _ in range(3):
        producers = []
        for index, queue in enumerate(queues):
            number += 1
            node = cluster.nodes[index % size]
            producers.append(load.produce(node, queue, number=number, rate=700))
            kept[queue].append(producers[-1])
        for producer in producers:
            producer.wait_confirmed(500)
        at.blackout()
        for producer in producers:
            eventually(lambda: producer.closed, what="the producer notices")
        cluster.start()
    for index, queue in enumerate(queues):
        consumer = load.consume(cluster.nodes[(index + 1) % size], queue)

        def all_there() -> bool:
            consumer.assert_undisturbed()
            for producer in kept[queue]:
                arrived = {a.sequence for a in list(consumer.arrivals[producer.number])}
                missing = producer.confirmed - arrived
                assert not missing, (
                    f"'{queue}': {len(missing)} of {len(producer.confirmed)} confirmed messages of "
                    f"round {producer.number} are missing"
                )
            return True

        eventually(all_there, what="everything confirmed is delivered")
        verdict = judge(kept[queue], [consumer])
        assert verdict.clean, verdict


def test_what_was_just_declared_survives_a_blackout(powered, open_at, names) -> None:
    """The first seconds of a cluster count too: identity, votes, and the first declarations."""
    at = powered(3)
    cluster = at.cluster.start()
    queue, exchange = names(), names()
    channel = amqp.confirmed(open_at(cluster.nodes[0]))
    channel.queue_declare(queue, durable=True)
    channel.exchange_declare(exchange, "topic", durable=True)
    channel.queue_bind(queue, exchange, "a.#")
    channel.basic_publish(exchange, "a.b", b"kept", amqp.PERSISTENT, mandatory=True)
    at.blackout()
    cluster.start()
    channel = amqp.confirmed(open_at(cluster.nodes[1]))
    channel.basic_publish(exchange, "a.c", b"new", amqp.PERSISTENT, mandatory=True)
    assert amqp.get_all(channel, queue, 2) == [b"kept", b"new"]


@pytest.mark.parametrize("victim", ["leader", "follower"])
def test_a_node_whose_disk_fails_ends_and_returns(powered, load, name, victim) -> None:
    """A failed write ends the node; it is never tried again. The others carry on."""
    at = powered(3)
    cluster = at.cluster.start()
    declare(cluster, name)
    leader = cluster.leader(name)
    lost = leader if victim == "leader" else cluster.others(leader)[0]
    survivors = cluster.others(lost)
    producer = load.produce(survivors[0], name, rate=500)
    load.consume(survivors[1], name)
    producer.wait_confirmed(500)
    at.disk(lost).cut_power()
    eventually(lambda: not lost.running, bound(SOON_DEAD), f"{lost} ends")
    assert lost.process is not None and lost.process.returncode != 0
    producer.wait_confirmed(500)
    at.disk(lost).restore_power()
    cluster.start([lost])
    producer.wait_confirmed(500)
    cluster.wait_in_sync(name)
    settle([producer], load.consumers)
    assert not producer.nacked
    verdict = judge([producer], load.consumers)
    assert verdict.clean, verdict
