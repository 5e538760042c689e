"""The worker: `python -m gelora_viz.training.worker RUN_DIR` trains what RUN_DIR/spec.json says.

`launch` starts it, and so may anything else that can start a process: Slurm's srun, torchrun, a shell. Exit status:
0 finished or cancelled, 1 failed for a reason not among these: 2 unusable input, 3 out of memory, 4 another worker is
at work in the folder. The cause is in status.json.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import signal
import sys
import threading
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from gelora_viz.errors import GeloraVizError, RunError, StudyError
from gelora_viz.runs import OCCUPIED, UNUSABLE, Queue, RunFolder, explain
from gelora_viz.training.signals import StoppedEarly, end_at_once, listen_to_signals

if TYPE_CHECKING:
    from gelora_viz.runs import RunSpec

# No torch and no pandas up here: a worker that waits for its turn is to stay small.

_HEARTBEAT = 10.0
"""Seconds between two heartbeats for watchers on other machines."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Train one run; returns the process's exit status."""
    parser = _parser()
    options = parser.parse_args(arguments)
    folder = RunFolder(options.run_dir)
    if not (folder.path / "spec.json").exists():
        parser.error(f"no spec.json in {folder.path}; give the folder of a run")  # with exit status 2
    is_leader = _read_role(parser) == 0
    if options.with_parent:
        threading.Thread(target=_end_with_parent, args=(folder if is_leader else None,), daemon=True).start()
    if not is_leader:
        return _train_along(folder, options)
    try:
        with folder.claim(patience=60):
            _check_ticket(folder, options.queue)
            with folder.reserve_disk_space():
                return _lead(folder, options)
    except RunError as error:  # nothing of the other worker's is touched
        print(error, file=sys.stderr)  # noqa: T201 - into the log of whoever started this process
        return OCCUPIED


def _read_role(parser: argparse.ArgumentParser) -> int:
    """The number of this process among those that train the run together, 0 for the first, as torchrun gives it."""
    rank, size = os.environ.get("RANK", "0"), os.environ.get("WORLD_SIZE", "1")
    fits = rank.isdecimal() and size.isdecimal() and int(rank) < int(size)
    if not fits or (int(size) > 1 and not {"MASTER_ADDR", "MASTER_PORT"} <= set(os.environ)):
        parser.error(
            f"RANK is {rank} and WORLD_SIZE is {size}, which say nothing without each other and MASTER_ADDR and "
            "MASTER_PORT; start the worker by torchrun, or unset them all"
        )
    return int(rank)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="gelora_viz.training.worker", description="Train one run.")
    parser.add_argument("run_dir", help="folder with spec.json; everything else is written there")
    parser.add_argument("--processes", type=int, default=1, help="number of processes that train this run together")
    parser.add_argument("--queue", type=Queue.from_json, help="place in this machine's queue, from launch")
    parser.add_argument(
        "--with-parent", action="store_true", help="end when standard input does, as the parent has died"
    )
    parser.add_argument("--trust-remote-code", action="store_true", help="run Python code that comes with the model")
    return parser


def _lead(folder: RunFolder, options: argparse.Namespace) -> int:
    """Wait for a turn, train, and record in the folder how it ended."""
    with listen_to_signals(folder, has_parent=options.with_parent) as heard:
        try:
            _stop_if_asked(folder)  # while this process was starting
            with _heartbeat(folder):
                if options.queue is not None:
                    _wait_for_turn(folder, options.queue)
                folder.write_status("running")
                status, message, code = _train(folder, options)
            if status == "finished":
                message = _take_place(folder)
        except StoppedEarly:
            status, message, code = "cancelled", "", 0
        except GeloraVizError as error:
            status, message, code = "failed", str(error), UNUSABLE
        if status == "cancelled" and signal.SIGINT in heard:
            message = "stopped by Ctrl-C (SIGINT)"
        with suppress(
            StudyError
        ):  # not even the reserve was enough, or the folder is gone; watchers see a dead worker
            folder.write_status(status, message)
    return code


def _check_ticket(folder: RunFolder, queue: Queue | None) -> None:
    """Raise `RunError` if the run has been launched again since this worker was started for it."""
    if queue is not None and folder.is_launched_anew(queue.ticket):
        raise RunError(f"the run in {folder.path} has been launched again, and waits for its turn")


def _wait_for_turn(folder: RunFolder, queue: Queue) -> None:
    """Take the slot that this worker has been started for."""
    folder.write_status("queued")
    slot = queue.wait_for_slot(str(folder.path))
    if slot.gpus is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = slot.gpus
    _stop_if_asked(folder)


def _take_place(folder: RunFolder) -> str:
    """Put a finished replacement in its place; returns why it could not be put there, if so."""
    from gelora_viz.runs import take_place

    try:
        folder.path = take_place(folder.path)
    except OSError as error:
        return f"finished, but it could not take the place of the other run ({error}); both are kept"
    return ""


def _load_spec(folder: RunFolder, options: argparse.Namespace) -> RunSpec:
    """What to train. The consent to run a model's code comes from whoever started this process, not from the file."""
    from gelora_viz.runs import RunSpec

    spec = RunSpec.load(folder.path / "spec.json")
    return dataclasses.replace(spec, trust_remote_code=options.trust_remote_code)


def _stop_if_asked(folder: RunFolder) -> None:
    if folder.is_asked_to_stop:
        raise StoppedEarly


def _train(folder: RunFolder, options: argparse.Namespace) -> tuple[str, str, int]:
    """(status, message, exit status) of the training."""
    from gelora_viz.training.processes import Companions
    from gelora_viz.training.trainer import train

    companions = Companions(folder, options.processes, trust_remote_code=options.trust_remote_code)
    try:
        spec = _load_spec(folder, options)
        with companions:
            finished = train(spec, folder)
    except Exception as error:  # noqa: BLE001 - whatever it was, the study must be able to say it
        message, code = explain(error, folder.path)
        with suppress(OSError):
            traceback.print_exc()
        return "failed", companions.cause() or message, code
    return ("finished" if finished else "cancelled"), "", 0


def _train_along(folder: RunFolder, options: argparse.Namespace) -> int:
    """Train as one of several processes of a run, but not the first, which alone writes into the folder."""
    from gelora_viz.training.processes import join
    from gelora_viz.training.trainer import train

    if options.with_parent:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the first process too
    try:
        join()
        # From here on the first process decides when to stop, and all stop together.
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        train(_load_spec(folder, options), folder)
    except Exception as error:  # noqa: BLE001 - it ends up in the log of all processes
        with suppress(OSError):
            traceback.print_exc()
        return explain(error, folder.path)[1]
    return 0


@contextmanager
def _heartbeat(folder: RunFolder) -> Iterator[None]:
    """Send heartbeats while the block runs."""
    ended = threading.Event()

    def beat() -> None:
        while not ended.wait(_HEARTBEAT):
            folder.send_heartbeat()

    threading.Thread(target=beat, daemon=True).start()
    try:
        yield
    finally:
        ended.set()


def _end_with_parent(folder: RunFolder | None) -> None:
    """End this process when its standard input ends, which a live parent keeps open."""
    sys.stdin.buffer.read()
    if folder is not None:
        status = "cancelled" if folder.is_asked_to_stop else "failed"
        with suppress(StudyError):
            folder.write_status(status, "the process that started the worker was killed")
    end_at_once(1)


if __name__ == "__main__":
    status = main()
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError):
            stream.flush()
    end_at_once(status)  # everything is written; Python would take seconds to take torch apart
