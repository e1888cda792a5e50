"""What may not happen, one function each; every one returns what it found in words."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

from ledger import Delivery, Ledger, Session, dead, priority
from scene import PRIORITY, SOURCE, TARGET
from weather import Weather

#: Beside `publish_timeout`, what an answer to a publish may take on a busy machine.
SLACK = 10
#: Seconds without a confirm, although node and majority are well, that are told and that are too many.
GAP_TOLD, GAP_FAULT = 5, 30
#: A disposal that was settled so many seconds ago is known to everybody.
KNOWN = 1.0


def some(what: Iterable[object], most: int = 8) -> str:
    shown = [str(x) for x in what]
    rest = f" … ({len(shown)} in all)" if len(shown) > most else ""
    return ", ".join(shown[:most]) + rest


def lost(ledger: Ledger) -> list[str]:
    """Every confirmed message was, in each queue that it reached, delivered and taken."""
    taken: dict[str, set[tuple[int, int]]] = defaultdict(set)
    seen: dict[str, set[tuple[int, int]]] = defaultdict(set)
    for d in ledger.deliveries:
        seen[d.queue].add(d.message)
        if d.disposal in ("ack", "dead"):
            taken[d.queue].add(d.message)
    found = []
    for session in ledger.sessions.values():
        confirmed = [i for i, p in enumerate(session.publishes, 1) if p.outcome == "ack"]
        for queue in session.targets:
            _missing(found, session, queue, confirmed, seen, taken)
            if queue == SOURCE:
                _missing(found, session, TARGET, filter(dead, confirmed), seen, taken)
    return found


def _missing(found: list[str], session: Session, queue: str, wanted, seen, taken) -> None:
    missing = [i for i in wanted if (session.number, i) not in taken[queue]]
    if missing:
        # Delivered once, given back or never acknowledged, and not there any more.
        vanished = sum((session.number, i) in seen[queue] for i in missing)
        found.append(
            f"lost in {queue}: {len(missing)} confirmed messages of session {session.number} "
            f"(at node {session.stay.node}), {vanished} of them after a delivery: {some(missing)}"
        )


def doubled(ledger: Ledger) -> list[str]:
    """No message comes a second time without being flagged."""
    first: dict[tuple[str, tuple[int, int]], Delivery] = {}
    found = []
    for d in ledger.deliveries:
        # Dead letters are passed on at least once.
        if d.redelivered or d.queue == TARGET:
            continue
        earlier = first.setdefault((d.queue, d.message), d)
        if earlier is not d:
            found.append(f"doubled without a flag: {describe(earlier)}; and {describe(d)}")
    return found


def unknown(ledger: Ledger) -> list[str]:
    """What is delivered was published."""
    found = []
    for d in ledger.deliveries:
        session = ledger.sessions.get(d.session)
        if session is None or not 0 < d.sequence <= len(session.publishes):
            found.append(f"never published: {describe(d)}")
    return found


def disordered(ledger: Ledger) -> list[str]:
    """First deliveries of a session come to each consumer in the order of its publishes."""
    last: dict[tuple[str, str, int, int], Delivery] = {}
    found = []
    for d in ledger.deliveries:
        if d.redelivered or d.queue == TARGET:
            continue
        level = priority(d.sequence) if d.queue == PRIORITY else 0
        key = (d.queue, d.consumer, d.session, level)
        before = last.get(key)
        if before is not None and before.sequence > d.sequence:
            found.append(f"out of order: {describe(before)}; then {describe(d)}")
        else:
            last[key] = d
    return found


def returned_from_the_dead(ledger: Ledger, weather: Weather) -> list[str]:
    """What was acknowledged, and the broker has answered after that, does not come again."""
    settled: dict[tuple[str, tuple[int, int]], Delivery] = {}
    for d in ledger.deliveries:
        if d.queue == TARGET or d.settled is None or d.disposal not in ("ack", "dead"):
            continue
        # An acknowledgement by way of a node that was not well may have come too late.
        if weather.calm(d.node, d.at, d.settled):
            settled.setdefault((d.queue, d.message), d)
    found = []
    for d in ledger.deliveries:
        ended = settled.get((d.queue, d.message))
        if ended is None or ended is d or ended.settled is None or d.at < ended.settled + KNOWN:
            continue
        # It may have lain in the sockets of a node that was not well.
        if weather.calm(d.node, ended.at, d.at):
            found.append(f"acknowledged, and delivered again: {describe(ended)}; {describe(d)}")
    return found


def unanswered(ledger: Ledger, weather: Weather, timeout: float) -> list[str]:
    """Every publish was answered in time, or the connection has ended."""
    found = []
    for session in ledger.sessions.values():
        late = []
        for sequence, publish in enumerate(session.publishes, 1):
            end = publish.answered or session.stay.end
            if end is None:
                late.append(f"{sequence} (never)")
                continue
            took = end - publish.sent
            if took > timeout + SLACK:
                took -= weather.frozen(session.stay.node, publish.sent, end)
                if took > timeout + SLACK:
                    late.append(f"{sequence} ({took:.1f} s)")
        if late:
            found.append(
                f"answered too late: session {session.number} at node {session.stay.node}: {some(late)}"
            )
    return found


def longest_gap(ledger: Ledger, weather: Weather) -> tuple[float, str]:
    """The longest time for which a publish stood unanswered while its node and a majority were well."""
    longest, where = 0.0, "nowhere"
    for session in ledger.sessions.values():
        if session.stay.local:
            continue  # It waits for the one node that has its queue.
        for sequence, publish in enumerate(session.publishes, 1):
            end = publish.answered or session.stay.end
            if end is None or end - publish.sent <= longest:
                continue
            for a, b in weather.calm_spans(session.stay.node, publish.sent, end):
                if b - a > longest:
                    longest = b - a
                    where = (
                        f"{session.stay.client} at node {session.stay.node}, message "
                        f"{session.number}.{sequence}, from {publish.sent:.2f}"
                    )
    return longest, where


def thrown_out(ledger: Ledger, weather: Weather, timeout: float) -> list[str]:
    """Clients of a node that is well, with a majority, keep their connections and get answers."""
    found = []
    for stay in ledger.stays:
        # Long enough for what has waited for a majority before.
        if stay.reason is not None and stay.end is not None:
            begin = max(stay.begin, stay.end - timeout - SLACK)
            if stay.local and any(s.touches(begin, stay.end) for s in weather.spells):
                continue
            if weather.calm(stay.node, begin, stay.end):
                found.append(f"{stay.client} at node {stay.node}, at {stay.end:.2f}: {stay.reason}")
    for at, node, what in ledger.complaints:
        if weather.calm(node, at - timeout - SLACK, at):
            found.append(f"node {node}, at {at:.2f}: {what}")
    return found


def describe(d: Delivery) -> str:
    flag = ", redelivered" if d.redelivered else ""
    return (
        f"{d.session}.{d.sequence} of {d.queue} to {d.consumer} at node {d.node} at {d.at:.2f}{flag}, "
        f"then {d.disposal or 'held'}"
    )
