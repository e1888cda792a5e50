"""Publisher confirms: exactly one answer per publish, after every queue has the message."""

from __future__ import annotations

import pika
import pytest
from pika import spec

from harness import amqp, wire
from harness.amqp import channel_error


def select(peer: wire.Peer, channel: int = 1) -> None:
    peer.method(channel, spec.Confirm.Select())
    peer.expect(spec.Confirm.SelectOk, channel)


def collect(peer: wire.Peer, count: int) -> tuple[list[int], list[int]]:
    """Acked and nacked tags after `count` answers; each exactly once."""
    answered: dict[int, str] = {}
    lowest = 1
    while len(answered) < count:
        frame = peer.receive()
        if frame.kind == wire.HEARTBEAT:
            continue
        method = frame.method
        assert isinstance(method, (spec.Basic.Ack, spec.Basic.Nack)), method
        tags = [method.delivery_tag]
        if method.multiple:
            tags = [t for t in range(lowest, method.delivery_tag + 1) if t not in answered]
            assert tags, f"an answer without a publish: {method}"
        for tag in tags:
            assert 1 <= tag <= count and tag not in answered, f"{tag} answered twice or never sent"
            answered[tag] = "ack" if isinstance(method, spec.Basic.Ack) else "nack"
        while lowest in answered:
            lowest += 1
    return (
        sorted(t for t, how in answered.items() if how == "ack"),
        sorted(t for t, how in answered.items() if how == "nack"),
    )


@pytest.mark.parametrize("persistent", [True, False], ids=["persistent", "not-persistent"])
def test_each_publish_is_confirmed_once(peer, sub, name, durable, persistent) -> None:
    sub.queue_declare(name, durable=durable)
    peer.open().open_channel()
    select(peer)
    properties = b"\x10\x00\x02" if persistent else b"\x10\x00\x01"
    for i in range(500):
        peer.publish(1, "", name, b"%d" % i, properties)
    assert collect(peer, 500) == (list(range(1, 501)), [])
    # Confirmed means there: all of it, at once, from another node.
    assert amqp.counts(sub, name)[0] == 500


def test_tags_count_from_the_select_on(peer, name) -> None:
    peer.open().open_channel().declare(1, name, auto_delete=True)
    peer.publish(1, "", name, b"before")
    select(peer)
    peer.publish(1, "", name, b"first")
    assert peer.expect(spec.Basic.Ack, 1).delivery_tag == 1
    select(peer)  # Again: harmless, and no reset.
    peer.publish(1, "", name, b"second")
    assert peer.expect(spec.Basic.Ack, 1).delivery_tag == 2


def test_channels_count_apart(peer, name) -> None:
    peer.open().open_channel(1).open_channel(2).declare(1, name)
    for channel in (1, 2):
        select(peer, channel)
    for channel in (2, 1, 2):
        peer.publish(channel, "", name, b"x")
    seen = {1: 0, 2: 0}
    while seen != {1: 1, 2: 2}:
        frame = peer.receive()
        assert isinstance(frame.method, spec.Basic.Ack)
        seen[frame.channel] = frame.method.delivery_tag


def test_unroutable_is_confirmed(pub, name) -> None:
    pub.exchange_declare(name, "fanout")
    pub.basic_publish(name, "", b"nobody listens")


def test_unroutable_mandatory_is_reported_by_pika(pub, name) -> None:
    with pytest.raises(pika.exceptions.UnroutableError) as caught:
        pub.basic_publish("", name, b"x", mandatory=True)
    assert [m.body for m in caught.value.messages] == [b"x"]


def test_confirm_over_several_queues(peer, sub, names) -> None:
    """One confirm, after all of them have it."""
    exchange = names()
    sub.exchange_declare(exchange, "fanout")
    queues = [names() for _ in range(6)]
    for index, queue in enumerate(queues):
        sub.queue_declare(queue, durable=index % 2 == 0)
        sub.queue_bind(queue, exchange)
    peer.open().open_channel()
    select(peer)
    for i in range(50):
        peer.publish(1, exchange, "", b"%d" % i, b"\x10\x00\x02")
    assert collect(peer, 50) == (list(range(1, 51)), [])
    for queue in queues:
        assert amqp.counts(sub, queue)[0] == 50


def test_deleted_queue_counts_as_accepted(peer, sub, name) -> None:
    """Nobody waits for ever for a confirm because the queue went away meanwhile."""
    peer.open().open_channel()
    select(peer)
    sub.queue_declare(name, durable=True)
    for i in range(200):
        peer.publish(1, "", name, b"%d" % i, b"\x10\x00\x02")
        if i == 100:
            sub.queue_delete(name)
    acked, nacked = collect(peer, 200)
    assert len(acked) + len(nacked) == 200
    assert acked[-1] == 200  # Unroutable by then, and confirmed.


def test_confirms_of_a_delivered_message(connect, name, durable) -> None:
    """Publisher and consumer on one channel."""
    channel = amqp.confirmed(connect(0))
    channel.queue_declare(name, durable=durable)
    consumer = amqp.Consumer(channel, name, auto_ack=True)
    for i in range(20):
        channel.basic_publish("", name, b"%d" % i, amqp.PERSISTENT)
    consumer.wait(20)
    assert consumer.bodies == [b"%d" % i for i in range(20)]


def test_confirm_select_is_refused_on_a_transactional_channel(ch) -> None:
    ch.tx_select()
    with channel_error(406, "PRECONDITION_FAILED - cannot switch from tx to confirm mode"):
        ch.confirm_delivery()


def test_error_while_confirms_are_open(peer, name) -> None:
    """A publish to a missing exchange closes the channel; what came before was still decided."""
    peer.open().open_channel().declare(1, name, durable=True)
    select(peer)
    peer.publish(1, "", name, b"good", b"\x10\x00\x02")
    peer.publish(1, name, "", b"bad")
    while True:
        method = peer.receive().method
        if isinstance(method, spec.Channel.Close):
            break
        assert isinstance(method, spec.Basic.Ack) and method.delivery_tag == 1
    assert method.reply_code == 404
    assert method.reply_text == f"NOT_FOUND - no exchange '{name}' in vhost '/'"
    assert (method.class_id, method.method_id) == (60, 40)
