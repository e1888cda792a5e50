"""Strangers at the ports of a node, as many as it takes, and what they say."""

from __future__ import annotations

import selectors
import socket
import ssl
import struct
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

import pytest
from pika import spec
from pika.data import encode_table

from harness import wire
from harness.wait import bound


@dataclass
class Stranger:
    """One connection: what it says, piece by piece, and what it hears."""

    stream: socket.socket
    words: Iterator[bytes]
    pace: float = 0.0
    reads: bool = True
    heard: bytearray = field(default_factory=bytearray)
    said: int = 0
    rest: bytes = b""
    next_at: float = 0.0
    silent: bool = False
    over: bool = False


class Crowd:
    """Strangers at one node, looked after together without threads."""

    def __init__(self) -> None:
        self.strangers: list[Stranger] = []

    def __enter__(self) -> Crowd:
        return self

    def __exit__(self, *_: object) -> None:
        for stranger in self.strangers:
            stranger.stream.close()

    def add(
        self, port: int, words: Iterable[bytes] = (), pace: float = 0.0, reads: bool = True
    ) -> Stranger:
        """Connects without waiting for it. `pace`: seconds between two words."""
        stream = socket.socket()
        stream.setblocking(False)
        stream.connect_ex(("127.0.0.1", port))
        stranger = Stranger(stream, iter(words), pace, reads)
        self.strangers.append(stranger)
        return stranger

    @property
    def left(self) -> list[Stranger]:
        return [stranger for stranger in self.strangers if not stranger.over]

    def pump(self, done: Callable[[], object], seconds: float, what: str = "condition") -> None:
        """Lets them speak and listen until `done()`."""
        deadline = time.monotonic() + bound(seconds)
        with selectors.DefaultSelector() as selector:
            for stranger in self.left:
                selector.register(stranger.stream, self._events(stranger), stranger)
            while not done():
                now = time.monotonic()
                if now > deadline:
                    raise AssertionError(f"not within {seconds} s: {what} ({len(self.left)} left)")
                for key, events in selector.select(0.05):
                    self._serve(key.data, events, now)
                    if key.data.over:
                        selector.unregister(key.fileobj)
                for key in list(selector.get_map().values()):
                    wanted = self._events(key.data)
                    if wanted != key.events:
                        selector.modify(key.fileobj, wanted, key.data)

    def talk(self, seconds: float) -> None:
        """Lets them go on for this time at most, or until all are over."""
        end = time.monotonic() + seconds
        self.pump(lambda: not self.left or time.monotonic() > end, seconds + 5)

    def all_over(self, seconds: float) -> None:
        """The node ends every connection in this time."""
        self.pump(lambda: not self.left, seconds, "the node has closed all connections")

    @staticmethod
    def _events(stranger: Stranger) -> int:
        due = not stranger.silent and stranger.next_at <= time.monotonic()
        reading = selectors.EVENT_READ if stranger.reads or not due else 0
        return (reading | (selectors.EVENT_WRITE if due else 0)) or selectors.EVENT_READ

    @staticmethod
    def _serve(stranger: Stranger, events: int, now: float) -> None:
        try:
            if events & selectors.EVENT_READ and (stranger.reads or stranger.silent):
                data = stranger.stream.recv(65536)
                if not data:
                    stranger.over = True
                    return
                if len(stranger.heard) < 65536:
                    stranger.heard += data
            if events & selectors.EVENT_WRITE and stranger.next_at <= now:
                if not stranger.rest:
                    word = next(stranger.words, None)
                    if word is None:
                        stranger.silent = True
                        return
                    stranger.rest = word
                sent = stranger.stream.send(stranger.rest)
                stranger.said += sent
                stranger.rest = stranger.rest[sent:]
                if not stranger.rest:
                    stranger.next_at = now + stranger.pace
        except BlockingIOError:
            pass
        except OSError:
            stranger.over = True


def each_byte(words: bytes) -> Iterator[bytes]:
    """Byte by byte."""
    return (words[at : at + 1] for at in range(len(words)))


def client_hello() -> bytes:
    """The first flight of TLS."""
    context = ssl.create_default_context()
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = context.wrap_bio(incoming, outgoing, server_hostname="node.example")
    with pytest.raises(ssl.SSLWantReadError):
        tls.do_handshake()
    return outgoing.read()


def start_ok(mechanism: str = "PLAIN", response: bytes = b"\0guest\0guest") -> bytes:
    pieces: list[bytes] = []
    encode_table(pieces, {"product": "stranger", "capabilities": wire.CAPABILITIES})
    payload = struct.pack(">I", spec.Connection.StartOk.INDEX) + b"".join(pieces)
    payload += wire.short(mechanism) + wire.long(response) + wire.short("en_US")
    return wire.frame(wire.METHOD, 0, payload)


def handshake() -> bytes:
    """All that a client says until a channel is open, without waiting for an answer."""
    return b"".join(
        [
            wire.PROTOCOL_HEADER,
            start_ok(),
            wire.method_frame(0, spec.Connection.TuneOk(16, 131072, 60)),
            wire.method_frame(0, spec.Connection.Open(virtual_host="/")),
            wire.method_frame(1, spec.Channel.Open()),
        ]
    )


def h2_frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    head = len(payload).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big")
    return head + payload
