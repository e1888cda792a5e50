"""An alarm of a node that dies blocks nobody for ever."""

from __future__ import annotations

from harness import amqp
from harness.wait import bound, eventually


class Watcher:
    """A connection that notes when it is blocked and unblocked."""

    def __init__(self, connection) -> None:
        self.connection = connection
        self.said: list[str] = []
        connection.add_on_connection_blocked_callback(lambda *_: self.said.append("blocked"))
        connection.add_on_connection_unblocked_callback(lambda *_: self.said.append("unblocked"))

    def hears(self, what: str) -> None:
        amqp.pump(
            self.connection, lambda: self.said and self.said[-1] == what, bound(20), repr(what)
        )


def test_a_dead_nodes_alarm_ends(fresh, name, open_at) -> None:
    cluster = fresh(3)
    a, b, poor = cluster.nodes
    poor.extra_args = ["--disk-free-limit", "8000000GB"]
    cluster.start()
    open_at(a).channel().queue_declare(name, durable=True)
    watched = [Watcher(open_at(node)) for node in (a, b)]

    def alarmed(node) -> bool:
        return node.http("/api/health/checks/alarms")[0] == 503

    for node in (a, b):
        eventually(lambda node=node: alarmed(node), what=f"{node} knows of the alarm")
    for watcher in watched:
        watcher.connection.channel().basic_publish("", name, b"held", amqp.PERSISTENT)
        watcher.hears("blocked")
    poor.kill()
    for watcher in watched:
        watcher.hears("unblocked")
    for node in (a, b):
        eventually(lambda node=node: not alarmed(node), what=f"{node} knows that it is over")
    amqp.wait_ready_count(open_at(b).channel(), name, 2)
    amqp.confirmed(open_at(a)).basic_publish("", name, b"free", amqp.PERSISTENT)
    # It comes back with its alarm, which counts again, and ends with what caused it.
    cluster.start([poor], wait=False)
    eventually(lambda: alarmed(a), what="the alarm is back")
