"""The judges of a mixed round find what is wrong, and nothing else."""

from __future__ import annotations

import mixed_judge as judge
import pytest
from ledger import Ledger, Publish, Stay
from mixed_clients import Attempt, Got, Notes, turn
from mixed_scene import delay
from weather import Spell, Weather

BEGIN = 100.0


def ledger(queue: str, count: int = 3, outcome: str = "ack") -> Ledger:
    made = Ledger()
    stay = Stay("publisher", 1, BEGIN, BEGIN + 300)
    session = made.session(stay, (queue,))
    for i in range(count):
        session.publishes.append(Publish(BEGIN + i, BEGIN + i + 0.01, outcome))
    return made


def got(queue: str, sequence: int, at: float, consumer: str = "a", **more) -> Got:
    redelivered = more.pop("redelivered", False)
    made = Got(queue, consumer, more.pop("node", 2), 1, sequence, redelivered, at, **more)
    made.disposal = made.disposal or "ack"
    return made


def found(made: Ledger, *deliveries: Got, notes: Notes | None = None, spells=()) -> list[str]:
    made.deliveries += deliveries
    weather = Weather()
    weather.spells += spells
    return judge.everything(made, notes or Notes(), weather)


@pytest.mark.parametrize("queue", ["get", "sac", "full"])
def test_all_is_well(queue: str):
    assert found(ledger(queue), *(got(queue, i, BEGIN + 10 + i) for i in (1, 2, 3))) == []


def test_what_is_not_taken_is_lost():
    made = ledger("get", 2)
    (text,) = found(made, got("get", 1, BEGIN + 9), got("get", 2, BEGIN + 9, disposal="requeue"))
    assert text.startswith("lost on the way through get: 1")


def test_what_was_refused_need_not_arrive():
    assert found(ledger("full", 2, "nack"), got("over", 1, BEGIN + 9)) == []


def test_a_message_may_end_in_one_of_two_places_but_not_in_both():
    assert found(ledger("ring", 2), got("ring", 2, BEGIN + 9), got("ring-dead", 1, BEGIN + 9)) == []
    both = found(ledger("ring", 1), got("ring", 1, BEGIN + 9), got("ring-dead", 1, BEGIN + 9))
    assert [text.split(":")[0] for text in both] == ["in two places"]


def test_each_turn_of_a_loop_comes_once():
    once = [got("work", 1, BEGIN + 9 + i, turn=i) for i in range(4)]
    assert found(ledger("work", 1), *once) == []
    (text,) = found(ledger("work", 1), *once, got("work", 1, BEGIN + 30, turn=2))
    assert text.startswith("doubled without a flag")


def test_turns_are_counted_by_rejections_in_the_queue_itself():
    class Properties:
        headers = {
            "x-death": [
                {"queue": "pause", "reason": "expired", "count": 7},
                {"queue": "work", "reason": "rejected", "count": 2},
            ]
        }

    assert turn("work", Properties, b"1.1|\0") == 2
    assert turn("tx-out", Properties, b"1.1|17|") == 17


def test_transactions_that_were_rolled_back_leave_nothing():
    notes = Notes(attempts={1: Attempt("committed"), 2: Attempt("rolled back"), 3: Attempt()})
    deliveries = [got("tx-out", i, BEGIN + 9, turn=i) for i in (1, 3)]
    assert found(ledger("tx-in", 1), *deliveries, notes=notes) == []
    (text,) = found(ledger("tx-in", 0), got("tx-out", 2, BEGIN + 9, turn=2), notes=notes)
    assert "rolled back" in text


def test_one_channel_is_active_at_a_time():
    def lanes(*at: tuple[int, float]):
        return [
            got("sac", i, BEGIN + t, f"c{lane}", lane=lane) for i, (lane, t) in enumerate(at, 1)
        ]

    after = lanes((1, 10), (1, 12), (2, 12.1), (2, 15))
    assert found(ledger("sac", 4), *after) == []
    beside = lanes((1, 10), (2, 12), (1, 14), (2, 15))
    (text,) = found(ledger("sac", 4), *beside)
    assert text.startswith("two active at once")
    spell = Spell("frozen", (2,), BEGIN + 11.5, BEGIN + 13)
    assert found(ledger("sac", 4), *beside, spells=[spell]) == []


def test_delayed_messages_do_not_come_early():
    sequence = 2
    due = BEGIN + 1 + delay(sequence)
    assert found(ledger("late", 0)) == []
    made = ledger("late", 2)
    made.sessions[1].publishes[0].outcome = "nack"
    (text,) = found(made, got("late", sequence, due - 1))
    assert "early" in text


def test_answers_are_heard():
    stay = Stay("asker", 1, BEGIN, BEGIN + 100)
    notes = Notes(answered={("q", 1): (BEGIN + 5, 2)}, addresses={"q": stay})
    (text,) = found(ledger("get", 0), notes=notes)
    assert "not heard" in text
    notes.heard["q", 1] = BEGIN + 6
    assert found(ledger("get", 0), notes=notes) == []
