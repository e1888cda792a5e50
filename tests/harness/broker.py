"""What the protocol tests talk to: a cluster of ours, or any broker named by `WARREN_TEST_BROKER`."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import pika
import pytest

from harness import amqp, wire
from harness.cluster import Cluster
from harness.node import http


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

    def http(
        self, path: str, method: str = "GET", body: Any = None, node: int = 0, **login: str
    ) -> tuple[int, bytes]:
        """A request to the management API of a node; `{}` parts are the caller's to quote."""
        if self.cluster is not None:
            return self.cluster.nodes[node].http(path, method, body, **login)
        named = os.environ.get("WARREN_TEST_MANAGEMENT")
        if not named:
            pytest.skip("no management port of the external broker: set WARREN_TEST_MANAGEMENT")
        return http(int(named.rpartition(":")[2]), path, method, body, **login)

    def put(self, path: str, body: Any) -> None:
        status, answer = self.http(path, "PUT", body)
        assert status in (201, 204), (status, answer)

    def delete(self, path: str) -> None:
        status, answer = self.http(path, "DELETE")
        assert status == 204, (status, answer)

    def get(self, path: str, node: int = 0) -> Any:
        status, answer = self.http(path, node=node)
        assert status == 200, (status, answer)
        return json.loads(answer)

    def peer(self, node: int = 0) -> wire.Peer:
        return wire.Peer(self.port(node))


def part(text: str) -> str:
    """`text` as one part of a path: `/` is `%2F`."""
    return quote(text, safe="")


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
