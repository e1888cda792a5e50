"""Carries out a plan: strikes nodes, waits for as long as the plan says, and heals."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterable

from scene import QUEUES
from schedule import NODES, Plan, Step
from watch import Watch
from weather import Weather

from harness.cluster import Cluster
from harness.wait import bound, eventually

#: Seconds in which a node that was started, with a majority there, has to be ready.
READY = 60


class Faults:
    """All from the main thread: processes are started by it alone."""

    def __init__(
        self,
        cluster: Cluster,
        weather: Weather,
        watch: Watch,
        say: Callable,
        queues: Iterable[str] = QUEUES,
    ) -> None:
        self.cluster, self.weather, self.watch, self.say = cluster, weather, watch, say
        self.queues = list(queues)
        self._starting: set[int] = set()

    def run(self, plan: Plan) -> None:
        for number, step in enumerate(plan.steps, 1):
            self.idle(step.pause)
            self._others_ready(step)
            self.say(f"{number}. {step.kind} {step.nodes} {' '.join(step.how)} {step.hold:.1f} s")
            getattr(self, "_" + step.kind.replace(" ", "_"))(step)
            if step.settle:
                self.await_ready(NODES)

    def heal(self) -> None:
        """Everything that is still wrong ends."""
        for node in self.cluster.nodes:
            node.thaw()
        if self.cluster.network:
            self.cluster.network.heal()
        self._start(*sorted(self.watch.down))
        self.await_ready(NODES)

    # --- time -----------------------------------------------------------------------------

    def idle(self, seconds: float) -> None:
        """Lets the load run; the plan's own time, and the only sleep in a round."""
        end = time.monotonic() + seconds
        while True:
            self._look()
            left = end - time.monotonic()
            if left <= 0:
                return
            time.sleep(min(left, 0.1))

    def await_ready(self, nodes: tuple[int, ...]) -> None:
        def ready() -> bool:
            self._look()
            left = self._starting & set(nodes)
            assert not left, f"nodes {sorted(left)} are not ready"
            return True

        eventually(ready, bound(READY), "what was started is ready")

    def _others_ready(self, step: Step) -> None:
        # A fault of one node finds a majority of others, so that it says something about them.
        struck = NODES if step.kind == "wipe" else step.nodes
        self.await_ready(NODES if struck == NODES else tuple(set(NODES) - set(struck)))

    def _look(self) -> None:
        self.watch.look()
        for node in list(self._starting):
            if self.cluster.node(node).is_ready():
                self._starting.discard(node)
                self.weather.heal("down", node)

    # --- means ----------------------------------------------------------------------------

    def _down(self, *nodes: int) -> None:
        for node in nodes:
            self.watch.down.add(node)
            if node in self._starting:
                self._starting.discard(node)  # Still the same spell.
            else:
                self.weather.strike("down", node)

    def _start(self, *nodes: int) -> None:
        self.cluster.start([self.cluster.node(n) for n in nodes], wait=False)
        self.watch.down -= set(nodes)
        self._starting |= set(nodes)

    def _kill_now(self, *nodes: int) -> None:
        self._down(*nodes)
        for node in nodes:
            self.cluster.node(node).kill()

    def _freeze_now(self, *nodes: int) -> None:
        for node in nodes:
            self.weather.strike("frozen", node)
            self.cluster.node(node).freeze()

    def _thaw(self, *nodes: int) -> None:
        for node in nodes:
            self.cluster.node(node).thaw()
            self.weather.heal("frozen", node)

    # --- faults ---------------------------------------------------------------------------

    def _kill(self, step: Step) -> None:
        self._kill_now(*step.nodes)
        self.idle(step.hold)
        self._start(*step.nodes)

    def _kill_again(self, step: Step) -> None:
        for _ in range(3):
            self._kill_now(*step.nodes)
            self._start(*step.nodes)
            self.idle(step.hold)

    def _stop(self, step: Step) -> None:
        (node,) = step.nodes
        self._down(node)
        status = self.cluster.node(node).terminate()
        assert status == 0, f"node {node} ended with status {status} on SIGTERM"
        self.idle(step.hold)
        self._start(node)

    def _freeze(self, step: Step) -> None:
        self._freeze_now(*step.nodes)
        self.idle(step.hold)
        self._thaw(*step.nodes)

    _freeze_all = _freeze

    def _two(self, step: Step) -> None:
        """Two at once: no majority."""
        means = {"kill": (self._kill_now, self._start), "freeze": (self._freeze_now, self._thaw)}
        for node, how in zip(step.nodes, step.how):
            means[how][0](node)
        self.idle(step.hold)
        for node, how in zip(step.nodes, step.how):
            means[how][1](node)

    def _kill_all(self, step: Step) -> None:
        self._down(*step.nodes)
        self.cluster.kill_all()
        self.idle(step.hold)
        for node in step.nodes:
            self._start(node)

    def _wipe(self, step: Step) -> None:
        """The others are whole before, and it is before anything else happens."""
        (node,) = step.nodes
        self.in_sync()
        self._kill_now(node)
        shutil.rmtree(self.cluster.node(node).data_dir)
        self.idle(step.hold)
        self._start(node)
        self.await_ready(NODES)
        self.in_sync()

    def in_sync(self) -> None:
        for queue in self.queues:
            self.cluster.wait_in_sync(queue)

    def _cut(self, step: Step) -> None:
        (node,) = step.nodes
        self.weather.strike("cut off", node)
        self.cluster.network.isolate(node, step.how[0])
        self.idle(step.hold)
        self.cluster.network.heal()
        self.weather.heal("cut off", node)

    def _cut_link(self, step: Step) -> None:
        a, b = step.nodes
        self.weather.strike("apart", a, b)
        self.cluster.network.cut([(a, b)] if step.how[0] == "one way" else [(a, b), (b, a)])
        self.idle(step.hold)
        self.cluster.network.heal()
        self.weather.heal("apart", a, b)

    def _flap(self, step: Step) -> None:
        """The network comes and goes."""
        self._again_and_again(step, "apart", self._flap_once)

    def _flap_once(self, pairs: list[tuple[int, int]], pause: float) -> None:
        self.cluster.network.cut(pairs)
        self.idle(pause)
        self.cluster.network.heal()

    def _reset(self, step: Step) -> None:
        """Connections end, and new ones can be opened."""
        self._again_and_again(step, "apart", lambda pairs, _: self.cluster.network.reset(pairs))

    def _again_and_again(self, step: Step, kind: str, once: Callable) -> None:
        pause = int(step.how[0]) / 10
        pairs = self._pairs(step)
        end = time.monotonic() + step.hold
        self.weather.strike(kind, *step.nodes)
        while time.monotonic() < end:
            once(pairs, pause)
            self.idle(pause)
        self.weather.heal(kind, *step.nodes)

    def _slow(self, step: Step) -> None:
        self.weather.strike("slow", *step.nodes)
        self.cluster.network.slow(self._pairs(step), int(step.how[0]))
        self.idle(step.hold)
        self.cluster.network.heal()
        self.weather.heal("slow", *step.nodes)

    def _pairs(self, step: Step) -> list[tuple[int, int]]:
        if len(step.nodes) == 1:
            return self.cluster.network.between(step.nodes[0])
        a, b = step.nodes
        return [(a, b), (b, a)]
