"""A member that is behind, over a network that is slow."""

from __future__ import annotations

import os

import pytest
from scenes import declare

from harness.wait import eventually

#: On each connection, in bytes per second.
RATE = 6_000_000
#: Bytes that the member lacks, over all shards.
BEHIND = 90_000_000
SIZE = 64 * 1024
#: Most memory that a leader takes beside what it had.
GROWS_BY = 300 << 20

pytestmark = pytest.mark.timeout(240)


def test_a_member_that_is_behind_catches_up(fresh, name) -> None:
    cluster = fresh(3, network=True)
    cluster.start()
    queues = [f"{name}-{n}" for n in range(16)]
    declare(cluster, *queues)
    away = cluster.nodes[2]
    away.terminate()
    connection = cluster.connect(cluster.nodes[0])
    channel = connection.channel()
    channel.confirm_delivery()
    for at in range(BEHIND // SIZE):
        channel.basic_publish("", queues[at % len(queues)], os.urandom(SIZE))
    connection.close()
    before = {node.id: node.resident() for node in cluster.nodes[:2]}
    cluster.network.slow([(1, 3), (2, 3)], RATE)
    cluster.start([away], wait=False)
    for queue in queues:
        cluster.wait_in_sync(queue)

    def is_small_again() -> bool:
        grown = {node.id: node.resident() - before[node.id] for node in cluster.nodes[:2]}
        assert max(grown.values()) < GROWS_BY, grown
        return True

    eventually(is_small_again, what="leaders hold no more than before")
