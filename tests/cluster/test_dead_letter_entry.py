"""A dead letter whose queues share a shard with the one it died in is one entry of the log."""

from __future__ import annotations

import json

import pytest

from harness import amqp
from harness.cluster import Cluster
from harness.wait import eventually

#: Letters that are followed, one after the other.
ROUNDS = 10


@pytest.fixture
def shard(fresh) -> Cluster:
    """One node with one shard, so that all queues share it."""
    return fresh(1, extra_args=["--shards", "1"]).start()


def committed(cluster: Cluster, queue: str) -> int:
    status, answer = cluster.nodes[0].http(f"/api/queues/quorum/%2F/{queue}/status")
    assert status == 200, answer
    return json.loads(answer)[0]["Commit Index"]


@pytest.mark.parametrize("targets", [1, 3])
def test_arrives_and_is_settled_in_one_entry(shard, name, targets) -> None:
    connection = shard.connect(shard.nodes[0])
    channel = amqp.confirmed(connection)
    graves = [f"{name}-{number}" for number in range(targets)]
    channel.exchange_declare(name, "fanout", durable=True)
    for grave in graves:
        channel.queue_declare(grave, durable=True)
        channel.queue_bind(grave, name)
    other = name + "-other"
    channel.queue_declare(other, durable=True)
    channel.queue_declare(name, durable=True, arguments={"x-dead-letter-exchange": name})
    amqp.fill(channel, name, [b"dead"] * ROUNDS)
    tags = [amqp.get(channel, name).tag for _ in range(ROUNDS)]
    before = committed(shard, name)
    for number, tag in enumerate(tags, start=1):
        channel.basic_reject(tag, requeue=False)
        for grave in graves:
            eventually(lambda: amqp.counts(channel, grave)[0] == number)  # noqa: B023
        # It comes after all that was on its way.
        amqp.fill(channel, other, [b"."])
    entries = committed(shard, name) - before
    assert entries == 3 * ROUNDS, "it dies; it arrives and is settled; the other message"
    connection.close()


def test_one_that_is_refused_stays_until_there_is_room(shard, name) -> None:
    connection = shard.connect(shard.nodes[0])
    channel = amqp.confirmed(connection)
    full, other = name + "-full", name + "-other"
    channel.exchange_declare(name, "fanout", durable=True)
    arguments = {"x-max-length": 1, "x-overflow": "reject-publish"}
    channel.queue_declare(full, durable=True, arguments=arguments)
    channel.queue_declare(other, durable=True)
    for grave in (full, other):
        channel.queue_bind(grave, name)
    channel.queue_declare(name, durable=True, arguments={"x-dead-letter-exchange": name})
    amqp.fill(channel, full, [b"in the way"])
    amqp.fill(channel, name, [b"dead"])
    channel.basic_reject(amqp.get(channel, name).tag, requeue=False)
    assert amqp.get(channel, other).body == b"dead"
    first = amqp.get(channel, full)
    assert first.body == b"in the way"
    channel.basic_ack(first.tag)
    assert amqp.get(channel, full).body == b"dead"
    # Nobody has got it twice.
    assert channel.basic_get(other) == (None, None, None)
    assert channel.basic_get(full) == (None, None, None)
    connection.close()
