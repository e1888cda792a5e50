"""Large answers over HTTP that nobody reads: what they take of a node's memory is bounded."""

from __future__ import annotations

import socket
from contextlib import ExitStack

from harness import amqp
from harness.node import Node
from harness.wait import bound, eventually

MIB = 1 << 20
QUEUES = 3000
CLIENTS = 150
#: A twentieth of this is for answers.
MEMORY = 400 * MIB


def asks(node: Node, stack: ExitStack) -> socket.socket:
    """A client that asks, and does not read."""
    client = stack.enter_context(socket.socket())
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    client.settimeout(bound(30))
    client.connect(("127.0.0.1", node.management_port))
    client.sendall(b"GET /metrics/per-object HTTP/1.1\r\nhost: node\r\n\r\n")
    return client


def test_answers_that_are_not_read_take_bounded_memory(fresh) -> None:
    node = fresh(1, extra_args=[f"--memory-total={MEMORY}"]).start().nodes[0]
    channel = amqp.connect(node.amqp_port).channel()
    for at in range(QUEUES):
        channel.queue_declare(f"queue-{at}", durable=True)
    size = len(node.http("/metrics/per-object")[1])
    assert size > MIB
    before = node.forget_peak()
    with ExitStack() as stack:
        clients = [asks(node, stack) for _ in range(CLIENTS)]
        heads = [client.recv(12) for client in clients]
        answered = heads.count(b"HTTP/1.1 200")
        assert answered + heads.count(b"HTTP/1.1 503") == CLIENTS
        # Some of them fill the room, the others are told so.
        assert 1 <= answered <= MEMORY // 20 // size + 10
        grown = node.peak() - before
        assert grown < MEMORY // 20 + 64 * MIB, f"{grown / MIB:.0f} MiB"
        # What is small needs no room.
        assert node.http("/metrics")[0] == 200
        assert node.http("/api/overview")[0] == 200
    # They are gone: their room is free.
    eventually(lambda: node.http("/metrics/per-object")[0] == 200, bound(30), "room")
