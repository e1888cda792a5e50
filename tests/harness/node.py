"""One Warren node as a process: started, killed, frozen, asked."""

from __future__ import annotations

import base64
import ctypes
import json
import os
import signal
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

from harness.wait import bound, eventually

#: Documented for SIGTERM: what `docker stop` and `compose down` grant.
STOP_SECONDS = 10.0
_PR_SET_PDEATHSIG = 1
_TAIL_LINES = 60


def binary() -> Path:
    """The program under test, named by `WARREN_BIN`."""
    named = os.environ.get("WARREN_BIN")
    if named:
        path = Path(named)
    else:
        path = Path(__file__).resolve().parents[2] / "target" / "release" / "warren"
    if not path.is_file():
        raise FileNotFoundError(f"no warren binary at {path}: build it, or set WARREN_BIN")
    return path.resolve()


def _die_with_parent() -> None:
    """In the child: be killed when the test run dies, so that no node outlives it."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def http(
    port: int,
    path: str,
    method: str = "GET",
    body: Any = None,
    user: str = "guest",
    password: str = "guest",
    timeout: float = 5.0,
) -> tuple[int, bytes]:
    """One request on loopback: status and body, for errors too."""
    credentials = base64.b64encode(f"{user}:{password}".encode()).decode()
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}{path}",
        method=method,
        data=None if body is None else json.dumps(body).encode(),
        headers={"Authorization": f"Basic {credentials}", "Content-Type": "application/json"},
    )
    try:
        with urllib.request.urlopen(request, timeout=bound(timeout)) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        return error.code, error.read()


@dataclass
class Node:
    """A node: its place on disk and on the network, and its process while it runs."""

    id: int
    data_dir: Path
    log_path: Path
    amqp_port: int
    cluster_port: int
    management_port: int
    peers: str = ""
    secret: str = ""
    advertise: str | None = None
    config_path: Path | None = None
    extra_args: list[str] = field(default_factory=list)
    extra_env: dict[str, str] = field(default_factory=dict)
    process: subprocess.Popen[bytes] | None = None

    def __str__(self) -> str:
        return f"node {self.id}"

    # --- life -----------------------------------------------------------------------------

    def command(self) -> list[str]:
        """The command line, with the fixed names of `warren serve`."""
        command = [str(binary()), "serve"]
        if self.config_path is not None:
            command += ["--config", str(self.config_path)]
        command += [
            "--node-id", str(self.id),
            "--data-dir", str(self.data_dir),
            "--amqp-listen", f"127.0.0.1:{self.amqp_port}",
            "--cluster-listen", f"127.0.0.1:{self.cluster_port}",
            "--cluster-advertise", self.advertise or f"127.0.0.1:{self.cluster_port}",
            "--management-listen", f"127.0.0.1:{self.management_port}",
        ]  # fmt: skip
        if self.peers:
            command += ["--peers", self.peers, "--cluster-secret", self.secret]
        return command + self.extra_args

    def start(self) -> None:
        """Starts the process; call it from the main thread only (see `_die_with_parent`)."""
        assert not self.running, f"{self} runs already"
        environment = {k: v for k, v in os.environ.items() if not k.startswith("WARREN_")}
        environment.update(self.extra_env)
        with self.log_path.open("ab") as log:
            log.write(f"=== start of {self} at {time.time():.3f}\n".encode())
            log.flush()
            self.process = subprocess.Popen(
                self.command(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=environment,
                preexec_fn=_die_with_parent,
            )

    @property
    def running(self) -> bool:
        return self.process is not None and self.process.poll() is None

    @property
    def pid(self) -> int:
        assert self.process is not None, f"{self} was never started"
        return self.process.pid

    def _status_bytes(self, name: str) -> int:
        with open(f"/proc/{self.pid}/status", encoding="ascii") as status:
            return next(int(line.split()[1]) * 1024 for line in status if line.startswith(name))

    def resident(self) -> int:
        """Bytes of its memory."""
        return self._status_bytes("VmRSS:")

    def peak(self) -> int:
        """The most that it was since `forget_peak`, or ever."""
        return self._status_bytes("VmHWM:")

    def forget_peak(self) -> int:
        """`peak` counts from here. Returns what its memory is now."""
        with open(f"/proc/{self.pid}/clear_refs", "w", encoding="ascii") as refs:
            refs.write("5")
        return self.resident()

    def signal(self, number: int) -> None:
        """Signals our own child, if it is still there."""
        if self.running:
            assert self.process is not None
            self.process.send_signal(number)

    def kill(self) -> None:
        """kill -9, and wait until the process is gone."""
        self.signal(signal.SIGKILL)
        if self.process is not None:
            self.process.wait(timeout=bound(30))

    def freeze(self) -> None:
        self.signal(signal.SIGSTOP)

    def is_frozen(self) -> bool:
        """Whether all its threads have stopped: on a busy machine that takes a moment."""
        stats = Path(f"/proc/{self.pid}/task").glob("*/stat")
        return all(s.read_text().rpartition(")")[2].split()[0] == "T" for s in stats)

    def thaw(self) -> None:
        self.signal(signal.SIGCONT)

    def terminate(self, timeout: float = STOP_SECONDS) -> int:
        """SIGTERM; returns the exit status. Longer than `timeout` fails the test."""
        self.signal(signal.SIGTERM)
        return self.wait_stopped(timeout)

    def wait_stopped(self, timeout: float = STOP_SECONDS) -> int:
        """The exit status of a node that has been told to stop."""
        assert self.process is not None
        try:
            return self.process.wait(timeout=bound(timeout))
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError(f"{self} did not stop within {timeout:.0f} s") from None

    # --- questions ------------------------------------------------------------------------

    def http(
        self,
        path: str,
        method: str = "GET",
        body: Any = None,
        user: str = "guest",
        password: str = "guest",
        timeout: float = 5.0,
    ) -> tuple[int, bytes]:
        """One request to the management port: status and body, for errors too."""
        return http(self.management_port, path, method, body, user, password, timeout)

    def is_ready(self) -> bool:
        try:
            return self.http("/health/ready")[0] == 200
        except OSError:
            return False

    def wait_ready(self, timeout: float = 60.0) -> None:
        def ready() -> bool:
            if not self.running:
                status = None if self.process is None else self.process.returncode
                raise RuntimeError(f"{self} ended with status {status}:\n{self.log_tail()}")
            return self.is_ready()

        eventually(ready, bound(timeout), f"{self} is ready")

    def queue_info(self, queue: str, vhost: str = "/") -> Mapping[str, Any] | None:
        """`GET /api/queues/VHOST/NAME`, or None while this node cannot tell."""
        try:
            path = f"/api/queues/{quote(vhost, safe='')}/{quote(queue, safe='')}"
            status, body = self.http(path)
        except OSError:
            return None
        return json.loads(body) if status == 200 else None

    def data_bytes(self) -> int:
        """Bytes on disk below the data directory."""
        total = 0
        for folder, _, files in os.walk(self.data_dir):
            for name in files:
                try:
                    total += os.stat(os.path.join(folder, name)).st_blocks * 512
                except FileNotFoundError:
                    pass  # Removed by the node between the listing and now.
        return total

    def log_text(self) -> str:
        if not self.log_path.exists():
            return ""
        return self.log_path.read_text(errors="replace")

    def log_tail(self, lines: int = _TAIL_LINES) -> str:
        return "\n".join(self.log_text().splitlines()[-lines:])

    def panics(self) -> list[str]:
        """Log lines that say that a thread panicked."""
        return [line for line in self.log_text().splitlines() if "panicked at" in line]
