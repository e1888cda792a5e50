"""What an operator got wrong is told by the log, or at once, with what to do."""

from __future__ import annotations

import os
import stat
import subprocess

import pytest

from harness.node import binary
from harness.wait import bound, eventually


def says(node, *words: str) -> None:
    """Waits for a line of the log that holds all of these words."""

    def said() -> bool:
        lines = node.log_text().splitlines()
        found = any(all(word in line for word in words) for line in lines)
        assert found, node.log_tail(20)
        return True

    eventually(said, what=f"{node} says {words}")


def test_who_is_missing_and_why(fresh) -> None:
    """Of three nodes one does not run, and one has a name that nobody knows."""
    cluster = fresh(3)
    first, second, _ = cluster.nodes
    first.peers = f"1={first.advertise},2={second.advertise},3=no-such-host.invalid:25672"
    cluster.start([first], wait=False)
    says(first, "no answer yet", second.advertise, "refused")
    says(first, "no answer yet", "no-such-host.invalid:25672", "failed to lookup address")


def test_lists_of_peers_that_differ(fresh) -> None:
    cluster = fresh(3)
    first, second, third = cluster.nodes
    second.peers = second.peers.replace(third.advertise, f"localhost:{third.cluster_port}")
    cluster.start(wait=False)
    for node in (first, second):
        says(node, "the cluster cannot be formed", "give all nodes the same list", "localhost")


def test_what_has_no_effect(fresh) -> None:
    node = fresh(1).nodes[0]
    node.extra_env = {
        "WARREN_NODEID": "1",
        "RABBITMQ_ERLANG_COOKIE": "hush-hush",
        "WARREN_PORT": "tcp://10.0.0.1:5672",
    }
    node.start()
    node.wait_ready()
    says(node, "WARREN_NODEID", "did you mean WARREN_NODE_ID?")
    says(node, "RABBITMQ_ERLANG_COOKIE", "WARREN_CLUSTER_SECRET")
    assert "hush-hush" not in node.log_text() and "10.0.0.1" not in node.log_text()


def test_what_a_node_writes_is_not_for_all(fresh) -> None:
    node = fresh(1).start().nodes[0]
    for folder, _, files in os.walk(node.data_dir):
        for name in (folder, *(os.path.join(folder, file) for file in files)):
            mode = stat.S_IMODE(os.stat(name).st_mode)
            assert mode & 0o007 == 0, f"{name}: {mode:o}"


def test_the_tools_find_the_node_where_it_listens(fresh) -> None:
    """As the health check of a container, which has the node's environment and no flags."""
    node = fresh(1).nodes[0]
    node.start()
    node.wait_ready()
    environment = {k: v for k, v in os.environ.items() if not k.startswith("WARREN_")}
    config = node.data_dir.parent / "warren.toml"
    config.write_text(f"management_listen = '127.0.0.1:{node.management_port}'\n")
    for variables, status in [
        ({"WARREN_MANAGEMENT_LISTEN": f"127.0.0.1:{node.management_port}"}, 0),
        ({"WARREN_MANAGEMENT_LISTEN": f"[::1]:{node.management_port}"}, 3),
        ({"WARREN_CONFIG": str(config)}, 0),
        ({"WARREN_CONFIG": str(config), "WARREN_URL": "", "WARREN_LOGIN": ""}, 0),
        ({"WARREN_CONFIG": "/no/such.toml"}, 2),
    ]:
        done = subprocess.run(
            [binary(), "ping", "--ready"],
            env=environment | variables,
            capture_output=True,
            text=True,
            timeout=bound(30),
        )
        assert done.returncode == status, (variables, done.stdout, done.stderr)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--peers", "1=rabbit@one:25672", "--cluster-secret", "s"], ["rabbit@one", "HOST:PORT"]),
        (["--rebalance-interval", "0"], ["rebalance_interval", "such as 5s"]),
        (["--management-listen", ":5672"], ["amqp and http", "5672"]),
    ],
)
def test_refused_at_once(arguments, words, tmp_path) -> None:
    done = subprocess.run(
        [binary(), "serve", "--check-config", "--data-dir", str(tmp_path), *arguments],
        capture_output=True,
        text=True,
        timeout=bound(30),
    )
    assert done.returncode == 2, done.stdout
    assert all(word in done.stderr for word in words), done.stderr
