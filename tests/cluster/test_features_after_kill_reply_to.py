"""Direct reply-to when a node in the middle dies, or the requester's own."""

from __future__ import annotations

import pika
import pytest

from harness import amqp
from harness.amqp import Consumer
from harness.wait import eventually

PSEUDO = "amq.rabbitmq.reply-to"


def ask(channel, queue: str, body: bytes) -> None:
    channel.basic_publish("", queue, body, pika.BasicProperties(reply_to=PSEUDO))


def test_a_third_node_dies(stage, open_at) -> None:
    """It leads the queue of the requests. Requester and server, on the others, notice a pause."""
    s = stage()
    client = open_at(s.a).channel()
    replies = Consumer(client, PSEUDO, auto_ack=True)
    requests = Consumer(s.sub, s.queue)
    ask(client, s.queue, b"before")
    before = requests.next()
    s.kill()
    # Answered after the kill; and asked after it.
    s.sub.basic_publish("", before.properties.reply_to, b"re before")
    requests.ack(before)
    assert replies.next().body == b"re before"
    for i in range(3):
        ask(client, s.queue, b"%d" % i)
        request = requests.next()
        assert request.properties.reply_to.startswith(PSEUDO + ".")
        s.sub.basic_publish("", request.properties.reply_to, b"re " + request.body)
        requests.ack(request)
        assert replies.next().body == b"re %d" % i
    assert not replies.cancelled_by_broker


def test_the_requesters_node_dies(stage, open_at) -> None:
    """A reply to it vanishes, its address is gone, and neither disturbs the server or others."""
    s = stage()
    doomed = open_at(s.leader).channel()
    Consumer(doomed, PSEUDO, auto_ack=True)
    ask(doomed, s.queue, b"x")
    requests = Consumer(s.sub, s.queue)
    address = requests.next().properties.reply_to
    method = s.sub.queue_declare(address, passive=True).method
    assert (method.message_count, method.consumer_count) == (0, 1)
    s.kill()

    def gone() -> bool:
        try:
            s.sub.connection.channel().queue_declare(address, passive=True)
        except pika.exceptions.ChannelClosedByBroker as error:
            text = f"NOT_FOUND - no queue '{address}' in vhost '/'"
            assert (error.reply_code, error.reply_text) == (404, text)
            return True
        return False

    eventually(gone, what="the requester is known to be gone")
    s.sub.basic_publish("", address, b"late")
    amqp.sync(s.sub)
    # A new requester, and the same server.
    client = open_at(s.a).channel()
    replies = Consumer(client, PSEUDO, auto_ack=True)
    ask(client, s.queue, b"again")
    request = requests.next()
    s.sub.basic_publish("", request.properties.reply_to, b"re again")
    assert replies.next().body == b"re again"


def test_a_reply_to_the_dead_is_confirmed(stage, open_at) -> None:
    """At once, as any direct reply: nobody stores it, so nothing can refuse it."""
    s = stage()
    doomed = open_at(s.leader).channel()
    Consumer(doomed, PSEUDO, auto_ack=True)
    ask(doomed, s.queue, b"x")
    address = amqp.get(s.sub, s.queue, auto_ack=True).properties.reply_to
    s.kill()
    s.pub.basic_publish("", address, b"nobody there")


@pytest.mark.parametrize("back", ["before", "after"])
def test_the_servers_node_dies(stage, open_at, back) -> None:
    """The request was not acknowledged: another server gets it, and its reply arrives."""
    s = stage()
    client = open_at(s.a).channel()
    replies = Consumer(client, PSEUDO, auto_ack=True)
    doomed = open_at(s.leader).channel()
    ask(client, s.queue, b"x")
    first = amqp.get(doomed, s.queue)
    if back == "before":
        doomed.basic_publish("", first.properties.reply_to, b"first")
        assert replies.next().body == b"first"
    s.kill()
    again = amqp.get(s.sub, s.queue)
    assert (again.redelivered, again.properties.reply_to) == (True, first.properties.reply_to)
    s.sub.basic_publish("", again.properties.reply_to, b"second")
    assert replies.next().body == b"second"
