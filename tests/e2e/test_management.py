"""What operators and their tools ask on the management port."""

from __future__ import annotations

import concurrent.futures
import json
import time

import pika
import pytest

from harness import amqp
from harness.amqp import Consumer
from harness.broker import part
from harness.wait import eventually


def test_queue_counts(broker, pub, sub, name, durable) -> None:
    pub.queue_declare(name, durable=durable)
    amqp.fill(pub, name, [b"1", b"2", b"3"])
    amqp.get(sub, name)
    Consumer(sub, name)  # Takes the rest.
    path = f"/api/queues/%2F/{part(name)}"
    for node in range(len(broker.ports)):

        def counted() -> bool:
            info = broker.get(path, node)
            got = [
                info.get(k)
                for k in ("messages", "messages_ready", "messages_unacknowledged", "consumers")
            ]
            assert got == [3, 0, 3, 1], got
            return True

        eventually(counted, what=f"the counts at node {node + 1}")
    info = broker.get(path)
    assert (info["name"], info["vhost"], info["durable"]) == (name, "/", durable)


def test_declare_publish_get_delete(broker, ch, name) -> None:
    exchange, queue = f"/api/exchanges/%2F/{part(name)}", f"/api/queues/%2F/{part(name)}"
    assert broker.http(exchange, "PUT", {"type": "topic", "durable": True})[0] == 201
    assert broker.http(exchange, "PUT", {"type": "topic", "durable": True})[0] == 204
    assert broker.http(queue, "PUT", {"durable": True, "arguments": {"x-max-length": 9}})[0] == 201
    status, _ = broker.http(
        f"/api/bindings/%2F/e/{part(name)}/q/{part(name)}", "POST", {"routing_key": "a.#"}
    )
    assert status == 201
    ch.queue_declare(name, durable=True, arguments={"x-max-length": 9})
    status, body = broker.http(
        f"{exchange}/publish",
        "POST",
        {
            "properties": {"content_type": "text/plain"},
            "routing_key": "a.b",
            "payload": "hello",
            "payload_encoding": "string",
        },
    )
    assert (status, json.loads(body)) == (200, {"routed": True})
    status, body = broker.http(
        f"{queue}/get", "POST", {"count": 5, "ackmode": "ack_requeue_false", "encoding": "auto"}
    )
    (message,) = json.loads(body)
    assert (message["payload"], message["routing_key"]) == ("hello", "a.b")
    assert message["properties"]["content_type"] == "text/plain"
    assert broker.http(queue, "DELETE")[0] == 204
    assert broker.http(queue)[0] == 404
    assert broker.http(exchange, "DELETE")[0] == 204


@pytest.mark.warren_only("RabbitMQ puts any number of large messages into one answer")
def test_an_answer_holds_a_bounded_number_of_large_messages(broker, pub, name) -> None:
    pub.queue_declare(name, durable=True)
    amqp.fill(pub, name, [bytes([n]) * (5 << 20) for n in range(1, 7)])
    path = f"/api/queues/%2F/{part(name)}"

    def get(ackmode: str) -> list[dict]:
        ask = {"count": 10, "ackmode": ackmode, "encoding": "base64", "truncate": 1}
        status, body = broker.http(f"{path}/get", "POST", ask)
        assert status == 200, body
        return json.loads(body)

    # Up to 16 MiB, and the message that reaches them.
    assert [got["message_count"] for got in get("ack_requeue_true")] == [5, 4, 3, 2]
    assert [got["payload_bytes"] for got in get("ack_requeue_false")] == [5 << 20] * 4
    rest = get("ack_requeue_false")
    assert [(got["payload"], got["message_count"]) for got in rest] == [("BQ==", 1), ("Bg==", 0)]


@pytest.mark.parametrize("exchange", ["", "amq.default"])
def test_publish_to_the_default_exchange(broker, ch, name, exchange) -> None:
    ch.queue_declare(name, durable=True)
    message = {"properties": {}, "routing_key": name, "payload": "x", "payload_encoding": "string"}
    path = f"/api/exchanges/%2F/{exchange}/publish"
    for key, routed in ((name, True), (f"{name}-none", False)):
        status, body = broker.http(path, "POST", message | {"routing_key": key})
        assert (status, json.loads(body)) == (200, {"routed": routed})
    assert amqp.get_all(ch, name, 1) == [b"x"]


@pytest.mark.parametrize(
    "path",
    [
        "/api/overview", "/api/nodes", "/api/connections", "/api/channels", "/api/consumers",
        "/api/exchanges", "/api/exchanges/%2F", "/api/queues", "/api/queues/%2F", "/api/bindings",
        "/api/queues?disable_stats=true&enable_queue_totals=true",
        "/api/vhosts", "/api/users", "/api/permissions", "/api/policies", "/api/whoami",
        "/api/cluster-name", "/api/definitions", "/api/health/checks/alarms",
    ],
)  # fmt: skip
def test_lists_answer_json(broker, path) -> None:
    for node in range(len(broker.ports)):
        broker.get(path, node)


@pytest.mark.warren_only("came with RabbitMQ 3.13")
def test_detailed_queues(broker, pub, name) -> None:
    pub.queue_declare(name, durable=True)
    amqp.fill(pub, name, [b"x"])
    path = f"/api/queues/detailed?page=1&page_size=5&name=^{part(name)}$&use_regex=true"
    page = broker.get(path, 2)
    (row,) = page["items"]
    assert (page["filtered_count"], row["name"], row["messages"]) == (1, name, 1)


def test_needs_a_login(broker) -> None:
    assert broker.http("/api/overview", user="guest", password="wrong")[0] == 401


@pytest.mark.warren_only("RabbitMQ tells at once")
def test_refused_logins_are_told_late_and_alike(broker) -> None:
    """As late as over AMQP, and counted as there; nobody else waits."""

    def failed() -> int:
        lines = broker.http("/metrics")[1].decode().splitlines()
        name = "rabbitmq_auth_attempts_failed_total"
        return sum(int(line.split()[-1]) for line in lines if line.startswith(name))

    def seconds(user: str, password: str) -> float:
        began = time.monotonic()
        status, body = broker.http("/api/whoami", user=user, password=password)
        assert (status == 200) == (password == "guest"), (status, body)
        return time.monotonic() - began

    before = failed()
    with concurrent.futures.ThreadPoolExecutor() as others:
        refused = [
            others.submit(seconds, *login) for login in (("guest", "wrong"), ("nobody", "wrong"))
        ]
        assert seconds("guest", "guest") < 0.9
        assert all(told.result() >= 0.9 for told in refused)
    assert failed() - before == 2


def test_connections_of_all_nodes_are_listed(broker, connect, name) -> None:
    for node in range(3):
        connect(node, client_properties={"connection_name": f"{name}-{node}"})

    def listed() -> bool:
        rows = broker.get("/api/connections", 1)
        names = {(row.get("client_properties") or {}).get("connection_name") for row in rows}
        return {f"{name}-{node}" for node in range(3)} <= names

    eventually(listed, what="the connections of all nodes are listed")


def test_metrics(broker, pub, name) -> None:
    if broker.external:
        pytest.skip("RabbitMQ serves them on another port")
    pub.queue_declare(name, durable=True)
    amqp.fill(pub, name, [b"x"] * 5)
    for node in range(3):
        status, body = broker.http("/metrics", node=node)
        text = body.decode()
        assert status == 200
        for line in text.splitlines():
            assert line.startswith("#") or len(line.rsplit(" ", 1)) == 2, line
        assert "# TYPE" in text
        for word in ("connections", "queues", "fsync"):
            assert word in text, word


@pytest.mark.warren_only("RabbitMQ's statistics come some seconds later")
def test_message_stats_of_a_queue(broker, pub, sub, name, durable) -> None:
    pub.queue_declare(name, durable=durable)
    path = f"/api/queues/%2F/{part(name)}"
    assert "message_stats" not in broker.get(path)
    amqp.fill(pub, name, [b"1", b"2", b"3"])
    sub.basic_ack(amqp.get(sub, name).tag)
    Consumer(sub, name).wait(2)
    assert sub.basic_get(name) == (None, None, None)

    def counted() -> bool:
        stats = broker.get(path)["message_stats"]
        keys = ("publish", "deliver", "get", "get_empty", "deliver_get", "ack")
        got = [stats[key] for key in keys]
        assert got == [3, 2, 1, 1, 3, 1], stats
        assert all(stats[f"{key}_details"]["rate"] >= 0 for key in keys), stats
        return True

    eventually(counted, what="the counts")

    def fast() -> bool:
        amqp.fill(pub, name, [b"more"] * 10)
        return broker.get(path)["message_stats"]["publish_details"]["rate"] > 0

    eventually(fast, what="a rate")


@pytest.mark.warren_only("RabbitMQ's statistics come some seconds later")
def test_message_stats_of_a_virtual_host(broker, name, connect) -> None:
    """Sums of all nodes, with what ended channels and connections have counted."""
    path = f"/api/vhosts/{part(name)}"
    broker.put(path, {})
    assert "message_stats" not in broker.get(path)
    first = connect(0, virtual_host=name)
    publisher = first.channel()
    publisher.confirm_delivery()
    publisher.queue_declare("q", durable=True)
    amqp.fill(publisher, "q", [b"x" * 1000] * 3)
    publisher.close()
    second = connect(1, virtual_host=name)
    consumer = second.channel()
    consumer.basic_ack(amqp.get(consumer, "q").tag)

    def counted() -> bool:
        row = broker.get(path, 2)
        stats = row["message_stats"]
        got = [stats[key] for key in ("publish", "confirm", "get", "get_empty", "ack")]
        assert got == [3, 3, 1, 0, 1], stats
        assert row["recv_oct"] > 3000 and row["send_oct"] > 1000, row
        return True

    eventually(counted, what="the counts of an open connection")
    first.close()
    second.close()
    eventually(counted, what="the counts of a closed connection")
    assert broker.get(f"{path}?disable_stats=true").get("message_stats") is None
    broker.delete(path)


def test_logins_of_a_node(broker, connect) -> None:
    def attempts(protocol: str) -> list[int]:
        rows = broker.get(f"/api/auth/attempts/{nodes[0]}")
        keys = ("auth_attempts", "auth_attempts_failed", "auth_attempts_succeeded")
        found = [[row[key] for key in keys] for row in rows if row["protocol"] == protocol]
        return found[0] if found else [0, 0, 0]

    nodes = sorted(row["name"] for row in broker.get("/api/nodes"))
    status, _ = broker.http(f"/api/auth/attempts/{nodes[0]}", method="DELETE", node=1)
    assert status == 204
    assert attempts("amqp091") == [0, 0, 0]
    connect(0)
    with pytest.raises(pika.exceptions.AMQPConnectionError):
        connect(0, password="wrong")
    assert attempts("amqp091") == [2, 1, 1]
    assert attempts("http")[2] > 0
    assert broker.http("/api/auth/attempts/nobody@1")[0] == 404


@pytest.mark.warren_only("RabbitMQ serves its metrics on another port")
def test_metrics_of_single_objects(broker, pub, sub, name, durable) -> None:
    pub.queue_declare(name, durable=durable)
    amqp.fill(pub, name, [b"1", b"2", b"3"])
    amqp.get(sub, name)
    labels = f'{{vhost="/",queue="{name}"}}'

    def shown(path: str, sample: str) -> bool:
        """By the one node that leads or hosts the queue."""
        texts = [broker.http(path, node=node)[1].decode() for node in range(len(broker.ports))]
        return sum(sample in text.splitlines() for text in texts) == 1

    for path, sample in (
        ("/metrics/per-object", f"rabbitmq_queue_messages_ready{labels} 2"),
        (
            "/metrics/detailed?family=queue_coarse_metrics&vhost=%2F",
            f"rabbitmq_detailed_queue_messages_unacked{labels} 1",
        ),
        (
            "/metrics/detailed?family=queue_delivery_metrics",
            f"rabbitmq_detailed_queue_messages_published_total{labels} 3",
        ),
    ):
        eventually(lambda path=path, sample=sample: shown(path, sample), what=sample)
    text = broker.http("/metrics/detailed?family=queue_coarse_metrics&vhost=none")[1].decode()
    assert "rabbitmq_detailed_queue_messages{" not in text
    own = broker.http("/metrics/detailed?family=connection_coarse_metrics")[1].decode()
    assert "rabbitmq_detailed_connection_incoming_bytes_total{" in own


def test_connections_of_a_user(broker, ch) -> None:
    rows = eventually(
        lambda: broker.get("/api/connections/username/guest"), what="connections of guest"
    )
    assert {row["user"] for row in rows} == {"guest"}
    assert broker.get("/api/connections/username/nobody-of-that-name") == []


def test_feature_flags(broker) -> None:
    enable = "/api/feature-flags/{}/enable"
    assert broker.http(enable.format("quorum_queue"), "PUT", {})[0] == 204
    assert broker.http(enable.format("no_such_flag"), "PUT", {})[0] == 400


@pytest.mark.parametrize(
    "check",
    [
        "certificate-expiration/1/months",
        "quorum-queues-without-elected-leaders/all-vhosts",
        "quorum-queues-without-elected-leaders/all-vhosts/pattern/.*",
        "quorum-queues-without-elected-leaders/vhost/%2F",
        "quorum-queues-without-elected-leaders/vhost/%2F/pattern/%5Ejobs",
    ],
)
@pytest.mark.warren_only("checks of newer RabbitMQ")
def test_health_checks(broker, check) -> None:
    assert broker.get(f"/api/health/checks/{check}") == {"status": "ok"}


def test_exclusive_queues_are_not_deleted(broker, connect, name) -> None:
    owner = connect(1).channel()
    owner.queue_declare(name, exclusive=True)
    queue = f"/api/queues/%2F/{part(name)}"
    for path in (queue, f"{queue}/contents"):
        status, body = broker.http(path, "DELETE")
        assert (status, b"exclusive access" in body) == (400, True), body
    owner.queue_declare(name, exclusive=True)


@pytest.mark.warren_only("RabbitMQ's statistics come some seconds later")
def test_what_a_channel_and_its_consumers_show(broker, pub, sub, name) -> None:
    arguments = {"x-single-active-consumer": True, "x-consumer-timeout": 3600000}
    pub.queue_declare(name, durable=True, arguments=arguments)
    amqp.fill(pub, name, [b"1234", b"1234", b"1234"])
    sub.basic_qos(prefetch_count=2)
    Consumer(sub, name).wait(2)

    def shown() -> bool:
        queue = broker.get(f"/api/queues/%2F/{part(name)}", 2)
        (consumer,) = queue["consumer_details"]
        got = [consumer[key] for key in ("activity_status", "consumer_timeout", "prefetch_count")]
        assert got == ["single_active", 3600000, 2], consumer
        bytes_of = ("ready", "unacknowledged", "persistent")
        got = [queue[f"message_bytes_{kind}"] for kind in bytes_of]
        assert (queue["message_bytes"], got) == (12, [4, 8, 12]), queue
        channel = broker.get(f"/api/channels/{part(consumer['channel_details']['name'])}", 1)
        assert channel["prefetch_count"] == 2, channel
        assert [row["queue"]["name"] for row in channel["consumer_details"]] == [name]
        return True

    eventually(shown, what="the queue, its consumer and the channel")


@pytest.mark.warren_only("RabbitMQ's statistics come some seconds later")
def test_samples_where_a_range_is_asked_for(broker, pub, name) -> None:
    pub.queue_declare(name, durable=True)
    amqp.fill(pub, name, [b"x"] * 5)
    path = f"/api/queues/%2F/{part(name)}"
    assert "samples" not in broker.get(path)["messages_details"]
    ranges = "lengths_age=60&lengths_incr=5&msg_rates_age=60&msg_rates_incr=5"

    def shown() -> bool:
        queue = broker.get(f"{path}?{ranges}")
        assert queue["messages_details"]["samples"][0]["sample"] == 5, queue
        published = queue["message_stats"]["publish_details"]
        assert published["samples"][0]["sample"] == 5, queue
        assert published["avg_rate"] == published["rate"], queue
        return True

    eventually(shown, what="samples")


def test_hashes_are_taken_back(broker, name) -> None:
    """Without a word about the algorithm."""
    import json

    user = f"/api/users/{part(name)}"
    hashed = broker.get("/api/auth/hash_password/secret")["ok"]
    status, body = broker.http(user, "PUT", {"password_hash": hashed, "tags": "management"})
    assert status == 201, body
    status, body = broker.http("/api/whoami", user=name, password="secret")
    assert (status, json.loads(body)["name"]) == (200, name)
    assert broker.http(user, "DELETE")[0] == 204


@pytest.mark.warren_only("RabbitMQ has more global parameters")
def test_name_and_identity_of_the_cluster(broker) -> None:
    before = broker.get("/api/cluster-name")["name"]
    path = "/api/global-parameters/cluster_name"
    try:
        assert broker.http(path, "PUT", {"value": "renamed"})[0] == 204
        assert broker.get("/api/cluster-name", 2)["name"] == "renamed"
    finally:
        assert broker.http(path, "PUT", {"value": before})[0] == 204
    (name, identity) = broker.get("/api/global-parameters", 1)[-2:]
    assert (name["value"], identity["name"]) == (before, "internal_cluster_id")


@pytest.mark.warren_only("RabbitMQ keeps it where tracing is built in")
def test_the_flag_tracing_is_kept(broker, name) -> None:
    path = f"/api/vhosts/{part(name)}"
    assert broker.http(path, "PUT", {"tracing": True})[0] == 201
    assert broker.http(path, "PUT", {"description": "x"})[0] == 204
    vhost = broker.get(path, 1)
    assert (vhost["tracing"], vhost["description"]) == (True, "x")
    assert broker.http(path, "DELETE")[0] == 204
