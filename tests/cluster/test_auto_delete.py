"""Durable auto-delete queues, when their leader is lost and one of their consumers leaves."""

from __future__ import annotations

import pytest

from harness import amqp
from harness.amqp import Consumer, channel_error


@pytest.mark.parametrize("leaving", ["cancel", "channel", "connection"])
def test_a_queue_stays_for_those_who_have_not_told_the_new_leader(whole, name, leaving) -> None:
    """Several queues: for each of them one client leaves at once after the leader died, on either of the other nodes."""
    queues = [f"{name}-{number}" for number in range(8)]
    for queue in queues:
        whole.connect(whole.nodes[0]).channel().queue_declare(queue, durable=True, auto_delete=True)
    leader = whole.leader(queues[0])
    queues = [queue for queue in queues if whole.leader(queue) is leader]
    first, second = whole.others(leader)
    leaves, stays = [], []
    for number, queue in enumerate(queues):
        ends = (first, second) if number % 2 else (second, first)
        leaves.append(Consumer(whole.connect(ends[0]).channel(), queue))
        stays.append(Consumer(whole.connect(ends[1]).channel(), queue))
    pub = amqp.confirmed(whole.connect(first))
    leader.kill()
    for consumer in leaves:
        if leaving == "cancel":
            consumer.cancel()
        elif leaving == "channel":
            consumer.channel.close()
        else:
            consumer.connection.close()
    for queue in queues:
        amqp.fill(pub, queue, [b"here"])
    for consumer in stays:
        consumer.wait(1, 20.0)
        assert consumer.bodies == [b"here"]
        consumer.ack(consumer.messages[0])
        consumer.cancel()
    # And with its last consumer each of them goes.
    looking = whole.connect(second)
    for queue in queues:
        with channel_error(404, starts="NOT_FOUND - no queue"):
            looking.channel().queue_declare(queue, passive=True)
