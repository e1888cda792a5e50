"""--default-queue-type and --relaxed-checks-on-redeclaration: of nodes, not of virtual hosts."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pika
import pytest
from pika.exceptions import ChannelClosedByBroker

from harness import amqp
from harness.cluster import Cluster
from harness.node import Node

pytestmark = pytest.mark.warren_only("starts a node of its own")


@pytest.fixture(scope="module")
def node() -> Iterator[Node]:
    args = ["--default-queue-type", "quorum", "--relaxed-checks-on-redeclaration"]
    with Cluster(1, extra_args=args) as cluster:
        cluster.start()
        yield cluster.nodes[0]


@pytest.fixture
def connection(node: Node) -> Iterator[pika.BlockingConnection]:
    with amqp.connect(node.amqp_port) as connection:
        yield connection


def shown(node: Node, path: str) -> Any:
    status, body = node.http(path)
    assert status == 200
    return json.loads(body)


def test_what_names_no_type(node: Node, connection: pika.BlockingConnection) -> None:
    channel = connection.channel()
    channel.queue_declare("usual", durable=True)
    channel.queue_declare("usual", durable=True, arguments={"x-queue-type": "quorum"})
    channel.queue_declare("said", durable=True, arguments={"x-queue-type": "classic"})
    channel.queue_declare("transient")
    channel.queue_declare("exclusive", durable=True, exclusive=True)
    assert node.http("/api/queues/%2F/over-http", "PUT", {"durable": True})[0] == 201
    types = {row["name"]: row["type"] for row in shown(node, "/api/queues")}
    assert types == {
        "usual": "quorum",
        "said": "classic",
        "transient": "classic",
        "exclusive": "classic",
        "over-http": "quorum",
    }
    assert shown(node, "/api/queues/%2F/usual")["arguments"] == {"x-queue-type": "quorum"}
    assert shown(node, "/api/overview")["default_queue_type"] == "quorum"
    assert shown(node, "/api/vhosts/%2F")["default_queue_type"] == "quorum"


def test_the_virtual_host_goes_first(node: Node) -> None:
    assert node.http("/api/vhosts/own", "PUT", {"default_queue_type": "classic"})[0] == 201
    assert shown(node, "/api/vhosts/own")["default_queue_type"] == "classic"
    assert node.http("/api/queues/own/q", "PUT", {"durable": True})[0] == 201
    assert shown(node, "/api/queues/own/q")["type"] == "classic"


def test_a_quorum_queue_is_declared_again_as_classic(connection: pika.BlockingConnection) -> None:
    channel = connection.channel()
    quorum = {"x-queue-type": "quorum", "x-max-length": 10}
    channel.queue_declare("moved", durable=True, arguments=quorum)
    classic = {"x-queue-type": "classic", "x-max-length": 10}
    channel.queue_declare("moved", durable=True, arguments=classic)
    channel.queue_declare("moved", durable=True, arguments=classic | {"x-queue-mode": "lazy"})
    with pytest.raises(ChannelClosedByBroker) as refused:
        channel.queue_declare("moved", durable=True, arguments=classic | {"x-max-length": 11})
    assert refused.value.reply_code == 406
    assert "x-max-length" in refused.value.reply_text
