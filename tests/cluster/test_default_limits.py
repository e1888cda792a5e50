"""--delivery-limit and --queue-limit: bounds for queues that name none."""

from __future__ import annotations

import json

from harness import amqp
from harness.amqp import channel_error
from harness.wait import eventually


def test_delivery_limit(fresh) -> None:
    cluster = fresh(1, extra_args=["--delivery-limit", "2"]).start()
    channel = cluster.connect(1).channel()
    for name, durable, arguments in [
        ("durable", True, None),
        ("transient", False, None),
        ("own", True, {"x-delivery-limit": 0}),
    ]:
        channel.queue_declare(name, durable=durable, arguments=arguments)
        amqp.fill(channel, name, [b"poison"])
        for _ in range(1 if arguments else 3):
            channel.basic_reject(amqp.get(channel, name).tag, requeue=True)
        amqp.wait_ready_count(channel, name, 0)
    (node,) = cluster.nodes
    # -1 lifts the node's limit, as an argument and by policy.
    policy = {"pattern": "^free policy$", "definition": {"delivery-limit": -1}}
    assert node.http("/api/policies/%2F/free", "PUT", policy)[0] == 201
    for name, arguments in [("free", {"x-delivery-limit": -1}), ("free policy", None)]:
        channel.queue_declare(name, durable=True, arguments=arguments)
        amqp.fill(channel, name, [b"poison"])
        for _ in range(5):
            channel.basic_reject(amqp.get(channel, name).tag, requeue=True)
        amqp.wait_ready_count(channel, name, 1)
    rows = json.loads(node.http("/api/queues")[1])
    assert {row["name"]: row["delivery_limit"] for row in rows} == {
        "durable": 2, "transient": 2, "own": 0, "free": "unlimited", "free policy": "unlimited",
    }  # fmt: skip

    def counted() -> bool:
        text = node.http("/metrics")[1].decode()
        line = next(
            line
            for line in text.splitlines()
            if line.startswith("rabbitmq_global_messages_dead_lettered_delivery_limit_total")
        )
        return float(line.split()[-1]) == 3

    eventually(counted, 10, "three messages are counted")
    told = [line for line in node.log_text().splitlines() if "delivery limit allows" in line]
    assert len(told) == 3, told


def test_nacks_count_if_the_operator_says_so(fresh) -> None:
    cluster = fresh(1, extra_args=["--delivery-limit-counts-nacks"]).start()
    channel = cluster.connect(1).channel()
    for durable in (True, False):
        channel.queue_declare("nacked", durable=durable, arguments={"x-delivery-limit": 1})
        amqp.fill(channel, "nacked", [b"poison"])
        for _ in range(2):
            channel.basic_nack(amqp.get(channel, "nacked").tag, requeue=True)
        amqp.wait_ready_count(channel, "nacked", 0)
        channel.queue_delete("nacked")


def test_queue_limit(fresh) -> None:
    cluster = fresh(3, extra_args=["--queue-limit", "2"]).start()
    channel = cluster.connect(1).channel()
    channel.queue_declare("a", durable=True)
    channel.queue_declare("b", durable=False)
    text = "PRECONDITION_FAILED - cannot declare queue 'c': queue limit in cluster (2) is reached"
    for node in cluster.nodes:
        refused = cluster.connect(node).channel()
        with channel_error(406, text):
            refused.queue_declare("c", durable=True)
    status, body = cluster.nodes[1].http("/api/queues/%2F/c", "PUT", {"durable": True})
    assert status == 400 and "queue limit in cluster (2)" in json.loads(body)["reason"]
    # What exists is declared again, and direct replies are no queues.
    channel.queue_declare("a", durable=True)
    channel.basic_consume("amq.rabbitmq.reply-to", lambda *_: None, auto_ack=True)
    channel.queue_delete("b")
    cluster.connect(2).channel().queue_declare("c", durable=True)
