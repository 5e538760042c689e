"""Waiting for runs in worker processes, which take long to start on a busy machine."""

from __future__ import annotations

import time
from collections.abc import Callable

import psutil

from gelora_viz import Run
from gelora_viz.runs import ENDED, RunFolder

PATIENCE = 300
"""Seconds that a worker may take."""
ENDLESS = {"steps": 6000, "evaluations": 1, "threads": 1}
"""Of a specification: a run that trains for longer than any test takes."""


def wait_until(condition: Callable[[], bool], seconds: float = PATIENCE) -> None:
    """Wait for something to become true."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it never came"
        time.sleep(0.05)


def wait_until_training(run: Run) -> psutil.Process:
    """Wait until it has logged something; the worker."""
    wait_until(lambda: len(run.metrics) > 0 or run.status in ENDED)
    assert run.status == "running", run.message
    return worker_of(run)


def wait_until_ended(run: Run) -> Run:
    """Wait for the end, whatever it is."""
    return run.wait(timeout=PATIENCE, progress=False)


def worker_of(run: Run) -> psutil.Process:
    """Its worker, which lives on this machine."""
    return psutil.Process(RunFolder(run.path).worker_pid)
