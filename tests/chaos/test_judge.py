"""The judges find what is wrong, and nothing else: a check that cannot fail proves nothing."""

from __future__ import annotations

import judge
import pytest
from ledger import Delivery, Ledger, Publish, Stay, identity
from scene import SOURCE, TARGET
from schedule import CUTS, plan
from weather import Spell, Weather

BEGIN, END = 100.0, 400.0


def ledger(queue: str = "q", outcomes: str = "aaa", node: int = 1) -> Ledger:
    """One session; a message a second, each answered at once: `a`ck, `n`ack, or not (`-`)."""
    made = Ledger()
    stay = Stay("publisher", node, BEGIN, END)
    made.stays.append(stay)
    session = made.session(stay, (queue,))
    for i, letter in enumerate(outcomes):
        publish = Publish(BEGIN + i)
        if letter != "-":
            publish.answered = publish.sent + 0.01
            publish.outcome = {"a": "ack", "n": "nack"}[letter]
        session.publishes.append(publish)
    return made


def deliver(
    made: Ledger, *sequences: int, queue: str = "q", disposal: str = "ack", **other
) -> None:
    for sequence in sequences:
        at = BEGIN + 10 + len(made.deliveries)
        d = Delivery(queue, "consumer", 2, 1, sequence, other.get("redelivered", False), at)
        d.disposal = disposal
        d.settled = at + 0.5 if other.get("settled") else None
        made.deliveries.append(d)


def weather(*spells: Spell) -> Weather:
    made = Weather()
    made.spells += spells
    return made


def everything(made: Ledger, under: Weather) -> list[str]:
    return [
        *judge.lost(made), *judge.doubled(made), *judge.unknown(made), *judge.disordered(made),
        *judge.returned_from_the_dead(made, under), *judge.unanswered(made, under, 5),
        *judge.thrown_out(made, under, 5),
    ]  # fmt: skip


def test_a_clean_round() -> None:
    made = ledger(outcomes="aana")
    deliver(made, 1, 2, settled=True)
    deliver(made, 4)
    assert everything(made, weather()) == []


def test_lost() -> None:
    made = ledger()
    deliver(made, 1, 2)
    (found,) = judge.lost(made)
    assert "1 confirmed messages of session 1" in found and found.endswith(": 3")


def test_lost_after_a_delivery() -> None:
    made = ledger()
    deliver(made, 1, 2)
    deliver(made, 3, disposal="requeue")
    (found,) = judge.lost(made)
    assert "1 of them after a delivery" in found


def test_lost_dead_letter() -> None:
    made = ledger(queue=SOURCE, outcomes="aaaaa")
    deliver(made, 1, 2, 3, 4, queue=SOURCE)
    deliver(made, 5, queue=SOURCE, disposal="dead")
    (found,) = judge.lost(made)
    assert TARGET in found
    deliver(made, 5, queue=TARGET)
    assert judge.lost(made) == []


def test_doubled() -> None:
    made = ledger()
    deliver(made, 1, 2, 3)
    deliver(made, 2, redelivered=True)
    assert judge.doubled(made) == []
    deliver(made, 2)
    assert len(judge.doubled(made)) == 1


def test_disorder() -> None:
    made = ledger()
    deliver(made, 1, 3)
    deliver(made, 2, redelivered=True)
    assert judge.disordered(made) == []
    deliver(made, 2)
    assert len(judge.disordered(made)) == 1


def test_acknowledged_and_back() -> None:
    made = ledger()
    deliver(made, 1, settled=True)
    deliver(made, 2, 3)
    deliver(made, 1, redelivered=True)
    assert len(judge.returned_from_the_dead(made, weather())) == 1
    # Not if the acknowledgement may have come too late.
    frozen = weather(Spell("frozen", (2,), BEGIN + 9, BEGIN + 10.2))
    assert judge.returned_from_the_dead(made, frozen) == []


def test_unanswered() -> None:
    made = ledger(outcomes="aa-")
    made.stays[0].end = None
    assert "3 (never)" in judge.unanswered(made, weather(), 5)[0]
    made.stays[0].end = BEGIN + 2 + 5 + judge.SLACK + 7
    assert "3 (22.0 s)" in judge.unanswered(made, weather(), 5)[0]
    frozen = weather(Spell("frozen", (1,), BEGIN + 3, BEGIN + 11))
    assert judge.unanswered(made, frozen, 5) == []


def test_longest_gap_counts_good_weather_only() -> None:
    made = ledger(outcomes="a-")
    made.stays[0].end = BEGIN + 21
    assert judge.longest_gap(made, weather())[0] == pytest.approx(20)
    one_down = Spell("down", (2,), BEGIN, BEGIN + 30)
    assert judge.longest_gap(made, weather(one_down))[0] == pytest.approx(20)
    other_down = Spell("down", (3,), BEGIN + 3, BEGIN + 15)
    assert judge.longest_gap(made, weather(one_down, other_down))[0] == pytest.approx(6)
    own = Spell("frozen", (1,), BEGIN + 2, BEGIN + 19)
    assert judge.longest_gap(made, weather(own))[0] == pytest.approx(2)


def test_thrown_out() -> None:
    made = ledger()
    made.stays[0].reason = "closed"
    assert len(judge.thrown_out(made, weather(), 5)) == 1
    own = Spell("down", (1,), END - 1, END + 5)
    assert judge.thrown_out(made, weather(own), 5) == []
    others = Spell("down", (3,), END - 1, END + 5)
    assert len(judge.thrown_out(made, weather(others), 5)) == 1


def test_a_cut_link_spares_the_third() -> None:
    apart = weather(Spell("apart", (1, 2), BEGIN, END))
    assert [apart.calm(n, BEGIN + 1, BEGIN + 2) for n in (1, 2, 3)] == [False, False, True]


def test_identity() -> None:
    made = ledger()
    assert identity(made.sessions[1].body(7, 500)) == (1, 7)
    assert identity(made.sessions[1].body(7, 0)) == (1, 7)


def test_plans_follow_from_the_seed() -> None:
    for seed in range(200):
        one = plan(seed, 60)
        assert one == plan(seed, 60)
        assert sum(s.kind == "wipe" for s in one.steps) <= 1
        assert one.network or not any(s.kind in CUTS for s in one.steps)
        assert all(s.hold <= 20 for s in one.steps)
