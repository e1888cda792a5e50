"""What waits before it is handed out again goes on waiting when its leader is lost, or all nodes start anew."""

from __future__ import annotations

import time
from typing import Any

from harness import amqp
from harness.amqp import Consumer
from harness.node import Node
from harness.wait import bound, eventually

WAIT = 4.0


def retrying(least: float) -> dict[str, Any]:
    return {
        "x-queue-type": "quorum",
        "x-delayed-retry-type": "all",
        "x-delayed-retry-min": int(least * 1000),
    }


def wait_delayed(node: Node, queue: str) -> None:
    def waits() -> bool:
        row = node.queue_info(queue)
        return row is not None and row["messages_delayed"] == 1

    eventually(waits)


def test_waits_on(stage) -> None:
    s = stage(retrying(WAIT))
    amqp.fill(s.pub, s.queue, [b"waits", b"ready"])
    s.sub.basic_nack(amqp.get(s.sub, s.queue).tag)
    before = time.monotonic()
    wait_delayed(s.a, s.queue)
    # Confirmed: what the leader decided before is in the log.
    amqp.fill(s.pub, s.queue, [b"ready, too"])
    s.kill()
    consumer = Consumer(s.sub, s.queue)
    assert consumer.next().body == b"ready"
    assert consumer.next().body == b"ready, too"
    message = consumer.next(timeout=bound(30))
    assert (message.body, message.redelivered) == (b"waits", True)
    assert time.monotonic() - before > WAIT - 0.5


def test_waits_when_it_is_given_back_to_the_next_leader(stage) -> None:
    s = stage(retrying(WAIT))
    amqp.fill(s.pub, s.queue, [b"x"])
    consumer = Consumer(s.sub, s.queue)
    message = consumer.next()
    s.kill()
    before = time.monotonic()
    s.sub.basic_reject(message.tag, requeue=True)
    again = consumer.next(timeout=bound(30))
    assert again.properties.headers["x-delivery-count"] == 1
    assert time.monotonic() - before > WAIT - 0.5


def test_waits_on_after_a_restart_of_all(fresh) -> None:
    cluster = fresh(3)
    cluster.start()
    name = "retried"
    connection = cluster.connect(cluster.nodes[0])
    channel = amqp.confirmed(connection)
    channel.queue_declare(name, durable=True, arguments=retrying(600))
    amqp.fill(channel, name, [b"waits", b"ready"])
    channel.basic_nack(amqp.get(channel, name).tag)
    wait_delayed(cluster.nodes[1], name)
    amqp.fill(channel, name, [b"ready, too"])
    for node in cluster.nodes:
        node.kill()
    cluster.start()
    channel = cluster.connect(cluster.nodes[1]).channel()
    assert amqp.get_all(channel, name, 2) == [b"ready", b"ready, too"]
    wait_delayed(cluster.nodes[2], name)
