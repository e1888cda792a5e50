"""When each node was well: what may be asked of it follows from that."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass

from schedule import NODES


@dataclass
class Spell:
    """A time in which something was wrong with a node, or with the link between two."""

    kind: str
    nodes: tuple[int, ...]
    begin: float
    end: float | None = None

    def overlap(self, begin: float, end: float) -> float:
        """Seconds of it between `begin` and `end`."""
        own = self.end if self.end is not None else end
        return max(0.0, min(end, own) - max(begin, self.begin))

    def touches(self, begin: float, end: float) -> bool:
        return self.begin <= end and (self.end is None or self.end >= begin)


class Weather:
    """All spells of a round; written by the faults, read by the judges."""

    def __init__(self) -> None:
        self.spells: list[Spell] = []
        self._lock = threading.Lock()

    def strike(self, kind: str, *nodes: int) -> None:
        """`nodes`: one, or the two ends of a link."""
        with self._lock:
            self.spells.append(Spell(kind, nodes, time.monotonic()))

    def heal(self, kind: str, *nodes: int) -> None:
        """Ends the spells of this kind that `nodes` are in now."""
        now = time.monotonic()
        with self._lock:
            for spell in self.spells:
                if spell.end is None and spell.kind == kind and spell.nodes == nodes:
                    spell.end = now

    def current(self) -> list[Spell]:
        with self._lock:
            return [s for s in self.spells if s.end is None]

    def frozen(self, node: int, begin: float, end: float) -> float:
        """Seconds for which this node's process stood still."""
        spells = [s for s in self.spells if s.kind == "frozen" and node in s.nodes]
        return sum(s.overlap(begin, end) for s in spells)

    def calm_spans(self, node: int, begin: float, end: float) -> list[tuple[float, float]]:
        """The times in which `node` is well, reaches every other that is, and has a majority."""
        with self._lock:
            spells = [s for s in self.spells if s.touches(begin, end)]
        times = {begin, end}
        for spell in spells:
            times.update(t for t in (spell.begin, spell.end) if t is not None and begin < t < end)
        ordered = sorted(times)
        spans: list[tuple[float, float]] = []
        for a, b in zip(ordered, ordered[1:]):
            if not _calm(node, [s for s in spells if s.touches((a + b) / 2, (a + b) / 2)]):
                continue
            if spans and spans[-1][1] == a:
                spans[-1] = (spans[-1][0], b)
            else:
                spans.append((a, b))
        return spans

    def calm(self, node: int, begin: float, end: float) -> bool:
        """Whether it was so all the time."""
        return self.calm_spans(node, begin, end) == [(begin, end)]


def _calm(node: int, spells: list[Spell]) -> bool:
    # An end of a cut link may be cut off from a leader that has its majority elsewhere.
    if any(node in s.nodes for s in spells):
        return False
    gone = {s.nodes[0] for s in spells if len(s.nodes) == 1}
    return (len(NODES) - len(gone)) * 2 > len(NODES)
