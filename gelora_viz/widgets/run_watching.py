"""The runs of a folder, however they were started, checked repeatedly at little cost.

`RunLookout` reads what is new; `Watcher` is the thread that asks it to, until its panel is closed or gone.
"""

from __future__ import annotations

import math
import threading
import weakref
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from gelora_viz.runs import CAUSAL_LM, ENDED, RunFolder, RunReading, RunSpec, find_runs, last_of, read_run

MOST_POINTS = 150
"""Points of a curve that are sent to a page, and so kept in a saved notebook; of longer ones means are sent."""

_Curve = tuple[list[float], list[float]]
"""Steps and values."""


@dataclass(frozen=True)
class SeenRun:
    """What is known of a run at one moment.

    Attributes:
        name: its folder, as seen from the one that is watched.
        begun: when it was launched, in seconds since 1970.
        status: state of the run (see `Run.status`), or "unreadable".
        message: why it failed or cannot be read; empty otherwise.
        method: name of the method that is trained (see `RunSpec.method`).
        seed: seed of the run.
        learning_rate: learning rate of the run.
        steps: number of steps to take; 0 where unknown.
        step: the last step logged.
        eta: seconds left, by what was logged last; None where unknown.
        metric: "accuracy" or "perplexity".
        losses: training losses, thinned.
        scores: scores on the validation texts, in the metric.
    """

    name: str
    begun: float
    status: str
    message: str = ""
    method: str = ""
    seed: int = 0
    learning_rate: float = 0.0
    steps: int = 0
    step: int = 0
    eta: float | None = None
    metric: str = "accuracy"
    losses: _Curve = ([], [])
    scores: _Curve = ([], [])

    @property
    def group(self) -> str:
        """The comparison that it belongs to; empty for a run by itself."""
        return self.name.rpartition("/")[0].partition("/")[0]

    @property
    def is_over(self) -> bool:
        """Whether nothing more is to be expected of it."""
        return self.status in ENDED or self.status == "unreadable"


class RunLookout:
    """All runs under a folder.

    Args:
        folder: the folder of a study's runs; it may not exist yet.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._known: dict[str, _Watched] = {}

    def look(self) -> list[SeenRun]:
        """The runs, the earliest first; of those that have ended nothing is read again."""
        found: dict[str, _Watched] = {}
        for name, path in find_runs(self._folder).items():
            try:
                stamp = (path / "spec.json").stat().st_mtime_ns
            except OSError:  # removed just now
                continue
            known = self._known.get(name)
            found[name] = known if known and known.stamp == stamp else _Watched(path, name, stamp)
        self._known = found
        return sorted((each.look() for each in found.values()), key=lambda run: (run.begun, run.name))


class _Watched:
    """One run, and how far it has been read."""

    def __init__(self, path: Path, name: str, stamp: int) -> None:
        self.stamp = stamp
        self._path, self._name = path, name
        self._folder = RunFolder(path)
        self._spec: RunSpec | None = None
        self._seen: SeenRun | None = None
        self._ended_at: float | None = None

    def look(self) -> SeenRun:
        if self._seen is not None and self._ended_at is not None and self._ended_at == self._status_time():
            return self._seen
        ended_at = self._status_time()
        found = read_run(self._folder, self._spec)
        self._spec = found.spec
        self._seen = _describe(self._name, self.stamp / 1e9, found)
        self._ended_at = ended_at if self._seen.is_over else None
        return self._seen

    def _status_time(self) -> float:
        try:
            return (self._path / "status.json").stat().st_mtime
        except OSError:
            return 0.0


def _describe(name: str, begun: float, found: RunReading) -> SeenRun:
    spec, rows = found.spec, found.rows
    if spec is None:
        return SeenRun(name, begun, found.status, found.message)
    metric = "perplexity" if spec.task == CAUSAL_LM else "accuracy"
    last = rows[-1] if rows else {}
    return SeenRun(
        name,
        begun,
        found.status,
        found.message,
        spec.method,
        spec.seed,
        spec.learning_rate,
        spec.steps,
        int(last.get("step") or 0),
        last_of(rows[-20:], "eta_seconds") if found.status == "running" else None,
        metric,
        _curve(rows, "loss"),
        _curve(rows, f"eval_{metric}"),
    )


def _curve(rows: Sequence[Mapping[str, float | None]], column: str) -> _Curve:
    points = [
        (float(step), float(value))
        for row in rows
        if (value := row.get(column)) is not None and (step := row.get("step")) is not None and math.isfinite(value)
    ]
    return thin(points)


def thin(points: Sequence[tuple[float, float]]) -> _Curve:
    """Steps and values, at most `MOST_POINTS`: of more, the means of as many neighbors as it takes."""
    size = math.ceil(len(points) / MOST_POINTS)
    parts = [points[start : start + size] for start in range(0, len(points), size)] if points else []
    steps = [part[-1][0] for part in parts]
    return steps, [float(f"{sum(value for _, value in part) / len(part):.4g}") for part in parts]


class Watcher(threading.Thread):
    """Calls a panel's method until the panel is closed or nothing else refers to it.

    Args:
        look: a bound method, held weakly; it returns the seconds until it is to be called again.
    """

    def __init__(self, look: Callable[[], float]) -> None:
        super().__init__(name="gelora_viz run watcher", daemon=True)
        self._look = weakref.WeakMethod(look)
        self._stopped = threading.Event()

    def run(self) -> None:
        """The thread's own loop."""
        pause = 0.25
        while not self._stopped.wait(pause):
            look = self._look()
            if look is None:
                return
            pause = look()
            del look  # or the wait would keep the panel alive

    def stop(self) -> None:
        """End after the present look."""
        self._stopped.set()
