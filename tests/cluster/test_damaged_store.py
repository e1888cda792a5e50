"""A store that is damaged ends its node once: after that the node goes on, and others lead."""

from __future__ import annotations

import json

import pytest

from harness import amqp
from harness.node import Node
from harness.wait import eventually

COUNT = 6_000
CONFIG = 'checkpoint_bytes = "4MiB"\n'


def damage(node: Node) -> None:
    """Changes a byte of each block in the first half of every sorted file, where messages are."""
    files = sorted((node.data_dir / "state").glob("*.sst"))
    assert files
    for file in files:
        content = bytearray(file.read_bytes())
        for place in range(4096, len(content) // 2, 4096):
            content[place] ^= 0x55
        file.write_bytes(content)


def led(by: Node, ask: Node) -> int:
    rows = json.loads(ask.http("/api/cluster/status")[1])["members"]
    return next(row["leads"] for row in rows if row["node"] == f"warren@{by.id}")


def leads_all(node: Node, ask: Node) -> bool:
    status = json.loads(ask.http("/api/cluster/status")[1])
    return led(node, ask) == len(status["groups"])


def maintain(node: Node, method: str) -> None:
    path = f"/api/nodes/warren@{node.id}/maintenance"
    assert node.http(path, method, {})[0] == 204


@pytest.mark.timeout(240)
def test_a_node_that_met_damage_leads_no_more(fresh, open_at, name) -> None:
    cluster = fresh(3, config=CONFIG).start()
    broken, b, c = cluster.nodes
    channel = open_at(b).channel()
    channel.queue_declare(name, durable=True)
    bodies = [b"%08d" % i + bytes(2_000) for i in range(COUNT)]
    # Without confirms: nothing fails yet.
    amqp.fill(channel, name, bodies)
    amqp.wait_ready_count(channel, name, COUNT)
    cluster.wait_in_sync(name)
    broken.terminate()
    damage(broken)
    cluster.start([broken])
    cluster.wait_in_sync(name)

    # The only one that leads is the one with bad copies.
    for other in (b, c):
        maintain(other, "PUT")
    eventually(lambda: leads_all(broken, b), what="the broken node leads")
    for other in (b, c):
        maintain(other, "DELETE")
    connection = open_at(c)
    consumer = amqp.Consumer(connection.channel(), name)
    status = broken.wait_stopped(60)
    assert status != 0
    assert "DAMAGED" in {file.name for file in (broken.data_dir / "state").iterdir()}
    consumer.wait(COUNT, timeout=60)
    assert {body[:8] for body in consumer.bodies} == {body[:8] for body in bodies}
    consumer.ack(consumer.messages[-1], multiple=True)
    connection.close()

    # It comes back, takes part, and leads nothing that another node can lead.
    cluster.start([broken])
    cluster.wait_in_sync(name)
    assert "the state store was found damaged" in broken.log_text()
    b.kill()
    eventually(lambda: leads_all(c, c), what="the other whole node leads everything")
    channel = amqp.confirmed(open_at(broken))
    amqp.fill(channel, name, bodies[:100])
    assert amqp.get_all(open_at(c).channel(), name, 100) == bodies[:100]
    cluster.start([b])
    cluster.wait_in_sync(name)
    assert led(broken, c) == 0
    broken.terminate()
