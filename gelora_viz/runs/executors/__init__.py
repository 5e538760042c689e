"""Where runs are carried out: in processes of this machine, by Ray, or by any other object that is an `Executor`."""

from __future__ import annotations

from typing import Any

from gelora_viz._checks import describe
from gelora_viz._names import did_you_mean
from gelora_viz.errors import InputError
from gelora_viz.runs.executors.local import LocalExecutor
from gelora_viz.runs.executors.protocol import Executor, Handle
from gelora_viz.runs.executors.ray import RayExecutor

__all__ = ["Executor", "Handle", "LocalExecutor", "RayExecutor", "choose_executor"]

_NAMED: dict[str, type[LocalExecutor | RayExecutor]] = {"local": LocalExecutor, "ray": RayExecutor}


def choose_executor(executor: str | Executor, options: dict[str, Any]) -> Executor:
    """The executor of this name with these options, or the executor itself.

    Raises:
        InputError: for an unknown name, an option that the executor does not have, or options to one that is made
            already.
    """
    if not isinstance(executor, str):
        if options:
            raise InputError(f"{', '.join(options)} belong in the executor; give them to {type(executor).__name__}")
        if not all(callable(getattr(executor, name, None)) for name in ("prepare", "submit")):
            raise InputError(
                f"executor is {describe(executor)}; give {' or '.join(map(repr, _NAMED))}, or an object with the "
                "methods of an Executor"
            )
        return executor
    if executor not in _NAMED:
        raise InputError(f"unknown executor {executor!r}; {did_you_mean(executor, _NAMED)}")
    try:
        return _NAMED[executor](**options)
    except TypeError as error:
        raise InputError(
            f"{str(error).partition('__init__() ')[2] or error}; see {_NAMED[executor].__name__}"
        ) from error
