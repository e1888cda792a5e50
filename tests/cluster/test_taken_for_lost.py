"""A node that is silent for so long that the others go on without it, and comes back."""

from __future__ import annotations

import pika
import pytest
from scenes import declare, roles

from harness import amqp
from harness.wait import SOON, eventually


def test_who_has_lost_an_exclusive_queue_is_told_to_go(whole, name, open_at) -> None:
    """A client that waits there for answers would wait for ever; others of that node stay."""
    declare(whole, name)
    frozen, other, _ = roles(whole, name, "follower")
    owner, bystander = open_at(frozen), open_at(frozen)
    mine = f"{name}-mine"
    owner.channel().queue_declare(mine, exclusive=True)
    publisher = amqp.confirmed(bystander)
    frozen.freeze()
    eventually(frozen.is_frozen)
    eventually(lambda: other.queue_info(mine) is None, SOON, "its queue is deleted")
    frozen.thaw()
    with pytest.raises(pika.exceptions.ConnectionClosedByBroker) as told:
        eventually(lambda: owner.process_data_events(time_limit=0.1), SOON, "a close")
    assert told.value.reply_code == 320, told.value
    assert "taken for lost" in told.value.reply_text
    frozen.wait_ready()
    amqp.fill(publisher, name, [b"still there"])
    again = open_at(frozen).channel()
    again.queue_declare(mine, exclusive=True)
