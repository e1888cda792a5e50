"""deploy/docker-compose.yml on a real Docker engine, as a user runs it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness import amqp
from harness.load import ConsumerLoad, Producer, judge
from harness.node import binary
from harness.wait import bound, eventually

ROOT = Path(__file__).resolve().parents[2]
DEPLOY = ROOT / "deploy"
PORTS = [5672, 5673, 5674]
MANAGEMENT = [15672, 15673, 15674]
#: Built around the program under test, so that no registry is needed.
IMAGE = "warren:test"

pytestmark = [pytest.mark.compose, pytest.mark.timeout(600)]


def compose_command() -> list[str] | None:
    """`docker compose` (v2) or `docker-compose` (1.29), whichever is there."""
    for command in (["docker", "compose"], ["docker-compose"]):
        if shutil.which(command[0]) is None:
            continue
        if subprocess.run([*command, "version"], capture_output=True).returncode == 0:
            return command
    return None


def why_not() -> str | None:
    """Why these tests cannot run here."""
    if shutil.which("docker") is None:
        return "no docker program"
    if subprocess.run(["docker", "info"], capture_output=True).returncode != 0:
        return "no Docker engine answers"
    if compose_command() is None:
        return "neither 'docker compose' nor 'docker-compose' works"
    if not (DEPLOY / "docker-compose.yml").is_file():
        return "no deploy/docker-compose.yml"
    return None


class Project:
    """One compose project under a name of its own."""

    def __init__(self, folder: Path) -> None:
        self.command = compose_command() or []
        self.name = f"warrentest{uuid.uuid4().hex[:8]}"
        self.env_file = folder / "env"
        example = DEPLOY / ".env.example"
        self.env_file.write_text(example.read_text() if example.exists() else "")
        with self.env_file.open("a") as out:
            out.write("\nWARREN_CLUSTER_SECRET=compose-test-secret\n")
        self.environment = {
            **{k: v for k, v in os.environ.items() if not k.startswith("WARREN_")},
            "COMPOSE_PROJECT_NAME": self.name,
            "WARREN_IMAGE": IMAGE,
            "WARREN_CLUSTER_SECRET": "compose-test-secret",
        }

    def run(self, *arguments: str, timeout: float = 300) -> str:
        command = [
            *self.command,
            "--project-name", self.name,
            "--env-file", str(self.env_file),
            "--file", str(DEPLOY / "docker-compose.yml"),
            *arguments,
        ]  # fmt: skip
        done = subprocess.run(
            command,
            cwd=DEPLOY,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=bound(timeout),
        )
        assert done.returncode == 0, f"{' '.join(arguments)}:\n{done.stdout}\n{done.stderr}"
        return done.stdout

    def containers(self) -> list[str]:
        """Container ids, in the order of the services' ports."""
        ids = self.run("ps", "-q").split()
        by_port: dict[int, str] = {}
        for container in ids:
            for port in inspect(container)["NetworkSettings"]["Ports"].get("5672/tcp") or []:
                by_port[int(port["HostPort"])] = container
        return [by_port[p] for p in PORTS]


def docker(*arguments: str) -> str:
    done = subprocess.run(
        ["docker", *arguments], capture_output=True, text=True, timeout=bound(120)
    )
    assert done.returncode == 0, f"docker {' '.join(arguments)}: {done.stderr}"
    return done.stdout


def inspect(container: str) -> dict:
    return json.loads(docker("inspect", container))[0]


def health(container: str) -> str:
    return inspect(container)["State"].get("Health", {}).get("Status", "none")


def wait_all_serve() -> None:
    for port in PORTS:

        def serves() -> bool:
            try:
                connection = amqp.connect(port, socket_timeout=3, stack_timeout=5)
            except amqp.CONNECT_ERRORS:
                return False
            connection.close()
            return True

        eventually(serves, bound(120), f"AMQP on port {port}")


@pytest.fixture(scope="module")
def project(tmp_path_factory) -> Iterator[Project]:
    reason = why_not()
    if reason is not None:
        pytest.skip(f"no compose test: {reason}")
    built = subprocess.run(
        [DEPLOY / "test-image.sh", IMAGE],
        env={**os.environ, "WARREN_BIN": str(binary())},
        capture_output=True,
        text=True,
        timeout=bound(600),
    )
    assert built.returncode == 0, built.stdout + built.stderr
    made = Project(tmp_path_factory.mktemp("compose"))
    try:
        made.run("up", "-d", "--no-build")
        wait_all_serve()
        yield made
    finally:
        logs = subprocess.run(
            [*made.command, "-p", made.name, "--env-file", str(made.env_file), "-f",
             str(DEPLOY / "docker-compose.yml"), "logs", "--tail", "60"],
            cwd=DEPLOY, env=made.environment, capture_output=True, text=True,
        )  # fmt: skip
        print(logs.stdout[-20000:])
        made.run("down", "--volumes", "--timeout", "10")
        assert "panicked at" not in logs.stdout


@pytest.fixture
def up(project: Project) -> Project:
    project.run("up", "-d", "--no-build")
    wait_all_serve()
    return project


def test_the_file_is_valid(project) -> None:
    text = project.run("config")
    for port in (*PORTS, *MANAGEMENT):
        assert str(port) in text


def test_containers_are_healthy_and_modest(project) -> None:
    for container in project.containers():
        eventually(lambda: health(container) == "healthy", bound(120), "healthy")
        config = inspect(container)["Config"]
        assert config["User"] not in ("", "root", "0"), "runs as root"


def test_guest_from_outside_and_all_nodes(up, name) -> None:
    """Remote guest/guest, as RabbitMQ's image allows it; publisher and consumer on every pair."""
    connections = [amqp.connect(port) for port in PORTS]
    connections[0].channel().queue_declare(name, durable=True)
    for publisher in connections:
        for subscriber in connections:
            amqp.confirmed(publisher).basic_publish("", name, b"x", amqp.PERSISTENT, mandatory=True)
            assert amqp.get(subscriber.channel(), name, auto_ack=True).body == b"x"
    for connection in connections:
        connection.close()


def everything_delivered(producer: Producer, consumer: ConsumerLoad) -> None:
    def all_there() -> bool:
        consumer.assert_undisturbed()
        missing = producer.confirmed - {
            a.sequence for a in list(consumer.arrivals[producer.number])
        }
        assert not missing, f"{len(missing)} confirmed messages are missing"
        return True

    eventually(all_there, bound(60), "everything confirmed is delivered")
    verdict = judge([producer], [consumer])
    assert verdict.clean, verdict


@pytest.mark.parametrize("fault", ["kill", "disconnect", "pause"])
def test_lose_a_container_under_load(up, name, fault) -> None:
    connection = amqp.connect(PORTS[0])
    connection.channel().queue_declare(name, durable=True)
    connection.close()
    victim = up.containers()[2]
    producer = Producer(PORTS[0], name, rate=500).start()
    consumer = ConsumerLoad(PORTS[1], name).start()
    try:
        producer.wait_confirmed(500)
        networks = list(inspect(victim)["NetworkSettings"]["Networks"].items())
        if fault == "kill":
            docker("kill", victim)
        elif fault == "pause":
            docker("pause", victim)
        else:
            for network, _ in networks:
                docker("network", "disconnect", network, victim)
        producer.wait_confirmed(1000, bound(60))
        if fault == "kill":
            docker("start", victim)
        elif fault == "pause":
            docker("unpause", victim)
        else:
            for network, settings in networks:
                aliases = [o for a in settings.get("Aliases") or [] for o in ("--alias", a)]
                docker("network", "connect", *aliases, network, victim)
        producer.wait_confirmed(500, bound(60))
        producer.stop(bound(60))
        everything_delivered(producer, consumer)
        assert not producer.nacked
    finally:
        producer.close()
        consumer.close()
    wait_all_serve()


def is_ready(container: str) -> bool:
    """By the container's own word: while it has no network, nobody else can ask."""
    asked = subprocess.run(
        ["docker", "exec", container, "warren", "ping", "--ready"],
        capture_output=True,
        timeout=bound(60),
    )
    return asked.returncode == 0


def test_nodes_that_get_each_others_addresses(up, name) -> None:
    """All lose the network, and come back in another order: each has an address that was another's. A connection that was
    waiting for the old one reaches the wrong node, and must not be kept."""
    connection = amqp.connect(PORTS[0])
    amqp.confirmed(connection).queue_declare(name, durable=True)
    connection.close()
    containers = up.containers()
    networks = [inspect(c)["NetworkSettings"]["Networks"] for c in containers]
    ((network, _),) = networks[0].items()
    before = [n[network]["IPAddress"] for n in networks]
    for container in containers:
        docker("network", "disconnect", network, container)
    for container in containers:
        eventually(lambda: not is_ready(container), bound(30), "it misses the others")
    for i in sorted(range(3), key=lambda i: before[i], reverse=True):
        aliases = [o for a in networks[i][network].get("Aliases") or [] for o in ("--alias", a)]
        docker("network", "connect", *aliases, network, containers[i])
    after = [inspect(c)["NetworkSettings"]["Networks"][network]["IPAddress"] for c in containers]
    assert set(after) == set(before) and after != before, (before, after)
    for container in containers:
        eventually(lambda: is_ready(container), bound(40), "all have found each other again")
    wait_all_serve()
    for port in PORTS:
        connection = amqp.connect(port)
        channel = amqp.confirmed(connection)
        channel.basic_publish("", name, b"x", amqp.PERSISTENT, mandatory=True)
        connection.close()


def test_down_and_up_keeps_everything(up, name) -> None:
    connection = amqp.connect(PORTS[1])
    channel = amqp.confirmed(connection)
    channel.queue_declare(name, durable=True)
    channel.exchange_declare(name, "topic", durable=True)
    channel.queue_bind(name, name, "#")
    bodies = [b"%d" % i for i in range(200)]
    for body in bodies:
        channel.basic_publish(name, "a.b", body, amqp.PERSISTENT)
    connection.close()
    containers = up.containers()
    began = time.monotonic()
    up.run("stop")
    assert time.monotonic() - began < bound(40)
    assert [inspect(c)["State"]["ExitCode"] for c in containers] == [0, 0, 0]
    up.run("down")
    up.run("up", "-d", "--no-build")
    wait_all_serve()
    connection = amqp.connect(PORTS[2])
    channel = amqp.confirmed(connection)
    channel.basic_publish(name, "x", b"new", amqp.PERSISTENT, mandatory=True)
    assert amqp.get_all(channel, name, 201) == [*bodies, b"new"]
    connection.close()


def test_command_line_inside(up) -> None:
    """`warren status` and `warren ping` work in the container as they are."""
    container = up.containers()[0]
    docker("exec", container, "warren", "ping")
    status = json.loads(docker("exec", container, "warren", "status", "--json"))
    assert status
