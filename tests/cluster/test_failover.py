"""kill -9 of a node under load, seen from the others.

Clients of surviving nodes must notice nothing but a short pause: no error, no nack, nothing lost,
nothing doubled, nothing out of order.
"""

from __future__ import annotations

import pika
import pytest
from scenes import declare, roles

from harness import amqp
from harness.amqp import Consumer
from harness.load import judge, settle
from harness.node import Node
from harness.wait import eventually


def assert_empty(node: Node, queue: str) -> None:
    """Nothing is left, neither ready nor in anybody's hands."""
    connection = amqp.connect(node.amqp_port)
    channel = connection.channel()
    amqp.wait_ready_count(channel, queue, 0)
    connection.close()


@pytest.mark.parametrize("rate", [500, 2000])
@pytest.mark.parametrize("victim", ["leader", "follower"])
def test_kill_under_load(whole, load, name, victim, rate) -> None:
    declare(whole, name)
    dead, a, b = roles(whole, name, victim)
    producer = load.produce(a, name, rate=rate)
    consumer = load.consume(b, name)
    producer.wait_confirmed(rate)
    dead.kill()
    producer.wait_confirmed(2 * rate)
    settle(load.producers, load.consumers)
    verdict = judge(load.producers, load.consumers)
    assert verdict.clean, verdict
    assert not producer.nacked, f"{len(producer.nacked)} nacks although a majority was there"
    consumer.assert_undisturbed()
    consumer.close()
    assert_empty(a, name)


def test_kill_with_several_queues_and_publishers(whole, load, names) -> None:
    """Four queues, led by whom it may be; each with a publisher and a consumer on survivors."""
    queues = [names() for _ in range(4)]
    declare(whole, *queues)
    dead, a, b = roles(whole, queues[0], "leader")
    for index, queue in enumerate(queues):
        load.produce((a, b)[index % 2], queue, rate=300)
        load.consume((b, a)[index % 2], queue)
    for producer in load.producers:
        producer.wait_confirmed(300)
    dead.kill()
    for producer in load.producers:
        producer.wait_confirmed(600)
    settle(load.producers, load.consumers)
    verdict = judge(load.producers, load.consumers)
    assert verdict.clean, verdict
    assert not any(p.nacked for p in load.producers)


def test_kill_with_fanout(whole, load, names) -> None:
    """One publish to several queues at once: confirmed once, everywhere once."""
    exchange, *queues = [names() for _ in range(6)]
    declare(whole, *queues)
    connection = whole.connect(1)
    channel = connection.channel()
    channel.exchange_declare(exchange, "fanout", durable=True)
    for queue in queues:
        channel.queue_bind(queue, exchange)
    connection.close()
    dead, a, b = roles(whole, queues[0], "leader")
    producer = load.produce(a, "", exchange=exchange, rate=300)
    for queue in queues:
        load.consume(b, queue)
    producer.wait_confirmed(300)
    dead.kill()
    producer.wait_confirmed(600)
    producer.stop()
    for consumer in load.consumers:
        settle([producer], [consumer])
        verdict = judge([producer], [consumer])
        assert verdict.clean, verdict


def test_consumer_on_the_dead_node(whole, load, name) -> None:
    """What it held comes back, flagged, and goes to the consumer that is left."""
    declare(whole, name)
    dead, a, b = roles(whole, name, "follower")
    lost = load.consume(dead, name, prefetch=50, ack=False)
    producer = load.produce(a, name, rate=500)
    survivor = load.consume(b, name)
    eventually(lambda: lost.count == 50, what="the consumer that dies is full")
    producer.wait_confirmed(500)
    dead.kill()
    producer.wait_confirmed(500)
    settle([producer], [survivor])
    verdict = judge([producer], [survivor], redelivery_allowed=True)
    assert not verdict.lost and not verdict.doubled and not verdict.unknown, verdict
    held = {a.sequence for a in lost.arrivals[1]}
    again = {x.sequence: x for x in survivor.arrivals[1]}
    for sequence in held & producer.confirmed:
        assert again[sequence].redelivered, f"{sequence} came again without the flag"


def test_producer_on_the_dead_node(whole, load, name) -> None:
    """Its confirmed messages are there; its other ones may be, once."""
    declare(whole, name)
    dead, a, b = roles(whole, name, "leader")
    producer = load.produce(dead, name, rate=1000)
    consumer = load.consume(b, name)
    producer.wait_confirmed(1000)
    dead.kill()
    eventually(lambda: producer.closed, what="the producer notices")

    def all_there() -> bool:
        consumer.assert_undisturbed()
        missing = producer.confirmed - {x.sequence for x in list(consumer.arrivals[1])}
        assert not missing, f"{len(missing)} confirmed messages are missing"
        return True

    eventually(all_there, what="everything confirmed is delivered")
    verdict = judge([producer], [consumer])
    assert verdict.clean, verdict


def test_held_messages_stay_with_their_holder(whole, name, open_at) -> None:
    """Unacknowledged deliveries survive a leader change: ackable, and not delivered to others."""
    declare(whole, name)
    dead, a, b = roles(whole, name, "leader")
    publisher = amqp.confirmed(open_at(a))
    amqp.fill(publisher, name, [b"%d" % i for i in range(20)])
    holder_channel = open_at(b).channel()
    holder_channel.basic_qos(prefetch_count=10)
    holder = Consumer(holder_channel, name)
    holder.wait(10)
    by_get = amqp.get(publisher, name)
    assert by_get.body == b"10"
    dead.kill()
    whole.other_leader(name, dead)
    # A second consumer gets what nobody holds, in order, and none of the held ones.
    other = Consumer(open_at(a).channel(), name)
    other.wait(9)
    assert other.bodies == [b"%d" % i for i in range(11, 20)]
    publisher.basic_ack(by_get.tag)
    for message in holder.messages[:5]:
        holder.ack(message)
    amqp.sync(holder_channel)
    assert holder.bodies == [b"%d" % i for i in range(10)]
    # Five are still held; they come back when their holder goes, and to the next in line.
    holder.connection.close()
    other.wait(14)
    assert other.bodies[9:] == [b"%d" % i for i in range(5, 10)]
    assert all(m.redelivered for m in other.messages[9:])


def test_acknowledged_is_gone_for_good(whole, name, open_at) -> None:
    """Acked before the kill: never seen again, whoever leads."""
    declare(whole, name)
    dead, a, b = roles(whole, name, "leader")
    publisher = amqp.confirmed(open_at(a))
    amqp.fill(publisher, name, [b"%d" % i for i in range(100)])
    connection = open_at(b)
    consumer = Consumer(connection.channel(), name)
    consumer.wait(100)
    consumer.channel.basic_ack(0, multiple=True)
    connection.close()  # After close-ok the acknowledgements have been taken.
    dead.kill()
    amqp.fill(publisher, name, [b"marker"])
    channel = open_at(b).channel()
    assert amqp.get(channel, name, auto_ack=True).body == b"marker"
    assert amqp.get_all(channel, name, 0) == []


def test_blocking_publisher_does_not_notice(whole, name, open_at) -> None:
    """pika's basic_publish returns, a little later."""
    declare(whole, name)
    dead, a, b = roles(whole, name, "leader")
    publisher = amqp.confirmed(open_at(a))
    for i in range(300):
        if i == 100:
            dead.kill()
        publisher.basic_publish("", name, b"%d" % i, amqp.PERSISTENT)
    assert amqp.get_all(open_at(b).channel(), name, 300) == [b"%d" % i for i in range(300)]


def test_client_with_a_list_of_nodes_reconnects(whole, name) -> None:
    """How users write it: all nodes in a list, try the next, publish again what was not confirmed."""
    declare(whole, name)
    dead, a, b = roles(whole, name, "leader")
    parameters = [amqp.parameters(n.amqp_port, socket_timeout=5) for n in (dead, a, b)]
    connection = pika.BlockingConnection(parameters)
    channel = amqp.confirmed(connection)
    for i in range(100):
        if i == 50:
            dead.kill()
        while True:
            try:
                channel.basic_publish("", name, b"%d" % i, amqp.PERSISTENT)
                break
            except pika.exceptions.AMQPError:
                connection = pika.BlockingConnection(parameters)
                channel = amqp.confirmed(connection)
    seen: list[int] = []
    while True:
        method, _, body = channel.basic_get(name, auto_ack=True)
        if method is None:
            break
        if not seen or seen[-1] != int(body):
            seen.append(int(body))  # The one published twice may be there twice.
    assert seen == list(range(100))
    connection.close()


@pytest.mark.parametrize("kind", ["consume", "get", "declare", "bind", "purge", "delete"])
def test_every_operation_right_after_the_kill(whole, names, open_at, kind) -> None:
    """It waits for the new leader; it does not fail."""
    queue, exchange = names(), names()
    declare(whole, queue)
    dead, a, b = roles(whole, queue, "leader")
    publisher = amqp.confirmed(open_at(a))
    publisher.exchange_declare(exchange, "direct", durable=True)
    amqp.fill(publisher, queue, [b"x", b"y"])
    channel = open_at(b).channel()
    dead.kill()
    if kind == "consume":
        assert Consumer(channel, queue).next().body == b"x"
    elif kind == "get":
        assert amqp.get(channel, queue).body == b"x"
    elif kind == "declare":
        channel.queue_declare(queue + "-new", durable=True)
        method = channel.queue_declare(queue, durable=True).method
        assert method.message_count == 2
    elif kind == "bind":
        channel.queue_bind(queue, exchange, "k")
        publisher.basic_publish(exchange, "k", b"z", amqp.PERSISTENT, mandatory=True)
    elif kind == "purge":
        assert channel.queue_purge(queue).method.message_count == 2
    else:
        assert channel.queue_delete(queue).method.message_count == 2


def test_transient_queue_of_a_dead_node(whole, names, open_at) -> None:
    """Given to a live node, empty; consumers on other nodes stay subscribed."""
    queues = [names() for _ in range(3)]
    for node, queue in zip(whole.nodes, queues):
        open_at(node).channel().queue_declare(queue)
    dead, a, b = whole.nodes
    consumers = [Consumer(open_at(b).channel(), queue, auto_ack=True) for queue in queues]
    publisher = amqp.confirmed(open_at(a))
    for queue, consumer in zip(queues, consumers):
        publisher.basic_publish("", queue, b"before", mandatory=True)
        assert consumer.next().body == b"before"
    dead.kill()
    for queue, consumer in zip(queues, consumers):

        def flows() -> bool:
            try:
                publisher.basic_publish("", queue, b"after", mandatory=True)
            except (pika.exceptions.NackError, pika.exceptions.UnroutableError):
                return False  # On its way to its new home.
            consumer.connection.process_data_events(time_limit=0.1)
            return bool(consumer.messages)

        eventually(flows, what=f"messages flow again through '{queue}'")
        assert not consumer.cancelled_by_broker
        assert consumer.channel.is_open


def test_exclusive_queue_of_a_dead_node(whole, name, open_at) -> None:
    """Gone with its connection: the client may declare it again at another node."""
    dead, a, b = whole.nodes
    owner = open_at(dead).channel()
    owner.queue_declare(name, exclusive=True)
    owner.queue_bind(name, "amq.fanout")
    dead.kill()

    def declared() -> bool:
        channel = open_at(a).channel()
        try:
            channel.queue_declare(name, exclusive=True)
        except pika.exceptions.ChannelClosedByBroker as error:
            assert error.reply_code == 405
            return False
        return True

    eventually(declared, what="the exclusive queue's name is free")


def test_leader_returns_and_is_killed_again(whole, load, name) -> None:
    """Kill, restart, kill the next one, with the same clients all along where they survive."""
    declare(whole, name)
    dead, a, b = roles(whole, name, "leader")
    producer = load.produce(a, name, rate=500)
    load.consume(b, name)
    for _ in range(3):
        producer.wait_confirmed(500)
        dead.kill()
        producer.wait_confirmed(500)
        whole.start([dead])
    settle(load.producers, load.consumers)
    verdict = judge(load.producers, load.consumers)
    assert verdict.clean, verdict
    assert not producer.nacked


def test_dead_letters_survive_the_kill(whole, names, open_at) -> None:
    """Killed in the middle of dead-lettering: each message is in exactly one of the two queues."""
    source, target = names(), names()
    dead, a, b = whole.nodes
    channel = amqp.confirmed(open_at(a))
    channel.queue_declare(target, durable=True)
    channel.queue_declare(
        source,
        durable=True,
        arguments={"x-dead-letter-exchange": "", "x-dead-letter-routing-key": target},
    )
    dead, a, b = roles(whole, source, "leader")
    channel = amqp.confirmed(open_at(a))
    bodies = [b"%d" % i for i in range(1000)]
    plain = channel.connection.channel()
    amqp.fill(plain, source, bodies)
    amqp.wait_ready_count(channel, source, 1000)
    holder = Consumer(open_at(b).channel(), source)
    holder.wait(1000)
    for message in holder.messages[:500]:
        holder.channel.basic_reject(message.tag, requeue=False)
    holder.connection.process_data_events(time_limit=0)
    dead.kill()
    for message in holder.messages[500:]:
        holder.channel.basic_reject(message.tag, requeue=False)
    amqp.sync(holder.channel)
    reader = Consumer(open_at(a).channel(), target, auto_ack=True)
    # At least once: a copy may come twice, so deliveries are no measure; nothing may be missing.
    amqp.pump(reader.connection, lambda: set(reader.bodies) == set(bodies),
              what=lambda: f"all dead letters (missing {len(set(bodies) - set(reader.bodies))})")  # fmt: skip
    amqp.wait_ready_count(channel, source, 0)
