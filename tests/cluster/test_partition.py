"""Network cuts between nodes, in both directions and in one, seen from the majority's side."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from scenes import declare, roles

from harness import amqp
from harness.cluster import Cluster
from harness.load import judge, settle
from harness.wait import eventually

#: Publishes without a majority are nacked after this time, in seconds.
BOUND = 4


@pytest.fixture(scope="module")
def net() -> Iterator[Cluster]:
    cluster = Cluster(3, network=True, extra_args=["--publish-timeout", f"{BOUND}s"])
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.close()


@pytest.fixture
def healed(net: Cluster) -> Iterator[Cluster]:
    net.network.heal()
    net.start()
    for node in net.nodes:
        node.wait_ready()
    yield net
    net.network.heal()


@pytest.mark.parametrize("direction", ["both", "in", "out"])
def test_leader_cut_off_under_load(healed, load, name, direction) -> None:
    declare(healed, name)
    cut, a, b = roles(healed, name, "leader")
    producer = load.produce(a, name, rate=1000)
    consumer = load.consume(b, name)
    producer.wait_confirmed(1000)
    healed.network.isolate(cut.id, direction)
    producer.wait_confirmed(2000)
    healed.network.heal()
    producer.wait_confirmed(2000)
    settle(load.producers, load.consumers)
    verdict = judge(load.producers, load.consumers)
    assert verdict.clean, verdict
    assert not producer.nacked
    consumer.assert_undisturbed()


@pytest.mark.parametrize("direction", ["both", "in", "out"])
def test_follower_cut_off_under_load(healed, load, name, direction) -> None:
    """No disturbance then, and none when it returns (pre-vote)."""
    declare(healed, name)
    cut, leader, b = roles(healed, name, "follower")
    producer = load.produce(leader, name, rate=1000)
    load.consume(b, name)
    producer.wait_confirmed(1000)
    healed.network.isolate(cut.id, direction)
    producer.wait_confirmed(3000)
    healed.network.heal()
    producer.wait_confirmed(1000)
    settle(load.producers, load.consumers)
    verdict = judge(load.producers, load.consumers)
    assert verdict.clean, verdict
    assert not producer.nacked


def test_one_link_cut(healed, load, name) -> None:
    """Leader and one follower cannot see each other; both see the third."""
    declare(healed, name)
    leader, a, b = roles(healed, name, "leader")
    producer = load.produce(b, name, rate=500)
    load.consume(b, name)
    producer.wait_confirmed(500)
    healed.network.cut([(leader.id, a.id), (a.id, leader.id)])
    producer.wait_confirmed(1500)
    healed.network.heal()
    producer.wait_confirmed(500)
    settle(load.producers, load.consumers)
    verdict = judge(load.producers, load.consumers)
    assert verdict.clean, verdict


def test_clients_of_both_ends_of_a_cut_link(healed, load, name) -> None:
    """The leader cannot be reached from the node of a client, but a third node can be from both: it takes over."""
    declare(healed, name)
    leader, a, between = roles(healed, name, "leader")
    producers = [load.produce(node, name, rate=300) for node in (leader, a)]
    load.consume(a, name)
    for producer in producers:
        producer.wait_confirmed(300)
    healed.network.cut([(leader.id, a.id), (a.id, leader.id)])
    # Far longer than a publish may wait.
    for producer in producers:
        producer.wait_confirmed(300 * 2 * BOUND)
    assert healed.leader(name) is between
    connection = healed.connect(a)
    connection.channel().queue_declare(f"{name}-2", durable=True)
    connection.close()
    healed.network.heal()
    for producer in producers:
        producer.wait_confirmed(300)
    settle(load.producers, load.consumers)
    verdict = judge(load.producers, load.consumers)
    assert verdict.clean, verdict
    assert not any(producer.nacked for producer in producers)


def test_producer_on_the_minority_side(healed, load, name) -> None:
    """It is told: by nacks within the bound, or by confirms after the heal. Nothing doubled, and
    nothing that was nacked comes later behind newer messages."""
    declare(healed, name)
    cut, a, b = roles(healed, name, "leader")
    producer = load.produce(cut, name, rate=300, window=300)
    consumer = load.consume(b, name)
    producer.wait_confirmed(300)
    healed.network.isolate(cut.id)
    eventually(lambda: producer.nacked, what="a nack on the minority's side")
    healed.network.heal()
    producer.wait_confirmed(300)
    settle([producer], [consumer])
    verdict = judge([producer], [consumer])
    assert not verdict.lost and not verdict.doubled and not verdict.disorder, verdict


def test_no_stale_deliveries_from_the_minority_side(healed, load, name, open_at) -> None:
    """A deposed leader hands out nothing that the majority hands out too."""
    declare(healed, name)
    cut, a, b = roles(healed, name, "leader")
    old = load.consume(cut, name, prefetch=10)
    publisher = amqp.confirmed(open_at(a))
    healed.network.isolate(cut.id)
    new_leader = healed.other_leader(name, cut)
    assert new_leader is not cut
    producer = load.produce(a, name, rate=500)
    survivor = load.consume(b, name)
    producer.wait_confirmed(1000)
    settle([producer], [survivor])
    assert old.count == 0, "the cut-off node delivered messages of the new leader's time"
    healed.network.heal()
    verdict = judge([producer], [survivor])
    assert verdict.clean, verdict
    assert publisher.is_open


def test_flapping_link(healed, load, name) -> None:
    """Cut and healed again and again, each time for about the length of an election."""
    import time

    declare(healed, name)
    cut, a, b = roles(healed, name, "leader")
    producer = load.produce(a, name, rate=500)
    load.consume(b, name)
    producer.wait_confirmed(500)
    for round_ in range(8):
        healed.network.isolate(cut.id, ("both", "in", "out")[round_ % 3])
        time.sleep(0.4)  # The length of the cut is what is tested.
        healed.network.heal()
        time.sleep(0.2)
    producer.wait_confirmed(500)
    settle(load.producers, load.consumers)
    verdict = judge(load.producers, load.consumers)
    assert verdict.clean, verdict
