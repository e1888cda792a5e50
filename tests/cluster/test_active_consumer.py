"""Whose a queue is, when its leader changes."""

from __future__ import annotations

import time

import pytest

from harness import amqp
from harness.amqp import Consumer, channel_error
from harness.cluster import Cluster
from harness.node import Node

#: Longer than a new leader waits for nodes to tell what they hold.
HAND_OVER = 15.0


def leader_and_others(cluster: Cluster, queue: str) -> tuple[Node, Node, Node]:
    leader = cluster.leader(queue)
    first, second = cluster.others(leader)
    return leader, first, second


def declare(cluster: Cluster, queue: str, **arguments: object) -> None:
    connection = cluster.connect(cluster.nodes[0])
    connection.channel().queue_declare(queue, durable=True, arguments=arguments or None)
    connection.close()


def work(consumers: list[Consumer], until: float) -> None:
    while time.monotonic() < until:
        for consumer in consumers:
            consumer.connection.process_data_events(time_limit=0.02)


@pytest.mark.parametrize("active_first", [True, False])
def test_the_active_consumer_stays_active(whole, name, active_first) -> None:
    """Messages that it holds show who was active; nobody else gets any, however the nodes come."""
    declare(whole, name, **{"x-single-active-consumer": True})
    leader, a, b = leader_and_others(whole, name)
    nodes = (a, b) if active_first else (b, a)
    active = Consumer(whole.connect(nodes[0]).channel(), name)
    waiting = [Consumer(whole.connect(nodes[1]).channel(), name) for _ in range(3)]
    pub = amqp.confirmed(whole.connect(a))
    amqp.fill(pub, name, [b"%d" % i for i in range(5)])
    active.wait(5)
    active.ack(active.messages[2], multiple=True)
    amqp.sync(active.channel)
    leader.kill()
    amqp.fill(pub, name, [b"%d" % i for i in range(5, 20)])
    active.wait(20, HAND_OVER)
    work(waiting, time.monotonic() + 1.0)
    assert active.bodies == [b"%d" % i for i in range(20)]
    assert all(not other.messages for other in waiting)
    # When it goes, the oldest of the others is next.
    active.connection.close()
    amqp.fill(pub, name, [b"next"])
    waiting[0].wait(18, HAND_OVER)
    assert waiting[0].bodies == [b"%d" % i for i in range(3, 20)] + [b"next"]
    work(waiting, time.monotonic() + 1.0)
    assert all(not other.messages for other in waiting[1:])


def test_an_exclusive_consumer_stays_alone(whole, name) -> None:
    """Others try all the time while the leader changes."""
    declare(whole, name)
    leader, a, b = leader_and_others(whole, name)
    owner = Consumer(whole.connect(a).channel(), name, exclusive=True)
    leader.kill()
    intruder = whole.connect(b)
    until = time.monotonic() + HAND_OVER
    refused = 0
    while time.monotonic() < until and refused < 50:
        channel = intruder.channel()
        with channel_error(403, starts="ACCESS_REFUSED - "):
            Consumer(channel, name)
        refused += 1
    assert refused
    pub = amqp.confirmed(whole.connect(a))
    amqp.fill(pub, name, [b"mine"])
    assert owner.next(HAND_OVER).body == b"mine"


def test_higher_priority_takes_over_from_a_busy_one(whole, name) -> None:
    """With a backlog and a prefetch the present one is never idle, unless it is fed no more."""
    declare(whole, name, **{"x-single-active-consumer": True})
    pub = amqp.confirmed(whole.connect(1))
    amqp.fill(pub, name, [b"%d" % i for i in range(200)])
    channel = whole.connect(2).channel()
    channel.basic_qos(prefetch_count=5)
    old = Consumer(channel, name)
    old.wait(5)
    new = Consumer(whole.connect(3).channel(), name, arguments={"x-priority": 1})
    done = 0
    deadline = time.monotonic() + HAND_OVER
    while not new.messages and time.monotonic() < deadline:
        while done < len(old.messages):
            assert not new.messages, "two at work"
            old.ack(old.messages[done])
            done += 1
        old.connection.process_data_events(time_limit=0.02)
        new.connection.process_data_events(time_limit=0.02)
    assert new.messages, "the newcomer never became active"
    new.wait(200 - done)
    assert old.bodies + new.bodies == [b"%d" % i for i in range(200)]
