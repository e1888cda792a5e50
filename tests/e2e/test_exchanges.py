"""Exchanges and bindings: types, equivalence, deletion, bindings between exchanges."""

from __future__ import annotations

import pytest

from harness import amqp
from harness.amqp import channel_error

PREDECLARED = [
    ("amq.direct", "direct"),
    ("amq.fanout", "fanout"),
    ("amq.topic", "topic"),
    ("amq.headers", "headers"),
    ("amq.match", "headers"),
]


@pytest.mark.parametrize(("exchange", "kind"), PREDECLARED)
def test_predeclared(ch, exchange, kind) -> None:
    ch.exchange_declare(exchange, passive=True)
    # With its true properties a redeclaration is no error.
    ch.exchange_declare(exchange, exchange_type=kind, durable=True)
    with channel_error(
        403,
        f"ACCESS_REFUSED - deletion of system exchange '{exchange}' in vhost '/' not allowed",
    ):
        ch.exchange_delete(exchange)


def test_names_of_the_broker_are_not_deleted_even_if_missing(ch, name) -> None:
    with channel_error(
        403,
        f"ACCESS_REFUSED - deletion of system exchange 'amq.{name}' in vhost '/' not allowed",
    ):
        ch.exchange_delete(f"amq.{name}")


def test_trace_exchange_is_internal(pub) -> None:
    pub.exchange_declare("amq.rabbitmq.trace", passive=True)
    with channel_error(
        403,
        "ACCESS_REFUSED - cannot publish to internal exchange 'amq.rabbitmq.trace' in vhost '/'",
    ):
        pub.basic_publish("amq.rabbitmq.trace", "x", b"")


def test_passive_finds_existing_whatever_the_other_fields(ch, sub, name) -> None:
    ch.exchange_declare(name, exchange_type="topic", durable=True)
    sub.exchange_declare(name, exchange_type="fanout", passive=True)
    ch.exchange_delete(name)
    with channel_error(404, f"NOT_FOUND - no exchange '{name}' in vhost '/'"):
        sub.exchange_declare(name, passive=True)


@pytest.mark.parametrize(
    ("first", "again", "text"),
    [
        ({"exchange_type": "direct"}, {"exchange_type": "topic"},
         "inequivalent arg 'type' for exchange '{e}' in vhost '/': received 'topic' but current is 'direct'"),
        ({"durable": True}, {"durable": False},
         "inequivalent arg 'durable' for exchange '{e}' in vhost '/': received 'false' but current is 'true'"),
        ({"auto_delete": False}, {"auto_delete": True},
         "inequivalent arg 'auto_delete' for exchange '{e}' in vhost '/': received 'true' but current is 'false'"),
        ({"internal": False}, {"internal": True},
         "inequivalent arg 'internal' for exchange '{e}' in vhost '/': received 'true' but current is 'false'"),
        ({"arguments": {"alternate-exchange": "a"}}, {"arguments": {"alternate-exchange": "b"}},
         "inequivalent arg 'alternate-exchange' for exchange '{e}' in vhost '/': received 'b' but current is 'a'"),
        ({}, {"arguments": {"alternate-exchange": "b"}},
         "inequivalent arg 'alternate-exchange' for exchange '{e}' in vhost '/': received the value 'b' of type 'longstr' but current is none"),
        ({"arguments": {"alternate-exchange": "a"}}, {},
         "inequivalent arg 'alternate-exchange' for exchange '{e}' in vhost '/': received none but current is the value 'a' of type 'longstr'"),
    ],
    ids=["type", "durable", "auto-delete", "internal", "argument", "argument-new", "argument-missing"],
)  # fmt: skip
def test_redeclare_with_other_properties(ch, sub, name, first, again, text) -> None:
    ch.exchange_declare(name, **first)
    ch.exchange_declare(name, **first)
    with channel_error(406, "PRECONDITION_FAILED - " + text.format(e=name)):
        sub.exchange_declare(name, **again)


def test_other_arguments_are_not_compared(ch, name) -> None:
    ch.exchange_declare(name, arguments={"anything": 1})
    ch.exchange_declare(name, arguments={"anything": 2, "else": "x"})


def test_direct_routes_by_exact_key(pub, sub, names) -> None:
    exchange, a, b = names(), names(), names()
    pub.exchange_declare(exchange, "direct")
    for queue, key in ((a, "k"), (b, "K")):
        pub.queue_declare(queue)
        pub.queue_bind(queue, exchange, key)
    pub.basic_publish(exchange, "k", b"1")
    pub.basic_publish(exchange, "K", b"2")
    pub.basic_publish(exchange, "", b"3")
    assert amqp.get_all(sub, a, 1) == [b"1"]
    assert amqp.get_all(sub, b, 1) == [b"2"]


def test_fanout_ignores_the_key(pub, sub, names) -> None:
    exchange, a, b = names(), names(), names()
    pub.exchange_declare(exchange, "fanout")
    for queue in (a, b):
        pub.queue_declare(queue, durable=queue == a)
        pub.queue_bind(queue, exchange, "ignored")
    pub.basic_publish(exchange, "something", b"1")
    for queue in (a, b):
        assert amqp.get_all(sub, queue, 1) == [b"1"]


def test_several_matching_bindings_give_one_copy(pub, sub, name) -> None:
    pub.exchange_declare(name, "topic")
    pub.queue_declare(name)
    for key in ("#", "a.*", "a.b", "*.b"):
        pub.queue_bind(name, name, key)
    pub.basic_publish(name, "a.b", b"once")
    assert amqp.get_all(sub, name, 1) == [b"once"]


@pytest.mark.parametrize(
    ("pattern", "matching", "other"),
    [
        ("a.b", ["a.b"], ["a", "a.b.c", "a.c", ""]),
        ("*", ["a", "word"], ["", "a.b"]),
        ("a.*", ["a.b", "a."], ["a", "a.b.c", "b.a"]),
        ("*.*", ["a.b", "."], ["a", "a.b.c"]),
        ("#", ["", "a", "a.b.c", "..."], []),
        ("a.#", ["a", "a.b", "a.b.c"], ["b", "", "ab"]),
        ("#.z", ["z", "y.z", "x.y.z"], ["z.y", ""]),
        ("a.#.z", ["a.z", "a.b.z", "a.b.c.z"], ["a", "z", "a.z.b"]),
        ("a.*.b", ["a.x.b", "a..b"], ["a.b", "a.x.y.b"]),
        ("#.#", ["", "a", "a.b"], []),
        ("#.*", ["a", "a.b"], [""]),
        ("*.#", ["a", "a.b.c"], [""]),
        ("", [""], ["a"]),
        ("a.*.#.b", ["a.x.b", "a.x.y.b"], ["a.b"]),
        ("*a", ["*a"], ["xa"]),
    ],
)
def test_topic(pub, sub, name, pattern, matching, other) -> None:
    pub.exchange_declare(name, "topic")
    pub.queue_declare(name)
    pub.queue_bind(name, name, pattern)
    for key in [*other, *matching]:
        pub.basic_publish(name, key, key.encode())
    assert amqp.get_all(sub, name, len(matching)) == [k.encode() for k in matching]


@pytest.mark.parametrize(
    ("arguments", "matching", "other"),
    [
        ({"x-match": "all", "a": 1, "b": "x"}, [{"a": 1, "b": "x"}, {"a": 1, "b": "x", "c": 0}],
         [{"a": 1}, {"a": 1, "b": "y"}, {"a": "1", "b": "x"}, {}, None]),
        ({"a": 1}, [{"a": 1}], [{"a": 2}, None]),
        ({"x-match": "any", "a": 1, "b": "x"}, [{"a": 1}, {"b": "x"}, {"a": 2, "b": "x"}],
         [{"a": 2}, {}, None]),
        ({"x-match": "all", "a": None}, [{"a": 1}, {"a": "anything"}, {"a": None}], [{}, {"b": 1}]),
        ({"x-match": "all", "x-skipped": 1, "a": 1}, [{"a": 1}], [{"x-skipped": 1}]),
        ({"x-match": "all-with-x", "x-counted": 1, "a": 1}, [{"a": 1, "x-counted": 1}], [{"a": 1}]),
        ({"x-match": "any-with-x", "x-counted": 1}, [{"x-counted": 1}], [{"x-counted": 2}]),
        ({"x-match": "any", "x-skipped": 1}, [], [{"x-skipped": 1}, {}]),
        ({"x-match": "all"}, [{}, None, {"a": 1}], []),
        ({}, [{}, None, {"a": 1}], []),
        ({"x-match": "any"}, [], [{}, None, {"a": 1}]),
        ({"a": True}, [{"a": True}], [{"a": False}, {"a": 1}]),
    ],
)  # fmt: skip
def test_headers(pub, sub, name, arguments, matching, other) -> None:
    import pika

    pub.exchange_declare(name, "headers")
    pub.queue_declare(name)
    pub.queue_bind(name, name, "", arguments=arguments)
    for index, headers in enumerate([*other, *matching]):
        body = b"matching %d" % (index - len(other)) if index >= len(other) else b"other"
        pub.basic_publish(name, "k", body, pika.BasicProperties(headers=headers))
    expected = [b"matching %d" % i for i in range(len(matching))]
    assert amqp.get_all(sub, name, len(matching)) == expected


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        ("foo", 'value <<"foo">>; expected all, any, all-with-x, or any-with-x'),
        (1, "type signedint (value 1); expected longstr"),
    ],
    ids=["text", "number"],
)
def test_unknown_x_match(ch, name, value, problem) -> None:
    ch.exchange_declare(name, "headers")
    ch.queue_declare(name)
    with channel_error(406, f"PRECONDITION_FAILED - Invalid x-match field {problem}"):
        ch.queue_bind(name, name, "", arguments={"x-match": value})


def test_default_exchange_routes_to_the_queue_of_that_name(pub, sub, name) -> None:
    pub.queue_declare(name)
    pub.basic_publish("", name, b"x")
    message = amqp.get(sub, name)
    assert (message.method.exchange, message.method.routing_key) == ("", name)


def test_binding_twice_is_one_binding(pub, sub, name) -> None:
    pub.exchange_declare(name, "direct")
    pub.queue_declare(name)
    pub.queue_bind(name, name, "k")
    sub.queue_bind(name, name, "k")
    pub.queue_unbind(name, name, "k")
    pub.basic_publish(name, "k", b"lost")
    pub.queue_bind(name, name, "k")
    pub.basic_publish(name, "k", b"kept")
    assert amqp.get_all(sub, name, 1) == [b"kept"]


def test_arguments_make_another_binding(pub, sub, name) -> None:
    pub.exchange_declare(name, "direct")
    pub.queue_declare(name)
    pub.queue_bind(name, name, "k", arguments={"a": 1})
    pub.queue_bind(name, name, "k", arguments={"a": 2})
    pub.queue_unbind(name, name, "k", arguments={"a": 1})
    pub.basic_publish(name, "k", b"1")
    assert amqp.get_all(sub, name, 1) == [b"1"]
    pub.queue_unbind(name, name, "k", arguments={"a": 2})
    pub.basic_publish(name, "k", b"2")
    assert amqp.get_all(sub, name, 0) == []


def test_unbinding_what_is_not_bound_succeeds(ch, name) -> None:
    ch.exchange_declare(name, "direct")
    ch.queue_declare(name)
    ch.queue_unbind(name, name, "never bound")
    ch.queue_unbind(name, name + "-missing", "k")
    ch.queue_unbind(name + "-missing", name, "k")


def test_bind_and_unbind_use_the_last_declared_queue(pub, sub, name) -> None:
    """Queue and key both empty: the last declared queue's name stands for both."""
    pub.exchange_declare(name, "direct")
    queue = pub.queue_declare(name + "-q").method.queue
    pub.queue_bind("", name, "")
    pub.basic_publish(name, queue, b"x")
    assert amqp.get_all(sub, queue, 1) == [b"x"]
    pub.queue_unbind("", name, "")
    pub.basic_publish(name, queue, b"y")
    assert amqp.get_all(sub, queue, 0) == []


def test_deleting_an_exchange(ch, sub, name) -> None:
    ch.exchange_declare(name, "direct")
    ch.queue_declare(name)
    ch.queue_bind(name, name, "k")
    with channel_error(406, f"PRECONDITION_FAILED - exchange '{name}' in vhost '/' in use"):
        sub.exchange_delete(name, if_unused=True)
    ch.queue_unbind(name, name, "k")
    ch.exchange_delete(name, if_unused=True)
    ch.exchange_delete(name)  # Deleting what is missing succeeds.
    with channel_error(404, f"NOT_FOUND - no exchange '{name}' in vhost '/'"):
        ch.queue_bind(name, name, "k")


def test_deleted_exchange_forgets_its_bindings(pub, sub, name) -> None:
    for _ in range(2):
        pub.exchange_declare(name, "fanout")
        pub.queue_declare(name)
        pub.basic_publish(name, "", b"x")
        assert amqp.get_all(sub, name, 0) == []
        pub.queue_bind(name, name)
        pub.exchange_delete(name)


def test_auto_delete_goes_with_its_last_binding(ch, sub, name) -> None:
    ch.exchange_declare(name, "direct", auto_delete=True)
    ch.queue_declare(name)
    sub.exchange_declare(name, passive=True)  # Never bound: it stays.
    ch.queue_bind(name, name, "a")
    ch.queue_bind(name, name, "b")
    ch.queue_unbind(name, name, "a")
    sub.exchange_declare(name, passive=True)
    ch.queue_unbind(name, name, "b")
    with channel_error(404, f"NOT_FOUND - no exchange '{name}' in vhost '/'"):
        sub.exchange_declare(name, passive=True)


def test_auto_delete_goes_with_its_last_queue(ch, sub, name) -> None:
    ch.exchange_declare(name, "fanout", auto_delete=True)
    ch.queue_declare(name)
    ch.queue_bind(name, name)
    ch.queue_delete(name)
    with channel_error(404, f"NOT_FOUND - no exchange '{name}' in vhost '/'"):
        sub.exchange_declare(name, passive=True)


def test_internal_exchange_is_reached_by_a_binding_only(pub, sub, connect, names) -> None:
    inner, outer, queue = names(), names(), names()
    pub.exchange_declare(inner, "fanout", internal=True)
    pub.exchange_declare(outer, "direct")
    pub.queue_declare(queue)
    pub.queue_bind(queue, inner)
    pub.exchange_bind(destination=inner, source=outer, routing_key="k")
    pub.basic_publish(outer, "k", b"through")
    assert amqp.get_all(sub, queue, 1) == [b"through"]
    with channel_error(
        403, f"ACCESS_REFUSED - cannot publish to internal exchange '{inner}' in vhost '/'"
    ):
        pub.basic_publish(inner, "k", b"direct")


def test_exchange_bindings_chain_and_unbind(pub, sub, names) -> None:
    a, b, queue = names(), names(), names()
    pub.exchange_declare(a, "topic")
    pub.exchange_declare(b, "direct")
    pub.queue_declare(queue)
    pub.exchange_bind(destination=b, source=a, routing_key="x.#")
    pub.exchange_bind(destination=b, source=a, routing_key="x.#")
    pub.queue_bind(queue, b, "x.y")
    pub.basic_publish(a, "x.y", b"1")
    pub.basic_publish(a, "x.z", b"2")
    message = amqp.get(sub, queue, auto_ack=True)
    assert message.body == b"1"
    assert (message.method.exchange, message.method.routing_key) == (a, "x.y")
    pub.exchange_unbind(destination=b, source=a, routing_key="x.#")
    pub.exchange_unbind(destination=b, source=a, routing_key="x.#")
    pub.basic_publish(a, "x.y", b"3")
    assert amqp.get_all(sub, queue, 0) == []


def test_exchange_binding_cycles_deliver_once(pub, sub, names) -> None:
    exchanges = [names() for _ in range(3)]
    queue = names()
    for exchange in exchanges:
        pub.exchange_declare(exchange, "fanout")
    for source, destination in zip(exchanges, exchanges[1:] + exchanges[:1]):
        pub.exchange_bind(destination=destination, source=source)
    pub.exchange_bind(destination=exchanges[0], source=exchanges[0])
    pub.queue_declare(queue)
    for exchange in exchanges:
        pub.queue_bind(queue, exchange)
    pub.basic_publish(exchanges[1], "", b"round")
    assert amqp.get_all(sub, queue, 1) == [b"round"]


@pytest.mark.parametrize("missing", ["source", "destination"])
def test_exchange_binding_needs_both(ch, names, missing) -> None:
    there, absent = names(), names()
    ch.exchange_declare(there, "fanout")
    ends = {"source": there, "destination": there, missing: absent}
    with channel_error(404, f"NOT_FOUND - no exchange '{absent}' in vhost '/'"):
        ch.exchange_bind(**ends)


def test_declare_on_one_node_is_seen_on_all_at_once(connect, broker, names) -> None:
    """Declare, and use from the other nodes without waiting."""
    channels = [connect(node).channel() for node in range(3)]
    for round_ in range(10):
        maker = channels[round_ % 3]
        exchange, queue = names(), names()
        maker.exchange_declare(exchange, "direct")
        maker.queue_declare(queue)
        maker.queue_bind(queue, exchange, "k")
        for channel in channels:
            channel.exchange_declare(exchange, passive=True)
            channel.queue_declare(queue, passive=True)
        other = channels[(round_ + 1) % 3]
        other.queue_bind(queue, exchange, "l")
        assert amqp.counts(channels[(round_ + 2) % 3], queue) == (0, 0)


def test_long_names(ch, pub, sub, name) -> None:
    long_name = (name + "-" + "n" * 255)[:255]
    ch.exchange_declare(long_name, "direct")
    ch.queue_declare(long_name)
    ch.queue_bind(long_name, long_name, "k" * 255)
    pub.basic_publish(long_name, "k" * 255, b"x")
    message = amqp.get(sub, long_name)
    assert message.method.routing_key == "k" * 255
    ch.queue_delete(long_name)
    ch.exchange_delete(long_name)


def test_names_are_utf8_and_lose_line_breaks(ch, sub, peer, name) -> None:
    odd = f"{name} größe/%2F/猫"
    assert ch.queue_declare(odd).method.queue == odd
    assert amqp.counts(sub, odd) == (0, 0)
    # Not with pika: it waits for an answer that names the queue as it was asked for.
    declared = peer.open().open_channel().declare(1, f"{name}-a\r\nb")
    assert declared.queue == f"{name}-ab"
