"""CC and BCC headers: further routing keys."""

from __future__ import annotations

import json

import pika
import pytest

from harness import amqp
from harness.amqp import channel_error


@pytest.fixture
def queues(pub, names):
    made = [names() for _ in range(4)]
    for index, queue in enumerate(made):
        pub.queue_declare(queue, durable=index % 2 == 0)
    return made


def test_cc_and_bcc_route(pub, sub, queues) -> None:
    to, cc, bcc, nobody = queues
    headers = {"CC": [cc], "BCC": [bcc], "other": "stays"}
    pub.basic_publish("", to, b"x", pika.BasicProperties(headers=headers))
    for queue in (to, cc, bcc):
        message = amqp.get(sub, queue, auto_ack=True)
        assert message.body == b"x"
        assert message.method.routing_key == to
        assert message.properties.headers == {"CC": [cc], "other": "stays"}
    assert amqp.get_all(sub, nobody, 0) == []


def test_a_returned_message_does_not_tell_its_bcc(ch, name) -> None:
    returned = []
    ch.add_on_return_callback(lambda *parts: returned.append(parts[2].headers))
    headers = {"CC": [name], "BCC": [name + "-blind"]}
    ch.basic_publish("", name, b"x", pika.BasicProperties(headers=headers), mandatory=True)
    amqp.pump(ch.connection, lambda: returned)
    assert returned == [{"CC": [name]}]


def test_the_same_queue_by_several_keys_gets_one(pub, sub, queues) -> None:
    to, cc, _, _ = queues
    pub.basic_publish("", to, b"x", pika.BasicProperties(headers={"CC": [to, cc, cc], "BCC": [to]}))
    assert amqp.get_all(sub, to, 1) == [b"x"]
    assert amqp.get_all(sub, cc, 1) == [b"x"]


def test_through_a_topic_exchange(pub, sub, name) -> None:
    pub.exchange_declare(name, "topic")
    pub.queue_declare(name)
    pub.queue_bind(name, name, "copies.#")
    pub.basic_publish(name, "main", b"x", pika.BasicProperties(headers={"BCC": ["copies.a"]}))
    assert amqp.get_all(sub, name, 1) == [b"x"]


def test_every_exchange_on_the_way_looks_at_all_keys(pub, sub, name, names) -> None:
    """One key leads to the second exchange, another from there to the queue."""
    second = names()
    pub.exchange_declare(name, "direct")
    pub.exchange_declare(second, "topic")
    pub.queue_declare(name)
    pub.exchange_bind(second, name, "one")
    pub.queue_bind(name, second, "two")
    headers = {"CC": ["one"], "BCC": ["two"]}
    pub.basic_publish(name, "", b"x", pika.BasicProperties(headers=headers))
    assert amqp.get_all(sub, name, 1) == [b"x"]


@pytest.mark.parametrize("header", ["CC", "BCC"])
def test_wrong_type(pub, queues, header) -> None:
    with channel_error(406, starts="PRECONDITION_FAILED - invalid message: ") as caught:
        pub.basic_publish("", queues[0], b"x", pika.BasicProperties(headers={header: "not a list"}))
    assert caught.value.reply_text == (
        f'PRECONDITION_FAILED - invalid message: {{unacceptable_type_in_header,"{header}",longstr}}'
    )


def test_elements_that_are_no_strings_are_ignored(pub, sub, queues) -> None:
    to, cc, _, _ = queues
    pub.basic_publish("", to, b"x", pika.BasicProperties(headers={"CC": [7, cc, True]}))
    assert amqp.get_all(sub, cc, 1) == [b"x"]
    assert amqp.get_all(sub, to, 1) == [b"x"]


def test_mandatory_with_only_a_copy_routable(pub, sub, queues, name) -> None:
    pub.basic_publish(
        "",
        name + "-nowhere",
        b"x",
        pika.BasicProperties(headers={"CC": [queues[0]]}),
        mandatory=True,
    )
    assert amqp.get_all(sub, queues[0], 1) == [b"x"]


def test_a_dead_letter_goes_by_all_keys(broker, pub, sub, names, durable) -> None:
    """Without a key of its own; nobody gets to see the blind copies, wherever the message is."""
    letters, dying, to, cc, bcc = (names() for _ in range(5))
    pub.exchange_declare(letters, "direct")
    pub.queue_declare(dying, durable=durable, arguments={"x-dead-letter-exchange": letters})
    for queue, key in [(to, dying), (cc, "cc"), (bcc, "bcc")]:
        pub.queue_declare(queue)
        pub.queue_bind(queue, letters, key)
    headers = {"CC": ["cc"], "BCC": ["bcc"], "other": "stays"}
    pub.basic_publish("", dying, b"x", pika.BasicProperties(headers=headers))
    told = {"CC": ["cc"], "other": "stays"}
    peek = {"count": 1, "ackmode": "ack_requeue_true", "encoding": "auto"}
    status, peeked = broker.http(f"/api/queues/%2F/{dying}/get", "POST", peek)
    assert status == 200 and json.loads(peeked)[0]["properties"]["headers"] == told
    message = amqp.get(sub, dying)
    assert message.properties.headers == told
    sub.basic_reject(message.tag, requeue=False)
    for queue in (to, cc, bcc):
        letter = amqp.get(sub, queue, auto_ack=True).properties.headers
        assert "BCC" not in letter and letter["CC"] == ["cc"]
        assert letter["x-death"][0]["routing-keys"] == [dying, "cc"]
