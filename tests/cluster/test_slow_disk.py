"""A disk that stands still: its node stays a member, and its clients are served by the others' disks."""

from __future__ import annotations

import time

import pytest
from scenes import declare

from harness.load import gaps, judge, settle
from harness.slow_disk import SlowDisks
from harness.wait import bound, eventually

#: One sync. A node is ended by its watchdog after 20 s, so two in a row must stay below that.
HANGS = 8.0
#: From the first sync that hangs until others lead, and all know it.
MOVES_WITHIN = 5.0

pytestmark = pytest.mark.timeout(180)


def test_clients_of_a_node_whose_disk_hangs_wait_for_the_others_only(fresh, load, name) -> None:
    cluster = fresh(3)
    disks = SlowDisks(cluster)
    cluster.start()
    queues = [f"{name}-{n}" for n in range(12)]
    declare(cluster, *queues)
    victim = cluster.leader(queues[0])
    other = cluster.others(victim)[0]
    led = [queue for queue in queues if cluster.leader(queue) is victim]
    followed = [queue for queue in queues if queue not in led][:1]
    watched = [led[0], *followed]
    for queue in watched:
        load.produce(victim, queue, rate=100)
        load.consume(victim, queue)
    load.produce(other, led[0], rate=100)
    for producer in load.producers:
        producer.wait_confirmed(100)
    struck = time.monotonic()
    disks.slow(victim, HANGS)

    def leads_nothing() -> bool:
        asked = cluster.others(victim)
        still = [queue for queue in led if cluster.find_leader(queue, asked) is victim]
        assert not still, f"{victim} leads {still}"
        return True

    eventually(leads_nothing, bound(MOVES_WITHIN), "the other nodes lead")
    for producer in load.producers:
        producer.wait_confirmed(100, bound(MOVES_WITHIN))
    end = time.monotonic()
    assert victim.running
    waits = [gaps(list(producer.confirm_times), struck, end) for producer in load.producers]
    assert max(waits) < bound(MOVES_WITHIN), waits
    disks.heal(victim)
    settle(load.producers, load.consumers)
    verdict = judge(load.producers, load.consumers)
    assert verdict.clean, verdict
    assert not any(producer.nacked for producer in load.producers)
    # It is a whole member again.
    for queue in watched:
        cluster.wait_in_sync(queue)
