"""Runs of one user on one machine take turns: slots for those that train, and tickets for those that wait.

There is no scheduler that could die. Every worker starts at once and waits by itself, without torch and so with
little memory, until it holds the locks of a slot; a lock vanishes with its process, so a killed worker frees its
slot. Tickets keep the order of launching: who came earlier and wants the same slot goes first, as long as it lives.
"""

from __future__ import annotations

import json
import os
import tempfile
import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from gelora_viz._locks import FileLock
from gelora_viz._results import read_json, write_json
from gelora_viz.errors import InputError, StudyError
from gelora_viz.runs.liveness import identify, is_alive

_TICKET = "queue ticket"
_PAUSE = 0.25
"""Seconds between two checks by the next in line; those behind check less often."""
_held: list[FileLock] = []
"""Locks of this process's slot, released when it ends; a lock that nothing refers to would be released earlier."""


@dataclass(frozen=True)
class Slot:
    """What one run may use exclusively.

    Attributes:
        locks: names of what it occupies, each held by one run at a time.
        gpus: for CUDA_VISIBLE_DEVICES of the worker; None leaves that as it is.
    """

    locks: tuple[str, ...]
    gpus: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """JSON-able content, which `from_dict` reads."""
        return asdict(self)

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> Slot:
        """The inverse of `to_dict`."""
        return cls(tuple(content["locks"]), content["gpus"])


@dataclass(frozen=True)
class Queue:
    """One worker's place in the queue: which slots would do, and since when it has waited.

    Attributes:
        folder: the folder of slots and tickets; everybody who uses the same folder waits for each other.
        slots: any of which would do, the best first.
        ticket: name of its ticket; earlier ones sort before later ones.
    """

    folder: Path
    slots: tuple[Slot, ...]
    ticket: str

    @classmethod
    def join(cls, folder: Path, slots: Sequence[Slot]) -> Queue:
        """A place at the end of the queue, from this moment on."""
        return cls(folder, tuple(slots), f"{time.time_ns():020d}-{uuid.uuid4().hex[:8]}")

    def to_json(self) -> str:
        """One line, which `from_json` reads; it goes onto the worker's command line."""
        slots = [slot.to_dict() for slot in self.slots]
        return json.dumps({"folder": str(self.folder), "slots": slots, "ticket": self.ticket})

    @classmethod
    def from_json(cls, text: str) -> Queue:
        """The inverse of `to_json`."""
        content = json.loads(text)
        return cls(Path(content["folder"]), tuple(map(Slot.from_dict, content["slots"])), content["ticket"])

    @property
    def _file(self) -> Path:
        return self.folder / "tickets" / f"{self.ticket}.json"

    def draw(self, pid: int | None = None) -> None:
        """Write the ticket for the process that will wait, by default this one; a second call changes nothing."""
        if not self._file.exists():
            wanted = sorted({name for slot in self.slots for name in slot.locks})
            write_json(self._file, _TICKET, {**identify(pid), "wanted": wanted})

    def leave(self) -> None:
        """Remove the ticket."""
        self._file.unlink(missing_ok=True)

    def wait_for_slot(self) -> Slot:
        """Wait for a slot, which this process keeps until it ends, and remove the ticket."""
        self.draw()
        try:
            while (taken := self._take()) is None:
                time.sleep(2 * _PAUSE if self._tickets_before() else _PAUSE)
        finally:
            self.leave()
        return taken

    def _take(self) -> Slot | None:
        spoken_for = self._wanted_by_earlier()
        return next((slot for slot in self.slots if spoken_for.isdisjoint(slot.locks) and self._acquire(slot)), None)

    def _acquire(self, slot: Slot) -> bool:
        """Take all of its locks, or none."""
        folder = self.folder / "slots"
        folder.mkdir(parents=True, exist_ok=True)
        held: list[FileLock] = []
        for name in slot.locks:
            lock = FileLock(folder / quote(name, safe=""))
            if not lock.acquire():
                for each in held:
                    each.release()
                return False
            held.append(lock)
        _held.extend(held)
        return True

    def _wanted_by_earlier(self) -> set[str]:
        """What live processes that came earlier are waiting for; tickets of dead ones are deleted."""
        mine = {name for slot in self.slots for name in slot.locks}
        wanted: set[str] = set()
        for file in self._tickets_before():
            if wanted >= mine:  # none of the others can change anything
                break
            try:
                ticket = read_json(file, _TICKET)
                waits = is_alive(ticket, file)
            except (StudyError, OSError):
                continue  # given back just now
            if waits:
                wanted |= set(ticket["wanted"])
            else:
                file.unlink(missing_ok=True)
        return wanted

    def _tickets_before(self) -> list[Path]:
        try:
            names = sorted(name for name in os.listdir(self._file.parent) if name.endswith(".json"))  # noqa: PTH208
        except FileNotFoundError:
            return []
        return [self._file.parent / name for name in names if not name.startswith(".") and name < self._file.name]


def own_queue() -> Path:
    """The folder of this user's queue on this machine, made if it does not exist; `find_queue` says which.

    Raises:
        InputError: if it cannot be made, or belongs to another user.
    """
    named = os.environ.get("GELORA_VIZ_QUEUE")
    folder = find_queue()
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not named and hasattr(os, "getuid") and folder.stat().st_uid != os.getuid():
            raise InputError(f"{folder} belongs to another user; set GELORA_VIZ_QUEUE to a folder of your own")
    except OSError as error:
        raise InputError(
            f"cannot make {folder}: {error.strerror or error}; set GELORA_VIZ_QUEUE to a folder you can write to"
        ) from error
    return folder


def find_queue() -> Path:
    """Where this user's queue on this machine is, or would be.

    `GELORA_VIZ_QUEUE` names it. Without that it is gelora_viz-<user> in the folder for temporary files; within a
    Slurm job, one for the job alone, whose GPUs no other job sees.
    """
    named = os.environ.get("GELORA_VIZ_QUEUE")
    if named:
        return Path(named).expanduser().absolute()
    user = str(os.getuid()) if hasattr(os, "getuid") else os.environ.get("USERNAME", "user")
    job = os.environ.get("SLURM_JOB_ID")
    return Path(tempfile.gettempdir()) / f"gelora_viz-{user}{f'-slurm-{job}' if job else ''}"
