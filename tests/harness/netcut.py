"""Cutting the network between nodes of one machine.

Every node advertises a proxy instead of its own cluster port. The proxy (a process of its own, so
that it does not share the interpreter with the load) forwards bytes and knows for each connection
which node opened it: it looks up whose socket the other end is. So the test can stop the bytes of
any ordered pair of nodes.

A cut freezes: bytes wait in the sender's socket as they do when packets are lost, closes do not get
through either, and everything goes on after the heal. New connections are accepted by the kernel
but nothing comes back, which to a client of HTTP/2 is what a lost SYN is: silence. A node that does not
listen is not listened for: who connects to it is refused, as without the proxy.

Besides, connections can be reset, as by a firewall that forgets them, slowed down, and made long: what is sent arrives
later (but for the set-up of a connection, which the kernel does, and the end of one whose process was killed).
"""

from __future__ import annotations

import json
import os
import random
import select
import socket
import struct
import subprocess
import sys
import time
from collections import deque
from collections.abc import Iterable, Mapping
from pathlib import Path

from harness.ports import free_port

_CHUNK = 256 * 1024
#: Bytes of a slow way go in pieces, so many a second.
_PIECES = 50
#: Bytes that may be under way on a long way.
_UNDER_WAY = 32 << 20


class Network:
    """The test's handle on the proxy process."""

    def __init__(self, targets: Mapping[int, int]) -> None:
        """`targets`: node id to the cluster port on which that node listens."""
        self._ports = {node: free_port() for node in targets}
        self._ids = list(targets)
        plan = {str(n): [self._ports[n], target] for n, target in targets.items()}
        self._process = subprocess.Popen(
            [sys.executable, "-m", "harness.netcut", json.dumps(plan)],
            cwd=Path(__file__).resolve().parents[1],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._expect("listening")

    def port(self, node: int) -> int:
        """The port to advertise for `node`."""
        return self._ports[node]

    def tell_pid(self, node: int, pid: int) -> None:
        """Which process is `node` now."""
        self._ask({"pid": [node, pid]})

    def cut(self, pairs: Iterable[tuple[int, int]]) -> None:
        """From now on bytes flow between all ordered pairs of nodes except these."""
        self._ask({"blocked": [list(pair) for pair in pairs]})

    def isolate(self, node: int, direction: str = "both") -> None:
        """Cuts `node` off: `in` (nothing reaches it), `out` (nothing leaves it) or `both`."""
        others = [other for other in self._ids if other != node]
        pairs: list[tuple[int, int]] = []
        if direction in ("in", "both"):
            pairs += [(other, node) for other in others]
        if direction in ("out", "both"):
            pairs += [(node, other) for other in others]
        assert pairs, direction
        self.cut(pairs)

    def reset(self, pairs: Iterable[tuple[int, int]]) -> None:
        """Ends all open connections between these ordered pairs of nodes, and what is on them is lost."""
        self._ask({"reset": [list(pair) for pair in pairs]})

    def slow(self, pairs: Iterable[tuple[int, int]], rate: int) -> None:
        """From now on `rate` bytes a second, on each connection, flow between these ordered pairs."""
        self._ask({"slow": [[*pair, rate] for pair in pairs]})

    def delay(self, pairs: Iterable[tuple[int, int]], shortest: float, longest: float) -> None:
        """From now on what is sent between these ordered pairs arrives so many seconds later, in order."""
        self._ask({"delay": [[*pair, shortest, longest] for pair in pairs]})

    def all_pairs(self) -> list[tuple[int, int]]:
        """All ordered pairs of nodes."""
        return [(a, b) for a in self._ids for b in self._ids if a != b]

    def between(self, node: int) -> list[tuple[int, int]]:
        """All ordered pairs that `node` is one of."""
        others = [other for other in self._ids if other != node]
        return [(node, other) for other in others] + [(other, node) for other in others]

    def heal(self) -> None:
        self.cut([])
        self.slow([], 0)
        self.delay([], 0, 0)

    def close(self) -> None:
        if self._process.poll() is None:
            assert self._process.stdin is not None
            self._process.stdin.close()
            try:
                self._process.wait(timeout=5)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()

    def _ask(self, command: dict[str, object]) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(command) + "\n")
        self._process.stdin.flush()
        self._expect("ok")

    def _expect(self, word: str) -> None:
        assert self._process.stdout is not None
        line = self._process.stdout.readline().strip()
        assert line == word, f"the proxy said {line!r} instead of {word!r}"


# --- the proxy process ------------------------------------------------------------------------
#
# One thread and epoll by hand: the data path of the cluster under test goes through here, so each
# chunk has to cost microseconds.


class _Way:
    """One direction of one connection: bytes from `source` to `target`."""

    def __init__(self, a: socket.socket, b: socket.socket, source: int, target: int) -> None:
        self.a, self.b, self.source, self.target = a, b, source, target
        self.rest = memoryview(b"")  # Read from `a`, not yet taken by `b`.
        self.ended = False
        self.rests_until = 0.0  # Of a slow way: not read before.
        # Of a long way: what is under way, and when it arrives; nothing is the end.
        self.late: deque[tuple[float, bytes]] = deque()
        self.late_bytes = 0


class _Door:
    """The proxy's port for one node; closed while the node does not listen, as its own would be."""

    def __init__(self, node: int, port: int, target: int) -> None:
        self.node, self.port, self.target = node, port, target
        self.listener: socket.socket | None = None

    def open(self) -> socket.socket:
        listener = socket.socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", self.port))
        listener.listen(256)
        listener.setblocking(False)
        self.listener = listener
        return listener


class _Proxy:
    def __init__(self, plan: dict[str, list[int]]) -> None:
        self.poll = select.epoll()
        self.pids: dict[int, int] = {}
        self.blocked: set[tuple[int, int]] = set()
        self.rates: dict[tuple[int, int], int] = {}
        self.resting: list[_Way] = []
        self.delays: dict[tuple[int, int], tuple[float, float]] = {}
        self.long: list[_Way] = []
        self.doors = [_Door(int(node), port, target) for node, (port, target) in plan.items()]
        self.by_listener: dict[int, _Door] = {}
        # By file descriptor: the way that is read from it, and the way that is written to it.
        self.reads: dict[int, _Way] = {}
        self.writes: dict[int, _Way] = {}
        self.interest: dict[int, int] = {}
        self.held: list[tuple[socket.socket, int, _Door]] = []
        self.strangers: list[tuple[socket.socket, int, _Door]] = []
        for door in self.doors:
            self.listen(door)
        self.poll.register(sys.stdin.fileno(), select.EPOLLIN)

    def run(self) -> None:
        while True:
            closed = any(door.listener is None for door in self.doors)
            strangers, self.strangers = self.strangers, []
            for client, port, door in strangers:
                self.admit(client, port, door)
            wait = 0.01 if closed or self.strangers else -1
            if self.resting:
                wait = 0.5 / _PIECES
                self.wake()
            if self.long:
                arrives = self.arrive() - time.monotonic()
                wait = max(0.0, arrives if wait < 0 else min(wait, arrives))
            for fd, events in self.poll.poll(wait):
                if fd == sys.stdin.fileno():
                    self.obey()
                elif fd in self.by_listener:
                    self.accept(self.by_listener[fd])
                else:
                    self.move(fd, events)
            if closed:
                self.look_for_returned_nodes()

    # --- connections ----------------------------------------------------------------------

    def listen(self, door: _Door) -> None:
        listener = door.open()
        self.by_listener[listener.fileno()] = door
        self.poll.register(listener.fileno(), select.EPOLLIN)

    def accept(self, door: _Door) -> None:
        assert door.listener is not None
        try:
            client, address = door.listener.accept()
        except OSError:
            return
        self.admit(client, address[1], door)

    def admit(self, client: socket.socket, port: int, door: _Door) -> None:
        source = self.owner(port)
        if source is None:
            client.close()  # It only looked whether the port is open.
        elif source == 0:
            # A node that has just been started, whose pid is about to be told.
            self.strangers.append((client, port, door))
        elif self.is_cut(source, door.node):
            # Neither side's packets pass: the connection is not set up before the heal.
            self.held.append((client, source, door))
        else:
            self.connect(client, source, door)

    def is_cut(self, one: int, other: int) -> bool:
        return (one, other) in self.blocked or (other, one) in self.blocked

    def connect(self, client: socket.socket, source: int, door: _Door) -> None:
        upstream = socket.socket()
        try:
            upstream.connect(("127.0.0.1", door.target))
        except OSError:
            upstream.close()
            _reset(client)
            self.shut(door)
            return
        for end in (client, upstream):
            end.setblocking(False)
            end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for way in (
            _Way(client, upstream, source, door.node),
            _Way(upstream, client, door.node, source),
        ):
            self.reads[way.a.fileno()] = way
            self.writes[way.b.fileno()] = way
        for end in (client, upstream):
            self.poll.register(end.fileno(), 0)
            self.interest[end.fileno()] = 0
            self.watch(end.fileno())

    def shut(self, door: _Door) -> None:
        """The node does not listen: neither do we, so that who connects is refused."""
        if door.listener is not None:
            del self.by_listener[door.listener.fileno()]
            self.poll.unregister(door.listener.fileno())
            door.listener.close()
            door.listener = None

    def look_for_returned_nodes(self) -> None:
        for door in self.doors:
            if door.listener is None:
                with socket.socket() as probe:
                    if probe.connect_ex(("127.0.0.1", door.target)) == 0:
                        self.listen(door)

    def watch(self, fd: int) -> None:
        """Tells epoll what there is to wait for at this socket."""
        read, write = self.reads[fd], self.writes[fd]
        wanted = 0
        rests = read in self.resting or read.ended or read.rest or read.late_bytes > _UNDER_WAY
        if not rests and (read.source, read.target) not in self.blocked:
            wanted |= select.EPOLLIN
        if write.rest:
            wanted |= select.EPOLLOUT
        if self.interest[fd] >= 0 and wanted != self.interest[fd]:
            self.interest[fd] = wanted
            self.poll.modify(fd, wanted)

    def move(self, fd: int, events: int) -> None:
        way = self.reads.get(fd)
        if way is None:
            return  # Closed by an earlier event of the same round.
        try:
            if events & select.EPOLLOUT:
                self.flush(self.writes[fd])
            if events & (select.EPOLLIN | select.EPOLLHUP | select.EPOLLERR):
                if (way.source, way.target) in self.blocked:
                    # A hang-up, which epoll tells whether wanted or not. The other side cannot
                    # hear of it yet.
                    self.poll.unregister(fd)
                    self.interest[fd] = -1
                elif not way.rest and not way.ended and way not in self.resting:
                    self.read(way)
                elif events & (select.EPOLLHUP | select.EPOLLERR):
                    self.end(way)  # Gone in both directions.
        except OSError:
            self.end(way)

    def read(self, way: _Way) -> None:
        rate = self.rates.get((way.source, way.target))
        try:
            chunk = way.a.recv(max(1, rate // _PIECES) if rate else _CHUNK)
        except BlockingIOError:
            return
        delay = self.delays.get((way.source, way.target))
        if delay or way.late:
            due = time.monotonic() + random.uniform(*(delay or (0, 0)))
            if way.late:
                due = max(due, way.late[-1][0])
            else:
                self.long.append(way)
            way.late.append((due, chunk))
            way.late_bytes += len(chunk)
            way.ended = not chunk
            self.watch(way.a.fileno())
            return
        if chunk:
            if rate:
                way.rests_until = time.monotonic() + len(chunk) / rate
                self.resting.append(way)
            way.rest = memoryview(chunk)
            self.flush(way)
            return
        way.ended = True
        self.pass_end_on(way)

    def pass_end_on(self, way: _Way) -> None:
        other = self.writes[way.a.fileno()]
        if other.ended and not other.late:
            self.end(way)
        else:
            way.b.shutdown(socket.SHUT_WR)
            self.watch(way.a.fileno())

    def arrive(self) -> float:
        """Passes on what has been under way long enough; when the next does."""
        now = time.monotonic()
        soonest = now + 1
        still = []
        for way in self.long:
            if self.reads.get(way.a.fileno()) is not way:
                continue
            try:
                while way.late and way.late[0][0] <= now and not way.rest:
                    chunk = way.late.popleft()[1]
                    way.late_bytes -= len(chunk)
                    if chunk:
                        way.rest = memoryview(chunk)
                        self.flush(way)
                    else:
                        self.pass_end_on(way)
            except OSError:
                self.end(way)
                continue
            if way.late:
                still.append(way)
                # One whose other end takes nothing is looked at again soon.
                soonest = min(soonest, max(way.late[0][0], now + 0.005))
        self.long = still
        return soonest

    def flush(self, way: _Way) -> None:
        try:
            sent = way.b.send(way.rest)
        except BlockingIOError:
            sent = 0
        way.rest = way.rest[sent:]
        self.watch(way.a.fileno())
        self.watch(way.b.fileno())

    def wake(self) -> None:
        """Slow ways whose time has come are read again."""
        now = time.monotonic()
        due = [way for way in self.resting if way.rests_until <= now]
        self.resting = [way for way in self.resting if way.rests_until > now]
        for way in due:
            if self.reads.get(way.a.fileno()) is way:
                self.watch(way.a.fileno())

    def end(self, way: _Way) -> None:
        """Both directions are over."""
        for end in (way.a, way.b):
            fd = end.fileno()
            if self.interest.pop(fd, -1) >= 0:
                self.poll.unregister(fd)
            self.reads.pop(fd, None)
            self.writes.pop(fd, None)
        for end in (way.a, way.b):
            _reset(end)

    # --- who, and what the test wants -------------------------------------------------------

    def owner(self, port: int) -> int | None:
        """The node whose process has the local port `port`, 0 if it is not known (yet), None if
        nobody has it any more."""
        inode = None
        wanted = f"0100007F:{port:04X}"
        with open("/proc/net/tcp") as table:
            for line in table:
                fields = line.split()
                if fields[1] == wanted:
                    inode = fields[9]
                    break
        if inode is None or inode == "0":
            return None
        for node, pid in self.pids.items():
            try:
                for fd in os.listdir(f"/proc/{pid}/fd"):
                    if os.readlink(f"/proc/{pid}/fd/{fd}") == f"socket:[{inode}]":
                        return node
            except OSError:
                continue
        return 0

    def obey(self) -> None:
        line = os.read(sys.stdin.fileno(), 65536).decode()
        if not line:
            os._exit(0)  # The test run has ended or died.
        command = json.loads(line)
        if "pid" in command:
            node, pid = command["pid"]
            self.pids[node] = pid
        if "slow" in command:
            self.rates = {(a, b): rate for a, b, rate in command["slow"]}
        if "delay" in command:
            self.delays = {(a, b): (least, most) for a, b, least, most in command["delay"] if most}
        if "reset" in command:
            pairs = {(a, b) for a, b in command["reset"]}
            for way in [w for w in self.reads.values() if (w.source, w.target) in pairs]:
                if self.reads.get(way.a.fileno()) is way:
                    self.end(way)
        if "blocked" in command:
            self.blocked = {(a, b) for a, b in command["blocked"]}
            for fd in list(self.reads):
                if fd not in self.reads:
                    continue
                if self.interest[fd] == -1:
                    # Hung up during a cut: now the other side may hear of it.
                    if (self.reads[fd].source, self.reads[fd].target) not in self.blocked:
                        self.interest[fd] = 0
                        self.poll.register(fd, 0)
                    else:
                        continue
                self.watch(fd)
            held, self.held = self.held, []
            for client, source, door in held:
                if self.is_cut(source, door.node):
                    self.held.append((client, source, door))
                else:
                    self.connect(client, source, door)
        print("ok", flush=True)


def _reset(end: socket.socket) -> None:
    """Closes with a reset, as the kernel does for a process that is gone."""
    try:
        end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    except OSError:
        pass
    end.close()


if __name__ == "__main__":
    running = _Proxy(json.loads(sys.argv[1]))
    print("listening", flush=True)
    running.run()
