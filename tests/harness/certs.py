"""Certificates made by openssl for one test: an authority, and what it signs."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path


def _openssl(*arguments: str) -> None:
    done = subprocess.run(["openssl", *arguments], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr


@dataclass
class Pair:
    """A certificate and its key, both PEM files."""

    certificate: Path
    key: Path


class Authority:
    """A certificate authority of its own."""

    def __init__(self, directory: Path, name: str = "test authority") -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self.directory = directory
        self.certificate = directory / "ca.pem"
        self._key = directory / "ca.key"
        self._serial = 1
        _openssl(
            "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
            "-keyout", str(self._key), "-out", str(self.certificate), "-days", "2",
            "-subj", f"/CN={name}", "-addext", "basicConstraints=critical,CA:TRUE",
        )  # fmt: skip

    def issue(
        self, name: str, *, host: bool = True, into: Pair | None = None, subject: str | None = None
    ) -> Pair:
        """A certificate for `name`; `host`: also good for localhost and 127.0.0.1.

        `into`: write it over these files, the key first. `subject`: as openssl takes it.
        """
        self._serial += 1
        pair = into or Pair(
            self.directory / f"{name}-{self._serial}.pem",
            self.directory / f"{name}-{self._serial}.key",
        )
        request = self.directory / "request.csr"
        fresh = self.directory / "fresh.pem"
        extensions = self.directory / "extensions.cnf"
        names = f"DNS:{name}" + (",DNS:localhost,IP:127.0.0.1" if host else "")
        extensions.write_text(f"subjectAltName={names}\n")
        key = self.directory / "fresh.key"
        _openssl(
            "req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
            "-keyout", str(key), "-out", str(request), "-subj", subject or f"/CN={name}",
        )  # fmt: skip
        _openssl(
            "x509", "-req", "-in", str(request), "-CA", str(self.certificate),
            "-CAkey", str(self._key), "-set_serial", str(self._serial), "-days", "2",
            "-extfile", str(extensions), "-out", str(fresh),
        )  # fmt: skip
        key.replace(pair.key)
        fresh.replace(pair.certificate)
        return pair

    def serial(self) -> int:
        """Serial number of the certificate that was issued last."""
        return self._serial
