"""A shovel through the loss of the node that runs it."""

from __future__ import annotations

import threading
from typing import Any

from harness import amqp
from harness.broker import part
from harness.cluster import Cluster, json_of
from harness.node import Node
from harness.wait import bound, eventually

MESSAGES = 3000


def row(node: Node, name: str) -> dict[str, Any] | None:
    rows = json_of(node.http("/api/shovels/%2F"))
    return next((found for found in rows if found["name"] == name), None)


def running(node: Node, name: str) -> dict[str, Any]:
    found = row(node, name)
    assert found is not None and found["state"] == "running", found
    return found


def test_another_node_goes_on(whole: Cluster, name, open_at) -> None:
    """Killed while messages are on their way: within seconds another node runs it, and all of them arrive. The catalog's leader
    runs it, and which node that is the test finds out by the list."""
    source, target = f"{name}-from", f"{name}-to"
    first = whole.nodes[0]
    channel = open_at(first).channel()
    for queue in (source, target):
        channel.queue_declare(queue, durable=True)
    value = {
        "src-uri": "amqp://",
        "src-queue": source,
        "src-prefetch-count": 200,
        "dest-uri": "amqp://",
        "dest-queue": target,
        "reconnect-delay": 1,
    }
    path = f"/api/parameters/shovel/%2F/{part(name)}"
    assert first.http(path, "PUT", {"value": value})[0] == 201
    before = eventually(lambda: running(first, name), what="the shovel")
    ran = next(node for node in whole.nodes if before["node"] == f"warren@{node.id}")
    alive, other = whole.others(ran)
    publisher = amqp.confirmed(open_at(alive))
    half = threading.Event()

    def publish() -> None:
        for number in range(MESSAGES):
            publisher.basic_publish("", source, b"%d" % number, amqp.PERSISTENT)
            if number == MESSAGES // 2:
                half.set()

    thread = threading.Thread(target=publish, daemon=True)
    thread.start()
    assert half.wait(bound(60)), "the publisher stands still"
    ran.kill()

    def moved() -> str:
        now = running(alive, name)
        assert now["node"] != before["node"], now
        return now["node"]

    eventually(moved, timeout=bound(10), what="the shovel on another node")
    thread.join(bound(60))
    assert not thread.is_alive(), "the publisher stands still"
    taker = open_at(other).channel()
    missing = {b"%d" % number for number in range(MESSAGES)}
    while missing:
        missing.discard(amqp.get(taker, target, auto_ack=True, timeout=bound(60)).body)
    states = [row(node, name) for node in (alive, other)]
    assert {state["node"] for state in states} == {states[0]["node"]}
    assert alive.http(path, "DELETE")[0] == 204
