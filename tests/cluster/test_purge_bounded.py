"""What was consumed does not stay on disk: logs are purged, and a restart does not replay them."""

from __future__ import annotations

import time

from harness.load import judge
from harness.wait import bound, eventually

MIB = 1024 * 1024
TOTAL = 1024 * MIB
SIZE = 60_000
#: Far below what flows through, far above what the small limits below need.
DISK = 320 * MIB
MEMORY = 1024 * MIB


def test_a_gigabyte_through_small_limits(fresh, load, names) -> None:
    cluster = fresh(
        3,
        extra_args=[
            "--shards", "2",
            "--checkpoint-bytes", "4MiB",
            "--log-keep", "8MiB",
            "--log-segment", "4MiB",
            "--state-write-buffer", "8MiB",
        ],
    )  # fmt: skip
    cluster.start()
    queues = [names(), names()]
    channel = cluster.connect(1).channel()
    for queue in queues:
        channel.queue_declare(queue, durable=True)
    per_queue = TOTAL // len(queues) // SIZE
    for index, queue in enumerate(queues):
        load.consume(cluster.nodes[index], queue, prefetch=100)
        load.produce(cluster.nodes[index + 1], queue, rate=100_000, window=60, size=SIZE)
    disk, memory = 0, 0
    deadline = time.monotonic() + bound(150)
    while any(len(p.confirmed) < per_queue for p in load.producers):
        assert time.monotonic() < deadline, [len(p.confirmed) for p in load.producers]
        for client in [*load.producers, *load.consumers]:
            client.check()
        disk = max(disk, *(n.data_bytes() for n in cluster.nodes))
        memory = max(memory, *(n.resident() for n in cluster.nodes))
        time.sleep(0.25)
    for producer in load.producers:
        producer.stop()
    for producer, consumer in zip(load.producers, load.consumers):
        eventually(
            lambda: (
                producer.confirmed <= {a.sequence for a in list(consumer.arrivals[producer.number])}
            ),
            what="everything confirmed is delivered",
        )
        verdict = judge([producer], [consumer])
        assert verdict.clean, verdict
    print(f"{disk / MIB:.0f} MiB on disk, {memory / MIB:.0f} MiB of memory at most")
    assert disk < DISK, f"{disk / MIB:.0f} MiB on one node's disk"
    assert memory < MEMORY, f"{memory / MIB:.0f} MiB of memory in one node"

    # Recovery time does not grow with what was consumed.
    for consumer in load.consumers:
        consumer.close()
    cluster.kill_all()
    began = time.monotonic()
    cluster.start()
    assert time.monotonic() - began < bound(30)
    assert max(n.data_bytes() for n in cluster.nodes) < DISK
