"""Without a majority nobody is left in silence: nacks and errors within the configured bound."""

from __future__ import annotations

import time

import pika
import pytest

from harness import amqp, wire
from harness.wait import bound, eventually

#: `publish_timeout`, in seconds.
BOUND = 3
#: What an answer may take in all on a slow machine: the bound, and room.
ANSWER = BOUND + 12


@pytest.fixture
def one_left(fresh, name):
    """A cluster of three in which only one node, not the queue's leader, is left."""
    cluster = fresh(3, extra_args=["--publish-timeout", f"{BOUND}s"]).start()
    channel = cluster.connect(1).channel()
    channel.queue_declare(name, durable=True)
    channel.queue_declare(name + "-local")
    leader = cluster.leader(name)
    follower, last = cluster.others(leader)
    connection = amqp.connect(last.amqp_port)
    publisher = amqp.confirmed(connection)
    amqp.fill(publisher, name, [b"before"])
    leader.kill()
    follower.kill()
    yield cluster, last, publisher
    amqp.drop(connection)


def took(began: float) -> float:
    return time.monotonic() - began


def test_publish_is_nacked(one_left, name) -> None:
    cluster, last, publisher = one_left
    began = time.monotonic()
    with pytest.raises(pika.exceptions.NackError):
        publisher.basic_publish("", name, b"refused", amqp.PERSISTENT)
    assert took(began) < bound(ANSWER)
    # A majority again: the next one is taken, and the refused one does not follow it.
    cluster.start([next(n for n in cluster.nodes if n is not last)])

    def taken() -> bool:
        try:
            publisher.basic_publish("", name, b"after", amqp.PERSISTENT)
        except pika.exceptions.NackError:
            return False
        return True

    eventually(taken, what="a publish is confirmed again")
    bodies = []
    while True:
        method, _, body = publisher.basic_get(name, auto_ack=True)
        if method is None:
            break
        bodies.append(body)
    assert bodies[0] == b"before"
    assert bodies.index(b"after") == len(bodies) - 1
    assert b"refused" not in bodies[bodies.index(b"after") :]


def test_many_publishes_are_all_answered(one_left, name) -> None:
    """Each exactly once."""
    from pika import spec

    _, last, _ = one_left
    with wire.Peer(last.amqp_port) as peer:
        peer.open().open_channel()
        peer.method(1, spec.Confirm.Select())
        peer.expect(spec.Confirm.SelectOk, 1)
        for _ in range(100):
            peer.publish(1, "", name, b"x", b"\x10\x00\x02")
        answered = set()
        lowest = 1
        while len(answered) < 100:
            frame = peer.receive(timeout=bound(ANSWER))
            if frame.kind == wire.HEARTBEAT:
                continue
            method = frame.method
            assert isinstance(method, spec.Basic.Nack), method
            tags = (
                range(lowest, method.delivery_tag + 1) if method.multiple else [method.delivery_tag]
            )
            for tag in tags:
                if not method.multiple:
                    assert tag not in answered
                answered.add(tag)
            while lowest in answered:
                lowest += 1


def test_declare_fails(one_left, name) -> None:
    _, last, _ = one_left
    connection = amqp.connect(last.amqp_port)
    channel = connection.channel()
    began = time.monotonic()
    with pytest.raises(pika.exceptions.AMQPError):
        channel.queue_declare(name + "-new", durable=True)
    assert took(began) < bound(ANSWER)


@pytest.mark.parametrize("kind", ["bind", "delete", "exchange", "get", "consume", "purge"])
def test_everything_else_is_answered_too(one_left, name, kind) -> None:
    """With an error, or, where the node can answer by itself, with success; not with silence."""
    _, last, _ = one_left
    connection = amqp.connect(last.amqp_port)
    channel = connection.channel()
    began = time.monotonic()
    try:
        if kind == "bind":
            channel.queue_bind(name, "amq.direct", "k")
        elif kind == "delete":
            channel.queue_delete(name)
        elif kind == "exchange":
            channel.exchange_declare(name, "fanout", durable=True)
        elif kind == "get":
            channel.basic_get(name)
        elif kind == "purge":
            channel.queue_purge(name)
        else:
            channel.basic_consume(name, lambda *_: None)
    except pika.exceptions.AMQPError:
        pass
    assert took(began) < bound(ANSWER)


def test_not_ready_and_says_so(one_left) -> None:
    """Load balancers look elsewhere; the process itself is well."""
    _, last, _ = one_left
    eventually(lambda: last.http("/health/ready")[0] == 503, what="not ready without a majority")
    assert last.http("/health/live")[0] == 200


def test_connections_are_not_left_hanging(one_left) -> None:
    """A new client gets in, or is refused, quickly."""
    _, last, _ = one_left
    began = time.monotonic()
    try:
        amqp.connect(last.amqp_port, socket_timeout=bound(ANSWER)).close()
    except pika.exceptions.AMQPError:
        pass
    assert took(began) < bound(ANSWER)


def test_full_recovery(one_left, name) -> None:
    cluster, _, _ = one_left
    cluster.start()
    channels = [amqp.confirmed(cluster.connect(node)) for node in cluster.nodes]
    for index, channel in enumerate(channels):
        channel.basic_publish("", name, b"%d" % index, amqp.PERSISTENT, mandatory=True)
    assert amqp.get_all(channels[1], name, 4) == [b"before", b"0", b"1", b"2"]
    for channel in channels:
        channel.connection.close()
