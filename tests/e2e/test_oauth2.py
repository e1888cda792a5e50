"""Logins by tokens: who gets in, what scopes allow, new tokens and old ones, the provider's keys."""

from __future__ import annotations

import base64
import json
import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from typing import Any

import pika
import pytest
from pika.exceptions import ProbableAccessDeniedError, ProbableAuthenticationError

from harness import amqp
from harness.certs import Authority
from harness.cluster import Cluster
from harness.idp import Key, Provider
from harness.node import Node
from harness.wait import bound, eventually

pytestmark = pytest.mark.warren_only("starts nodes of its own")

REFRESH = 'auth_oauth2.refresh_interval = "100ms"'
ALL = "configure:*/* write:*/*/* read:*/*/*"


class Served:
    """A cluster that takes the tokens of a provider, and passwords."""

    def __init__(self, directory, provider: Provider, *lines: str, size: int = 1) -> None:
        self.provider = provider
        self.key = Key(directory, "first")
        provider.keys = [self.key]
        self.cluster = Cluster(
            size,
            config="\n".join(
                [
                    'auth_oauth2.resource_server_id = "rabbitmq"',
                    *lines,
                ]
            ),
        )
        self.node = self.cluster.nodes[0]

    def connect(self, token: str, node: int = 1, **changes: Any) -> pika.BlockingConnection:
        return self.cluster.connect(node, user="anything", password=token, **changes)

    def refused(self, token: str, why: str) -> None:
        """The client is told nothing, the log everything."""
        before = len(self.log())
        with pytest.raises(ProbableAuthenticationError) as caught:
            self.connect(token)
        assert (
            "ACCESS_REFUSED - Login was refused using authentication mechanism PLAIN. "
            "For details see the broker logfile."
        ) in str(caught.value)
        assert why in self.log()[before:], self.log()[before:]

    def log(self) -> str:
        return self.node.log_path.read_text()


@pytest.fixture(scope="module")
def served(tmp_path_factory) -> Iterator[Served]:
    directory = tmp_path_factory.mktemp("provider")
    with Provider() as provider:
        made = Served(
            directory,
            provider,
            f'auth_oauth2.issuer = "{provider.url}"',
            REFRESH,
            'auth_oauth2.preferred_username_claims.1 = "user_name"',
            'auth_oauth2.additional_scopes_key = "realm_access.roles"',
            'auth_oauth2.scope_aliases.operator = "rabbitmq.tag:administrator rabbitmq.read:*/*"',
            size=3,
        )
        with made.cluster:
            made.cluster.start()
            yield made


def ask(
    node: Node, path: str, login: str, method: str = "GET", body: object = None
) -> tuple[int, Any]:
    request = urllib.request.Request(
        f"http://127.0.0.1:{node.management_port}{path}",
        method=method,
        headers={"Authorization": login},
        data=None if body is None else json.dumps(body).encode(),
    )
    try:
        with urllib.request.urlopen(request, timeout=bound(20)) as answer:
            text = answer.read()
            return answer.status, json.loads(text) if text else None
    except urllib.error.HTTPError as error:
        return error.code, json.loads(error.read())


def basic(user: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


def test_a_token_is_a_login_on_every_node_beside_passwords(served: Served, name: str) -> None:
    token = served.key.token(ALL)
    with served.connect(token) as connection:
        channel = amqp.confirmed(connection)
        channel.queue_declare(name, durable=True)
        amqp.fill(channel, name, [b"hello"])
    with served.connect(token, node=3) as connection:
        assert amqp.get_all(connection.channel(), name, 1) == [b"hello"]
    with served.cluster.connect(2) as connection:
        assert connection.channel().queue_declare(name, passive=True).method.message_count == 0
    assert token not in served.log()
    # No user came of it.
    _, users = ask(served.node, "/api/users", basic("guest", "guest"))
    assert [user["name"] for user in users] == ["guest"]


def test_scopes_are_permissions(served: Served, names: Callable[[], str]) -> None:
    mine, other = names(), names()
    scopes = f"configure:%2F/{mine}* write:*/{mine} write:*/amq.default read:%2F/{mine}"
    with served.connect(served.key.token(scopes)) as connection:
        channel = connection.channel()
        channel.queue_declare(mine)
        channel.queue_declare(f"{mine}-2")
        channel.basic_publish("", mine, b"x")
        assert amqp.get_all(channel, mine, 1) == [b"x"]
        with amqp.channel_error(
            403,
            f"ACCESS_REFUSED - configure access to queue '{other}' in vhost '/' refused for user 'ann'",
        ):
            channel.queue_declare(other)
        channel = connection.channel()
        with amqp.channel_error(
            403,
            f"ACCESS_REFUSED - read access to queue '{mine}-2' in vhost '/' refused for user 'ann'",
        ):
            channel.basic_get(f"{mine}-2")
        channel = connection.channel()
        with amqp.channel_error(
            403,
            "ACCESS_REFUSED - write access to exchange 'amq.fanout' in vhost '/' refused for user 'ann'",
        ):
            channel.basic_publish("amq.fanout", "", b"x")
            channel.queue_declare(mine, passive=True)


def test_routing_keys_of_topic_exchanges(served: Served) -> None:
    token = served.key.token("write:*/amq.topic/u-{sub}.* write:*/amq.direct")
    with served.connect(token) as connection:
        channel = amqp.confirmed(connection)
        channel.basic_publish("amq.topic", "u-ann.1", b"x")
        channel.basic_publish("amq.direct", "any", b"x")
        with amqp.channel_error(
            403,
            "ACCESS_REFUSED - write access to topic 'u-bob.1' in exchange 'amq.topic' in vhost '/' "
            "refused for user 'ann'",
        ):
            channel.basic_publish("amq.topic", "u-bob.1", b"x")


def test_the_name_and_scopes_of_other_claims(served: Served, name: str) -> None:
    token = served.key.token(
        user_name="bob", realm_access={"roles": ["rabbitmq.configure:*/*", "operator"]}
    )
    with served.connect(token) as connection:
        channel = connection.channel()
        channel.queue_declare(name, exclusive=True)
        _, rows = ask(served.node, "/api/connections", basic("guest", "guest"))
        assert "bob" in [row["user"] for row in rows]
        assert ask(served.node, "/api/whoami", f"Bearer {token}") == (
            200,
            {"name": "bob", "tags": ["administrator"], "is_internal_user": False},
        )


def test_what_is_refused(served: Served, tmp_path) -> None:
    key, stranger = served.key, Key(tmp_path, "first")
    now = int(time.time())
    for token, why in [
        (key.token(ALL, aud="other"), "token is for 'other' (aud), not for 'rabbitmq'"),
        (key.token(ALL, aud=None), "token has no audience (aud)"),
        (key.token(ALL, exp=now - 5), f"token has expired at {now - 5} (exp)"),
        (key.token(ALL, exp=None), "token does not say when it expires (exp)"),
        (key.token(ALL, nbf=now + 300), f"token is not good before {now + 300} (nbf)"),
        (stranger.token(ALL), "the signature of the token is not that of its key"),
        (Key(tmp_path, "other").token(ALL), "no key is known by the id 'other'"),
        ("nonsense", "no such user"),
    ]:
        served.refused(token, why)
        assert token == "nonsense" or token not in served.log()


def test_a_vhost_needs_a_scope(served: Served) -> None:
    with pytest.raises(ProbableAccessDeniedError) as caught:
        served.connect(served.key.token("read:other/*"))
    assert "NOT_ALLOWED - access to vhost '/' refused for user 'ann'" in str(caught.value)


def test_the_user_id_of_messages(served: Served) -> None:
    with served.connect(served.key.token(ALL)) as connection:
        channel = amqp.confirmed(connection)
        channel.basic_publish("amq.fanout", "", b"x", pika.BasicProperties(user_id="ann"))
        with amqp.channel_error(
            406,
            "PRECONDITION_FAILED - user_id property set to 'bob' but authenticated user was 'ann'",
        ):
            channel.basic_publish("amq.fanout", "", b"x", pika.BasicProperties(user_id="bob"))


def test_a_new_token_brings_other_permissions(served: Served, names: Callable[[], str]) -> None:
    kept, lost = names(), names()
    with served.connect(served.key.token(ALL)) as connection:
        channel = amqp.confirmed(connection)
        cancelled: list[str] = []
        channel.add_on_cancel_callback(lambda frame: cancelled.append(frame.method.consumer_tag))
        for queue in (kept, lost):
            channel.queue_declare(queue)
            channel.basic_consume(queue, lambda *_: None, auto_ack=True, consumer_tag=queue)
        channel.basic_publish("amq.fanout", "", b"x")
        connection.update_secret(served.key.token(f"read:*/{kept} write:*/x"), "less")
        eventually(
            lambda: connection.process_data_events() or cancelled == [lost], what="it is cancelled"
        )
        with amqp.channel_error(403):
            channel.basic_publish("amq.fanout", "", b"x")


def test_new_tokens_that_are_refused_end_the_connection(served: Served) -> None:
    key = served.key
    refused = "NOT_ALLOWED - New secret was refused by one of the backends"
    for secret, text in [
        (key.token(ALL, sub="bob"), refused),
        (key.token(ALL, exp=int(time.time()) - 1), refused),
        ("nonsense", "NOT_ALLOWED - Secret update failed"),
        (key.token("read:x/*"), "NOT_ALLOWED - access to vhost '/' refused for user 'ann'"),
    ]:
        connection = served.connect(key.token(ALL))
        with amqp.connection_error(530, text):
            connection.update_secret(secret, "because")


def test_a_connection_ends_with_its_token(served: Served, name: str) -> None:
    def soon() -> str:
        return served.key.token(ALL, exp=int(time.time()) + 3)

    ends, stays = served.connect(soon()), served.connect(soon())
    stays.update_secret(served.key.token(ALL), "goes on")
    with amqp.connection_error(320, "CONNECTION_FORCED - credential expired"):
        deadline = time.monotonic() + bound(20)
        while time.monotonic() < deadline:
            ends.process_data_events(time_limit=0.1)
    # The other one had the same time.
    stays.channel().queue_declare(name, exclusive=True)
    stays.close()


def test_over_http(served: Served, name: str) -> None:
    node, key = served.node, served.key
    token = key.token("tag:management tag:unknown configure:%2F/http-* read:%2F/http-*")
    me = {"name": "ann", "tags": ["management", "unknown"], "is_internal_user": False}
    for login in (f"Bearer {token}", f"bearer {token}", basic("", token), basic("who", token)):
        assert ask(node, "/api/whoami", login) == (200, me)
    guest = {"name": "guest", "tags": ["administrator"], "is_internal_user": True}
    assert ask(node, "/api/whoami", basic("guest", "guest")) == (200, guest)
    for refused in (
        key.token("read:*/*"),
        key.token("tag:management", aud="other"),
        key.token("tag:management", exp=int(time.time()) - 1),
        "nonsense",
    ):
        status, body = ask(node, "/api/whoami", f"Bearer {refused}")
        assert (status, body["reason"]) == (401, "Not_Authorized")
    login = f"Bearer {token}"
    queue = f"http-{name}"
    assert ask(node, f"/api/queues/%2F/{queue}", login, "PUT", {})[0] == 201
    assert ask(node, f"/api/queues/%2F/other-{name}", login, "PUT", {})[0] == 401
    assert ask(node, f"/api/queues/%2F/{queue}", login)[0] == 200
    assert [vhost["name"] for vhost in ask(node, "/api/vhosts", login)[1]] == ["/"]
    assert ask(node, "/api/users", login)[0] == 401
    operator = f"Bearer {key.token(scope='operator')}"
    assert ask(node, f"/api/vhosts/{name}", operator, "PUT", {})[0] == 201
    assert ask(node, f"/api/vhosts/{name}", operator, "DELETE")[0] == 204
    publish = {"properties": {}, "routing_key": queue, "payload": "x", "payload_encoding": "string"}
    path = "/api/exchanges/%2F/amq.topic/publish"
    assert ask(node, path, login, "POST", publish)[0] == 401
    writer = f"Bearer {key.token('tag:management write:%2F/amq.topic/http-*')}"
    assert ask(node, path, writer, "POST", publish) == (200, {"routed": False})
    assert token not in served.log()


def test_keys_change(served: Served, tmp_path) -> None:
    first, second = served.key, Key(tmp_path, "second")
    served.connect(first.token(ALL)).close()
    served.provider.keys = [second]
    try:
        # The provider is not asked twice within a moment.
        eventually(lambda: opens(served, second.token(ALL)), what="the new key is fetched")
        served.refused(first.token(ALL, jti="fresh"), "no key is known by the id 'first'")
    finally:
        served.provider.keys = [first]
        eventually(lambda: opens(served, first.token(ALL)), what="the old key is back")


def opens(served: Served, token: str) -> bool:
    try:
        served.connect(token).close()
        return True
    except ProbableAuthenticationError:
        return False


def test_a_provider_that_is_away(tmp_path) -> None:
    provider = Provider()
    with_keys = Served(tmp_path, provider, f'auth_oauth2.jwks_uri = "{provider.url}/keys"', REFRESH)
    key, later = with_keys.key, Key(tmp_path, "later")
    provider.close()
    with with_keys.cluster:
        with_keys.cluster.start()
        with_keys.refused(key.token(ALL), "the key of the token could not be fetched")
        with_keys.cluster.connect(1).close()
        with Provider(provider.port) as back:
            back.keys = [key]
            eventually(lambda: opens(with_keys, key.token(ALL)), what="the key is fetched")
        # What is known is good without it.
        with_keys.connect(key.token(ALL)).close()
        with_keys.refused(later.token(ALL), "the key of the token could not be fetched")


def test_keys_in_files_and_nobody_else(tmp_path) -> None:
    with Provider() as nobody:
        key = Key(tmp_path, "file")
        served = Served(
            tmp_path,
            nobody,
            f'auth_oauth2.signing_keys.file = "{key.public}"',
            'auth_backends.1 = "oauth2"',
        )
        with served.cluster:
            served.cluster.start()
            served.connect(key.token(ALL)).close()
            served.refused(served.key.token(ALL), "no key is known by the id 'first'")
            with pytest.raises(ProbableAuthenticationError):
                served.cluster.connect(1)
            assert nobody.asked == 0


def test_keys_over_tls(tmp_path) -> None:
    authority = Authority(tmp_path / "ca")
    pair = authority.issue("provider")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pair.certificate, pair.key)
    with Provider() as provider:
        provider.server.socket = context.wrap_socket(provider.server.socket, server_side=True)
        provider.url = f"https://localhost:{provider.port}"
        for trusted, name in ((authority, "good"), (Authority(tmp_path / "other"), "other")):
            served = Served(
                tmp_path,
                provider,
                f'auth_oauth2.issuer = "{provider.url}"',
                REFRESH,
                f'auth_oauth2.https.cacertfile = "{trusted.certificate}"',
            )
            with served.cluster:
                served.cluster.start()
                if name == "good":
                    eventually(lambda: opens(served, served.key.token(ALL)), what="it is trusted")
                else:
                    served.refused(served.key.token(ALL), "could not be fetched")
