"""Every option on every kind of queue, said by argument, by policy and by operator policy."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pika
import pytest
from pika.adapters.blocking_connection import BlockingChannel
from pika.exceptions import NackError

from harness import amqp
from harness.broker import Broker, part
from harness.wait import eventually

pytestmark = pytest.mark.warren_only("RabbitMQ has some of these on one type of queue only")

KINDS: dict[str, dict[str, Any]] = {
    "durable": {"durable": True},
    "quorum": {"durable": True, "arguments": {"x-queue-type": "quorum"}},
    "transient": {},
    "exclusive": {"exclusive": True},
    "auto-delete": {"auto_delete": True},
}
Queue = Callable[[dict[str, Any]], str]


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> dict[str, Any]:
    return KINDS[request.param]


@pytest.fixture(params=["argument", "policy", "operator-policy"])
def how(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def queue(
    broker: Broker, pub: BlockingChannel, names: Callable[[], str], kind: dict[str, Any], how: str
) -> Iterator[Queue]:
    """`queue({"max-length": 2})`: one of the kind, whose options are said in the way under test."""
    policies: list[str] = []

    def declare(options: dict[str, Any]) -> str:
        queue = names()
        properties = {**kind, "arguments": {**kind.get("arguments", {})}}
        if how == "argument":
            properties["arguments"] |= {f"x-{key}": value for key, value in options.items()}
        else:
            kind_of = "policies" if how == "policy" else "operator-policies"
            path = f"/api/{kind_of}/%2F/{part(queue)}"
            broker.put(path, {"pattern": f"^{queue}$", "definition": options})
            policies.append(path)
        pub.queue_declare(queue, **properties)
        return queue

    yield declare
    for path in policies:
        broker.http(path, "DELETE")


def accepted(pub: BlockingChannel, queue: str, count: int, **properties: Any) -> list[bool]:
    def once(body: bytes) -> bool:
        try:
            pub.basic_publish("", queue, body, pika.BasicProperties(**properties))
        except NackError:
            return False
        return True

    return [once(b"%d" % at) for at in range(count)]


def test_time_to_live(pub, queue) -> None:
    lives = queue({"message-ttl": 200})
    accepted(pub, lives, 2, expiration="3600000")
    amqp.wait_ready_count(pub, lives, 0)
    now_or_never = queue({"message-ttl": 0})
    accepted(pub, now_or_never, 1)
    amqp.wait_ready_count(pub, now_or_never, 0)
    # The lower one counts.
    long = queue({"message-ttl": 3_600_000})
    accepted(pub, long, 1, expiration="200")
    amqp.wait_ready_count(pub, long, 0)


def test_expiry_of_the_queue(broker, queue) -> None:
    gone = queue({"expires": 300})
    eventually(lambda: broker.http(f"/api/queues/%2F/{gone}")[0] == 404, what=f"'{gone}' is gone")


def test_length(pub, queue) -> None:
    short = queue({"max-length": 2})
    assert accepted(pub, short, 4) == [True] * 4
    amqp.wait_ready_count(pub, short, 2)
    assert amqp.get_all(pub, short, 2) == [b"2", b"3"]
    light = queue({"max-length-bytes": 2})
    assert accepted(pub, light, 4) == [True] * 4
    amqp.wait_ready_count(pub, light, 2)
    assert amqp.get_all(pub, light, 2) == [b"2", b"3"]


def test_refusal(pub, queue) -> None:
    full = queue({"max-length": 2, "overflow": "reject-publish"})
    assert accepted(pub, full, 4) == [True, True, False, False]
    assert amqp.get_all(pub, full, 2) == [b"0", b"1"]


def test_delivery_limit(pub, queue) -> None:
    limited = queue({"delivery-limit": 2})
    accepted(pub, limited, 1)
    counts = []
    # Its close is answered when what it has rejected is settled.
    rejecting = pub.connection.channel()
    for _ in range(3):
        message = amqp.get(rejecting, limited)
        counts.append((message.properties.headers or {}).get("x-delivery-count", 0))
        rejecting.basic_reject(message.tag, requeue=True)
    assert counts == [0, 1, 2]
    rejecting.close()
    assert pub.basic_get(limited)[0] is None


def test_dead_letters(pub, queue, names, how) -> None:
    if how == "operator-policy":
        pytest.skip("refused there, as by RabbitMQ")
    dead = names()
    pub.queue_declare(dead, durable=True)
    to_dead = {"dead-letter-exchange": "", "dead-letter-routing-key": dead}

    def next_death(expected: str) -> bytes:
        message = amqp.get(pub, dead, auto_ack=True)
        assert message.properties.headers["x-first-death-reason"] == expected
        return message.body

    accepted(pub, queue({**to_dead, "message-ttl": 0}), 1)
    assert next_death("expired") == b"0"
    accepted(pub, queue({**to_dead, "max-length": 1}), 2)
    assert next_death("maxlen") == b"0"
    rejecting = queue(to_dead)
    accepted(pub, rejecting, 1)
    pub.basic_reject(amqp.get(pub, rejecting).tag, requeue=False)
    assert next_death("rejected") == b"0"
    failing = queue({**to_dead, "delivery-limit": 0})
    accepted(pub, failing, 1)
    pub.basic_reject(amqp.get(pub, failing).tag, requeue=True)
    assert next_death("delivery_limit") == b"0"
