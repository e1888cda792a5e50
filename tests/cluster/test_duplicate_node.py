"""Two processes with one node id: the second is refused, both sides say so, the first serves on."""

from __future__ import annotations

import shutil

import pytest
from scenes import declare

from harness.cluster import Cluster
from harness.load import judge, settle
from harness.node import Node
from harness.ports import free_port
from harness.wait import bound


def double_of(cluster: Cluster, original: Node, advertise: str | None = None) -> Node:
    """A node with the id of `original` and everything else of its own, not started."""
    return Node(
        id=original.id,
        data_dir=cluster.root / "data-double",
        log_path=cluster.root / "node-double.log",
        amqp_port=free_port(),
        cluster_port=free_port(),
        management_port=free_port(),
        peers=original.peers,
        secret=original.secret,
        advertise=advertise,
    )


def is_refused(cluster: Cluster, double: Node, load, queue: str) -> None:
    """Starts the double under load: it ends by itself and says why, and nobody else notices."""
    original = cluster.node(double.id)
    others = cluster.others(original)
    producer = load.produce(others[0], queue, rate=500)
    consumer = load.consume(original, queue)
    producer.wait_confirmed(500)
    double.start()
    try:
        assert double.wait_stopped(bound(20)) not in (0, None)
    finally:
        double.kill()
    said = f"node id {double.id} is"
    assert said in double.log_text(), double.log_tail()
    assert any(said in node.log_text() for node in others), "no member names the double"
    producer.wait_confirmed(500)
    settle(load.producers, load.consumers)
    verdict = judge(load.producers, load.consumers)
    assert verdict.clean, verdict
    assert not producer.nacked
    consumer.assert_undisturbed()
    assert original.running and original.is_ready()
    assert not double.panics()


@pytest.mark.parametrize("original_id", [1, 3])
@pytest.mark.parametrize("same_address", [False, True])
def test_with_an_empty_disk(whole, load, name, original_id, same_address) -> None:
    """It is not taken for a node that has lost its disk, wherever it says that it is."""
    declare(whole, name)
    original = whole.node(original_id)
    advertise = f"127.0.0.1:{original.cluster_port}" if same_address else None
    double = double_of(whole, original, advertise)
    try:
        is_refused(whole, double, load, name)
    finally:
        shutil.rmtree(double.data_dir, ignore_errors=True)
        double.log_path.unlink(missing_ok=True)


def test_with_a_copied_disk(fresh, load, name) -> None:
    """It is a voter by its disk, and must not vote beside the one that runs."""
    cluster = fresh(3).start()
    declare(cluster, name)
    original = cluster.nodes[1]
    double = double_of(cluster, original)
    assert original.terminate() == 0
    shutil.copytree(original.data_dir, double.data_dir)
    cluster.start([original])
    cluster.wait_in_sync(name)
    is_refused(cluster, double, load, name)


def test_the_next_start_of_a_node_is_no_double(fresh, load, name) -> None:
    """Killed and started at once, again and again: the place of the dead process is free."""
    cluster = fresh(3).start()
    declare(cluster, name)
    victim = cluster.nodes[1]
    producer = load.produce(cluster.nodes[0], name, rate=200)
    load.consume(cluster.nodes[2], name)
    for _ in range(4):
        producer.wait_confirmed(50)
        victim.kill()
        cluster.start([victim])
    settle(load.producers, load.consumers)
    verdict = judge(load.producers, load.consumers)
    assert verdict.clean, verdict
