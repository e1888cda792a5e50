"""A node that lost its disk comes back empty, is filled again, and never votes with lost state."""

from __future__ import annotations

import shutil

from harness import amqp
from harness.load import judge, settle
from harness.wait import bound, eventually


def test_wiped_node_is_filled_again(fresh, load, name) -> None:
    cluster = fresh(3, extra_args=["--publish-timeout", "10s"]).start()
    cluster.connect(1).channel().queue_declare(name, durable=True)
    wiped = cluster.leader(name)
    a, b = cluster.others(wiped)
    producer = load.produce(a, name, rate=1000)
    producer.wait_confirmed(2000)
    wiped.kill()
    shutil.rmtree(wiped.data_dir)
    producer.wait_confirmed(500)
    cluster.start([wiped])
    cluster.wait_in_sync(name)
    producer.wait_confirmed(500)
    # Now it has to carry the majority with what it was given.
    b.kill()
    producer.wait_confirmed(500)
    load.consume(wiped, name)
    settle(load.producers, load.consumers)
    verdict = judge(load.producers, load.consumers)
    assert verdict.clean, verdict


def test_wiped_follower_during_load(fresh, load, name) -> None:
    cluster = fresh(3).start()
    cluster.connect(1).channel().queue_declare(name, durable=True)
    leader = cluster.leader(name)
    wiped, b = cluster.others(leader)
    producer = load.produce(leader, name, rate=500)
    load.consume(b, name)
    producer.wait_confirmed(500)
    wiped.kill()
    shutil.rmtree(wiped.data_dir)
    cluster.start([wiped])
    producer.wait_confirmed(1000)
    settle(load.producers, load.consumers)
    verdict = judge(load.producers, load.consumers)
    assert verdict.clean, verdict
    assert not producer.nacked


def test_one_after_the_other(fresh, open_at, name) -> None:
    """Every disk once: what is in the cluster survives as long as the replicas are whole between."""
    cluster = fresh(3).start()
    channel = amqp.confirmed(open_at(cluster.nodes[0]))
    channel.queue_declare(name, durable=True)
    bodies = [b"%d" % i for i in range(100)]
    amqp.fill(channel, name, bodies)
    for node in list(cluster.nodes):
        node.kill()
        shutil.rmtree(node.data_dir)
        cluster.start([node])
        cluster.wait_in_sync(name)
    assert amqp.get_all(open_at(cluster.nodes[1]).channel(), name, 100) == bodies


def test_wiped_forgotten_and_wiped_again(fresh, open_at, name) -> None:
    """A node that was forgotten gets a generation that none of its disks had, and is heard."""
    cluster = fresh(3).start()
    cluster.connect(2).channel().queue_declare(name, durable=True)
    node, other = cluster.nodes[:2]

    def publish() -> None:
        amqp.fill(amqp.confirmed(open_at(node)), name, [b"x"])

    def wipe() -> None:
        node.kill()
        shutil.rmtree(node.data_dir)

    wipe()
    cluster.start([node])
    cluster.wait_in_sync(name)
    publish()
    wipe()
    forget = f"/api/cluster/nodes/warren@{node.id}"
    eventually(
        lambda: other.http(forget, "DELETE", timeout=30)[0] in (200, 204),
        what="the node is forgotten",
    )
    cluster.start([node])
    cluster.wait_in_sync(name)
    publish()
    assert other.queue_info(name)


def test_forgotten_while_it_runs(fresh, open_at, name) -> None:
    """It says that it is no member any more, and sends its clients away: nobody answers it."""
    cluster = fresh(4).start()
    gone, other = cluster.nodes[3], cluster.nodes[0]
    client = open_at(gone)
    client.channel().queue_declare(name)
    status, body = other.http(f"/api/cluster/nodes/warren@{gone.id}", "DELETE", timeout=30)
    assert status in (200, 204), body
    eventually(lambda: not gone.is_ready(), bound(15), "the forgotten node is not ready")
    status, body = gone.http("/health/ready")
    assert status == 503 and b"was removed" in body, (status, body)
    text = "CONNECTION_FORCED - broker forced connection closure with reason "
    text += "'this node was removed from the cluster'"
    with amqp.connection_error(320, text):
        amqp.pump(client, lambda: False, bound(15), "the connection is closed")
    # A queue that was in its memory is another node's, empty.
    channel = amqp.confirmed(open_at(other))
    amqp.fill(channel, name, [b"x"])
    assert amqp.get_all(channel, name, 1) == [b"x"]
