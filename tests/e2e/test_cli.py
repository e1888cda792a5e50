"""The operator's commands: tables for people, JSON for programs, exit statuses for scripts."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable
from typing import Any

import pytest

from harness import amqp
from harness.node import binary
from harness.ports import free_port
from harness.wait import eventually

pytestmark = pytest.mark.warren_only("tests Warren's own program")

Warren = Callable[..., subprocess.CompletedProcess[str]]


def run(*arguments: str, url: str | None = None, stdin: str = "", login: str | None = None):
    environment = {k: v for k, v in os.environ.items() if not k.startswith("WARREN_")}
    if url:
        environment["WARREN_URL"] = url
    if login:
        environment["WARREN_LOGIN"] = login
    return subprocess.run(
        [str(binary()), *arguments],
        env=environment, input=stdin, capture_output=True, text=True, timeout=60,
    )  # fmt: skip


@pytest.fixture
def url(broker) -> str:
    return f"http://127.0.0.1:{broker.cluster.nodes[1].management_port}"


@pytest.fixture
def warren(url) -> Warren:
    """Runs a command that must succeed; returns what it prints."""

    def call(*arguments: str, stdin: str = "") -> str:
        done = run(*arguments, url=url, stdin=stdin)
        assert done.returncode == 0, (arguments, done.stderr)
        assert done.stderr == "", done.stderr
        return done.stdout

    return call


@pytest.fixture
def fails(url):
    """Runs a command that must fail with a status; returns the one line that says why."""

    def call(status: int, *arguments: str, **options: Any) -> str:
        done = run(*arguments, url=options.pop("url", url), **options)
        assert done.returncode == status, (arguments, done.returncode, done.stdout, done.stderr)
        assert done.stdout == "" and "panicked" not in done.stderr
        return done.stderr

    return call


def row(table: str, name: str) -> str:
    found = [line for line in table.splitlines() if name in line.split()]
    assert len(found) == 1, (name, table)
    return found[0]


def item(text: str, **fields: Any) -> dict[str, Any]:
    found = [e for e in json.loads(text) if all(e.get(k) == v for k, v in fields.items())]
    assert len(found) == 1, (fields, text[:2000])
    return found[0]


def test_life_and_status(warren, broker) -> None:
    warren("ping")
    warren("ping", "--ready")
    for command in (["status"], ["cluster", "status"]):
        table = warren(*command)
        assert all(f"warren@{node.id}" in table for node in broker.cluster.nodes), table
        assert json.loads(warren(*command, "--json"))


def test_users(warren, fails, name, url) -> None:
    assert name in warren("user", "add", name, "first", "--tags", "monitoring")
    row(warren("user", "list"), name)
    assert item(warren("user", "list", "--json"), name=name)["tags"] == ["monitoring"]
    assert name in fails(1, "user", "add", name, "again")
    # A password that is not on the command line.
    warren("user", "password", name, "-", stdin="second\n")
    fails(1, "queue", "list", login=f"{name}:first")
    assert run("queue", "list", url=url, login=f"{name}:second").returncode == 0
    warren("user", "tags", name, "administrator", "policymaker")
    assert item(warren("user", "list", "--json"), name=name)["tags"] == [
        "administrator",
        "policymaker",
    ]
    warren("user", "limit", name, "--max-connections", "3")
    limits = item(warren("user", "list", "--json"), name=name)["limits"]
    assert limits == {"max-connections": 3}
    assert warren("user", "delete", name, "--json") == ""
    fails(1, "user", "delete", name)


def test_vhosts_and_permissions(warren, fails, name) -> None:
    warren("vhost", "add", name, "--description", "a test")
    row(warren("vhost", "list"), name)
    assert "exists already" in warren("vhost", "add", name)
    assert item(warren("vhost", "list", "--json"), name=name)["description"] == "a test"
    warren("vhost", "limit", name, "--max-queues", "2")
    warren("user", "add", name, "secret")
    warren("permission", "set", "-p", name, name, "^a", "^b", ".*")
    granted = item(warren("permission", "list", "-p", name, "--json"), user=name)
    assert (granted["configure"], granted["write"], granted["read"]) == ("^a", "^b", ".*")
    row(warren("permission", "list", "--user", name), name)
    assert fails(1, "permission", "set", "-p", "no-such-vhost", name, "", "", "")
    warren("permission", "clear", "-p", name, name)
    assert json.loads(warren("permission", "list", "-p", name, "--user", name, "--json")) == []
    warren("vhost", "delete", name)
    warren("user", "delete", name)
    fails(1, "vhost", "delete", name)


def test_policies(warren, fails, name) -> None:
    warren("policy", "set", name, f"^{name}$", '{"max-length": 5}', "--priority", "3")
    row(warren("policy", "list"), name)
    policy = item(warren("policy", "list", "--json"), name=name)
    assert policy["definition"] == {"max-length": 5} and policy["priority"] == 3
    warren("queue", "declare", name)
    info = json.loads(warren("queue", "info", name, "--json"))
    assert info["policy"] == name
    fails(2, "policy", "set", name, "x", "not json")
    fails(1, "policy", "set", name, "x", '{"no-such-key": 1}')
    warren("policy", "delete", name)
    fails(1, "policy", "delete", name)
    warren("queue", "delete", name)


def test_queues(warren, fails, name, connect) -> None:
    warren("queue", "declare", name, "--arguments", '{"x-max-length": 1000}')
    channel = amqp.confirmed(connect(0))
    amqp.fill(channel, name, [b"one", b"two", b"three"])

    def counted() -> bool:
        return item(warren("queue", "list", "--json"), name=name)["messages_ready"] == 3

    eventually(counted, what="three messages in the list")
    assert " 3 " in row(warren("queue", "list"), name)
    info = json.loads(warren("queue", "info", name, "--json"))
    assert info["arguments"] == {"x-max-length": 1000} and info["durable"] is True
    assert name in warren("queue", "info", name)
    peeked = json.loads(warren("queue", "peek", name, "-n", "2", "--json"))
    assert [message["payload"] for message in peeked] == ["one", "two"]
    assert "one" in warren("queue", "peek", name)
    fails(1, "queue", "delete", name, "--if-empty")
    warren("queue", "purge", name)
    assert amqp.counts(channel, name)[0] == 0
    warren("queue", "delete", name, "--if-empty", "--if-unused")
    assert name in fails(1, "queue", "info", name)
    fails(1, "queue", "purge", name)


def test_topology_and_sessions(warren, fails, name, connect) -> None:
    connection = connect(2)
    channel = connection.channel()
    channel.exchange_declare(name, "topic", durable=True)
    channel.queue_declare(name, durable=True)
    channel.queue_bind(name, name, "a.#")
    tag = channel.basic_consume(name, lambda *_: None)
    assert "topic" in row(warren("exchange", "list"), name)
    assert item(warren("exchange", "list", "--json"), name=name)["type"] == "topic"
    bound = item(warren("binding", "list", "--json"), source=name)
    assert (bound["destination"], bound["routing_key"]) == (name, "a.#")
    assert "a.#" in warren("binding", "list")

    def consumer() -> bool:
        consumers = json.loads(warren("consumer", "list", "--json"))
        return any(entry["consumer_tag"] == tag for entry in consumers)

    eventually(consumer, what="the consumer is listed")
    assert tag in warren("consumer", "list")
    port = connection._impl._transport._sock.getsockname()[1]
    mine = [
        entry["name"]
        for entry in json.loads(warren("connection", "list", "--json"))
        if entry["name"].startswith(f"127.0.0.1:{port} ")
    ]
    assert mine and mine[0] in warren("connection", "list")
    warren("connection", "close", *mine, "--reason", "told by a test")
    with pytest.raises(Exception, match="told by a test"):
        eventually(lambda: connection.process_data_events(0.2) or False, what="closed")
    fails(1, "connection", "close", "no such connection")
    warren("queue", "delete", name)


def test_definitions(warren, fails, name, tmp_path, url) -> None:
    warren("vhost", "add", name)
    warren("queue", "declare", "-p", name, "q", "--arguments", '{"x-max-length": 7}')
    warren("policy", "set", "-p", name, "p", ".*", '{"max-length-bytes": 70}')
    whole = json.loads(warren("definitions", "export"))
    assert any(q["vhost"] == name and q["name"] == "q" for q in whole["queues"])
    assert all("password" not in user for user in whole["users"])
    file = tmp_path / "definitions.json"
    warren("definitions", "export", "-p", name, str(file))
    warren("vhost", "delete", name)
    warren("vhost", "add", name)
    warren("definitions", "import", "-p", name, str(file))
    info = json.loads(warren("queue", "info", "-p", name, "q", "--json"))
    assert info["arguments"] == {"x-max-length": 7} and info["policy"] == "p"
    # From standard input, and again: nothing changes.
    warren("definitions", "import", "-p", name, "-", stdin=file.read_text())
    again = json.loads(warren("definitions", "export", "-p", name))
    assert again["queues"] == json.loads(file.read_text())["queues"]
    # What is not taken is told and fails, also where a program reads the report.
    journal = {"name": "s", "vhost": name, "arguments": {"x-queue-type": "journal"}}
    for form in ((), ("--json",)):
        done = run(
            "definitions", "import", "-", *form, url=url, stdin=json.dumps({"queues": [journal]})
        )
        assert done.returncode == 1 and "journal" in done.stdout, done
    assert "queue type 'journal'" in json.loads(done.stdout)["failed"][0]
    fails(2, "definitions", "import", "-", stdin="{nonsense")
    fails(1, "definitions", "import", str(tmp_path / "missing.json"))
    warren("vhost", "delete", name)


def test_exit_statuses(fails, warren) -> None:
    assert "no answer" in fails(3, "queue", "list", url=f"http://127.0.0.1:{free_port()}")
    assert "login refused" in fails(1, "queue", "list", login="guest:wrong")
    warren("user", "add", "cli-watcher", "w", "--tags", "monitoring")
    try:
        refused = fails(1, "user", "list", login="cli-watcher:w")
        assert "Not administrator user" in refused and "login refused" not in refused
    finally:
        warren("user", "delete", "cli-watcher")
    assert fails(2, "queue", "no-such-command")
    assert fails(2, "queue", "info")
    for words in (["help"], ["queue", "--help"], ["completion", "bash"], ["--version"]):
        assert warren(*words)
