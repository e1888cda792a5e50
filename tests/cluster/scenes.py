"""Who plays which part: what most fault tests begin with."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pika.adapters.blocking_connection import BlockingChannel

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


@dataclass
class Stage:
    """A durable queue and the node that leads it, which dies; clients are on the two others."""

    cluster: Cluster
    queue: str
    leader: Node
    a: Node
    b: Node
    #: With confirms, at `a`.
    pub: BlockingChannel
    #: At `b`.
    sub: BlockingChannel

    def declare(self, queue: str, at: Node | None = None, **arguments: Any) -> None:
        """A further durable queue: led by the node that declares it (default: the one that dies)."""
        connection = self.cluster.connect(at or self.leader)
        connection.channel().queue_declare(queue, durable=True, arguments=arguments or None)
        connection.close()

    def kill(self) -> None:
        """kill -9 of the leader, without waiting for the next one."""
        self.leader.kill()
