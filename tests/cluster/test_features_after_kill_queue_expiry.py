"""x-expires when the queue's leader is killed: it goes in its time, and not while it is used."""

from __future__ import annotations

import time

from harness import amqp
from harness.amqp import Consumer
from harness.broker import part
from harness.node import Node
from harness.wait import bound, eventually

#: What the next leader may take on top, should it begin to count anew.
LATE = 12.0


def gone(node: Node, queue: str) -> bool:
    """As an onlooker sees it, who does not use the queue."""
    return node.http(f"/api/queues/%2F/{part(queue)}")[0] == 404


def test_goes_in_its_time(stage) -> None:
    began = time.monotonic()
    s = stage({"x-expires": 3000})
    s.kill()
    for node in (s.a, s.b):
        eventually(lambda node=node: gone(node, s.queue), bound(LATE), f"gone at {node}")
        assert time.monotonic() - began >= 3
    with amqp.channel_error(404, f"NOT_FOUND - no queue '{s.queue}' in vhost '/'"):
        s.sub.queue_declare(s.queue, passive=True)


def test_stays_while_it_is_used(stage, names) -> None:
    """Its consumer is on a node that lives; others of the same age without one go."""
    s = stage({"x-expires": 2000})
    consumer = Consumer(s.sub, s.queue)
    witnesses = [names() for _ in range(2)]
    s.declare(witnesses[0], **{"x-expires": 3000})
    s.kill()
    # One that the next leader only ever knew without a consumer.
    s.declare(witnesses[1], at=s.a, **{"x-expires": 3000})
    for witness in witnesses:
        eventually(lambda w=witness: gone(s.a, w), bound(LATE), "an unused queue goes")
    amqp.fill(s.pub, s.queue, [b"still there"])
    assert consumer.next().body == b"still there"
    assert not consumer.cancelled_by_broker
    # Its time begins when its consumer goes.
    began = time.monotonic()
    consumer.cancel()
    eventually(lambda: gone(s.a, s.queue), bound(LATE), "it goes as well")
    assert time.monotonic() - began >= 2


def test_what_prolongs_it(stage, names) -> None:
    """The next leader begins where the last use left off."""
    s = stage({"x-expires": 4000})
    got = names()
    s.declare(got, **{"x-expires": 4000})
    s.kill()
    for _ in range(3):
        began = time.monotonic()
        s.sub.queue_declare(s.queue, durable=True, arguments={"x-expires": 4000})
        s.sub.basic_get(got)
        eventually(lambda: time.monotonic() - began >= 1.5, what="time passes")
    for queue in (s.queue, got):
        eventually(lambda queue=queue: gone(s.a, queue), bound(LATE), "it goes")
        assert time.monotonic() - began >= 4


def test_goes_when_its_consumer_died_with_the_leader(stage, open_at) -> None:
    s = stage({"x-expires": 2500})
    Consumer(open_at(s.leader).channel(), s.queue)
    began = time.monotonic()
    s.kill()
    eventually(lambda: gone(s.a, s.queue), bound(LATE), "it goes")
    assert time.monotonic() - began >= 2.5
