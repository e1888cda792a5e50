"""Disks that fail: writes, syncs and new files of a node end with an error as soon as a test says so.

A small library, compiled here and preloaded into the nodes, answers instead of the kernel; see `bad_disk.c`.
"""

from __future__ import annotations

import errno
import os
import platform
import shutil
import struct
import subprocess
from pathlib import Path

from harness.cluster import Cluster
from harness.node import Node

#: What can fail. `open` is the creation of a file.
WRITE, SYNC, OPEN, RESIZE, RENAME, REMOVE = (1 << bit for bit in range(6))
_PLAN = struct.Struct("7q128s")
_COUNTS = struct.Struct("2q")
_COUNTS_AT = 5 * 8


def why_not() -> str | None:
    """Why no such disk can be had here."""
    if platform.system() != "Linux" or platform.machine() != "x86_64":
        return "the library is written for Linux on x86-64"
    return None if shutil.which("cc") else "no C compiler (Debian: gcc or clang)"


class BadDisks:
    """The disks of a cluster that is not started yet."""

    def __init__(self, cluster: Cluster) -> None:
        library = cluster.root / "bad_disk.so"
        source = Path(__file__).with_name("bad_disk.c")
        subprocess.run(["cc", "-shared", "-fPIC", "-O1", "-o", library, source], check=True)
        self._root = cluster.root
        for node in cluster.nodes:
            plan = self._plan(node)
            plan.write_bytes(bytes(_PLAN.size))
            node.extra_env["LD_PRELOAD"] = str(library)
            node.extra_env["BAD_DISK"] = str(plan)

    def _plan(self, node: Node) -> Path:
        return self._root / f"bad-disk-{node.id}"

    def fail(
        self,
        node: Node,
        kinds: int,
        *,
        error: int = errno.EIO,
        after: int = 0,
        count: int = -1,
        shorter: bool = False,
        folder: str = "/log",
    ) -> None:
        """From now on calls of these kinds on files whose path contains `folder` fail, `count` of them (-1: all),
        when `after` more have passed. `shorter`: the last write that passes writes only a part."""
        text = folder.encode()
        plan = _PLAN.pack(kinds, after, count, error, int(shorter), 0, 0, text)
        # Armed last: the node looks at it all the time.
        with open(self._plan(node), "r+b", buffering=0) as file:
            os.pwrite(file.fileno(), plan[8:], 8)
            os.pwrite(file.fileno(), plan[:8], 0)

    def mend(self, node: Node) -> None:
        """From now on nothing fails."""
        with open(self._plan(node), "r+b", buffering=0) as file:
            os.pwrite(file.fileno(), bytes(8), 0)

    def failed(self, node: Node) -> int:
        """How many calls have failed since the last `fail`."""
        with open(self._plan(node), "rb") as file:
            file.seek(_COUNTS_AT)
            return _COUNTS.unpack(file.read(_COUNTS.size))[1]
