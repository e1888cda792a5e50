"""--proxy-protocol: who a client behind a load balancer is, versions 1 and 2 of the header."""

from __future__ import annotations

import json
import socket
import struct
from collections.abc import Iterator

import pytest

from harness import wire
from harness.cluster import Cluster
from harness.node import Node
from harness.wait import bound, eventually

pytestmark = pytest.mark.warren_only("starts a node of its own")

SIGNATURE = b"\r\n\r\n\x00\r\nQUIT\n"
LOCAL, PROXY = 0x20, 0x21
TCP4, TCP6 = 0x11, 0x21


def v2(command: int, family: int, addresses: bytes) -> bytes:
    return SIGNATURE + struct.pack(">BBH", command, family, len(addresses)) + addresses


def ends(family: int, source: str, target: str) -> bytes:
    packed = [socket.inet_pton(family, address) for address in (source, target)]
    return b"".join(packed) + struct.pack(">HH", 41000, 5672)


V4 = ends(socket.AF_INET, "127.7.7.7", "127.9.9.9")
V6 = ends(socket.AF_INET6, "2001:db8::7", "2001:db8::9")
#: An extension (type, length, value) behind the addresses, as balancers send.
EXTENSION = struct.pack(">BH", 0x02, 7) + b"example"


@pytest.fixture(scope="module")
def node() -> Iterator[Node]:
    # Users other than guest may come from anywhere.
    with Cluster(1, extra_args=["--proxy-protocol", "--handshake-timeout", "3s"]) as cluster:
        cluster.start()
        (only,) = cluster.nodes
        body = {"password": "secret", "tags": ""}
        assert only.http("/api/users/far", "PUT", body)[0] == 201
        rights = {"configure": ".*", "write": ".*", "read": ".*"}
        assert only.http("/api/permissions/%2F/far", "PUT", rights)[0] in (201, 204)
        yield only


def enter(peer: wire.Peer, user: str = "far", password: str = "secret") -> None:
    peer.open(response=f"\x00{user}\x00{password}".encode())


def shown(node: Node) -> dict:
    """The only connection, as operators see it."""

    def listed() -> dict | None:
        rows = json.loads(node.http("/api/connections")[1])
        return rows[0] if len(rows) == 1 else None

    return eventually(listed, what="one connection is listed")


@pytest.mark.parametrize(
    ("header", "host"),
    [
        (b"PROXY TCP4 127.7.7.7 127.9.9.9 41000 5672\r\n", "127.7.7.7"),
        (b"PROXY TCP6 2001:db8::7 2001:db8::9 41000 5672\r\n", "2001:db8::7"),
        (v2(PROXY, TCP4, V4), "127.7.7.7"),
        (v2(PROXY, TCP6, V6), "2001:db8::7"),
        (v2(PROXY, TCP4, V4 + EXTENSION), "127.7.7.7"),
    ],
    ids=["v1-ipv4", "v1-ipv6", "v2-ipv4", "v2-ipv6", "v2-extension"],
)
@pytest.mark.parametrize("how", ["alone", "in-pieces", "with-what-follows"])
def test_the_clients_address(node, header, host, how) -> None:
    with wire.Peer(node.amqp_port) as peer:
        if how == "with-what-follows":
            peer.send(header + wire.PROTOCOL_HEADER)
            peer.expect(wire.spec.Connection.Start, 0)
            peer.start_ok(response=b"\x00far\x00secret")
            tune = peer.expect(wire.spec.Connection.Tune, 0)
            peer.method(
                0, wire.spec.Connection.TuneOk(tune.channel_max, tune.frame_max, heartbeat=0)
            )
            peer.method(0, wire.spec.Connection.Open(virtual_host="/"))
            peer.expect(wire.spec.Connection.OpenOk, 0)
        else:
            step = 5 if how == "in-pieces" else len(header)
            for i in range(0, len(header), step):
                peer.send(header[i : i + step])
            enter(peer)
        row = shown(node)
        assert (row["peer_host"], row["peer_port"], row["port"]) == (host, 41000, 5672)
        ports = f"{host}:41000 -> "
        assert row["name"].replace("[", "").replace("]", "").startswith(ports), row["name"]
    eventually(lambda: json.loads(node.http("/api/connections")[1]) == [], what="it is gone")


@pytest.mark.parametrize(
    "header",
    [v2(LOCAL, 0, b""), v2(LOCAL, TCP4, V4), v2(PROXY, 0, b""), b"PROXY UNKNOWN\r\n",
     b"PROXY UNKNOWN ffff::1 ffff::2 1 2\r\n"],
    ids=["local", "local-with-addresses", "unspecified", "v1-unknown", "v1-unknown-addresses"],
)  # fmt: skip
def test_no_address_is_told(node, header) -> None:
    """The balancer itself, or it cannot tell: the connection's own ends count, and it may go on."""
    with wire.Peer(node.amqp_port) as peer:
        peer.send(header)
        enter(peer)
        row = shown(node)
        own = peer.socket.getsockname()
        assert (row["peer_host"], row["peer_port"]) == (own[0], own[1])
        assert row["port"] == node.amqp_port
    eventually(lambda: json.loads(node.http("/api/connections")[1]) == [], what="it is gone")


@pytest.mark.parametrize(
    "sent",
    [
        wire.PROTOCOL_HEADER,
        b"GET / HTTP/1.1\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(64),
        b"PROXY TCP4 300.1.1.1 127.0.0.1 1 2\r\n",
        b"PROXY TCP4 1.1.1.1 127.0.0.1 1 99999\r\n",
        b"PROXY TCP5 1.1.1.1 127.0.0.1 1 2\r\n",
        b"PROXY " + b"x" * 200,
        v2(PROXY, TCP4, V4[:4]),
        v2(0x31, TCP4, V4),
        v2(0x2F, TCP4, V4),
        SIGNATURE[:-1] + b"X" + bytes(16),
        bytes(300),
    ],
    ids=["missing", "http", "tls", "bad-address", "bad-port", "bad-family", "endless", "short",
         "version-3", "bad-command", "bad-signature", "zeros"],
)  # fmt: skip
def test_refused(node, sent) -> None:
    """Without a valid header not a word is said; the others are served."""
    with wire.Peer(node.amqp_port) as peer:
        peer.send(sent)
        got = b""
        peer.socket.settimeout(bound(5))
        try:
            got = peer.socket.recv(4096)
        except ConnectionResetError:
            pass
        assert got == b""
    with wire.Peer(node.amqp_port) as peer:
        peer.send(b"PROXY TCP4 127.7.7.7 127.9.9.9 41000 5672\r\n")
        enter(peer)


def test_a_header_that_never_ends_holds_nothing(node) -> None:
    """The time for the handshake bounds it."""
    with wire.Peer(node.amqp_port) as peer:
        peer.send(b"PROXY TCP4 ")
        assert peer.ended_within(12)


def test_guest_is_judged_by_the_clients_address(node) -> None:
    """The balancer being on this machine does not make the client local."""
    for header, allowed in (
        (b"PROXY TCP4 127.7.7.7 127.9.9.9 41000 5672\r\n", True),
        (b"PROXY TCP4 192.0.2.7 127.9.9.9 41000 5672\r\n", False),
        (v2(LOCAL, 0, b""), True),
    ):
        with wire.Peer(node.amqp_port) as peer:
            peer.send(header)
            if allowed:
                enter(peer, "guest", "guest")
            else:
                peer.start()
                peer.start_ok()
                peer.expect_close(403)
