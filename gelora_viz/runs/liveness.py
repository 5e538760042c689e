"""Whether the process behind a run is alive: on this machine by its number and start, on another by its heartbeats.

No machine's clock decides. A process is named by the boot of its machine and by the tick of that boot at which it
began, which no later process shares, and which stay as they are when somebody sets the clock. Heartbeats are file
times, and their age is told by the file system that keeps them.
"""

from __future__ import annotations

import os
import signal
import socket
import tempfile
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil

from gelora_viz._reading import Fields
from gelora_viz.errors import StudyError

SILENCE = 120.0
"""Seconds without a heartbeat after which a process on another machine counts as dead."""
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
_STATE, _START = 0, 19
"""Where /proc/PID/stat has them, counted from behind the program's name: fields 3 and 22 of proc(5)."""


def identify(pid: int | None = None) -> dict[str, Any]:
    """Machine, boot, number and start of a process, by default this one: together they name it for good.

    Raises:
        psutil.NoSuchProcess: if there is none of that number.
    """
    number = os.getpid() if pid is None else pid
    state, started = _look_at(number)
    if state is None:
        raise psutil.NoSuchProcess(number)
    return {"host": socket.gethostname(), "boot": _boot(), "pid": number, "started": started}


def check_process(who: Mapping[str, Any]) -> None:
    """Raise `StudyError` unless this says who a process is, as `identify` does, or that there is none yet."""
    fields = Fields(who, "process")
    fields.text("host")
    fields.number("started")
    if who.get("boot") is not None:
        fields.text("boot")
    if who.get("pid") is not None:
        fields.whole("pid", at_least=1)
    if not {"boot", "pid"} <= set(who):
        raise StudyError("the process lacks its boot or its number; delete the file")


def is_here(who: Mapping[str, Any]) -> bool:
    """Whether that process ran, or runs, on this machine."""
    return bool(who["host"] == socket.gethostname())


def is_alive(who: Mapping[str, Any], heartbeats: Path) -> bool:
    """Whether that very process still runs; a later process may have got its number.

    Args:
        who: from `identify`.
        heartbeats: the file whose time is its last heartbeat; looked at if it runs on another machine.
    """
    if not is_here(who):
        return _age(heartbeats) < SILENCE
    if not _is_number(who["pid"]) or who["boot"] != _boot():
        return False
    state, started = _look_at(who["pid"])
    return state == "alive" and started == who["started"]


def began_before_boot(who: Mapping[str, Any]) -> bool:
    """Whether this machine has been started again since that process began."""
    if not is_here(who):
        return False
    if who["boot"] is None:  # where the system has no name for a boot
        return isinstance(who["started"], int | float) and bool(who["started"] < psutil.boot_time())
    return bool(who["boot"] != _boot())


def is_of_this_boot(who: Mapping[str, Any]) -> bool:
    """Whether that process began on this machine, and since it was last started."""
    return is_here(who) and not began_before_boot(who)


def send_signal(who: Mapping[str, Any], name: str, *, to_children: bool = False) -> None:
    """Send a signal to that very process, if it is alive, on this machine, and this user's; else nothing happens.

    Args:
        who: from `identify`, or from a file, which may be anybody's: another process never gets the signal.
        name: such as "SIGTERM"; one that this system does not have is not sent.
        to_children: also to the processes that it has started.
    """
    number = getattr(signal, name, None)
    if number is None or not is_here(who) or who["pid"] in (1, os.getpid()) or not is_alive(who, Path()):
        return
    with suppress(psutil.Error):
        process = psutil.Process(who["pid"])  # which looks itself whether the number has got a new owner meanwhile
        if hasattr(process, "uids") and process.uids().real != os.getuid():
            return
        for each in [process, *(process.children(recursive=True) if to_children else [])]:
            with suppress(psutil.Error):
                each.send_signal(number)


def _boot() -> str | None:
    """The name of this boot of the machine; None where the system has none."""
    try:
        return _BOOT_ID.read_text(encoding="ascii").strip()
    except OSError:
        return None


def _look_at(pid: int) -> tuple[str | None, int | float]:
    """("alive", its start) of a process; "dead" for one that has ended but has not been reaped, None for none."""
    if _BOOT_ID.exists():
        try:
            fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
        except OSError:
            return None, 0
        return ("dead" if fields[_STATE] in (b"Z", b"X") else "alive"), int(fields[_START])
    try:
        process = psutil.Process(pid)
        return ("dead" if process.status() == psutil.STATUS_ZOMBIE else "alive"), process.create_time()
    except psutil.Error:
        return None, 0


def _is_number(pid: object) -> bool:
    return isinstance(pid, int) and not isinstance(pid, bool) and pid > 0


def _age(file: Path) -> float:
    """Seconds since a file was touched, as the clock of its file system has it."""
    try:
        return _now_at(file.parent) - file.stat().st_mtime
    except OSError:
        return float("inf")


def _now_at(folder: Path) -> float:
    """The present time of a folder's file system; of this machine, where nothing can be written there."""
    try:
        handle, name = tempfile.mkstemp(dir=folder, prefix=".now.")
    except OSError:
        return time.time()
    try:
        os.utime(name)  # set by the file server, as heartbeats are
        return Path(name).stat().st_mtime
    finally:
        os.close(handle)
        Path(name).unlink(missing_ok=True)
