"""A real Celery worker: tasks, retries, countdown, priorities, results over rpc, a node kill."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from harness.amqp import url
from harness.wait import bound, eventually

HERE = Path(__file__).resolve().parent
#: Seconds a task may take from call to result, on a busy machine.
RESULT = bound(60)


class Worker:
    """`celery worker` as a process of its own, and the application to call it with."""

    def __init__(self, addresses: list[str], prefix: str, folder: Path) -> None:
        self.environment = {
            **os.environ,
            "CELERY_TEST_BROKER": ";".join(addresses),
            "CELERY_TEST_PREFIX": prefix,
            "PYTHONPATH": str(HERE),
        }
        self.log = folder / "worker.log"
        self.process: subprocess.Popen[bytes] | None = None
        os.environ["CELERY_TEST_BROKER"] = self.environment["CELERY_TEST_BROKER"]
        os.environ["CELERY_TEST_PREFIX"] = prefix
        sys.modules.pop("celery_app", None)
        sys.path.insert(0, str(HERE))
        import celery_app

        self.module: Any = celery_app
        self.prefix = prefix

    def start(self, *options: str) -> None:
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [
                    sys.executable, "-m", "celery", "-A", "celery_app", "worker",
                    "--pool", "threads", "--concurrency", "2", "--loglevel", "INFO",
                    "-Q", f"{self.prefix},{self.prefix}-priority",
                    "-n", f"{self.prefix}@test", *options,
                ],
                cwd=HERE,
                env=self.environment,
                stdout=log,
                stderr=subprocess.STDOUT,
            )  # fmt: skip
        eventually(self.is_up, bound(60), "the Celery worker is ready")

    def is_up(self) -> bool:
        assert self.process is not None
        if self.process.poll() is not None:
            raise RuntimeError(f"the worker ended:\n{self.log.read_text()[-3000:]}")
        return " ready." in self.log.read_text()

    def stop(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(bound(30))
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        self.module.app.close()


@pytest.fixture
def worker(broker, name, tmp_path) -> Iterator[Worker]:
    made = Worker([url(broker.port(0)), url(broker.port(1))], name[-30:], tmp_path)
    made.start()
    yield made
    made.stop()


def test_tasks_results_retries_and_countdown(worker) -> None:
    tasks = worker.module
    results = [tasks.add.delay(i, i) for i in range(20)]
    assert [r.get(timeout=RESULT) for r in results] == [2 * i for i in range(20)]
    assert tasks.flaky.delay(2).get(timeout=RESULT) == 2
    called = time.time()
    ran = tasks.when.apply_async(countdown=1.5).get(timeout=RESULT)
    assert ran - called >= 1.4
    # Control commands go over exclusive auto-delete queues and a fanout exchange.
    answers = tasks.app.control.ping(timeout=bound(5))
    assert len(answers) == 1 and list(answers[0].values()) == [{"ok": "pong"}]
    # Groups and chains.
    from celery import chain, group

    assert chain(tasks.add.s(1, 2), tasks.add.s(10)).delay().get(timeout=RESULT) == 13
    assert group(tasks.add.s(i, 1) for i in range(5)).delay().get(timeout=RESULT) == [1, 2, 3, 4, 5]


def test_many_countdowns_raise_the_prefetch(worker) -> None:
    """ETA tasks make Celery raise its QoS while consuming, and lower it again."""
    tasks = worker.module
    called = time.time()
    results = [tasks.when.apply_async(countdown=2 + i * 0.02) for i in range(30)]
    at_once = tasks.add.delay(1, 1).get(timeout=RESULT)
    assert at_once == 2
    assert all(r.get(timeout=RESULT) - called >= 1.9 for r in results)


def test_priorities(broker, name, tmp_path) -> None:
    """Queued while no worker runs: the urgent ones go first."""
    worker = Worker([url(broker.port(1))], name[-30:], tmp_path)
    tasks = worker.module
    queue = f"{worker.prefix}-priority"
    with tasks.app.connection() as connection:
        for q in tasks.app.conf.task_queues:
            q(connection.default_channel).declare()
    results = [tasks.order.apply_async((f"{p}",), queue=queue, priority=p) for p in (1, 9, 5, 0, 9)]
    worker.start("--concurrency", "1")
    try:
        ran = sorted((r.get(timeout=RESULT) for r in results), key=lambda pair: pair[1])
        assert [label for label, _ in ran] == ["9", "9", "5", "1", "0"]
    finally:
        worker.stop()


@pytest.mark.timeout(300)
def test_worker_survives_a_node_kill(victim_cluster, name, tmp_path) -> None:
    """Worker and caller know all nodes; the one they use dies; every task is done."""
    cluster = victim_cluster
    worker = Worker([url(n.amqp_port) for n in cluster.nodes], name[-30:], tmp_path)
    worker.start()
    try:
        tasks = worker.module
        assert tasks.add.delay(1, 2).get(timeout=RESULT) == 3
        cluster.nodes[0].kill()
        done = []
        for i in range(10):

            def call() -> bool:
                # The reply queue of the caller died with the node: call again as users' retries do.
                try:
                    done.append(tasks.add.apply_async((i, i), retry=True).get(timeout=bound(15)))
                except Exception:  # noqa: BLE001 - any error of the connection.
                    return False
                return True

            eventually(call, bound(120), f"task {i} is done")
        assert done == [2 * i for i in range(10)]
    finally:
        worker.stop()
