"""Policies of every key, set before and after the kill of the node that leads their queues.

One node dies for all tests of this file: for each key it led a queue whose policy was there, and one
whose policy is set when it is gone.
"""

from __future__ import annotations

import re
import time
import uuid
from collections.abc import Iterator
from typing import Any

import pika
import pytest

from harness import amqp
from harness.amqp import Consumer
from harness.broker import part
from harness.cluster import Cluster
from harness.node import Node
from harness.wait import eventually

GRAVE = "grave"
DEFINITIONS: dict[str, dict[str, Any]] = {
    "message-ttl": {"message-ttl": 500},
    "expires": {"expires": 4000},
    "max-length": {"max-length": 2},
    "max-length-bytes": {"max-length-bytes": 10},
    "overflow": {"max-length": 2, "overflow": "reject-publish"},
    "delivery-limit": {"delivery-limit": 1},
    "consumer-timeout": {"consumer-timeout": 1000},
    "dead-letter": {"dead-letter-exchange": "", "dead-letter-routing-key": GRAVE},
}
WHEN = ("before", "after")
#: Deliveries are looked at every ten seconds.
SOON_LATE = 40.0


class Scene:
    """Queues named `KEY-WHEN`, and survivors to ask."""

    def __init__(self, cluster: Cluster, victim: Node) -> None:
        self.cluster, self.victim = cluster, victim
        self.a, self.b = cluster.others(victim)
        self.pub = amqp.confirmed(cluster.connect(self.a))
        self.sub = cluster.connect(self.b).channel()
        self.holders: dict[str, Consumer] = {}

    def put(
        self, queue: str, definition: dict[str, Any], kind: str = "policies", priority: int = 0
    ) -> None:
        body = {
            "pattern": f"^{re.escape(queue)}$",
            "definition": definition,
            "priority": priority,
            "apply-to": "queues",
        }
        status, answer = self.a.http(f"/api/{kind}/%2F/{uuid.uuid4().hex}", "PUT", body)
        assert status == 201, (status, answer)

    def hold(self, queue: str) -> None:
        """A consumer that has a message and does not acknowledge it."""
        amqp.fill(self.pub, queue, [b"held"])
        consumer = Consumer(self.cluster.connect(self.b).channel(), queue)
        consumer.wait(1)
        self.holders[queue] = consumer


@pytest.fixture(scope="module")
def scene(shared: Cluster) -> Iterator[Scene]:
    probe = shared.connect(1).channel()
    probe.queue_declare("probe", durable=True)
    victim = shared.leader("probe")
    made = Scene(shared, victim)
    channel = shared.connect(victim).channel()
    channel.queue_declare(GRAVE, durable=True)
    operated = [f"operator-{when}" for when in WHEN]
    for key in DEFINITIONS:
        channel.queue_declare(f"{key}-before", durable=True)
        channel.queue_declare(f"{key}-after", durable=True)
        made.put(f"{key}-before", DEFINITIONS[key])
    for queue in operated:
        channel.queue_declare(queue, durable=True, arguments={"x-max-length": 8})
        made.put(queue, {"max-length": 5})
    made.put("operator-before", {"max-length": 2}, "operator-policies")
    made.hold("consumer-timeout-before")
    made.hold("consumer-timeout-after")
    for queue in (*operated, *(f"{key}-{when}" for key in DEFINITIONS for when in WHEN)):
        assert shared.leader(queue) is victim
    victim.kill()
    for key in DEFINITIONS:
        made.put(f"{key}-after", DEFINITIONS[key])
    made.put("operator-after", {"max-length": 2}, "operator-policies")
    yield made


@pytest.fixture(params=WHEN)
def when(request: pytest.FixtureRequest) -> str:
    return request.param


def applied(scene: Scene, queue: str, definition: dict[str, Any]) -> None:
    """Until both survivors show it: a change is known everywhere soon."""
    for node in (scene.a, scene.b):

        def shown(node: Node = node) -> bool:
            info = node.queue_info(queue)
            assert info and info["effective_policy_definition"] == definition, info
            return True

        eventually(shown, what=f"{node} shows the policy of '{queue}'")


def prepared(scene: Scene, key: str, when: str) -> str:
    queue = f"{key}-{when}"
    applied(scene, queue, DEFINITIONS[key])
    return queue


def test_expires(scene, when) -> None:
    """First in the file: the one set before the kill runs since then."""
    queue = f"expires-{when}"
    path = f"/api/queues/%2F/{part(queue)}"
    eventually(lambda: scene.b.http(path)[0] == 404, what="the queue goes")


def test_message_ttl(scene, when) -> None:
    queue = prepared(scene, "message-ttl", when)
    began = time.monotonic()
    amqp.fill(scene.pub, queue, [b"1", b"2"])
    amqp.wait_ready_count(scene.sub, queue, 0)
    assert time.monotonic() - began >= 0.5


def test_max_length(scene, when) -> None:
    queue = prepared(scene, "max-length", when)
    amqp.fill(scene.pub, queue, [b"%d" % i for i in range(5)])
    assert amqp.get_all(scene.sub, queue, 2) == [b"3", b"4"]


def test_max_length_bytes(scene, when) -> None:
    queue = prepared(scene, "max-length-bytes", when)
    amqp.fill(scene.pub, queue, [b"1234", b"5678", b"abcd"])
    assert amqp.get_all(scene.sub, queue, 2) == [b"5678", b"abcd"]


def test_overflow(scene, when) -> None:
    queue = prepared(scene, "overflow", when)
    amqp.fill(scene.pub, queue, [b"1", b"2"])
    with pytest.raises(pika.exceptions.NackError):
        amqp.fill(scene.pub, queue, [b"3"])
    assert amqp.get_all(scene.sub, queue, 2) == [b"1", b"2"]


def test_delivery_limit(scene, when) -> None:
    queue = prepared(scene, "delivery-limit", when)
    amqp.fill(scene.pub, queue, [b"poison", b"good"])
    for failed in (None, 1):
        message = amqp.get(scene.sub, queue)
        assert message.body == b"poison"
        assert (message.properties.headers or {}).get("x-delivery-count") == failed
        scene.sub.basic_reject(message.tag, requeue=True)
    assert amqp.get_all(scene.sub, queue, 1) == [b"good"]


def test_dead_letter(scene, when) -> None:
    queue = prepared(scene, "dead-letter", when)
    amqp.fill(scene.pub, queue, [b"x"])
    scene.sub.basic_reject(amqp.get(scene.sub, queue).tag, requeue=False)
    dead = amqp.get(scene.sub, GRAVE, auto_ack=True)
    (death,) = dead.properties.headers["x-death"]
    assert (dead.body, death["queue"], death["reason"]) == (b"x", queue, "rejected")


def test_operator_policy_lowers(scene, when) -> None:
    """Argument 8, policy 5, operator's 2."""
    queue = f"operator-{when}"
    applied(scene, queue, {"max-length": 2})
    amqp.fill(scene.pub, queue, [b"%d" % i for i in range(10)])
    assert amqp.get_all(scene.sub, queue, 2) == [b"8", b"9"]


def test_consumer_timeout(scene, when) -> None:
    """Of a delivery from before the kill, by the next leader. Last: it takes its time."""
    queue = prepared(scene, "consumer-timeout", when)
    consumer = scene.holders[queue]
    amqp.pump(consumer.connection, lambda: consumer.cancelled_by_broker, SOON_LATE, "the cancel")
    again = amqp.get(scene.sub, queue, auto_ack=True)
    assert (again.body, again.redelivered) == (b"held", True)


def test_known_to_the_node_that_was_down(scene) -> None:
    """When it is back it shows them, and applies them as a leader."""
    scene.cluster.start([scene.victim])
    for when in WHEN:
        queue = f"max-length-{when}"

        def shown(queue: str = queue) -> bool:
            info = scene.victim.queue_info(queue)
            return bool(info) and info["effective_policy_definition"] == {"max-length": 2}

        eventually(shown, what="the policy is shown")
        channel = amqp.confirmed(scene.cluster.connect(scene.victim))
        amqp.fill(channel, queue, [b"%d" % i for i in range(5)])
        assert amqp.get_all(scene.sub, queue, 2) == [b"3", b"4"]
        channel.connection.close()
