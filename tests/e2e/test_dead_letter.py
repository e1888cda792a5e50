"""Dead-lettering: reasons, x-death field by field, keys, cycles."""

from __future__ import annotations

import datetime
from typing import Any

import pika
import pytest

from harness import amqp
from harness.amqp import Consumer
from harness.broker import part
from harness.wait import eventually


@pytest.fixture
def grave(pub, names):
    """An exchange and the queue behind it: `(exchange, queue)`."""
    exchange, queue = names() + "-dlx", names() + "-grave"
    pub.exchange_declare(exchange, "fanout", durable=True)
    pub.queue_declare(queue, durable=True)
    pub.queue_bind(queue, exchange)
    return exchange, queue


def declare(pub, name: str, durable: bool, dlx: str, **more: Any) -> None:
    arguments = {
        "x-dead-letter-exchange": dlx,
        **{f"x-{k.replace('_', '-')}": v for k, v in more.items()},
    }
    pub.queue_declare(name, durable=durable, arguments=arguments)


def deaths(message: amqp.Delivered) -> list[dict[str, Any]]:
    return message.properties.headers["x-death"]


def test_rejected(pub, sub, name, grave, durable) -> None:
    exchange, queue = grave
    declare(pub, name, durable, exchange)
    before = datetime.datetime.now(datetime.UTC) - datetime.timedelta(seconds=2)
    pub.basic_publish(
        "",
        name,
        b"bad",
        pika.BasicProperties(headers={"own": 1}, message_id="m", priority=3, delivery_mode=2),
    )
    sub.basic_reject(amqp.get(sub, name).tag, requeue=False)
    message = amqp.get(sub, queue)
    assert message.body == b"bad"
    assert (message.method.exchange, message.method.routing_key) == (exchange, name)
    assert not message.redelivered
    properties = message.properties
    assert (properties.message_id, properties.priority, properties.delivery_mode) == ("m", 3, 2)
    headers = properties.headers
    assert headers["own"] == 1
    (death,) = headers["x-death"]
    assert death["count"] == 1
    assert death["reason"] == "rejected"
    assert death["queue"] == name
    assert death["exchange"] == ""
    assert death["routing-keys"] == [name]
    after = datetime.datetime.now(datetime.UTC) + datetime.timedelta(seconds=2)
    time = death["time"]
    if time.tzinfo is None:
        time = time.replace(tzinfo=datetime.UTC)
    assert before <= time <= after
    assert set(death) == {"count", "reason", "queue", "time", "exchange", "routing-keys"}
    assert headers["x-first-death-reason"] == "rejected"
    assert headers["x-first-death-queue"] == name
    assert headers["x-first-death-exchange"] == ""


def test_nacked_in_bulk_keeps_the_order(pub, sub, name, grave, durable) -> None:
    exchange, queue = grave
    declare(pub, name, durable, exchange)
    bodies = [b"%d" % i for i in range(50)]
    amqp.fill(pub, name, bodies)
    consumer = Consumer(sub, name)
    consumer.wait(50)
    sub.basic_nack(0, multiple=True, requeue=False)
    consumer_of_grave = Consumer(sub, queue)
    consumer_of_grave.wait(50)
    assert consumer_of_grave.bodies == bodies


def test_expired(pub, sub, name, grave, durable) -> None:
    exchange, queue = grave
    declare(pub, name, durable, exchange)
    pub.basic_publish("", name, b"old", pika.BasicProperties(expiration="200", delivery_mode=2))
    message = amqp.get(sub, queue)
    assert message.properties.expiration is None  # Else it would expire there as well.
    (death,) = deaths(message)
    assert (death["reason"], death["queue"], death["count"]) == ("expired", name, 1)
    assert death["original-expiration"] == "200"


def test_expired_by_the_queue(pub, sub, name, grave, durable) -> None:
    exchange, queue = grave
    declare(pub, name, durable, exchange, message_ttl=200)
    amqp.fill(pub, name, [b"1", b"2", b"3"])
    consumer = Consumer(sub, queue)
    consumer.wait(3)
    assert consumer.bodies == [b"1", b"2", b"3"]
    assert all(deaths(m)[0]["reason"] == "expired" for m in consumer.messages)
    assert "original-expiration" not in deaths(consumer.messages[0])[0]


def test_maxlen(pub, sub, name, grave, durable) -> None:
    exchange, queue = grave
    declare(pub, name, durable, exchange, max_length=2)
    amqp.fill(pub, name, [b"1", b"2", b"3", b"4"])
    consumer = Consumer(sub, queue)
    consumer.wait(2)
    assert consumer.bodies == [b"1", b"2"]
    assert [deaths(m)[0]["reason"] for m in consumer.messages] == ["maxlen", "maxlen"]
    assert amqp.get_all(sub, name, 2) == [b"3", b"4"]


@pytest.mark.warren_only("classic queues of RabbitMQ have no delivery limit")
def test_delivery_limit(pub, sub, name, grave, durable) -> None:
    exchange, queue = grave
    declare(pub, name, durable, exchange, delivery_limit=2)
    amqp.fill(pub, name, [b"poison"])
    for _ in range(3):
        sub.basic_reject(amqp.get(sub, name).tag, requeue=True)
    message = amqp.get(sub, queue)
    assert deaths(message)[0]["reason"] == "delivery_limit"


def test_own_routing_key(pub, sub, names, durable) -> None:
    exchange, queue, source = names(), names(), names()
    pub.exchange_declare(exchange, "direct")
    pub.queue_declare(queue)
    pub.queue_bind(queue, exchange, "dead")
    declare(pub, source, durable, exchange, dead_letter_routing_key="dead")
    amqp.fill(pub, source, [b"x"])
    sub.basic_nack(amqp.get(sub, source).tag, requeue=False)
    message = amqp.get(sub, queue)
    assert (message.method.exchange, message.method.routing_key) == (exchange, "dead")
    assert deaths(message)[0]["routing-keys"] == [source]


def test_by_the_default_exchange(pub, sub, names, durable) -> None:
    """The retry pattern: work → wait (ttl) → work."""
    work, wait = names(), names()
    declare(pub, work, durable, "", dead_letter_routing_key=wait)
    declare(pub, wait, durable, "", dead_letter_routing_key=work, message_ttl=200)
    amqp.fill(pub, work, [b"retry me"])
    for attempt in range(4):
        message = amqp.get(sub, work)
        if attempt == 0:
            assert not message.properties.headers
        else:
            by_reason = {d["reason"]: d for d in deaths(message)}
            assert by_reason["rejected"]["count"] == attempt
            assert by_reason["expired"]["count"] == attempt
            assert by_reason["rejected"]["queue"] == work
            assert by_reason["expired"]["queue"] == wait
            assert deaths(message)[0]["reason"] == "expired"  # The newest comes first.
            assert message.properties.headers["x-first-death-reason"] == "rejected"
            assert message.properties.headers["x-first-death-queue"] == work
        sub.basic_reject(message.tag, requeue=False)


@pytest.mark.warren_only("the last-death headers came with RabbitMQ 3.13")
def test_first_and_last_death(pub, sub, names, durable) -> None:
    first, second, end, exchange = names(), names(), names(), names()
    pub.exchange_declare(exchange, "direct")
    declare(pub, first, durable, exchange, dead_letter_routing_key="second")
    declare(pub, second, durable, exchange, dead_letter_routing_key="end", message_ttl=100)
    pub.queue_declare(end, durable=durable)
    pub.queue_bind(second, exchange, "second")
    pub.queue_bind(end, exchange, "end")
    amqp.fill(pub, first, [b"x"])
    sub.basic_reject(amqp.get(sub, first).tag, requeue=False)
    headers = amqp.get(sub, end).properties.headers
    assert headers["x-first-death-reason"] == "rejected"
    assert headers["x-first-death-queue"] == first
    assert headers["x-first-death-exchange"] == ""
    assert headers["x-last-death-reason"] == "expired"
    assert headers["x-last-death-queue"] == second
    assert headers["x-last-death-exchange"] == exchange
    newest, oldest = headers["x-death"]
    assert (newest["queue"], newest["exchange"]) == (second, exchange)
    assert newest["routing-keys"] == ["second"]
    assert (oldest["queue"], oldest["exchange"]) == (first, "")


def test_missing_exchange_drops(pub, sub, name, durable) -> None:
    declare(pub, name, durable, name + "-missing")
    amqp.fill(pub, name, [b"x", b"y"])
    sub.basic_reject(amqp.get(sub, name).tag, requeue=False)
    assert amqp.get_all(sub, name, 1) == [b"y"]


def test_unroutable_dead_letter_is_dropped(pub, sub, name, durable) -> None:
    pub.exchange_declare(name, "direct")
    declare(pub, name, durable, name)
    amqp.fill(pub, name, [b"x", b"y"])
    sub.basic_reject(amqp.get(sub, name).tag, requeue=False)
    assert amqp.get_all(sub, name, 1) == [b"y"]


def test_cycle_by_expiry_is_cut(pub, sub, name, durable) -> None:
    """A queue that dead-letters to itself by expiry alone: the second round is dropped."""
    declare(pub, name, durable, "", dead_letter_routing_key=name, message_ttl=200)
    amqp.fill(pub, name, [b"round and round"])
    amqp.wait_ready_count(sub, name, 0)
    assert sub.basic_get(name)[0] is None


def test_cycle_with_a_rejection_goes_on(pub, sub, name, durable) -> None:
    declare(pub, name, durable, "", dead_letter_routing_key=name)
    amqp.fill(pub, name, [b"again"])
    for attempt in range(5):
        message = amqp.get(sub, name)
        if attempt:
            (death,) = deaths(message)
            assert (death["reason"], death["count"]) == ("rejected", attempt)
        sub.basic_reject(message.tag, requeue=False)


@pytest.mark.warren_only("RabbitMQ before 4.0 counts on")
def test_what_a_client_says_of_deaths_ends_with_the_first(pub, sub, name, grave, durable) -> None:
    exchange, queue = grave
    declare(pub, name, durable, exchange, message_ttl=300)
    told = {
        "x-death": [{"count": 7, "reason": "expired", "queue": queue, "exchange": "e"}],
        "x-first-death-queue": "elsewhere",
        "own": 1,
    }
    pub.queue_declare(name + "-plain")
    for target in (name + "-plain", name):
        pub.basic_publish("", target, b"x", pika.BasicProperties(headers=told))
    # Who gets it gets what was sent.
    assert amqp.get(sub, name + "-plain").properties.headers == told
    # It is said to have expired in the queue that it goes to, which would be a cycle.
    headers = amqp.get(sub, queue).properties.headers
    (death,) = headers["x-death"]
    assert (death["queue"], death["reason"], death["count"]) == (name, "expired", 1)
    assert (headers["x-first-death-queue"], headers["own"]) == (name, 1)
    # Published once more as it came, it begins anew.
    pub.basic_publish("", name, b"x", pika.BasicProperties(headers=headers))
    (death,) = deaths(amqp.get(sub, queue))
    assert (death["queue"], death["count"]) == (name, 1)


def test_to_several_queues(pub, sub, name, names, grave, durable) -> None:
    exchange, queue = grave
    second = names()
    pub.queue_declare(second)
    pub.queue_bind(second, exchange)
    declare(pub, name, durable, exchange)
    amqp.fill(pub, name, [b"%d" % i for i in range(20)])
    consumer = Consumer(sub, name)
    consumer.wait(20)
    sub.basic_nack(0, multiple=True, requeue=False)
    for target in (queue, second):
        collected = Consumer(sub, target)
        collected.wait(20)
        assert collected.bodies == [b"%d" % i for i in range(20)]


def test_purge_and_delete_do_not_dead_letter(pub, sub, name, grave, durable) -> None:
    exchange, queue = grave
    declare(pub, name, durable, exchange)
    amqp.fill(pub, name, [b"1", b"2"])
    pub.queue_purge(name)
    amqp.fill(pub, name, [b"3"])
    pub.queue_delete(name)
    declare(pub, name, durable, exchange)
    amqp.fill(pub, name, [b"marker"])
    sub.basic_reject(amqp.get(sub, name).tag, requeue=False)
    assert amqp.get(sub, queue).body == b"marker"


def test_cc_of_a_dead_letter(pub, sub, names, durable) -> None:
    """Without an own key the message's keys, CC included, route it on."""
    exchange, source, by_key, by_cc = names(), names(), names(), names()
    pub.exchange_declare(exchange, "direct")
    for queue, key in ((by_key, source), (by_cc, "copy")):
        pub.queue_declare(queue)
        pub.queue_bind(queue, exchange, key)
    declare(pub, source, durable, exchange)
    pub.basic_publish("", source, b"x", pika.BasicProperties(headers={"CC": ["copy"]}))
    sub.basic_reject(amqp.get(sub, source).tag, requeue=False)
    for queue in (by_key, by_cc):
        assert sorted(deaths(amqp.get(sub, queue))[0]["routing-keys"]) == sorted([source, "copy"])


def test_dead_letter_to_a_queue_that_appears_later(pub, sub, name, names, durable) -> None:
    """The exchange need not exist when the queue is declared."""
    exchange, queue = names(), names()
    declare(pub, name, durable, exchange)
    pub.exchange_declare(exchange, "fanout")
    pub.queue_declare(queue)
    pub.queue_bind(queue, exchange)
    amqp.fill(pub, name, [b"x"])
    sub.basic_reject(amqp.get(sub, name).tag, requeue=False)
    assert amqp.get(sub, queue).body == b"x"


def test_many_deaths_at_once_lose_nothing(pub, sub, name, grave, durable) -> None:
    exchange, queue = grave
    declare(pub, name, durable, exchange, message_ttl=300)
    plain = pub.connection.channel()
    for i in range(2000):
        plain.basic_publish("", name, b"%d" % i, amqp.PERSISTENT)
    amqp.wait_ready_count(sub, queue, 2000)
    consumer = Consumer(sub, queue, auto_ack=True)
    consumer.wait(2000)
    assert consumer.bodies == [b"%d" % i for i in range(2000)]


@pytest.mark.warren_only("RabbitMQ counts them on quorum queues with at-least-once")
def test_what_waits_for_its_target_is_counted(broker, pub, sub, name, names, durable) -> None:
    full = names() + "-full"
    pub.queue_declare(
        full, durable=True, arguments={"x-max-length": 1, "x-overflow": "reject-publish"}
    )
    amqp.fill(pub, full, [b"in the way"])
    declare(pub, name, durable, "", dead_letter_routing_key=full)
    amqp.fill(pub, name, [b"12345", b"67890"])
    for _ in range(2):
        sub.basic_reject(amqp.get(sub, name).tag, requeue=False)

    def counts() -> tuple[int, int, int]:
        row = broker.get(f"/api/queues/%2F/{part(name)}")
        return row["messages"], row["messages_dlx"], row["message_bytes_dlx"]

    eventually(lambda: counts() == (0, 2, 10), what="two messages wait")
    assert "messages_dlx" not in broker.get(f"/api/queues/%2F/{part(full)}")
    for _ in range(2):
        amqp.get(sub, full, auto_ack=True)
    eventually(lambda: counts() == (0, 0, 0), what="no message waits")


def test_a_target_that_has_accepted_gets_no_second_copy(pub, sub, name, names, durable) -> None:
    """One target is full and refuses: the letter is tried again there, and only there."""
    exchange, takes, full = names() + "-dlx", names() + "-takes", names() + "-full"
    pub.exchange_declare(exchange, "fanout", durable=True)
    pub.queue_declare(takes, durable=True)
    pub.queue_declare(
        full,
        durable=True,
        arguments={"x-max-length": 1, "x-overflow": "reject-publish"},
    )
    for queue in (takes, full):
        pub.queue_bind(queue, exchange)
    amqp.fill(pub, full, [b"in the way"])
    declare(pub, name, durable, exchange)
    amqp.fill(pub, name, [b"dead"])
    sub.basic_reject(amqp.get(sub, name).tag, requeue=False)
    assert amqp.get(sub, takes).body == b"dead"
    in_the_way = amqp.get(sub, full)
    assert in_the_way.body == b"in the way"
    sub.basic_ack(in_the_way.tag)
    assert amqp.get(sub, full).body == b"dead"
    # The next one comes behind any copy of the first.
    amqp.fill(pub, name, [b"next"])
    sub.basic_reject(amqp.get(sub, name).tag, requeue=False)
    assert amqp.get(sub, takes).body == b"next"


def test_a_full_target_that_dead_letters_has_it_once(
    broker, pub, sub, name, names, grave, durable
) -> None:
    """What it refuses it passes on, and the source is done with it."""
    exchange, queue = grave
    full = names() + "-full"
    declare(pub, full, durable, exchange, max_length=1, overflow="reject-publish-dlx")
    amqp.fill(pub, full, [b"in the way"])
    declare(pub, name, durable, "", dead_letter_routing_key=full)
    amqp.fill(pub, name, [b"dead"])
    sub.basic_reject(amqp.get(sub, name).tag, requeue=False)
    message = amqp.get(sub, queue)
    assert message.body == b"dead"
    assert [(death["queue"], death["reason"]) for death in deaths(message)] == [
        (full, "maxlen"),
        (name, "rejected"),
    ]
    eventually(
        lambda: broker.get(f"/api/queues/%2F/{part(name)}").get("messages_dlx", 0) == 0,
        what="the source is done with it",
    )
    # The next one comes behind any copy of the first.
    amqp.fill(pub, name, [b"next"])
    sub.basic_reject(amqp.get(sub, name).tag, requeue=False)
    assert amqp.get(sub, queue).body == b"next"


def test_what_died_goes_on_although_its_queue_is_deleted(broker, pub, sub, name, grave) -> None:
    exchange, queue = grave
    declare(pub, name, False, exchange)
    bodies = [b"%d" % i for i in range(10_000)]
    amqp.fill(pub, name, bodies)
    consumer = Consumer(sub, name)
    last = consumer.wait(len(bodies))[-1]
    sub.basic_nack(last.tag, multiple=True, requeue=False)

    def are_dead() -> bool:
        return broker.get(f"/api/queues/%2F/{part(name)}")["messages"] == 0

    eventually(are_dead, what="all are dead")
    sub.queue_delete(name)
    amqp.wait_ready_count(pub, queue, len(bodies))


@pytest.mark.warren_only("RabbitMQ takes minutes to try again")
def test_at_least_once_keeps_what_finds_no_queue(broker, pub, sub, name, names) -> None:
    """It counts for the length, and goes on as soon as somebody binds a queue."""
    exchange, grave = names() + "-dlx", names() + "-grave"
    arguments = {
        "x-queue-type": "quorum",
        "x-dead-letter-exchange": exchange,
        "x-dead-letter-strategy": "at-least-once",
        "x-overflow": "reject-publish",
        "x-max-length": 3,
    }
    pub.queue_declare(name, durable=True, arguments=arguments)
    amqp.fill(pub, name, [b"a", b"b", b"c"])
    for _ in range(2):
        sub.basic_reject(amqp.get(sub, name).tag, requeue=False)

    def counts() -> tuple[int, int]:
        row = broker.get(f"/api/queues/%2F/{part(name)}")
        return row["messages"], row["messages_dlx"]

    eventually(lambda: counts() == (1, 2), what="two messages stay")
    with pytest.raises(pika.exceptions.NackError):
        pub.basic_publish("", name, b"d", amqp.PERSISTENT, mandatory=True)
    # There is an exchange, but no queue.
    pub.exchange_declare(exchange, "fanout", durable=True)
    sub.basic_reject(amqp.get(sub, name).tag, requeue=False)
    eventually(lambda: counts() == (0, 3), what="the third stays too")
    pub.queue_declare(grave, durable=True)
    pub.queue_bind(grave, exchange)
    bodies = [amqp.get(sub, grave, auto_ack=True).body for _ in range(3)]
    assert sorted(bodies) == [b"a", b"b", b"c"]
    eventually(lambda: counts() == (0, 0), what="nothing stays")
    amqp.fill(pub, name, [b"d", b"e", b"f"])


@pytest.mark.parametrize(
    "arguments",
    [
        {"x-dead-letter-strategy": "at-least-once"},
        {"x-dead-letter-strategy": "at-most-once", "x-overflow": "reject-publish"},
        {"x-overflow": "reject-publish"},
    ],
)
def test_otherwise_what_finds_no_queue_is_dropped(broker, pub, sub, name, arguments) -> None:
    arguments |= {"x-queue-type": "quorum", "x-dead-letter-exchange": name + "-dlx"}
    pub.queue_declare(name, durable=True, arguments=arguments)
    amqp.fill(pub, name, [b"a"])
    sub.basic_reject(amqp.get(sub, name).tag, requeue=False)

    def counts() -> tuple[int, int]:
        row = broker.get(f"/api/queues/%2F/{part(name)}")
        return row["messages"], row["messages_dlx"]

    eventually(lambda: counts() == (0, 0), what="nothing stays")
