"""Disks that take their time: syncs of a node wait as long as a test says.

A small library, compiled here and preloaded into the nodes, waits before each `fdatasync` and `fsync`.
"""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from harness.cluster import Cluster
from harness.node import Node

_SOURCE = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

static void wait_as_told(void) {
    const char *path = getenv("SLOW_DISK");
    FILE *file = path ? fopen(path, "r") : NULL;
    int ms = 0;
    if (!file) return;
    if (fscanf(file, "%d", &ms) != 1) ms = 0;
    fclose(file);
    struct timespec span = {ms / 1000, (ms % 1000) * 1000000L};
    nanosleep(&span, NULL);
}

int fdatasync(int fd) {
    int (*next)(int) = (int (*)(int))dlsym(RTLD_NEXT, "fdatasync");
    wait_as_told();
    return next(fd);
}

int fsync(int fd) {
    int (*next)(int) = (int (*)(int))dlsym(RTLD_NEXT, "fsync");
    wait_as_told();
    return next(fd);
}
"""


class SlowDisks:
    """The disks of a cluster that is not started yet."""

    def __init__(self, cluster: Cluster) -> None:
        compiler = shutil.which("cc") or shutil.which("clang")
        assert compiler, "a C compiler is needed (Debian: gcc or clang)"
        source = cluster.root / "slow_disk.c"
        library = cluster.root / "slow_disk.so"
        source.write_text(_SOURCE)
        subprocess.run(
            [compiler, "-shared", "-fPIC", "-O1", "-o", library, source, "-ldl"], check=True
        )
        self._root = cluster.root
        for node in cluster.nodes:
            node.extra_env["LD_PRELOAD"] = str(library)
            node.extra_env["SLOW_DISK"] = str(self._told(node))

    def _told(self, node: Node) -> Path:
        return self._root / f"slow-disk-{node.id}"

    def slow(self, node: Node, seconds: float) -> None:
        """From now on each sync of this node takes so much longer."""
        told = self._told(node)
        new = told.with_suffix(".new")
        new.write_text(str(int(seconds * 1000)))
        new.rename(told)

    def heal(self, node: Node) -> None:
        """Syncs that begin from now on are as quick as ever."""
        self._told(node).unlink(missing_ok=True)
