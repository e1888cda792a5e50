"""Clients that want a node's memory or its file descriptors. They get a bounded share, and it goes back."""

from __future__ import annotations

import socket
import struct

import pytest
from pika import spec

from harness import amqp, wire
from harness.node import Node
from harness.wait import bound, eventually

MIB = 1 << 20
#: delivery-mode 2 and nothing else.
PERSISTENT = b"\x10\x00\x02"


def begin(channel: int, queue: str, size: int) -> bytes:
    """A publish of `size` bytes, up to the body."""
    publish = spec.Basic.Publish(exchange="", routing_key=queue)
    header = struct.pack(">HHQ", 60, 0, size) + PERSISTENT
    return wire.method_frame(channel, publish) + wire.frame(wire.HEADER, channel, header)


def serves(node: Node, name: str) -> None:
    """A newcomer publishes and gets."""
    connection = amqp.connect(node.amqp_port, blocked_connection_timeout=bound(30))
    channel = amqp.confirmed(connection)
    channel.queue_declare(name, durable=True)
    channel.basic_publish("", name, b"alive", amqp.PERSISTENT, mandatory=True)
    assert amqp.get(channel, name, auto_ack=True).body == b"alive"
    connection.close()


@pytest.mark.parametrize("body", [b"", b"x"], ids=["header-only", "first-byte"])
def test_messages_begun_on_many_channels(fresh, name, body) -> None:
    """Each begun at the end of a large read: none of them may keep that read in memory."""
    node = fresh(1).start().nodes[0]
    peer = wire.Peer(node.amqp_port).open()
    channels = range(1, 1001)
    for channel in channels:
        peer.method(channel, spec.Channel.Open())
    for channel in channels:
        peer.expect(spec.Channel.OpenOk, channel)
    peer.open_channel(2000)
    filler = begin(2000, name, 100_000) + wire.frame(wire.BODY, 2000, bytes(100_000))
    before = node.resident()
    for channel in channels:
        begun = begin(channel, name, MIB)
        if body:
            begun += wire.frame(wire.BODY, channel, body)
        peer.send(3 * filler + begun)
    peer.method(2000, spec.Exchange.Declare(exchange="amq.direct", passive=True))
    peer.expect(spec.Exchange.DeclareOk, 2000)
    assert node.resident() - before < 100 * MIB
    peer.socket.close()
    serves(node, name)


def test_memory_alarm_stops_bodies_half_way(fresh, name) -> None:
    """Bodies that never end are no way around the alarm, which ends when they are gone."""
    node = fresh(1, extra_args=["--memory-total", "400MiB"]).start().nodes[0]
    part = wire.frame(wire.BODY, 1, bytes(131_064))
    peers = []
    with pytest.raises(TimeoutError):
        for _ in range(60):
            peer = wire.Peer(node.amqp_port).open().open_channel()
            peers.append(peer)
            peer.socket.settimeout(bound(3))
            peer.send(begin(1, name, 16 * MIB) + 120 * part)
    # 240 MiB is the watermark.
    assert node.resident() < 450 * MIB
    for peer in peers:
        peer.socket.close()
    eventually(lambda: node.resident() < 240 * MIB, what="the memory is given back")
    serves(node, name)


def test_memory_alarm_ends_when_the_queue_is_empty(fresh, name) -> None:
    """Memory that messages took goes back to the system although nobody asks for more."""
    arguments = ["--memory-total", "400MiB", "--local-queues-memory", "1GiB"]
    node = fresh(1, extra_args=arguments).start().nodes[0]
    peer = wire.Peer(node.amqp_port).open().open_channel()
    peer.declare(1, name)
    peer.socket.settimeout(bound(2))
    message = begin(1, name, 100_000) + wire.frame(wire.BODY, 1, bytes(100_000))
    with pytest.raises(TimeoutError):
        for _ in range(20_000):
            peer.send(message)
    assert node.resident() < 600 * MIB
    other = amqp.connect(node.amqp_port)
    other.channel().queue_purge(name)
    serves(node, f"{name}-other")
    other.close()
    peer.socket.close()


@pytest.mark.parametrize("port", ["amqp_port", "management_port", "cluster_port"])
def test_more_connections_than_files(fresh, name, port) -> None:
    """They are turned away: the store needs files too, and a node whose store fails ends."""
    cluster = fresh(1)
    node = cluster.nodes[0]
    plain = node.command()
    node.command = lambda: ["/bin/sh", "-c", 'ulimit -n 512; exec "$@"', "sh", *plain]
    cluster.start()
    channel = amqp.confirmed(amqp.connect(node.amqp_port))
    channel.queue_declare(name, durable=True)
    crowd = []
    for _ in range(1200):
        try:
            crowd.append(socket.create_connection(("127.0.0.1", getattr(node, port)), timeout=1))
        except OSError:
            break  # Full: further ones wait to be accepted.
    # Enough for new files of the log and of the store.
    for _ in range(400):
        channel.basic_publish("", name, bytes(300_000), amqp.PERSISTENT)
    assert node.running
    for stream in crowd:
        stream.close()
    eventually(node.is_ready, what="the node is ready")
    serves(node, f"{name}-other")
