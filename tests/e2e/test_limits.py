"""x-max-length, x-max-length-bytes and x-overflow."""

from __future__ import annotations

import pika
import pytest

from harness import amqp


def test_drop_head(pub, sub, name, durable) -> None:
    pub.queue_declare(name, durable=durable, arguments={"x-max-length": 3})
    amqp.fill(pub, name, [b"%d" % i for i in range(10)])
    amqp.wait_ready_count(sub, name, 3)
    assert amqp.get_all(sub, name, 3) == [b"7", b"8", b"9"]


def test_bytes(pub, sub, name, durable) -> None:
    pub.queue_declare(name, durable=durable, arguments={"x-max-length-bytes": 100})
    amqp.fill(pub, name, [b"a" * 40, b"b" * 40, b"c" * 40])
    amqp.wait_ready_count(sub, name, 2)
    amqp.fill(pub, name, [b"d" * 101])  # Alone above the limit: nothing is left.
    amqp.wait_ready_count(sub, name, 0)


def test_both_limits(pub, sub, name, durable) -> None:
    pub.queue_declare(
        name, durable=durable, arguments={"x-max-length": 5, "x-max-length-bytes": 10}
    )
    amqp.fill(pub, name, [b"x"] * 8)
    amqp.wait_ready_count(sub, name, 5)
    amqp.fill(pub, name, [b"12345678"])
    amqp.wait_ready_count(sub, name, 3)


def test_unacknowledged_messages_do_not_count(pub, sub, name, durable) -> None:
    pub.queue_declare(name, durable=durable, arguments={"x-max-length": 2})
    amqp.fill(pub, name, [b"1", b"2"])
    held = [amqp.get(sub, name) for _ in range(2)]
    amqp.fill(pub, name, [b"3", b"4"])
    amqp.wait_ready_count(pub, name, 2)
    for message in held:
        sub.basic_ack(message.tag)
    assert amqp.get_all(sub, name, 2) == [b"3", b"4"]


def test_zero_delivers_to_waiting_consumers_only(pub, sub, name, durable) -> None:
    pub.queue_declare(name, durable=durable, arguments={"x-max-length": 0})
    amqp.fill(pub, name, [b"nobody"])
    amqp.wait_ready_count(sub, name, 0)
    consumer = amqp.Consumer(sub, name)
    amqp.sync(sub)
    amqp.fill(pub, name, [b"somebody"])
    assert consumer.next().body == b"somebody"


def test_reject_publish(pub, sub, name, durable) -> None:
    pub.queue_declare(
        name, durable=durable, arguments={"x-max-length": 2, "x-overflow": "reject-publish"}
    )
    accepted, refused = [], 0
    for i in range(30):
        try:
            pub.basic_publish("", name, b"%d" % i, amqp.PERSISTENT)
            accepted.append(b"%d" % i)
        except pika.exceptions.NackError:
            refused += 1
    assert refused >= 27, "at most a slight overshoot"
    assert accepted[:2] == [b"0", b"1"]
    assert amqp.get_all(sub, name, len(accepted)) == accepted
    pub.basic_publish("", name, b"room again", amqp.PERSISTENT)
    assert amqp.get_all(sub, name, 1) == [b"room again"]


def test_reject_publish_to_one_of_two_queues(pub, sub, names) -> None:
    """Nacked if any refuses; the other one may have it."""
    exchange, full, free = names(), names(), names()
    pub.exchange_declare(exchange, "fanout")
    pub.queue_declare(
        full, durable=True, arguments={"x-max-length": 1, "x-overflow": "reject-publish"}
    )
    pub.queue_declare(free, durable=True)
    for queue in (full, free):
        pub.queue_bind(queue, exchange)
    pub.basic_publish(exchange, "", b"1", amqp.PERSISTENT)
    with pytest.raises(pika.exceptions.NackError):
        pub.basic_publish(exchange, "", b"2", amqp.PERSISTENT)
    assert amqp.get_all(sub, full, 1) == [b"1"]


def test_reject_without_confirms_is_silent(pub, sub, name, durable) -> None:
    plain = pub.connection.channel()
    plain.queue_declare(
        name, durable=durable, arguments={"x-max-length": 1, "x-overflow": "reject-publish"}
    )
    for i in range(5):
        plain.basic_publish("", name, b"%d" % i, amqp.PERSISTENT)
        amqp.wait_ready_count(plain, name, 1)
    assert amqp.get_all(sub, name, 1) == [b"0"]


@pytest.mark.parametrize("kind", ["classic", "transient", "quorum"])
def test_reject_publish_dlx(pub, sub, names, kind) -> None:
    exchange, queue, grave = names(), names(), names()
    pub.exchange_declare(exchange, "fanout")
    pub.queue_declare(grave)
    pub.queue_bind(grave, exchange)
    pub.queue_declare(
        queue,
        durable=kind != "transient",
        arguments={
            "x-queue-type": "quorum" if kind == "quorum" else "classic",
            "x-max-length": 1,
            "x-overflow": "reject-publish-dlx",
            "x-dead-letter-exchange": exchange,
        },
    )
    pub.basic_publish("", queue, b"kept", amqp.PERSISTENT)
    with pytest.raises(pika.exceptions.NackError):
        pub.basic_publish("", queue, b"refused", amqp.PERSISTENT)
    message = amqp.get(sub, grave)
    assert message.body == b"refused"
    assert message.properties.headers["x-death"][0]["reason"] == "maxlen"
    assert amqp.get_all(sub, queue, 1) == [b"kept"]


def test_a_full_queue_accepts_what_a_consumer_takes_at_once(pub, sub, name, durable) -> None:
    pub.queue_declare(
        name, durable=durable, arguments={"x-max-length": 1, "x-overflow": "reject-publish"}
    )
    consumer = amqp.Consumer(sub, name, auto_ack=True)
    amqp.sync(sub)
    plain = pub.connection.channel()
    # Fewer than are on their way to a consumer whose messages' size is not known yet.
    bodies = [b"%d" % i for i in range(40)]
    for body in bodies:
        plain.basic_publish("", name, body, amqp.PERSISTENT)
    consumer.wait(len(bodies))
    assert consumer.bodies == bodies


def test_limit_while_consumed(pub, sub, name, durable) -> None:
    """A consumer that keeps up sees everything although the limit is small."""
    pub.queue_declare(name, durable=durable, arguments={"x-max-length": 10})
    consumer = amqp.Consumer(sub, name, auto_ack=True)
    for i in range(200):
        pub.basic_publish("", name, b"%d" % i, amqp.PERSISTENT)
    consumer.wait(200)
    assert consumer.bodies == [b"%d" % i for i in range(200)]
