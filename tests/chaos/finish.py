"""After the faults: all clients leave, the queues are emptied, the nodes have to agree."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ledger import Ledger, dead
from scene import QUEUES, SOURCE, TARGET, Load, drainer

from harness.cluster import Cluster
from harness.wait import SOON, bound, eventually

#: Messages that publishers add when the consumers have left, so that there is something to drain.
BACKLOG = 20


def leave(load: Load, timeout: float, watch: Callable[[], None]) -> list[str]:
    """Consumers first, then publishers; returns who does not come to an end."""
    silent = ended([*load.consumers, *load.bystanders], bound(timeout), watch)
    goal = confirmed(load) + BACKLOG * len(load.publishers)

    def flowed() -> bool:
        watch()
        return confirmed(load) >= goal

    try:
        eventually(flowed, bound(timeout), "the publishers go on")
    except AssertionError:
        silent.append("publishers of a healed cluster got no confirms")
    silent += ended(load.publishers, bound(timeout), watch)
    return silent


def confirmed(load: Load) -> int:
    ledger = load.publishers[0].ledger
    return sum(
        p.outcome == "ack" for s in list(ledger.sessions.values()) for p in list(s.publishes)
    )


def ended(workers: list[Any], timeout: float, watch: Callable[[], None]) -> list[str]:
    for worker in workers:
        worker.stop()

    def all_ended() -> bool:
        watch()
        return not any(w.thread.is_alive() for w in workers)

    try:
        eventually(all_ended, timeout, "all clients have ended")
    except AssertionError:
        pass
    left = [f"{w.name} was left in silence" for w in workers if w.thread.is_alive()]
    for worker in workers:
        worker.given_up.set()
    return left + [f"{w.name}: {w.error!r}" for w in workers if w.error is not None]


def drain(cluster: Cluster, ledger: Ledger, seed: int) -> list[str]:
    """Empties every queue; what comes out has to be as much as the nodes say there is."""
    found = []
    order = [*(q for q in QUEUES if q != TARGET), TARGET]
    for queue in order:
        try:
            _drain_one(queue, cluster, ledger, seed)
        except AssertionError as error:
            found.append(f"draining {queue}: {error} ({error.__cause__ or 'no more is known'})")
    return found


def _drain_one(queue: str, cluster: Cluster, ledger: Ledger, seed: int) -> None:
    stated = eventually(lambda: _agreed(queue, cluster), SOON, f"the nodes agree about {queue}")
    if queue == TARGET:
        _await_dead_letters(ledger, cluster)
        stated = eventually(lambda: _agreed(queue, cluster), SOON, f"the nodes agree about {queue}")
    consumer = drainer(queue, cluster, ledger, seed)
    consumer.start()
    try:
        eventually(lambda: consumer.count >= stated["messages"], SOON,
                   f"{stated['messages']} messages come out")  # fmt: skip

        def empty() -> bool:
            assert consumer.error is None, repr(consumer.error)
            now = _agreed(queue, cluster)
            assert now["messages"] == 0, f"{now} after {consumer.count} of {stated} were taken"
            return True

        eventually(empty, SOON, f"{queue} is empty")
    finally:
        consumer.stop()
        consumer.thread.join(SOON)
    assert consumer.count == stated["messages"], f"stated {stated}, taken {consumer.count}"


def _agreed(queue: str, cluster: Cluster) -> dict[str, int]:
    """What every node says about this queue, if they say the same and nobody holds anything."""
    rows = []
    for node in cluster.nodes:
        info = node.queue_info(queue)
        assert info is not None, f"{node} does not know {queue}"
        rows.append({k: info.get(k) for k in ("messages", "messages_ready", "leader")})
    assert rows.count(rows[0]) == len(rows), f"the nodes differ: {rows}"
    assert rows[0]["leader"], f"no leader: {rows}"
    assert rows[0]["messages"] == rows[0]["messages_ready"], f"somebody holds some: {rows}"
    return rows[0]


def _await_dead_letters(ledger: Ledger, cluster: Cluster) -> None:
    """Passed on at least once, and after the rejection was answered: wait for those that are due."""
    due = {d.message for d in ledger.deliveries if d.queue == SOURCE and dead(d.sequence)}
    here = {d.message for d in ledger.deliveries if d.queue == TARGET and d.disposal == "ack"}

    def arrived() -> bool:
        waiting = _agreed(TARGET, cluster)["messages"]
        assert len(due - here) <= waiting, f"{len(due - here)} dead letters are due, {waiting} wait"
        return True

    eventually(arrived, SOON, "the dead letters have been passed on")


def agree(cluster: Cluster) -> list[str]:
    """All nodes name the same leader for every queue, and all replicas have caught up."""
    found = []
    for queue in QUEUES:
        try:
            eventually(lambda: _agreed(queue, cluster), SOON, f"the nodes agree about {queue}")
            cluster.wait_in_sync(queue)
        except AssertionError as error:
            found.append(f"{queue}: {error} ({error.__cause__ or 'no more is known'})")
    return found
