"""The Celery application of the test, configured by the environment; run by a real worker."""

from __future__ import annotations

import os
import time

from celery import Celery
from kombu import Queue

app = Celery(
    "warren_test",
    broker=os.environ["CELERY_TEST_BROKER"],
    backend="rpc://",
)
PREFIX = os.environ["CELERY_TEST_PREFIX"]
app.conf.update(
    task_default_queue=PREFIX,
    task_queues=[
        Queue(PREFIX, durable=True),
        Queue(f"{PREFIX}-priority", durable=True, queue_arguments={"x-max-priority": 10}),
    ],
    task_acks_late=True,
    task_reject_on_worker_lost=True,
    worker_prefetch_multiplier=1,
    result_expires=600,
    result_persistent=False,
    broker_connection_retry_on_startup=True,
    broker_connection_max_retries=None,
    broker_transport_options={"confirm_publish": True},
    task_publish_retry_policy={"max_retries": 60, "interval_start": 0.1, "interval_max": 0.5},
)


@app.task(name="add")
def add(x: int, y: int) -> int:
    return x + y


@app.task(name="flaky", bind=True, max_retries=3)
def flaky(self, fail_times: int) -> int:
    """Fails so many times, then says how often it was tried."""
    if self.request.retries < fail_times:
        raise self.retry(countdown=0.2)
    return self.request.retries


@app.task(name="when")
def when() -> float:
    return time.time()


@app.task(name="nap")
def nap(seconds: float) -> float:
    time.sleep(seconds)
    return seconds


@app.task(name="order")
def order(label: str) -> tuple[str, float]:
    return label, time.monotonic()
