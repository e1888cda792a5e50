"""Dead-lettering with the source's leader killed in the middle: nothing lost, nothing doubled.

Every letter goes to two queues, one led by the node that dies and one led by another.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

import pika
import pytest

from harness import amqp
from harness.amqp import Consumer, Delivered
from harness.wait import eventually

COUNT = 300
BODIES = [b"%d" % i for i in range(COUNT)]


def deaths(message: Delivered) -> list[dict[str, Any]]:
    return message.properties.headers["x-death"]


class Graves:
    """A source and the two queues where its dead go."""

    def __init__(self, stage, names, **arguments: Any) -> None:
        self.exchange = names()
        self.queues = [names(), names()]
        self.s = stage({"x-dead-letter-exchange": self.exchange, **arguments})
        self.s.pub.exchange_declare(self.exchange, "fanout", durable=True)
        for queue, node in zip(self.queues, (self.s.leader, self.s.a)):
            self.s.declare(queue, at=node)
            self.s.pub.queue_bind(queue, self.exchange)

    def check(self, bodies: list[bytes], reason: str) -> None:
        """Each of the two has exactly these, each dead once for this reason."""
        # Behind whatever may still come.
        self.s.pub.basic_publish(self.exchange, "", b"end", amqp.PERSISTENT)
        for queue in self.queues:
            reader = Consumer(self.s.sub, queue)
            amqp.pump(reader.connection, lambda r=reader: b"end" in r.bodies, what="the end")
            got = [m for m in reader.messages if m.body != b"end"]
            twice = [b for b, n in Counter(m.body for m in got).items() if n > 1]
            assert not twice, f"{len(twice)} doubled in '{queue}': {twice[:10]}"
            assert {m.body for m in got} == set(bodies)
            for message in got:
                (death,) = deaths(message)
                told = (death["reason"], death["queue"], death["count"])
                assert told == (reason, self.s.queue, 1)
                assert message.properties.headers["x-first-death-reason"] == reason
            reader.channel.basic_ack(0, multiple=True)
            amqp.wait_ready_count(self.s.pub, queue, 0)
            reader.cancel()

    def wait_some(self, count: int) -> None:
        """Until the dying has begun."""

        def begun() -> bool:
            return amqp.counts(self.s.pub, self.queues[1])[0] >= count

        amqp.pump(self.s.pub.connection, begun, what=f"{count} dead letters")

    def wait_all(self, count: int) -> None:
        """Until so many are there; too many are told from too few by `check`."""

        def there() -> bool:
            now = [amqp.counts(self.s.pub, queue)[0] for queue in self.queues]
            assert min(now) >= count, f"{now} dead letters, expected {count}"
            return True

        eventually(there, what=f"{count} dead letters in both queues")


def test_rejected(stage, names) -> None:
    graves = Graves(stage, names)
    s = graves.s
    amqp.fill(s.pub.connection.channel(), s.queue, BODIES)
    holder = Consumer(s.sub, s.queue)
    holder.wait(COUNT)
    for message in holder.messages[: COUNT // 2]:
        s.sub.basic_reject(message.tag, requeue=False)
    s.sub.connection.process_data_events(time_limit=0)
    s.kill()
    for message in holder.messages[COUNT // 2 :]:
        s.sub.basic_reject(message.tag, requeue=False)
    holder.cancel()
    graves.wait_all(COUNT)
    graves.check(BODIES, "rejected")
    amqp.wait_ready_count(s.pub, s.queue, 0)


def test_expired(stage, names) -> None:
    graves = Graves(stage, names)
    s = graves.s
    plain = s.pub.connection.channel()
    for i, body in enumerate(BODIES):
        expiration = str(600 + i * 8)
        plain.basic_publish("", s.queue, body, pika.BasicProperties(expiration=expiration))
    graves.wait_some(30)
    s.kill()
    graves.wait_all(COUNT)
    graves.check(BODIES, "expired")
    amqp.wait_ready_count(s.pub, s.queue, 0)


def test_maxlen(stage, names) -> None:
    graves = Graves(stage, names, **{"x-max-length": 10})
    s = graves.s
    plain = s.pub.connection.channel()
    amqp.fill(plain, s.queue, BODIES[: COUNT // 2])
    graves.wait_some(30)
    amqp.fill(plain, s.queue, BODIES[COUNT // 2 : COUNT - 60])
    s.kill()
    amqp.fill(plain, s.queue, BODIES[COUNT - 60 :])
    graves.wait_all(COUNT - 10)
    graves.check(BODIES[:-10], "maxlen")
    assert amqp.get_all(s.sub, s.queue, 10) == BODIES[-10:]


def test_the_leader_of_a_target_dies(stage, names) -> None:
    """What is on its way to it is sent again, and found out where it had arrived."""
    source, exchange, grave = names(), names(), names()
    s = stage(queue=grave)
    s.pub.exchange_declare(exchange, "fanout", durable=True)
    s.pub.queue_bind(grave, exchange)
    s.declare(source, at=s.a, **{"x-dead-letter-exchange": exchange})
    amqp.fill(s.pub.connection.channel(), source, BODIES)
    holder = Consumer(s.sub, source)
    holder.wait(COUNT)
    for message in holder.messages[: COUNT // 2]:
        s.sub.basic_reject(message.tag, requeue=False)
    s.sub.connection.process_data_events(time_limit=0)
    s.kill()
    for message in holder.messages[COUNT // 2 :]:
        s.sub.basic_reject(message.tag, requeue=False)
    amqp.wait_ready_count(s.pub, grave, COUNT)
    assert amqp.get_all(s.sub, grave, COUNT) == BODIES


@pytest.mark.parametrize("at", ["work", "wait"])
def test_x_death_counts_on(stage, names, at) -> None:
    """The retry pattern: work → wait (ttl) → work, its second round through the kill."""
    work, wait = names(), names()
    to_wait = {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": wait}
    to_work = {
        "x-dead-letter-exchange": "",
        "x-dead-letter-routing-key": work,
        "x-message-ttl": 700,
    }
    if at == "work":
        s = stage(to_wait, work)
        s.declare(wait, at=s.a, **to_work)
    else:
        s = stage(to_work, wait)
        s.declare(work, at=s.a, **to_wait)
    properties = pika.BasicProperties(headers={"own": 1}, message_id="m", delivery_mode=2)
    s.pub.basic_publish("", work, b"retry", properties)
    for attempt in range(4):
        message = amqp.get(s.sub, work)
        assert (message.body, message.properties.message_id) == (b"retry", "m")
        assert message.properties.headers["own"] == 1
        if attempt:
            newest, older = deaths(message)
            assert (newest["reason"], newest["queue"], newest["count"]) == (
                "expired",
                wait,
                attempt,
            )
            assert (older["reason"], older["queue"], older["count"]) == ("rejected", work, attempt)
            assert message.properties.headers["x-first-death-queue"] == work
            assert message.properties.headers["x-last-death-queue"] == wait
        s.sub.basic_reject(message.tag, requeue=False)
        if attempt == 1:
            s.kill()
    assert amqp.get(s.sub, work, auto_ack=True).body == b"retry"
    assert amqp.get_all(s.sub, work, 0) == amqp.get_all(s.sub, wait, 0) == []
