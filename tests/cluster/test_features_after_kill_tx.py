"""Transactions when a queue's leader is killed: their outcome is told, and it is all or nothing."""

from __future__ import annotations

import pytest
from pika import spec

from harness import amqp, wire
from harness.wait import eventually

COUNT = 150
BODIES = [b"%d" % i for i in range(COUNT)]
#: Delivery mode 2.
PERSISTENT = b"\x10\x00\x02"


def transaction(stage) -> tuple:
    """A channel at `a` that holds acknowledgements of three messages and some publishes."""
    s = stage()
    amqp.fill(s.pub, s.queue, [b"in 1", b"in 2", b"in 3"])
    tx = s.pub.connection.channel()
    tx.tx_select()
    for _ in range(3):
        tx.basic_ack(amqp.get(tx, s.queue).tag)
    for body in BODIES[:5]:
        tx.basic_publish("", s.queue, body, amqp.PERSISTENT)
    amqp.sync(tx)
    return s, tx


def test_commit_after_the_kill(stage) -> None:
    s, tx = transaction(stage)
    s.kill()
    assert amqp.get_all(s.sub, s.queue, 0) == []  # Not yet, and what it holds is nobody else's.
    tx.tx_commit()
    tx.connection.close()
    assert amqp.get_all(s.sub, s.queue, 5) == BODIES[:5]


def test_rollback_after_the_kill(stage) -> None:
    s, tx = transaction(stage)
    s.kill()
    tx.tx_rollback()
    assert amqp.get_all(s.sub, s.queue, 0) == []
    # Unacknowledged as before, and free when the channel ends.
    tx.connection.close()
    assert amqp.get_all(s.sub, s.queue, 3) == [b"in 1", b"in 2", b"in 3"]


def test_without_a_commit_nothing_happened(stage, open_at) -> None:
    """The client's own node dies."""
    s = stage()
    amqp.fill(s.pub, s.queue, [b"in"])
    doomed = amqp.connect(s.leader.amqp_port).channel()
    doomed.tx_select()
    doomed.basic_ack(amqp.get(doomed, s.queue).tag)
    amqp.fill(doomed, s.queue, BODIES)
    amqp.sync(doomed)
    s.kill()
    again = amqp.get(s.sub, s.queue, auto_ack=True)
    assert (again.body, again.redelivered) == (b"in", True)
    assert amqp.get_all(s.sub, s.queue, 0) == []


def begin(port: int, source: str, *targets: str) -> wire.Peer:
    """A transaction that takes one message and publishes all bodies to each target."""
    peer = wire.Peer(port).open().open_channel()
    peer.method(1, spec.Tx.Select())
    peer.expect(spec.Tx.SelectOk, 1)
    peer.method(1, spec.Basic.Get(queue=source))
    got = peer.content(spec.Basic.GetOk)
    assert got.body == b"in"
    peer.method(1, spec.Basic.Ack(delivery_tag=got.method.delivery_tag))
    for body in BODIES:
        for target in targets:
            peer.publish(1, "", target, body, PERSISTENT)
    # Held by the node: an answer to what came behind it.
    peer.method(1, spec.Exchange.Declare(exchange="amq.direct", passive=True))
    peer.expect(spec.Exchange.DeclareOk, 1)
    return peer


@pytest.mark.parametrize("first", ["commit", "kill"])
def test_commit_during_the_kill(stage, names, first) -> None:
    """To queues of the node that dies and of another one: it succeeds, since a majority is left."""
    s = stage()
    near, far = names(), names()
    s.declare(near)
    s.declare(far, at=s.b)
    amqp.fill(s.pub, s.queue, [b"in"])
    with begin(s.a.amqp_port, s.queue, near, far) as peer:
        if first == "kill":
            s.kill()
        peer.method(1, spec.Tx.Commit())
        if first == "commit":
            s.kill()
        peer.expect(spec.Tx.CommitOk, 1)
        for target in (near, far):
            assert amqp.counts(s.sub, target)[0] == COUNT
    for target in (near, far):
        assert amqp.get_all(s.sub, target, COUNT) == BODIES
    amqp.fill(s.pub, s.queue, [b"next"])
    assert amqp.get_all(s.sub, s.queue, 1) == [b"next"]


def test_a_refused_commit_is_told(stage) -> None:
    """The queue is full: 406 by the next leader too, and the acknowledgement has not happened."""
    s = stage({"x-max-length": 2, "x-overflow": "reject-publish"})
    amqp.fill(s.pub, s.queue, [b"in", b"more"])
    tx = s.pub.connection.channel()
    tx.tx_select()
    tx.basic_ack(amqp.get(tx, s.queue).tag)
    for body in BODIES[:2]:
        tx.basic_publish("", s.queue, body, amqp.PERSISTENT)
    amqp.sync(tx)
    s.kill()
    with amqp.channel_error(406, "PRECONDITION_FAILED - partial tx completion"):
        tx.tx_commit()
    # One publish had its room. The channel that was closed gives back what it held; another node may be asked before that.
    eventually(lambda: amqp.counts(s.sub, s.queue)[0] == 3, what="the first message is back")
    again = amqp.get(s.sub, s.queue)
    assert (again.body, again.redelivered) == (b"in", True)


def test_the_client_dies_in_the_commit(stage, names) -> None:
    """Its node is killed: a beginning of what it published is there, once and in order, and the message
    that it took is gone only if everything is there."""
    s = stage()
    target = names()
    s.declare(target, at=s.a)
    amqp.fill(s.pub, s.queue, [b"in"])
    with begin(s.leader.amqp_port, s.queue, target) as peer:
        peer.method(1, spec.Tx.Commit())
        s.kill()
    amqp.fill(s.pub, s.queue, [b"next"])
    amqp.fill(s.pub, target, [b"next"])
    first = amqp.get(s.sub, s.queue, auto_ack=True)
    got: list[bytes] = []
    while not got or got[-1] != b"next":
        got.append(amqp.get(s.sub, target, auto_ack=True).body)
    assert got[:-1] == BODIES[: len(got) - 1]
    if first.body == b"next":
        assert len(got) == COUNT + 1, "acknowledged, but not everything was published"
    else:
        assert (first.body, first.redelivered) == (b"in", True)
