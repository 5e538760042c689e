"""Whether the process behind a run is alive: on this machine by its process id, on another by its heartbeats."""

from __future__ import annotations

import socket
import time
from collections.abc import Mapping
from typing import Any

import psutil

_SILENCE = 120.0
"""Seconds without a heartbeat after which a process on another machine counts as dead."""


def identify(pid: int | None = None) -> dict[str, Any]:
    """Machine, id and start time of a process, by default this one; together they identify it for good."""
    process = psutil.Process(pid)
    return {"host": socket.gethostname(), "pid": process.pid, "process_started": process.create_time()}


def is_here(who: Mapping[str, Any]) -> bool:
    """Whether that process runs, or ran, on this machine."""
    return bool(who["host"] == socket.gethostname())


def is_alive(who: Mapping[str, Any], last_heartbeat: float) -> bool:
    """Whether exactly that process still runs; a later one may have been given its id.

    Args:
        who: from `identify`.
        last_heartbeat: when it last sent a heartbeat, in seconds since 1970; used if it runs on another machine.
    """
    if not is_here(who):
        return time.time() - last_heartbeat < _SILENCE
    try:
        process = psutil.Process(who["pid"])
        return abs(process.create_time() - who["process_started"]) < 1.0 and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False


def began_before_boot(who: Mapping[str, Any]) -> bool:
    """Whether this machine has been restarted since that process began."""
    return is_here(who) and bool(who["process_started"] < psutil.boot_time())
