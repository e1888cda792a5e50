"""What may not happen in a mixed round, one function each; every one returns what it found in words."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

from judge import KNOWN, describe, some
from ledger import Ledger
from mixed_clients import Got, Notes
from mixed_scene import delay
from weather import Weather

#: A clock of a leader may be ahead of the next one's, which goes on from there.
EARLY = 0.05
#: An answer that was taken is heard within this time where all is well.
HEARD = 5.0
#: What is on its way when another consumer becomes the active one may still arrive.
OVERLAP = 0.5
#: Where a message of a route may end.
ENDS = {
    "tx-in": ("tx-out",),
    "ring": ("ring", "ring-dead"),
}


def everything(ledger: Ledger, notes: Notes, weather: Weather) -> list[str]:
    got = [d for d in ledger.deliveries if isinstance(d, Got)]
    return [
        *lost(ledger, got),
        *doubled(got),
        *in_two_places(got),
        *taken_back(got, notes),
        *returned_from_the_dead(got, weather),
        *two_active(got, weather),
        *disordered(got),
        *early(ledger, got),
        *unheard(notes, weather),
    ]


def lost(ledger: Ledger, got: Iterable[Got]) -> list[str]:
    """Every confirmed message was taken where its way ends."""
    taken: dict[str, set[tuple[int, int]]] = defaultdict(set)
    for d in got:
        if d.disposal == "ack":
            taken[d.queue].add(d.message)
    found = []
    for session in ledger.sessions.values():
        for queue in session.targets:
            ends: set[tuple[int, int]] = set().union(*(taken[q] for q in ENDS.get(queue, (queue,))))
            confirmed = [i for i, p in enumerate(session.publishes, 1) if p.outcome == "ack"]
            missing = [i for i in confirmed if (session.number, i) not in ends]
            if missing:
                found.append(
                    f"lost on the way through {queue}: {len(missing)} of session {session.number}: "
                    f"{some(missing)}"
                )
    return found


def doubled(got: Iterable[Got]) -> list[str]:
    """No message comes a second time without being flagged, unless it has died meanwhile."""
    first: dict[tuple[str, tuple[int, int], int], Got] = {}
    found = []
    for d in got:
        if d.redelivered:
            continue
        earlier = first.setdefault((d.queue, d.message, d.turn), d)
        if earlier is not d:
            found.append(f"doubled without a flag: {describe(earlier)}; and {describe(d)}")
    return found


def in_two_places(got: Iterable[Got]) -> list[str]:
    """What was refused, or dropped, is not in the queue as well."""
    seen: dict[str, dict[tuple[int, int], Got]] = defaultdict(dict)
    for d in got:
        if not d.redelivered:
            seen[d.queue].setdefault(d.message, d)
    found = []
    for queue, beside in (("full", "over"), ("ring", "ring-dead")):
        for message in seen[queue].keys() & seen[beside].keys():
            a, b = seen[queue][message], seen[beside][message]
            found.append(f"in two places: {describe(a)}; and {describe(b)}")
    return found


def taken_back(got: Iterable[Got], notes: Notes) -> list[str]:
    """Nothing of a transaction that was rolled back is to be seen."""
    found = []
    for d in got:
        if d.queue == "tx-out":
            attempt = notes.attempts.get(d.turn)
            if attempt is None or attempt.end == "rolled back":
                found.append(f"of a transaction that was rolled back: {describe(d)}")
    return found


def returned_from_the_dead(got: list[Got], weather: Weather) -> list[str]:
    """What was acknowledged, and the broker has answered after that, does not come again."""
    settled: dict[tuple[str, tuple[int, int], int], Got] = {}
    for d in got:
        if d.settled is not None and d.disposal in ("ack", "dead"):
            if weather.calm(d.node, d.at, d.settled):
                settled.setdefault((d.queue, d.message, d.turn), d)
    found = []
    for d in got:
        ended = settled.get((d.queue, d.message, d.turn))
        if ended is None or ended is d or ended.settled is None or d.at < ended.settled + KNOWN:
            continue
        if weather.calm(d.node, ended.at, d.at):
            found.append(f"acknowledged, and delivered again: {describe(ended)}; {describe(d)}")
    return found


def two_active(got: Iterable[Got], weather: Weather) -> list[str]:
    """Of several channels that consume one queue with a single active consumer, one gets messages at a time."""
    lanes: dict[int, list[Got]] = defaultdict(list)
    for d in got:
        if d.queue == "sac":
            lanes[d.lane].append(d)
    spans = [(ds[0].at, ds[-1].at, ds[0], ds[-1]) for ds in lanes.values()]
    spans.sort(key=lambda span: span[:2])
    found = []
    for nth, (_, end, _, last) in enumerate(spans):
        for begin, other_end, first, other_last in spans[nth + 1 :]:
            until = min(end, other_end)
            if until - begin < OVERLAP:
                continue
            if all(weather.calm(node, begin - 1, until) for node in {last.node, first.node}):
                found.append(
                    f"two active at once: from {describe(first)} to {describe(other_last)}"
                )
    return found


def disordered(got: Iterable[Got]) -> list[str]:
    """First deliveries of a session come in the order of its publishes, whoever is active."""
    last: dict[tuple[str, str, int], Got] = {}
    found = []
    for d in got:
        if d.redelivered or d.queue not in ("sac", "get", "full"):
            continue
        key = (d.queue, d.consumer, d.session)
        before = last.get(key)
        if before is not None and before.sequence > d.sequence:
            found.append(f"out of order: {describe(before)}; then {describe(d)}")
        else:
            last[key] = d
    return found


def early(ledger: Ledger, got: Iterable[Got]) -> list[str]:
    """A delayed message does not come before its time."""
    found = []
    for d in got:
        session = ledger.sessions.get(d.session)
        if d.queue == "late" and session is not None:
            sent = session.publishes[d.sequence - 1].sent
            if d.at < sent + delay(d.sequence) - EARLY:
                found.append(f"{sent + delay(d.sequence) - d.at:.2f} s early: {describe(d)}")
    return found


def unheard(notes: Notes, weather: Weather) -> list[str]:
    """An answer that a queue has taken is heard, if all was well and who asked has stayed."""
    found = []
    for (address, number), (at, node) in notes.answered.items():
        stay = notes.addresses.get(address)
        until = at + HEARD
        if stay is None or stay.end is not None and stay.end < until:
            continue
        well = weather.calm(stay.node, stay.begin, until) and weather.calm(node, at - 1, until)
        if well and (address, number) not in notes.heard:
            found.append(
                f"answer {number} to {stay.client} at node {stay.node} was taken at {at:.2f}, not heard"
            )
    return found
