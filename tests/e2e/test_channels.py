"""Channels: reuse of numbers, pipelining, flow, access.request."""

from __future__ import annotations

from pika import spec

from harness import wire


def test_close_and_reuse(peer) -> None:
    peer.open()
    for _ in range(20):
        peer.open_channel(5)
        peer.method(5, spec.Channel.Close(200, "bye", 0, 0))
        peer.expect(spec.Channel.CloseOk, 5)


def test_whole_life_pipelined(peer, name) -> None:
    """Everything sent at once; answers in order."""
    peer.open()
    for _ in range(3):
        peer.send(
            wire.method_frame(1, spec.Channel.Open())
            + wire.method_frame(1, spec.Queue.Declare(queue=name))
            + wire.method_frame(1, spec.Queue.Delete(queue=name))
            + wire.method_frame(1, spec.Channel.Close(200, "", 0, 0))
        )
        for kind in (
            spec.Channel.OpenOk,
            spec.Queue.DeclareOk,
            spec.Queue.DeleteOk,
            spec.Channel.CloseOk,
        ):
            peer.expect(kind, 1)


def test_pipelined_commands_are_answered_in_order(peer, names) -> None:
    peer.open().open_channel()
    queues = [names() for _ in range(40)]
    peer.send(b"".join(wire.method_frame(1, spec.Queue.Declare(queue=q)) for q in queues))
    assert [peer.expect(spec.Queue.DeclareOk, 1).queue for _ in queues] == queues


def test_declare_then_publish_then_get_without_waiting(peer, name) -> None:
    """Commands of one channel take effect in their order, whatever node they concern."""
    peer.open().open_channel()
    peer.method(1, spec.Exchange.Declare(exchange=name, type="direct"))
    peer.method(1, spec.Queue.Declare(queue=name, durable=True))
    peer.method(1, spec.Queue.Bind(queue=name, exchange=name, routing_key="k"))
    peer.publish(1, name, "k", b"pipelined", mandatory=True)
    peer.method(1, spec.Basic.Get(queue=name, no_ack=True))
    peer.method(1, spec.Queue.Delete(queue=name))
    peer.expect(spec.Exchange.DeclareOk, 1)
    peer.expect(spec.Queue.DeclareOk, 1)
    peer.expect(spec.Queue.BindOk, 1)
    assert peer.content(spec.Basic.GetOk).body == b"pipelined"
    assert peer.expect(spec.Queue.DeleteOk, 1).message_count == 0


def test_flow_true(peer) -> None:
    peer.open().open_channel()
    peer.method(1, spec.Channel.Flow(active=True))
    assert peer.expect(spec.Channel.FlowOk, 1).active is True


def test_access_request(peer) -> None:
    peer.open().open_channel()
    # access.request: realm, exclusive, passive, active, write, read.
    peer.send(wire.frame(wire.METHOD, 1, b"\x00\x1e\x00\x0a" + wire.short("/data") + b"\x1c"))
    got = peer.receive()
    assert got.payload[:4] == b"\x00\x1e\x00\x0b"
    assert got.payload[4:] == b"\x00\x01"


def test_open_ok_and_many_channels(peer) -> None:
    peer.open()
    numbers = [1, 2047, *range(100, 300)]
    for number in numbers:
        peer.method(number, spec.Channel.Open())
    opened = set()
    for _ in numbers:
        frame = peer.receive()
        assert isinstance(frame.method, spec.Channel.OpenOk)
        opened.add(frame.channel)
    assert opened == set(numbers)


def test_a_closing_channel_ignores_what_follows(peer, name) -> None:
    peer.open().open_channel()
    peer.method(1, spec.Queue.Declare(queue=name, passive=True))
    peer.publish(1, "", name, b"never")
    peer.method(1, spec.Queue.Declare(queue=name))
    peer.method(1, spec.Basic.Ack(delivery_tag=99))
    peer.expect_channel_close(1, 404)
    peer.open_channel(1)
    peer.method(1, spec.Queue.Declare(queue=name, passive=True))
    peer.expect_channel_close(1, 404)


def test_both_close_at_once(peer, name) -> None:
    """Our channel.close crosses the broker's; each side answers the other's."""
    peer.open().open_channel()
    peer.method(1, spec.Queue.Declare(queue=name, passive=True))
    peer.method(1, spec.Channel.Close(200, "", 0, 0))
    seen = set()
    first = peer.receive().method
    seen.add(type(first))
    assert isinstance(first, spec.Channel.Close)
    assert isinstance(peer.receive().method, spec.Channel.CloseOk)
    peer.method(1, spec.Channel.CloseOk())
    peer.open_channel(1)
