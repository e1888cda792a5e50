"""Messages whose way takes very many steps to find: many routing keys that meet many patterns.

Whoever sends them waits, and nobody else does.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import threading
from collections.abc import Iterator

import pika
import pytest
from pika import spec

from harness import amqp, wire
from harness.node import Node
from harness.regular import Regular
from harness.wait import bound, eventually

#: Words of the patterns, each of which is one of two, with any number of words in between: all of these ways are open at
#: each word of a key.
DEPTH = 9
#: As many words as a key can have; and no pattern fits it in the end.
KEY = ".".join("a" * 127)
#: So many of them take long, but not too long.
COSTLY = 10


@pytest.fixture
def node(fresh) -> Node:
    return fresh(1).start().nodes[0]


@pytest.fixture
def exchange(node) -> Iterator[str]:
    connection = amqp.connect(node.amqp_port)
    channel = connection.channel()
    channel.exchange_declare("patterns", "topic")
    channel.queue_declare("all", exclusive=True)
    for words in itertools.product("a*", repeat=DEPTH):
        channel.queue_bind("all", "patterns", "#." + ".#.".join(words) + ".none")
    channel.queue_bind("all", "patterns", "found")
    yield "patterns"
    amqp.drop(connection)


MIB = 1 << 20
#: A body of a message that waits for its way.
LARGE = b"x" * (4 * MIB)


def counter(node: Node, name: bytes) -> float:
    lines = node.http("/metrics")[1].splitlines()
    return sum(float(line.split()[-1]) for line in lines if line.startswith(name))


def with_keys(count: int) -> pika.BasicProperties:
    return pika.BasicProperties(headers={"CC": [KEY] * count})


def test_too_many_steps_are_refused(node, exchange) -> None:
    channel = amqp.confirmed(amqp.connect(node.amqp_port))
    text = "PRECONDITION_FAILED - finding the queues of this message takes too many steps"
    with amqp.channel_error(406, starts=text):
        channel.basic_publish(exchange, "found", b"x", with_keys(400))
    # Over HTTP, where nobody waits for long, fewer are enough.
    message = {
        "properties": {"headers": {"CC": [KEY] * 400}},
        "routing_key": "found",
        "payload": "x",
        "payload_encoding": "string",
    }
    status, answer = node.http(f"/api/exchanges/%2F/{exchange}/publish", "POST", message)
    assert (status, b"too many steps" in answer) == (400, True)


def test_others_go_on_meanwhile(node, exchange) -> None:
    """Messages that take long, but not too long, are published; each of many clients waits for its own only."""
    regular = Regular(node.amqp_port, "regular")
    failed: list[BaseException] = []

    def publish() -> None:
        try:
            channel = amqp.confirmed(amqp.connect(node.amqp_port, socket_timeout=bound(60)))
            for _ in range(4):
                channel.basic_publish(exchange, "found", b"x", with_keys(COSTLY))
        except BaseException as error:  # noqa: BLE001 - told below.
            failed.append(error)

    regular.start()
    regular.go_on(20)
    regular.worst()
    clients = [threading.Thread(target=publish) for _ in range(6)]
    for client in clients:
        client.start()
    for client in clients:
        client.join(bound(120))
    assert not failed
    assert regular.worst() < bound(2), "the regular client had to wait"
    regular.close()
    routed = [line for line in node.http("/metrics")[1].splitlines() if b"unroutable" in line]
    assert all(line.endswith(b" 0") for line in routed if not line.startswith(b"#"))


def test_what_waits_for_its_way_takes_bounded_memory(node, exchange) -> None:
    """On every one of many channels a large message waits for its turn: the client is not read meanwhile."""
    before = node.forget_peak()
    properties = b"".join(with_keys(COSTLY).encode())
    publish = spec.Basic.Publish(exchange=exchange, routing_key="found")
    clients = [wire.Peer(node.amqp_port) for _ in range(4)]

    def send(client: wire.Peer) -> None:
        with contextlib.suppress(wire.Closed, OSError):
            client.open()
            for channel in range(1, 101):
                client.method(channel, spec.Channel.Open())
                content = wire.content_frames(channel, properties, LARGE)
                client.send(wire.method_frame(channel, publish) + content)

    threads = [threading.Thread(target=send, args=[client], daemon=True) for client in clients]
    for thread in threads:
        thread.start()
    routed = functools.partial(counter, node, b"rabbitmq_global_messages_routed_total")
    eventually(lambda: routed() >= 40, bound(60), "some have found their way")
    assert node.peak() - before < 200 * MIB
    for client in clients:
        client.__exit__()
