"""Cutting the network between nodes of one machine.

Every node advertises a proxy instead of its own cluster port. The proxy (a process of its own, so
that it does not share the interpreter with the load) forwards bytes and knows for each connection
which node opened it: it looks up whose socket the other end is. So the test can stop the bytes of
any ordered pair of nodes.

A cut freezes: bytes wait in the sender's socket as they do when packets are lost, closes do not get
through either, and everything goes on after the heal. New connections are accepted by the kernel
but nothing comes back, which to a client of HTTP/2 is what a lost SYN is: silence.
"""

from __future__ import annotations

import asyncio
import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path

from harness.ports import free_port

_CHUNK = 256 * 1024


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

    def heal(self) -> None:
        self.cut([])

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


class _Proxy:
    def __init__(self) -> None:
        self.pids: dict[int, int] = {}
        self.blocked: set[tuple[int, int]] = set()
        self.changed = asyncio.Condition()

    async def serve(self, node: int, listen: int, target: int) -> None:
        loop = asyncio.get_running_loop()
        server = socket.socket()
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        server.bind(("127.0.0.1", listen))
        server.listen(256)
        server.setblocking(False)

        async def accept_all() -> None:
            while True:
                client, address = await loop.sock_accept(server)
                loop.create_task(self.relay(client, address[1], node, target))

        loop.create_task(accept_all())

    async def relay(self, client: socket.socket, port: int, node: int, target: int) -> None:
        loop = asyncio.get_running_loop()
        upstream = socket.socket()
        try:
            for end in (client, upstream):
                end.setblocking(False)
                end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            source = await self.owner(port)
            # A connection cannot be set up while either direction is cut.
            await self.open_for(source, node)
            await self.open_for(node, source)
            await loop.sock_connect(upstream, ("127.0.0.1", target))
            ways = [
                loop.create_task(self.pump(client, upstream, source, node)),
                loop.create_task(self.pump(upstream, client, node, source)),
            ]
            # A reset on one way ends both; an orderly end of one way lets the other finish.
            done, pending = await asyncio.wait(ways, return_when=asyncio.FIRST_EXCEPTION)
            for way in pending:
                way.cancel()
            await asyncio.gather(*ways, return_exceptions=True)
            for way in done:
                way.exception()
        except OSError:
            pass
        finally:
            client.close()
            upstream.close()

    async def pump(self, a: socket.socket, b: socket.socket, source: int, target: int) -> None:
        """Moves bytes from `a` to `b` as long as `source` may speak to `target`."""
        loop = asyncio.get_running_loop()
        while True:
            chunk = await loop.sock_recv(a, _CHUNK)
            await self.open_for(source, target)
            if not chunk:
                b.shutdown(socket.SHUT_WR)
                return
            await loop.sock_sendall(b, chunk)

    async def open_for(self, source: int, target: int) -> None:
        if (source, target) in self.blocked:
            async with self.changed:
                await self.changed.wait_for(lambda: (source, target) not in self.blocked)

    async def owner(self, port: int) -> int:
        """The node whose process has the local port `port`; 0 when it is none of ours."""
        # A node that has just been started may connect before its pid has been told.
        for _ in range(100):
            node = self.owner_now(port)
            if node:
                return node
            await asyncio.sleep(0.01)
        return 0

    def owner_now(self, port: int) -> int:
        inode = None
        wanted = f"0100007F:{port:04X}"
        with open("/proc/net/tcp") as table:
            for line in table:
                fields = line.split()
                if fields[1] == wanted:
                    inode = fields[9]
                    break
        if inode is None:
            return 0
        for node, pid in self.pids.items():
            try:
                for fd in os.listdir(f"/proc/{pid}/fd"):
                    if os.readlink(f"/proc/{pid}/fd/{fd}") == f"socket:[{inode}]":
                        return node
            except OSError:
                continue
        return 0

    async def obey(self, line: str) -> None:
        command = json.loads(line)
        if "pid" in command:
            node, pid = command["pid"]
            self.pids[node] = pid
        if "blocked" in command:
            async with self.changed:
                self.blocked = {(a, b) for a, b in command["blocked"]}
                self.changed.notify_all()


async def _main(plan: dict[str, list[int]]) -> None:
    proxy = _Proxy()
    for node, (listen, target) in plan.items():
        await proxy.serve(int(node), listen, target)
    print("listening", flush=True)
    loop = asyncio.get_running_loop()
    while True:
        line = await loop.run_in_executor(None, sys.stdin.readline)
        if not line:
            os._exit(0)  # The test run has ended or died.
        await proxy.obey(line)
        print("ok", flush=True)


if __name__ == "__main__":
    asyncio.run(_main(json.loads(sys.argv[1])))
