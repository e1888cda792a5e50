"""A node is taken out of service for a while: others lead, its clients go to them, and it comes back."""

from __future__ import annotations

import json
import subprocess

import pika
import pytest
from pika import spec
from scenes import declare, roles

from harness import amqp, wire
from harness.load import judge, settle
from harness.node import binary
from harness.wait import eventually

TOLD = "CONNECTION_FORCED - Node was put into maintenance mode"


@pytest.fixture
def drained(whole):
    """Takes nodes out of service, and back at the end."""
    out = []

    def drain(node) -> None:
        path = f"/api/nodes/warren@{node.id}/maintenance"
        # Any node may be asked.
        asked = whole.others(node)[0]
        assert asked.http(path, "PUT", {})[0] == 204
        out.append((asked, path))

    def revive() -> None:
        while out:
            asked, path = out.pop()
            assert asked.http(path, "DELETE")[0] == 204

    drain.revive = revive
    yield drain
    revive()


def status(node) -> dict:
    return json.loads(node.http("/api/cluster/status")[1])


def test_clients_are_sent_away_and_others_lead(whole, drained, name) -> None:
    node = whole.nodes[0]
    other = whole.nodes[1]
    peer = wire.Peer(node.amqp_port).open().open_channel()
    drained(node)
    close = peer.expect(spec.Connection.Close, 0)
    assert (close.reply_code, close.reply_text) == (320, TOLD)
    peer.method(0, spec.Connection.CloseOk())

    def stands_aside() -> bool:
        now = status(other)
        leads = {row["node"]: row["leads"] for row in now["members"]}
        return leads[f"warren@{node.id}"] == 0 and sum(leads.values()) == len(now["groups"])

    eventually(stands_aside, what="others lead everything")
    eventually(lambda: not node.is_ready(), what="it says that it is not ready")
    assert node.http("/health/ready")[0] == 503
    rows = {row["node"]: row for row in status(other)["members"]}
    assert rows[f"warren@{node.id}"]["maintenance"]
    assert f"warren@{node.id} is in maintenance" in status(other)["warnings"]
    with pytest.raises(pika.exceptions.AMQPConnectionError):
        amqp.connect(node.amqp_port)
    # The cluster serves.
    channel = amqp.confirmed(amqp.connect(other.amqp_port))
    channel.queue_declare(name, durable=True)
    amqp.fill(channel, name, [b"x"])

    drained.revive()
    eventually(node.is_ready, what="it is ready again")
    again = amqp.connect(node.amqp_port).channel()
    assert amqp.get(again, name).body == b"x"

    def leads_again() -> bool:
        rows = {row["node"]: row["leads"] for row in status(other)["members"]}
        return rows[f"warren@{node.id}"] > 0

    eventually(leads_again, what="leaderships come back", timeout=60)


def test_others_see_nothing_of_it(whole, drained, load, name) -> None:
    declare(whole, name)
    leader, a, b = roles(whole, name, "leader")
    producer = load.produce(a, name, rate=500)
    consumer = load.consume(b, name)
    producer.wait_confirmed(500)
    drained(leader)
    whole.other_leader(name, leader)
    producer.wait_confirmed(500)
    drained.revive()
    producer.wait_confirmed(500)
    settle(load.producers, load.consumers)
    verdict = judge(load.producers, load.consumers)
    assert verdict.clean, verdict
    assert not producer.nacked
    consumer.assert_undisturbed()


def test_rabbitmq_upgrade_and_rabbitmqctl(whole, tmp_path) -> None:
    node = whole.nodes[1]
    for tool in ("rabbitmq-upgrade", "rabbitmqctl"):
        (tmp_path / tool).symlink_to(binary())
    environment = {"WARREN_URL": f"http://127.0.0.1:{node.management_port}"}

    def call(tool: str, command: str) -> str:
        run = [str(tmp_path / tool), command]
        return subprocess.run(run, env=environment, check=True, capture_output=True, text=True).stdout

    def told(drained: bool) -> None:
        assert f"Is under maintenance?: {str(drained).lower()}\n" in call("rabbitmqctl", "status")
        words = "marked for" if drained else "not under"
        line = f"Node: warren@{node.id}, status: {words} maintenance\n"
        assert line in call("rabbitmqctl", "cluster_status")

    told(False)
    assert "maintenance mode" in call("rabbitmq-upgrade", "drain")
    eventually(lambda: not node.is_ready(), what="it says that it is not ready")
    told(True)
    call("rabbitmq-upgrade", "revive")
    eventually(node.is_ready, what="it is ready again")
    told(False)


def test_a_node_that_starts_anew_is_in_service(whole, drained) -> None:
    node = whole.nodes[2]
    drained(node)
    eventually(lambda: not node.is_ready(), what="it says that it is not ready")
    assert node.terminate() == 0
    whole.start([node])
    amqp.drop(amqp.connect(node.amqp_port))
