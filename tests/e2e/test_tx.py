"""Transactions of a channel: publishes and acknowledgements held until commit."""

from __future__ import annotations

import pytest

from harness import amqp
from harness.amqp import Consumer, channel_error


@pytest.fixture
def tx(connect):
    """A transactional channel."""
    channel = connect(0).channel()
    channel.tx_select()
    return channel


def test_publishes_appear_at_commit(tx, sub, name, durable) -> None:
    tx.queue_declare(name, durable=durable)
    for i in range(3):
        tx.basic_publish("", name, b"%d" % i, amqp.PERSISTENT)
    amqp.sync(tx)
    assert amqp.counts(sub, name)[0] == 0
    tx.tx_commit()
    # Commit-ok means accepted by the queues.
    assert amqp.counts(sub, name)[0] == 3
    assert amqp.get_all(sub, name, 3) == [b"0", b"1", b"2"]


def test_rollback_drops_publishes(tx, sub, name, durable) -> None:
    tx.queue_declare(name, durable=durable)
    tx.basic_publish("", name, b"never")
    tx.tx_rollback()
    tx.basic_publish("", name, b"kept")
    tx.tx_commit()
    assert amqp.get_all(sub, name, 1) == [b"kept"]


def test_acks_take_effect_at_commit(tx, pub, sub, name, durable) -> None:
    pub.queue_declare(name, durable=durable)
    amqp.fill(pub, name, [b"1", b"2"])
    for _ in range(2):
        message = amqp.get(tx, name)
        tx.basic_ack(message.tag)
    tx.tx_commit()
    tx.connection.close()
    assert amqp.get_all(sub, name, 0) == []


def test_acks_without_commit_are_void(tx, pub, sub, name, durable) -> None:
    pub.queue_declare(name, durable=durable)
    amqp.fill(pub, name, [b"1"])
    tx.basic_ack(amqp.get(tx, name).tag)
    amqp.sync(tx)
    tx.connection.close()
    again = amqp.get(sub, name, auto_ack=True)
    assert (again.body, again.redelivered) == (b"1", True)


def test_rollback_of_acks_leaves_them_unacknowledged(tx, pub, name, durable) -> None:
    pub.queue_declare(name, durable=durable)
    amqp.fill(pub, name, [b"1"])
    message = amqp.get(tx, name)
    tx.basic_ack(message.tag)
    tx.tx_rollback()
    amqp.wait_ready_count(pub, name, 0)  # Not requeued either.
    tx.basic_ack(message.tag)
    tx.tx_commit()
    tx.connection.close()
    assert amqp.get_all(pub, name, 0) == []


def test_nack_in_a_transaction(tx, pub, name, durable) -> None:
    pub.queue_declare(name, durable=durable)
    amqp.fill(pub, name, [b"1", b"2"])
    first, second = amqp.get(tx, name), amqp.get(tx, name)
    tx.basic_nack(first.tag)
    tx.basic_reject(second.tag, requeue=False)
    amqp.sync(tx)
    assert amqp.counts(pub, name)[0] == 0
    tx.tx_commit()
    amqp.wait_ready_count(pub, name, 1)
    assert amqp.get(pub, name).body == b"1"


def test_consume_and_declare_are_immediate(tx, pub, name) -> None:
    tx.queue_declare(name)
    pub.basic_publish("", name, b"x", mandatory=True)
    assert Consumer(tx, name).next().body == b"x"


def test_select_twice_and_empty_commits(tx) -> None:
    tx.tx_select()
    tx.tx_commit()
    tx.tx_rollback()
    tx.tx_commit()


def test_mandatory_returns_come_with_the_commit(broker, name) -> None:
    from pika import spec

    with broker.peer(1) as peer:
        peer.open().open_channel()
        peer.method(1, spec.Tx.Select())
        peer.expect(spec.Tx.SelectOk, 1)
        peer.publish(1, "", name, b"nowhere", mandatory=True)
        peer.method(1, spec.Tx.Commit())
        assert peer.content(spec.Basic.Return).body == b"nowhere"
        peer.expect(spec.Tx.CommitOk, 1)


def test_error_in_a_transaction(tx, sub, name) -> None:
    """A missing exchange closes the channel at once; nothing of the transaction happens."""
    tx.queue_declare(name, durable=True)
    tx.basic_publish("", name, b"held")
    with channel_error(404):
        tx.basic_publish(name + "-missing", "", b"x")
        tx.tx_commit()
    assert amqp.counts(sub, name)[0] == 0


def test_large_transaction(tx, sub, name) -> None:
    tx.queue_declare(name, durable=True)
    for i in range(2000):
        tx.basic_publish("", name, b"%d" % i, amqp.PERSISTENT)
    tx.tx_commit()
    assert amqp.counts(sub, name)[0] == 2000


def test_rejected_by_the_queue(tx, name) -> None:
    tx.queue_declare(name, arguments={"x-max-length": 1, "x-overflow": "reject-publish"})
    tx.basic_publish("", name, b"1")
    tx.tx_commit()
    tx.basic_publish("", name, b"2")
    with channel_error(406, "PRECONDITION_FAILED - partial tx completion"):
        tx.tx_commit()
