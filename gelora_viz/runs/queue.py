"""Runs of one user on one machine take turns: slots for those that train, and tickets for those that wait.

A slot is held by locks that vanish with the process that holds them, so a killed worker frees its slot at once. A
ticket is a file that says which slots a run would take; whoever came earlier and wants the same slot goes first, as
long as the process that waits on its behalf lives. That is the worker itself for the moment between its start and
its slot, and before that a dispatcher (see dispatcher.py), so that a run which waits has no process of its own.

tickets/NUMBER-ID.json     a run that waits, in the order of launching
slots/NAME, NAME.json      the lock of a slot, and who has trained in it since when
dispatchers/               which processes start runs when their turn comes
lock                       held while something is added, so that two launches see each other
"""

from __future__ import annotations

import functools
import json
import logging
import os
import tempfile
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from gelora_viz._locks import FileLock
from gelora_viz._reading import Fields, naming_file
from gelora_viz._results import read_json, write_json
from gelora_viz.errors import InputError, StudyError
from gelora_viz.runs.liveness import check_process, identify, is_alive, is_of_this_boot

logger = logging.getLogger("gelora_viz")

_TICKET = "queue ticket"
_HOLDER = "holder of a slot"
PAUSE = 0.25
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
        return cls(tuple(Fields(content, "slot").texts("locks")), content["gpus"])


@dataclass(frozen=True)
class Job:
    """How the worker of a run is to be started when its turn comes.

    Attributes:
        run: the run's folder.
        directory: working folder of whoever launched it.
        environment: digest of the environment it was launched in (see dispatching.py).
        processes: that train it together.
        threads: of each process; None leaves it to what is set already.
    """

    run: str
    directory: str
    environment: str
    processes: int = 1
    threads: int | None = None


@dataclass(frozen=True)
class Ticket:
    """A run that waits.

    Attributes:
        place: its place in the queue.
        who: the process that waits on its behalf (see `identify`).
        since: when it was launched, in seconds since 1970.
        run: its folder.
        job: how to start it; None for a worker that has been started.
    """

    place: Queue
    who: Mapping[str, Any]
    since: float
    run: str
    job: Job | None

    @property
    def is_waited_for(self) -> bool:
        """Whether the process lives that is to see to it."""
        return is_alive(self.who, self.place.file)

    @property
    def wanted(self) -> set[str]:
        """Names of the locks that it might take."""
        return {name for slot in self.place.slots for name in slot.locks}


@dataclass(frozen=True)
class Holder:
    """A run that trains in a slot.

    Attributes:
        locks: of the slot.
        who: its worker (see `identify`).
        since: when it took the slot, in seconds since 1970.
        run: its folder.
    """

    locks: tuple[str, ...]
    who: Mapping[str, Any]
    since: float
    run: str


@dataclass(frozen=True)
class Queue:
    """One run's place in the queue: which slots would do, and its turn.

    Attributes:
        folder: the folder of slots and tickets; everybody who uses the same folder waits for each other.
        slots: any of which would do, in order of preference.
        ticket: name of its ticket; earlier ones sort before later ones.
    """

    folder: Path
    slots: tuple[Slot, ...]
    ticket: str

    @classmethod
    def join(cls, folder: Path, slots: Sequence[Slot]) -> Queue:
        """A place at the end of the queue, behind all tickets there are, whatever the clock says."""
        last = max((int(number) for file in _files(folder) if (number := file.name[:20]).isdecimal()), default=0)
        return cls(folder, tuple(slots), f"{max(time.time_ns(), last + 1):020d}-{uuid.uuid4().hex[:8]}")

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
    def file(self) -> Path:
        """The file of its ticket."""
        return self.folder / "tickets" / f"{self.ticket}.json"

    def draw(self, who: Mapping[str, Any] | None = None, *, run: str = "", job: Job | None = None) -> None:
        """Put down the ticket, or renew it, for the process that waits, by default this one."""
        slots = [slot.to_dict() for slot in self.slots]
        known = read_ticket(self.file)
        content = {"run": job.run if job else run, "since": known.since if known else time.time(), "slots": slots}
        write_json(self.file, _TICKET, {**(who or identify()), **content, "job": job and asdict(job)})

    def leave(self) -> None:
        """Give the ticket back."""
        self.file.unlink(missing_ok=True)

    def wait_for_slot(self, run: str = "") -> Slot:
        """Wait for a slot; it is this process's until it ends, and the ticket is given back."""
        if not self.file.exists():
            self.draw(run=run)
        try:
            while (taken := self._take()) is None:
                time.sleep(PAUSE)
            content = {"locks": taken.locks, "since": time.time(), "run": run}
            write_json(_slots(self.folder) / f"{_name(taken.locks[0])}.json", _HOLDER, {**identify(), **content})
        finally:
            self.leave()
        return taken

    def find_free(self, environment: str) -> Slot | None:
        """A slot that this place may have at once.

        Args:
            environment: whose dispatcher will be called if none lives; tickets that wait for it count all the same.
        """
        spoken_for = self._wanted_by_earlier(environment)
        return next((slot for slot in self.slots if spoken_for.isdisjoint(slot.locks) and self.is_free(slot)), None)

    def is_free(self, slot: Slot) -> bool:
        """Whether nobody holds any of a slot's locks."""
        locks = [FileLock(_slots(self.folder) / _name(name)) for name in slot.locks]
        taken = [lock for lock in locks if lock.acquire()]
        for lock in taken:
            lock.release()
        return len(taken) == len(locks)

    def _take(self) -> Slot | None:
        spoken_for = self._wanted_by_earlier()
        return next((slot for slot in self.slots if spoken_for.isdisjoint(slot.locks) and self._acquire(slot)), None)

    def _acquire(self, slot: Slot) -> bool:
        """All of its locks, or none."""
        held: list[FileLock] = []
        for name in slot.locks:
            lock = FileLock(_slots(self.folder) / _name(name))
            if not lock.acquire():
                for each in held:
                    each.release()
                return False
            held.append(lock)
        _held.extend(held)
        return True

    def _wanted_by_earlier(self, environment: str = "") -> set[str]:
        """What those who came earlier wait for; tickets of dead processes are discarded."""
        wanted: set[str] = set()
        for ticket in read_tickets(self.folder):
            if ticket.place.ticket >= self.ticket:
                break
            if ticket.is_waited_for:
                wanted |= ticket.wanted
            elif ticket.job is None or not is_of_this_boot(ticket.who):
                ticket.place.leave()
            elif ticket.job.environment == environment:  # the others wait until somebody calls their dispatcher
                wanted |= ticket.wanted
        return wanted


def lock_queue(folder: Path) -> FileLock:
    """The lock to hold while a run joins the queue, or a dispatcher leaves it."""
    return FileLock(folder / "lock")


def read_tickets(folder: Path) -> Iterator[Ticket]:
    """All tickets in order."""
    return filter(None, map(read_ticket, _files(folder)))


def read_ticket(file: Path) -> Ticket | None:
    """What a ticket says; None if it has been given back, is somebody else's, or says nothing that makes sense."""
    try:
        status = file.stat()
    except OSError:
        return None
    if hasattr(os, "getuid") and status.st_uid != os.getuid():
        return None
    return _parse(file, status.st_mtime_ns, status.st_ino)


@functools.lru_cache(maxsize=1024)
def _parse(file: Path, _time: int, _inode: int) -> Ticket | None:
    """Read once as long as it is the same file, since those who wait look often."""
    try:
        content = read_json(file, _TICKET)
        with naming_file(file, _TICKET):
            check_process(content)
            fields = Fields(content, _TICKET)
            place = Queue(file.parents[1], tuple(map(Slot.from_dict, fields.rows("slots"))), file.stem)
            job = _read_job(fields.mapping("job")) if content["job"] is not None else None
            return Ticket(place, _who(content), fields.number("since"), fields.text("run"), job)
    except StudyError as error:
        if file.exists():
            logger.warning("a file in the queue of runs is passed over: %s", error)
        return None


def _read_job(content: Mapping[str, Any]) -> Job:
    fields = Fields(content, "job")
    return Job(
        run=fields.text("run"),
        directory=fields.text("directory"),
        environment=fields.text("environment"),
        processes=fields.whole("processes", at_least=1),
        threads=None if content["threads"] is None else fields.whole("threads", at_least=1),
    )


def read_holders(folder: Path) -> list[Holder]:
    """The runs that train in a slot, those that began earlier first."""
    found = []
    for file in sorted((folder / "slots").glob("*.json")):
        try:
            content = read_json(file, _HOLDER)
            with naming_file(file, _HOLDER):
                check_process(content)
                fields = Fields(content, _HOLDER)
                holder = Holder(
                    tuple(fields.texts("locks")), _who(content), fields.number("since"), fields.text("run")
                )
        except StudyError:
            continue
        if is_alive(holder.who, file):
            found.append(holder)
    return sorted(found, key=lambda holder: holder.since)


def _who(content: Mapping[str, Any]) -> dict[str, Any]:
    return {name: content[name] for name in ("host", "boot", "pid", "started")}


def _files(folder: Path) -> list[Path]:
    tickets = folder / "tickets"
    try:
        names = sorted(os.listdir(tickets))  # noqa: PTH208 - looked at often
    except FileNotFoundError:
        return []
    return [tickets / name for name in names if name.endswith(".json") and not name.startswith(".")]


def _slots(folder: Path) -> Path:
    path = folder / "slots"
    path.mkdir(parents=True, exist_ok=True)
    return path


def _name(lock: str) -> str:
    return quote(lock, safe="")


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
