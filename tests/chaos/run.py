#!/usr/bin/env python3
"""Three nodes, clients of every kind, and a seeded schedule of faults. `make chaos` runs this.

Each round has a seed: what happens to which node and when, and which clients there are, follows
from it. At its end everything is healed, the queues are emptied, and what clients were promised is
checked. A round that fails prints its seed, what was done, what was found, and where the logs are.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import finish  # noqa: E402
import judge  # noqa: E402
import scene  # noqa: E402
from faults import Faults  # noqa: E402
from ledger import Ledger  # noqa: E402
from schedule import Plan, plan  # noqa: E402
from watch import MIB, Ended, Watch  # noqa: E402
from weather import Weather  # noqa: E402

from harness.cluster import Cluster  # noqa: E402
from harness.wait import bound  # noqa: E402


@dataclass
class Round:
    """One seed, and what came of it."""

    plan: Plan
    root: Path
    ledger: Ledger = field(default_factory=Ledger)
    weather: Weather = field(default_factory=Weather)
    #: What was done, with times of the clock that also stand in the nodes' logs.
    events: list[str] = field(default_factory=list)
    found: list[str] = field(default_factory=list)
    begin: float = field(default_factory=time.monotonic)
    gap: tuple[float, str] = (0.0, "")

    def say(self, text: str) -> None:
        now = time.monotonic()
        stamp = time.strftime("%H:%M:%S", time.gmtime())
        self.events.append(f"{stamp} {now:.2f} (+{now - self.begin:.1f} s) {text}")

    def judge(self) -> None:
        ledger, weather, timeout = self.ledger, self.weather, self.plan.publish_timeout
        self.found += judge.lost(ledger)
        self.found += judge.doubled(ledger)
        self.found += judge.unknown(ledger)
        self.found += judge.disordered(ledger)
        self.found += judge.returned_from_the_dead(ledger, weather)
        self.found += judge.unanswered(ledger, weather, bound(timeout))
        self.found += judge.thrown_out(ledger, weather, bound(timeout))
        self.gap = judge.longest_gap(ledger, weather)
        if self.gap[0] > bound(judge.GAP_FAULT):
            self.found.append(f"{self.gap[0]:.1f} s without a confirm: {self.gap[1]}")

    def figures(self, watch: Watch) -> str:
        publishes = [p for s in self.ledger.sessions.values() for p in s.publishes]
        outcomes = [p.outcome for p in publishes]
        deliveries = self.ledger.deliveries
        warning = "  WARNING: " + self.gap[1] if self.gap[0] > judge.GAP_TOLD else ""
        return (
            f"seed {self.plan.seed}: {len(self.plan.steps)} faults, {len(publishes)} published, "
            f"{outcomes.count('ack')} confirmed, {outcomes.count('nack')} nacked, "
            f"{len(deliveries)} delivered ({sum(d.redelivered for d in deliveries)} again), "
            f"{len(self.ledger.stays)} connections, longest wait for a confirm {self.gap[0]:.2f} s, "
            f"largest node {max(watch.largest.values(), default=0) // MIB} MiB{warning}"
        )

    def report(self) -> str:
        """Enough to understand and to repeat it."""
        spells = [
            f"  {s.kind} {s.nodes}: {s.begin:.2f} to {'the end' if s.end is None else f'{s.end:.2f}'}"
            for s in self.weather.spells
        ]
        ends = [
            f"  {s.client} at node {s.node} from {s.begin:.2f} to {s.end or 0:.2f}: {s.reason}"
            for s in self.ledger.stays
            if s.reason is not None
        ]
        return "\n".join(
            [str(self.plan), "done:", *(f"  {e}" for e in self.events), "spells:", *spells]
            + ["connections that were ended:", *ends, "found:", *(f"  {f}" for f in self.found)]
        )


def play(seed: int, seconds: float, rate: float) -> bool:
    """One round; true if something was wrong."""
    planned = plan(seed, seconds)
    arguments = ["--publish-timeout", f"{planned.publish_timeout}s"]
    cluster = Cluster(3, network=planned.network, extra_args=arguments)
    watch = Watch(cluster)
    round_ = Round(planned, cluster.root)
    load = scene.cast(cluster, round_.ledger, seed, rate)
    try:
        cluster.start()
        scene.declare(cluster)
        faults = Faults(cluster, round_.weather, watch, round_.say)
        endure(round_, faults, load.start)
        round_.found += finish.leave(load, planned.publish_timeout + judge.SLACK, watch.look)
        round_.say("all clients have left")
        round_.found += finish.drain(cluster, round_.ledger, seed)
        round_.found += finish.agree(cluster)
        round_.say("drained")
        watch.look()
        round_.judge()
    except (AssertionError, Ended, RuntimeError, OSError) as error:
        cause = f" ({error.__cause__})" if error.__cause__ else ""
        round_.found.append(f"{error}{cause}")
    finally:
        load.give_up()
    return close(round_, cluster, watch)


def endure(round_: Round, faults: Faults, begin: Callable[[], None]) -> None:
    """All faults of the plan, from when the clients have begun; they are healed in any case."""
    begin()
    try:
        faults.run(round_.plan)
    finally:
        round_.say("everything is healed")
        faults.heal()


def close(round_: Round, cluster: Cluster, watch: Watch) -> bool:
    """Ends the nodes and says what was found; true if anything was."""
    round_.found += watch.faults()
    round_.found += [f"{node}: {line}" for node in cluster.nodes for line in node.panics()]
    cluster.keep = bool(round_.found)
    try:
        cluster.close()
    except AssertionError:
        pass  # A panic, which has been found already.
    print(round_.figures(watch), flush=True)
    if not round_.found:
        return False
    (round_.root / "report.txt").write_text(round_.report() + "\n")
    shown = [f"  {text}" for text in round_.found[:20]]
    print(
        "\n".join([str(round_.plan), "done:", *(f"  {e}" for e in round_.events), "found:", *shown])
    )
    print(
        f"FAILED: {len(round_.found)} faults with seed {round_.plan.seed}; "
        f"logs of the nodes and report.txt are in {round_.root}",
        flush=True,
    )
    return True


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=1, help="the first seed (1)")
    parser.add_argument("--rounds", type=int, default=3, help="so many seeds, one by one (3)")
    parser.add_argument("--seconds", type=float, default=60, help="length of a round's faults (60)")
    parser.add_argument("--rate", type=float, default=40, help="messages/s of each publisher (40)")
    parser.add_argument("--plan", action="store_true", help="only print what would be done")
    options = parser.parse_args()
    seeds = range(options.seed, options.seed + options.rounds)
    if options.plan:
        for seed in seeds:
            print(plan(seed, options.seconds))
        return 0
    failed = [seed for seed in seeds if play(seed, options.seconds, options.rate)]
    if failed:
        print(f"failed: {' '.join(map(str, failed))}; repeat one with SEED={failed[0]} ROUNDS=1")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
