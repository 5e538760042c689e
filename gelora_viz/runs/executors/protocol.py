"""What an executor is: something that can start the worker somewhere, watch it, and end it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from gelora_viz.runs.spec import RunSpec


class Handle(Protocol):
    """What an executor knows about a run that it has started; everything else is in the run's folder."""

    @property
    def who(self) -> Mapping[str, Any]:
        """For the status "queued": of the process whose death ends the run, what `identify` says, and is_worker.

        `pid` is None while a cluster has not placed the worker yet.
        """
        ...

    def ended(self) -> str | None:
        """How the worker ended, in a few words; None while it may be working. Called often, so it must be quick."""
        ...

    def kill(self) -> None:
        """End the worker, or withdraw it, at once."""
        ...

    def reap(self) -> None:
        """Wait for the process of a worker whose run has ended to exit."""
        ...


class Executor(Protocol):
    """Starts workers."""

    def prepare(self) -> None:
        """Make sure that runs can be started; called before anything in a run's folder is touched.

        Raises:
            InputError: if they cannot.
        """
        ...

    def submit(self, run_dir: Path, spec: RunSpec) -> Handle:
        """Start `python -m gelora_viz.training.worker run_dir`, now or when its turn comes, and return at once.

        Args:
            run_dir: the run's folder; spec.json is in it.
            spec: the same specification.
        """
        ...
