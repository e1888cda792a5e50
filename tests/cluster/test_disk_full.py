"""A disk that runs full: publishers are blocked first; then the node stands aside, and the others go
on; when there is space again it takes part by itself."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pika
import pytest
from pika import BlockingConnection
from pika.adapters.blocking_connection import BlockingChannel

from harness import amqp
from harness.amqp import Consumer
from harness.cluster import Cluster
from harness.node import Node
from harness.wait import bound, eventually

MIB = 1024 * 1024
DISK = 256 * MIB
#: Below this publishers are blocked, and below that the node stands aside.
LIMIT, RESERVE = 128 * MIB, 64 * MIB
#: Bytes of a large message.
BODY = 50_000


class Disk:
    """A small disk of one node, and what else takes space on it."""

    def __init__(self, place: Path) -> None:
        self.place = place
        self.ballast = place / "ballast"

    def free(self) -> int:
        stat = os.statvfs(self.place)
        return stat.f_bavail * stat.f_frsize

    def leave(self, free: int) -> None:
        """Takes space until so much is left."""
        size = self.ballast.stat().st_size if self.ballast.exists() else 0
        more = max(0, self.free() - free)
        with self.ballast.open("ab") as file:
            os.posix_fallocate(file.fileno(), size, max(1, more))

    def clear(self) -> None:
        self.ballast.unlink(missing_ok=True)


@pytest.fixture
def small_disk(tmp_path) -> Iterator[Disk]:
    place = tmp_path / "disk"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={DISK}", "tmpfs", str(place)]
    mounted = subprocess.run(mount, capture_output=True, text=True)
    if mounted.returncode != 0:
        pytest.skip(f"a small disk cannot be mounted here: {mounted.stderr.strip()}")
    yield Disk(place)
    subprocess.run(["umount", "--lazy", str(place)], check=True)


@pytest.fixture
def limited(small_disk, fresh) -> tuple[Cluster, Node]:
    """Three nodes, the second one on the small disk."""
    cluster = fresh(
        3,
        extra_args=[
            "--disk-free-limit", str(LIMIT),
            "--disk-reserve", str(RESERVE),
            "--checkpoint-bytes", "4MiB",
            "--checkpoint-interval", "3s",
            "--log-keep", "8MiB",
            "--log-segment", "4MiB",
            "--state-write-buffer", "4MiB",
        ],
    )  # fmt: skip
    node = cluster.nodes[1]
    node.data_dir = small_disk.place / "data"
    cluster.start()
    return cluster, node


def reason(node: Node) -> str | None:
    status, body = node.http("/health/ready")
    return None if status == 200 else json.loads(body)["reason"]


def alarm(node: Node) -> bool:
    return node.http("/api/health/checks/alarms")[0] == 503


def leads(node: Node) -> list[str]:
    """Groups that this node leads, as itself sees it."""
    status, body = node.http("/api/cluster/status")
    assert status == 200, body
    name = f"warren@{node.id}"
    return [group["name"] for group in json.loads(body)["groups"] if group["leader"] == name]


def test_a_node_stands_aside_and_comes_back(limited, small_disk, names, open_at) -> None:
    cluster, full = limited
    a, b = cluster.others(full)
    queues = [names() for _ in range(6)]
    channel = amqp.confirmed(open_at(full))
    for queue in queues:
        channel.queue_declare(queue, durable=True)
        amqp.fill(channel, queue, [b"%d" % i for i in range(20)])
    blocked: list[object] = []
    watcher = open_at(a)
    watcher.add_on_connection_blocked_callback(lambda _, frame: blocked.append(frame.method))
    watcher.add_on_connection_unblocked_callback(lambda _, frame: blocked.clear())
    publisher = amqp.confirmed(watcher)
    publisher.basic_publish("", queues[0], b"20", amqp.PERSISTENT)

    # Publishers of all nodes are blocked, nothing else.
    small_disk.leave((LIMIT + RESERVE) // 2)
    for node in cluster.nodes:
        eventually(lambda: alarm(node), what=f"{node} knows of the alarm")
        assert reason(node) is None
    plain = watcher.channel()
    plain.basic_publish("", queues[0], b"21", amqp.PERSISTENT)
    amqp.pump(watcher, lambda: bool(blocked), what="the publisher is blocked")
    assert blocked[0].reason == "low on disk"
    assert amqp.get_all(open_at(b).channel(), queues[1], 20) == [b"%d" % i for i in range(20)]

    # The node stands aside: it leads nothing and takes nothing.
    small_disk.leave(RESERVE // 2)
    eventually(
        lambda: reason(full) == "the disk of this node is nearly full",
        what="the node says that it has no space",
    )
    eventually(lambda: not leads(full), what="others lead")
    free = small_disk.free()
    for queue in queues[2:]:
        connection = open_at(a)
        consumer = Consumer(connection.channel(), queue)
        consumer.wait(20)
        consumer.channel.basic_ack(0, multiple=True)
        amqp.sync(consumer.channel)
        # It must not take what is published below.
        connection.close()
    open_at(b).channel().queue_declare(names(), durable=True)
    assert full.http("/health/live")[0] == 200
    # Also for clients that are connected to it.
    assert amqp.get(open_at(full).channel(), queues[0], auto_ack=True).body == b"0"
    assert free - small_disk.free() < RESERVE // 4
    assert full.running

    # There is space again.
    small_disk.clear()
    eventually(lambda: reason(full) is None, what="the node takes part again")
    for node in cluster.nodes:
        eventually(lambda: not alarm(node), what=f"{node} knows that the alarm is over")
    amqp.pump(watcher, lambda: not blocked, what="the publisher may go on")
    cluster.wait_in_sync(queues[0])
    b.kill()
    publisher.basic_publish("", queues[2], b"the majority needs it", amqp.PERSISTENT)
    channel = open_at(full).channel()
    amqp.wait_ready_count(channel, queues[2], 1)
    assert amqp.get_all(channel, queues[0], 21) == [b"%d" % i for i in range(1, 22)]


def test_a_node_without_space_knows_what_is_declared(limited, small_disk, names, open_at) -> None:
    """It takes no messages, but the catalog."""
    cluster, full = limited
    other = cluster.others(full)[0]
    channel, elsewhere = open_at(full).channel(), open_at(other).channel()
    small_disk.leave(RESERVE * 3 // 4)
    eventually(lambda: reason(full) is not None, what="the node says that it has no space")
    eventually(lambda: not leads(full), what="others lead")
    began = time.monotonic()
    for durable in (True, False):
        here, there = names(), names()
        channel.queue_declare(here, durable=durable)
        elsewhere.queue_declare(here, durable=durable, passive=True)
        elsewhere.queue_declare(there, durable=durable)
        channel.queue_declare(there, durable=durable, passive=True)
        channel.queue_bind(there, "amq.direct", there)
        channel.queue_delete(there)
    assert time.monotonic() - began < bound(8)
    small_disk.clear()
    eventually(lambda: reason(full) is None, what="the node takes part again")


def test_start_with_a_full_disk(limited, small_disk, name, open_at) -> None:
    """It starts, stands aside, and takes part when there is space."""
    cluster, full = limited
    channel = amqp.confirmed(open_at(cluster.nodes[0]))
    channel.queue_declare(name, durable=True)
    assert full.terminate() == 0
    amqp.fill(channel, name, [b"x"])
    small_disk.leave(RESERVE // 2)
    cluster.start([full], wait=False)

    def stands_aside() -> bool:
        try:
            return full.http("/health/ready")[0] == 503
        except OSError:
            return False

    eventually(stands_aside, what="the node answers, and is not ready")
    amqp.wait_ready_count(channel, name, 1)
    small_disk.clear()
    full.wait_ready()
    cluster.wait_in_sync(name)


def fill_with(channel: BlockingChannel, queue: str, size: int) -> int:
    """Publishes so many bytes that cannot be compressed; returns the number of messages."""
    bodies = [os.urandom(BODY) for _ in range(size // BODY)]
    amqp.fill(channel, queue, bodies)
    return len(bodies)


def take_all(connection: BlockingConnection, queue: str, count: int) -> None:
    consumer = Consumer(connection.channel(), queue)
    consumer.wait(count)
    consumer.channel.basic_ack(0, multiple=True)
    amqp.sync(consumer.channel)
    # It must not take what is published later.
    connection.close()


def test_what_was_consumed_gives_its_space_back(limited, small_disk, name, open_at) -> None:
    """Publishers are blocked, and all queues are empty: nothing is written that would free anything."""
    cluster, full = limited
    channel = amqp.confirmed(open_at(cluster.nodes[0]))
    channel.queue_declare(name, durable=True)
    count = fill_with(channel, name, 48 * MIB)
    cluster.wait_in_sync(name)
    small_disk.leave(LIMIT - 16 * MIB)
    eventually(lambda: alarm(full), what="the alarm is raised")
    take_all(open_at(cluster.nodes[2]), name, count)
    for node in cluster.nodes:
        eventually(lambda: not alarm(node), what=f"{node} knows that the alarm is over")
    amqp.fill(channel, name, [b"after it"])


def test_a_node_that_catches_up_leaves_the_reserve(limited, small_disk, name, open_at) -> None:
    """It was away while all that it has was consumed and as much was published: both do not fit."""
    cluster, full = limited
    a, b = cluster.others(full)
    channel = amqp.confirmed(open_at(a))
    channel.queue_declare(name, durable=True)
    count = fill_with(channel, name, 56 * MIB)
    cluster.wait_in_sync(name)
    full.kill()
    take_all(open_at(b), name, count)
    small_disk.leave(LIMIT - 32 * MIB)
    count = fill_with(channel, name, 80 * MIB)
    cluster.start([full], wait=False)
    lowest = small_disk.free()

    def has_caught_up() -> bool:
        nonlocal lowest
        lowest = min(lowest, small_disk.free())
        if not full.running:
            pytest.fail(f"it has ended: {full.log_tail(3)}")
        try:
            return full.http("/health/ready")[0] == 200
        except OSError:
            return False

    eventually(has_caught_up, what="the node is ready", interval=0.01)
    # It may have room for all of it only when that is gone.
    take_all(open_at(b), name, count)
    cluster.wait_in_sync(name)
    assert full.running and lowest > RESERVE // 4, f"{lowest >> 20} MiB were free"


def test_a_disk_that_is_really_full_ends_the_node(small_disk, fresh, name) -> None:
    """Without a reserve a write fails in the end: the process says so and stops."""
    cluster = fresh(1, extra_args=["--disk-free-limit", "0", "--disk-reserve", "0"])
    node = cluster.nodes[0]
    node.data_dir = small_disk.place / "data"
    cluster.start()
    connection = cluster.connect(node)
    channel = amqp.confirmed(connection)
    channel.queue_declare(name, durable=True)
    small_disk.leave(0)
    body = bytes(MIB)
    confirmed = 0

    def ends() -> bool:
        nonlocal confirmed
        try:
            channel.basic_publish("", name, body, amqp.PERSISTENT)
            confirmed += 1
        except (pika.exceptions.AMQPError, OSError):
            pass
        return not node.running

    eventually(ends, what="the node ends", interval=0.0)
    assert node.process.wait() != 0
    assert "this node cannot go on and ends" in node.log_text()
    assert "No space left" in node.log_text()
    small_disk.clear()
    cluster.start()
    method = cluster.connect(node).channel().queue_declare(name, passive=True).method
    # The one without an answer may be there.
    assert confirmed <= method.message_count <= confirmed + 1
