"""Have a dispatcher wait on behalf of runs: call one where none lives."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gelora_viz._results import read_json, write_json
from gelora_viz.errors import StudyError
from gelora_viz.runs.liveness import check_process, identify, is_alive
from gelora_viz.runs.queue import Queue

_DISPATCHER = "dispatcher"
_VOLATILE = ("_", "SHLVL", "PWD", "OLDPWD", "COLUMNS", "LINES")
"""What shells and terminals change from one command to the next, and no training reads."""
_called: list[subprocess.Popen[bytes]] = []
"""Those that this process has started, to be reaped when they end."""


@dataclass(frozen=True)
class Environment:
    """What workers are started with. Each environment has a dispatcher of its own, which inherits it.

    So none is ever written down, but for its digest.

    Attributes:
        variables: of the process.
        trust_remote_code: whether workers may run Python code that comes with a model.
    """

    variables: Mapping[str, str]
    trust_remote_code: bool

    @classmethod
    def here(cls, *, trust_remote_code: bool) -> Environment:
        """This process's, as it is now."""
        return cls(dict(os.environ), trust_remote_code)

    @property
    def digest(self) -> str:
        """A fingerprint, which two commands of one shell share."""
        variables = sorted(f"{name}={value}" for name, value in self.variables.items() if name not in _VOLATILE)
        parts = [sys.executable, str(self.trust_remote_code), *variables]
        return hashlib.sha256("\0".join(parts).encode(errors="surrogateescape")).hexdigest()[:16]


def call_dispatcher(queue: Path, environment: Environment) -> Mapping[str, Any]:
    """The dispatcher of an environment, started if none lives; hold the queue's lock meanwhile.

    It outlives this process, and ends when no run waits for it.

    Returns:
        Which process it is (see `identify`).
    """
    _called[:] = [each for each in _called if each.poll() is None]
    file = dispatcher_file(queue, environment.digest)
    try:
        known = read_json(file, _DISPATCHER)
        check_process(known)
        if is_alive(known, file):
            return {name: known[name] for name in ("host", "boot", "pid", "started")}
    except StudyError:
        pass
    command = [sys.executable, "-m", "gelora_viz.runs.dispatcher", str(queue), environment.digest]
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.with_suffix(".log").open("wb") as log:
        process = subprocess.Popen(  # noqa: S603 - our own program, no shell
            command + ["--trust-remote-code"] * environment.trust_remote_code, env=dict(environment.variables),
            stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip
    _called.append(process)
    who = identify(process.pid)
    write_json(file, _DISPATCHER, who)
    return who


def waiting_for(dispatcher: Mapping[str, Any], place: Queue) -> dict[str, Any]:
    """Whose death ends a run that a dispatcher is to start, for its status."""
    return {**dispatcher, "is_worker": False, "ticket": place.ticket, "queue": str(place.folder)}


def dispatcher_file(queue: Path, digest: str) -> Path:
    """Where it is written which process is the dispatcher of an environment."""
    return queue / "dispatchers" / f"{digest}.json"
