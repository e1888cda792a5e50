"""AMQP over TLS: the server's certificate, clients' certificates, reload without a restart."""

from __future__ import annotations

import base64
import http.client
import json
import socket
import ssl
import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterator
from urllib.parse import quote

import pika
import pytest

from harness import amqp
from harness.certs import Authority, Pair
from harness.cluster import Cluster
from harness.node import binary
from harness.ports import free_port
from harness.wait import eventually

pytestmark = pytest.mark.warren_only("starts nodes of its own")


class Served:
    """One node with TLS for clients."""

    def __init__(self, authority: Authority, *more: str) -> None:
        self.authority = authority
        self.pair = authority.issue("server")
        self.port = free_port()
        self.cluster = Cluster(
            1,
            extra_args=[
                "--amqps-listen", f"127.0.0.1:{self.port}",
                "--tls-certificate", str(self.pair.certificate),
                "--tls-key", str(self.pair.key),
                *more,
            ],
        )  # fmt: skip
        self.node = self.cluster.nodes[0]

    def context(self, client: Pair | None = None) -> ssl.SSLContext:
        made = ssl.create_default_context(cafile=str(self.authority.certificate))
        if client is not None:
            made.load_cert_chain(client.certificate, client.key)
        return made

    def connect(self, client: Pair | None = None, **changes) -> pika.BlockingConnection:
        options = pika.SSLOptions(self.context(client), "localhost")
        return amqp.connect(self.port, ssl_options=options, **changes)

    def serial(self, port: int | None = None) -> int:
        with socket.create_connection(("127.0.0.1", port or self.port), timeout=10) as raw:
            with self.context().wrap_socket(raw, server_hostname="localhost") as stream:
                return int(stream.getpeercert()["serialNumber"], 16)


@pytest.fixture
def authority(tmp_path) -> Authority:
    return Authority(tmp_path / "ca")


@pytest.fixture
def served(authority: Authority) -> Iterator[Served]:
    made = Served(authority)
    with made.cluster:
        made.cluster.start()
        yield made


def test_publish_and_get_over_tls(served: Served, name: str) -> None:
    with served.connect() as connection:
        channel = amqp.confirmed(connection)
        channel.queue_declare(name, durable=True)
        body = bytes(range(256)) * 2000
        amqp.fill(channel, name, [body])
        assert amqp.get_all(channel, name, 1) == [body]
    # The plain port still serves.
    with amqp.connect(served.node.amqp_port) as plain:
        assert plain.channel().queue_declare(name, passive=True).method.message_count == 0


def test_a_client_that_trusts_another_authority_does_not_connect(served: Served, tmp_path) -> None:
    other = ssl.create_default_context(cafile=str(Authority(tmp_path / "other").certificate))
    with pytest.raises(amqp.CONNECT_ERRORS):
        amqp.connect(
            served.port, ssl_options=pika.SSLOptions(other, "localhost"), connection_attempts=1
        )
    with served.connect() as connection:
        assert connection.is_open


def test_plain_amqp_on_the_tls_port_is_ended(served: Served) -> None:
    with socket.create_connection(("127.0.0.1", served.port), timeout=10) as raw:
        raw.sendall(b"AMQP\x00\x00\x09\x01")
        raw.settimeout(10)
        rest = b""
        try:
            while chunk := raw.recv(4096):
                rest += chunk
        except ConnectionResetError:
            pass
        assert b"AMQP" not in rest
    with served.connect() as connection:
        assert connection.is_open


def test_a_renewed_certificate_is_served_without_a_restart(served: Served) -> None:
    open_before = served.connect()
    before = served.serial()
    served.authority.issue("server", into=served.pair)
    renewed = served.authority.serial()
    assert before != renewed
    eventually(lambda: served.serial() == renewed, what="the new certificate is shown")
    assert open_before.channel().is_open, "open connections stay"
    served.pair.certificate.write_text("not a certificate")
    eventually(lambda: "former ones stay in force" in served.node.log_text(), what="a warning")
    assert served.serial() == renewed
    open_before.close()


def test_the_management_port_over_tls(authority: Authority, tmp_path) -> None:
    port = free_port()
    own, listen = Authority(tmp_path / "clients"), f"127.0.0.1:{port}"
    # What AMQP clients must show is not asked of operators.
    made = Served(
        authority,
        "--management-tls-listen", listen,
        "--tls-client-ca", str(own.certificate),
        "--tls-require-client-certificate",
    )  # fmt: skip
    base = f"https://{listen}"

    def get(path: str, context: ssl.SSLContext) -> bytes:
        login = base64.b64encode(b"guest:guest").decode()
        asked = urllib.request.Request(base + path, headers={"Authorization": f"Basic {login}"})
        with urllib.request.urlopen(asked, timeout=10, context=context) as answer:
            return answer.read()

    def warren(*words: str) -> subprocess.CompletedProcess[str]:
        run = [binary(), "status", "--url", base, *words]
        return subprocess.run(run, env={}, capture_output=True, text=True, timeout=60)

    with made.cluster:
        made.cluster.start()
        overview = json.loads(get("/api/overview", made.context()))
        assert ("https", port) in {(row["protocol"], row["port"]) for row in overview["listeners"]}
        assert b"rabbitmq_queues" in get("/metrics", made.context())
        with pytest.raises(urllib.error.URLError):
            get("/health/live", ssl.create_default_context(cafile=str(own.certificate)))
        # Plain HTTP is no TLS, and goes on at its own port.
        with pytest.raises((OSError, http.client.HTTPException)):
            urllib.request.urlopen(f"http://{listen}/health/live", timeout=10)
        assert made.node.http("/health/live")[0] == 200
        for words, code in (
            (["--cacert", str(authority.certificate)], 0),
            (["--insecure"], 0),
            (["--cacert", str(own.certificate)], 3),
            (["--cacert", str(tmp_path / "none.pem")], 2),
        ):
            done = warren(*words)
            assert done.returncode == code, (words, done.stdout, done.stderr)
        authority.issue("server", into=made.pair)
        renewed = authority.serial()
        eventually(lambda: made.serial(port) == renewed, what="the new certificate is shown")


def test_external_with_a_client_certificate(authority: Authority, tmp_path) -> None:
    made = Served(authority, "--tls-client-ca", str(authority.certificate))
    external = {"credentials": pika.credentials.ExternalCredentials()}
    with made.cluster:
        made.cluster.start()
        alice, nobody = authority.issue("alice", host=False), authority.issue("nobody", host=False)
        status, _ = made.node.http("/api/users/alice", "PUT", {"password": "x", "tags": ""})
        assert status in (201, 204)
        everything = {"configure": ".*", "write": ".*", "read": ".*"}
        status, _ = made.node.http("/api/permissions/%2F/alice", "PUT", everything)
        assert status in (201, 204)
        with made.connect(alice, **external) as connection:
            connection.channel().queue_declare("alice-was-here", durable=True)
            properties = pika.BasicProperties(user_id="alice")
            connection.channel().basic_publish("", "alice-was-here", b"x", properties)
        # A user that does not exist, and no certificate at all.
        for client in (nobody, None):
            with pytest.raises(amqp.CONNECT_ERRORS):
                made.connect(client, connection_attempts=1, **external)
        # One of another authority does not even get to AMQP.
        stranger = Authority(tmp_path / "strange").issue("alice", host=False)
        with pytest.raises(amqp.CONNECT_ERRORS):
            made.connect(stranger, connection_attempts=1, **external)
        # Passwords go on working, with or without a certificate.
        for client in (alice, None):
            with made.connect(client) as connection:
                assert connection.is_open


def test_a_client_certificate_can_be_required(authority: Authority) -> None:
    made = Served(
        authority,
        "--tls-client-ca", str(authority.certificate),
        "--tls-require-client-certificate",
    )  # fmt: skip
    with made.cluster:
        made.cluster.start()
        with made.connect(authority.issue("alice", host=False)) as connection:
            assert connection.is_open
        with pytest.raises(amqp.CONNECT_ERRORS):
            made.connect(None, connection_attempts=1)


def test_external_with_the_whole_subject(authority: Authority) -> None:
    made = Served(
        authority,
        "--tls-client-ca", str(authority.certificate),
        "--tls-login-from", "subject",
    )  # fmt: skip
    with made.cluster:
        made.cluster.start()
        subject_given = "/DC=example/O=shop, inc/CN=alice"
        alice = authority.issue("alice", host=False, subject=subject_given)
        subject = _subject(alice)
        assert subject == r"CN=alice,O=shop\, inc,DC=example"
        user = quote(subject, safe="")
        status, _ = made.node.http(f"/api/users/{user}", "PUT", {"password": "x", "tags": ""})
        assert status in (201, 204)
        everything = {"configure": ".*", "write": ".*", "read": ".*"}
        status, _ = made.node.http(f"/api/permissions/%2F/{user}", "PUT", everything)
        assert status in (201, 204)
        external = {"credentials": pika.credentials.ExternalCredentials()}
        with made.connect(alice, **external) as connection:
            connection.channel().queue_declare("by-subject", durable=True)


def _subject(pair: Pair) -> str:
    """As RFC 2253 and 4514 write it: the last part first, no blanks."""
    shown = subprocess.run(
        ["openssl", "x509", "-in", str(pair.certificate), "-noout", "-subject",
         "-nameopt", "RFC2253"],
        check=True, capture_output=True, text=True,
    )  # fmt: skip
    return shown.stdout.strip().removeprefix("subject=").strip()


def test_certificates_that_end_soon_are_told(served: Served) -> None:
    check = "/api/health/checks/certificate-expiration"
    status, _ = served.node.http(f"{check}/1/days")
    status_far, body = served.node.http(f"{check}/200/years")
    assert (status, status_far) == (200, 503), body
    expiring = json.loads(body)["expired"]
    assert str(served.pair.certificate) in {row["file"] for row in expiring}


def test_a_shovel_over_tls(served: Served, authority: Authority, name: str, tmp_path) -> None:
    """From this node to itself, by its TLS port: whose certificate is checked, unless it is not to be."""
    connection = served.connect()
    channel = amqp.confirmed(connection)
    channel.queue_declare(name, durable=True)
    amqp.fill(channel, name, [b"%d" % i for i in range(100)])
    path = f"/api/parameters/shovel/%2F/{quote(name)}"

    def shovel(parameters: str, target: str) -> None:
        value = {
            "src-uri": "amqp://",
            "src-queue": name,
            "dest-uri": f"amqps://guest:guest@localhost:{served.port}/%2F?{parameters}",
            "dest-queue": target,
            "src-delete-after": 50,
            "reconnect-delay": 1,
        }
        assert served.node.http(path, "PUT", {"value": value})[0] in (201, 204)

    stranger = Authority(tmp_path / "stranger")
    shovel(f"cacertfile={stranger.certificate}&verify=verify_peer", f"{name}-1")

    def refused() -> bool:
        rows = json.loads(served.node.http("/api/shovels")[1])
        return bool(rows) and "certificate" in str(rows[0].get("reason"))

    eventually(refused, what="the shovel trusts nobody")
    for number, parameters in enumerate(
        [f"cacertfile={authority.certificate}&verify=verify_peer", "verify=verify_none"]
    ):
        target = f"{name}-{number}"
        shovel(parameters, target)
        eventually(lambda: served.node.http(path)[0] == 404, what="its work is done")
        assert len(amqp.get_all(channel, target, 50)) == 50
    assert amqp.counts(channel, name)[0] == 0
    connection.close()
