"""Clients of other languages, each a small program (`programs/`), through the kill of their node.

Each is left out, with the reason, where its language or its library is not installed; `make e2e` as
root installs them (`scripts/setup.sh clients`).
"""

from __future__ import annotations

import os
import queue
import shutil
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from harness import amqp
from harness.node import binary
from harness.wait import bound

HERE = Path(__file__).resolve().parent / "programs"
#: Messages of one run: enough for a kill to hit in the middle.
COUNT = 5000
#: Publishes in flight in each program.
WINDOW = 10
#: Seconds within which the next hundred messages must be through, a failover included.
STEP = 60


def program_of_ruby(folder: Path) -> list[str]:
    _need("ruby", "Debian: ruby-bunny")
    _try(["ruby", "-e", "require 'bunny'"], "Debian: ruby-bunny")
    return ["ruby", str(HERE / "bunny.rb")]


def program_of_php(folder: Path) -> list[str]:
    _need("php", "Debian: php-cli, php-amqplib")
    _try(["php", "-r", "require 'PhpAmqpLib/autoload.php';"], "Debian: php-cli, php-amqplib")
    return ["php", str(HERE / "php_amqplib.php")]


def program_of_go(folder: Path) -> list[str]:
    packages = "Debian: golang-go, golang-github-rabbitmq-amqp091-go-dev"
    _need("go", packages)
    library = Path("/usr/share/gocode/src/github.com/rabbitmq/amqp091-go")
    if not library.is_dir():
        pytest.skip(f"not installed ({packages})")
    environment = {
        **os.environ,
        "GO111MODULE": "off",
        "GOPATH": "/usr/share/gocode",
        "GOCACHE": str(folder / "cache"),
        "GOFLAGS": "",
    }
    target = folder / "amqp091"
    _build(["go", "build", "-o", str(target), str(HERE / "amqp091" / "main.go")], environment)
    return [str(target)]


def program_of_c(folder: Path) -> list[str]:
    _need("cc", "Debian: gcc, libc6-dev")
    if not Path("/usr/include/amqp_tcp_socket.h").is_file():
        pytest.skip("not installed (Debian: librabbitmq-dev)")
    target = folder / "rabbitmq_c"
    source = HERE / "rabbitmq_c.c"
    _build(["cc", "-std=gnu11", "-Wall", "-Wextra", "-Werror", "-o", str(target), str(source), "-lrabbitmq"])  # fmt: skip
    return [str(target)]


def program_of_rust(folder: Path) -> list[str]:
    target = binary().parents[1] / "lapin" / "release" / "lapin-client"
    if not target.is_file():
        pytest.skip("not built (make clients)")
    return [str(target)]


PROGRAMS: dict[str, Callable[[Path], list[str]]] = {
    "bunny": program_of_ruby,
    "php-amqplib": program_of_php,
    "amqp091-go": program_of_go,
    "rabbitmq-c": program_of_c,
    "lapin": program_of_rust,
}


def _need(command: str, packages: str) -> None:
    if shutil.which(command) is None:
        pytest.skip(f"no {command} here ({packages})")


def _try(command: list[str], packages: str) -> None:
    if subprocess.run(command, capture_output=True, timeout=bound(60)).returncode != 0:
        pytest.skip(f"not installed ({packages})")


def _build(command: list[str], environment: dict[str, str] | None = None) -> None:
    built = subprocess.run(
        command, capture_output=True, text=True, timeout=bound(170), env=environment
    )
    assert built.returncode == 0, built.stdout + built.stderr


class Program:
    """A program at work, and what it has said."""

    def __init__(self, command: list[str]) -> None:
        self.process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        self.lines: list[str] = []
        self._arrived: queue.Queue[str | None] = queue.Queue()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self._arrived.put(line.rstrip("\n"))
        self._arrived.put(None)

    def until(self, wanted: str) -> None:
        """Reads on until a line is `wanted`; each line must come in time."""
        while wanted not in self.lines:
            try:
                line = self._arrived.get(timeout=bound(STEP))
            except queue.Empty:
                raise AssertionError(f"nothing said for {STEP} s: {self.lines[-20:]}") from None
            assert line is not None, f"it ended without '{wanted}': {self.lines[-20:]}"
            self.lines.append(line)

    def finish(self) -> None:
        self.until("done")
        assert self.process.wait(timeout=bound(30)) == 0

    def stop(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        self._reader.join()


@pytest.mark.parametrize("client", PROGRAMS)
def test_publishes_and_consumes_through_a_kill(client, victim_cluster, name, tmp_path) -> None:
    command = PROGRAMS[client](tmp_path)
    ports = [str(node.amqp_port) for node in victim_cluster.nodes]
    publisher = Program([*command, "publish", ",".join(ports), name, str(COUNT)])
    # Both begin on the node that dies and go on on different ones.
    elsewhere = ",".join([ports[0], ports[2], ports[1]])
    consumer = Program([*command, "consume", elsewhere, name, str(COUNT)])
    try:
        publisher.until("confirmed 1000")
        consumer.until("received 500")
        victim_cluster.nodes[0].kill()
        publisher.finish()
        consumer.finish()
    finally:
        publisher.stop()
        consumer.stop()
    assert publisher.lines[:2] == [
        f"missing 404 NOT_FOUND - no queue '{name}-missing' in vhost '/'",
        "returned 312 NO_ROUTE",
    ]
    assert f"confirmed {COUNT}" in publisher.lines
    assert f"received {COUNT}" in consumer.lines
    assert "reconnecting" in publisher.lines + consumer.lines
    with amqp.connect(victim_cluster.nodes[1].amqp_port) as connection:
        channel = connection.channel()
        amqp.wait_consumer_count(channel, name, 0)
        # Only what was published twice, because its confirm was lost with the node, may be left.
        assert amqp.counts(channel, name)[0] <= WINDOW
