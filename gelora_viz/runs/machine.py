"""What trains and what waits on this machine, whatever study it belongs to, and whom a run waits for."""

from __future__ import annotations

import datetime as dt
import json
import os
import shlex
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil

from gelora_viz.errors import GeloraVizError
from gelora_viz.runs.folder import ENDED, RunFolder
from gelora_viz.runs.queue import find_queue, read_holders, read_tickets

_WORKER, _DISPATCHER = "gelora_viz.training.worker", "gelora_viz.runs.dispatcher"


def describe_wait(folder: RunFolder) -> str:
    """Whom a run waits for, since when that one has trained, and how to end it; empty where nobody can tell."""
    if (place := folder.queue) is None:
        return ""
    queue, name = place
    tickets = list(read_tickets(queue))
    mine = next((ticket for ticket in tickets if ticket.place.ticket == name), None)
    if mine is None:
        return ""
    before = [
        ticket for ticket in tickets
        if ticket.place.ticket < name and ticket.wanted & mine.wanted and _is_waiting(ticket.run, ticket.place.ticket)
    ]  # fmt: skip
    holders = [holder for holder in read_holders(queue) if mine.wanted & set(holder.locks)]
    others = f"{len(before)} launched before it" if before else ""
    if not holders:
        return f"waits for its turn{', behind ' + others if others else ''}"
    first = holders[0]
    more = [f"{len(holders) - 1} more in training"] if len(holders) > 1 else []
    return (
        f"waits behind {' and '.join([first.run, *more, *([others] if others else [])])}; {Path(first.run).name} has "
        f"trained since {_clock(first.since)}, and ends with: gelora-viz runs --cancel {shlex.quote(first.run)}"
    )


def find_runs_here() -> list[dict[str, Any]]:
    """The runs of this user that train or wait on this machine: run, status, message, since, pid.

    Found in this user's queue, in those of all living workers and dispatchers, and by the workers themselves,
    whatever has started them.
    """
    queues = {find_queue()}
    found: dict[str, float] = {}
    for process, words in _processes_of_ours():
        with suppress(psutil.Error, ValueError, KeyError, IndexError):
            if _DISPATCHER in words:
                queues.add(Path(words[words.index(_DISPATCHER) + 1]))
                continue
            if "--queue" in words:
                queues.add(Path(json.loads(words[words.index("--queue") + 1])["folder"]))
            run = Path(process.cwd(), words[words.index(_WORKER) + 1])
            found.setdefault(str(run), process.create_time())
    for queue in queues:
        found |= {holder.run: holder.since for holder in read_holders(queue)}
        tickets = [ticket for ticket in read_tickets(queue) if ticket.is_waited_for]
        found |= {ticket.run: ticket.since for ticket in tickets}
    rows = [_row(Path(run), since) for run, since in found.items()]
    return sorted((row for row in rows if row["status"] not in ENDED), key=_order)


def _order(row: dict[str, Any]) -> tuple[bool, Any]:
    return row["status"] == "queued", row["since"]


def _row(run: Path, since: float) -> dict[str, Any]:
    folder = RunFolder(run)
    started = dt.datetime.fromtimestamp(since, tz=dt.UTC).astimezone()
    row: dict[str, Any] = {"run": str(run), "since": started, "pid": None}
    try:
        status, message = folder.read_status()
        row["pid"] = folder.worker_pid
    except (GeloraVizError, OSError) as error:
        status, message = "unreadable", str(error)
    return {**row, "status": status, "message": message or (describe_wait(folder) if status == "queued" else "")}


def _processes_of_ours() -> Iterator[tuple[psutil.Process, Sequence[str]]]:
    """Workers and dispatchers of this user, with their command lines."""
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            words = process.cmdline()
            if not {_WORKER, _DISPATCHER} & set(words):
                continue
            if not hasattr(process, "uids") or process.uids().real == os.getuid():
                yield process, words


def _is_waiting(run: str, ticket: str) -> bool:
    return RunFolder(run).is_waiting(ticket)


def _clock(since: float) -> str:
    started = dt.datetime.fromtimestamp(since, tz=dt.UTC).astimezone()
    is_today = started.date() == dt.datetime.now(tz=dt.UTC).astimezone().date()
    return f"{started:%H:%M}" if is_today else f"{started:%Y-%m-%d %H:%M}"
