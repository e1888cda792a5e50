"""basic.publish: mandatory, what is refused, order, and publishing across nodes."""

from __future__ import annotations

import pika
import pytest
from pika import spec

from harness import amqp, wire
from harness.amqp import Consumer, channel_error


def test_publish_reaches_a_consumer_on_every_other_node(connect, name, durable) -> None:
    channels = [connect(node).channel() for node in range(3)]
    channels[0].queue_declare(name, durable=durable)
    publishers = [amqp.confirmed(connect(node)) for node in range(3)]
    for channel in channels:
        consumer = Consumer(channel, name, auto_ack=True)
        for node, publisher in enumerate(publishers):
            publisher.basic_publish("", name, b"from %d" % node, amqp.PERSISTENT)
            assert consumer.next().body == b"from %d" % node
        consumer.cancel()


def test_messages_of_one_channel_stay_in_order(pub, sub, connect, name, durable) -> None:
    pub.queue_declare(name, durable=durable)
    plain = pub.connection.channel()
    for i in range(1000):
        plain.basic_publish("", name, b"%d" % i, amqp.PERSISTENT)
    consumer = Consumer(sub, name, auto_ack=True)
    consumer.wait(1000)
    assert consumer.bodies == [b"%d" % i for i in range(1000)]


def test_unroutable_is_dropped(pub, name) -> None:
    pub.basic_publish("", name, b"gone")
    pub.exchange_declare(name, "direct")
    pub.basic_publish(name, "no such key", b"gone")


def test_mandatory_unroutable_comes_back(connect, name) -> None:
    connection = connect(0)
    channel = connection.channel()
    returned = []
    channel.add_on_return_callback(lambda *arguments: returned.append(arguments[1:]))
    channel.exchange_declare(name, "direct")
    properties = pika.BasicProperties(
        content_type="text/plain", headers={"h": [1, "x"]}, message_id="m-1", delivery_mode=2
    )
    channel.basic_publish(name, "nowhere", b"the body", properties, mandatory=True)
    channel.basic_publish(name, "nowhere", b"", None, mandatory=True)
    amqp.pump(connection, lambda: len(returned) == 2)
    method, back, body = returned[0]
    assert (method.reply_code, method.reply_text) == (312, "NO_ROUTE")
    assert (method.exchange, method.routing_key) == (name, "nowhere")
    assert back == properties
    assert body == b"the body"
    assert returned[1][2] == b""


def test_mandatory_routed_does_not_come_back(pub, sub, name) -> None:
    pub.queue_declare(name)
    pub.basic_publish("", name, b"x", mandatory=True)
    assert amqp.get_all(sub, name, 1) == [b"x"]


def test_return_comes_before_the_confirm(peer, name) -> None:
    peer.open().open_channel()
    peer.method(1, spec.Confirm.Select())
    peer.expect(spec.Confirm.SelectOk, 1)
    for tag in (1, 2):
        peer.publish(1, "", name, b"%d" % tag, mandatory=True)
        back = peer.content(spec.Basic.Return)
        assert back.body == b"%d" % tag
        ack = peer.expect(spec.Basic.Ack, 1)
        assert ack.delivery_tag == tag


def test_immediate_is_refused(peer, name) -> None:
    peer.open().open_channel().declare(1, name, auto_delete=True)
    peer.publish(1, "", name, b"x", immediate=True)
    close = peer.expect_close(540, "NOT_IMPLEMENTED - immediate=true")
    assert (close.class_id, close.method_id) == (60, 40)


def test_user_id_has_to_be_the_login(pub, sub, name) -> None:
    pub.queue_declare(name)
    pub.basic_publish("", name, b"x", pika.BasicProperties(user_id="guest"))
    assert amqp.get(sub, name).properties.user_id == "guest"
    with channel_error(
        406,
        "PRECONDITION_FAILED - user_id property set to 'mallory' but authenticated user was 'guest'",
    ):
        pub.basic_publish("", name, b"x", pika.BasicProperties(user_id="mallory"))


@pytest.mark.parametrize(
    ("expiration", "why"),
    [
        ("abc", "no_integer"),
        ("5ms", '{leftover_string,"ms"}'),
        ("-1", "{value_negative,-1}"),
    ],
)
def test_bad_expiration(pub, name, expiration, why) -> None:
    pub.queue_declare(name)
    with channel_error(406, f"PRECONDITION_FAILED - invalid expiration '{expiration}': {why}"):
        pub.basic_publish("", name, b"x", pika.BasicProperties(expiration=expiration))


def test_body_in_many_small_frames(peer, sub, name) -> None:
    """Any split of the body is legal, empty frames included."""
    peer.open().open_channel().declare(1, name)
    body = bytes(range(256)) * 3
    peer.method(1, spec.Basic.Publish(exchange="", routing_key=name))
    import struct

    head = struct.pack(">HHQ", 60, 0, len(body)) + wire.NO_PROPERTIES
    peer.send(wire.frame(wire.HEADER, 1, head))
    for start in range(0, len(body), 7):
        peer.send(wire.frame(wire.BODY, 1, body[start : start + 7]))
    assert amqp.get(sub, name).body == body


def test_interleaved_channels(peer, sub, name) -> None:
    """Frames of two publishes on two channels may alternate."""
    import struct

    peer.open().open_channel(1).open_channel(2).declare(1, name)
    for channel in (1, 2):
        peer.method(channel, spec.Basic.Publish(exchange="", routing_key=name))
    for channel in (1, 2):
        head = struct.pack(">HHQ", 60, 0, 4) + wire.NO_PROPERTIES
        peer.send(wire.frame(wire.HEADER, channel, head))
    for part in range(2):
        for channel in (1, 2):
            peer.send(wire.frame(wire.BODY, channel, b"%d%d" % (channel, part)))
    bodies = sorted([amqp.get(sub, name, auto_ack=True).body for _ in range(2)])
    assert bodies == [b"1011", b"2021"]


def test_published_just_before_close_is_kept(connect, sub, name, durable) -> None:
    """A client that publishes and closes the connection properly has published."""
    sub.queue_declare(name, durable=durable)
    for round_ in range(5):
        connection = connect(0)
        channel = connection.channel()
        for i in range(20):
            channel.basic_publish("", name, b"%d.%d" % (round_, i), amqp.PERSISTENT)
        connection.close()
    expected = [b"%d.%d" % (r, i) for r in range(5) for i in range(20)]
    consumer = Consumer(sub, name, auto_ack=True)
    consumer.wait(len(expected))
    assert consumer.bodies == expected


def test_one_message_to_queues_of_every_kind(pub, sub, names) -> None:
    """Replicated queues of several shards and local ones get the same message; one confirm."""
    exchange = names()
    pub.exchange_declare(exchange, "fanout")
    queues = [names() for _ in range(12)]
    for index, queue in enumerate(queues):
        pub.queue_declare(queue, durable=index % 3 != 0)
        pub.queue_bind(queue, exchange)
    for i in range(5):
        pub.basic_publish(exchange, "", b"%d" % i, amqp.PERSISTENT)
    for queue in queues:
        assert amqp.get_all(sub, queue, 5) == [b"%d" % i for i in range(5)]
