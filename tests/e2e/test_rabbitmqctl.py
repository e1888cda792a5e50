"""The program under the names of RabbitMQ's tools: their command lines, their output, their exit codes."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness import amqp
from harness.node import binary
from harness.ports import free_port
from harness.wait import eventually

pytestmark = pytest.mark.warren_only("tests Warren's own program")

Done = subprocess.CompletedProcess[str]
TOOLS = [
    "rabbitmqctl", "rabbitmq-diagnostics", "rabbitmq-queues", "rabbitmq-plugins",
    "rabbitmq-upgrade", "rabbitmq-streams",
]  # fmt: skip


@pytest.fixture(scope="module")
def tools(tmp_path_factory) -> Path:
    """A directory with the program under the tools' names, as the image has it."""
    directory = tmp_path_factory.mktemp("tools")
    for name in TOOLS:
        (directory / name).symlink_to(Path(binary()).resolve())
    return directory


def environment(tools: Path, port: int, **more: str) -> dict[str, str]:
    known = {
        k: v for k, v in os.environ.items() if not k.startswith(("WARREN_", "RABBITMQ_DEFAULT_"))
    }
    known["PATH"] = f"{tools}:{known['PATH']}"
    return known | {"WARREN_URL": f"http://127.0.0.1:{port}"} | more


@pytest.fixture
def call(broker, tools) -> Callable[..., Done]:
    """Runs a tool; `code` is the exit code that it must have."""

    def run(*words: str, code: int = 0, stdin: str = "", **more: str) -> Done:
        port = broker.cluster.nodes[1].management_port
        done = subprocess.run(
            list(words),
            env=environment(tools, port, **more),
            input=stdin, capture_output=True, text=True, timeout=60,
        )  # fmt: skip
        assert done.returncode == code, (words, done.returncode, done.stdout, done.stderr)
        assert "panicked" not in done.stderr
        if code == 0:
            assert done.stderr == "", done.stderr
        return done

    return run


@pytest.fixture
def ctl(call) -> Callable[..., str]:
    """Runs `rabbitmqctl`, which must succeed, or end with `code`; returns what it prints, or what it says then."""

    def run(*words: str, code: int = 0, **options: Any) -> str:
        done = call("rabbitmqctl", *words, code=code, **options)
        return done.stderr if code else done.stdout

    return run


@pytest.fixture
def vhost(ctl, name):
    ctl("add_vhost", name)
    ctl("set_permissions", "-p", name, "guest", ".*", ".*", ".*")
    yield name
    ctl("delete_vhost", name)


def rows(text: str) -> list[list[str]]:
    return [line.split("\t") for line in text.splitlines()]


def test_a_script_of_a_compose_file(broker, tools, name) -> None:
    script = f"""
        set -eu
        rabbitmqctl await_startup --timeout 30
        rabbitmq-diagnostics -q ping
        rabbitmq-diagnostics -q check_running
        rabbitmq-plugins enable --offline rabbitmq_management rabbitmq_prometheus
        rabbitmqctl add_vhost {name}
        if ! rabbitmqctl list_users -q --no-table-headers | cut -f1 | grep -qx {name}; then
            rabbitmqctl add_user {name} secret
        fi
        rabbitmqctl set_user_tags {name} monitoring
        rabbitmqctl set_permissions -p {name} {name} '.*' '.*' '.*'
        rabbitmqctl set_policy -p {name} limited '^jobs' '{{"max-length": 10}}' --apply-to queues
        rabbitmqctl authenticate_user {name} secret
        rabbitmqctl -q list_vhosts | grep -qx {name}
        test "$(rabbitmqctl list_permissions -p {name} -s)" = "$(printf '{name}\\t.*\\t.*\\t.*')"
        rabbitmqctl delete_user {name}
        rabbitmqctl delete_vhost {name}
    """
    port = broker.cluster.nodes[0].management_port
    done = subprocess.run(
        ["sh", "-c", script],
        env=environment(tools, port), capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, (done.stdout, done.stderr)
    assert f'Adding vhost "{name}" ...' in done.stdout
    assert 'Setting policy "limited" for pattern "^jobs" to "{"max-length": 10}"' in done.stdout


def test_forms_of_a_list(ctl, vhost, connect) -> None:
    channel = connect(0, virtual_host=vhost).channel()
    channel.queue_declare("a", durable=True, arguments={"x-max-length": 5})
    channel.queue_declare("b", durable=True)
    banner = f"Timeout: 60.0 seconds ...\nListing queues for vhost {vhost} ...\n"
    assert ctl("list_queues", "-p", vhost) == f"{banner}name\tmessages\na\t0\nb\t0\n"
    assert ctl("-q", "list_queues", "-p", vhost) == "name\tmessages\na\t0\nb\t0\n"
    assert ctl("list_queues", "-s", "--vhost", vhost) == "a\t0\nb\t0\n"
    assert ctl("list_queues", f"--vhost={vhost}", "--no-table-headers", "name") == f"{banner}a\nb\n"
    columns = ["name", "durable", "auto_delete", "arguments", "policy", "exclusive", "consumers"]
    assert rows(ctl("-q", "list_queues", "-p", vhost, *columns))[1] == [
        "a", "true", "false", '[{"x-max-length",5}]', "", "false", "0",
    ]  # fmt: skip
    assert ctl("list_queues", "-p", vhost, "name,type", "--formatter", "json") == (
        '[\n{"name":"a","type":"classic"}\n,{"name":"b","type":"classic"}\n]\n'
    )
    shown = json.loads(ctl("list_queues", "-p", vhost, "arguments", "--formatter=json"))
    assert shown[0] == {"arguments": [["x-max-length", "long", 5]]}
    assert ctl("list_queues", "-p", vhost, "name", "--formatter", "csv") == '"name"\n"a"\n"b"\n'
    pretty = ctl("-q", "list_queues", "-p", vhost, "name", "--formatter", "pretty_table")
    assert pretty.splitlines()[1] == "│ name │"
    for formatter in ["erlang", "bogus"]:
        ctl("list_queues", "--formatter", formatter, code=64)
    text = ctl("list_queues", "name", "bogus", code=64)
    assert text.startswith("Error (argument validation): Info key(s) bogus are not supported")
    # What is not there is no error in this list.
    assert ctl("-q", "list_queues", "-p", "no-such-vhost") == ""
    assert ctl("list_queues", "-p", "no-such-vhost", "--formatter", "json") == "[\n]\n"
    assert ctl("-q", "list_queues", "-p", vhost, "--offline") == ""


def test_lists_of_what_clients_made(ctl, vhost, connect) -> None:
    connection = connect(0, virtual_host=vhost, client_properties={"connection_name": "a test"})
    channel = connection.channel()
    channel.queue_declare("q", durable=True)
    channel.exchange_declare("x", "topic", durable=True, arguments={"alternate-exchange": "y"})
    channel.queue_bind("q", "x", "a.#", {"h": "v"})
    channel.basic_qos(prefetch_count=7)
    channel.basic_consume("q", lambda *_: None, consumer_tag="tag")
    exchanges = rows(ctl("list_exchanges", "-q", "-p", vhost, "name", "type", "arguments"))
    assert ["x", "topic", '[{"alternate-exchange","y"}]'] in exchanges
    assert ["", "direct", "[]"] in exchanges
    bindings = rows(ctl("-q", "list_bindings", "-p", vhost))
    assert bindings[0] == [
        "source_name", "source_kind", "destination_name", "destination_kind", "routing_key",
        "arguments",
    ]  # fmt: skip
    assert ["", "exchange", "q", "queue", "q", "[]"] in bindings
    assert ["x", "exchange", "q", "queue", "a.#", '[{"h","v"}]'] in bindings

    def consumers() -> list[dict[str, Any]]:
        found = json.loads(ctl("list_consumers", "-p", vhost, "--formatter", "json"))
        return [consumer for consumer in found if consumer["prefetch_count"] == 7]

    [consumer] = eventually(consumers)
    assert consumer["queue_name"] == "q" and consumer["consumer_tag"] == "tag"
    assert consumer["ack_required"] is True and consumer["active"] is True

    def own() -> list[list[str]]:
        columns = ["pid", "name", "user", "vhost", "state", "channels", "connection_name"]
        found = rows(ctl("-s", "list_connections", *columns))
        return [row for row in found if row[3] == vhost]

    [row] = eventually(own)
    assert row[2:] == ["guest", vhost, "running", "1", "a test"]
    channels = rows(ctl("-s", "list_channels", "connection", "number", "vhost", "consumer_count"))
    assert [row[0], "1", vhost, "1"] in channels
    assert ctl("-q", "list_unresponsive_queues", "-p", vhost) == ""


def test_users(ctl, name) -> None:
    added = ctl("add_user", name, "first")
    assert added.startswith(f'Adding user "{name}" ...\nDone. Don\'t forget to grant')
    assert f'User "{name}" already exists' in ctl("add_user", name, "first", code=70)
    assert ctl("authenticate_user", name, "first", "-q") == "Success\n"
    assert "failed to authenticate" in ctl("authenticate_user", name, "second", code=65)
    # A password that is not on the command line.
    ctl("change_password", name, stdin="second\n")
    ctl("authenticate_user", name, stdin="second\n")
    assert ctl("set_user_tags", name, "a", "b") == f'Setting tags for user "{name}" to [a, b] ...\n'
    assert f"{name}\t[a, b]" in ctl("list_users").splitlines()
    ctl("set_user_tags", name)
    assert {"user": name, "tags": []} in json.loads(ctl("list_users", "--formatter", "json"))
    ctl("authenticate_user", name, "second")
    ctl("clear_password", name)
    ctl("authenticate_user", name, "second", code=65)
    hashed = ctl("-q", "hash_password", "third").strip()
    ctl("delete_user", name)
    ctl("add_user", name, hashed, "--pre-hashed-password", "-q")
    ctl("authenticate_user", name, "third")
    limits = '{"max-connections":10,"max-channels":20}'
    ctl("set_user_limits", name, limits)
    assert json.loads(ctl("-q", "list_user_limits", "--user", name)) == json.loads(limits)
    assert f'{name}\t{{"max-channels":20' in ctl("list_user_limits", "--global")
    ctl("clear_user_limits", name, "max-channels")
    assert ctl("-q", "list_user_limits", "--user", name) == '{"max-connections":10}\n'
    ctl("clear_user_limits", name, "all")
    assert ctl("-q", "list_user_limits", "--user", name) == "{}\n"
    assert ctl("delete_user", name) == f'Deleting user "{name}" ...\n'
    assert ctl("delete_user", name, code=67) == f'Error:\nUser "{name}" does not exist\n'
    ctl("add_user", name, code=65)


def test_vhosts_and_permissions(ctl, name) -> None:
    more = ["--description", "a b", "--tags", "x,y", "--default-queue-type", "quorum"]
    ctl("add_vhost", name, *more)
    # Again: it stays as it is.
    ctl("add_vhost", name)
    columns = ["name", "description", "tags", "default_queue_type", "tracing"]
    assert f"{name}\ta b\t[x, y]\tquorum\tfalse" in ctl("list_vhosts", *columns).splitlines()
    # Who adds a vhost may not use it yet.
    assert ctl("-q", "list_permissions", "-p", name) == "\n"
    assert ctl("list_permissions", "-p", name, "--formatter", "json") == "[]\n"
    ctl("add_user", name, "secret")
    ctl("-p", name, "set_permissions", name, "^a", "b", "")
    banner = f'Listing permissions for vhost "{name}" ...\n'
    listed = f"{banner}user\tconfigure\twrite\tread\n{name}\t^a\tb\t\n"
    assert ctl("list_permissions", "-p", name) == listed
    assert ctl("-s", "list_user_permissions", name) == f"{name}\t^a\tb\t\n"
    ctl("set_topic_permissions", "-p", name, name, "amq.topic", "^w", "^r")
    assert ctl("-s", "list_topic_permissions", "-p", name) == f"{name}\tamq.topic\t^w\t^r\n"
    refused = ctl("set_topic_permissions", "-p", name, name, "none", "^w", "^r", code=69)
    assert refused == "Error:\nExchange none does not exist\n"
    # No headings, unless they are asked for.
    assert ctl("-q", "list_user_topic_permissions", name) == f"{name}\tamq.topic\t^w\t^r\n"
    ctl("clear_topic_permissions", "-p", name, name)
    ctl("clear_permissions", "-p", name, name)
    # Once more is no failure.
    ctl("clear_topic_permissions", "-p", name, name)
    ctl("clear_permissions", "-p", name, name)
    assert ctl("-s", "list_user_permissions", name) == "\n"
    nobody = ctl("set_permissions", "-p", name, "nobody-x", "", "", "", code=67)
    assert nobody == "Error:\nUser nobody-x does not exist\n"
    nowhere = ctl("set_permissions", "-p", "no-such-vhost", name, "", "", "", code=69)
    assert nowhere == "Error:\nVirtual host no-such-vhost does not exist\n"
    ctl("set_permissions", name, ".*", code=64)
    ctl("set_vhost_limits", "-p", name, '{"max-connections": 10, "max-queues": 5}')
    limits = json.loads(ctl("-q", "list_vhost_limits", "-p", name))
    assert limits == {"max-connections": 10, "max-queues": 5}
    assert "JSON decoding error" in ctl("set_vhost_limits", "-p", name, "{", code=69)
    assert "Unrecognised terms" in ctl("set_vhost_limits", "-p", name, '{"x": 1}', code=69)
    ctl("clear_vhost_limits", "-p", name)
    assert ctl("-q", "list_vhost_limits", "-p", name) == "\n"
    ctl("update_vhost_metadata", name, "--description", "new")
    assert f"{name}\tnew" in ctl("list_vhosts", "name", "description").splitlines()
    ctl("update_vhost_metadata", name, code=64)
    ctl("enable_vhost_deletion_protection", name)
    ctl("delete_vhost", name, code=69)
    ctl("update_vhost_metadata", name, "--no-protected-from-deletion")
    ctl("delete_vhost", name)
    gone = f"Virtual host '{name}' does not exist\n"
    assert ctl("delete_vhost", name, code=65) == gone
    assert ctl("list_permissions", "-p", name, code=65) == gone
    ctl("delete_user", name)


def test_policies_and_parameters(ctl, vhost) -> None:
    definition = '{"max-length": 10, "overflow": "reject-publish"}'
    ctl("set_policy", "-p", vhost, "p", "^q", definition, "--priority", "3", "--apply-to", "queues")
    row = [vhost, "p", "^q", "queues", '{"max-length":10,"overflow":"reject-publish"}', "3"]
    assert rows(ctl("-s", "list_policies", "-p", vhost)) == [row]
    [shown] = json.loads(ctl("list_policies", "-p", vhost, "--formatter", "json"))
    assert list(shown) == ["vhost", "name", "pattern", "apply-to", "definition", "priority"]
    assert json.loads(shown["definition"]) == json.loads(definition)
    assert "JSON" in ctl("set_policy", "-p", vhost, "p", "^q", "{", code=69)
    refused = ctl("set_policy", "-p", vhost, "p", "^q", '{"no-such-key": 1}', code=69)
    assert refused.startswith("Error:\nValidation failed\n\n")
    ctl("set_policy", "-p", "no-such-vhost", "p", "^q", "{}", code=65)
    ctl("set_policy", "-p", vhost, "p", "^q", "{}", "--priority", "high", code=64)
    ctl("clear_policy", "-p", vhost, "p")
    assert ctl("clear_policy", "-p", vhost, "p", code=69) == "Error:\nParameter does not exist\n"
    ctl("set_operator_policy", "-p", vhost, "o", "^q", '{"max-length": 1}', "--apply-to", "queues")
    assert ctl("-s", "list_operator_policies", "-p", vhost).startswith(f"{vhost}\to\t^q\tqueues")
    ctl("clear_operator_policy", "-p", vhost, "o")
    ctl("set_parameter", "-p", vhost, "federation-upstream", "s", '{"uri": "a"}')
    assert ctl("-s", "list_parameters", "-p", vhost) == 'federation-upstream\ts\t{"uri":"a"}\n'
    ctl("clear_parameter", "-p", vhost, "federation-upstream", "s")
    ctl("set_parameter", "-p", vhost, "vhost-limits", "limits", '{"max-queues": 7}')
    assert json.loads(ctl("-q", "list_vhost_limits", "-p", vhost)) == {"max-queues": 7}
    ctl("clear_parameter", "-p", vhost, "vhost-limits", "limits")
    ctl("set_global_parameter", vhost, '{"a": 1}')
    assert f'{vhost}\t{{"a":1}}' in ctl("list_global_parameters").splitlines()
    ctl("clear_global_parameter", vhost)
    ctl("clear_global_parameter", vhost, code=69)


def test_queues(ctl, call, vhost, connect) -> None:
    channel = amqp.confirmed(connect(0, virtual_host=vhost))
    channel.queue_declare("q", durable=True, arguments={"x-queue-type": "quorum"})
    amqp.fill(channel, "q", [b"one", b"two"])
    peeked = call("rabbitmq-queues", "peek", "-p", vhost, "q", "2", "--formatter", "json").stdout
    assert json.loads(peeked)["message"]["payload"] == "two"
    call("rabbitmq-queues", "peek", "-p", vhost, "q", "3", code=69)
    call("rabbitmq-queues", "peek", "-p", vhost, "q", "0", code=64)
    status = json.loads(
        call("rabbitmq-queues", "quorum_status", "-p", vhost, "q", "--formatter", "json").stdout
    )
    assert sum(member["Raft State"] == "leader" for member in status) == 1 and len(status) == 3
    eventually(lambda: ctl("-s", "list_queues", "-p", vhost, "messages_ready") == "2\n")
    assert "not empty" in ctl("delete_queue", "-p", vhost, "q", "--if-empty", code=64)
    assert ctl("purge_queue", "-p", vhost, "q") == f"Purging queue 'q' in vhost '{vhost}' ...\n"
    eventually(lambda: ctl("-s", "list_queues", "-p", vhost, "messages_ready") == "0\n")
    ctl("delete_queue", "-p", vhost, "q", "-e", "-u")
    assert ctl("delete_queue", "-p", vhost, "q", code=64) == "Error:\nQueue not found\n"
    assert ctl("purge_queue", "-p", vhost, "q", code=69) == "Error:\nnot_found\n"
    call("rabbitmq-queues", "rebalance", "all")
    call("rabbitmq-queues", "rebalance", "bogus", code=69)
    for words in (["grow", "warren@2", "all"], ["delete_member", "q", "warren@2"]):
        assert "every node" in call("rabbitmq-queues", *words, code=69).stderr


def test_connections_are_closed(ctl, vhost, broker) -> None:
    def closed(connection: Any) -> None:
        def noticed() -> bool:
            try:
                connection.process_data_events(0)
            except Exception as error:
                assert "closed by a test" in str(error), error
                return True
            return False

        eventually(noticed)

    def own(column: str) -> list[str]:
        found = rows(ctl("-s", "list_connections", column, "vhost"))
        return [row[0] for row in found if row[1] == vhost]

    for column in ("pid", "name"):
        connection = broker.connect(0, virtual_host=vhost)
        [which] = eventually(lambda column=column: own(column))
        assert column == "name" or " " not in which
        ctl("close_connection", which, "closed by a test")
        closed(connection)
        eventually(lambda: not own("pid"))
    connections = [broker.connect(node, virtual_host=vhost) for node in (0, 1)]
    eventually(lambda: len(own("pid")) == 2)
    banner = f"Closing all connections in vhost {vhost}, reason: closed by a test...\n"
    said = ctl("close_all_connections", "-p", vhost, "closed by a test")
    assert said == f"{banner}Closed 2 connections\n"
    for connection in connections:
        closed(connection)
    # One that has closed meanwhile is no error, as with RabbitMQ; what is no pid and no name is.
    gone = ctl("close_connection", "<warren@1.none>", "x")
    assert gone == "Closing connection <warren@1.none>, reason: x...\n"
    assert ctl("close_connection", "none", "x", code=69).startswith("Error:\n")
    ctl("close_all_user_connections", "nobody-x", "x")


def test_definitions_go_round(ctl, vhost, tmp_path) -> None:
    file = tmp_path / "definitions.json"
    ctl("set_policy", "-p", vhost, "p", "^q", '{"max-length": 10}')
    said = ctl("export_definitions", str(file))
    assert said == f'Exporting definitions in JSON to a file at "{file}" ...\n'
    ctl("clear_policy", "-p", vhost, "p")
    said = ctl("import_definitions", str(file))
    assert said.splitlines()[1].startswith("Successfully started definition import.")
    assert ctl("-s", "list_policies", "-p", vhost).startswith(f"{vhost}\tp\t")
    shown = json.loads(ctl("export_definitions", "-"))
    assert {"name": vhost} in [{"name": found["name"]} for found in shown["vhosts"]]
    part = {"policies": [p for p in shown["policies"] if p["vhost"] == vhost]}
    ctl("clear_policy", "-p", vhost, "p")
    assert ctl("-q", "import_definitions", stdin=json.dumps(part)) == ""
    assert ctl("-s", "list_policies", "-p", vhost).startswith(f"{vhost}\tp\t")
    assert "deserialise" in ctl("import_definitions", stdin='{"queues":[', code=65)
    homeless = json.dumps({"queues": [{"name": "nowhere"}]})
    refused = ctl("import_definitions", stdin=homeless, code=69)
    assert refused.startswith("Error:\ninvalid_definitions_file: queues")
    ctl("import_definitions", str(tmp_path / "none.json"), code=65)
    ctl("export_definitions", str(tmp_path / "none" / "x.json"), code=65)
    ctl("export_definitions", str(file), "--format", "erlang", code=65)


def test_the_cluster(ctl, broker) -> None:
    names = [f"warren@{node.id}" for node in broker.cluster.nodes]
    status = json.loads(ctl("cluster_status", "--formatter", "json"))
    assert sorted(status["running_nodes"]) == names and sorted(status["disk_nodes"]) == names
    assert status["alarms"] == [] and status["partitions"] == {}
    assert sorted(status["listeners"]) == names and sorted(status["versions"]) == names
    assert {"amqp", "http", "clustering"} <= {
        listener["protocol"] for listener in status["listeners"][names[0]]
    }
    for node in broker.cluster.nodes:
        listening = {
            listener["protocol"]: listener["port"]
            for listener in status["listeners"][f"warren@{node.id}"]
        }
        assert (listening["amqp"], listening["http"]) == (node.amqp_port, node.management_port)
    text = ctl("cluster_status")
    assert text.startswith("Cluster status of node ") and "Running Nodes\n\nwarren@1\n" in text
    shown = json.loads(ctl("status", "--formatter=json"))
    assert shown["rabbitmq_version"] and shown["alarms"] == [] and shown["uptime"] >= 0
    assert shown["totals"]["virtual_host_count"] >= 1
    assert "Alarms\n\n(none)\n" in ctl("status")
    assert ctl("version").strip() == shown["rabbitmq_version"]
    ctl("await_online_nodes", "3", "-q")
    ctl("await_online_nodes", "9", "-t", "1", code=70)
    ctl("await_online_nodes", "x", code=65)
    ctl("enable_feature_flag", "all")
    ctl("enable_feature_flag", "quorum_queue")
    ctl("enable_feature_flag", "bogus", code=64)
    assert "quorum_queue\tenabled" in ctl("list_feature_flags").splitlines()
    deprecated = ctl("-q", "list_deprecated_features", "name", "state")
    assert "classic_queue_mirroring" in deprecated
    assert "not_a_cluster_node" in ctl("forget_cluster_node", "rabbit@nope", code=69)


def test_checks(call, broker) -> None:
    node = broker.cluster.nodes[1]
    own = call("rabbitmq-diagnostics", "listeners", "--formatter", "json").stdout
    ports = {listener["protocol"]: listener["port"] for listener in json.loads(own)["listeners"]}
    assert (ports["amqp"], ports["http"]) == (node.amqp_port, node.management_port)
    other = str(broker.cluster.nodes[0].amqp_port)
    call("rabbitmq-diagnostics", "check_port_listener", other, code=69)

    def check(*words: str, code: int = 0) -> str:
        done = call("rabbitmq-diagnostics", *words, code=code)
        return done.stderr if code else done.stdout

    for name in [
        "check_running", "check_local_alarms", "check_alarms", "check_virtual_hosts",
        "check_port_connectivity", "check_certificate_expiration", "node_health_check",
        "check_if_node_is_mirror_sync_critical", "alarms", "is_running", "is_booting", "listeners",
        "memory_breakdown", "server_version", "status", "cluster_status", "list_queues",
    ]:  # fmt: skip
        check(name)
        assert json.loads(check(name, "--formatter", "json")) is not None
    assert check("-s", "check_local_alarms") == ""
    assert "no local alarms" in check("-q", "check_local_alarms")
    assert "is fully booted and running" in check("-q", "is_running")
    check("check_port_listener", str(node.amqp_port))
    assert "No listener for port 1 is active" in check("check_port_listener", "1", code=69)
    check("check_port_listener", "x", code=65)
    check("check_protocol_listener", "amqp091")
    assert "No listener for protocol mqtt" in check("check_protocol_listener", "mqtt", code=69)
    check("check_certificate_expiration", "--within", "2", "--unit", "weeks")
    check("check_certificate_expiration", "--unit", "bogus", code=64)
    check("check_if_node_is_quorum_critical")
    assert "Erlang machine" in check("erlang_version", code=64)
    check("add_user", "x", "y", code=64)


def test_shovels(ctl, vhost) -> None:
    uri = f"amqp:///{vhost}"
    value = {"src-uri": uri, "src-queue": "a", "dest-uri": uri, "dest-queue": "b"}
    refused = ctl("set_parameter", "-p", vhost, "shovel", "s", '{"src-queue": "a"}', code=69)
    assert 'Key "dest-uri" not found in s' in refused
    ctl("set_parameter", "-p", vhost, "shovel", "s", json.dumps(value))

    def status() -> list[dict[str, Any]]:
        shown = json.loads(ctl("shovel_status", "--formatter", "json"))
        return [row for row in shown if row["vhost"] == vhost]

    def runs() -> bool:
        found = [(row["name"], row["state"], row["source_queue"]) for row in status()]
        assert found == [("s", "running", "a")], found
        return True

    eventually(runs, what="the shovel at work")
    assert f"s\t{vhost}\tdynamic\trunning" in ctl("-s", "shovel_status")
    ctl("restart_shovel", "-p", vhost, "s")
    eventually(runs, what="the shovel at work again")
    ctl("delete_shovel", "--vhost", vhost, "s")
    eventually(lambda: status() == [], what="its end")
    assert "was not found" in ctl("delete_shovel", "-p", vhost, "s", code=69)
    assert "was not found" in ctl("restart_shovel", "-p", vhost, "s", code=69)
    owned = value | {"internal": True}
    ctl("set_parameter", "-p", vhost, "shovel", "t", json.dumps(owned))
    ctl("delete_shovel", "-p", vhost, "t", code=69)
    ctl("delete_shovel", "-p", vhost, "--force", "t")


def test_plugins_and_upgrades(call) -> None:
    plugins = lambda *words, **options: call("rabbitmq-plugins", *words, **options)  # noqa: E731
    assert "built in" in plugins("enable", "rabbitmq_management").stdout
    assert plugins("-q", "enable", "rabbitmq_consistent_hash_exchange").stdout == ""
    assert "rabbitmq_mqtt" in plugins("enable", "rabbitmq_mqtt", code=69).stderr
    plugins("enable", code=64)
    plugins("disable", "rabbitmq_mqtt")
    plugins("is_enabled", "rabbitmq_prometheus")
    plugins("is_enabled", "rabbitmq_stomp", code=69)
    enabled = plugins("list", "-e", "-m", "-q").stdout.split()
    assert "rabbitmq_management" in enabled and "rabbitmq_mqtt" not in enabled
    assert "rabbitmq_mqtt" in plugins("list").stdout
    call("rabbitmq-upgrade", "await_online_quorum_plus_one", "-t", "30")
    call("rabbitmq-upgrade", "post_upgrade")


def test_logins(ctl, name, tmp_path) -> None:
    refused = ctl("list_users", code=69, WARREN_LOGIN="guest:wrong")
    assert "WARREN_LOGIN=user:password" in refused
    ctl("add_user", name, "secret")
    ctl("set_user_tags", name, "monitoring")
    login = {"WARREN_LOGIN": f"{name}:secret"}
    assert "Not administrator" in ctl("list_users", code=69, **login)
    ctl("list_connections", **login)
    default = {"RABBITMQ_DEFAULT_USER": name, "RABBITMQ_DEFAULT_PASS": "secret"}
    ctl("cluster_status", **default)
    file = tmp_path / "password"
    file.write_text("secret\n")
    in_file = {"WARREN_DEFAULT_USER": name, "WARREN_DEFAULT_PASS_FILE": str(file)}
    ctl("cluster_status", **in_file)
    ctl("delete_user", name)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["rabbitmqctl"], "Available commands"),
        (["rabbitmqctl", "bogus"], "Command 'bogus' not found"),
        (["rabbitmqctl", "eval", "1+1."], "Erlang machine"),
        (["rabbitmqctl", "stop_app"], "SIGTERM"),
        (["rabbitmqctl", "join_cluster", "rabbit@a"], "WARREN_PEERS"),
        (["rabbitmqctl", "check_port_listener", "1"], "It is a command of rabbitmq-diagnostics"),
        (["rabbitmqctl", "list_users", "more"], "too many arguments"),
        (["rabbitmqctl", "add_user"], "not enough arguments"),
        (["rabbitmqctl", "list_users", "--bogus"], "Invalid options for this command:\n--bogus"),
    ],
)
def test_wrong_use(tools, words, says) -> None:
    done = subprocess.run(
        words, env=environment(tools, free_port()), capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 64 and done.stdout == "", done
    assert says in done.stderr and "\x1b" not in done.stderr


def test_no_node(tools) -> None:
    nobody = environment(tools, free_port())
    for words, code in [
        (["rabbitmqctl", "list_queues"], 69),
        (["rabbitmqctl", "-q", "status"], 69),
        (["rabbitmq-diagnostics", "ping"], 69),
        (["rabbitmqctl", "await_startup", "-t", "1"], 75),
    ]:
        done = subprocess.run(words, env=nobody, capture_output=True, text=True, timeout=60)
        assert done.returncode == code and done.stderr.startswith("Error: "), done
    for arguments in ("help", "help add_user", "add_user --help", "version", "--version"):
        words = ["rabbitmqctl", *arguments.split()]
        done = subprocess.run(words, env=nobody, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0 and done.stdout, done


def test_names_stay_away_from_the_terminal(ctl, vhost, connect) -> None:
    channel = connect(0, virtual_host=vhost).channel()
    channel.queue_declare("a\tb\x1b[31m", durable=True)
    assert ctl("-s", "list_queues", "-p", vhost) == "a\ufffdb\ufffd[31m\t0\n"
    shown = json.loads(ctl("list_queues", "-p", vhost, "--formatter", "json"))
    assert shown == [{"name": "a\tb\x1b[31m", "messages": 0}]
