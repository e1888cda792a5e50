"""Policies: applied to what exists, at once, on all nodes; priorities; operator policies."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pika
import pytest

from harness import amqp
from harness.broker import Broker, part
from harness.wait import eventually


@pytest.fixture
def policy(broker: Broker) -> Iterator[Callable[..., None]]:
    """`policy(pattern, definition, …)`; removed at the end."""
    made: list[str] = []

    def make(
        pattern: str, definition: dict[str, Any], kind: str = "policies", priority: int = 0,
        apply_to: str = "all",
    ) -> str:  # fmt: skip
        path = f"/api/{kind}/%2F/{part(f'{pattern}-{len(made)}')}"
        broker.put(
            path,
            {
                "pattern": f"^{pattern}",
                "definition": definition,
                "priority": priority,
                "apply-to": apply_to,
            },
        )
        made.append(path)
        return path

    yield make
    for path in made:
        broker.http(path, "DELETE")


def test_limit_applies_to_an_existing_queue(pub, sub, policy, name, durable) -> None:
    pub.queue_declare(name, durable=durable)
    amqp.fill(pub, name, [b"%d" % i for i in range(10)])
    policy(name, {"max-length": 4})
    amqp.wait_ready_count(sub, name, 4)
    assert amqp.get_all(sub, name, 4) == [b"6", b"7", b"8", b"9"]


def test_removed_policy_stops_to_apply(broker, pub, sub, policy, name, durable) -> None:
    pub.queue_declare(name, durable=durable)
    path = policy(name, {"max-length": 1})
    pub.basic_publish("", name, b"1")
    pub.basic_publish("", name, b"2")
    amqp.wait_ready_count(sub, name, 1)
    broker.delete(path)

    def grows() -> bool:
        pub.basic_publish("", name, b"more")
        return amqp.counts(sub, name)[0] >= 3

    eventually(grows, what="the limit is gone")


def test_the_higher_priority_wins(pub, sub, policy, name) -> None:
    policy(name, {"max-length": 1}, priority=1)
    policy(name, {"max-length": 3}, priority=5)
    pub.queue_declare(name)
    amqp.fill(pub, name, [b"%d" % i for i in range(10)])
    amqp.wait_ready_count(sub, name, 3)


def test_argument_and_policy_the_lower_limit(pub, sub, policy, name, durable) -> None:
    policy(name, {"max-length": 3})
    pub.queue_declare(name, durable=durable, arguments={"x-max-length": 5})
    pub.queue_declare(name + "-b", durable=durable, arguments={"x-max-length": 2})
    for queue, expected in ((name, 3), (name + "-b", 2)):
        amqp.fill(pub, queue, [b"x"] * 8)
        amqp.wait_ready_count(sub, queue, expected)


def test_dead_letter_policy(pub, sub, policy, names, durable) -> None:
    source, target = names(), names()
    pub.queue_declare(source, durable=durable)
    pub.queue_declare(target, durable=durable)
    policy(source, {"dead-letter-exchange": "", "dead-letter-routing-key": target})

    def dies_into_target() -> bool:
        pub.basic_publish("", source, b"x")
        sub.basic_reject(amqp.get(sub, source).tag, requeue=False)
        return sub.basic_get(target, auto_ack=True)[0] is not None

    eventually(dies_into_target, what="the dead letter policy applies")


def test_message_ttl_policy(pub, sub, policy, name, durable) -> None:
    policy(name, {"message-ttl": 200})
    pub.queue_declare(name, durable=durable)

    def expires() -> bool:
        pub.basic_publish("", name, b"x")
        try:
            eventually(lambda: amqp.counts(sub, name)[0] == 0, timeout=3)
        except AssertionError:
            return False
        return True

    eventually(expires, what="the TTL applies")


def test_alternate_exchange_policy(pub, sub, policy, names) -> None:
    main, alternate, queue = names(), names(), names()
    pub.exchange_declare(main, "direct")
    pub.exchange_declare(alternate, "fanout")
    pub.queue_declare(queue)
    pub.queue_bind(queue, alternate)
    policy(main, {"alternate-exchange": alternate}, apply_to="exchanges")

    def routed() -> bool:
        try:
            pub.basic_publish(main, "nobody", b"x", mandatory=True)
        except pika.exceptions.UnroutableError:
            return False
        return True

    eventually(routed, what="the alternate exchange applies")
    assert amqp.get(sub, queue).body == b"x"


def test_operator_policy_lowers(pub, sub, policy, name) -> None:
    policy(name, {"max-length": 10})
    policy(name, {"max-length": 2}, kind="operator-policies", apply_to="queues")
    pub.queue_declare(name)

    def bounded() -> bool:
        pub.queue_purge(name)
        amqp.fill(pub, name, [b"x"] * 5)
        return amqp.counts(sub, name)[0] == 2

    eventually(bounded, what="the operator's limit applies")


def test_shown_on_every_node(broker, pub, policy, name) -> None:
    pub.queue_declare(name, durable=True)
    path = policy(name, {"max-length": 7})
    policy_name = path.rpartition("/")[2]
    for node in range(len(broker.ports)):

        def shown() -> bool:
            info = broker.get(f"/api/queues/%2F/{part(name)}", node)
            return (
                info.get("policy") == policy_name
                and info["effective_policy_definition"].get("max-length") == 7
            )

        eventually(shown, what=f"node {node + 1} shows the policy")


def test_invalid_policy_is_refused(broker, name) -> None:
    status, body = broker.http(
        f"/api/policies/%2F/{part(name)}",
        "PUT",
        {"pattern": "^x", "definition": {"max-length": "many"}, "priority": 0, "apply-to": "all"},
    )
    assert status == 400, body


def test_a_pattern_may_look_ahead(broker, pub, sub, name) -> None:
    """As in OpenStack's `^(?!amq\\.).*`: all queues but some."""
    path = f"/api/policies/%2F/{part(name)}"
    pattern = f"^(?!{name}-not).*{name}"
    broker.put(path, {"pattern": pattern, "definition": {"max-length": 1}, "apply-to": "queues"})
    try:
        for queue, expected in ((f"{name}-yes", 1), (f"{name}-not", 3)):
            pub.queue_declare(queue, auto_delete=False, exclusive=False)
            amqp.fill(pub, queue, [b"x"] * 3)
            amqp.wait_ready_count(sub, queue, expected)
            pub.queue_delete(queue)
        status, _ = broker.http(
            path, "PUT", {"pattern": "^(?!amq", "definition": {"max-length": 1}}
        )
        assert status == 400
    finally:
        broker.http(path, "DELETE")
