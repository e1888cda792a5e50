"""A queue that is bound while a node does not hear of it: what its clients publish afterwards goes there too."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

import pika
import pytest
from pika.adapters.blocking_connection import BlockingChannel
from scenes import declare, roles

from harness import amqp
from harness.cluster import Cluster, json_of
from harness.node import Node
from harness.wait import SOON, eventually

#: Longer than a majority takes to find out that a node stands still, and shorter.
STALLS = (0.0, 0.3, 0.7, 1.2, 2.5)


def published(channel: BlockingChannel, exchange: str, body: bytes) -> Callable[[], str]:
    """Publishes without waiting for the answer; returns a call that does."""
    outcome: list[Any] = []

    def publish() -> None:
        try:
            channel.basic_publish(exchange, "k", body, amqp.PERSISTENT, mandatory=True)
            outcome.append("ack")
        except (pika.exceptions.NackError, pika.exceptions.UnroutableError) as error:
            outcome.append(type(error).__name__)

    publishing = threading.Thread(target=publish)
    publishing.start()

    def answer() -> str:
        publishing.join(SOON)
        assert outcome, "no answer"
        return outcome[0]

    return answer


@pytest.mark.parametrize("victim", ["the catalog's leader", "another"])
def test_bound_while_the_node_of_the_publisher_is_frozen(whole, names, open_at, victim) -> None:
    for number, stall in enumerate(STALLS):
        routed, unrouted, before = (names() for _ in range(3))
        declare(whole, before)
        leader = catalog_leader(whole)
        frozen = leader if victim == "the catalog's leader" else whole.others(leader)[number % 2]
        other = whole.others(frozen)[0]
        publishers = [amqp.confirmed(open_at(frozen)) for _ in range(2)]
        channel = open_at(other).channel()
        for exchange in (routed, unrouted):
            channel.exchange_declare(exchange, "direct", durable=True)
        channel.queue_bind(before, routed, "k")
        # Its way is remembered.
        publishers[0].basic_publish(routed, "k", b"before", amqp.PERSISTENT, mandatory=True)
        frozen.freeze()
        eventually(frozen.is_frozen)
        time.sleep(stall)  # The length of the stall is what is tested.
        late = names()
        channel.queue_declare(late, durable=True)
        for exchange in (routed, unrouted):
            channel.queue_bind(late, exchange, "k")
        answers = [
            published(publisher, exchange, exchange.encode())
            for publisher, exchange in zip(publishers, (routed, unrouted))
        ]
        frozen.thaw()
        assert [answer() for answer in answers] == ["ack", "ack"], f"after {stall} s"
        found = set(amqp.get_all(channel, late, 2))
        assert found == {routed.encode(), unrouted.encode()}
        assert amqp.get_all(channel, before, 2) == [b"before", routed.encode()]
        frozen.wait_ready()


def catalog_leader(cluster: Cluster) -> Node:
    """The node that leads the catalog."""

    def known() -> Node | None:
        status = json_of(cluster.nodes[0].http("/api/cluster/status", timeout=10))
        leaders = [group["leader"] for group in status["groups"] if group["name"] == "catalog"]
        return cluster.node(int(leaders[0].rpartition("@")[2])) if leaders[0] else None

    return eventually(known, what="the catalog has a leader")


def test_bound_while_the_node_of_the_publisher_is_cut_off(fresh, names, open_at) -> None:
    cluster = fresh(3, network=True).start()
    before, late, exchange = names(), names(), names()
    declare(cluster, before, late)
    cut, other, _ = roles(cluster, before, "follower")
    publisher = amqp.confirmed(open_at(cut))
    channel = open_at(other).channel()
    channel.exchange_declare(exchange, "fanout", durable=True)
    channel.queue_bind(before, exchange)
    publisher.basic_publish(exchange, "k", b"before", amqp.PERSISTENT)
    cluster.network.isolate(cut.id)
    channel.queue_bind(late, exchange)
    answer = published(publisher, exchange, b"after")
    cluster.network.heal()
    assert answer() == "ack"
    assert amqp.get_all(channel, late, 1) == [b"after"]
    assert amqp.get_all(channel, before, 2) == [b"before", b"after"]
