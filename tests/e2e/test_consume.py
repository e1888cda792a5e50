"""basic.consume, deliver and cancel."""

from __future__ import annotations

import pika
import pytest
from pika import spec

from harness import amqp
from harness.amqp import Consumer, channel_error, connection_error
from harness.wait import eventually


def test_generated_consumer_tag(peer, name) -> None:
    peer.open().open_channel().declare(1, name)
    peer.method(1, spec.Basic.Consume(queue=name))
    tag = peer.expect(spec.Basic.ConsumeOk, 1).consumer_tag
    assert amqp.is_generated(tag, "amq.ctag-"), tag


def test_consume_ok_before_the_first_delivery(peer, pub, name, durable) -> None:
    pub.queue_declare(name, durable=durable)
    amqp.fill(pub, name, [b"waiting"])
    peer.open().open_channel()
    peer.method(1, spec.Basic.Consume(queue=name, consumer_tag="mine"))
    assert peer.expect(spec.Basic.ConsumeOk, 1).consumer_tag == "mine"
    delivery = peer.content(spec.Basic.Deliver)
    assert delivery.body == b"waiting"
    method = delivery.method
    assert (method.consumer_tag, method.delivery_tag, method.redelivered) == ("mine", 1, False)
    assert (method.exchange, method.routing_key) == ("", name)


def test_nothing_after_cancel_ok(peer, pub, name, durable) -> None:
    pub.queue_declare(name, durable=durable)
    peer.open().open_channel()
    peer.method(1, spec.Basic.Consume(queue=name, consumer_tag="t", no_ack=True))
    peer.expect(spec.Basic.ConsumeOk, 1)
    for i in range(200):
        pub.basic_publish("", name, b"%d" % i)
        if i == 100:
            peer.method(1, spec.Basic.Cancel(consumer_tag="t"))
    seen = []
    while True:
        frame = peer.receive()
        if frame.kind == 1:
            if isinstance(frame.method, spec.Basic.CancelOk):
                break
            assert isinstance(frame.method, spec.Basic.Deliver)
        elif frame.kind == 3:
            seen.append(frame.payload)
    rest = 200 - len(seen)
    assert seen == [b"%d" % i for i in range(len(seen))]
    # What was not delivered is still in the queue.
    assert amqp.get_all(pub, name, rest) == [b"%d" % i for i in range(len(seen), 200)]


def test_cancel_of_an_unknown_tag_succeeds(peer) -> None:
    peer.open().open_channel()
    peer.method(1, spec.Basic.Cancel(consumer_tag="never was"))
    assert peer.expect(spec.Basic.CancelOk, 1).consumer_tag == "never was"


def test_cancel_leaves_deliveries_to_the_channel(pub, sub, name, durable) -> None:
    pub.queue_declare(name, durable=durable)
    amqp.fill(pub, name, [b"1", b"2"])
    consumer = Consumer(sub, name)
    first, second = consumer.wait(2)
    consumer.cancel()
    assert amqp.counts(pub, name) == (0, 0)
    sub.basic_ack(first.tag)
    sub.basic_nack(second.tag)
    again = amqp.get(pub, name, auto_ack=True)
    assert (again.body, again.redelivered) == (b"2", True)


def test_auto_delete_queue_is_gone_when_its_last_cancel_is_answered(
    pub, sub, connect, name, durable
) -> None:
    sub.queue_declare(name, durable=durable, auto_delete=True)
    first, last = Consumer(sub, name), Consumer(connect(2).channel(), name)
    first.cancel()
    assert amqp.counts(pub, name) == (0, 1)
    last.cancel()
    with channel_error(404, f"NOT_FOUND - no queue '{name}' in vhost '/'"):
        pub.queue_declare(name, passive=True)


@pytest.mark.parametrize("what", ["channel", "connection"])
def test_auto_delete_queue_is_gone_when_the_close_is_answered(broker, name, durable, what) -> None:
    """Asked for at once, and many times: otherwise it is a matter of who comes first."""
    with broker.peer(0) as probe:
        probe.open()
        for number in range(1, 21):
            probe.open_channel(number)
            with broker.peer(0) as client:
                client.open().open_channel()
                client.declare(1, name, durable=durable, auto_delete=True)
                client.method(1, spec.Basic.Consume(queue=name))
                client.expect(spec.Basic.ConsumeOk, 1)
                if what == "channel":
                    client.method(1, spec.Channel.Close(200, "", 0, 0))
                    client.expect(spec.Channel.CloseOk, 1)
                else:
                    client.method(0, spec.Connection.Close(200, "", 0, 0))
                    client.expect(spec.Connection.CloseOk, 0)
                probe.method(number, spec.Queue.Declare(queue=name, passive=True))
                probe.expect_channel_close(number, 404)


def test_same_tag_twice_closes_the_connection(connect, name) -> None:
    channel = connect(0).channel()
    channel.queue_declare(name, auto_delete=True)
    Consumer(channel, name, consumer_tag="t")
    with connection_error(530, "NOT_ALLOWED - attempt to reuse consumer tag 't'"):
        # Past pika's own check for the same.
        channel._impl._consumers.clear()
        channel._consumer_infos.clear()
        channel.basic_consume(name, lambda *_: None, consumer_tag="t")


def test_tags_belong_to_channels(connect, name) -> None:
    connection = connect(0)
    connection.channel().queue_declare(name)
    for _ in range(2):
        Consumer(connection.channel(), name, consumer_tag="same")


def test_round_robin_is_fair(pub, connect, name, durable) -> None:
    """Three idle consumers on three nodes share evenly."""
    pub.queue_declare(name, durable=durable)
    consumers = []
    for node in range(3):
        channel = connect(node).channel()
        channel.basic_qos(prefetch_count=10)
        consumers.append(Consumer(channel, name))
    for i in range(30):
        pub.basic_publish("", name, b"%d" % i)
    for consumer in consumers:
        consumer.wait(10)
        assert len(consumer.messages) == 10
    everything = sorted(int(b) for c in consumers for b in c.bodies)
    assert everything == list(range(30))
    for consumer in consumers:
        numbers = [int(b) for b in consumer.bodies]
        assert numbers == sorted(numbers)


def test_no_ack_settles_on_delivery(pub, sub, connect, name, durable) -> None:
    pub.queue_declare(name, durable=durable)
    amqp.fill(pub, name, [b"%d" % i for i in range(10)])
    connection = connect(1)
    consumer = Consumer(connection.channel(), name, auto_ack=True)
    consumer.wait(10)
    connection.close()
    amqp.wait_ready_count(pub, name, 0)
    assert amqp.get_all(sub, name, 0) == []


def test_delivery_tags_count_per_channel(pub, connect, name) -> None:
    pub.queue_declare(name)
    amqp.fill(pub, name, [b"%d" % i for i in range(6)])
    channel = connect(1).channel()
    assert amqp.get(channel, name).tag == 1
    consumer = Consumer(channel, name)
    consumer.wait(5)
    assert [m.tag for m in consumer.messages] == [2, 3, 4, 5, 6]
    assert amqp.counts(pub, name)[0] == 0
    other = connect(1).channel()
    amqp.fill(pub, name, [b"x"])
    channel.connection.process_data_events(time_limit=0)
    assert other.is_open


def test_lost_connection_requeues_in_order(pub, connect, sub, name, durable) -> None:
    """A client that dies gives back what it held, in the old order, flagged as redelivered."""
    pub.queue_declare(name, durable=durable)
    amqp.fill(pub, name, [b"%d" % i for i in range(10)])
    victim = connect(2)
    consumer = Consumer(victim.channel(), name)
    consumer.wait(10)
    consumer.ack(consumer.messages[0])
    consumer.ack(consumer.messages[4])
    amqp.sync(consumer.channel)
    amqp.drop(victim)
    survivor = Consumer(sub, name)
    survivor.wait(8)
    assert survivor.bodies == [b"1", b"2", b"3", b"5", b"6", b"7", b"8", b"9"]
    assert all(m.redelivered for m in survivor.messages)


def test_closed_channel_requeues(pub, connect, sub, name, durable) -> None:
    pub.queue_declare(name, durable=durable)
    amqp.fill(pub, name, [b"a", b"b"])
    connection = connect(0)
    channel = connection.channel()
    Consumer(channel, name).wait(2)
    channel.close()
    again = [amqp.get(sub, name, auto_ack=True) for _ in range(2)]
    assert [(m.body, m.redelivered) for m in again] == [(b"a", True), (b"b", True)]


def test_exclusive_consumer(pub, sub, connect, name, durable) -> None:
    pub.queue_declare(name, durable=durable)
    holder = Consumer(sub, name, exclusive=True)
    with channel_error(403, f"ACCESS_REFUSED - queue '{name}' in vhost '/' in exclusive use"):
        Consumer(connect(2).channel(), name)
    with channel_error(403, f"ACCESS_REFUSED - queue '{name}' in vhost '/' in exclusive use"):
        Consumer(connect(0).channel(), name, exclusive=True)
    amqp.fill(pub, name, [b"x"])
    assert holder.next().body == b"x"
    holder.cancel()
    other = Consumer(connect(2).channel(), name)
    with channel_error(403, f"ACCESS_REFUSED - queue '{name}' in vhost '/' in exclusive use"):
        Consumer(sub, name, exclusive=True)
    other.cancel()


def test_exclusive_consumer_lost_frees_the_queue(pub, connect, name, durable) -> None:
    pub.queue_declare(name, durable=durable)
    victim = connect(1)
    Consumer(victim.channel(), name, exclusive=True)
    amqp.drop(victim)

    def free() -> Consumer | None:
        try:
            return Consumer(connect(2).channel(), name, exclusive=True)
        except pika.exceptions.ChannelClosedByBroker as error:
            assert error.reply_code == 403
            return None

    eventually(free, what="the exclusive consumer is gone")


def test_consumer_priority(pub, connect, name, durable) -> None:
    """The higher one gets everything while it has credit; then the lower one."""
    pub.queue_declare(name, durable=durable)
    low_channel, high_channel = connect(1).channel(), connect(2).channel()
    for channel in (low_channel, high_channel):
        channel.basic_qos(prefetch_count=3)
    low = Consumer(low_channel, name)
    high = Consumer(high_channel, name, arguments={"x-priority": 10})
    for i in range(5):
        pub.basic_publish("", name, b"%d" % i)
    high.wait(3)
    low.wait(2)
    assert high.bodies == [b"0", b"1", b"2"]
    assert low.bodies == [b"3", b"4"]
    high.ack(high.messages[0])
    # A question to the queue itself, which may live on another node, comes after what it is told before.
    high_channel.queue_declare(name, passive=True)
    pub.basic_publish("", name, b"5")
    high.wait(4)
    assert high.bodies[-1] == b"5"


def test_slow_consumer_does_not_hold_up_another_queue(pub, connect, names) -> None:
    """One connection, two channels; the one that does not read its messages is no brake."""
    stuck, flowing = names(), names()
    for queue in (stuck, flowing):
        pub.queue_declare(queue, durable=True)
    connection = connect(1)
    blocked = connection.channel()
    blocked.basic_qos(prefetch_count=1)
    Consumer(blocked, stuck)
    amqp.fill(pub, stuck, [b"x"] * 50)
    other = Consumer(connection.channel(), flowing, auto_ack=True)
    amqp.fill(pub, flowing, [b"%d" % i for i in range(50)])
    other.wait(50)
    assert other.bodies == [b"%d" % i for i in range(50)]


def test_backlog_is_delivered_in_order(pub, sub, name, durable) -> None:
    pub.queue_declare(name, durable=durable)
    plain = pub.connection.channel()
    body = bytes(1000)
    for i in range(3000):
        plain.basic_publish("", name, b"%06d" % i + body, amqp.PERSISTENT)
    amqp.wait_ready_count(sub, name, 3000)
    sub.basic_qos(prefetch_count=100)
    consumer = Consumer(sub, name)
    taken = []
    while len(taken) < 3000:
        message = consumer.next()
        taken.append(int(message.body[:6]))
        if len(taken) % 50 == 0:
            consumer.ack(message, multiple=True)
    assert taken == list(range(3000))


def test_no_local_is_ignored(peer, name) -> None:
    peer.open().open_channel().declare(1, name)
    peer.method(1, spec.Basic.Consume(queue=name, no_local=True, no_ack=True))
    peer.expect(spec.Basic.ConsumeOk, 1)
    peer.publish(1, "", name, b"own")
    assert peer.content(spec.Basic.Deliver).body == b"own"


@pytest.mark.parametrize("count", [50])
def test_many_consumers_come_and_go(pub, connect, name, durable, count) -> None:
    pub.queue_declare(name, durable=durable)
    channel = connect(1).channel()
    consumers = [Consumer(channel, name, auto_ack=True) for _ in range(count)]
    assert amqp.counts(pub, name)[1] == count
    for i in range(count):
        pub.basic_publish("", name, b"%d" % i)
    amqp.pump(channel.connection, lambda: sum(len(c.messages) for c in consumers) == count)
    assert all(len(c.messages) == 1 for c in consumers)
    for consumer in consumers:
        consumer.cancel()
    assert amqp.counts(pub, name)[1] == 0
