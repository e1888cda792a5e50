"""What the protocol tests talk to: a cluster of ours, or any broker named by `WARREN_TEST_BROKER`."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

import pika

from harness import amqp, wire
from harness.cluster import Cluster


@dataclass
class Broker:
    """AMQP ports of one logical broker; index 0, 1, 2 are different nodes if it has several."""

    ports: list[int]
    cluster: Cluster | None = None

    @property
    def external(self) -> bool:
        """Not Warren, or at least not ours to kill and inspect."""
        return self.cluster is None

    def port(self, node: int = 0) -> int:
        return self.ports[node % len(self.ports)]

    def connect(self, node: int = 0, **parameters: Any) -> pika.BlockingConnection:
        return amqp.connect(self.port(node), **parameters)

    def peer(self, node: int = 0) -> wire.Peer:
        return wire.Peer(self.port(node))


def external_ports() -> list[int] | None:
    """Ports of `WARREN_TEST_BROKER` (`127.0.0.1:5672[,…]`), if it is set."""
    named = os.environ.get("WARREN_TEST_BROKER")
    if not named:
        return None
    ports = []
    for address in named.split(","):
        host, _, port = address.strip().rpartition(":")
        assert host in ("127.0.0.1", "localhost"), "tests only ever talk to this machine"
        ports.append(int(port))
    return ports
