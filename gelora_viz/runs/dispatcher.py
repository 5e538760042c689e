"""The dispatcher: `python -m gelora_viz.runs.dispatcher QUEUE ENVIRONMENT` starts the runs that wait, in their order.

One small process, without torch, waits on behalf of all runs that were launched into a queue from the same
environment, which it has inherited. It starts the worker of a run when that is next for a free slot, tells watchers
on other machines that those which wait are alive, and ends when none is left. If it is killed, the next launch from
that environment, or a process that has launched one of its runs and still watches it, calls another, which takes
them over.
"""

from __future__ import annotations

import argparse
import signal
import subprocess
import time
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import replace
from pathlib import Path

from gelora_viz.errors import GeloraVizError, RunError
from gelora_viz.runs.causes import describe_exit
from gelora_viz.runs.dispatching import dispatcher_file, waiting_for
from gelora_viz.runs.executors.local import start_worker
from gelora_viz.runs.folder import RunFolder
from gelora_viz.runs.liveness import identify
from gelora_viz.runs.queue import PAUSE, Job, Slot, Ticket, lock_queue, read_tickets

_SWEEP = 5.0
"""Seconds between two looks at all runs that wait: whether they still do, and a heartbeat for each."""


class Dispatcher:
    """Waits on behalf of the runs of one environment.

    Args:
        queue: folder of the queue.
        environment: its digest, which their tickets name.
        trust_remote_code: whether workers may run Python code that comes with a model.
    """

    def __init__(self, queue: Path, environment: str, *, trust_remote_code: bool = False) -> None:
        self._queue = queue
        self._environment = environment
        self._trust_remote_code = trust_remote_code
        self._who = identify()
        self._started: dict[RunFolder, subprocess.Popen[bytes]] = {}

    def run(self) -> None:
        """Start runs until none is left."""
        last_sweep = -_SWEEP
        while self._has_tickets() or not self._leave():
            if time.monotonic() - last_sweep >= _SWEEP:
                self._sweep()
                last_sweep = time.monotonic()
            self._start_next()
            self._reap()
            time.sleep(PAUSE)

    def _is_mine(self, ticket: Ticket) -> bool:
        return ticket.job is not None and ticket.job.environment == self._environment

    def _has_tickets(self) -> bool:
        return any(map(self._is_mine, read_tickets(self._queue)))

    def _leave(self) -> bool:
        """Be no longer there for others, unless a run has been launched just now."""
        with lock_queue(self._queue):
            if self._has_tickets():
                return False
            dispatcher_file(self._queue, self._environment).unlink(missing_ok=True)
            return True

    def _sweep(self) -> None:
        """Drop tickets of runs that no longer wait, take over those of a dead dispatcher, and send heartbeats."""
        for ticket in filter(self._is_mine, read_tickets(self._queue)):
            folder = RunFolder(ticket.run)
            if folder.is_waiting(ticket.place.ticket) and dict(ticket.who) == self._who:
                folder.send_heartbeat()
                continue
            with suppress(GeloraVizError), _claim(folder):
                if not folder.is_waiting(ticket.place.ticket):
                    ticket.place.leave()
                else:
                    ticket.place.draw(self._who, job=ticket.job)
                    folder.write_status("queued", who=waiting_for(self._who, ticket.place))

    def _start_next(self) -> None:
        """Start the worker of every run whose turn it is."""
        spoken_for: set[str] = set()
        is_free: dict[Slot, bool] = {}
        for ticket in read_tickets(self._queue):
            if ticket.job is None or not self._is_mine(ticket):
                spoken_for |= ticket.wanted if ticket.is_waited_for else set()
                continue
            for slot in ticket.place.slots:
                if not spoken_for.isdisjoint(slot.locks):
                    continue
                if slot not in is_free:
                    is_free[slot] = ticket.place.is_free(slot)
                if is_free[slot] and self._start(ticket, ticket.job, slot):
                    spoken_for.update(slot.locks)
                    break
            else:
                spoken_for |= ticket.wanted

    def _start(self, ticket: Ticket, job: Job, slot: Slot) -> bool:
        """Start a worker for this slot; returns whether there is one now."""
        folder = RunFolder(ticket.run)
        try:
            with _claim(folder):
                if not folder.is_waiting(ticket.place.ticket):
                    ticket.place.leave()
                    return False
                place = replace(ticket.place, slots=(slot,))
                process = start_worker(job, place, trust_remote_code=self._trust_remote_code)
                who = identify(process.pid)
                place.draw(who, run=ticket.run)
                folder.write_status("queued", who={**who, "is_worker": True, "ticket": place.ticket})
        except RunError:  # somebody launches into that folder in this moment
            return False
        except (GeloraVizError, OSError) as error:
            ticket.place.leave()
            with suppress(GeloraVizError):
                folder.write_status("failed", f"the worker could not be started ({error})")
            return False
        self._started[folder] = process
        return True

    def _reap(self) -> None:
        """Say of workers that have died without a word how they did."""
        for folder, process in list(self._started.items()):
            if (code := process.poll()) is None:
                continue
            del self._started[folder]
            with suppress(GeloraVizError):
                folder.record_death(describe_exit(code), process.pid)


def _claim(folder: RunFolder) -> AbstractContextManager[None]:
    """`RunFolder.claim`, which does not make a folder anew that somebody has removed."""
    return nullcontext() if folder.is_removed else folder.claim(patience=0)


def main(arguments: Sequence[str] | None = None) -> None:
    """Start runs until none is left."""
    parser = argparse.ArgumentParser(
        prog="gelora_viz.runs.dispatcher", description="Start runs when their turn comes."
    )
    parser.add_argument("queue", type=Path, help="folder of the queue")
    parser.add_argument("environment", help="digest of this process's environment")
    parser.add_argument("--trust-remote-code", action="store_true", help="run Python code that comes with models")
    options = parser.parse_args(arguments)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    Dispatcher(options.queue, options.environment, trust_remote_code=options.trust_remote_code).run()


if __name__ == "__main__":
    main()
