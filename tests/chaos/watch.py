"""An eye on the processes: none ends by itself, none grows."""

from __future__ import annotations

import time

from harness.cluster import Cluster
from harness.node import Node

MIB = 1 << 20
#: Resident memory of a node that is too much, in bytes.
LIMIT = 500 * MIB


class Ended(Exception):
    """A node's process has ended by itself; going on would only hide why."""


class Watch:
    """Looked through now and then by the thread that carries out the faults."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        #: Nodes that the faults have ended.
        self.down: set[int] = set()
        self.largest: dict[int, int] = {}
        self._looked = 0.0

    def look(self) -> None:
        for node in self.cluster.nodes:
            if node.id in self.down:
                continue
            if not node.running:
                status = node.process.returncode if node.process else None
                raise Ended(f"{node} ended by itself with status {status}")
        if time.monotonic() - self._looked > 0.5:
            self._looked = time.monotonic()
            for node in self.cluster.nodes:
                if node.id not in self.down:
                    self.largest[node.id] = max(self.largest.get(node.id, 0), resident(node))

    def faults(self) -> list[str]:
        return [
            f"node {node} has taken {size // MIB} MiB of memory"
            for node, size in self.largest.items()
            if size >= LIMIT
        ]


def resident(node: Node) -> int:
    try:
        with open(f"/proc/{node.pid}/status", encoding="ascii") as status:
            for line in status:
                if line.startswith("VmRSS"):
                    return int(line.split()[1]) * 1024
    except OSError:
        pass  # It has just ended; the next look says so.
    return 0
