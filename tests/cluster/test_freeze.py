"""SIGSTOP: a node that is there and says nothing, and comes back."""

from __future__ import annotations

import time

import pytest
from scenes import declare, roles

from harness import amqp
from harness.load import judge, settle
from harness.wait import bound, eventually


@pytest.mark.parametrize("victim", ["leader", "follower"])
def test_freeze_and_thaw_under_load(whole, load, name, victim) -> None:
    declare(whole, name)
    frozen, a, b = roles(whole, name, victim)
    producer = load.produce(a, name, rate=1000)
    consumer = load.consume(b, name)
    producer.wait_confirmed(1000)
    frozen.freeze()
    producer.wait_confirmed(2000)
    frozen.thaw()
    producer.wait_confirmed(2000)
    settle(load.producers, load.consumers)
    verdict = judge(load.producers, load.consumers)
    assert verdict.clean, verdict
    assert not producer.nacked
    consumer.assert_undisturbed()


def test_clients_of_the_frozen_node(whole, load, name) -> None:
    """After the thaw: no confirmed message of theirs is missing, none is there twice."""
    declare(whole, name)
    frozen, a, b = roles(whole, name, "leader")
    producer = load.produce(frozen, name, number=1, rate=500)
    lost = load.consume(frozen, name, prefetch=20)
    other = load.produce(a, name, number=2, rate=500)
    survivor = load.consume(b, name)
    producer.wait_confirmed(500)
    frozen.freeze()
    other.wait_confirmed(1500)
    frozen.thaw()
    other.wait_confirmed(500)
    other.stop()
    producer._stop.set()
    eventually(
        lambda: producer.closed or producer.unanswered == 0,
        what="the frozen node's producer has its answers, or was told to go",
    )

    def all_there() -> bool:
        seen: dict[int, set[int]] = {1: set(), 2: set()}
        for consumer in (lost, survivor):
            for number in seen:
                seen[number].update(x.sequence for x in list(consumer.arrivals[number]))
        for p in (producer, other):
            missing = p.confirmed - seen[p.number]
            assert not missing, f"{len(missing)} confirmed messages of producer {p.number} missing"
        return True

    eventually(all_there, what="everything confirmed is delivered to one of the two")
    # The frozen node's consumer may have acknowledged in vain: then the message came again, flagged.
    verdict = judge([producer, other], [lost, survivor], redelivery_allowed=True)
    assert not verdict.lost and not verdict.doubled and not verdict.unknown, verdict


def test_a_thawed_leader_hands_out_nothing_that_others_have_done(whole, name, open_at) -> None:
    """Its client acknowledges while it is frozen, which makes room for the next message as soon as it is thawed."""
    for number in range(4):  # Which of its tasks runs first is a matter of luck.
        queue = f"{name}-{number}"
        declare(whole, queue)
        frozen, a, b = roles(whole, queue, "leader")
        amqp.fill(amqp.confirmed(open_at(a)), queue, [b"%d" % i for i in range(20)])
        channel = open_at(frozen).channel()
        channel.basic_qos(prefetch_count=1)
        consumer = amqp.Consumer(channel, queue)
        held = consumer.next()
        frozen.freeze()
        eventually(frozen.is_frozen)
        consumer.ack(held)
        others = open_at(b).channel()
        other = amqp.Consumer(others, queue)
        other.wait(20)
        others.basic_ack(0, multiple=True)
        other.settle()
        frozen.thaw()
        consumer.settle()
        assert consumer.bodies == [], "acknowledged elsewhere while it was frozen"
        frozen.wait_ready()


def test_short_freezes_do_no_harm(whole, load, name) -> None:
    """Stalls shorter than the failure detection, again and again, of every node."""
    declare(whole, name)
    _, a, b = roles(whole, name, "leader")
    producer = load.produce(a, name, rate=500)
    load.consume(b, name)
    producer.wait_confirmed(200)
    for _ in range(3):
        for node in whole.nodes:
            node.freeze()
            time.sleep(0.15)  # The length of the stall is what is tested.
            node.thaw()
            producer.wait_confirmed(50)
    settle(load.producers, load.consumers)
    verdict = judge(load.producers, load.consumers)
    assert verdict.clean, verdict
    assert not producer.nacked


def test_management_answers_while_another_node_is_frozen(whole, name, open_at) -> None:
    declare(whole, name)
    frozen, a, b = roles(whole, name, "leader")
    frozen.freeze()
    try:
        whole.other_leader(name, frozen)
        for node in (a, b):
            assert node.http("/health/live")[0] == 200
            assert node.http("/metrics", timeout=10)[0] == 200
            assert node.http("/api/overview", timeout=10)[0] == 200
        channel = amqp.confirmed(open_at(a))
        amqp.fill(channel, name, [b"x"])
        assert amqp.get_all(open_at(b).channel(), name, 1) == [b"x"]
    finally:
        frozen.thaw()


def test_declare_while_a_node_freezes(whole, name) -> None:
    """One of them leads the catalog: whoever has asked it turns to the next leader."""
    for number, frozen in enumerate(whole.nodes):
        for survivor in whole.others(frozen):
            queue = f"{name}-{number}-{survivor.id}"
            channel = whole.connect(survivor).channel()
            frozen.freeze()
            begin = time.monotonic()
            channel.queue_declare(queue, durable=True)
            took = time.monotonic() - begin
            frozen.thaw()
            assert took < bound(4), f"node {frozen.id} frozen"
            whole.wait_in_sync(queue)


def test_two_nodes_that_are_left_keep_their_leader(whole, name) -> None:
    """Each stands still for a moment, again and again. Another election would bring nothing."""
    declare(whole, name)
    leader, gone, other = roles(whole, name, "leader")
    gone.kill()
    time.sleep(3)  # Long enough to count as gone; after ten seconds the load is spread on purpose.
    assert whole.leader(name, ask=[leader]) is leader
    for node in (other, leader, other):
        node.freeze()
        time.sleep(0.8)  # Longer than a lease, shorter than it takes to elect another.
        node.thaw()
        time.sleep(0.6)
        for asked in (leader, other):
            assert whole.find_leader(name, ask=[asked]) is leader, f"after a stall of {node}"


def test_votes_of_a_node_that_was_frozen_slow_nothing_down(fresh, load, name) -> None:
    """They come late, but the next fault is to be over as soon as ever."""
    cluster = fresh(3)
    cluster.start()
    declare(cluster, name)
    leader, a, b = roles(cluster, name, "leader")
    producer = load.produce(a, name, rate=200)
    load.consume(b, name)
    producer.wait_confirmed(100)
    b.freeze()
    leader.kill()
    # As long as votes are asked for and not had: from the moment on that a knows of the death, for 1.5 s.
    eventually(lambda: "campaigning" in a.log_text(), what="a campaign")
    asked = time.monotonic()
    eventually(lambda: time.monotonic() - asked > 1.5, what="the thaw")
    b.thaw()
    producer.wait_confirmed(200)
    cluster.start([leader])
    producer.wait_confirmed(200)
    slowed = [node for node in cluster.nodes if "elections and leases last" in node.log_text()]
    assert not slowed, slowed
    settle(load.producers, load.consumers)
    verdict = judge(load.producers, load.consumers)
    assert verdict.clean, verdict


def test_a_thawed_node_hands_out_nothing_of_a_former_leader(whole, name, open_at) -> None:
    """What that has sent it is in its sockets; others have got and done it meanwhile."""
    declare(whole, name)
    frozen, *_ = roles(whole, name, "follower")
    leader = whole.leader(name)
    other = next(node for node in whole.nodes if node not in (frozen, leader))
    channel = open_at(frozen).channel()
    channel.basic_qos(prefetch_count=100)
    late = amqp.Consumer(channel, name)
    frozen.freeze()
    bodies = [b"%d" % i for i in range(50)]
    amqp.fill(amqp.confirmed(open_at(other)), name, bodies)
    maintenance = f"/api/nodes/warren@{leader.id}/maintenance"
    assert leader.http(maintenance, "PUT")[0] == 204
    try:
        whole.other_leader(name, leader)
        survivor = amqp.Consumer(open_at(other).channel(), name)
        for message in survivor.wait(len(bodies)):
            survivor.ack(message)
        eventually(lambda: amqp.counts(survivor.channel, name)[0] == 0, what="all of it settled")
        survivor.settle()
        frozen.thaw()
        late.settle()
        assert late.bodies == []
        assert survivor.bodies == bodies
    finally:
        assert leader.http(maintenance, "DELETE")[0] == 204
