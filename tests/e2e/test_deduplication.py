"""Deduplication: queues and exchanges that take a message with the same identity once."""

from __future__ import annotations

from typing import Any

import pika
import pytest

from harness import amqp
from harness.wait import eventually

pytestmark = pytest.mark.warren_only("as in LavinMQ; RabbitMQ has it as a community plugin")


def identified(identity: Any, **headers: Any) -> pika.BasicProperties:
    return pika.BasicProperties(
        headers={"x-deduplication-header": identity, **headers}, delivery_mode=2
    )


def arguments(size: int = 100, **more: Any) -> dict[str, Any]:
    return {"x-message-deduplication": True, "x-cache-size": size, **more}


def test_known_after_it_was_consumed(pub, sub, name, durable) -> None:
    """The window is of what was accepted, not of what is still there."""
    pub.queue_declare(name, durable=durable, arguments=arguments())
    pub.basic_publish("", name, b"first", identified("a"))
    assert amqp.get_all(sub, name, 1) == [b"first"]
    pub.basic_publish("", name, b"again", identified("a"))
    pub.basic_publish("", name, b"other", identified("b"))
    assert amqp.get_all(sub, name, 1) == [b"other"]


def test_bounded_by_size(pub, sub, name, durable) -> None:
    pub.queue_declare(name, durable=durable, arguments=arguments(size=2))
    for identity in ("a", "b", "a", "c", "a", "c"):
        pub.basic_publish("", name, identity.encode(), identified(identity))
    # c pushed a out, and a then pushed b out.
    assert amqp.get_all(sub, name, 4) == [b"a", b"b", b"c", b"a"]


def test_bounded_by_time(pub, sub, name, durable) -> None:
    pub.queue_declare(name, durable=durable, arguments=arguments(**{"x-cache-ttl": 300}))
    pub.queue_declare(name + "-long", durable=durable, arguments=arguments())
    for queue, headers in ((name, {}), (name + "-long", {"x-cache-ttl": 300})):
        pub.basic_publish("", queue, b"1", identified("a", **headers))

        def accepted_again(queue: str = queue, headers: dict[str, Any] = headers) -> bool:
            pub.basic_publish("", queue, b"2", identified("a", **headers))
            return amqp.counts(pub, queue)[0] == 2

        eventually(accepted_again, what="the identity is forgotten")
        assert amqp.get_all(sub, queue, 2) == [b"1", b"2"]


def test_header_of_its_own(pub, sub, name, durable) -> None:
    pub.queue_declare(
        name, durable=durable, arguments=arguments(**{"x-deduplication-header": "order"})
    )
    for order in (1, 2, 1, "1"):
        properties = pika.BasicProperties(headers={"order": order})
        pub.basic_publish("", name, str(order).encode(), properties)
    pub.basic_publish("", name, b"x", identified("same"))
    pub.basic_publish("", name, b"y", identified("same"))
    assert amqp.get_all(sub, name, 5) == [b"1", b"2", b"1", b"x", b"y"]


def test_exchange(pub, sub, names, durable) -> None:
    """An exchange remembers, for queues that remember nothing."""
    exchange, *queues = [names() for _ in range(3)]
    pub.exchange_declare(exchange, "direct", durable=True, arguments=arguments())
    for queue in queues:
        pub.queue_declare(queue, durable=durable)
        pub.queue_bind(queue, exchange, "k")
    for identity in ("a", "b", "a"):
        pub.basic_publish(exchange, "k", identity.encode(), identified(identity), mandatory=True)
    # The queue itself does not.
    pub.basic_publish("", queues[0], b"a", identified("a"))
    assert amqp.get_all(sub, queues[0], 3) == [b"a", b"b", b"a"]
    assert amqp.get_all(sub, queues[1], 2) == [b"a", b"b"]


def test_two_exchanges_are_apart(pub, sub, names) -> None:
    queue, *exchanges = [names() for _ in range(3)]
    pub.queue_declare(queue, durable=True)
    for exchange in exchanges:
        pub.exchange_declare(exchange, "fanout", durable=True, arguments=arguments())
        pub.queue_bind(queue, exchange)
        pub.basic_publish(exchange, "", exchange.encode(), identified("a"))
        pub.basic_publish(exchange, "", exchange.encode(), identified("a"))
    assert amqp.get_all(sub, queue, 2) == [exchange.encode() for exchange in exchanges]


def test_a_dead_letter_is_no_duplicate_of_itself(pub, sub, names, durable) -> None:
    """A message that comes back from a queue for retries is not lost."""
    work, retry = names(), names()
    pub.queue_declare(
        work,
        durable=durable,
        arguments=arguments(
            **{"x-dead-letter-exchange": "", "x-dead-letter-routing-key": retry}
        ),
    )
    pub.queue_declare(
        retry,
        durable=durable,
        arguments={
            "x-message-ttl": 1,
            "x-dead-letter-exchange": "",
            "x-dead-letter-routing-key": work,
        },
    )
    pub.basic_publish("", work, b"try", identified("a"))
    sub.basic_reject(amqp.get(sub, work).tag, requeue=False)
    again = amqp.get(sub, work, auto_ack=True)
    assert again.body == b"try"
    assert again.properties.headers["x-death"]


def test_a_full_queue_accepts_what_it_has(pub, sub, name, durable) -> None:
    full = arguments(**{"x-max-length": 1, "x-overflow": "reject-publish"})
    pub.queue_declare(name, durable=durable, arguments=full)
    pub.basic_publish("", name, b"a", identified("a"))
    pub.basic_publish("", name, b"a", identified("a"))  # Confirmed: it is there.
    with pytest.raises(pika.exceptions.NackError):
        pub.basic_publish("", name, b"b", identified("b"))
    assert amqp.get_all(sub, name, 1) == [b"a"]
    pub.basic_publish("", name, b"b", identified("b"))  # A refusal is not remembered.
    assert amqp.get_all(sub, name, 1) == [b"b"]


NEEDED = "\"needed with 'x-message-deduplication'\""


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ({"x-message-deduplication": True}, f"invalid arg 'x-cache-size' for {{}}: {NEEDED}"),
        (
            {"x-message-deduplication": 1, "x-cache-size": 1},
            "invalid arg 'x-message-deduplication' for {}: {{unacceptable_type,signedint}}",
        ),
        (arguments(size=0), "invalid arg 'x-cache-size' for {}: {{value_zero,0}}"),
        (
            arguments(size=1_000_001),
            "invalid arg 'x-cache-size' for {}: {{max_value_exceeded,1000001}}",
        ),
        (
            arguments(**{"x-cache-ttl": -1}),
            "invalid arg 'x-cache-ttl' for {}: {{value_negative,-1}}",
        ),
    ],
)
def test_refused(connect, name, given, text) -> None:
    connection = connect(0)
    expected = "PRECONDITION_FAILED - " + text
    with amqp.channel_error(406, expected.format(f"queue '{name}' in vhost '/'")):
        connection.channel().queue_declare(name, arguments=given)
    with amqp.channel_error(406, expected.format(f"exchange '{name}' in vhost '/'")):
        connection.channel().exchange_declare(name, "direct", arguments=given)
