"""Transactions that are not committed: what all of them hold in a node's memory is bounded."""

from __future__ import annotations

from harness import amqp
from harness.wait import bound

MIB = 1 << 20
BODY = b"x" * (4 * MIB)
TEXT = "PRECONDITION_FAILED - open transactions of this node are larger than"


def test_all_transactions_share_a_part_of_the_memory(fresh) -> None:
    node = fresh(1, extra_args=["--memory-total=320MiB"]).start().nodes[0]
    connection = amqp.connect(node.amqp_port, socket_timeout=bound(60))
    channels = [connection.channel() for _ in range(3)]
    channels[0].queue_declare("q", durable=True)

    def publish(channel, count: int) -> None:
        for _ in range(count):
            channel.basic_publish("", "q", BODY)

    for channel in channels:
        channel.tx_select()
    # A quarter is 80 MiB: 72 fit, and 8 more do not.
    publish(channels[0], 9)
    publish(channels[1], 9)
    amqp.sync(channels[1])
    with amqp.channel_error(406, starts=TEXT):
        publish(channels[2], 3)
        amqp.sync(channels[2])
    # The others are as they were, and each end makes room.
    channels[0].tx_commit()
    assert amqp.counts(channels[0], "q")[0] == 9
    channels[1].tx_rollback()
    publish(channels[0], 18)
    channels[0].tx_commit()
    assert amqp.counts(channels[0], "q")[0] == 27
    # So does the end of a connection.
    publish(channels[0], 18)
    amqp.drop(connection)
    other = amqp.connect(node.amqp_port, socket_timeout=bound(60)).channel()
    other.tx_select()
    publish(other, 18)
    other.tx_commit()
    assert amqp.counts(other, "q")[0] == 45
