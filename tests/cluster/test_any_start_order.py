"""Nodes may start, stop and start again in any order."""

from __future__ import annotations

import itertools

import pytest

from harness import amqp
from harness.wait import bound, eventually


def answers(node) -> bool:
    try:
        return node.http("/health/live")[0] == 200
    except OSError:
        return False


@pytest.mark.parametrize("order", [(3, 1, 2), (2, 3, 1)])
def test_first_start(fresh, name, order) -> None:
    cluster = fresh(3)
    for count, node_id in enumerate(order):
        node = cluster.node(node_id)
        cluster.start([node], wait=False)
        eventually(lambda: answers(node), what=f"{node} answers")
        if count == 0:
            assert node.http("/health/ready")[0] == 503
    for node in cluster.nodes:
        node.wait_ready()
    channels = [amqp.confirmed(cluster.connect(node)) for node in cluster.nodes]
    channels[0].queue_declare(name, durable=True)
    for index, channel in enumerate(channels):
        channel.basic_publish("", name, b"%d" % index, amqp.PERSISTENT, mandatory=True)
    assert amqp.get_all(channels[2], name, 3) == [b"0", b"1", b"2"]


def test_two_of_three_are_enough_to_begin_again(fresh, name) -> None:
    """The first start waits for all that were named; later ones need a majority only."""
    cluster = fresh(3).start()
    channel = amqp.confirmed(cluster.connect(1))
    channel.queue_declare(name, durable=True)
    amqp.fill(channel, name, [b"early"])
    cluster.kill_all()
    late = cluster.nodes[1]
    cluster.start([cluster.nodes[0], cluster.nodes[2]])
    channel = amqp.confirmed(cluster.connect(1))
    amqp.fill(channel, name, [b"with two"])
    cluster.start([late])
    assert amqp.get_all(cluster.connect(late).channel(), name, 2) == [b"early", b"with two"]


def test_restarts_in_every_order(fresh, name) -> None:
    cluster = fresh(3).start()
    channel = amqp.confirmed(cluster.connect(1))
    channel.queue_declare(name, durable=True)
    amqp.fill(channel, name, [b"%d" % i for i in range(10)])
    for order in list(itertools.permutations(cluster.nodes))[:4]:
        cluster.kill_all()
        for node in order:
            cluster.start([node], wait=False)
        for node in order:
            node.wait_ready()
        check = cluster.connect(order[0])
        amqp.wait_ready_count(check.channel(), name, 10)
        check.close()
    assert amqp.get_all(cluster.connect(3).channel(), name, 10) == [b"%d" % i for i in range(10)]


def test_a_lonely_node_does_not_let_clients_hang(fresh) -> None:
    """It refuses, or closes, or says no, in good time."""
    import time

    cluster = fresh(3)
    node = cluster.nodes[2]
    cluster.start([node], wait=False)
    eventually(lambda: answers(node), what="the node answers")
    began = time.monotonic()
    with pytest.raises(amqp.CONNECT_ERRORS):
        amqp.connect(node.amqp_port, socket_timeout=bound(20), stack_timeout=bound(20))
    assert time.monotonic() - began < bound(15)


def test_restart_while_the_others_work(fresh, load, name) -> None:
    """A node that was away catches up, and then carries the majority."""
    from harness.load import judge, settle

    cluster = fresh(3).start()
    cluster.connect(1).channel().queue_declare(name, durable=True)
    away, a, b = cluster.nodes[0], cluster.nodes[1], cluster.nodes[2]
    away.kill()
    producer = load.produce(a, name, rate=1000)
    producer.wait_confirmed(3000)
    cluster.start([away])
    cluster.wait_in_sync(name)
    producer.wait_confirmed(500)
    b.kill()
    producer.wait_confirmed(500)
    load.consume(away, name)
    settle(load.producers, load.consumers)
    verdict = judge(load.producers, load.consumers)
    assert verdict.clean, verdict


def test_ports_and_host_names_are_not_the_identity(fresh, name) -> None:
    """All addresses may change between two starts; the data directories say who is who."""
    from harness.ports import free_port

    cluster = fresh(3).start()
    channel = amqp.confirmed(cluster.connect(1))
    channel.queue_declare(name, durable=True)
    amqp.fill(channel, name, [b"kept"])
    cluster.kill_all()
    for node in cluster.nodes:
        node.cluster_port, node.amqp_port, node.management_port = (free_port() for _ in range(3))
        node.advertise = f"127.0.0.1:{node.cluster_port}"
    peers = ",".join(f"{n.id}={n.advertise}" for n in cluster.nodes)
    for node in cluster.nodes:
        node.peers = peers
    cluster.start()
    assert amqp.get_all(cluster.connect(2).channel(), name, 1) == [b"kept"]
