#!/usr/bin/env python3
"""How long do clients wait when a leader fails? `make failover` runs this.

Three nodes, one durable queue, a publisher (persistent, confirms) and a consumer on the two nodes
that survive. Fault by fault the leader is killed, frozen or cut off, several rounds each; then all
three nodes are killed and started again. Printed: the longest time without a confirm and without a
delivery around the fault, median and worst. Checked: nothing lost, doubled or out of order.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from harness import amqp  # noqa: E402
from harness.cluster import Cluster  # noqa: E402
from harness.load import ConsumerLoad, Producer, gaps, judge, settle  # noqa: E402
from harness.node import Node  # noqa: E402
from harness.wait import bound, eventually  # noqa: E402

#: Load before and after the moment of the fault, in seconds.
BEFORE = 1.5
AFTER = 4.0
QUEUE = "failover"


@dataclass
class Round:
    """What one fault cost."""

    confirms: float
    deliveries: float
    nacks: int = 0
    faults: list[str] = field(default_factory=list)


@dataclass
class Fault:
    """A way to lose a leader, and the way back."""

    name: str
    strike: Callable[[Cluster, Node], None]
    heal: Callable[[Cluster, Node], None]
    #: Needs the proxy between the nodes, which delays how the end of a process is noticed.
    cuts: bool = False


def restart(cluster: Cluster, node: Node) -> None:
    cluster.start([node])


FAULTS = [
    Fault("kill -9", lambda c, n: n.kill(), restart),
    Fault("freeze (SIGSTOP)", lambda c, n: n.freeze(), lambda c, n: n.thaw()),
    Fault("cut off, both ways", lambda c, n: c.network.isolate(n.id, "both"),
          lambda c, n: c.network.heal(), cuts=True),
    Fault("cut off, nothing in", lambda c, n: c.network.isolate(n.id, "in"),
          lambda c, n: c.network.heal(), cuts=True),
    Fault("cut off, nothing out", lambda c, n: c.network.isolate(n.id, "out"),
          lambda c, n: c.network.heal(), cuts=True),
    Fault("stop (SIGTERM)", lambda c, n: n.terminate() and None, restart),
]  # fmt: skip


def flow(seconds: float, producer: Producer) -> None:
    """Lets the load run; the reading, not a test, needs a span of time."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        producer.check()
        time.sleep(0.05)


def one_leader_fault(cluster: Cluster, fault: Fault, queue: str, rate: float) -> Round:
    for node in cluster.nodes:
        node.wait_ready()
    leader = cluster.leader(queue)
    a, b = cluster.others(leader)
    producer = Producer(a.amqp_port, queue, rate=rate, size=1024).start()
    consumer = ConsumerLoad(b.amqp_port, queue, prefetch=1000).start()
    try:
        producer.wait_confirmed(int(rate * BEFORE / 2))
        flow(BEFORE / 2, producer)
        struck = time.monotonic()
        fault.strike(cluster, leader)
        producer.wait_confirmed(1, bound(60))
        flow(AFTER, producer)
        end = time.monotonic()
        fault.heal(cluster, leader)
        flow(1.0, producer)
        found = []
        try:
            settle([producer], [consumer], bound(60))
        except (AssertionError, RuntimeError) as error:
            found.append(str(error))
        verdict = judge([producer], [consumer])
        if not verdict.clean:
            found.append(str(verdict))
        return Round(
            gaps(list(producer.confirm_times), struck, end),
            gaps(list(consumer.times), struck, end),
            len(producer.nacked),
            found,
        )
    finally:
        producer.close()
        consumer.close()


def all_killed(cluster: Cluster, queue: str, rate: float) -> tuple[float, list[str]]:
    """Seconds from the start of all three to the first confirm; what was lost."""
    for node in cluster.nodes:
        node.wait_ready()
    producer = Producer(cluster.nodes[0].amqp_port, queue, rate=rate, size=1024).start()
    producer.wait_confirmed(int(rate * 2))
    cluster.kill_all()
    eventually(lambda: producer.closed, bound(30), "the producer notices")
    producer.close()
    began = time.monotonic()
    cluster.start(wait=False)
    first = None
    while first is None:
        # As a client would: connect to whichever node accepts.
        for node in cluster.nodes:
            try:
                connection = amqp.connect(node.amqp_port, socket_timeout=2, stack_timeout=3)
                channel = amqp.confirmed(connection)
                channel.queue_declare(queue + "-probe", durable=True)
                channel.basic_publish("", queue + "-probe", b"", amqp.PERSISTENT)
                first = time.monotonic() - began
                connection.close()
                break
            except Exception:  # noqa: BLE001 - not yet.
                if time.monotonic() - began > bound(120):
                    raise
        time.sleep(0.02)
    for node in cluster.nodes:
        node.wait_ready()
    consumer = ConsumerLoad(cluster.nodes[1].amqp_port, queue, prefetch=1000).start()
    found = []
    try:
        eventually(
            lambda: producer.confirmed <= {a.sequence for a in list(consumer.arrivals[1])},
            bound(60),
            "everything confirmed is delivered",
        )
    except AssertionError as error:
        found.append(str(error))
    verdict = judge([producer], [consumer])
    if not verdict.clean:
        found.append(str(verdict))
    consumer.close()
    return first, found


def milliseconds(values: list[float]) -> str:
    return f"{statistics.median(values) * 1000:7.0f} {max(values) * 1000:7.0f}"


def rounds_of(
    cluster: Cluster, fault: Fault, options: argparse.Namespace, figures: dict[str, object]
) -> bool:
    """Prints what one kind of fault costs; true if something was wrong."""
    rounds = []
    for _ in range(options.rounds):
        try:
            rounds.append(one_leader_fault(cluster, fault, QUEUE, options.rate))
        finally:
            if fault.cuts:
                cluster.network.heal()
            for node in cluster.nodes:
                node.thaw()
            cluster.start()
            channel = cluster.connect(1).channel()
            channel.queue_purge(QUEUE)  # Leftovers of a failed round spoil no other one.
            channel.connection.close()
    faults = [text for r in rounds for text in r.faults]
    nacks = sum(r.nacks for r in rounds)
    print(
        f"{fault.name:22}  {milliseconds([r.confirms for r in rounds])}   "
        f"{milliseconds([r.deliveries for r in rounds])}   {nacks:5}  "
        f"{'; '.join(faults) or 'nothing lost, doubled or out of order'}",
        flush=True,
    )
    figures[fault.name] = {
        "confirm_gaps_s": [r.confirms for r in rounds],
        "delivery_gaps_s": [r.deliveries for r in rounds],
        "nacks": nacks,
        "faults": faults,
    }
    return bool(faults)


def restarts(cluster: Cluster, options: argparse.Namespace, figures: dict[str, object]) -> bool:
    """Prints how long clients wait when all are killed; true if something was wrong."""
    times, faults = [], []
    for _ in range(max(1, options.rounds // 3)):
        seconds, found = all_killed(cluster, QUEUE, options.rate)
        times.append(seconds)
        faults += found
    print(
        f"all killed, started again: first confirm after {statistics.median(times):.2f} s (median), "
        f"{max(times):.2f} s (worst); {'; '.join(faults) or 'nothing lost, doubled or out of order'}"
    )
    figures["all killed"] = {"first_confirm_s": times, "faults": faults}
    return bool(faults)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=10, help="rounds per fault (10)")
    parser.add_argument("--rate", type=float, default=2000, help="messages per second (2000)")
    parser.add_argument("--only", help="faults whose name contains this")
    parser.add_argument("--no-restart", action="store_true", help="leave out the kill of all")
    parser.add_argument("--json", type=Path, help="write the figures to this file, too")
    options = parser.parse_args()

    bad = False
    figures: dict[str, object] = {}
    print(
        f"{options.rate:.0f} persistent messages/s of 1 KiB, {options.rounds} rounds; longest time in "
        "ms without\n"
        f"{'':22}  {'confirm':^15}   {'delivery':^15}\n"
        f"{'the leader is':22}   median   worst    median   worst   nacks  verdict"
    )
    wanted = [f for f in FAULTS if not options.only or options.only in f.name]
    for cuts in (False, True):
        faults = [fault for fault in wanted if fault.cuts == cuts]
        restart_all = not (cuts or options.no_restart or options.only)
        if faults or restart_all:
            with Cluster(3, network=cuts) as cluster:
                cluster.start()
                channel = cluster.connect(1).channel()
                channel.queue_declare(QUEUE, durable=True)
                channel.connection.close()
                for fault in faults:
                    bad |= rounds_of(cluster, fault, options, figures)
                if restart_all:
                    bad |= restarts(cluster, options, figures)
    if options.json:
        options.json.write_text(json.dumps(figures, indent=2))
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
