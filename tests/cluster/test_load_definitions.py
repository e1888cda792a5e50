"""Definitions that nodes bring along when they start, as a compose file for RabbitMQ mounts them."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from harness import amqp
from harness.node import binary
from harness.wait import eventually

DEFINITIONS: dict[str, Any] = {
    "rabbit_version": "3.13.7",
    "rabbitmq_version": "3.13.7",
    "users": [
        {
            "name": "app",
            "password_hash": "set by the fixture",
            "hashing_algorithm": "rabbit_password_hashing_sha256",
            "tags": ["administrator"],
        }
    ],
    "vhosts": [{"name": "/"}, {"name": "shop"}],
    "permissions": [
        {"user": "app", "vhost": "shop", "configure": ".*", "write": ".*", "read": ".*"}
    ],
    "queues": [
        {"name": "orders", "vhost": "shop", "durable": True, "auto_delete": False, "arguments": {}},
        {"name": "lost", "vhost": "nowhere", "durable": True, "arguments": {}},
    ],
    "exchanges": [{"name": "events", "vhost": "shop", "type": "topic", "durable": True}],
    "bindings": [
        {
            "source": "events",
            "vhost": "shop",
            "destination": "orders",
            "destination_type": "queue",
            "routing_key": "order.#",
            "arguments": {},
        }
    ],
    "horses": [],
}


def hashed(password: str) -> str:
    """RabbitMQ's format: salt and SHA-256 of salt and password."""
    import base64
    import hashlib

    salt = bytes.fromhex("908dc60a")
    return base64.b64encode(salt + hashlib.sha256(salt + password.encode()).digest()).decode()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "definitions.json"
    definitions = json.loads(json.dumps(DEFINITIONS))
    definitions["users"][0]["password_hash"] = hashed("sesame")
    path.write_text(json.dumps(definitions))
    return path


def test_every_node_of_a_new_cluster_brings_them(fresh, file: Path) -> None:
    cluster = fresh(3, extra_args=["--load-definitions", str(file)])
    cluster.start(wait=False)
    login = {"user": "app", "password": "sesame", "virtual_host": "shop"}

    def connected():
        try:
            return amqp.connect(cluster.nodes[2].amqp_port, **login)
        except amqp.CONNECT_ERRORS:
            return None

    connection = eventually(connected, 20, "the user of the file can log in")
    channel = connection.channel()
    channel.confirm_delivery()

    def bound_queue_is_there() -> bool:
        return "definitions loaded" in cluster.nodes[2].log_path.read_text()

    eventually(bound_queue_is_there, 20, "the definitions are loaded")
    channel.basic_publish("events", "order.new", b"one", amqp.PERSISTENT, mandatory=True)
    assert channel.queue_declare("orders", passive=True).method.message_count == 1
    connection.close()
    # Whoever brings users wants no well-known one.
    with pytest.raises(amqp.CONNECT_ERRORS):
        amqp.connect(cluster.nodes[0].amqp_port)
    log = cluster.nodes[2].log_path.read_text()
    assert "horses" in log and "'lost' in vhost 'nowhere'" in log

    # Started again they change nothing, and nothing is lost.
    node = cluster.nodes[2]
    node.kill()
    node.start()
    connection = eventually(connected, 20, "the user of the file can log in again")
    assert connection.channel().queue_declare("orders", passive=True).method.message_count == 1
    connection.close()


@pytest.mark.parametrize(
    ("text", "says"),
    [("{", "not JSON"), ("[]", "not a JSON object"), ('{"users": {}}', "'users' is not a list")],
)
def test_a_file_that_is_none_is_refused_at_once(tmp_path: Path, text: str, says: str) -> None:
    path = tmp_path / "definitions.json"
    path.write_text(text)
    done = subprocess.run(
        [str(binary()), "serve", "--data-dir", str(tmp_path / "data"), "--load-definitions", path],
        capture_output=True, text=True, timeout=30,
    )  # fmt: skip
    assert done.returncode == 2
    assert says in done.stderr and str(path) in done.stderr
    assert not (tmp_path / "data").exists()
