"""Queues: declaration, equivalence, deletion, purge, life cycle."""

from __future__ import annotations

import pika
import pytest

from harness import amqp, wire
from harness.amqp import Consumer, channel_error
from harness.wait import eventually


def test_declare_ok_of_a_new_queue(ch, name, durable) -> None:
    method = ch.queue_declare(name, durable=durable).method
    assert (method.queue, method.message_count, method.consumer_count) == (name, 0, 0)


def test_server_named(ch, sub) -> None:
    first = ch.queue_declare("").method.queue
    second = ch.queue_declare("").method.queue
    assert amqp.is_generated(first, "amq.gen-"), first
    assert first != second
    assert amqp.counts(sub, first) == (0, 0)
    ch.queue_delete(first)
    ch.queue_delete(second)


def test_the_last_declared_queue_stands_for_an_empty_name(pub, name) -> None:
    pub.queue_declare("")
    pub.queue_declare(name, durable=True)
    pub.basic_publish("", name, b"1")
    pub.basic_publish("", name, b"2")
    method, _, body = pub.basic_get("", auto_ack=True)
    assert body == b"1"
    consumer = Consumer(pub, "")
    assert consumer.next().body == b"2"
    consumer.cancel()
    assert pub.queue_purge("").method.message_count == 0
    pub.queue_delete("")
    with channel_error(404, f"NOT_FOUND - no queue '{name}' in vhost '/'"):
        pub.queue_declare(name, passive=True)


def test_counts_in_declare_ok(pub, sub, name, durable) -> None:
    """Ready messages only; all consumers of all nodes."""
    pub.queue_declare(name, durable=durable)
    amqp.fill(pub, name, [b"1", b"2", b"3"])
    assert amqp.counts(sub, name) == (3, 0)
    amqp.get(sub, name)
    assert amqp.counts(pub, name) == (2, 0)
    sub.basic_qos(prefetch_count=1)
    consumer = Consumer(sub, name)
    consumer.wait(1)
    Consumer(pub, name).wait(1)
    method = pub.queue_declare(name, durable=durable).method
    assert (method.message_count, method.consumer_count) == (0, 2)


def test_redeclare_is_harmless(pub, sub, name, durable) -> None:
    arguments = {"x-some-argument": "stored"}
    pub.queue_declare(name, durable=durable, arguments=arguments)
    amqp.fill(pub, name, [b"kept"])
    # What the broker does not know is stored and never compared.
    sub.queue_declare(name, durable=durable, arguments={"x-some-argument": 7})
    sub.queue_declare(name, durable=durable)
    assert amqp.get_all(sub, name, 1) == [b"kept"]


@pytest.mark.parametrize(
    ("first", "again", "text"),
    [
        ({"durable": True}, {"durable": False},
         "inequivalent arg 'durable' for queue '{q}' in vhost '/': received 'false' but current is 'true'"),
        ({"durable": False}, {"durable": True},
         "inequivalent arg 'durable' for queue '{q}' in vhost '/': received 'true' but current is 'false'"),
        ({"auto_delete": False}, {"auto_delete": True},
         "inequivalent arg 'auto_delete' for queue '{q}' in vhost '/': received 'true' but current is 'false'"),
        ({"arguments": {"x-message-ttl": 1000000}}, {"arguments": {"x-message-ttl": 2000000}},
         "inequivalent arg 'x-message-ttl' for queue '{q}' in vhost '/': received '2000000' but current is '1000000'"),
        ({"arguments": {"x-expires": 1000000}}, {},
         "inequivalent arg 'x-expires' for queue '{q}' in vhost '/': received none but current is the value '1000000' of type 'signedint'"),
        ({}, {"arguments": {"x-max-length": 1000000}},
         "inequivalent arg 'x-max-length' for queue '{q}' in vhost '/': received the value '1000000' of type 'signedint' but current is none"),
        ({"arguments": {"x-dead-letter-exchange": "a"}}, {"arguments": {"x-dead-letter-exchange": "b"}},
         "inequivalent arg 'x-dead-letter-exchange' for queue '{q}' in vhost '/': received 'b' but current is 'a'"),
        ({"arguments": {"x-max-priority": 5}}, {"arguments": {"x-max-priority": 6}},
         "inequivalent arg 'x-max-priority' for queue '{q}' in vhost '/': received '6' but current is '5'"),
        ({"arguments": {"x-overflow": "reject-publish"}}, {"arguments": {"x-overflow": "drop-head"}},
         "inequivalent arg 'x-overflow' for queue '{q}' in vhost '/': received 'drop-head' but current is 'reject-publish'"),
        ({"arguments": {"x-single-active-consumer": True}}, {},
         "inequivalent arg 'x-single-active-consumer' for queue '{q}' in vhost '/': received none but current is the value 'true' of type 'bool'"),
        ({"durable": True, "arguments": {"x-queue-type": "quorum"}}, {"durable": True},
         "inequivalent arg 'x-queue-type' for queue '{q}' in vhost '/': received 'classic' but current is 'quorum'"),
    ],
    ids=["durable", "transient", "auto-delete", "ttl", "argument-missing", "argument-new", "dlx",
         "priority", "overflow", "bool", "type"],
)  # fmt: skip
def test_redeclare_with_other_properties(ch, sub, name, first, again, text) -> None:
    ch.queue_declare(name, **first)
    with channel_error(406, "PRECONDITION_FAILED - " + text.format(q=name)):
        sub.queue_declare(name, **again)


def test_integer_widths_do_not_matter(peer, name) -> None:
    """I 60000 = l 60000 = i 60000 = s …: the value is compared, not the letter."""
    peer.open().open_channel()
    head = b"\x00\x32\x00\x0a" + b"\x00\x00" + wire.short(name) + b"\x02"
    from pika import spec

    for value in (
        b"I\x00\x00\x4e\x20",
        b"l" + bytes(6) + b"\x4e\x20",
        b"i\x00\x00\x4e\x20",
        b"s\x4e\x20",
    ):
        arguments = wire.table([("x-message-ttl", value)])
        peer.send(wire.frame(wire.METHOD, 1, head + arguments))
        peer.expect(spec.Queue.DeclareOk, 1)


def test_classic_type_equals_none(ch, name) -> None:
    ch.queue_declare(name, durable=True)
    ch.queue_declare(name, durable=True, arguments={"x-queue-type": "classic"})


def test_legacy_arguments_are_accepted(ch, name) -> None:
    ch.queue_declare(
        name,
        durable=True,
        arguments={"x-queue-mode": "lazy", "x-queue-version": 2},
    )


@pytest.mark.warren_only("not an argument of classic queues before RabbitMQ 3.12")
@pytest.mark.parametrize("locator", ["client-local", "balanced"])
def test_leader_locator_is_accepted(ch, name, locator) -> None:
    ch.queue_declare(name, durable=True, arguments={"x-queue-leader-locator": locator})


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"x-message-ttl": "60"}, "invalid arg 'x-message-ttl' for queue '{q}' in vhost '/': \"expected integer, got longstr\""),
        ({"x-message-ttl": -1}, "invalid arg 'x-message-ttl' for queue '{q}' in vhost '/': {{value_negative,-1}}"),
        ({"x-expires": 0}, "invalid arg 'x-expires' for queue '{q}' in vhost '/': {{value_zero,0}}"),
        ({"x-expires": -5}, "invalid arg 'x-expires' for queue '{q}' in vhost '/': {{value_negative,-5}}"),
        ({"x-max-length": -1}, "invalid arg 'x-max-length' for queue '{q}' in vhost '/': {{value_negative,-1}}"),
        ({"x-max-length": "many"}, "invalid arg 'x-max-length' for queue '{q}' in vhost '/': \"expected integer, got longstr\""),
        ({"x-max-priority": 300}, "invalid arg 'x-max-priority' for queue '{q}' in vhost '/': {{max_value_exceeded,300}}"),
        ({"x-overflow": "explode"}, "invalid arg 'x-overflow' for queue '{q}' in vhost '/': invalid_overflow"),
        ({"x-dead-letter-routing-key": "k"}, "invalid arg 'x-dead-letter-routing-key' for queue '{q}' in vhost '/': routing_key_but_no_dlx_defined"),
        pytest.param(
            {"x-dead-letter-exchange": 7},
            "invalid type 'signedint' for arg 'x-dead-letter-exchange' in queue '{q}' in vhost '/'",
            marks=pytest.mark.warren_only("RabbitMQ 3.10 worded it otherwise"),
        ),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)  # fmt: skip
def test_invalid_arguments(ch, name, arguments, text) -> None:
    with channel_error(406, "PRECONDITION_FAILED - " + text.format(q=name)):
        ch.queue_declare(name, arguments=arguments)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"durable": True, "exclusive": True},
         "invalid property 'exclusive-owner' for queue '{q}' in vhost '/'"),
        ({"durable": True, "auto_delete": True}, "invalid property 'auto-delete' for queue '{q}' in vhost '/'"),
        ({"durable": False}, "invalid property 'non-durable' for queue '{q}' in vhost '/'"),
    ],
    ids=["exclusive", "auto-delete", "transient"],
)  # fmt: skip
def test_quorum_refuses(ch, name, options, text) -> None:
    with channel_error(406, "PRECONDITION_FAILED - " + text.format(q=name)):
        ch.queue_declare(name, arguments={"x-queue-type": "quorum"}, **options)


def test_quorum_type_works_like_any_durable_queue(pub, sub, name) -> None:
    pub.queue_declare(name, durable=True, arguments={"x-queue-type": "quorum"})
    pub.queue_declare(name, durable=True, arguments={"x-queue-type": "quorum"})
    amqp.fill(pub, name, [b"1", b"2"])
    consumer = Consumer(sub, name)
    assert [m.body for m in consumer.wait(2)] == [b"1", b"2"]


def test_purge_removes_ready_messages_only(pub, sub, name, durable) -> None:
    pub.queue_declare(name, durable=durable)
    amqp.fill(pub, name, [b"held", b"2", b"3"])
    held = amqp.get(sub, name)
    assert pub.queue_purge(name).method.message_count == 2
    assert pub.queue_purge(name).method.message_count == 0
    sub.basic_nack(held.tag)
    again = amqp.get(sub, name, auto_ack=True)
    assert (again.body, again.redelivered) == (b"held", True)
    amqp.fill(pub, name, [b"new"])
    assert amqp.get_all(sub, name, 1) == [b"new"]


def test_delete_tells_how_many(pub, sub, name, durable) -> None:
    pub.queue_declare(name, durable=durable)
    amqp.fill(pub, name, [b"1", b"2"])
    assert sub.queue_delete(name).method.message_count == 2
    assert sub.queue_delete(name).method.message_count == 0  # Missing: still ok.
    with channel_error(404, f"NOT_FOUND - no queue '{name}' in vhost '/'"):
        pub.queue_declare(name, passive=True)


def test_deleted_and_declared_again_is_empty(pub, sub, name, durable) -> None:
    for round_ in range(5):
        pub.queue_declare(name, durable=durable)
        assert amqp.counts(sub, name) == (0, 0)
        amqp.fill(pub, name, [b"%d" % round_] * 3)
        sub.queue_delete(name)


def test_delete_if_unused(pub, sub, connect, name, durable) -> None:
    pub.queue_declare(name, durable=durable)
    consumer = Consumer(sub, name)
    with channel_error(406, f"PRECONDITION_FAILED - queue '{name}' in vhost '/' in use"):
        pub.queue_delete(name, if_unused=True)
    consumer.cancel()
    other = connect(2).channel()
    other.queue_delete(name, if_unused=True)
    with channel_error(404):
        other.queue_declare(name, passive=True)


def test_delete_if_empty(pub, sub, connect, name, durable) -> None:
    pub.queue_declare(name, durable=durable)
    amqp.fill(pub, name, [b"1"])
    with channel_error(406, f"PRECONDITION_FAILED - queue '{name}' in vhost '/' not empty"):
        sub.queue_delete(name, if_empty=True)
    other = connect(2).channel()
    assert amqp.get_all(other, name, 1) == [b"1"]
    other.queue_delete(name, if_empty=True)


def test_auto_delete_goes_with_its_last_consumer(ch, sub, connect, name, durable) -> None:
    ch.queue_declare(name, durable=durable, auto_delete=True)
    ch.basic_get(name)  # Does not count as a consumer.
    amqp.sync(ch)
    assert amqp.counts(sub, name) == (0, 0)
    first = Consumer(ch, name)
    other = connect(2)
    Consumer(other.channel(), name)
    first.cancel()
    assert amqp.counts(sub, name) == (0, 1)
    other.close()

    def gone() -> bool:
        channel = sub.connection.channel()
        try:
            channel.queue_declare(name, passive=True)
        except pika.exceptions.ChannelClosedByBroker as error:
            assert error.reply_code == 404
            return True
        channel.close()
        return False

    eventually(gone, what="the auto-delete queue is gone")


def test_auto_delete_after_cancel_is_gone_at_once(ch, sub, name, durable) -> None:
    """Who cancelled the last consumer does not find the queue any more."""
    ch.queue_declare(name, durable=durable, auto_delete=True)
    consumer = Consumer(ch, name)
    consumer.cancel()

    def gone() -> bool:
        channel = sub.connection.channel()
        try:
            channel.queue_declare(name, passive=True)
        except pika.exceptions.ChannelClosedByBroker:
            return True
        channel.close()
        return False

    eventually(gone, what="the auto-delete queue is gone")
    # The name is free for another kind of queue.
    ch.queue_declare(name, durable=not durable)


def test_deleting_a_queue_removes_its_bindings(pub, sub, name, durable) -> None:
    pub.exchange_declare(name, "fanout")
    pub.queue_declare(name, durable=durable)
    pub.queue_bind(name, name)
    pub.queue_delete(name)
    pub.queue_declare(name, durable=durable)
    with pytest.raises(pika.exceptions.UnroutableError):
        pub.basic_publish(name, "", b"x", mandatory=True)


def test_expires_when_unused(ch, sub, name, durable) -> None:
    ch.queue_declare(name, durable=durable, arguments={"x-expires": 300})

    checker = amqp.confirmed(ch.connection)

    def gone() -> bool:
        # Not a redeclare nor a get of this queue: those would count as use.
        try:
            checker.basic_publish("", name, b"x", mandatory=True)
        except pika.exceptions.UnroutableError:
            return True
        return False

    eventually(gone, what="the unused queue has expired")


def test_does_not_expire_while_consumed(ch, sub, pub, name, durable) -> None:
    ch.queue_declare(name, durable=durable, arguments={"x-expires": 400})
    consumer = Consumer(sub, name, auto_ack=True)
    # A queue of the same age without a consumer tells when the time has passed.
    ch.queue_declare(name + "-clock", arguments={"x-expires": 1200})

    def passed() -> bool:
        try:
            pub.basic_publish("", name + "-clock", b"", mandatory=True)
        except pika.exceptions.UnroutableError:
            return True
        return False

    eventually(passed, what="the other queue has expired")
    pub.basic_publish("", name, b"still here", mandatory=True)
    assert consumer.next().body == b"still here"


def test_nowait(broker, ch, name) -> None:
    """nowait: no answer, but done; what follows on the channel sees it."""
    from pika import spec

    with broker.peer(1) as peer:
        peer.open().open_channel()
        peer.method(1, spec.Exchange.Declare(exchange=name, type="fanout", nowait=True))
        peer.method(1, spec.Queue.Declare(queue=name, nowait=True))
        peer.method(1, spec.Queue.Bind(queue=name, exchange=name, routing_key="", nowait=True))
        peer.method(1, spec.Basic.Consume(queue=name, consumer_tag="t", no_ack=True, nowait=True))
        peer.publish(1, name, "", b"x")
        assert peer.content(spec.Basic.Deliver).body == b"x"
        peer.method(1, spec.Basic.Cancel(consumer_tag="t", nowait=True))
        peer.method(1, spec.Queue.Purge(queue=name, nowait=True))
        peer.method(1, spec.Queue.Delete(queue=name, nowait=True))
        peer.method(1, spec.Exchange.Delete(exchange=name, nowait=True))
        peer.method(1, spec.Queue.Declare(queue=name, passive=True, nowait=True))
        peer.expect_channel_close(1, 404, f"NOT_FOUND - no queue '{name}' in vhost '/'")


def test_many_queues_on_one_channel(ch, sub, names) -> None:
    queues = [names() for _ in range(60)]
    for index, queue in enumerate(queues):
        ch.queue_declare(queue, durable=index % 2 == 0)
    for queue in queues:
        assert amqp.counts(sub, queue) == (0, 0)
    for queue in queues:
        sub.queue_delete(queue)
