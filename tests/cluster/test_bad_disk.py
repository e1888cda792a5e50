"""The log's own writes and syncs fail: the node ends, and nothing is confirmed that is not on a majority."""

from __future__ import annotations

import errno
from collections.abc import Iterator

import pytest
from scenes import declare, roles

from harness.bad_disk import OPEN, SYNC, WRITE, BadDisks, why_not
from harness.cluster import Cluster
from harness.load import judge, settle
from harness.wait import SOON, eventually

FAULTS = {
    "a write": {"kinds": WRITE},
    "a write, half done": {"kinds": WRITE, "shorter": True, "error": errno.ENOSPC},
    "a sync, once": {"kinds": SYNC, "count": 1, "after": 20},
    "the next file": {"kinds": OPEN},
}


@pytest.fixture(scope="module")
def bad() -> Iterator[tuple[Cluster, BadDisks]]:
    reason = why_not()
    if reason is not None:
        pytest.skip(f"no disk that fails: {reason}")
    # Small files, so that the next one comes soon.
    cluster = Cluster(3, config='log_segment = "1MB"\n')
    try:
        disks = BadDisks(cluster)
        cluster.start()
        yield cluster, disks
    finally:
        cluster.close()


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("victim", ["leader", "follower"])
def test_a_node_whose_log_fails_ends(bad, load, name, victim, fault) -> None:
    cluster, disks = bad
    declare(cluster, name)
    failing, a, b = roles(cluster, name, victim)
    producer = load.produce(a, name, rate=300, size=4000)
    there = load.produce(failing, name, rate=300)
    consumer = load.consume(b, name)
    producer.wait_confirmed(200)
    disks.fail(failing, **FAULTS[fault])
    eventually(lambda: not failing.running, SOON, "the node ends")
    assert failing.process is not None and failing.process.returncode == 1
    assert disks.failed(failing) > 0
    disks.mend(failing)
    producer.wait_confirmed(500)
    cluster.start([failing])
    cluster.wait_in_sync(name)
    settle([producer], [consumer])

    def all_there() -> bool:
        seen = {arrival.sequence for arrival in list(consumer.arrivals[there.number])}
        missing = there.confirmed - seen
        assert not missing, f"{len(missing)} that the failing node confirmed are missing"
        return True

    eventually(all_there, what="what the failing node confirmed is delivered")
    consumer.assert_undisturbed()
    assert not producer.nacked
    verdict = judge([producer, there], [consumer])
    assert verdict.clean, verdict


def test_all_logs_fail_one_after_the_other(bad, load, name) -> None:
    """Until no majority is left; what was confirmed until then is there when they start again."""
    cluster, disks = bad
    declare(cluster, name)
    producers = [load.produce(node, name, rate=300) for node in cluster.nodes]
    for producer in producers:
        producer.wait_confirmed(100)
    for number, node in enumerate(cluster.nodes):
        disks.fail(node, WRITE | SYNC, after=40 * number, shorter=True)
    # The last one has nothing to write then.
    eventually(lambda: len(cluster.others()) == 1, SOON, "two end")
    cluster.kill_all()
    for node in cluster.nodes:
        disks.mend(node)
    cluster.start()
    consumer = load.consume(cluster.nodes[0], name)

    def all_there() -> bool:
        for producer in producers:
            seen = {arrival.sequence for arrival in list(consumer.arrivals[producer.number])}
            missing = producer.confirmed - seen
            assert not missing, f"{len(missing)} of producer {producer.number} are missing"
        return True

    eventually(all_there, what="everything confirmed is delivered")
    verdict = judge(producers, [consumer])
    assert verdict.clean, verdict
