"""Start several runs and wait for all of them; finished ones are not repeated."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path

from tqdm.auto import tqdm

from gelora_viz.runs import ENDED, Executor, Run, RunSpec, find_finished, find_going_on, launch

_LOOK = 0.25
"""Seconds between two checks of the runs."""


def run_all(asked: Mapping[Path, RunSpec], executor: Executor, *, progress: bool = True, title: str = "runs") -> None:
    """Start the runs that are not finished yet, and wait until all have ended, successfully or not.

    Interrupted (Ctrl-C), those going on are cancelled; finished ones are kept, and the same call goes on from there.

    Args:
        asked: folder -> what to run in it.
        executor: starts them; it is prepared already.
        progress: show a bar of runs.
        title: title of the bar.
    """
    runs: list[Run] = []
    try:
        for path, spec in asked.items():
            runs.append(_begin(path, spec, executor))
        with tqdm(total=len(runs), unit="run", desc=title, disable=not progress) as bar:
            while (ended := sum(run.status in ENDED for run in runs)) < len(runs):
                bar.update(ended - bar.n)
                time.sleep(_LOOK)
            bar.update(len(runs) - bar.n)
    except BaseException:
        for run in reversed(runs):  # those that wait first, or they would begin as the others end
            run.cancel()
        raise
    for run in runs:
        run.wait(progress=False)


def _begin(path: Path, spec: RunSpec, executor: Executor) -> Run:
    """The run in the folder, if it is this one and is finished or still going on; otherwise a new one."""
    return find_going_on(path, spec) or find_finished(path, spec) or launch(spec, run_dir=path, executor=executor)
