"""Malformed and out-of-order input: a connection may end, a node may not.

Bounded in count and time; the seed is fixed so that a failure can be repeated, and may be set by
`WARREN_TEST_SEED`.
"""

from __future__ import annotations

import os
import random
import struct

import pytest
from pika import spec

from harness import amqp, wire

SEED = int(os.environ.get("WARREN_TEST_SEED", "20240229"))
ROUNDS = 150


def drain(peer: wire.Peer) -> None:
    """Reads what the broker says, for a moment; hanging up is as good as an answer."""
    try:
        while True:
            peer.receive(timeout=0.05)
    except (wire.Closed, TimeoutError, OSError):
        return


def offer(peer: wire.Peer, data: bytes) -> None:
    try:
        peer.send(data)
    except (wire.Closed, OSError):
        pass  # Cut off in the middle: fair.


def still_serves(broker, name: str) -> None:
    """All nodes are there and do their work."""
    for node in range(len(broker.ports)):
        connection = broker.connect(node)
        channel = amqp.confirmed(connection)
        channel.queue_declare(name, auto_delete=True)
        channel.basic_publish("", name, b"alive", mandatory=True)
        assert amqp.get(channel, name, auto_ack=True).body == b"alive"
        connection.close()


def mutate(rng: random.Random, data: bytes) -> bytes:
    """One to four small injuries."""
    out = bytearray(data)
    for _ in range(rng.randint(1, 4)):
        kind = rng.randrange(5)
        at = rng.randrange(len(out)) if out else 0
        if kind == 0 and out:
            out[at] = rng.randrange(256)
        elif kind == 1 and out:
            out[at] ^= 1 << rng.randrange(8)
        elif kind == 2:
            out[at:at] = rng.randbytes(rng.randint(1, 8))
        elif kind == 3 and out:
            del out[at : at + rng.randint(1, 8)]
        elif len(out) >= 4:
            at = min(at, len(out) - 4)
            out[at : at + 4] = struct.pack(">I", rng.choice([0, 1, 0x7FFFFFFF, 0xFFFFFFFF]))
    return bytes(out)


def conversation(name: str) -> list[bytes]:
    """A sensible conversation on channel 1, in pieces that may be injured."""
    properties = b"\xf8\x00" + wire.short("t/p") + wire.short("e") + wire.table(wire.EVERY_TYPE)
    properties += b"\x02\x05"
    arguments = {"x-max-length": 10, "x-message-ttl": 1000}
    return [
        wire.method_frame(1, spec.Channel.Open()),
        wire.method_frame(1, spec.Exchange.Declare(exchange=name, type="topic")),
        wire.method_frame(1, spec.Queue.Declare(queue=name, auto_delete=True, arguments=arguments)),
        wire.method_frame(1, spec.Queue.Bind(queue=name, exchange=name, routing_key="a.#")),
        wire.method_frame(1, spec.Confirm.Select()),
        wire.method_frame(1, spec.Basic.Qos(prefetch_count=3)),
        wire.method_frame(1, spec.Basic.Publish(exchange=name, routing_key="a.b"))
        + wire.content_frames(1, properties, b"body" * 10),
        wire.method_frame(1, spec.Basic.Get(queue=name)),
        wire.method_frame(1, spec.Basic.Consume(queue=name, consumer_tag="t")),
        wire.method_frame(1, spec.Basic.Ack(delivery_tag=1)),
        wire.method_frame(1, spec.Basic.Nack(delivery_tag=0, multiple=True)),
        wire.method_frame(1, spec.Queue.Purge(queue=name)),
        wire.method_frame(1, spec.Basic.Cancel(consumer_tag="t")),
        wire.method_frame(1, spec.Exchange.Delete(exchange=name)),
        wire.method_frame(1, spec.Queue.Delete(queue=name)),
        wire.method_frame(1, spec.Channel.Close(200, "", 0, 0)),
    ]


def test_random_bytes_instead_of_a_header(broker, name) -> None:
    rng = random.Random(SEED)
    for round_ in range(ROUNDS):
        with broker.peer(round_) as peer:
            offer(peer, rng.randbytes(rng.randint(0, 200)))
    still_serves(broker, name)


def test_random_bytes_after_the_header(broker, name) -> None:
    rng = random.Random(SEED + 1)
    for round_ in range(ROUNDS):
        with broker.peer(round_) as peer:
            offer(peer, wire.PROTOCOL_HEADER + rng.randbytes(rng.randint(0, 300)))
    still_serves(broker, name)


def test_injured_handshake(broker, name) -> None:
    rng = random.Random(SEED + 2)
    for round_ in range(ROUNDS // 2):
        with broker.peer(round_) as peer:
            peer.start()
            fields = [("capabilities", wire.nested([("basic.nack", b"t\x01")])), *wire.EVERY_TYPE]
            payload = struct.pack(">I", spec.Connection.StartOk.INDEX) + wire.table(fields)
            payload += wire.short("PLAIN") + wire.long(b"\0guest\0guest") + wire.short("en_US")
            offer(peer, wire.frame(wire.METHOD, 0, mutate(rng, payload)))
            offer(peer, wire.method_frame(0, spec.Connection.TuneOk(2047, 131072, 0)))
    still_serves(broker, name)


@pytest.mark.parametrize("part", range(3))
def test_injured_conversation(broker, name, part) -> None:
    """Valid up to a point; then a frame with a wrong byte somewhere."""
    rng = random.Random(SEED + 10 + part)
    for round_ in range(ROUNDS // 2):
        with broker.peer(round_) as peer:
            peer.open()
            pieces = conversation(f"{name}-{round_ % 7}")
            injured = rng.randrange(len(pieces))
            pieces[injured] = mutate(rng, pieces[injured])
            offer(peer, b"".join(pieces))
            drain(peer)
    still_serves(broker, name)


def test_shuffled_conversation(broker, name) -> None:
    """Every frame valid, their order not."""
    rng = random.Random(SEED + 20)
    for round_ in range(ROUNDS // 2):
        with broker.peer(round_) as peer:
            peer.open()
            pieces = conversation(f"{name}-{round_ % 7}")
            rng.shuffle(pieces)
            offer(peer, pieces[0] if rng.random() < 0.2 else b"".join(pieces))
            drain(peer)
    still_serves(broker, name)


def test_random_method_arguments(broker, name) -> None:
    """Every method of the protocol with arguments of dice."""
    rng = random.Random(SEED + 30)
    for round_, index in enumerate(sorted(spec.methods)):
        for channel in (0, 1):
            with broker.peer(round_) as peer:
                peer.open().open_channel()
                arguments = rng.randbytes(rng.randint(0, 60))
                offer(peer, wire.frame(wire.METHOD, channel, struct.pack(">I", index) + arguments))
                drain(peer)
    still_serves(broker, name)


def test_deeply_nested_table(broker, name) -> None:
    """No stack overflow from tables within tables within tables."""
    value = b"V"
    while len(value) < 100_000:
        value = wire.nested([("", value)])
    array_value = b"V"
    while len(array_value) < 100_000:
        array_value = wire.array([array_value])
    for deep in (value, array_value):
        with broker.peer(0) as peer:
            peer.open().open_channel()
            head = b"\x00\x32\x00\x0a\x00\x00" + wire.short(name) + b"\x00"
            offer(peer, wire.frame(wire.METHOD, 1, head + wire.table([("deep", deep)])))
            drain(peer)
        with broker.peer(1) as peer:
            peer.open().open_channel()
            offer(peer, wire.method_frame(1, spec.Basic.Publish(routing_key=name)))
            offer(peer, wire.content_frames(1, b"\x20\x00" + wire.table([("deep", deep)]), b"x"))
            drain(peer)
    # Whether such a queue was refused or made: it is not left to those who list queues.
    broker.connect(0).channel().queue_delete(name)
    still_serves(broker, name + "-after")


def test_abandoned_in_every_state(broker, name) -> None:
    """Clients that vanish in the middle of a frame, at every length."""
    data = b"".join(conversation(name))
    rng = random.Random(SEED + 40)
    for round_ in range(40):
        with broker.peer(round_) as peer:
            peer.open()
            offer(peer, data[: rng.randrange(len(data))])
    still_serves(broker, name + "-after")


def test_slow_writers_cost_nobody_anything(broker, name) -> None:
    """Half-sent frames on many connections, while others work."""
    peers = []
    for i in range(30):
        peer = broker.peer(i).open().open_channel()
        peer.send(wire.method_frame(1, spec.Basic.Publish(routing_key=name)))
        peer.send(wire.content_frames(1, wire.NO_PROPERTIES, bytes(100_000))[:50_000])
        peers.append(peer)
    still_serves(broker, name)
    for peer in peers:
        peer.socket.close()
