"""A cut link where the rest is just a majority: one of four nodes is down."""

from __future__ import annotations

from scenes import declare

from harness.cluster import Cluster
from harness.load import judge, settle


def test_a_leader_cut_off_from_one_of_the_last_three_makes_way(load, name) -> None:
    """It reaches no majority without the node that it cannot reach; the one that reaches both does."""
    with Cluster(4, network=True) as cluster:
        cluster.start()
        declare(cluster, name)
        down = next(node for node in cluster.nodes if node is not cluster.leader(name))
        down.kill()
        alive = [node for node in cluster.nodes if node is not down]
        producer = load.produce(alive[0], name, rate=300)
        producer.wait_confirmed(300)
        leader = cluster.leader(name)
        far, between = [node for node in alive if node is not leader]
        here = load.produce(between, name, rate=300)
        here.wait_confirmed(300)
        cluster.network.cut([(leader.id, far.id), (far.id, leader.id)])
        here.wait_confirmed(1000)
        assert cluster.leader(name) is between
        cluster.network.heal()
        consumer = load.consume(between, name)
        for one in (producer, here):
            one.wait_confirmed(300)
        settle([producer, here], [consumer])
        verdict = judge([producer, here], [consumer])
        assert verdict.clean, verdict
        assert not here.nacked
