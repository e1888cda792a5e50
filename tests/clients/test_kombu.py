"""kombu (py-amqp): producers and consumers, pooled connections, SimpleQueue, failover list."""

from __future__ import annotations

import kombu
import pytest
from kombu.pools import producers

from harness.amqp import url
from harness.wait import SOON, eventually


def drain(connection: kombu.Connection, done, timeout: float = SOON) -> None:
    def step() -> bool:
        if done():
            return True
        try:
            connection.drain_events(timeout=0.2)
        except TimeoutError:
            pass
        return bool(done())

    eventually(step, timeout, "messages by kombu")


def test_direct_exchange_with_priorities_and_json(broker, name) -> None:
    exchange = kombu.Exchange(name, "direct", durable=True)
    queue = kombu.Queue(
        name, exchange, routing_key="key", durable=True, max_priority=5, message_ttl=600
    )
    seen = []
    with kombu.Connection(
        url(broker.port(0)), transport_options={"confirm_publish": True}
    ) as sender:
        producer = sender.Producer(serializer="json")
        for i in range(10):
            producer.publish(
                {"n": i},
                exchange=exchange,
                routing_key="key",
                declare=[queue],
                delivery_mode="persistent",
                priority=i % 3,
                headers={"i": i},
                retry=True,
            )
    with kombu.Connection(url(broker.port(1))) as receiver:

        def on_message(body, message) -> None:
            assert message.headers["i"] == body["n"]
            seen.append(body["n"])
            message.ack()

        with receiver.Consumer([queue], callbacks=[on_message], prefetch_count=1):
            drain(receiver, lambda: len(seen) == 10)
    assert seen == sorted(range(10), key=lambda n: (-(n % 3), n))


def test_simple_queue_and_requeue(broker, name) -> None:
    with kombu.Connection(url(broker.port(2))) as connection:
        with connection.SimpleQueue(name) as queue:
            for i in range(5):
                queue.put({"n": i})
            first = queue.get(timeout=SOON)
            first.requeue()
            # kombu has fetched the others already: in which order is its own affair.
            assert sorted(m.payload["n"] for m in take(queue, 5)) == [0, 1, 2, 3, 4]


def take(queue, count):
    for _ in range(count):
        message = queue.get(timeout=SOON)
        message.ack()
        yield message


def test_pooled_producers_and_fanout(broker, name) -> None:
    exchange = kombu.Exchange(name, "fanout", durable=False, auto_delete=True)
    queues = [kombu.Queue(f"{name}-{i}", exchange, exclusive=True) for i in range(3)]
    got: list[tuple[int, str]] = []
    with kombu.Connection(url(broker.port(0))) as receiver:
        consumers = [
            receiver.Consumer(
                [q], callbacks=[lambda body, m, i=i: (got.append((i, body)), m.ack())]
            )
            for i, q in enumerate(queues)
        ]
        for consumer in consumers:
            consumer.consume()
        sender = kombu.Connection(url(broker.port(1)))
        with producers[sender].acquire(block=True) as producer:
            for word in ("a", "b"):
                producer.publish(word, exchange=exchange, routing_key="")
        drain(receiver, lambda: len(got) == 6)
        assert sorted(got) == sorted((i, w) for i in range(3) for w in ("a", "b"))
        sender.release()
        kombu.pools.reset()


@pytest.mark.timeout(240)
def test_failover_list_through_a_kill(victim_cluster, name) -> None:
    """`amqp://a;amqp://b;amqp://c` and ensure(): what kombu users rely on."""
    cluster = victim_cluster
    addresses = ";".join(url(n.amqp_port) for n in cluster.nodes)
    queue = kombu.Queue(name, durable=True)
    with kombu.Connection(
        addresses, transport_options={"confirm_publish": True}, failover_strategy="round-robin"
    ) as connection:
        producer = connection.Producer(serializer="json")
        publish = connection.ensure(
            producer, producer.publish, max_retries=30, interval_start=0.1, interval_max=0.5
        )
        for i in range(60):
            if i == 20:
                cluster.nodes[0].kill()
            publish(
                {"n": i},
                exchange="",
                routing_key=name,
                declare=[queue],
                delivery_mode=2,
            )
    seen = set()
    with kombu.Connection(url(cluster.nodes[2].amqp_port)) as receiver:
        callbacks = [lambda body, m: (seen.add(body["n"]), m.ack())]
        with receiver.Consumer([queue], callbacks=callbacks):
            drain(receiver, lambda: len(seen) == 60)
    assert seen == set(range(60))
