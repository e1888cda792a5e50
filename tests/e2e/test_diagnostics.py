"""The program under the names that health checks written for RabbitMQ's image call."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from harness.node import binary
from harness.ports import free_port

pytestmark = pytest.mark.warren_only("tests Warren's own image")


@pytest.fixture
def tool(tmp_path):
    """Runs the program by links as the image has them, with a node's management port."""
    for name in ("rabbitmqctl", "rabbitmq-diagnostics"):
        (tmp_path / name).symlink_to(Path(binary()).resolve())

    def call(port: int, name: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        environment = {k: v for k, v in os.environ.items() if not k.startswith("WARREN_")}
        environment["PATH"] = f"{tmp_path}:{environment['PATH']}"
        environment["WARREN_MANAGEMENT_LISTEN"] = f"127.0.0.1:{port}"
        return subprocess.run(
            [name, *arguments], executable=str(tmp_path / name),
            env=environment, capture_output=True, text=True, timeout=60,
        )  # fmt: skip

    return call


@pytest.mark.parametrize(
    "words",
    [
        "rabbitmq-diagnostics -q ping", "rabbitmq-diagnostics ping --timeout 5",
        "rabbitmq-diagnostics -q check_running", "rabbitmq-diagnostics check_port_connectivity -q",
        "rabbitmqctl status", "rabbitmqctl -n rabbit@host status", "rabbitmqctl await_startup",
        "rabbitmqctl --timeout=10 await_startup",
    ],
)  # fmt: skip
def test_checks_pass(broker, tool, words) -> None:
    name, *arguments = words.split()
    done = tool(broker.cluster.nodes[0].management_port, name, *arguments)
    assert done.returncode == 0, (done.stdout, done.stderr)


@pytest.mark.parametrize(
    "words",
    ["ping", "check_running", "status", "await_startup --timeout 1"],
)
def test_checks_fail_without_a_node(tool, words) -> None:
    done = tool(free_port(), "rabbitmqctl", *words.split())
    assert done.returncode != 0, done.stdout


@pytest.mark.parametrize("words", ["", "list_quees", "ping twice", "ping --unknown"])
def test_what_is_not_known_is_refused_with_a_clear_text(tool, words) -> None:
    done = tool(free_port(), "rabbitmqctl", *words.split())
    assert done.returncode == 64 and "rabbitmqctl" in done.stderr and not done.stdout, done
