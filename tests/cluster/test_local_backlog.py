"""Transient and exclusive queues that are longer than memory: what is more goes to disk and comes back."""

from __future__ import annotations

import pathlib
import random

import pika
import pytest
from pika import spec

from harness import amqp, wire
from harness.node import Node
from harness.wait import bound, eventually

MIB = 1 << 20
#: Messages of these tests: 32 MiB and more, of which 2 MiB stay in memory.
COUNT = 8000
SIZE = 4096 - 200
ARGUMENTS = ["--local-queues-memory", "2MiB"]


def on_disk(node: Node) -> int:
    """Bytes that local queues have on disk."""
    files = pathlib.Path(node.data_dir, "local").rglob("*")
    sizes = 0
    for file in files:
        try:
            sizes += file.stat().st_size
        except FileNotFoundError:
            continue
    return sizes


def body(number: int, size: int = SIZE) -> bytes:
    """Not compressible: as much on disk as in memory."""
    return f"{number:08}".encode() + random.Random(number).randbytes(size - 8)


def number_of(message: bytes) -> int:
    return int(message[:8])


@pytest.fixture
def node(fresh) -> Node:
    return fresh(1, extra_args=ARGUMENTS).start().nodes[0]


def pour(node: Node, queue: str, count: int = COUNT, size: int = SIZE, **properties) -> None:
    """Publishes numbered messages, as fast as it goes, until the last one is confirmed."""
    connection = amqp.connect(node.amqp_port)
    channel = connection.channel()
    for at in range(count - 1):
        channel.basic_publish("", queue, body(at, size), pika.BasicProperties(**properties))
    channel.confirm_delivery()
    channel.basic_publish("", queue, body(count - 1, size), pika.BasicProperties(**properties))
    connection.close()


def drained(channel, queue: str, count: int, **consume) -> list[int]:
    """Numbers of the next messages, in the order in which they come."""
    consumer = amqp.Consumer(channel, queue, **consume)
    numbers = [number_of(found.body) for found in consumer.wait(count, bound(60))]
    consumer.cancel()
    return numbers


def test_what_does_not_fit_into_memory_is_on_disk(node, name) -> None:
    channel = amqp.connect(node.amqp_port).channel()
    channel.queue_declare(name)
    pour(node, name)
    assert amqp.counts(channel, name)[0] == COUNT
    # All but what stays in memory, and what was under way.
    assert on_disk(node) > COUNT * SIZE // 2
    info = node.queue_info(name)
    assert info["messages"] == COUNT
    assert info["message_bytes_ram"] < 8 * MIB < info["message_bytes"]
    assert drained(channel, name, COUNT, auto_ack=True) == list(range(COUNT))
    # What is on disk is given back.
    eventually(lambda: on_disk(node) < 8 * MIB, bound(60), "the disk is given back")


def test_what_comes_back_is_read_again(node, name) -> None:
    connection = amqp.connect(node.amqp_port)
    channel = connection.channel()
    channel.queue_declare(name, exclusive=True)
    other = connection.channel()
    other.basic_qos(prefetch_count=500)
    pour_exclusive = connection.channel()
    for at in range(COUNT):
        pour_exclusive.basic_publish("", name, body(at))
    held = amqp.Consumer(other, name).wait(500)
    assert [number_of(found.body) for found in held] == list(range(500))
    other.basic_ack(held[99].tag, multiple=True)
    other.close()
    channel.basic_qos(prefetch_count=COUNT)
    consumer = amqp.Consumer(channel, name)
    found = consumer.wait(COUNT - 100, bound(60))
    assert [number_of(one.body) for one in found] == list(range(100, COUNT))
    assert all(one.redelivered for one in found[:400])
    assert not any(one.redelivered for one in found[500:])


def test_priorities_and_large_messages(node, name) -> None:
    channel = amqp.connect(node.amqp_port).channel()
    channel.queue_declare(name, arguments={"x-max-priority": 3})
    for priority in (1, 3, 2):
        pour(node, name, 100, 100_000, priority=priority)
    assert on_disk(node) > 10 * MIB
    consumer = amqp.Consumer(channel, name, auto_ack=True)
    found = consumer.wait(300, bound(60))
    assert [one.properties.priority for one in found] == [3] * 100 + [2] * 100 + [1] * 100
    assert [number_of(one.body) for one in found] == list(range(100)) * 3
    assert {len(one.body) for one in found} == {100_000}


def test_deaths_on_disk(node, name) -> None:
    channel = amqp.connect(node.amqp_port).channel()
    dead = f"{name}-dead"
    channel.queue_declare(dead)
    arguments = {
        "x-message-ttl": 15_000,
        "x-dead-letter-exchange": "",
        "x-dead-letter-routing-key": dead,
    }
    channel.queue_declare(name, arguments=arguments)
    pour(node, name)
    assert on_disk(node) > 8 * MIB
    numbers = drained(channel, dead, COUNT, auto_ack=True)
    assert numbers == list(range(COUNT))
    assert amqp.counts(channel, name)[0] == 0


def test_purge_limits_and_deletion(node, name) -> None:
    channel = amqp.connect(node.amqp_port).channel()
    channel.queue_declare(name, arguments={"x-max-length": COUNT - 1000})
    pour(node, name)
    assert amqp.counts(channel, name)[0] == COUNT - 1000
    assert number_of(amqp.get(channel, name, auto_ack=True).body) == 1000
    assert channel.queue_purge(name).method.message_count == COUNT - 1001
    pour(node, name, 3000)
    assert drained(channel, name, 3000, auto_ack=True) == list(range(3000))
    pour(node, name)
    channel.queue_delete(name)
    channel.queue_declare(name)
    eventually(lambda: on_disk(node) < 8 * MIB, bound(60), "the disk is given back")
    amqp.fill(channel, name, [b"new"])
    assert amqp.get_all(channel, name, 1) == [b"new"]


def test_small_queues_beside_a_long_one(node, name) -> None:
    """A flood goes to disk; what others ask and answer meanwhile goes on."""
    channel = amqp.confirmed(amqp.connect(node.amqp_port))
    channel.queue_declare(name)
    channel.queue_declare(f"{name}-small", exclusive=True)
    with wire.Peer(node.amqp_port) as peer:
        peer.open().open_channel()
        for at in range(20):
            for number in range(COUNT // 20):
                peer.publish(1, "", name, body(at * (COUNT // 20) + number))
            channel.basic_publish("", f"{name}-small", b"%d" % at)
            assert amqp.get(channel, f"{name}-small", auto_ack=True).body == b"%d" % at
        peer.method(1, spec.Channel.Flow(active=True))
        peer.expect(spec.Channel.FlowOk, 1)
    amqp.wait_ready_count(channel, name, COUNT)
    assert drained(channel, name, COUNT, auto_ack=True) == list(range(COUNT))


def test_it_ends_with_the_process(node, name) -> None:
    connection = amqp.connect(node.amqp_port)
    connection.channel().queue_declare(name)
    pour(node, name)
    assert on_disk(node) > 8 * MIB
    node.kill()
    amqp.drop(connection)
    node.start()
    node.wait_ready()
    eventually(lambda: on_disk(node) == 0, what="nothing is left of the local queues")
    with amqp.channel_error(404):
        amqp.connect(node.amqp_port).channel().queue_declare(name, passive=True)


def test_clients_of_other_nodes(fresh, name) -> None:
    cluster = fresh(3, extra_args=ARGUMENTS).start()
    first, second, third = cluster.nodes
    cluster.connect(first).channel().queue_declare(name)
    pour(second, name)
    assert on_disk(first) > COUNT * SIZE // 2
    consumer = cluster.connect(third).channel()
    consumer.basic_qos(prefetch_count=300)
    collected = amqp.Consumer(consumer, name)
    numbers = []
    while len(numbers) < COUNT:
        message = collected.next()
        numbers.append(number_of(message.body))
        if len(numbers) % 100 == 0:
            collected.ack(message, multiple=True)
    assert numbers == list(range(COUNT))
