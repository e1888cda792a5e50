"""What is refused: code, text, and the method that is blamed, as tables.

The texts are protocol: clients compare them and people search for them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pika
import pytest
from pika import spec

from harness import amqp, wire
from harness.amqp import Consumer, channel_error

Setup = Callable[[Any, str], Any]
Act = Callable[[Any, str], Any]


@dataclass
class Case:
    """`act` on a fresh channel closes it with `code` and `text` (`{n}` is the test's name)."""

    id: str
    act: Act
    code: int
    text: str
    method: tuple[int, int] | None = None
    setup: Setup | None = None


def declare(channel: Any, name: str) -> None:
    channel.queue_declare(name)


def exchange(channel: Any, name: str) -> None:
    channel.exchange_declare(name, "direct")


NO_QUEUE = "NOT_FOUND - no queue '{n}' in vhost '/'"
NO_EXCHANGE = "NOT_FOUND - no exchange '{n}' in vhost '/'"
NO_PREVIOUS = "NOT_FOUND - no previously declared queue"
DEFAULT = "ACCESS_REFUSED - operation not permitted on the default exchange"
TX_FROM_CONFIRM = "PRECONDITION_FAILED - cannot switch from confirm to tx mode"

CASES = [
    # 404
    Case("queue-passive", lambda c, n: c.queue_declare(n, passive=True), 404, NO_QUEUE, (50, 10)),
    Case("exchange-passive", lambda c, n: c.exchange_declare(n, passive=True), 404, NO_EXCHANGE,
         (40, 10)),
    Case("consume", lambda c, n: c.basic_consume(n, lambda *_: None), 404, NO_QUEUE, (60, 20)),
    Case("get", lambda c, n: c.basic_get(n), 404, NO_QUEUE, (60, 70)),
    Case("purge", lambda c, n: c.queue_purge(n), 404, NO_QUEUE, (50, 30)),
    Case("bind-no-queue", lambda c, n: c.queue_bind(n, "amq.direct", "k"), 404, NO_QUEUE, (50, 20)),
    Case("bind-no-exchange", lambda c, n: c.queue_bind(n, n, "k"), 404, NO_EXCHANGE, (50, 20),
         declare),
    Case("exchange-bind-source", lambda c, n: c.exchange_bind("amq.fanout", n), 404, NO_EXCHANGE,
         (40, 30)),
    Case("exchange-bind-destination", lambda c, n: c.exchange_bind(n, "amq.fanout"), 404,
         NO_EXCHANGE, (40, 30)),
    Case("publish", lambda c, n: (c.basic_publish(n, "k", b"x"), amqp.sync(c)), 404, NO_EXCHANGE,
         (60, 40)),
    Case("consume-no-last-queue", lambda c, n: c.basic_consume("", lambda *_: None), 404,
         NO_PREVIOUS, (60, 20)),
    Case("get-no-last-queue", lambda c, n: c.basic_get(""), 404, NO_PREVIOUS, (60, 70)),
    Case("purge-no-last-queue", lambda c, n: c.queue_purge(""), 404, NO_PREVIOUS, (50, 30)),
    Case("bind-no-last-queue", lambda c, n: c.queue_bind("", "amq.direct", "k"), 404, NO_PREVIOUS,
         (50, 20)),
    Case("delete-no-last-queue", lambda c, n: c.queue_delete(""), 404, NO_PREVIOUS, (50, 40)),
    # What is wrong with the exchange is told first.
    Case("bind-neither", lambda c, n: c.queue_bind(n, n, "k"), 404, NO_EXCHANGE, (50, 20)),
    Case("bind-neither-exchange", lambda c, n: c.exchange_bind(n, n + "-source"), 404,
         "NOT_FOUND - no exchange '{n}-source' in vhost '/'", (40, 30)),
    Case("publish-expiration", lambda c, n: (c.basic_publish(n, "k", b"x", pika.BasicProperties(
         expiration="never")), amqp.sync(c)), 404, NO_EXCHANGE, (60, 40)),
    Case("publish-cc", lambda c, n: (c.basic_publish(n, "k", b"x", pika.BasicProperties(
         headers={"CC": "k"})), amqp.sync(c)), 404, NO_EXCHANGE, (60, 40)),
    Case("publish-user", lambda c, n: (c.basic_publish(n, "k", b"x", pika.BasicProperties(
         user_id="somebody")), amqp.sync(c)), 404, NO_EXCHANGE, (60, 40)),
    # A passive declaration knows no last queue.
    Case("queue-passive-empty", lambda c, n: c.queue_declare("", passive=True), 404,
         "NOT_FOUND - no queue '' in vhost '/'", (50, 10), declare),
    # 403
    Case("reserved-queue", lambda c, n: c.queue_declare("amq." + n), 403,
         "ACCESS_REFUSED - queue name 'amq.{n}' contains reserved prefix 'amq.*'", (50, 10)),
    Case("reserved-exchange", lambda c, n: c.exchange_declare("amq." + n), 403,
         "ACCESS_REFUSED - exchange name 'amq.{n}' contains reserved prefix 'amq.*'", (40, 10)),
    Case("default-bind-no-queue", lambda c, n: c.queue_bind(n, "", "k"), 403, DEFAULT, (50, 20)),
    Case("default-bind", lambda c, n: c.queue_bind(n, "", "k"), 403, DEFAULT, (50, 20), declare),
    Case("default-unbind", lambda c, n: c.queue_unbind(n, "", "k"), 403, DEFAULT, (50, 50), declare),
    Case("default-exchange-bind", lambda c, n: c.exchange_bind("amq.fanout", ""), 403, DEFAULT,
         (40, 30)),
    Case("default-delete", lambda c, n: c.exchange_delete(""), 403, DEFAULT, (40, 20)),
    Case("default-declare", lambda c, n: c.exchange_declare("", "direct", durable=True), 403, DEFAULT,
         (40, 10)),
    Case("delete-system", lambda c, n: c.exchange_delete("amq.topic"), 403,
         "ACCESS_REFUSED - deletion of system exchange 'amq.topic' in vhost '/' not allowed", (40, 20)),
    # 406
    Case("alternate-exchange-type", lambda c, n: c.exchange_declare(
         n, arguments={"alternate-exchange": 7}), 406, "PRECONDITION_FAILED - invalid type "
         "'signedint' for arg 'alternate-exchange' in exchange '{n}' in vhost '/'", (40, 10)),
    Case("alternate-exchange-type-of-another", lambda c, n: c.exchange_declare(
         n, "fanout", arguments={"alternate-exchange": 7}), 406, "PRECONDITION_FAILED - inequivalent "
         "arg 'type' for exchange '{n}' in vhost '/': received 'fanout' but current is 'direct'",
         (40, 10), exchange),
    Case("single-active-type", lambda c, n: c.queue_declare(
         n, arguments={"x-single-active-consumer": "yes"}), 406, "PRECONDITION_FAILED - invalid arg "
         "'x-single-active-consumer' for queue '{n}' in vhost '/': {{unacceptable_type,longstr}}",
         (50, 10)),
    Case("confirm-then-tx", lambda c, n: c.tx_select(), 406, TX_FROM_CONFIRM, (90, 10),
         lambda c, n: c.confirm_delivery()),
    Case("commit-without-tx", lambda c, n: c.tx_commit(), 406,
         "PRECONDITION_FAILED - channel is not transactional", (90, 20)),
    Case("rollback-without-tx", lambda c, n: c.tx_rollback(), 406,
         "PRECONDITION_FAILED - channel is not transactional", (90, 30)),
    Case("queue-in-use", lambda c, n: c.queue_delete(n, if_unused=True), 406,
         "PRECONDITION_FAILED - queue '{n}' in vhost '/' in use", (50, 40),
         lambda c, n: (c.queue_declare(n), c.basic_consume(n, lambda *_: None))),
    Case("queue-not-empty", lambda c, n: c.queue_delete(n, if_empty=True), 406,
         "PRECONDITION_FAILED - queue '{n}' in vhost '/' not empty", (50, 40),
         lambda c, n: (c.queue_declare(n), c.basic_publish("", n, b"x"))),
    Case("exchange-in-use", lambda c, n: c.exchange_delete(n, if_unused=True), 406,
         "PRECONDITION_FAILED - exchange '{n}' in vhost '/' in use", (40, 20),
         lambda c, n: (c.exchange_declare(n), c.queue_declare(n), c.queue_bind(n, n, "k"))),
    Case("ack", lambda c, n: (c.basic_ack(7), amqp.sync(c)), 406,
         "PRECONDITION_FAILED - unknown delivery tag 7", (60, 80)),
    Case("nack", lambda c, n: (c.basic_nack(7), amqp.sync(c)), 406,
         "PRECONDITION_FAILED - unknown delivery tag 7", (60, 120)),
    Case("reject", lambda c, n: (c.basic_reject(7), amqp.sync(c)), 406,
         "PRECONDITION_FAILED - unknown delivery tag 7", (60, 90)),
    Case("no-fast-reply-consumer",
         lambda c, n: (c.basic_publish("", n, b"", pika.BasicProperties(
             reply_to="amq.rabbitmq.reply-to")), amqp.sync(c)), 406,
         "PRECONDITION_FAILED - fast reply consumer does not exist", (60, 40)),
]  # fmt: skip


@pytest.mark.parametrize("case", CASES, ids=lambda c: c.id)
def test_channel_error(ch, name, case) -> None:
    if case.setup is not None:
        case.setup(ch, name)
    closes: list[Any] = []
    connection = ch.connection
    number = ch.channel_number
    connection._impl.callbacks.add(
        number, spec.Channel.Close, lambda frame: closes.append(frame.method), one_shot=True
    )
    with channel_error(case.code, case.text.format(n=name)):
        case.act(ch, name)
    if case.method is not None:
        # pika does not tell which method the broker blamed; its callback does.
        if closes:
            assert (closes[0].class_id, closes[0].method_id) == case.method
    # The connection lives on, and the number of the channel is free again.
    again = connection.channel(number)
    amqp.sync(again)


def test_a_name_that_the_server_made_is_not_declared_by_name(ch, connect) -> None:
    made = ch.queue_declare("", durable=True).method.queue
    try:
        refused = f"ACCESS_REFUSED - queue name '{made}' contains reserved prefix 'amq.*'"
        with channel_error(403, refused):
            connect(1).channel().queue_declare(made, durable=True)
        assert amqp.counts(connect(1).channel(), made) == (0, 0)
    finally:
        ch.queue_delete(made)


@pytest.mark.warren_only("a connection error 503 before RabbitMQ 4")
def test_unknown_exchange_type(ch, name) -> None:
    with channel_error(406, "PRECONDITION_FAILED - unknown exchange type 'no-such-type'"):
        ch.exchange_declare(name, "no-such-type")


@pytest.mark.warren_only("RabbitMQ 3.10 creates it")
def test_server_named_quorum_queue(ch) -> None:
    with channel_error(
        406, "PRECONDITION_FAILED - Cannot declare a server-named queue for type rabbit_quorum_queue"
    ):
        ch.queue_declare("", durable=True, arguments={"x-queue-type": "quorum"})


@pytest.mark.warren_only("the wording is that of RabbitMQ 4.x")
def test_a_type_of_queue_that_does_not_exist(ch, name) -> None:
    text = (
        f"PRECONDITION_FAILED - invalid arg 'x-queue-type' for queue '{name}' in vhost '/': "
        "\"unsupported queue type 'journal'\""
    )
    with channel_error(406, text):
        ch.queue_declare(name, durable=True, arguments={"x-queue-type": "journal"})


def test_explanation_is_cut_to_255_characters(ch, name) -> None:
    long_name = (name + "x" * 255)[:255]
    with channel_error(404) as caught:
        ch.queue_declare(long_name, passive=True)
    text = f"NOT_FOUND - no queue '{long_name}' in vhost '/'"
    assert len(caught.value.reply_text) <= 255
    assert caught.value.reply_text[:200] == text[:200]


# --- connection errors, by hand ----------------------------------------------------------------


@dataclass
class Hard:
    """`send` on a connection with channel 1 open closes the connection."""

    id: str
    send: Callable[[wire.Peer, str], Any]
    code: int
    text: str | None
    method: tuple[int, int] | None = (0, 0)


def header(size: int, class_id: int = 60) -> bytes:
    import struct

    return struct.pack(">HHQ", class_id, 0, size) + wire.NO_PROPERTIES


HARD = [
    Hard("flow-false", lambda p, n: p.method(1, spec.Channel.Flow(active=False)), 540,
         "NOT_IMPLEMENTED - active=false", (20, 20)),
    Hard("recover-false", lambda p, n: p.method(1, spec.Basic.Recover(requeue=False)), 540,
         "NOT_IMPLEMENTED - requeue=false", (60, 110)),
    Hard("channel-twice", lambda p, n: p.method(1, spec.Channel.Open()), 504,
         "CHANNEL_ERROR - second 'channel.open' seen", (20, 10)),
    Hard("channel-not-open", lambda p, n: p.method(9, spec.Queue.Declare(queue=n)), 504,
         "CHANNEL_ERROR - expected 'channel.open'", (50, 10)),
    Hard("header-without-publish", lambda p, n: p.send(wire.frame(wire.HEADER, 1, header(1))), 505,
         "UNEXPECTED_FRAME - expected method frame, got non method frame instead"),
    Hard("body-without-publish", lambda p, n: p.send(wire.frame(wire.BODY, 1, b"x")), 505,
         "UNEXPECTED_FRAME - expected method frame, got non method frame instead"),
    Hard("method-instead-of-header",
         lambda p, n: (p.method(1, spec.Basic.Publish(routing_key=n)),
                       p.method(1, spec.Basic.Qos())), 505,
         "UNEXPECTED_FRAME - expected content header for class 60, got non content header frame instead",
         (60, 40)),
    Hard("body-instead-of-header",
         lambda p, n: (p.method(1, spec.Basic.Publish(routing_key=n)),
                       p.send(wire.frame(wire.BODY, 1, b"x"))), 505,
         "UNEXPECTED_FRAME - expected content header for class 60, got non content header frame instead",
         (60, 40)),
    Hard("header-of-another-class",
         lambda p, n: (p.method(1, spec.Basic.Publish(routing_key=n)),
                       p.send(wire.frame(wire.HEADER, 1, header(1, class_id=3106)))), 505,
         "UNEXPECTED_FRAME - expected content header for class 60, got one for class 3106 instead",
         (60, 40)),
    Hard("method-instead-of-body",
         lambda p, n: (p.method(1, spec.Basic.Publish(routing_key=n)),
                       p.send(wire.frame(wire.HEADER, 1, header(5))),
                       p.method(1, spec.Basic.Qos())), 505,
         "UNEXPECTED_FRAME - expected content body, got non content body frame instead", (60, 40)),
    pytest.param(
        Hard("body-too-long",
             lambda p, n: (p.method(1, spec.Basic.Publish(routing_key=n)),
                           p.send(wire.frame(wire.HEADER, 1, header(5))),
                           p.send(wire.frame(wire.BODY, 1, b"123456"))), 501, None, None),
        marks=pytest.mark.warren_only("RabbitMQ 3.10 waits for ever")),
    Hard("bad-frame-end", lambda p, n: p.send(wire.frame(wire.METHOD, 1, b"\x00\x14\x00\x0a\x00", end=0)), 501,
         None),
    Hard("unknown-frame-type", lambda p, n: p.send(wire.frame(7, 1, b"x")), 501, None),
    Hard("frame-too-large", lambda p, n: p.send(b"\x01\x00\x01" + (131073).to_bytes(4, "big")), 501,
         None),
    Hard("truncated-arguments", lambda p, n: p.send(wire.frame(wire.METHOD, 1, b"\x00\x32\x00\x0a\x00")),
         501, None, None),
    Hard("prefetch-size", lambda p, n: p.method(1, spec.Basic.Qos(prefetch_size=9)), 540,
         "NOT_IMPLEMENTED - prefetch_size!=0 (9)", (60, 10)),
]  # fmt: skip


@pytest.mark.parametrize("case", HARD, ids=lambda c: c.id)
def test_connection_error(peer, name, case) -> None:
    peer.open().open_channel()
    case.send(peer, name)
    close = peer.expect_close(case.code, case.text)
    if case.method is not None:
        assert (close.class_id, close.method_id) == case.method


@pytest.mark.warren_only("RabbitMQ drops the TCP connection without a word")
def test_unknown_method(peer) -> None:
    peer.open().open_channel()
    peer.send(wire.frame(wire.METHOD, 1, b"\x00\x32\x03\xe7"))
    peer.expect_close(503)


@pytest.mark.warren_only("RabbitMQ closes with 541")
def test_channel_method_on_channel_0(peer, name) -> None:
    peer.open().open_channel()
    peer.method(0, spec.Queue.Declare(queue=name))
    peer.expect_close(504)


def test_the_other_channel_survives(connect, name) -> None:
    """A soft error on one channel is nothing to its neighbour."""
    connection = connect(0)
    bad, good = connection.channel(), connection.channel()
    good.queue_declare(name)
    consumer = Consumer(good, name, auto_ack=True)
    with channel_error(404):
        bad.queue_declare(name + "-missing", passive=True)
    good.basic_publish("", name, b"still fine")
    assert consumer.next().body == b"still fine"


def test_too_many_channels(peer) -> None:
    """The count of open channels is limited, not the number used."""
    peer.open(channel_max=3)
    for number in (1, 2, 3):
        peer.open_channel(number)
    peer.method(1, spec.Channel.Close(200, "", 0, 0))
    peer.expect(spec.Channel.CloseOk, 1)
    peer.open_channel(1)
    peer.method(4, spec.Channel.Open())
    peer.expect_close(
        530,
        "NOT_ALLOWED - number of channels opened (3) has reached the negotiated channel_max (3)",
    )
