"""Who plays which part: what most fault tests begin with."""

from __future__ import annotations

from harness.cluster import Cluster
from harness.node import Node

#: What clients of a node that stops are told.
SHUTDOWN = "CONNECTION_FORCED - broker forced connection closure with reason 'shutdown'"


def declare(cluster: Cluster, *queues: str) -> None:
    """Durable queues, declared through the first node."""
    connection = cluster.connect(cluster.others()[0])
    channel = connection.channel()
    for queue in queues:
        channel.queue_declare(queue, durable=True)
    connection.close()


def roles(cluster: Cluster, queue: str, victim: str) -> tuple[Node, Node, Node]:
    """The node to kill and the two that survive."""
    leader = cluster.leader(queue)
    followers = cluster.others(leader)
    if victim == "leader":
        return leader, followers[0], followers[1]
    return followers[0], leader, followers[1]
