#!/usr/bin/env python3
"""A round of chaos with what `run.py` has not: transactions, gets, single active consumers, priorities of consumers,
retry loops, delayed messages, limits, exclusive queues of answers. `make chaos-mixed` runs this."""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import judge  # noqa: E402
import mixed_judge  # noqa: E402
import mixed_scene as scene  # noqa: E402
from faults import Faults  # noqa: E402
from finish import confirmed, ended  # noqa: E402
from mixed_clients import Notes  # noqa: E402
from run import Round, close, endure  # noqa: E402
from schedule import plan  # noqa: E402
from watch import Ended, Watch  # noqa: E402

from harness.cluster import Cluster, json_of  # noqa: E402
from harness.wait import SOON, bound, eventually  # noqa: E402

#: Queues stay empty for so long when nothing is under way any more.
STILL = 2.0


def left(cluster: Cluster) -> dict[str, int]:
    """Messages that have not come to their end, by where they are."""
    rows = json_of(cluster.node(1).http("/api/queues/%2F", timeout=10))
    counts = {
        row["name"]: row.get("messages", 0) + row.get("messages_dlx", 0)
        for row in rows
        if row["name"] in scene.QUEUES
    }
    delayed = json_of(cluster.node(1).http(f"/api/exchanges/%2F/{scene.DELAYED}", timeout=10))
    counts[scene.DELAYED] = delayed.get("messages_delayed", 0)
    return {name: count for name, count in counts.items() if count}


def await_empty(cluster: Cluster) -> list[str]:
    since = time.monotonic()

    def still() -> bool:
        nonlocal since
        rest = left(cluster)
        if rest:
            since = time.monotonic()
        assert not rest, f"left: {rest}"
        assert time.monotonic() - since > STILL, "waiting whether more comes"
        return True

    try:
        eventually(still, bound(90), "everything comes to its end", interval=0.2)
    except AssertionError as error:
        return [f"{error} ({error.__cause__ or 'no more is known'})"]
    return []


def play(seed: int, seconds: float, rate: float) -> bool:
    """One round; true if something was wrong."""
    planned = plan(seed, seconds)
    arguments = ["--publish-timeout", f"{planned.publish_timeout}s"]
    cluster = Cluster(3, network=planned.network, extra_args=arguments)
    watch = Watch(cluster)
    round_, notes = Round(planned, cluster.root), Notes()
    load = scene.cast(cluster, round_.ledger, notes, seed, rate)
    weather, timeout = round_.weather, planned.publish_timeout
    try:
        cluster.start()
        scene.declare(cluster)
        faults = Faults(cluster, weather, watch, round_.say, scene.QUEUES)
        endure(round_, faults, load.start)
        goal = confirmed(load) + 20 * len(load.publishers)
        eventually(lambda: confirmed(load) >= goal, bound(timeout + SOON), "the publishers go on")
        round_.found += ended(load.publishers, bound(timeout + judge.SLACK), watch.look)
        round_.found += ended(load.bystanders, bound(timeout + judge.SLACK), watch.look)
        round_.say("publishers have left")
        round_.found += await_empty(cluster)
        round_.found += ended(load.consumers, bound(timeout + judge.SLACK), watch.look)
        watch.look()
        round_.found += mixed_judge.everything(round_.ledger, notes, weather)
        round_.found += judge.unanswered(round_.ledger, weather, bound(timeout))
        round_.found += judge.thrown_out(round_.ledger, weather, bound(timeout))
        round_.gap = judge.longest_gap(round_.ledger, weather)
    except (AssertionError, Ended, RuntimeError, OSError) as error:
        cause = f" ({error.__cause__})" if error.__cause__ else ""
        round_.found.append(f"{error}{cause}")
    finally:
        load.give_up()
    return close(round_, cluster, watch)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=1, help="the first seed (1)")
    parser.add_argument("--rounds", type=int, default=3, help="so many seeds, one by one (3)")
    parser.add_argument("--seconds", type=float, default=60, help="length of a round's faults (60)")
    parser.add_argument("--rate", type=float, default=20, help="messages/s of each publisher (20)")
    options = parser.parse_args()
    seeds = range(options.seed, options.seed + options.rounds)
    failed = [seed for seed in seeds if play(seed, options.seconds, options.rate)]
    if failed:
        print(f"failed: {' '.join(map(str, failed))}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
