"""Shovels: definitions by the HTTP API and `rabbitmqctl`, and messages that arrive."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import pika
import pytest

from harness import amqp
from harness.broker import part
from harness.wait import eventually

pytestmark = pytest.mark.warren_only("shovels are a plugin of RabbitMQ's")


class Shovel:
    """One of virtual host `/`."""

    def __init__(self, broker, name: str) -> None:
        self.broker, self.name = broker, name
        self.parameter = f"/api/parameters/shovel/%2F/{part(name)}"
        self.path = f"/api/shovels/vhost/%2F/{part(name)}"

    def put(self, **value: Any) -> None:
        full = {"src-uri": "amqp://", "dest-uri": "amqp://", "reconnect-delay": 1}
        full |= {key.replace("_", "-"): v for key, v in value.items()}
        self.broker.put(self.parameter, {"value": full})

    def row(self, node: int = 0) -> dict[str, Any] | None:
        rows = self.broker.get("/api/shovels/%2F", node)
        return next((row for row in rows if row["name"] == self.name), None)

    def wait(self, state: str) -> dict[str, Any]:
        def there() -> dict[str, Any]:
            row = self.row()
            assert row is not None and row["state"] == state, row
            return row

        return eventually(there, what=f"shovel in state {state}")

    def wait_gone(self) -> None:
        def gone() -> bool:
            assert self.broker.http(self.parameter)[0] == 404
            return self.row() is None

        eventually(gone, what="the end of the shovel")


@pytest.fixture
def shovel(broker, name) -> Iterator[Callable[..., Shovel]]:
    made: list[Shovel] = []

    def make(suffix: str = "") -> Shovel:
        made.append(Shovel(broker, name + suffix))
        return made[-1]

    yield make
    for one in made:
        broker.http(one.parameter, "DELETE")


def test_moves_what_waits_and_is_gone(shovel, pub, sub, names) -> None:
    """The "move messages" of management pages: nothing is lost, in order, as it was."""
    source, target = names(), names()
    pub.queue_declare(source, durable=True)
    given = pika.BasicProperties(
        delivery_mode=2,
        content_type="text/x",
        headers={"a": 1, "deep": {"b": [True, None, "c"]}},
        message_id="id",
        expiration="600000",
        priority=3,
        timestamp=5,
        user_id="guest",
    )
    for number in range(500):
        pub.basic_publish("", source, b"%d" % number, given)
    pub.basic_publish("", source, b"", given)
    large = bytes(300_000)
    pub.basic_publish("", source, large, given)
    one = shovel()
    one.put(src_queue=source, dest_queue=target, src_delete_after="queue-length")
    one.wait_gone()
    bodies = amqp.get_all(sub, target, 502)
    assert bodies == [*(b"%d" % n for n in range(500)), b"", large]
    assert sub.queue_declare(source, passive=True).method.message_count == 0
    # It was declared by the shovel, durable.
    pub.basic_publish("", source, b"more", given)
    again = shovel("-again")
    again.put(src_queue=source, dest_queue=target, src_delete_after=1)
    again.wait_gone()
    got = amqp.get(sub, target)
    assert (got.body, got.method.redelivered) == (b"more", False)
    for key in vars(given):
        assert getattr(got.properties, key) == getattr(given, key), key


def test_nothing_waits(shovel, ch, names) -> None:
    source, target = names(), names()
    ch.queue_declare(source, durable=True)
    one = shovel()
    one.put(src_queue=source, dest_queue=target, src_delete_after="queue-length")
    one.wait_gone()
    assert ch.queue_declare(target, passive=True).method.message_count == 0


@pytest.mark.parametrize("mode", ["on-confirm", "on-publish", "no-ack"])
def test_goes_on(shovel, broker, pub, sub, names, mode) -> None:
    """It stays, and takes what comes; what it does is told."""
    source, target = names(), names()
    one = shovel()
    one.put(src_queue=source, dest_queue=target, ack_mode=mode)
    row = one.wait("running")
    assert (row["vhost"], row["type"], row["src_uri"]) == ("/", "dynamic", "amqp://")
    assert (row["src_queue"], row["dest_queue"]) == (source, target)
    assert (row["src_protocol"], row["remaining"]) == ("amqp091", "unlimited")
    amqp.fill(pub, source, [b"%d" % n for n in range(100)])
    assert amqp.get_all(sub, target, 100) == [b"%d" % n for n in range(100)]

    def counted() -> bool:
        for node in range(len(broker.ports)):
            shown = one.row(node)
            assert shown is not None and shown["forwarded"] == 100, shown
        return True

    eventually(counted, what="the count on all nodes")
    source_info = f"/api/queues/%2F/{part(source)}"

    def settled() -> bool:
        info = broker.get(source_info)
        assert (info["messages"], info["consumers"]) == (0, 1), info
        return True

    eventually(settled, what="acknowledgements at the source")
    broker.delete(one.path)
    one.wait_gone()

    def left() -> bool:
        assert broker.get(source_info)["consumers"] == 0
        return True

    eventually(left, what="the end of its consumer")


def test_over_the_network(shovel, broker, pub, sub, names) -> None:
    """By a URI with a host and a password, which is not shown; the first address of the list is dead."""
    source, target = names(), names()
    uri = f"amqp://guest:guest@127.0.0.1:{broker.port(1)}/%2F?heartbeat=5"
    dead = "amqp://guest:guest@127.0.0.1:1"
    one = shovel()
    one.put(src_uri=[dead, uri], src_queue=source, dest_uri=uri, dest_queue=target)
    row = one.wait("running")
    assert row["src_uri"] == f"amqp://127.0.0.1:{broker.port(1)}/%2F"
    amqp.fill(pub, source, [b"a", b"b"])
    assert amqp.get_all(sub, target, 2) == [b"a", b"b"]
    shown = broker.get(one.path)
    assert (shown["name"], shown["component"]) == (one.name, "shovel")
    assert "guest" not in json.dumps(shown["value"])
    assert shown["value"]["src-queue"] == source


def test_from_an_exchange_to_an_exchange(shovel, broker, ch, pub, sub, names) -> None:
    source, target, queue = names(), names(), names()
    ch.exchange_declare(source, "topic", durable=True)
    ch.exchange_declare(target, "topic", durable=True)
    ch.queue_declare(queue, durable=True)
    ch.queue_bind(queue, target, "#")
    one = shovel()
    one.put(
        src_exchange=source,
        src_exchange_key="a.#",
        dest_exchange=target,
        dest_add_forward_headers=True,
        dest_add_timestamp_header=True,
        dest_publish_properties={"delivery_mode": 2, "app_id": "shovel"},
    )
    one.wait("running")
    pub.basic_publish(source, "a.b", b"x", pika.BasicProperties(headers={"mine": 1}))
    pub.basic_publish(source, "c", b"not this one")
    got = amqp.get(sub, queue)
    properties = got.properties
    assert (got.body, got.method.routing_key, got.method.exchange) == (b"x", "a.b", target)
    assert (properties.delivery_mode, properties.app_id) == (2, "shovel")
    assert properties.headers["mine"] == 1
    assert properties.headers["x-shovelled-timestamp"] > 1_700_000_000
    (hop,) = properties.headers["x-shovelled"]
    assert (hop["shovel-name"], hop["shovel-vhost"]) == (one.name, "/")
    assert (hop["src-exchange"], hop["dest-exchange"]) == (source, target)
    assert hop["shovelled-by"] == broker.get("/api/cluster-name")["name"]


def test_refused_messages_stay(shovel, broker, pub, sub, names) -> None:
    """A full queue at the destination refuses; what it refused is still at the source."""
    source, target = names(), names()
    pub.queue_declare(
        target, durable=True, arguments={"x-max-length": 2, "x-overflow": "reject-publish"}
    )
    pub.queue_declare(source, durable=True)
    amqp.fill(pub, source, [b"%d" % n for n in range(5)])
    one = shovel()
    one.put(src_queue=source, dest_queue=target)
    one.wait("running")
    seen = set()
    while len(seen) < 5:
        seen.add(amqp.get(sub, target, auto_ack=True).body)
    assert seen == {b"%d" % n for n in range(5)}


def test_a_destination_that_is_deleted(shovel, pub, sub, names) -> None:
    """What finds no queue any more is not acknowledged: the shovel begins anew and declares the queue again."""
    source, target = names(), names()
    one = shovel()
    one.put(src_queue=source, dest_queue=target)
    one.wait("running")
    sub.queue_delete(target)
    amqp.fill(pub, source, [b"a", b"b"])

    path = f"/api/queues/%2F/{part(target)}"

    def again() -> bool:
        status, answer = one.broker.http(path)
        assert status == 200, status
        info = json.loads(answer)
        assert info["messages"] == 2, info
        return True

    eventually(again, what="the queue and its messages")
    assert sorted(amqp.get_all(sub, target, 2)) == [b"a", b"b"]


def test_unreachable_and_changed(shovel, pub, sub, names) -> None:
    source, target = names(), names()
    one = shovel()
    one.put(src_queue=source, dest_uri="amqp://u:secret@127.0.0.1:1", dest_queue=target)
    row = one.wait("terminated")
    assert "failed to connect to destination" in row["reason"]
    assert "secret" not in json.dumps(row)
    one.put(src_queue=source, dest_queue=target)
    one.wait("running")
    amqp.fill(pub, source, [b"a"])
    assert amqp.get_all(sub, target, 1) == [b"a"]
    assert one.broker.http(f"{one.path}/restart", "DELETE")[0] == 204
    one.wait("running")
    amqp.fill(pub, source, [b"b"])
    assert amqp.get_all(sub, target, 1) == [b"b"]


def test_predeclared(shovel, ch, names) -> None:
    source, target = names(), names()
    ch.queue_declare(source, durable=True)
    one = shovel()
    one.put(src_queue=source, src_predeclared=True, dest_queue=target, dest_predeclared=True)
    assert "failed to set up topology" in one.wait("terminated")["reason"]
    ch.queue_declare(target, durable=True)
    one.wait("running")


def test_no_way_into_other_virtual_hosts(broker, shovel, names) -> None:
    """Who may define shovels reaches no further by them than without."""
    open_, closed, user = names(), names(), names()
    for vhost in (open_, closed):
        broker.put(f"/api/vhosts/{vhost}", {})
    broker.put(f"/api/users/{user}", {"password": "p", "tags": "policymaker"})
    everything = {"configure": ".*", "write": ".*", "read": ".*"}
    broker.put(f"/api/permissions/{open_}/{user}", everything)
    path = f"/api/parameters/shovel/{open_}/s"
    try:
        for uri in (f"amqp:///{closed}", f"amqp://guest@/{closed}", "amqp://"):
            value = {"src-uri": uri, "src-queue": "q", "dest-uri": f"amqp:///{open_}"}
            status, answer = broker.http(path, "PUT", {"value": value}, user=user, password="p")
            assert status == 400, answer
            assert b"may not connect to vhost" in answer
            parameters = [{"component": "shovel", "name": "s", "value": value}]
            status, answer = broker.http(
                f"/api/definitions/{open_}",
                "POST",
                {"parameters": parameters},
                user=user,
                password="p",
            )
            assert status == 400, answer
        assert broker.http(path)[0] == 404
    finally:
        for vhost in (open_, closed):
            broker.http(f"/api/vhosts/{vhost}", "DELETE")
        broker.http(f"/api/users/{user}", "DELETE")


def test_user_of_the_uri(broker, shovel, pub, sub, names) -> None:
    """A user without a password in a URI of this cluster limits the shovel to what that user may do."""
    source, target, user = names(), names(), names()
    pub.queue_declare(source, durable=True)
    pub.queue_declare(target, durable=True)
    broker.put(f"/api/users/{user}", {"password": "p", "tags": ""})
    path = f"/api/permissions/%2F/{user}"
    nothing = {"configure": "^$", "write": "^$", "read": "^$"}
    try:
        broker.put(path, nothing)
        one = shovel()
        one.put(src_uri=f"amqp://{user}@/%2F", src_queue=source, dest_queue=target)
        assert "ACCESS_REFUSED" in one.wait("terminated")["reason"]
        broker.put(path, nothing | {"read": f"^{source}$"})
        one.wait("running")
        amqp.fill(pub, source, [b"a"])
        assert amqp.get_all(sub, target, 1) == [b"a"]
    finally:
        broker.http(f"/api/users/{user}", "DELETE")


def test_its_virtual_host_is_deleted(broker, names) -> None:
    vhost = names()
    broker.put(f"/api/vhosts/{vhost}", {})
    value = {
        "src-uri": f"amqp:///{vhost}",
        "src-queue": "a",
        "dest-uri": f"amqp:///{vhost}",
        "dest-queue": "b",
    }
    broker.put(f"/api/parameters/shovel/{vhost}/s", {"value": value})

    def names_of() -> list[str]:
        return [row["state"] for row in broker.get("/api/shovels") if row["vhost"] == vhost]

    eventually(lambda: names_of() == ["running"], what="the shovel at work")
    broker.delete(f"/api/vhosts/{vhost}")
    eventually(lambda: names_of() == [], what="its end")


def test_definitions_bring_shovels_last(broker, names) -> None:
    """A shovel in a file of definitions does not declare the queues of the file before the file does."""
    vhost = names()
    broker.put(f"/api/vhosts/{vhost}", {})
    uri = f"amqp:///{vhost}"
    ends = {"src-uri": uri, "src-queue": "a", "dest-uri": uri, "dest-queue": "b"}
    wanted = {"a": {"x-max-length": 7}, "b": {"x-queue-type": "quorum", "x-delivery-limit": 3}}
    # The queues of the shovel come last, behind many that take their time.
    others = {f"q{i}": {} for i in range(1000)}
    queues = [
        {"name": queue, "durable": True, "auto_delete": False, "arguments": arguments}
        for queue, arguments in (others | wanted).items()
    ]
    parameters = [{"component": "shovel", "name": "s", "value": ends}]
    try:
        status, answer = broker.http(
            f"/api/definitions/{vhost}", "POST", {"parameters": parameters, "queues": queues}
        )
        assert status == 204, answer
        there = {queue: broker.get(f"/api/queues/{vhost}/{queue}")["arguments"] for queue in wanted}
        assert there == wanted

        def states() -> list[str]:
            return [row["state"] for row in broker.get("/api/shovels") if row["vhost"] == vhost]

        eventually(lambda: states() == ["running"], what="the shovel at work")
    finally:
        broker.delete(f"/api/vhosts/{vhost}")


def test_local_protocol(shovel, pub, sub, names) -> None:
    """RabbitMQ's `local` is a connection within the cluster here, with the login of the URI."""
    source, target = names(), names()
    one = shovel()
    one.put(
        src_protocol="local",
        src_uri="amqp://guest:guest@nowhere.invalid",
        src_queue=source,
        dest_protocol="local",
        dest_queue=target,
    )
    assert one.wait("running")["src_protocol"] == "local"
    amqp.fill(pub, source, [b"a"])
    assert amqp.get_all(sub, target, 1) == [b"a"]
