"""Strangers at the cluster port: garbage, silence, crowds. The cluster goes on."""

from __future__ import annotations

import random
import socket
import time

from harness import amqp
from harness.wait import bound

HELLO = b"WARREN\x00\x02" + (9).to_bytes(8, "big") + (7).to_bytes(8, "big") + bytes(32)


def ends(stream: socket.socket, seconds: float) -> bool:
    """Whether the node closes the connection within this time."""
    stream.settimeout(bound(seconds))
    try:
        while stream.recv(65536):
            pass
    except ConnectionError:
        return True
    except TimeoutError:
        return False
    return True


def test_garbage_and_silence(fresh, name) -> None:
    cluster = fresh(3).start()
    channel = amqp.confirmed(cluster.connect(2))
    channel.queue_declare(name, durable=True)
    target = cluster.nodes[0]
    address = ("127.0.0.1", target.cluster_port)
    before = target.resident()
    seed = random.randrange(1 << 30)
    chance = random.Random(seed)
    # More than may be greeting at once: silent, half a word, a hello without a proof.
    crowd = []
    for number in range(700):
        stream = socket.create_connection(address, timeout=bound(10))
        words = (b"", HELLO[: chance.randrange(1, 56)], HELLO)[number % 3]
        stream.sendall(words)
        crowd.append(stream)
    # Clients of other nodes, and of this one, notice nothing.
    started = time.monotonic()
    for number in range(50):
        channel.basic_publish("", name, str(number).encode(), amqp.PERSISTENT)
    assert time.monotonic() - started < bound(20), f"seed {seed}"
    for stream in crowd:
        assert ends(stream, 15), f"seed {seed}"
        stream.close()
    # What is wrong is ended at once.
    for words in (
        b"GET / HTTP/1.1\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(9),
        b"WARREN\xff\xff" + HELLO[8:],
        HELLO + bytes(32),
        HELLO + b"\xff" * (1 << 20),
        chance.randbytes(4096),
        b"W" + chance.randbytes(4096),
    ):
        with socket.create_connection(address, timeout=bound(10)) as stream:
            try:
                stream.sendall(words)
            except ConnectionError:
                continue
            assert ends(stream, 10), words[:40]
    # A node that was killed still gets in.
    cluster.nodes[2].kill()
    cluster.start([cluster.nodes[2]])
    amqp.fill(channel, name, [b"after"])
    assert target.resident() - before < 200 << 20, f"seed {seed}"
    assert not target.panics()
