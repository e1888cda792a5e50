"""kill -9 of all nodes at once, and back: everything confirmed is there, in order, once."""

from __future__ import annotations

import pika
import pytest
from pika import spec
from scenes import SHUTDOWN

from harness import amqp
from harness.load import judge
from harness.wait import eventually


def test_confirmed_messages_survive(fresh, load, names) -> None:
    cluster = fresh(3).start()
    queues = [names() for _ in range(3)]
    channel = cluster.connect(1).channel()
    for queue in queues:
        channel.queue_declare(queue, durable=True)
    number = 0
    kept: dict[str, list] = {queue: [] for queue in queues}
    for round_ in range(3):
        producers = []
        for index, queue in enumerate(queues):
            number += 1
            producer = load.produce(cluster.nodes[index], queue, number=number, rate=700)
            producers.append(producer)
            kept[queue].append(producer)
        for producer in producers:
            producer.wait_confirmed(700)
        cluster.kill_all()
        for producer in producers:
            eventually(lambda: producer.closed, what="the producer notices")
        cluster.start(reversed(cluster.nodes) if round_ % 2 else None)
    for index, queue in enumerate(queues):
        consumer = load.consume(cluster.nodes[(index + 1) % 3], queue)

        def all_there() -> bool:
            consumer.assert_undisturbed()
            for producer in kept[queue]:
                arrived = {a.sequence for a in list(consumer.arrivals[producer.number])}
                missing = producer.confirmed - arrived
                assert not missing, (
                    f"'{queue}': {len(missing)} of {len(producer.confirmed)} confirmed messages of "
                    f"round {producer.number} are missing"
                )
            return True

        eventually(all_there, what="everything confirmed is delivered")
        verdict = judge(kept[queue], [consumer])
        assert verdict.clean, verdict
        # Rounds do not mix: all of an earlier producer before all of a later one.
        times = [[a.time for a in consumer.arrivals[p.number]] for p in kept[queue]]
        for earlier, later in zip(times, times[1:]):
            assert max(earlier) <= min(later)


def test_what_remains_and_what_does_not(fresh, open_at, names) -> None:
    """Durable entities and bindings stay; transient ones, and transient messages, do not matter."""
    cluster = fresh(3).start()
    durable_queue, transient_queue, exclusive_queue = names(), names(), names()
    durable_exchange, transient_exchange = names(), names()
    channel = amqp.confirmed(open_at(cluster.nodes[0]))
    channel.queue_declare(durable_queue, durable=True, arguments={"x-max-priority": 3})
    channel.queue_declare(transient_queue)
    channel.queue_declare(exclusive_queue, exclusive=True)
    channel.exchange_declare(durable_exchange, "topic", durable=True)
    channel.exchange_declare(transient_exchange, "fanout")
    channel.queue_bind(durable_queue, durable_exchange, "a.#", arguments={"note": 1})
    channel.queue_bind(durable_queue, transient_exchange)
    channel.queue_bind(transient_queue, durable_exchange, "#")
    amqp.fill(channel, durable_queue, [b"low"], priority=0)
    amqp.fill(channel, durable_queue, [b"high"], priority=3)
    held = amqp.get(channel, durable_queue)
    assert held.body == b"high"

    cluster.kill_all()
    cluster.start()

    for node in cluster.nodes:
        other = open_at(node)
        check = other.channel()
        check.exchange_declare(durable_exchange, passive=True)
        for queue in (transient_queue, exclusive_queue):
            with amqp.channel_error(404, f"NOT_FOUND - no queue '{queue}' in vhost '/'"):
                other.channel().queue_declare(queue, passive=True)
        with amqp.channel_error(404):
            other.channel().exchange_declare(transient_exchange, passive=True)
    channel = amqp.confirmed(open_at(cluster.nodes[2]))
    method = channel.queue_declare(
        durable_queue, durable=True, arguments={"x-max-priority": 3}
    ).method
    assert method.message_count == 2
    first = amqp.get(channel, durable_queue, auto_ack=True)
    assert (first.body, first.redelivered) == (b"high", True)
    assert amqp.get_all(channel, durable_queue, 1) == [b"low"]
    channel.basic_publish(durable_exchange, "a.b", b"through the old binding", mandatory=True)
    assert amqp.get(channel, durable_queue, auto_ack=True).body == b"through the old binding"
    with pytest.raises(pika.exceptions.UnroutableError):
        channel.basic_publish(durable_exchange, "b", b"", mandatory=True)


def test_acknowledged_stays_acknowledged(fresh, open_at, name) -> None:
    cluster = fresh(3).start()
    channel = amqp.confirmed(open_at(cluster.nodes[0]))
    channel.queue_declare(name, durable=True)
    amqp.fill(channel, name, [b"%d" % i for i in range(200)])
    connection = open_at(cluster.nodes[1])
    consumer = amqp.Consumer(connection.channel(), name)
    consumer.wait(200)
    consumer.channel.basic_ack(consumer.messages[149].tag, multiple=True)
    connection.close()
    amqp.wait_ready_count(channel, name, 50)
    cluster.kill_all()
    cluster.start()
    channel = open_at(cluster.nodes[2]).channel()
    amqp.wait_ready_count(channel, name, 50)
    assert amqp.get_all(channel, name, 50) == [b"%d" % i for i in range(150, 200)]


def test_single_node(fresh, load, name) -> None:
    """A cluster of one keeps its promises too."""
    cluster = fresh(1).start()
    node = cluster.nodes[0]
    cluster.connect(1).channel().queue_declare(name, durable=True)
    producer = load.produce(node, name, rate=1000)
    producer.wait_confirmed(1500)
    node.kill()
    eventually(lambda: producer.closed, what="the producer notices")
    cluster.start()
    consumer = load.consume(node, name)
    eventually(
        lambda: producer.confirmed <= {a.sequence for a in list(consumer.arrivals[1])},
        what="everything confirmed is delivered",
    )
    verdict = judge([producer], [consumer])
    assert verdict.clean, verdict


def test_clean_stop_and_start_of_all(fresh, load, name) -> None:
    """`compose down` and `up`: SIGTERM to all at once; each ends well."""
    import signal

    cluster = fresh(3).start()
    cluster.connect(1).channel().queue_declare(name, durable=True)
    producer = load.produce(cluster.nodes[0], name, rate=300)
    producer.wait_confirmed(600)
    producer.stop()
    for node in cluster.nodes:
        node.signal(signal.SIGTERM)
    for node in cluster.nodes:
        assert node.wait_stopped() == 0, f"{node} did not end well"
    # Its client was told, and is gone with its node.
    eventually(lambda: producer.closed is not None, what="the producer notices")
    assert isinstance(producer.closed, spec.Connection.Close), producer.closed
    assert (producer.closed.reply_code, producer.closed.reply_text) == (320, SHUTDOWN)
    cluster.start()
    consumer = load.consume(cluster.nodes[1], name)

    def all_there() -> bool:
        consumer.assert_undisturbed()
        missing = producer.confirmed - {a.sequence for a in list(consumer.arrivals[1])}
        assert not missing, f"{len(missing)} confirmed messages are missing"
        return True

    eventually(all_there, what="everything confirmed is delivered")
    verdict = judge([producer], [consumer])
    assert verdict.clean, verdict
