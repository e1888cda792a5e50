"""Free TCP ports for the nodes under test."""

from __future__ import annotations

import random
import socket

# Below the range from which Linux takes ports for outgoing connections: a port chosen here
# cannot be taken by some client between the choice and the moment the node binds it.
_LOW, _HIGH = 20000, 32000
_given: set[int] = set()


def free_port() -> int:
    """A port that nobody listens on and that this process has not handed out before."""
    for _ in range(2000):
        port = random.randrange(_LOW, _HIGH)
        if port in _given:
            continue
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        _given.add(port)
        return port
    raise RuntimeError("no free port found")
