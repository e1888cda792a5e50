"""A file system of its own for a node's data, whose power can be cut.

kill -9 leaves what the page cache holds; a power cut does not. Here ext4 on a loop device is shut
down without flushing its journal: what was never synced is gone when it is mounted again.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import struct
import subprocess
from pathlib import Path

from harness.wait import bound, eventually

#: EXT4_IOC_SHUTDOWN and its flag "without flushing the log" (linux/ext4.h).
_SHUTDOWN = 0x8004587D
_NO_LOG_FLUSH = 2


def why_not() -> str | None:
    """Why no such disk can be made here."""
    if os.geteuid() != 0:
        return "mounting needs root"
    for program in ("mkfs.ext4", "mount", "umount", "losetup"):
        if shutil.which(program) is None:
            return f"no program {program}"
    free = subprocess.run(["losetup", "-f"], capture_output=True, text=True)
    return None if free.returncode == 0 else f"no loop device: {free.stderr.strip()}"


def _run(*command: str | Path) -> None:
    done = subprocess.run(command, capture_output=True, text=True, timeout=bound(60))
    assert done.returncode == 0, f"{' '.join(map(str, command))}: {done.stderr}"


class Disk:
    """`size` bytes of ext4, mounted at `folder`."""

    def __init__(self, folder: Path, size: int) -> None:
        self.folder = folder
        self._image = folder.with_name(folder.name + ".img")
        self.folder.mkdir(parents=True)
        with self._image.open("wb") as image:
            image.truncate(size)
        _run("mkfs.ext4", "-q", self._image)
        self._mounted = False
        self._mount()

    def _mount(self) -> None:
        _run("mount", "-o", "loop", self._image, self.folder)
        self._mounted = True

    def cut_power(self) -> None:
        """From now on every access fails; what was not synced is lost."""
        at = os.open(self.folder, os.O_RDONLY)
        try:
            fcntl.ioctl(at, _SHUTDOWN, struct.pack("I", _NO_LOG_FLUSH))
        finally:
            os.close(at)

    def restore_power(self) -> None:
        """Mounts it again, as after a reboot; no process may have files open here."""
        self._unmount()
        self._mount()

    def _unmount(self) -> None:
        def unmounted() -> bool:
            _run("umount", self.folder)
            return True

        eventually(unmounted, what=f"{self.folder} is unmounted")
        self._mounted = False

    def close(self) -> None:
        """Unmounts and removes it."""
        if self._mounted:
            self._unmount()
        self._image.unlink(missing_ok=True)
