"""Nodes whose messages, or whose disks, take longer than an election is given by configuration."""

from __future__ import annotations

import pytest
from scenes import declare, roles

from harness.load import judge, settle
from harness.slow_disk import SlowDisks
from harness.wait import bound

#: One way of a message, in seconds: with its answer, more than the 350 ms that an election waits for votes.
FAR = (0.2, 0.3)
#: From a kill until others confirm: a few rounds of messages, each of them half a second.
FOLLOWED_WITHIN = 20.0
#: One sync, in seconds.
SLOW = 0.5

pytestmark = pytest.mark.timeout(240)


def test_a_cluster_far_apart_forms_and_follows_a_leader_that_is_killed(fresh, load, name) -> None:
    cluster = fresh(3, network=True)
    pairs = cluster.network.all_pairs()
    cluster.network.delay(pairs, *FAR)
    cluster.start()
    declare(cluster, name)
    leader, a, b = roles(cluster, name, "leader")
    producer = load.produce(a, name, rate=100)
    load.consume(b, name)
    producer.wait_confirmed(200, bound(FOLLOWED_WITHIN))
    leader.kill()
    producer.wait_confirmed(100, bound(FOLLOWED_WITHIN))
    cluster.start([leader])
    producer.wait_confirmed(100, bound(FOLLOWED_WITHIN))
    settle(load.producers, load.consumers)
    verdict = judge(load.producers, load.consumers)
    assert verdict.clean, verdict
    assert not producer.nacked


def test_a_network_that_becomes_long_is_borne(fresh, load, name) -> None:
    cluster = fresh(3, network=True)
    cluster.start()
    declare(cluster, name)
    _, a, b = roles(cluster, name, "leader")
    producer = load.produce(a, name, rate=100)
    load.consume(b, name)
    producer.wait_confirmed(100)
    cluster.network.delay(cluster.network.all_pairs(), *FAR)
    producer.wait_confirmed(1000, bound(FOLLOWED_WITHIN))
    cluster.network.delay([], 0, 0)
    producer.wait_confirmed(500)
    settle(load.producers, load.consumers)
    verdict = judge(load.producers, load.consumers)
    assert verdict.clean, verdict
    assert not producer.nacked


def test_a_leader_is_followed_although_syncs_take_long(fresh, load, name) -> None:
    cluster = fresh(3)
    disks = SlowDisks(cluster)
    cluster.start()
    declare(cluster, name)
    leader, a, b = roles(cluster, name, "leader")
    producer = load.produce(a, name, rate=100)
    load.consume(b, name)
    producer.wait_confirmed(100)
    for node in cluster.nodes:
        disks.slow(node, SLOW)
    producer.wait_confirmed(100, bound(FOLLOWED_WITHIN))
    leader.kill()
    producer.wait_confirmed(100, bound(FOLLOWED_WITHIN))
    for node in cluster.nodes:
        disks.heal(node)
    cluster.start([leader])
    settle(load.producers, load.consumers)
    verdict = judge(load.producers, load.consumers)
    assert verdict.clean, verdict
    assert not producer.nacked
