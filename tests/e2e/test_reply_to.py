"""Direct reply-to: amq.rabbitmq.reply-to."""

from __future__ import annotations

import pika
import pytest

from harness import amqp
from harness.amqp import Consumer, channel_error
from harness.wait import eventually

PSEUDO = "amq.rabbitmq.reply-to"


@pytest.mark.parametrize(("client_node", "server_node"), [(0, 0), (0, 1), (1, 2), (2, 0)])
def test_request_and_reply(connect, name, client_node, server_node) -> None:
    server = connect(server_node).channel()
    server.queue_declare(name)
    requests = Consumer(server, name, auto_ack=True)
    client = connect(client_node).channel()
    replies = Consumer(client, PSEUDO, auto_ack=True)
    for i in range(3):
        client.basic_publish(
            "", name, b"ask %d" % i, pika.BasicProperties(reply_to=PSEUDO, correlation_id=str(i))
        )
        request = requests.next()
        address = request.properties.reply_to
        assert address.startswith(PSEUDO + ".") and len(address) > len(PSEUDO) + 1
        server.basic_publish(
            "",
            address,
            b"answer to " + request.body,
            pika.BasicProperties(correlation_id=request.properties.correlation_id),
        )
        reply = replies.next()
        assert reply.body == b"answer to ask %d" % i
        assert reply.properties.correlation_id == str(i)
        assert (reply.method.exchange, reply.method.routing_key) == ("", address)


def test_two_requesters_get_their_own(connect, name) -> None:
    server = connect(0).channel()
    server.queue_declare(name)
    requests = Consumer(server, name, auto_ack=True)
    clients = [connect(node).channel() for node in (1, 2)]
    replies = [Consumer(c, PSEUDO, auto_ack=True) for c in clients]
    for index, client in enumerate(clients):
        client.basic_publish("", name, b"%d" % index, pika.BasicProperties(reply_to=PSEUDO))
    for request in list(requests.wait(2)):
        server.basic_publish("", request.properties.reply_to, request.body)
    for index, consumer in enumerate(replies):
        assert consumer.next().body == b"%d" % index


def test_needs_no_ack(ch) -> None:
    with channel_error(406, "PRECONDITION_FAILED - reply consumer cannot acknowledge"):
        ch.basic_consume(PSEUDO, lambda *_: None)


def test_one_per_channel(ch) -> None:
    Consumer(ch, PSEUDO, auto_ack=True)
    with channel_error(406, "PRECONDITION_FAILED - reply consumer already set"):
        Consumer(ch, PSEUDO, auto_ack=True)


def test_request_without_a_consumer(pub, name) -> None:
    pub.queue_declare(name)
    with channel_error(406, "PRECONDITION_FAILED - fast reply consumer does not exist"):
        pub.basic_publish("", name, b"x", pika.BasicProperties(reply_to=PSEUDO))


def test_after_cancel_the_request_is_refused(ch, name) -> None:
    ch.queue_declare(name)
    Consumer(ch, PSEUDO, auto_ack=True).cancel()
    with channel_error(406, "PRECONDITION_FAILED - fast reply consumer does not exist"):
        ch.basic_publish("", name, b"x", pika.BasicProperties(reply_to=PSEUDO))
        amqp.sync(ch)


def test_declaring_the_address_asks_whether_the_requester_lives(connect, name) -> None:
    server = connect(1).channel()
    server.queue_declare(name)
    requests = Consumer(server, name, auto_ack=True)
    client_connection = connect(0)
    client = client_connection.channel()
    Consumer(client, PSEUDO, auto_ack=True)
    client.basic_publish("", name, b"x", pika.BasicProperties(reply_to=PSEUDO))
    address = requests.next().properties.reply_to
    method = server.queue_declare(address, passive=True).method
    assert (method.queue, method.message_count, method.consumer_count) == (address, 0, 1)
    client_connection.close()

    def gone() -> bool:
        channel = server.connection.channel()
        try:
            channel.queue_declare(address, passive=True)
        except pika.exceptions.ChannelClosedByBroker as error:
            assert error.reply_code == 404
            return True
        channel.close()
        return False

    eventually(gone, what="the requester is known to be gone")
    # A reply to nobody vanishes.
    server.basic_publish("", address, b"late")
    amqp.sync(server)


def test_confirmed_reply(pub, connect, name) -> None:
    """Replies are confirmed at once, also from a channel with confirms."""
    pub.queue_declare(name)
    client = connect(2).channel()
    replies = Consumer(client, PSEUDO, auto_ack=True)
    client.basic_publish("", name, b"x", pika.BasicProperties(reply_to=PSEUDO))
    address = amqp.get(pub, name).properties.reply_to
    for i in range(10):
        pub.basic_publish("", address, b"%d" % i)
    replies.wait(10)
    assert replies.bodies == [b"%d" % i for i in range(10)]


@pytest.mark.warren_only("RabbitMQ has no queue behind it")
def test_nobody_sees_the_queue_behind_it(broker, ch) -> None:
    consumer = Consumer(ch, PSEUDO, auto_ack=True)
    queues = [queue["name"] for queue in broker.get("/api/queues")]
    assert not [queue for queue in queues if queue.startswith(PSEUDO)]
    assert consumer.tag not in [row["consumer_tag"] for row in broker.get("/api/consumers")]
