"""`x-recent-history`: a queue that is bound later gets the last messages."""

from __future__ import annotations

from collections import Counter

import pika
import pytest

from harness import amqp
from harness.broker import part


def fill(pub, exchange: str, count: int) -> None:
    for i in range(count):
        pub.basic_publish(exchange, "", b"%d" % i)


def expect(sub, queue: str, *numbers: int) -> None:
    bodies = amqp.get_all(sub, queue, len(numbers))
    assert Counter(bodies) == Counter(b"%d" % i for i in numbers)


def test_history_and_what_comes_then(pub, sub, name, durable) -> None:
    arguments = {"x-recent-history-length": 3}
    pub.exchange_declare(name, "x-recent-history", durable=durable, arguments=arguments)
    fill(pub, name, 5)
    pub.queue_declare(name, durable=durable)
    pub.queue_bind(name, name)
    pub.basic_publish(name, "", b"5")
    expect(sub, name, 2, 3, 4, 5)
    # A binding that is there already brings nothing.
    pub.queue_bind(name, name)
    expect(sub, name)


def test_what_is_not_to_be_kept(pub, sub, names) -> None:
    exchange, early, late = names(), names(), names()
    pub.exchange_declare(exchange, "x-recent-history")
    pub.queue_declare(early)
    pub.queue_bind(early, exchange, "any")
    secret = pika.BasicProperties(headers={"x-recent-history-no-store": True})
    pub.basic_publish(exchange, "", b"0")
    pub.basic_publish(exchange, "", b"1", secret)
    pub.queue_declare(late)
    pub.queue_bind(late, exchange)
    expect(sub, early, 0, 1)
    expect(sub, late, 0)


def test_mandatory_is_returned_and_kept(pub, sub, name) -> None:
    """The history alone is nobody."""
    pub.exchange_declare(name, "x-recent-history")
    with pytest.raises(pika.exceptions.UnroutableError):
        pub.basic_publish(name, "", b"0", mandatory=True)
    pub.queue_declare(name)
    pub.queue_bind(name, name)
    expect(sub, name, 0)


def test_binding_an_exchange(pub, sub, names) -> None:
    exchange, behind, queue = names(), names(), names()
    pub.exchange_declare(exchange, "x-recent-history")
    pub.exchange_declare(behind, "fanout")
    pub.queue_declare(queue)
    pub.queue_bind(queue, behind)
    fill(pub, exchange, 3)
    pub.exchange_bind(behind, exchange)
    expect(sub, queue, 0, 1, 2)


@pytest.mark.warren_only("RabbitMQ's plugin keeps whatever its length holds")
def test_bounded_by_bytes(pub, sub, name) -> None:
    pub.exchange_declare(name, "x-recent-history")
    body = bytes(5 << 20)
    for _ in range(6):
        pub.basic_publish(name, "", body)
    pub.queue_declare(name)
    pub.queue_bind(name, name)
    amqp.wait_ready_count(sub, name, 3)  # 16 MiB.


@pytest.mark.warren_only("no need for a bound there")
def test_refused(connect, name) -> None:
    connection = connect(0)
    for length, text in (
        (0, "must be a positive integer"),
        (-1, "must be a positive integer"),
        ("many", "must be a positive integer"),
        (10_001, "must not be above 10000"),
    ):
        expected = f"PRECONDITION_FAILED - Invalid argument {length}, 'x-recent-history-length' {text}"
        with amqp.channel_error(406, expected):
            connection.channel().exchange_declare(
                name, "x-recent-history", arguments={"x-recent-history-length": length}
            )


@pytest.mark.warren_only("the management plugin answers otherwise")
def test_bound_by_an_operator(broker, pub, sub, name) -> None:
    pub.exchange_declare(name, "x-recent-history", durable=True)
    fill(pub, name, 2)
    pub.queue_declare(name, durable=True)
    path = f"/api/bindings/%2F/e/{part(name)}/q/{part(name)}"
    assert broker.http(path, "POST", {"routing_key": ""})[0] == 201
    expect(sub, name, 0, 1)
