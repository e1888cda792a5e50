"""A scripted AMQP peer: frames by hand, so that tests can also send what no library would."""

from __future__ import annotations

import socket
import struct
import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from pika import spec

from harness.wait import SOON, bound

METHOD, HEADER, BODY, HEARTBEAT = 1, 2, 3, 8
FRAME_END = 0xCE
PROTOCOL_HEADER = b"AMQP\x00\x00\x09\x01"

CAPABILITIES = {
    "publisher_confirms": True,
    "exchange_exchange_bindings": True,
    "basic.nack": True,
    "consumer_cancel_notify": True,
    "connection.blocked": True,
    "authentication_failure_close": True,
}


class Closed(Exception):
    """The broker closed the TCP connection."""


@dataclass
class Frame:
    """One received frame."""

    kind: int
    channel: int
    payload: bytes

    @property
    def method(self) -> Any:
        """The decoded method of a method frame."""
        assert self.kind == METHOD, f"not a method frame: {self}"
        index = struct.unpack_from(">I", self.payload)[0]
        method = spec.methods[index]()
        method.decode(self.payload, 4)
        return method

    def __repr__(self) -> str:
        if self.kind == METHOD:
            return f"<{self.channel}: {self.method!r}>"
        return f"<{self.channel}: kind {self.kind}, {len(self.payload)} B>"


@dataclass
class Content:
    """A message with the bytes of its properties as they were on the wire."""

    method: Any
    properties: bytes
    body: bytes


def frame(kind: int, channel: int, payload: bytes, end: int = FRAME_END) -> bytes:
    return struct.pack(">BHI", kind, channel, len(payload)) + payload + bytes([end])


def method_payload(method: Any) -> bytes:
    return struct.pack(">I", method.INDEX) + b"".join(method.encode())


def method_frame(channel: int, method: Any) -> bytes:
    return frame(METHOD, channel, method_payload(method))


def content_frames(channel: int, properties: bytes, body: bytes, frame_max: int = 131072) -> bytes:
    """Header and body frames; `properties` begins with the flag word."""
    head = frame(HEADER, channel, struct.pack(">HHQ", 60, 0, len(body)) + properties)
    step = frame_max - 8
    parts = [frame(BODY, channel, body[i : i + step]) for i in range(0, len(body), step)]
    return head + b"".join(parts)


NO_PROPERTIES = b"\x00\x00"


# --- field tables with every letter under control ----------------------------------------------


def short(text: str | bytes) -> bytes:
    raw = text.encode() if isinstance(text, str) else text
    return bytes([len(raw)]) + raw


def long(raw: str | bytes) -> bytes:
    raw = raw.encode() if isinstance(raw, str) else raw
    return struct.pack(">I", len(raw)) + raw


def table(fields: Iterable[tuple[str | bytes, bytes]]) -> bytes:
    """`fields`: name and value, the value with its letter (see the functions below)."""
    return long(b"".join(short(name) + value for name, value in fields))


def array(values: Iterable[bytes]) -> bytes:
    return b"A" + long(b"".join(values))


def string(value: str | bytes) -> bytes:
    return b"S" + long(value)


def nested(fields: Iterable[tuple[str | bytes, bytes]]) -> bytes:
    return b"F" + table(fields)


#: One value of every type of the RabbitMQ dialect, by name.
EVERY_TYPE: list[tuple[str, bytes]] = [
    ("bool-true", b"t\x01"),
    ("bool-false", b"t\x00"),
    ("signed-8", b"b\x80"),
    ("unsigned-8", b"B\xff"),
    ("signed-16", b"s\x80\x00"),
    ("unsigned-16", b"u\xff\xff"),
    ("signed-32", b"I" + struct.pack(">i", -(2**31))),
    ("unsigned-32", b"i" + struct.pack(">I", 2**32 - 1)),
    ("signed-64", b"l" + struct.pack(">q", -(2**63))),
    ("float", b"f" + struct.pack(">f", 1.5)),
    ("double", b"d" + struct.pack(">d", -1e300)),
    ("decimal", b"D\x02" + struct.pack(">I", 12345)),
    ("string", string("grüße")),
    ("string-not-utf8", string(b"\xff\xfe\x00\x80")),
    ("array", array([string("a"), b"I\x00\x00\x00\x07", array([]), nested([("k", b"V")])])),
    ("timestamp", b"T" + struct.pack(">Q", 2**33)),
    ("table", nested([("deep", nested([("deeper", b"t\x01")]))])),
    ("bytes", b"x" + long(b"\x00\x01\xce\xff")),
    ("void", b"V"),
    ("empty-table", nested([])),
]


class Peer:
    """A socket that speaks AMQP frame by frame."""

    def __init__(self, port: int, timeout: float = SOON) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=timeout)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.buffer = bytearray()
        self.frame_max = 131072
        self.channel_max = 2047
        self.server_properties: dict[str, Any] = {}
        self.tune: Any = None

    def __enter__(self) -> Peer:
        return self

    def __exit__(self, *_: Any) -> None:
        self.socket.close()

    # --- sending --------------------------------------------------------------------------

    def send(self, data: bytes) -> None:
        try:
            self.socket.sendall(data)
        except (BrokenPipeError, ConnectionResetError) as error:
            raise Closed from error

    def method(self, channel: int, method: Any) -> None:
        self.send(method_frame(channel, method))

    def publish(
        self,
        channel: int,
        exchange: str,
        routing_key: str,
        body: bytes = b"",
        properties: bytes = NO_PROPERTIES,
        **flags: bool,
    ) -> None:
        publish = spec.Basic.Publish(exchange=exchange, routing_key=routing_key, **flags)
        self.send(
            method_frame(channel, publish)
            + content_frames(channel, properties, body, self.frame_max)
        )

    # --- receiving ------------------------------------------------------------------------

    def receive(self, timeout: float = SOON) -> Frame:
        """The next frame; `Closed` when the broker has closed the connection."""
        deadline = time.monotonic() + timeout
        while True:
            if len(self.buffer) >= 7:
                kind, channel, size = struct.unpack_from(">BHI", self.buffer)
                if len(self.buffer) >= size + 8:
                    payload = bytes(self.buffer[7 : 7 + size])
                    assert self.buffer[7 + size] == FRAME_END, "the broker's frame has no end octet"
                    assert size + 8 <= self.frame_max, f"a frame of {size + 8} B was sent to us"
                    del self.buffer[: size + 8]
                    return Frame(kind, channel, payload)
            self._read(deadline)

    def _read(self, deadline: float) -> None:
        left = deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError("nothing from the broker in time")
        self.socket.settimeout(left)
        try:
            data = self.socket.recv(65536)
        except ConnectionResetError as error:
            raise Closed from error
        if not data:
            raise Closed
        self.buffer += data

    def expect(self, kind: type, channel: int | None = None, timeout: float = SOON) -> Any:
        """The next frame that is no heartbeat; it has to be this method."""
        while True:
            got = self.receive(timeout)
            if got.kind != HEARTBEAT:
                break
        assert got.kind == METHOD and isinstance(got.method, kind), f"{got} instead of {kind}"
        if channel is not None:
            assert got.channel == channel, got
        return got.method

    def content(self, kind: type, timeout: float = SOON) -> Content:
        """A method of this kind, and the content that follows it."""
        method = self.expect(kind, timeout=timeout)
        head = self.receive(timeout)
        assert head.kind == HEADER, head
        class_id, weight, size = struct.unpack_from(">HHQ", head.payload)
        assert (class_id, weight) == (60, 0)
        body = b""
        while len(body) < size:
            part = self.receive(timeout)
            assert part.kind == BODY, part
            assert part.payload, "an empty body frame"
            body += part.payload
        return Content(method, head.payload[12:], body)

    def expect_close(self, code: int, text: str | None = None, timeout: float = SOON) -> Any:
        """connection.close with this code, and the end of the connection after our close-ok."""
        close = self.expect(spec.Connection.Close, 0, timeout)
        assert close.reply_code == code, close
        if text is not None:
            assert close.reply_text == text
        try:
            self.method(0, spec.Connection.CloseOk())
        except Closed:
            return close
        self.expect_end(timeout)
        return close

    def expect_channel_close(self, channel: int, code: int, text: str | None = None) -> Any:
        close = self.expect(spec.Channel.Close, channel)
        assert close.reply_code == code, close
        if text is not None:
            assert close.reply_text == text
        self.method(channel, spec.Channel.CloseOk())
        return close

    def expect_end(self, timeout: float = SOON) -> None:
        """The broker closes the TCP connection without a further frame except heartbeats."""
        try:
            while True:
                got = self.receive(timeout)
                assert got.kind == HEARTBEAT, f"{got} instead of the end"
        except Closed:
            return

    def refused(self, timeout: float = SOON) -> int | None:
        """The broker ends the connection: the code of its connection.close, None without one."""
        try:
            while True:
                got = self.receive(timeout)
                if got.kind == METHOD and isinstance(got.method, spec.Connection.Close):
                    close = got.method
                    break
            self.method(0, spec.Connection.CloseOk())
            self.expect_end(timeout)
        except Closed:
            return None
        return close.reply_code

    def ended_within(self, seconds: float) -> bool:
        """Whether the broker closes the TCP connection in this time, whatever it says before."""
        deadline = time.monotonic() + bound(seconds)
        try:
            while True:
                self._read(deadline)
                self.buffer.clear()
        except Closed:
            return True
        except TimeoutError:
            return False

    # --- handshake ------------------------------------------------------------------------

    def start(self) -> Any:
        """Protocol header, up to connection.start."""
        self.send(PROTOCOL_HEADER)
        start = self.expect(spec.Connection.Start, 0)
        self.server_properties = start.server_properties
        return start

    def start_ok(
        self,
        mechanism: str = "PLAIN",
        response: bytes = b"\x00guest\x00guest",
        capabilities: dict[str, bool] | None = None,
    ) -> None:
        properties = {
            "product": "scripted peer",
            "capabilities": CAPABILITIES if capabilities is None else capabilities,
        }
        # pika encodes the response as text; this one may be any bytes.
        pieces: list[bytes] = []
        from pika.data import encode_table

        encode_table(pieces, properties)
        payload = struct.pack(">I", spec.Connection.StartOk.INDEX) + b"".join(pieces)
        payload += short(mechanism) + long(response) + short("en_US")
        self.send(frame(METHOD, 0, payload))

    def log_in(self, **options: Any) -> Any:
        """Up to connection.tune."""
        self.start()
        self.start_ok(**options)
        self.tune = self.expect(spec.Connection.Tune, 0)
        return self.tune

    def open(
        self,
        vhost: str = "/",
        frame_max: int = 131072,
        channel_max: int = 2047,
        heartbeat: int = 0,
        **options: Any,
    ) -> Peer:
        """The whole handshake."""
        self.log_in(**options)
        self.frame_max, self.channel_max = frame_max, channel_max
        self.method(
            0,
            spec.Connection.TuneOk(
                channel_max=channel_max, frame_max=frame_max, heartbeat=heartbeat
            ),
        )
        self.method(0, spec.Connection.Open(virtual_host=vhost))
        self.expect(spec.Connection.OpenOk, 0)
        return self

    def open_channel(self, channel: int = 1) -> Peer:
        self.method(channel, spec.Channel.Open())
        self.expect(spec.Channel.OpenOk, channel)
        return self

    def declare(self, channel: int, queue: str, **options: Any) -> Any:
        self.method(channel, spec.Queue.Declare(queue=queue, **options))
        return self.expect(spec.Queue.DeclareOk, channel)
