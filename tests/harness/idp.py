"""A provider of tokens: keys, tokens that they sign, and where both are announced."""

from __future__ import annotations

import base64
import http.server
import json
import subprocess
import threading
import time
from pathlib import Path
from typing import Any


def encode(data: bytes) -> str:
    """base64 as tokens have it."""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


class Key:
    """An RSA key."""

    def __init__(self, directory: Path, name: str) -> None:
        self.name = name
        self.private = directory / f"{name}.pem"
        self.public = directory / f"{name}.pub"
        _openssl(
            "genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048", "-out", self.private
        )
        _openssl("rsa", "-in", self.private, "-pubout", "-out", self.public)
        modulus = _openssl("rsa", "-in", self.private, "-noout", "-modulus")
        self.modulus = bytes.fromhex(modulus.decode().strip().removeprefix("Modulus="))

    def json(self) -> dict[str, str]:
        """As providers announce it."""
        return {
            "kid": self.name,
            "kty": "RSA",
            "use": "sig",
            "alg": "RS256",
            "n": encode(self.modulus),
            "e": "AQAB",
        }

    def token(self, scopes: str = "", /, **claims: Any) -> str:
        """A token for `rabbitmq` that is good for ten minutes; a claim that is None is left out."""
        header = {"alg": "RS256", "typ": "JWT", "kid": self.name}
        given = {
            "sub": "ann",
            "aud": ["rabbitmq"],
            "exp": int(time.time()) + 600,
            "scope": " ".join(f"rabbitmq.{scope}" for scope in scopes.split()),
            **claims,
        }
        payload = {name: value for name, value in given.items() if value is not None}
        signed = ".".join(encode(json.dumps(part).encode()) for part in (header, payload))
        signature = _openssl("dgst", "-sha256", "-sign", self.private, stdin=signed.encode())
        return f"{signed}.{encode(signature)}"


class Provider:
    """Announces keys at `/keys`, and that address at `/.well-known/openid-configuration`."""

    def __init__(self, port: int = 0) -> None:
        self.keys: list[Key] = []
        self.asked = 0
        provider = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                if self.path == "/keys":
                    provider.asked += 1
                    answer: dict[str, Any] = {"keys": [key.json() for key in provider.keys]}
                elif self.path == "/.well-known/openid-configuration":
                    answer = {"issuer": provider.url, "jwks_uri": f"{provider.url}/keys"}
                else:
                    self.send_error(404)
                    return
                body = json.dumps(answer).encode()
                self.send_response(200)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *args: Any) -> None:
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", port), Handler)
        self.port = self.server.server_address[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self.thread = threading.Thread(target=self.server.serve_forever, daemon=True)
        self.thread.start()

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()

    def __enter__(self) -> Provider:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _openssl(*arguments: object, stdin: bytes | None = None) -> bytes:
    command = ["openssl", *map(str, arguments)]
    return subprocess.run(command, input=stdin, check=True, capture_output=True).stdout
