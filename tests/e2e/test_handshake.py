"""The first seconds of a connection, played by hand: headers, logins, limits, heartbeats, ends."""

from __future__ import annotations

import socket
import time

import pika
import pytest
from pika import spec

from harness import amqp, wire
from harness.broker import external_ports
from harness.wait import bound

REFUSED = (
    "ACCESS_REFUSED - Login was refused using authentication mechanism PLAIN. "
    "For details see the broker logfile."
)


@pytest.mark.parametrize(
    "first",
    [
        b"AMQP\x00\x00\x08\x00",
        b"AMQP\x01\x01\x00\x0a",
        b"AMQP\x03\x01\x00\x00",
        b"AMQP\x00\x01\x00\x00",
        b"GET / HTTP/1.1\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01",
        b"\x00" * 8,
        b"\xff" * 8,
    ],
)
def test_other_protocols_are_told_ours(peer, first) -> None:
    peer.send(first)
    answer = b""
    peer.socket.settimeout(bound(20))
    try:
        while chunk := peer.socket.recv(100):
            answer += chunk
    except ConnectionResetError:
        pass
    assert answer == b"AMQP\x00\x00\x09\x01"


def test_0_9_header_is_accepted(peer) -> None:
    peer.send(b"AMQP\x01\x01\x00\x09")
    start = peer.expect(spec.Connection.Start, 0)
    assert (start.version_major, start.version_minor) in ((0, 9), (8, 0))


def test_header_in_pieces(peer) -> None:
    for byte in wire.PROTOCOL_HEADER:
        peer.send(bytes([byte]))
    peer.expect(spec.Connection.Start, 0)


def test_server_properties(peer) -> None:
    start = peer.start()
    assert (start.version_major, start.version_minor) == (0, 9)
    assert {b"PLAIN", b"AMQPLAIN"} <= set(start.mechanisms.split(b" "))
    assert b"en_US" in start.locales.split(b" ")
    properties = start.server_properties
    for key in ("product", "version", "platform", "copyright", "information", "cluster_name"):
        assert isinstance(properties[key], str) and properties[key], key
    for capability in (
        "publisher_confirms",
        "exchange_exchange_bindings",
        "basic.nack",
        "consumer_cancel_notify",
        "connection.blocked",
        "consumer_priorities",
        "authentication_failure_close",
        "per_consumer_qos",
        "direct_reply_to",
    ):
        assert properties["capabilities"][capability] is True, capability


def test_tune(peer) -> None:
    tune = peer.log_in()
    assert (tune.channel_max, tune.frame_max, tune.heartbeat) == (2047, 131072, 60)


@pytest.mark.warren_only("RabbitMQ 3.10 resets the connection before the text arrives")
@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"channel_max": 3000}, "NOT_ALLOWED - negotiated channel_max = 3000 is higher than the maximum allowed value (2047)"),
        ({"channel_max": 0}, "NOT_ALLOWED - negotiated channel_max = 0 (no limit) is higher than the maximum allowed value (2047)"),
        ({"frame_max": 200000}, "NOT_ALLOWED - negotiated frame_max = 200000 is higher than the maximum allowed value (131072)"),
        ({"frame_max": 0}, "NOT_ALLOWED - negotiated frame_max = 0 (no limit) is higher than the maximum allowed value (131072)"),
        ({"frame_max": 1000}, "NOT_ALLOWED - negotiated frame_max = 1000 is lower than the minimum allowed value (4096)"),
    ],
    ids=["channel-max", "channel-max-0", "frame-max", "frame-max-0", "frame-max-small"],
)  # fmt: skip
def test_tune_ok_out_of_range(peer, changes, text) -> None:
    peer.log_in()
    values = {"channel_max": 2047, "frame_max": 131072, "heartbeat": 60, **changes}
    peer.method(0, spec.Connection.TuneOk(**values))
    peer.expect_close(530, text)


def test_smallest_frame_max(peer, pub, name) -> None:
    """amqplib up to 0.10.6 asks for 4096; nothing larger may be sent to it."""
    pub.queue_declare(name)
    pub.basic_publish("", name, bytes(10000))
    peer.open(frame_max=4096).open_channel()
    peer.method(1, spec.Basic.Get(queue=name, no_ack=True))
    assert peer.content(spec.Basic.GetOk).body == bytes(10000)


@pytest.mark.parametrize(
    ("user", "password"),
    [("guest", "wrong"), ("nobody", "guest"), ("guest", ""), ("", "")],
)
def test_bad_login_is_told_to_who_can_hear_it(peer, user, password) -> None:
    peer.start()
    began = time.monotonic()
    peer.start_ok(response=f"\0{user}\0{password}".encode())
    close = peer.expect(spec.Connection.Close, 0)
    assert external_ports() or time.monotonic() - began > 0.5, "guessing passwords has to cost time"
    assert (close.reply_code, close.class_id, close.method_id) == (403, 0, 0)
    assert close.reply_text == REFUSED


def test_bad_login_without_the_capability_is_silence(peer) -> None:
    peer.start()
    began = time.monotonic()
    peer.start_ok(response=b"\0guest\0wrong", capabilities={})
    peer.expect_end()
    assert time.monotonic() - began > 0.5, "guessing passwords has to cost time"


def test_pika_reports_a_bad_login(broker) -> None:
    with pytest.raises(pika.exceptions.ProbableAuthenticationError) as caught:
        broker.connect(1, password="wrong")
    assert REFUSED in str(caught.value)


def test_amqplain(peer) -> None:
    fields = [("LOGIN", wire.string("guest")), ("PASSWORD", wire.string("guest"))]
    response = wire.table(fields)[4:]
    peer.open(mechanism="AMQPLAIN", response=response).open_channel()


def test_amqplain_with_a_wrong_password(peer) -> None:
    fields = [("LOGIN", wire.string("guest")), ("PASSWORD", wire.string("wrong"))]
    peer.start()
    peer.start_ok(mechanism="AMQPLAIN", response=wire.table(fields)[4:])
    close = peer.expect(spec.Connection.Close, 0)
    assert close.reply_code == 403
    assert close.reply_text == REFUSED.replace("PLAIN", "AMQPLAIN")


@pytest.mark.warren_only("new in RabbitMQ 4")
def test_anonymous_is_guest(peer, name) -> None:
    """The login of guest with the password guest."""
    peer.open(mechanism="ANONYMOUS", response=b"").open_channel()
    peer.declare(1, name, auto_delete=True)


def test_plain_ignores_the_authorization_identity(peer) -> None:
    peer.open(response=b"\0guest\0guest").open_channel()


@pytest.mark.warren_only("RabbitMQ 3.10 resets the connection without a word")
@pytest.mark.parametrize("mechanism", ["NOSUCH", "plain", ""])
def test_unknown_mechanism(peer, mechanism) -> None:
    peer.start()
    peer.start_ok(mechanism=mechanism)
    peer.expect_close(503, f"COMMAND_INVALID - unknown authentication mechanism '{mechanism}'")


@pytest.mark.warren_only("RabbitMQ 3.10 resets the connection without a word")
@pytest.mark.parametrize("response", [b"", b"guest", b"\0guest"], ids=repr)
def test_malformed_plain_response(peer, response) -> None:
    peer.start()
    peer.start_ok(response=response)
    close = peer.expect(spec.Connection.Close, 0)
    assert close.reply_code in (502, 403)


def test_unknown_vhost(broker) -> None:
    with pytest.raises(pika.exceptions.ProbableAccessDeniedError) as caught:
        broker.connect(1, virtual_host="nope")
    assert "(530) 'NOT_ALLOWED - vhost nope not found'" in str(caught.value)
    with broker.peer(2) as peer:
        peer.log_in()
        peer.method(0, spec.Connection.TuneOk(2047, 131072, 0))
        peer.method(0, spec.Connection.Open(virtual_host="nope"))
        close = peer.expect_close(530, "NOT_ALLOWED - vhost nope not found")
    assert (close.class_id, close.method_id) == (10, 40)


def test_wrong_order(peer) -> None:
    """A method that does not fit the state ends the connection, one way or another.

    A client that does not answer the close is waited for up to half a minute.
    """
    peer.start()
    peer.method(0, spec.Connection.Open(virtual_host="/"))
    assert peer.ended_within(60)


def test_handshake_timeout(broker) -> None:
    """Who does not finish within ten seconds is dropped, wherever it got stuck."""
    stuck = {
        stage: broker.peer(1)
        for stage in ("nothing", "half a header", "header", "start-ok", "tune-ok")
    }
    stuck["half a header"].send(b"AMQP")
    stuck["header"].start()
    stuck["start-ok"].log_in()
    stuck["tune-ok"].log_in()
    stuck["tune-ok"].method(0, spec.Connection.TuneOk(2047, 131072, 0))
    for stage, peer in stuck.items():
        with peer:
            assert peer.ended_within(60), stage


def test_health_checks_by_tcp_are_welcome(broker) -> None:
    for _ in range(20):
        socket.create_connection(("127.0.0.1", broker.port(0))).close()
    broker.connect(0).close()


def test_client_close(peer, pub, name) -> None:
    """close-ok is the last frame; exclusive queues are gone before it."""
    peer.open().open_channel().declare(1, name, exclusive=True)
    peer.method(0, spec.Connection.Close(200, "bye", 0, 0))
    peer.expect(spec.Connection.CloseOk, 0)
    pub.queue_declare(name)  # Free at once, on another node.
    # It is the client that ends the connection; until then another of its threads may close it too.
    peer.method(0, spec.Connection.Close(200, "bye", 0, 0))
    peer.expect(spec.Connection.CloseOk, 0)


def test_heartbeats_are_sent_and_expected(peer) -> None:
    """At h = 1 s the broker sends them, and drops who is silent for two to three intervals."""
    peer.open(heartbeat=1).open_channel()
    began = time.monotonic()
    beats = 0
    try:
        while time.monotonic() - began < bound(20):
            frame = peer.receive(timeout=bound(20))
            assert frame.kind == wire.HEARTBEAT and frame.channel == 0 and frame.payload == b""
            beats += 1
    except wire.Closed:
        pass
    # One in every half interval, for as long as it takes to drop the peer.
    assert beats >= 3
    assert 1.5 <= time.monotonic() - began < bound(20), "dropped too early or not at all"


def test_heartbeats_keep_an_idle_connection(peer, name) -> None:
    peer.open(heartbeat=1).open_channel()
    began = time.monotonic()
    while time.monotonic() - began < 4:
        frame = peer.receive()
        assert frame.kind == wire.HEARTBEAT
        peer.send(wire.frame(wire.HEARTBEAT, 0, b""))
    peer.declare(1, name, auto_delete=True)


def test_heartbeat_0_means_none(peer, name) -> None:
    peer.open(heartbeat=0).open_channel()
    with pytest.raises(TimeoutError):
        peer.receive(timeout=3)
    peer.declare(1, name, auto_delete=True)


def test_heartbeat_on_another_channel(peer) -> None:
    peer.open().open_channel()
    peer.send(wire.frame(wire.HEARTBEAT, 1, b""))
    assert peer.refused() in (505, 501)


def test_open_with_the_reserved_fields_set(peer) -> None:
    peer.log_in()
    peer.method(0, spec.Connection.TuneOk(2047, 131072, 0))
    peer.method(0, spec.Connection.Open(virtual_host="/", capabilities="anything", insist=True))
    peer.expect(spec.Connection.OpenOk, 0)


def test_update_secret(peer) -> None:
    """With passwords in the broker's own store it succeeds and changes nothing."""
    peer.open().open_channel()
    payload = b"\x00\x0a\x00\x46" + wire.long("new secret") + wire.short("expired")
    peer.send(wire.frame(wire.METHOD, 0, payload))
    assert peer.receive().payload[:4] == b"\x00\x0a\x00\x47"


def test_connection_name_is_remembered(broker, connect) -> None:
    connection = connect(0, client_properties={"connection_name": "named by the test"})
    amqp.sync(connection.channel())


def test_many_connections_at_once(broker) -> None:
    peers = [broker.peer(i) for i in range(60)]
    try:
        for peer in peers:
            peer.open().open_channel()
    finally:
        for peer in peers:
            peer.socket.close()
