"""Strangers at all ports of a node: they have no login, and want its time, its memory, its files, its log.

A regular client goes on all the while. What is compared before and after each test stands in
`undisturbed`. The limits of the node are low, so that what is bounded shows within a minute.
"""

from __future__ import annotations

import base64
import functools
import json
import os
import random
import resource
import socket
import struct
import time
from collections.abc import Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass
from itertools import repeat

import pika
import pytest
from pika import spec

from harness import amqp, wire
from harness.broker import external_ports
from harness.cluster import Cluster
from harness.node import Node
from harness.regular import Regular
from harness.strangers import (
    Crowd,
    client_hello,
    each_byte,
    h2_frame,
    handshake,
    start_ok,
)
from harness.wait import bound, eventually

SEED = int(os.environ.get("WARREN_TEST_SEED", "20260115"))
MIB = 1 << 20
#: Files that the node may open; a part of them is for clients.
FILES = 4096
HANDSHAKE_S = 3
#: Fixed in the node: how long a stranger may greet on the cluster port.
GREETING_S = 5
PORTS = ("amqp_port", "cluster_port", "management_port")
LIMITS = [
    f"--handshake-timeout={HANDSHAKE_S}s",
    "--login-failure-delay=1s",
    "--connection-limit=20",
    "--channel-limit=100",
    "--channel-max=16",
    "--max-message-size=1MiB",
    "--memory-total=600MiB",
]
#: The begin of a caller's hello on the cluster port, with a node that does not exist.
HELLO = b"WARREN\x00\x02" + (9).to_bytes(8, "big") + (7).to_bytes(8, "big") + bytes(32)
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
REQUEST = b"GET /health/live HTTP/1.1\r\nhost: node\r\nuser-agent: stranger\r\n\r\n"


# --- the node and its regular client ---------------------------------------------------------


def open_files(node: Node) -> int:
    return len(os.listdir(f"/proc/{node.pid}/fd"))


@dataclass
class Watched:
    """A node, its regular client, and what it looked like before the first stranger came."""

    node: Node
    regular: Regular
    memory: int = 0
    files: int = 0
    #: Log lines that the strangers of a test may lead to.
    lines: int = 0

    def allow(self, lines: int) -> None:
        self.lines += lines


def limit_files(node: Node) -> None:
    """Starts it with a low limit of open files."""
    plain = node.command()
    node.command = lambda: ["/bin/sh", "-c", f'ulimit -n {FILES}; exec "$@"', "sh", *plain]


@pytest.fixture(scope="module")
def watched() -> Iterator[Watched]:
    if external_ports() is not None:
        pytest.skip("needs a node of its own")
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 16_384), hard))
    cluster = Cluster(1, extra_args=LIMITS)
    node = cluster.nodes[0]
    limit_files(node)
    regular = None
    try:
        cluster.start()
        regular = Regular(node.amqp_port, "regular")
        regular.start()
        regular.go_on(100)
        for path in ("/health/ready", "/api/overview", "/api/queues", "/metrics"):
            assert node.http(path)[0] == 200
        yield Watched(node, regular, node.resident(), open_files(node))
        assert node.terminate() == 0
    finally:
        if regular is not None:
            regular.close()
        cluster.close()
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.fixture
def own(fresh) -> Node:
    """A node of this test's own, for what must not be left to the others."""
    node = fresh(1, extra_args=LIMITS).nodes[0]
    limit_files(node)
    node.start()
    node.wait_ready()
    return node


@pytest.fixture(autouse=True)
def undisturbed(request: pytest.FixtureRequest) -> Iterator[None]:
    """Nothing that strangers do is noticed by the regular client, or stays."""
    if "watched" not in request.fixturenames:
        yield
        return
    it: Watched = request.getfixturevalue("watched")
    node, regular = it.node, it.regular
    it.lines = 20
    log_before = node.log_text()
    regular.go_on(5)
    regular.worst()
    node.forget_peak()
    yield
    assert regular.worst() < bound(2), "the regular client had to wait"
    regular.go_on(5)
    assert node.running and node.is_ready()
    eventually(
        lambda: open_files(node) <= it.files + 24,
        what=f"files as before: {it.files}",
    )
    peak = node.peak() - it.memory
    assert peak < 64 * MIB, f"{peak / MIB:.0f} MiB more than before at peak"
    assert not node.panics()
    lines = node.log_text()[len(log_before) :].splitlines()
    assert len(lines) <= it.lines, f"{len(lines)} lines in the log: {lines[:3]} … {lines[-3:]}"
    assert not [line for line in lines if " ERROR " in line]
    assert not [line[:200] for line in lines if len(line) > 1000]


# --- what they do ----------------------------------------------------------------------------


def test_one_byte_a_second(watched) -> None:
    node = watched.node
    with Crowd() as slow, Crowd() as clerks:
        for _ in range(40):
            slow.add(node.amqp_port, each_byte(wire.PROTOCOL_HEADER + start_ok()), pace=1)
            slow.add(node.cluster_port, each_byte(HELLO), pace=1)
        for words in (REQUEST, PREFACE, b"\r\n" * 100):
            for _ in range(40):
                clerks.add(node.management_port, each_byte(words), pace=1)
        clerks.talk(1.5)
        slow.all_over(HANDSHAKE_S + GREETING_S + 10)
        clerks.talk(1.5)
        assert node.http("/health/ready")[0] == 200
    watched.allow(80)


def test_endless_headers(watched) -> None:
    """Of one line or of many, on HTTP/1.1 and 2: refused after a bounded number of bytes."""
    many = b"".join(b"x-%d: %s\r\n" % (at, b"y" * 100) for at in range(200))
    begin = b"GET /api/overview HTTP/1.1\r\nhost: node\r\n"
    settings = PREFACE + h2_frame(4, 0, 0)
    attacks: list[Iterable[bytes]] = [
        [begin, *repeat(many, 1000)],
        [begin, b"x-long: ", *repeat(b"y" * 16384, 1000)],
        [b"GET /", *repeat(b"y" * 16384, 1000)],
        [*repeat(b"\r\n" * 8192, 1000)],
        # Headers without an end, continued and continued.
        [settings, h2_frame(1, 0, 1, b"\x82"), *repeat(h2_frame(9, 0, 1, bytes(16384)), 1000)],
        [settings, h2_frame(1, 0, 1, b"\x82"), *repeat(h2_frame(9, 0, 1, b"\x82"), 200_000)],
    ]
    with Crowd() as crowd:
        for attack in attacks:
            for _ in range(10):
                crowd.add(watched.node.management_port, attack)
        crowd.all_over(10)
        said = [stranger.said for stranger in crowd.strangers]
        assert max(said) < 8 * MIB, said
    assert watched.node.http("/api/overview")[0] == 200


def test_huge_content_length(watched) -> None:
    """A body is neither awaited nor kept for whoever has no login."""
    node = watched.node
    head = "{} /api/{} HTTP/1.1\r\nhost: node\r\n{}\r\n\r\n"
    wrong = base64.b64encode(b"guest:wrong").decode()
    lengths = (
        "content-length: 9223372036854775807",
        "content-length: 99999999999",
        "transfer-encoding: chunked",
    )
    impossible = (
        "content-length: 18446744073709551615",
        "content-length: 99999999999999999999999999",
        "content-length: -1",
        "content-length: 5\r\ncontent-length: 6",
        "content-length: 5\r\ntransfer-encoding: chunked, identity",
    )
    body = [b"fffffffffffffff\r\n", *repeat(bytes(65536), 2000)]
    with Crowd() as crowd:
        for length in lengths:
            for login in ("", f"\r\nauthorization: Basic {wrong}"):
                for method, path in (("PUT", "users/x"), ("POST", "definitions")):
                    words = head.format(method, path, length + login).encode()
                    crowd.add(node.management_port, [words, *body])
        for length in impossible:
            crowd.add(node.management_port, [head.format("PUT", "users/x", length).encode()])
        crowd.all_over(20)
        answers = [bytes(stranger.heard[9:12]) for stranger in crowd.strangers]
        # Whoever is cut off while it goes on sending may not see its answer.
        assert set(answers[: -len(impossible)]) <= {b"401", b""}, answers
        assert set(answers[-len(impossible) :]) <= {b"400", b"401", b"431"}, answers
        said = [stranger.said for stranger in crowd.strangers]
        assert max(said) < 16 * MIB, said
    assert node.http("/api/users/x")[0] == 404


@pytest.mark.parametrize("port", PORTS)
def test_garbage(watched, port) -> None:
    chance = random.Random(SEED)
    address = getattr(watched.node, port)
    with Crowd() as crowd:
        for number in range(300):
            words = chance.randbytes(chance.choice([1, 7, 8, 9, 64, 500, 5000, 100_000]))
            if number % 3 == 1:
                words = wire.PROTOCOL_HEADER + words
            elif number % 3 == 2:
                words = chance.choice([HELLO[:8], PREFACE, REQUEST[:20]]) + words
            crowd.add(address, [words])
        if port == "management_port":
            # A few bytes may be the begin of a request; the rest has been answered.
            crowd.pump(lambda: len(crowd.left) < 60, 5, f"most are refused, seed {SEED}")
        else:
            # Those that were told why, and do not answer, are waited for.
            crowd.pump(
                lambda: all(stranger.heard for stranger in crowd.left),
                HANDSHAKE_S + GREETING_S,
                f"all are refused, seed {SEED}",
            )
    watched.allow(300)


def test_another_protocol(watched) -> None:
    node = watched.node
    hello = client_hello()
    with Crowd() as crowd:
        at_amqp = [
            crowd.add(node.amqp_port, [words])
            for words in (hello, REQUEST, PREFACE, HELLO, b"AMQP\x00\x01\x00\x00", b"EHLO x\r\n")
        ]
        at_cluster = [
            crowd.add(node.cluster_port, [words])
            for words in (hello, REQUEST, PREFACE, wire.PROTOCOL_HEADER, b"EHLO x\r\n")
        ]
        at_management = [
            crowd.add(node.management_port, [words])
            for words in (hello, wire.PROTOCOL_HEADER + start_ok(), HELLO)
        ]
        crowd.all_over(HANDSHAKE_S)
        # Told which version is spoken, as the specification asks.
        assert [bytes(s.heard) for s in at_amqp] == [wire.PROTOCOL_HEADER] * len(at_amqp)
        assert not any(s.heard for s in at_cluster)
        heard = [bytes(s.heard[:12]) for s in at_management]
        assert all(words in (b"HTTP/1.1 400", b"") for words in heard), heard
    watched.allow(14)


def test_frames_before_start_ok(watched) -> None:
    """Nothing but start-ok is understood, and nothing is kept."""
    node = watched.node
    publish = wire.method_frame(1, spec.Basic.Publish(exchange="", routing_key="regular"))
    tune_ok = wire.method_frame(0, spec.Connection.TuneOk(16, 131072, 60))
    deep = b""
    for _ in range(1100):
        deep = wire.table([("k", b"F" + (deep or wire.table([])))])
    refused: list[list[bytes]] = [
        [wire.method_frame(1, spec.Channel.Open())],
        [publish + wire.content_frames(1, wire.NO_PROPERTIES, b"stranger")],
        [wire.frame(wire.HEADER, 1, struct.pack(">HHQ", 60, 0, 1 << 62) + wire.NO_PROPERTIES)],
        [wire.frame(wire.BODY, 1, bytes(4000))],
        [wire.frame(wire.BODY, 0, bytes(4000))],
        [wire.frame(wire.HEARTBEAT, 1, b"")],
        [wire.frame(9, 0, b"")],
        [wire.frame(wire.METHOD, 0, b"")],
        [wire.frame(wire.METHOD, 0, b"\xff\xff\xff\xff")],
        [wire.frame(wire.METHOD, 0, b"", end=0)],
        [tune_ok],
        [wire.method_frame(0, spec.Connection.Open(virtual_host="/"))],
        [wire.frame(wire.METHOD, 0, struct.pack(">I", spec.Connection.StartOk.INDEX) + deep)],
        [start_ok(mechanism="NONE")],
        [start_ok(response=b"guest")],
        [wire.PROTOCOL_HEADER],
    ]
    codes = {501, 502, 503, 504, 505, 530}
    for words in refused:
        with node_peer(node) as peer:
            peer.start()
            for word in words:
                peer.send(word)
            assert peer.refused(bound(10)) in codes, words
    # Harmless, but no way to stay for ever.
    beat = wire.frame(wire.HEARTBEAT, 0, b"")
    with Crowd() as crowd:
        for _ in range(10):
            crowd.add(node.amqp_port, [wire.PROTOCOL_HEADER, *repeat(beat, 10_000)])
            crowd.add(node.amqp_port, [wire.PROTOCOL_HEADER, *repeat(beat, 1000)], pace=0.1)
        crowd.all_over(HANDSHAKE_S + 5)
    watched.allow(40)


def node_peer(node: Node) -> wire.Peer:
    return wire.Peer(node.amqp_port, timeout=bound(10))


def test_frames_of_four_gigabytes(watched) -> None:
    """Refused when they are announced, before anything of them has come."""
    node = watched.node
    for kind in (wire.METHOD, wire.HEADER, wire.BODY, wire.HEARTBEAT):
        for size in (8193, 1 << 20, (1 << 31) - 1, 1 << 31, (1 << 32) - 8, (1 << 32) - 1):
            with node_peer(node) as peer:
                peer.start()
                peer.send(struct.pack(">BHI", kind, 0, size))
                assert peer.refused(bound(10)) == 501, (kind, size)
    with Crowd() as crowd:
        for _ in range(20):
            announced = wire.PROTOCOL_HEADER + struct.pack(">BHI", wire.METHOD, 0, (1 << 32) - 1)
            crowd.add(node.amqp_port, [announced, *repeat(bytes(65536), 65536)])
            # Tables and strings that claim to be longer than the frame that they are in.
            claim = (
                struct.pack(">I", spec.Connection.StartOk.INDEX) + b"\xff\xff\xff\xff" + bytes(8)
            )
            crowd.add(node.amqp_port, [wire.PROTOCOL_HEADER + wire.frame(wire.METHOD, 0, claim)])
        crowd.pump(
            lambda: all(len(s.heard) > 400 for s in crowd.strangers),
            HANDSHAKE_S,
            "all are told",
        )
    watched.allow(24 + 40)


@pytest.mark.parametrize("port", PORTS)
def test_a_silent_crowd(watched, port) -> None:
    node = watched.node
    with Crowd() as crowd:
        for _ in range(8):
            for _ in range(250):
                crowd.add(getattr(node, port))
            # No more at a time than may wait to be accepted: the kernel drops others without a word.
            watched.regular.go_on(3)
        if port == "management_port":
            # As many are let in as may be, and wait; a file for each.
            eventually(lambda: open_files(node) > watched.files + 100)
            assert open_files(node) <= watched.files + FILES // 8 + 24
        else:
            # There is room for one who comes now and knows what it wants.
            newcomer = amqp.connect(node.amqp_port)
            newcomer.close()
            assert node.http("/health/ready")[0] == 200
            crowd.all_over(max(HANDSHAKE_S, GREETING_S) + 10)
    eventually(node.is_ready, what="the management port answers again")


def test_health_is_told_in_a_crowd(own) -> None:
    """A supervisor that cannot ask takes the node for dead, and kills it."""
    with Crowd() as crowd:
        for _ in range(FILES // 8 + 100):
            crowd.add(own.management_port, each_byte(REQUEST * 10), pace=1)
        # Some connect only when the kernel asks again, after a second.
        crowd.talk(3)
        assert own.is_ready()


def test_headers_take_little_memory(own) -> None:
    """Headers that do not end, on as many connections as are let in."""
    before = own.resident()
    with Crowd() as crowd:
        for _ in range(FILES // 8):
            crowd.add(own.management_port, [REQUEST[:-4] + b"\r\nx: ", b"y" * 400_000])
        crowd.talk(3)
        more = own.resident() - before
    assert more < 64 * MIB, f"{more / MIB:.0f} MiB more than before"


def test_a_flood_during_the_login(own) -> None:
    """While a password is being checked, what follows waits in the socket, not in memory."""
    before = own.resident()
    with Crowd() as crowd:
        for number in range(40):
            wrong = start_ok(response=b"\0guest\0%d" % number)
            crowd.add(own.amqp_port, [wire.PROTOCOL_HEADER + wrong, *repeat(bytes(262_144), 2000)])
        crowd.talk(HANDSHAKE_S)
    peak = own.peak() - before
    assert peak < 64 * MIB, f"{peak / MIB:.0f} MiB more than before at peak"
    assert "memory=true" not in own.log_text()


def test_cut_at_each_byte(watched) -> None:
    """A valid conversation that ends anywhere, by an end of file or by a reset."""
    node = watched.node
    conversations = [
        (node.amqp_port, handshake()),
        (node.cluster_port, HELLO + bytes(32)),
        (node.management_port, REQUEST),
        (node.management_port, PREFACE + h2_frame(4, 0, 0) + h2_frame(1, 5, 1, b"\x82\x84\x86")),
    ]
    count = 0
    for port, words in conversations:
        for end in range(len(words) + 1):
            with closing(socket.create_connection(("127.0.0.1", port), timeout=bound(10))) as it:
                it.sendall(words[:end])
                if end % 2:
                    it.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            count += 1
    assert count > 400
    connections = functools.partial(node.http, "/api/connections")
    eventually(lambda: len(json.loads(connections()[1])) == 1, what="only the regular client is on")
    watched.allow(2 * count)


def test_wrong_passwords(watched) -> None:
    """Guessing costs neither the regular client nor a newcomer their time."""
    node = watched.node
    status, answer = node.http("/api/users/newcomer", "PUT", {"password": "right", "tags": ""})
    assert status == 201, answer
    permission = {"configure": ".*", "write": ".*", "read": ".*"}
    assert node.http("/api/permissions/%2F/newcomer", "PUT", permission)[0] == 201
    wrong = base64.b64encode(b"guest:wrong")
    asks = b"GET /api/overview HTTP/1.1\r\nhost: x\r\nauthorization: Basic " + wrong
    with Crowd() as crowd:
        for number in range(40):
            response = b"\0guest\0%d" % number
            crowd.add(node.amqp_port, [wire.PROTOCOL_HEADER + start_ok(response=response)])
            crowd.add(node.management_port, [asks + b"%d\r\nconnection: close\r\n\r\n" % number])
        crowd.talk(0.2)
        started = time.monotonic()
        connection = amqp.connect(node.amqp_port, user="newcomer", password="right")
        assert time.monotonic() - started < bound(5)
        connection.close()
        crowd.all_over(HANDSHAKE_S + 10)
    watched.allow(80 + 2)


def test_no_line_of_a_stranger_in_the_log(watched) -> None:
    """What strangers say is quoted, so that nobody can write lines that look like the node's."""
    node = watched.node
    forged = "\n2026-01-15T00:00:00.000000Z  INFO cli::serve::run: stopped\x1b[2K\r"
    before = len(node.log_text())
    words = [
        start_ok(mechanism=f"X{forged}"),
        start_ok(response=f"\0{forged}\0{forged}".encode()),
        start_ok(response=forged.encode()),
    ]
    with Crowd() as crowd:
        for word in words:
            crowd.add(node.amqp_port, [wire.PROTOCOL_HEADER + word])
        crowd.pump(
            lambda: node.log_text()[before:].count(" WARN ") >= len(words), 10, "all are logged"
        )
    text = node.log_text()[before:]
    assert not [line for line in text.splitlines() if line.startswith("2026-01-15T00:00:00")]
    assert "\x1b" not in text


def test_a_clean_stop_among_strangers(fresh) -> None:
    node = fresh(1, extra_args=LIMITS).start().nodes[0]
    publisher = amqp.confirmed(amqp.connect(node.amqp_port))
    publisher.queue_declare("regular", durable=True)
    with Crowd() as crowd:
        for _ in range(20):
            crowd.add(node.amqp_port)
            crowd.add(node.amqp_port, [wire.PROTOCOL_HEADER])
            crowd.add(node.amqp_port, [wire.PROTOCOL_HEADER + start_ok(response=b"\0a\0b")])
            crowd.add(node.amqp_port, [handshake()[:-4]])
            crowd.add(node.amqp_port, [handshake()])
            crowd.add(node.cluster_port)
            crowd.add(node.cluster_port, [HELLO])
            crowd.add(node.management_port, [REQUEST[:-4]])
            crowd.add(node.management_port, [PREFACE[:10]])
            crowd.add(node.management_port, [PREFACE + h2_frame(4, 0, 0)])
        crowd.talk(0.3)
        assert node.terminate() == 0
    with pytest.raises(pika.exceptions.AMQPError):
        publisher.basic_publish("", "regular", b"", amqp.PERSISTENT)
    assert not node.panics()
