"""Users, permissions and limits changed while a node is down are known to it when it is back."""

from __future__ import annotations

from typing import Any

import pika
import pytest

from harness import amqp
from harness.broker import part
from harness.node import Node


def put(node: Node, path: str, body: Any) -> None:
    status, answer = node.http(f"/api/{path}", "PUT", body)
    assert status in (201, 204), (status, answer)


def delete(node: Node, path: str) -> None:
    status, answer = node.http(f"/api/{path}", "DELETE")
    assert status == 204, (status, answer)


def user(node: Node, name: str, password: str = "secret") -> str:
    put(node, f"users/{part(name)}", {"password": password, "tags": ""})
    return name


def permit(node: Node, name: str, configure: str, write: str, read: str, vhost: str = "/") -> None:
    body = {"configure": configure, "write": write, "read": read}
    put(node, f"permissions/{part(vhost)}/{part(name)}", body)


def test_changes_while_a_node_is_down(whole, names, open_at) -> None:
    """Not one request to the node that comes back may be judged by what it knew."""
    down, a, b = whole.nodes
    stays, new, gone, stripped, narrowed = names(), names(), names(), names(), names()
    for name in (stays, gone, stripped, narrowed):
        user(a, name)
        permit(a, name, ".*", ".*", ".*")
    vhost, dead_vhost = names(), names()
    put(a, f"vhosts/{part(dead_vhost)}", {})
    permit(a, stays, ".*", ".*", ".*", dead_vhost)
    for name in (stays, gone, stripped, narrowed):
        # The node has them in its cache.
        open_at(down, user=name, password="secret").channel().queue_declare(name, durable=True)
    down.kill()
    user(a, stays, "changed")
    user(b, new)
    permit(a, new, ".*", ".*", ".*")
    delete(b, f"users/{part(gone)}")
    delete(a, f"permissions/%2F/{part(stripped)}")
    permit(b, narrowed, "^$", ".*", "^$")
    put(a, f"vhosts/{part(vhost)}", {})
    permit(a, new, ".*", ".*", ".*", vhost)
    delete(b, f"vhosts/{part(dead_vhost)}")
    put(a, f"vhost-limits/{part(vhost)}/max-queues", {"value": 1})
    put(b, f"user-limits/{part(stays)}/max-channels", {"value": 1})
    whole.start([down])

    # First come those who may no longer.
    for name, password in ((gone, "secret"), (stays, "secret")):
        with pytest.raises(pika.exceptions.ProbableAuthenticationError) as caught:
            open_at(down, user=name, password=password)
        assert "ACCESS_REFUSED" in str(caught.value)
    with pytest.raises(pika.exceptions.ProbableAccessDeniedError) as denied:
        open_at(down, user=stripped, password="secret")
    text = f"NOT_ALLOWED - access to vhost '/' refused for user '{stripped}'"
    assert text in str(denied.value)
    with pytest.raises(pika.exceptions.ProbableAccessDeniedError) as denied:
        open_at(down, user=stays, password="changed", virtual_host=dead_vhost)
    assert f"NOT_ALLOWED - vhost {dead_vhost} not found" in str(denied.value)
    limited = open_at(down, user=narrowed, password="secret")
    refused = f"access to queue '{narrowed}' in vhost '/' refused for user '{narrowed}'"
    with amqp.channel_error(403, f"ACCESS_REFUSED - configure {refused}"):
        limited.channel().queue_delete(narrowed)
    with amqp.channel_error(403, f"ACCESS_REFUSED - read {refused}"):
        limited.channel().basic_get(narrowed)
    amqp.fill(amqp.confirmed(limited), narrowed, [b"may still write"])

    # And those who may now.
    changed = open_at(down, user=stays, password="changed")
    changed.channel().queue_declare(stays, durable=True)
    with amqp.connection_error(
        530,
        f"NOT_ALLOWED - number of channels opened for user '{stays}' has reached the maximum "
        "allowed user limit of 1",
    ):
        changed.channel()
    open_at(down, user=new, password="secret").channel().queue_declare(new, durable=True)
    inside = open_at(down, user=new, password="secret", virtual_host=vhost)
    inside.channel().queue_declare("one", durable=True)
    with amqp.channel_error(406, starts="PRECONDITION_FAILED - cannot declare queue 'two': queue"):
        inside.channel().queue_declare("two", durable=True)


def test_permissions_of_open_connections(whole, names, open_at) -> None:
    """A change made through one survivor reaches a client of the other, although a node is down."""
    down, a, b = whole.nodes
    name = user(a, names())
    permit(a, name, ".*", ".*", ".*")
    connection = open_at(b, user=name, password="secret")
    channel = amqp.confirmed(connection)
    channel.queue_declare(name, durable=True)
    down.kill()
    permit(a, name, ".*", "^$", ".*")

    text = f"ACCESS_REFUSED - write access to exchange 'amq.default' in vhost '/' refused for user '{name}'"
    with amqp.channel_error(403, text):
        amqp.pump(connection, lambda: channel.basic_publish("", name, b"x"), what="the refusal")
    delete(a, f"users/{part(name)}")
    with amqp.connection_error(320, f"CONNECTION_FORCED - user '{name}' is deleted"):
        amqp.pump(connection, lambda: False)
