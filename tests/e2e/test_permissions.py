"""Users, vhosts and permissions, made by the management API and felt over AMQP."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pika
import pytest
from pika import spec

from harness import amqp
from harness.amqp import channel_error
from harness.broker import Broker, part
from harness.wait import eventually


@pytest.fixture
def user(broker: Broker, name: str) -> Iterator[str]:
    """A user with the password `secret` and no permission anywhere."""
    broker.put(f"/api/users/{part(name)}", {"password": "secret", "tags": ""})
    yield name
    broker.http(f"/api/users/{part(name)}", "DELETE")


@pytest.fixture
def log_in(connect, user) -> Callable[..., pika.BlockingConnection]:
    """`log_in(node)`: a connection as that user. All nodes know it at once, or soon."""

    def make(node: int = 0, **options: Any) -> pika.BlockingConnection:
        return connect(node, user=user, password="secret", **options)

    return make


def permit(
    broker: Broker, user: str, configure: str, write: str, read: str, vhost: str = "/"
) -> None:
    broker.put(
        f"/api/permissions/{part(vhost)}/{part(user)}",
        {"configure": configure, "write": write, "read": read},
    )


def refused(broker: Broker, kind: str, what: str, user: str) -> str:
    # RabbitMQ says since 3.13 which kind of access it was.
    kind = "" if broker.external else f"{kind} "
    return f"ACCESS_REFUSED - {kind}access to {what} in vhost '/' refused for user '{user}'"


def test_no_permission_no_vhost(broker, log_in, user) -> None:
    with pytest.raises(pika.exceptions.ProbableAccessDeniedError) as caught:
        log_in()
    assert f"NOT_ALLOWED - access to vhost '/' refused for user '{user}'" in str(caught.value)


@pytest.mark.parametrize("node", [0, 1, 2])
def test_each_permission(broker, log_in, user, ch, node) -> None:
    permit(broker, user, "^mine-", "^mine-|^amq\\.default$", "^mine-")
    mine, other = f"mine-{user}", f"theirs-{user}"
    ch.queue_declare(other)
    ch.exchange_declare(other, "direct")

    def entered() -> pika.BlockingConnection | None:
        try:
            return log_in(node)
        except pika.exceptions.ProbableAccessDeniedError:
            return None

    connection = eventually(entered, what="the permission is known")

    def denied(kind: str, what: str, name: str, act: Callable[[Any], Any]) -> None:
        channel = connection.channel()
        with channel_error(403, refused(broker, kind, f"{what} '{name}'", user)):
            act(channel)
            amqp.sync(channel)

    channel = connection.channel()
    channel.queue_declare(mine)
    channel.exchange_declare(mine, "direct")
    channel.queue_bind(mine, mine, "k")
    channel.basic_publish(mine, "k", b"x")
    assert amqp.get(channel, mine, auto_ack=True).body == b"x"
    channel.basic_publish("", mine, b"y")
    assert amqp.get(channel, mine, auto_ack=True).body == b"y"
    denied("configure", "queue", other + "-new", lambda c: c.queue_declare(other + "-new"))
    denied("configure", "exchange", other + "-new", lambda c: c.exchange_declare(other + "-new"))
    denied("configure", "queue", other, lambda c: c.queue_delete(other))
    denied("configure", "exchange", other, lambda c: c.exchange_delete(other))
    denied("write", "exchange", other, lambda c: c.basic_publish(other, "k", b""))
    denied("read", "queue", other, lambda c: c.basic_get(other))
    denied("read", "queue", other, lambda c: c.basic_consume(other, lambda *_: None))
    denied("read", "queue", other, lambda c: c.queue_purge(other))
    denied("write", "queue", other, lambda c: c.queue_bind(other, mine, "k"))
    denied("read", "exchange", other, lambda c: c.queue_bind(mine, other, "k"))
    denied("read", "exchange", other, lambda c: c.exchange_bind(mine, other))
    denied("write", "exchange", other, lambda c: c.exchange_bind(other, mine))
    if not broker.external:  # Anybody could look until RabbitMQ 4.2.7.
        denied("configure", "queue", other, lambda c: c.queue_declare(other, passive=True))
        denied("configure", "exchange", other, lambda c: c.exchange_declare(other, passive=True))


def test_default_exchange_needs_write(broker, log_in, user) -> None:
    permit(broker, user, ".*", "^$", ".*")
    connection = eventually(lambda: attempt(log_in), what="the permission is known")
    channel = connection.channel()
    with channel_error(403, refused(broker, "write", "exchange 'amq.default'", user)):
        channel.basic_publish("", "anything", b"")
        amqp.sync(channel)


def attempt(log_in: Callable[..., Any], **options: Any) -> Any:
    try:
        return log_in(**options)
    except (pika.exceptions.ProbableAccessDeniedError, pika.exceptions.ProbableAuthenticationError):
        return None


def test_vhosts_are_worlds_apart(broker, log_in, user, ch, name) -> None:
    vhost = f"{name}/slash"
    broker.put(f"/api/vhosts/{part(vhost)}", {})
    try:
        permit(broker, user, ".*", ".*", ".*", vhost)
        ch.queue_declare(name)
        connection = eventually(
            lambda: attempt(log_in, node=1, virtual_host=vhost), what="the vhost is known"
        )
        channel = connection.channel()
        with channel_error(404, f"NOT_FOUND - no queue '{name}' in vhost '{vhost}'"):
            channel.queue_declare(name, passive=True)
        channel = amqp.confirmed(connection)
        channel.exchange_declare("amq.topic", passive=True)
        channel.queue_declare(name, durable=True)
        channel.basic_publish("", name, b"x", mandatory=True)
        assert amqp.counts(channel, name)[0] == 1
        assert amqp.counts(ch, name)[0] == 0
        # Deleting the vhost ends its connections.
        broker.delete(f"/api/vhosts/{part(vhost)}")
        with pytest.raises(pika.exceptions.ConnectionClosedByBroker) as caught:
            amqp.pump(connection, lambda: False)
        assert caught.value.reply_code == 320
        if not broker.external:  # RabbitMQ sometimes says "is down".
            assert caught.value.reply_text == f"CONNECTION_FORCED - vhost '{vhost}' is deleted"
    finally:
        broker.http(f"/api/vhosts/{part(vhost)}", "DELETE")


def test_changed_password(broker, connect, user) -> None:
    permit(broker, user, ".*", ".*", ".*")
    eventually(lambda: attempt(connect, user=user, password="secret"), what="the user is known")
    broker.put(f"/api/users/{part(user)}", {"password": "changed", "tags": ""})
    eventually(lambda: attempt(connect, user=user, password="changed"), what="the new password")
    with pytest.raises(pika.exceptions.ProbableAuthenticationError):
        connect(0, user=user, password="secret")


def test_deleted_user(broker, connect, user) -> None:
    permit(broker, user, ".*", ".*", ".*")
    connection = eventually(lambda: attempt(connect, user=user, password="secret"))
    broker.delete(f"/api/users/{part(user)}")
    with pytest.raises(pika.exceptions.ConnectionClosedByBroker) as caught:
        amqp.pump(connection, lambda: False)
    assert caught.value.reply_code == 320
    assert caught.value.reply_text == f"CONNECTION_FORCED - user '{user}' is deleted"
    with pytest.raises(pika.exceptions.ProbableAuthenticationError):
        connect(0, user=user, password="secret")


def test_imported_password_hash(broker, connect, name) -> None:
    """RabbitMQ's format: base64(salt ++ sha256(salt ++ password))."""
    import base64
    import hashlib

    salt = b"\x90\x8d\xc6\x0a"
    hashed = base64.b64encode(salt + hashlib.sha256(salt + b"test12").digest()).decode()
    broker.put(
        f"/api/users/{part(name)}",
        {
            "password_hash": hashed,
            "hashing_algorithm": "rabbit_password_hashing_sha256",
            "tags": "management",
        },
    )
    permit(broker, name, "", "", "")
    eventually(lambda: attempt(connect, user=name, password="test12"), what="the user can log in")
    broker.delete(f"/api/users/{part(name)}")


def test_vhost_limits(broker, log_in, user, name) -> None:
    vhost = name
    broker.put(f"/api/vhosts/{part(vhost)}", {})
    try:
        permit(broker, user, ".*", ".*", ".*", vhost)
        broker.put(f"/api/vhost-limits/{part(vhost)}/max-queues", {"value": 1})
        broker.put(f"/api/vhost-limits/{part(vhost)}/max-connections", {"value": 1})
        connection = eventually(lambda: attempt(log_in, virtual_host=vhost))
        connection.channel().queue_declare("one")
        with channel_error(
            406,
            f"PRECONDITION_FAILED - cannot declare queue 'two': queue limit in vhost '{vhost}' (1) is reached",
        ):
            connection.channel().queue_declare("two")
        with pytest.raises(pika.exceptions.AMQPConnectionError) as caught:
            log_in(1, virtual_host=vhost)
        assert "connection limit (1) is reached" in str(caught.value)
    finally:
        broker.http(f"/api/vhosts/{part(vhost)}", "DELETE")


def test_topic_permissions(broker, log_in, user, name, ch) -> None:
    permit(broker, user, ".*", ".*", ".*")
    ch.exchange_declare(name, "topic")
    broker.put(
        f"/api/topic-permissions/%2F/{part(user)}",
        {"exchange": name, "write": "^{username}\\.", "read": "^public\\."},
    )
    connection = eventually(lambda: attempt(log_in))
    channel = connection.channel()
    channel.queue_declare(name)
    channel.queue_bind(name, name, "public.#")
    channel.basic_publish(name, f"{user}.x", b"")
    amqp.sync(channel)
    bad = connection.channel()
    with channel_error(
        403,
        refused(broker, "write", f"topic 'other.x' in exchange '{name}'", user),
    ):
        bad.basic_publish(name, "other.x", b"")
        amqp.sync(bad)
    bad = connection.channel()
    with channel_error(403):
        bad.queue_bind(name, name, "private.#")


def test_patterns_may_look_ahead_and_refer_back(broker, log_in, user) -> None:
    permit(broker, user, "^(?!secret).*$", r"^(..).*\1$|^amq\.default$", ".*")

    def entered() -> pika.BlockingConnection | None:
        try:
            return log_in()
        except pika.exceptions.ProbableAccessDeniedError:
            return None

    connection = eventually(entered, what="the permission is known")
    queue = f"open-{user}"
    connection.channel().queue_declare(queue, exclusive=True)
    with channel_error(403, refused(broker, "configure", f"queue 'secret-{user}'", user)):
        connection.channel().queue_declare(f"secret-{user}")
    with channel_error(403, refused(broker, "write", "exchange 'amq.topic'", user)):
        channel = connection.channel()
        channel.basic_publish("amq.topic", "k", b"")
        amqp.sync(channel)


def limit(broker: Broker, user: str, what: str, value: int) -> None:
    broker.put(f"/api/user-limits/{part(user)}/{what}", {"value": value})


def test_channels_of_a_user_are_limited(broker, log_in, user) -> None:
    permit(broker, user, ".*", ".*", ".*")
    limit(broker, user, "max-channels", 2)
    connection = log_in()
    for _ in range(2):
        connection.channel()
    with amqp.connection_error(
        530,
        f"NOT_ALLOWED - number of channels opened for user '{user}' has reached the maximum "
        "allowed user limit of 2",
    ):
        connection.channel()


def test_channels_of_a_user_count_on_all_nodes(broker, log_in, user) -> None:
    permit(broker, user, ".*", ".*", ".*")
    limit(broker, user, "max-channels", 2)
    channels = [log_in(node).channel() for node in range(2)]
    third = log_in(2)
    with amqp.connection_error(530, starts="NOT_ALLOWED - number of channels opened for user"):
        third.channel()
    channels[0].close()
    log_in(2).channel()


def test_a_channel_too_many_is_refused_at_once(broker, user) -> None:
    """It is not said to be open first."""
    permit(broker, user, ".*", ".*", ".*")
    limit(broker, user, "max-channels", 1)
    with broker.peer() as peer:
        peer.open(response=f"\0{user}\0secret".encode()).open_channel(1)
        peer.method(2, spec.Channel.Open())
        refused = peer.receive().method
        assert isinstance(refused, spec.Connection.Close)
        assert (refused.reply_code, refused.reply_text) == (
            530,
            f"NOT_ALLOWED - number of channels opened for user '{user}' has reached the maximum "
            "allowed user limit of 1",
        )


def test_connections_of_a_user_are_limited(broker, log_in, user) -> None:
    permit(broker, user, ".*", ".*", ".*")
    limit(broker, user, "max-connections", 1)
    first = log_in()
    with pytest.raises(pika.exceptions.AMQPConnectionError) as caught:
        log_in(1)
    text = f"connection refused for user '{user}': user connection limit (1) is reached"
    assert text in str(caught.value)
    first.close()
    eventually(lambda: _opens(log_in), what="the place is free again")


def _opens(log_in: Callable[..., pika.BlockingConnection]) -> bool:
    try:
        log_in().close()
    except pika.exceptions.AMQPConnectionError:
        return False
    return True
