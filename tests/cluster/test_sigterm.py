"""SIGTERM: leaders move away, clients are told, exit 0 within ten seconds."""

from __future__ import annotations

import pika
import pytest
from pika import spec
from scenes import SHUTDOWN, declare, roles

from harness import amqp, wire
from harness.load import judge, settle


def test_clients_are_told(whole, name) -> None:
    node = whole.nodes[0]
    connection = amqp.connect(node.amqp_port)
    connection.channel().queue_declare(name, durable=True)
    peer = wire.Peer(node.amqp_port).open().open_channel()
    import signal

    node.signal(signal.SIGTERM)
    close = peer.expect(spec.Connection.Close, 0)
    assert (close.reply_code, close.reply_text) == (320, SHUTDOWN)
    assert (close.class_id, close.method_id) == (0, 0)
    peer.method(0, spec.Connection.CloseOk())
    with pytest.raises(pika.exceptions.ConnectionClosedByBroker) as caught:
        while True:
            connection.process_data_events(time_limit=1)
    assert (caught.value.reply_code, caught.value.reply_text) == (320, SHUTDOWN)
    assert node.wait_stopped() == 0


def test_a_client_that_does_not_answer_delays_nothing(whole) -> None:
    node = whole.nodes[1]
    peers = [wire.Peer(node.amqp_port).open() for _ in range(5)]
    half_open = wire.Peer(node.amqp_port)
    assert node.terminate() == 0
    for peer in [*peers, half_open]:
        peer.socket.close()


@pytest.mark.parametrize("victim", ["leader", "follower"])
def test_stop_under_load(whole, load, name, victim) -> None:
    """Publishers and consumers of other nodes see nothing of it."""
    declare(whole, name)
    stopped, a, b = roles(whole, name, victim)
    producer = load.produce(a, name, rate=1000)
    consumer = load.consume(b, name)
    producer.wait_confirmed(1000)
    assert stopped.terminate() == 0
    producer.wait_confirmed(1000)
    whole.start([stopped])
    producer.wait_confirmed(500)
    settle(load.producers, load.consumers)
    verdict = judge(load.producers, load.consumers)
    assert verdict.clean, verdict
    assert not producer.nacked
    consumer.assert_undisturbed()


def test_rolling_restart(whole, open_at, name) -> None:
    """Every node once, with messages waiting all along."""
    declare(whole, name)
    expected = []
    for round_, node in enumerate(list(whole.nodes)):
        assert node.terminate() == 0
        channel = amqp.confirmed(open_at(whole.others()[0]))
        bodies = [b"%d.%d" % (round_, i) for i in range(20)]
        amqp.fill(channel, name, bodies)
        expected += bodies
        whole.start([node])
    assert amqp.get_all(open_at(whole.nodes[0]).channel(), name, len(expected)) == expected


def test_sigint_is_the_same(fresh) -> None:
    import signal

    cluster = fresh(1).start()
    node = cluster.nodes[0]
    node.signal(signal.SIGINT)
    assert node.wait_stopped() == 0


def test_during_the_start(fresh) -> None:
    """A node that waits for its peers also ends when told to."""
    cluster = fresh(3)
    node = cluster.nodes[0]
    cluster.start([node], wait=False)
    from harness.wait import eventually

    def answers() -> bool:
        try:
            return node.http("/health/live")[0] == 200
        except OSError:
            return False

    eventually(answers, what="the lonely node answers")
    assert not node.is_ready()
    assert node.terminate() == 0
