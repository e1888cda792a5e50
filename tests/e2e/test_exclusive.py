"""Exclusive queues: their owner's only, gone with its connection, seen so on every node."""

from __future__ import annotations

import pika
import pytest

from harness import amqp
from harness.amqp import Consumer, channel_error
from harness.wait import eventually


def locked(queue: str) -> str:
    """The refusal, as far as a shortstr is sure to hold it (RabbitMQ ends a longer one in dots)."""
    text = (
        f"RESOURCE_LOCKED - cannot obtain exclusive access to locked queue '{queue}' in vhost '/'. "
        "It could be originally declared on another connection or the exclusive property value does "
        "not match that of the original declaration."
    )
    return text if len(text) <= 255 else text[:252]


@pytest.mark.parametrize("node", [0, 1])
@pytest.mark.parametrize(
    "act",
    [
        lambda c, q: c.queue_declare(q, exclusive=True),
        lambda c, q: c.queue_declare(q),
        lambda c, q: c.queue_declare(q, passive=True),
        lambda c, q: c.basic_consume(q, lambda *_: None),
        lambda c, q: c.basic_get(q),
        lambda c, q: c.queue_purge(q),
        lambda c, q: c.queue_delete(q),
        lambda c, q: c.queue_bind(q, "amq.fanout"),
        lambda c, q: c.queue_unbind(q, "amq.direct", "bound"),
    ],
    ids=[
        "declare",
        "declare-plain",
        "passive",
        "consume",
        "get",
        "purge",
        "delete",
        "bind",
        "unbind",
    ],
)
def test_locked_to_others(connect, name, act, node) -> None:
    owner = connect(0).channel()
    owner.queue_declare(name, exclusive=True)
    owner.queue_bind(name, "amq.direct", "bound")
    stranger = connect(node).channel()
    with channel_error(405, starts=locked(name)):
        act(stranger, name)
    owner.queue_declare(name, exclusive=True)


@pytest.mark.parametrize("node", [0, 1])
def test_a_stranger_unbinds_what_is_not_bound(connect, name, node) -> None:
    connect(0).channel().queue_declare(name, exclusive=True)
    connect(node).channel().queue_unbind(name, "amq.direct", "not bound")


def test_other_channels_of_the_owner_may(connect, name) -> None:
    connection = connect(0)
    connection.channel().queue_declare(name, exclusive=True)
    other = connection.channel()
    consumer = Consumer(other, name, auto_ack=True)
    other.basic_publish("", name, b"x")
    assert consumer.next().body == b"x"


def test_anybody_may_publish_to_it(connect, pub, name) -> None:
    owner = connect(1).channel()
    owner.queue_declare(name, exclusive=True)
    pub.basic_publish("", name, b"from another node", mandatory=True)
    assert amqp.get(owner, name).body == b"from another node"


def test_redeclared_otherwise_is_locked(ch, name) -> None:
    """Not 406: exclusivity is checked first."""
    ch.queue_declare(name)
    with channel_error(405, starts=locked(name)):
        ch.queue_declare(name, exclusive=True)


def test_durable_is_dropped(ch, name) -> None:
    ch.queue_declare(name, exclusive=True, durable=True)
    ch.queue_declare(name, exclusive=True, durable=True)


@pytest.mark.parametrize("node", [0, 1, 2])
def test_gone_when_the_connection_closes(connect, name, node) -> None:
    """At once, for everybody: the same name can be declared by the next connection."""
    for round_ in range(5):
        connection = connect((node + round_) % 3)
        connection.channel().queue_declare(name, exclusive=True)
        connection.close()
    connect(node).channel().queue_declare(name)


def test_gone_when_the_connection_is_lost(connect, sub, name) -> None:
    connection = connect(0)
    connection.channel().queue_declare(name, exclusive=True)
    amqp.drop(connection)

    def free() -> bool:
        channel = sub.connection.channel()
        try:
            channel.queue_declare(name, exclusive=True)
        except pika.exceptions.ChannelClosedByBroker as error:
            assert error.reply_code == 405
            return False
        return True

    eventually(free, what="the exclusive queue of a lost connection is gone")


def test_outlives_its_channel(connect, name) -> None:
    connection = connect(0)
    channel = connection.channel()
    channel.queue_declare(name, exclusive=True)
    channel.basic_publish("", name, b"kept")
    channel.close()
    assert amqp.get(connection.channel(), name).body == b"kept"


def test_bindings_go_with_it(connect, pub, name) -> None:
    pub.exchange_declare(name, "fanout")
    connection = connect(1)
    channel = connection.channel()
    queue = channel.queue_declare("", exclusive=True).method.queue
    channel.queue_bind(queue, name)
    connection.close()
    with pytest.raises(pika.exceptions.UnroutableError):
        pub.basic_publish(name, "", b"x", mandatory=True)


def test_many_exclusive_queues_go_at_once(connect, sub, names) -> None:
    queues = [names() for _ in range(50)]
    connection = connect(0)
    channel = connection.channel()
    for queue in queues:
        channel.queue_declare(queue, exclusive=True)
    connection.close()
    for queue in queues:
        with channel_error(404):
            sub.connection.channel().queue_declare(queue, passive=True)
