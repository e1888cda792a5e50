"""TLS between nodes: certificate, key, authority; and who is kept out."""

from __future__ import annotations

import socket
import ssl
import time
from pathlib import Path

from harness import amqp
from harness.certs import Authority, Pair
from harness.wait import eventually


def arguments(pair: Pair, ca: Path) -> list[str]:
    return [
        "--cluster-tls-certificate", str(pair.certificate),
        "--cluster-tls-key", str(pair.key),
        "--cluster-tls-ca", str(ca),
    ]  # fmt: skip


def secured(cluster, authority: Authority) -> None:
    for node in cluster.nodes:
        pair = authority.issue(f"node{node.id}")
        node.extra_args += arguments(pair, authority.certificate)


def context(authority: Authority, pair: Pair | None) -> ssl.SSLContext:
    made = ssl.create_default_context(cafile=str(authority.certificate))
    if pair is not None:
        made.load_cert_chain(pair.certificate, pair.key)
    return made


def is_listened_on(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def serial_of(port: int, made: ssl.SSLContext) -> int:
    """Serial number of the certificate that is shown on a port."""
    with socket.create_connection(("127.0.0.1", port), timeout=10) as raw:
        with made.wrap_socket(raw, server_hostname="127.0.0.1") as stream:
            return int(stream.getpeercert()["serialNumber"], 16)


def test_a_cluster_over_tls(fresh, name, tmp_path) -> None:
    authority = Authority(tmp_path / "ca")
    cluster = fresh(3)
    secured(cluster, authority)
    cluster.start()
    channel = amqp.confirmed(cluster.connect(1))
    channel.queue_declare(name, durable=True)
    amqp.fill(channel, name, [b"a", b"b"])
    assert amqp.get_all(cluster.connect(2).channel(), name, 2) == [b"a", b"b"]
    # The port speaks nothing but TLS, and only to those with a certificate of the authority.
    port = cluster.nodes[0].cluster_port
    with socket.create_connection(("127.0.0.1", port), timeout=10) as raw:
        raw.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
        raw.settimeout(10)
        answer = b""
        try:
            while chunk := raw.recv(4096):
                answer += chunk
        except ConnectionResetError:
            pass  # As good as an end.
        assert b"SETTINGS" not in answer and len(answer) < 64
    # A node is killed and comes back.
    cluster.nodes[2].kill()
    amqp.fill(channel, name, [b"c"])
    cluster.start([cluster.nodes[2]])
    assert amqp.get_all(cluster.connect(3).channel(), name, 1) == [b"c"]


def test_another_authority_is_refused(fresh, tmp_path, name) -> None:
    ours, theirs = Authority(tmp_path / "ours"), Authority(tmp_path / "theirs")
    cluster = fresh(3)
    first, second, stranger = cluster.nodes
    secured(cluster, ours)
    stranger.extra_args = arguments(theirs.issue("node3"), theirs.certificate)
    cluster.start(wait=False)

    def says(node) -> bool:
        # Both authorities have one name: what does not fit is the signature.
        words = ("unknownissuer", "unknownca", "badsignature", "decrypterror")
        lines = [line for line in node.log_text().lower().splitlines() if "tls" in line]
        return any(word in line for line in lines for word in words)

    eventually(lambda: says(stranger), what="the stranger's log")
    eventually(lambda: says(first) or says(second), what="a member's log")
    assert not any(node.is_ready() for node in cluster.nodes)
    # With the right certificate the cluster forms.
    stranger.kill()
    stranger.extra_args = arguments(ours.issue("node3"), ours.certificate)
    cluster.start([stranger])
    channel = amqp.confirmed(cluster.connect(stranger))
    channel.queue_declare(name, durable=True)
    amqp.fill(channel, name, [b"x"])


def test_a_node_without_tls_is_refused(fresh, tmp_path) -> None:
    authority = Authority(tmp_path / "ca")
    cluster = fresh(3)
    secured(cluster, authority)
    plain = cluster.nodes[2]
    plain.extra_args = []
    cluster.start(wait=False)
    eventually(
        lambda: any("TLS" in node.log_text() for node in cluster.nodes[:2]),
        what="a line about TLS",
    )
    assert not any(node.is_ready() for node in cluster.nodes)


def test_certificates_are_read_again(fresh, name, tmp_path) -> None:
    authority = Authority(tmp_path / "ca")
    cluster = fresh(3)
    pairs = {}
    for node in cluster.nodes:
        pairs[node.id] = authority.issue(f"node{node.id}")
        node.extra_args += arguments(pairs[node.id], authority.certificate)
    cluster.start()
    port = cluster.nodes[0].cluster_port
    client = context(authority, authority.issue("operator"))
    before = serial_of(port, client)
    authority.issue("node1", into=pairs[1])
    renewed = authority.serial()
    assert before != renewed
    eventually(lambda: serial_of(port, client) == renewed, what="the new certificate is shown")
    # What cannot be used leaves the former in force.
    pairs[1].certificate.write_text("not a certificate")
    eventually(
        lambda: "former ones stay in force" in cluster.nodes[0].log_text(), what="a warning"
    )
    assert serial_of(port, client) == renewed
    channel = amqp.confirmed(cluster.connect(2))
    channel.queue_declare(name, durable=True)
    amqp.fill(channel, name, [b"x"])


def test_what_was_overheard_cannot_be_repeated(fresh) -> None:
    """Without TLS: a recording of a node's own connection opens no other one."""
    cluster = fresh(3, network=False)
    first, second, _ = cluster.nodes
    # The second reaches the first through a listener that keeps what it says.
    recorder = socket.create_server(("127.0.0.1", 0))
    port = recorder.getsockname()[1]
    second.peers = second.peers.replace(f"1=127.0.0.1:{first.cluster_port}", f"1=127.0.0.1:{port}")
    first.start()
    eventually(lambda: is_listened_on(first.cluster_port), what="the first node listens")
    second.start()
    recorder.settimeout(30)
    said: bytes = b""
    deadline = time.monotonic() + 30
    while len(said) < 56 + 32 and time.monotonic() < deadline:
        caller, _ = recorder.accept()
        with caller, socket.create_connection(("127.0.0.1", first.cluster_port)) as callee:
            caller.settimeout(5)
            callee.settimeout(5)
            said = b""
            try:
                for length, source, target in ((56, caller, callee), (88, callee, caller), (32, caller, callee)):
                    piece = b""
                    while len(piece) < length:
                        chunk = source.recv(length - len(piece))
                        if not chunk:
                            raise ConnectionError
                        piece += chunk
                    target.sendall(piece)
                    if source is caller:
                        said += piece
                assert callee.recv(1) == b"\0", "the recorded connection itself was good"
            except (ConnectionError, TimeoutError):
                said = b""  # A probe: it says nothing.
    assert len(said) == 88
    with socket.create_connection(("127.0.0.1", first.cluster_port), timeout=10) as again:
        again.sendall(said[:56])
        answer = b""
        while len(answer) < 88:
            answer += again.recv(88 - len(answer))
        again.sendall(said[56:])
        assert again.recv(1) == b"\1", "refused: wrong secret"
        assert again.recv(1) == b""
    recorder.close()
