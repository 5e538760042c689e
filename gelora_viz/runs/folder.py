"""A run's folder: the protocol between a worker and its watchers, as files that outlive both.

spec.json          what to do, written by `launch`
status.json        queued | running | finished | failed | cancelled, the cause of a failure, and whose death ends it
metrics.jsonl      one line per logged step
cancel             its presence asks the worker to stop after the current step
adapter/           the adapter in PEFT's format, head.safetensors next to it; after full fine-tuning, the whole model
predictions.json   label and prediction of every test text, or its tokens and how likely they were
spectrum.json      effective rank of every update
spectra.json       the same while it trained, where the specification asks for it
result.json        the final numbers; written last, so that its presence means everything else is there
log.txt            whatever the worker printed
replaces-another   its presence says that the run takes the place of a finished one when it has finished too
lock               held by whoever launches into the folder or trains in it, so that there is one at a time
"""

from __future__ import annotations

import errno
import hashlib
import json
import math
import os
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gelora_viz._locks import FileLock
from gelora_viz._reading import Fields, is_number, naming_file, parse_json, remove
from gelora_viz._results import read_json, write_json
from gelora_viz.errors import RunError, StudyError
from gelora_viz.runs.liveness import began_before_boot, check_process, identify, is_alive, is_here, send_signal

if TYPE_CHECKING:
    import pandas as pd  # imported where it is needed: a waiting worker looks after its folder without it

_STATUS = "run status"
RESULT = "run result"
PREDICTIONS = "predictions"
METRICS = (
    "step", "loss", "learning_rate", "seconds", "eval_loss", "eval_accuracy", "eval_f1", "eval_perplexity",
    "tokens_per_second", "memory_mb", "gpu_memory_mb", "eta_seconds",
)  # fmt: skip
"""Columns of the metrics, NaN where a row has no such number."""
ENDED = ("finished", "failed", "cancelled")
_WRITTEN_BY_WORKER = (
    "result.json", "status.json", "metrics.jsonl", "cancel", "adapter", "predictions.json", "spectrum.json",
    "spectra.json", "log.txt", "trainer", ".reserve",
)  # fmt: skip
_REPLACEMENT = "replaces-another"
_RESERVE_BYTES = 1 << 16
_NO_SPACE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class RunFolder:
    """Typed access to the files of one run."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self.is_training = False
        """Whether this process has begun to train, and has something to save when it is asked to stop."""
        self.is_signaled = False
        """Whether this process has been asked to stop by a signal; a full disk may have no room for the file."""
        self._rows: list[dict[str, float | None]] = []
        self._read_up_to = 0

    # One at a time

    @contextmanager
    def claim(self, patience: float = 10.0) -> Iterator[None]:
        """Lock the folder, so that no other process launches into it or trains in it.

        Args:
            patience: seconds to wait for a holder that may be about to release it.

        Raises:
            RunError: if a live worker holds it, or it is not released in that time.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        lock = FileLock(self.path / "lock")
        deadline = time.monotonic() + patience
        while not lock.acquire():
            if self.has_other_worker or time.monotonic() > deadline:
                raise RunError(f"a run is going on in {self.path}; cancel it, or choose another folder")
            time.sleep(0.02)
        try:
            yield
        finally:
            lock.release()

    def clear(self) -> None:
        """Remove what an earlier run left, its result first, and nothing else."""
        self._rows, self._read_up_to = [], 0
        for name in (*_WRITTEN_BY_WORKER, _REPLACEMENT):
            remove(self.path / name)

    # Replacing a finished run

    @property
    def is_replacement(self) -> bool:
        """Whether the run is to take the place of a finished one (see places.py)."""
        return (self.path / _REPLACEMENT).exists()

    def mark_as_replacement(self, *, is_one: bool = True) -> None:
        """Say so, or that it has taken the place."""
        if is_one:
            (self.path / _REPLACEMENT).touch()
        else:
            (self.path / _REPLACEMENT).unlink(missing_ok=True)

    # Status

    def write_status(self, status: str, message: str = "", *, who: Mapping[str, Any] | None = None) -> None:
        """Record a status, and the process whose death would end the run: by default the worker, this process.

        On a full disk the reserved space is freed, so that the cause can still be recorded.

        Raises:
            StudyError: if it cannot be written, or the folder has been removed, which then stays so.
        """
        content = {"status": status, "message": message, **(who or {**identify(), "is_worker": True})}
        try:
            content["folder"] = self.path.stat().st_ino
        except FileNotFoundError as error:
            raise StudyError(f"{self.path} has been removed; launch the run again") from error
        try:
            write_json(self.path / "status.json", _STATUS, content)
        except StudyError as error:
            reserve = self.path / ".reserve"
            if not (is_full(error.__cause__) and reserve.exists()):
                raise
            reserve.unlink()
            write_json(self.path / "status.json", _STATUS, content)

    def read_status(self) -> tuple[str, str]:
        """(status, message). A worker that died without a report has failed; a run with a result has finished."""
        document = self._status_document()
        if document is None:
            return ("failed", "its folder has been removed") if self.is_removed else ("queued", "")
        if not self._is_over(document):
            return document["status"], document["message"]
        document = self._status_document() or document  # it may have ended between the two looks
        if document["status"] != "finished" and (self.path / "result.json").exists():
            return "finished", ""
        if document["status"] in ENDED:
            return document["status"], document["message"]
        if (self.path / "cancel").exists():
            trained = document["status"] == "running"
            return "cancelled", "killed before the trained weights were saved" if trained else ""
        return "failed", self._cause_of_death(document)

    @property
    def is_going_on(self) -> bool:
        """Whether a run is waiting or training here, as far as the files tell."""
        document = self._status_document()
        return document is not None and not self._is_over(document)

    @property
    def has_other_worker(self) -> bool:
        """Whether a live worker other than this process is working here."""
        document = self._status_document()
        if document is None or self._is_over(document) or not document["is_worker"]:
            return False
        return not (is_here(document) and document["pid"] == os.getpid())

    @property
    def worker_pid(self) -> int | None:
        """Process id of a live worker on this machine whose run has not ended yet."""
        document = self._status_document()
        if document is None or self._is_over(document) or not (document["is_worker"] and is_here(document)):
            return None
        return int(document["pid"])

    @property
    def has_worker(self) -> bool:
        """Whether a worker has been started for the run, alive or not."""
        document = self._status_document()
        return document is not None and bool(document["is_worker"])

    def is_waiting(self, ticket: str) -> bool:
        """Whether the run waits for its turn with this ticket, no later one, and has not been withdrawn."""
        try:
            document = self._status_document()
        except StudyError:
            return False
        if document is None or self.is_asked_to_stop:
            return False
        return document["status"] == "queued" and document.get("ticket") == ticket

    def is_launched_anew(self, ticket: str) -> bool:
        """Whether the run has been launched again since a worker was started for it with this ticket."""
        document = self._status_document()
        return document is not None and document.get("ticket", ticket) != ticket

    @property
    def queue(self) -> tuple[Path, str] | None:
        """Folder of the queue that the run waits in, and its ticket; None for a run that waits in none."""
        document = self._status_document()
        if document is None or document["status"] != "queued" or not isinstance(document.get("queue"), str):
            return None
        return Path(document["queue"]), str(document.get("ticket"))

    @property
    def host(self) -> str | None:
        """The machine that the run is waiting or training on, if known."""
        document = self._status_document()
        return None if document is None else document["host"]

    def _status_document(self) -> dict[str, Any] | None:
        file = self.path / "status.json"
        if not file.exists():
            return None
        document = read_json(file, _STATUS)
        with naming_file(file, _STATUS):
            check_process(document)
            fields = Fields(document, _STATUS)
            fields.text("status")
            fields.text("message")
            fields.truth("is_worker")
        return document

    def _is_over(self, document: Mapping[str, Any]) -> bool:
        if document["status"] in ENDED:
            return True
        # A cluster that has not found a place for the worker yet names no process.
        return document["pid"] is not None and not is_alive(document, self.path / "status.json")

    def record_death(self, how: str, pid: int | None = None) -> None:
        """Keep how the worker died, in a few words, unless it has said itself what became of the run.

        Args:
            how: such as "killed by SIGSEGV".
            pid: number of the worker that did; None for whichever the status names.
        """
        document = self._status_document()
        if document is None or document["status"] in ENDED or pid not in (None, document["pid"]):
            return
        if (self.path / "result.json").exists() or (self.path / "cancel").exists():
            return  # `read_status` says finished or cancelled
        self.write_status("failed", self._cause_of_death(document, how))

    def _cause_of_death(self, document: Mapping[str, Any], how: str = "killed, or out of memory?") -> str:
        log = self.path / "log.txt"
        if document["status"] == "queued":
            if began_before_boot(document):
                return "the machine was restarted before the run began; launch it again"
            if "queue" in document:
                return "the process that starts runs when their turn comes was killed; launch it again"
            return f"the worker died before the run began ({how}); see {log}, or launch it again"
        if not is_here(document):
            return f"the worker on {document['host']} has stopped sending heartbeats; see {log}"
        if began_before_boot(document):
            return f"the machine was restarted during training; see {log}, or launch it again"
        return f"the worker died without reporting why ({how}); see {log}"

    def send_heartbeat(self) -> None:
        """Tell watchers on other machines that this process, which wrote the status, is alive."""
        with suppress(OSError):
            os.utime(self.path / "status.json")

    # Asking the worker to stop

    def ask_to_stop(self) -> None:
        """Ask the worker to stop after its current step, through a file and, on this machine, a signal."""
        with suppress(OSError):  # a full disk; the signal tells it too
            # Where somebody has put a link in the file's place, nothing is made where it leads.
            os.close(os.open(self.path / "cancel", os.O_CREAT | os.O_WRONLY | getattr(os, "O_NOFOLLOW", 0), 0o666))
        self._signal_worker("SIGTERM")
        self._signal_worker("SIGCONT", to_children=True)  # a process that somebody has halted would never answer

    @property
    def is_asked_to_stop(self) -> bool:
        """Whether somebody asked, or has removed the folder."""
        return self.is_signaled or (self.path / "cancel").exists() or self.is_removed

    @property
    def is_removed(self) -> bool:
        """Whether the folder is no longer there."""
        return not self.path.is_dir()

    def kill_worker(self) -> None:
        """End the worker at once, with all of its processes, if it is on this machine."""
        self._signal_worker("SIGKILL", to_children=True)

    def _signal_worker(self, name: str, *, to_children: bool = False) -> None:
        """Send it a signal. A status that was copied here from another folder speaks of that folder's worker."""
        document = self._status_document()
        if document is None or document["status"] in ENDED or not document["is_worker"]:
            return
        with suppress(OSError):
            if document.get("folder") == self.path.stat().st_ino:
                send_signal(document, name, to_children=to_children)

    # What the worker leaves

    @contextmanager
    def reserve_disk_space(self) -> Iterator[None]:
        """Keep a little disk space that `write_status` can free when the disk is full."""
        with suppress(OSError):
            (self.path / ".reserve").write_bytes(os.urandom(_RESERVE_BYTES))  # nothing that could be compressed
        try:
            yield
        finally:
            with suppress(OSError):
                (self.path / ".reserve").unlink(missing_ok=True)  # the folder may have moved

    @contextmanager
    def write_whole(self, name: str) -> Iterator[Path]:
        """A folder to write into, which gets its name once it is complete, so that no partial one is ever seen."""
        target, unfinished = self.path / name, self.path / f".{name}.unfinished"
        remove(unfinished)
        unfinished.mkdir()
        try:
            yield unfinished
            remove(target)
            unfinished.rename(target)
        except BaseException:
            shutil.rmtree(unfinished, ignore_errors=True)
            raise

    def append_metrics(self, row: Mapping[str, float]) -> None:
        """Add one line to metrics.jsonl; a number that is not finite becomes null."""
        with (self.path / "metrics.jsonl").open("a", encoding="utf-8") as stream:
            finite = {name: value if math.isfinite(value) else None for name, value in row.items()}
            stream.write(json.dumps(finite) + "\n")

    def read_rows(self) -> list[dict[str, float | None]]:
        """All complete lines of metrics.jsonl; only lines added since the last call are read."""
        file = self.path / "metrics.jsonl"
        try:
            with file.open("rb") as stream:
                if os.fstat(stream.fileno()).st_size < self._read_up_to:  # another run's
                    self._rows, self._read_up_to = [], 0
                stream.seek(self._read_up_to)
                new = stream.read()
        except FileNotFoundError:
            self._rows, self._read_up_to = [], 0
            return []
        complete = new[: new.rfind(b"\n") + 1]
        self._read_up_to += len(complete)
        for line in complete.splitlines():
            with suppress(ValueError):
                row = parse_json(line)
                if _is_row(row):
                    self._rows.append(row)
        return self._rows

    def read_metrics(self) -> pd.DataFrame:
        """All complete lines of metrics.jsonl, with the columns `METRICS`."""
        import pandas as pd

        return pd.DataFrame(self.read_rows(), columns=METRICS)

    def write_predictions(
        self, texts: list[str], label: list[str], predicted: list[str], group: list[str | None]
    ) -> None:
        """Save the label and prediction of every test text, and a fingerprint of the texts."""
        self._write_predictions(texts, {"label": label, "predicted": predicted, "group": group})

    def write_likelihoods(
        self, texts: list[str], n_tokens: list[int], nll: list[float], group: list[str | None]
    ) -> None:
        """Save the number of predicted tokens and their summed negative log-likelihood for every test text."""
        self._write_predictions(texts, {"n_tokens": n_tokens, "nll": nll, "group": group})

    def _write_predictions(self, texts: list[str], columns: Mapping[str, Any]) -> None:
        digest = hashlib.sha256("\0".join(texts).encode()).hexdigest()[:16]
        write_json(self.path / "predictions.json", PREDICTIONS, {"texts": digest, **columns})

    def write_result(self, numbers: Mapping[str, Any], *, data: str = "") -> None:
        """Write the final numbers and the data's `RunSpec.data_digest`; call it last."""
        write_json(self.path / "result.json", RESULT, {"numbers": dict(numbers), "data": data})


def _is_row(row: object) -> bool:
    """Whether a line of metrics.jsonl holds the numbers of a step, as `append_metrics` writes them."""
    return (
        isinstance(row, dict)
        and is_number(row.get("step"))
        and all(value is None or is_number(value) for value in row.values())
    )


def is_full(error: BaseException | None) -> bool:
    """Whether the operating system reports that no disk space is left."""
    return isinstance(error, OSError) and error.errno in _NO_SPACE


def last_of(rows: Sequence[Mapping[str, float | None]], column: str) -> float | None:
    """The last number logged in a column; None if there is none."""
    return next((row[column] for row in reversed(rows) if row.get(column) is not None), None)
