"""What happens to the nodes in a round, and when: everything follows from the seed."""

from __future__ import annotations

import random
from dataclasses import dataclass

NODES = (1, 2, 3)
#: Kinds of faults, with how often each is drawn.
WEIGHTS = {
    "kill": 5,
    "freeze": 5,
    "stop": 3,
    "cut": 5,
    "cut link": 2,
    "flap": 3,
    "reset": 2,
    "slow": 2,
    "kill again": 2,
    "wipe": 2,
    "two": 2,
    "kill all": 2,
    "freeze all": 1,
}
#: Faults that need the proxy between the nodes.
CUTS = ("cut", "cut link", "flap", "reset", "slow")


@dataclass(frozen=True)
class Step:
    """One fault: after `pause` seconds `nodes` are struck, for `hold` seconds."""

    kind: str
    nodes: tuple[int, ...]
    pause: float
    hold: float
    #: Of a cut; or, of two faults at once, the kind of each; or how often, or how fast.
    how: tuple[str, ...] = ()
    #: Whether the next step waits until every node is ready.
    settle: bool = True

    def __str__(self) -> str:
        nodes = " and ".join(map(str, self.nodes))
        how = f" ({', '.join(self.how)})" if self.how else ""
        rest = "" if self.settle else ", the next one at once"
        return f"after {self.pause:.1f} s: {self.kind} {nodes}{how} for {self.hold:.1f} s{rest}"


@dataclass(frozen=True)
class Plan:
    """A round."""

    seed: int
    steps: list[Step]
    #: Whether there is a proxy between the nodes; it delays how the end of a process is noticed.
    network: bool
    #: `publish_timeout` of all nodes, in seconds: a short one makes a lost majority end in nacks.
    publish_timeout: int

    def __str__(self) -> str:
        head = (
            f"seed {self.seed}: publish timeout {self.publish_timeout} s, "
            f"{'with' if self.network else 'without'} a proxy between the nodes"
        )
        return "\n".join([head, *(f"  {i}. {step}" for i, step in enumerate(self.steps, 1))])


def plan(seed: int, seconds: float) -> Plan:
    """The round of this seed; its faults take about `seconds`, without the waits between them."""
    rng = random.Random(seed)
    network = rng.random() < 0.7
    publish_timeout = rng.choice([5, 30])
    steps: list[Step] = []
    taken = 0.0
    while taken < seconds:
        step = _step(rng, network, wiped=any(s.kind == "wipe" for s in steps))
        steps.append(step)
        taken += step.pause + step.hold
    return Plan(seed, steps, network, publish_timeout)


def _step(rng: random.Random, network: bool, wiped: bool) -> Step:
    weights = dict(WEIGHTS)
    if not network:
        for kind in CUTS:
            del weights[kind]
    if wiped:
        del weights["wipe"]  # Once a round: being filled again takes its time.
    kind = rng.choices(list(weights), list(weights.values()))[0]
    order = tuple(rng.sample(NODES, len(NODES)))
    pause = rng.uniform(0.5, 5)
    settle = rng.random() < 0.7
    if kind == "cut":
        how = (rng.choice(["both", "in", "out"]),)
        return Step(kind, order[:1], pause, rng.uniform(0.5, 12), how, settle)
    if kind == "cut link":
        how = (rng.choice(["both", "one way"]),)
        return Step(kind, order[:2], pause, rng.uniform(1, 12), how, settle)
    if kind in ("flap", "reset"):
        # A link, or all of a node; `how` is how often, in 1/10 s: sooner and later than a leader is missed.
        nodes = order[: rng.choice([1, 2])]
        how = (str(rng.choice([1, 3, 5, 8, 15])),)
        return Step(kind, nodes, pause, rng.uniform(2, 10), how, settle)
    if kind == "slow":
        how = (str(rng.choice([50_000, 300_000, 2_000_000])),)
        return Step(kind, order[: rng.choice([1, 2])], pause, rng.uniform(2, 12), how, settle)
    if kind == "two":
        how = tuple(rng.choice(["kill", "freeze"]) for _ in range(2))
        return Step(kind, order[:2], pause, rng.uniform(0.2, 8), how, settle)
    if kind == "kill all":
        return Step(kind, order, pause, rng.uniform(0, 2))
    if kind == "freeze all":
        return Step(kind, order, pause, rng.uniform(0.5, 4), settle=settle)
    if kind == "freeze":
        # Often about as long as an election, sometimes far longer.
        hold = rng.choice([rng.uniform(1, 3), rng.uniform(3, 20)])
        return Step(kind, order[:1], pause, hold, settle=settle)
    if kind == "kill again":
        # Killed while it starts; `hold` is the time between a start and the next kill.
        return Step(kind, order[:1], pause, rng.uniform(0.1, 1.5), settle=settle)
    return Step(kind, order[:1], pause, rng.choice([0.0, rng.uniform(0, 8)]), settle=settle)
