"""A queue that is deleted and declared again while a node does not hear of it."""

from __future__ import annotations

import threading

import pika
from scenes import declare, roles

from harness import amqp
from harness.wait import SOON, eventually


def test_what_a_frozen_node_confirms_is_in_the_queue(whole, name, open_at) -> None:
    """It knows the queue as it was."""
    declare(whole, name)
    frozen, _, other = roles(whole, name, "follower")
    publisher = amqp.confirmed(open_at(frozen))
    amqp.fill(publisher, name, [b"before"])
    frozen.freeze()
    eventually(frozen.is_frozen)
    outcome: list[str] = []

    def publish() -> None:
        try:
            amqp.fill(publisher, name, [b"while it is frozen"])
            outcome.append("ack")
        except pika.exceptions.NackError:
            outcome.append("nack")

    publishing = threading.Thread(target=publish)
    publishing.start()
    channel = open_at(other).channel()
    channel.queue_delete(name)
    channel.queue_declare(name, durable=True)
    frozen.thaw()
    publishing.join(SOON)
    assert outcome, "no answer"
    if outcome == ["ack"]:
        amqp.wait_ready_count(channel, name, 1)

    def again() -> bool:
        try:
            amqp.fill(publisher, name, [b"after"])
        except pika.exceptions.NackError:
            return False
        return True

    # Whoever publishes again finds the queue as it is, as soon as its node does.
    eventually(again, what="a publish is confirmed")
    amqp.wait_ready_count(channel, name, 1 + outcome.count("ack"))
