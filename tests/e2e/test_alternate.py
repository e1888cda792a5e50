"""Alternate exchanges."""

from __future__ import annotations

import pika
import pytest

from harness import amqp


@pytest.fixture
def pair(pub, names):
    """A direct exchange with a bound queue, and its alternate with a catch-all queue."""
    main, alternate, bound, caught = names(), names(), names(), names()
    pub.exchange_declare(alternate, "fanout")
    pub.exchange_declare(main, "direct", arguments={"alternate-exchange": alternate})
    for queue, exchange, key in ((bound, main, "known"), (caught, alternate, "")):
        pub.queue_declare(queue)
        pub.queue_bind(queue, exchange, key)
    return main, bound, caught


def test_unroutable_goes_there(pub, sub, pair) -> None:
    main, bound, caught = pair
    pub.basic_publish(main, "known", b"1", mandatory=True)
    pub.basic_publish(main, "unknown", b"2", mandatory=True)  # Routed: no return.
    assert amqp.get_all(sub, bound, 1) == [b"1"]
    message = amqp.get(sub, caught, auto_ack=True)
    assert (message.body, message.method.exchange, message.method.routing_key) == (
        b"2",
        main,
        "unknown",
    )
    assert amqp.get_all(sub, caught, 0) == []


def test_unroutable_there_too(pub, names) -> None:
    main, alternate = names(), names()
    pub.exchange_declare(alternate, "direct")
    pub.exchange_declare(main, "direct", arguments={"alternate-exchange": alternate})
    with pytest.raises(pika.exceptions.UnroutableError):
        pub.basic_publish(main, "k", b"x", mandatory=True)


def test_missing_alternate(pub, name) -> None:
    pub.exchange_declare(name, "direct", arguments={"alternate-exchange": name + "-missing"})
    pub.basic_publish(name, "k", b"x")
    with pytest.raises(pika.exceptions.UnroutableError):
        pub.basic_publish(name, "k", b"x", mandatory=True)


def test_chain_and_cycle(pub, sub, names) -> None:
    a, b, c, queue = names(), names(), names(), names()
    pub.exchange_declare(a, "direct", arguments={"alternate-exchange": b})
    pub.exchange_declare(b, "direct", arguments={"alternate-exchange": c})
    pub.exchange_declare(c, "direct", arguments={"alternate-exchange": a})
    pub.queue_declare(queue)
    pub.queue_bind(queue, c, "k")
    pub.basic_publish(a, "k", b"through", mandatory=True)
    assert amqp.get_all(sub, queue, 1) == [b"through"]
    with pytest.raises(pika.exceptions.UnroutableError):
        pub.basic_publish(a, "other", b"round", mandatory=True)


def test_alternate_behind_a_binding(pub, sub, names) -> None:
    """Consulted at every hop, not only at the first exchange."""
    outer, inner, alternate, queue = names(), names(), names(), names()
    pub.exchange_declare(alternate, "fanout")
    pub.exchange_declare(inner, "direct", arguments={"alternate-exchange": alternate})
    pub.exchange_declare(outer, "fanout")
    pub.exchange_bind(destination=inner, source=outer)
    pub.queue_declare(queue)
    pub.queue_bind(queue, alternate)
    pub.basic_publish(outer, "unbound", b"x", mandatory=True)
    assert amqp.get_all(sub, queue, 1) == [b"x"]
