"""Why a run failed, in one line, and the worker's exit status for it."""

from __future__ import annotations

import signal
from pathlib import Path

from gelora_viz.errors import GeloraVizError, first_line
from gelora_viz.runs.folder import is_full

UNUSABLE, OUT_OF_MEMORY, OCCUPIED = 2, 3, 4
"""Exit statuses of the worker, besides 0 for success and 1 for any other failure."""
_NO_MEMORY = ("can't allocate memory", "not enough memory", "out of memory", "bad_alloc", "bad alloc")
"""How libraries that torch calls report it, in a plain RuntimeError."""
_LOST = ("connection closed", "connection reset", "broken pipe", "gloo", "nccl")


def explain(error: BaseException, run_dir: Path) -> tuple[str, int]:
    """The message that the run's status shows, and the exit status of the worker.

    Args:
        error: what ended the training.
        run_dir: the run's folder.
    """
    line = first_line(error) if str(error).strip() else ""
    if is_full(error) or is_full(error.__cause__) or "No space left on device" in line:
        return f"no disk space left for {run_dir}; free some and launch the run again", 1
    if isinstance(error, GeloraVizError):
        return line, UNUSABLE
    if is_out_of_memory(error):
        return f"out of memory{f' ({line})' if line else ''}; lower batch_size or max_length", OUT_OF_MEMORY
    return f"{type(error).__name__}: {line}", 1


def is_out_of_memory(error: BaseException) -> bool:
    """Whether memory ran out, on the GPU or off it."""
    # torch's OutOfMemoryError is a RuntimeError that says "out of memory".
    if isinstance(error, MemoryError):
        return True
    return isinstance(error, RuntimeError) and any(phrase in str(error).lower() for phrase in _NO_MEMORY)


def is_lost_connection(error: BaseException) -> bool:
    """Whether another process of the run has gone away."""
    return isinstance(error, RuntimeError) and any(phrase in str(error).lower() for phrase in _LOST)


def describe_exit(code: int) -> str:
    """How a process ended, in a few words, from its exit status as `subprocess` has it."""
    if code >= 0:
        return f"exit status {code}"
    try:
        name = signal.Signals(-code).name
    except ValueError:
        name = f"signal {-code}"
    return f"killed by {name}{', perhaps because memory ran out' if name == 'SIGKILL' else ''}"
