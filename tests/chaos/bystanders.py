"""Clients beside the load: queues that come and go, and whoever looks at the management API."""

from __future__ import annotations

import time

import pika
from ledger import Stay
from worker import Worker

from harness import amqp
from harness.node import Node

#: What an operator's tool asks for.
PATHS = ("/api/overview", "/api/queues", "/api/nodes", "/api/connections", "/api/channels",
         "/api/exchanges", "/api/cluster/status", "/metrics", "/health/live")  # fmt: skip


class TemporaryQueues(Worker):
    """Declares queues of all kinds, uses them for a moment and deletes them."""

    def work(self, node: Node, stay: Stay) -> None:
        connection = pika.BlockingConnection(self.parameters(node))
        try:
            self.admitted(stay)
            for number in range(self.rng.randint(1, 30)):
                if self.stopping.wait(0.1):
                    break
                self._use_one(connection, f"{self.name} {time.time_ns()} {number}", node)
            connection.close()
        finally:
            amqp.drop(connection)

    def _use_one(self, connection: pika.BlockingConnection, queue: str, node: Node) -> None:
        begin = time.monotonic()
        channel = amqp.confirmed(connection)
        kind = self.rng.choice(["durable", "transient", "exclusive", "auto-delete"])
        channel.queue_declare(
            queue,
            durable=kind == "durable",
            exclusive=kind == "exclusive",
            auto_delete=kind == "auto-delete",
        )
        channel.queue_bind(queue, "amq.topic", "temporary.*")
        try:
            channel.basic_publish(
                "", queue, b"temporary", amqp.PERSISTENT, mandatory=kind == "durable"
            )
            confirmed = True
        except pika.exceptions.NackError:
            confirmed = False
        method, _, body = channel.basic_get(queue, auto_ack=True)
        if kind == "durable" and confirmed and (method is None or body != b"temporary"):
            took = time.monotonic() - begin
            self.complain(node.id, f"a confirmed message was not got back ({took:.1f} s): {body!r}")
        channel.queue_delete(queue)
        channel.close()


class Operator(Worker):
    """Reads the management API of one node after the other."""

    def work(self, node: Node, stay: Stay) -> None:
        path = self.rng.choice(PATHS)
        stay.begin = time.monotonic()
        try:
            status, body = node.http(path, timeout=10)
        except OSError as error:
            stay.reason = f"{path}: {error!r}"
        else:
            if status != 200:
                stay.reason = f"{path}: status {status}: {body[:200]!r}"
        if stay.reason is not None:
            self.ledger.stays.append(stay)  # Judged like a connection that was ended.
