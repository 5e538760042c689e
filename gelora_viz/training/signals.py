"""What a worker does when it is told to stop: it always ends, also while it imports, waits or joins the others."""

from __future__ import annotations

import os
import select
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import NoReturn

import psutil

from gelora_viz.errors import StudyError
from gelora_viz.runs import RunFolder

# No torch up here: a worker listens before it has imported it.

_ANSWER = 5.0
"""Seconds after a signal in which a worker that does not train yet ends by itself. Python hears of a signal between
two of its own steps, and code of other libraries, such as a wait for another process, may keep it from there."""


class StoppedEarly(BaseException):
    """Somebody asked the worker to stop before there was anything to keep."""


@contextmanager
def listen_to_signals(folder: RunFolder, *, has_parent: bool) -> Iterator[set[int]]:
    """Stop after the current step on SIGTERM, or on Ctrl-C (SIGINT), and at once where nothing is trained yet.

    Args:
        folder: the run's folder.
        has_parent: whether a process holds the other end of standard input; a signal counts while that lives.

    Yields:
        The signals that have come.

    Raises:
        StoppedEarly: in the block, where nothing is trained yet, or on a second Ctrl-C.
    """
    heard: set[int] = set()

    def stop(number: int, _frame: FrameType | None) -> None:
        if has_parent and has_lost_its_parent():
            return  # whoever clears up after the parent, as Ray does; nobody has cancelled the run
        insists = number == signal.SIGINT and number in heard
        heard.add(number)
        folder.is_signaled = True
        with suppress(OSError):
            (folder.path / "cancel").touch()  # for all processes of the run
        if insists or not folder.is_training:
            raise StoppedEarly

    # A process that a shell has started in the background ignores Ctrl-C, and goes on to.
    numbers = [signal.SIGTERM, *([signal.SIGINT] if signal.getsignal(signal.SIGINT) != signal.SIG_IGN else [])]
    before = {number: signal.signal(number, stop) for number in numbers}
    told, tell = os.pipe()
    os.set_blocking(tell, False)
    other = signal.set_wakeup_fd(tell, warn_on_full_buffer=False)  # written to by the system, whatever Python does
    threading.Thread(target=_end_if_stuck, args=(folder, told, has_parent), daemon=True).start()
    try:
        yield heard
    finally:
        signal.set_wakeup_fd(other)
        os.close(tell)
        for number, handler in before.items():
            signal.signal(number, handler)


def _end_if_stuck(folder: RunFolder, told: int, has_parent: bool) -> None:
    """End this process if it has been told to stop, does not train, and does not end by itself."""
    with open(told, "rb", buffering=0) as signals:
        while number := signals.read(1):
            if number[0] not in (signal.SIGTERM, signal.SIGINT) or (has_parent and has_lost_its_parent()):
                continue
            deadline = time.monotonic() + _ANSWER
            while not folder.is_training and time.monotonic() < deadline:
                if select.select([signals], [], [], 0.1)[0] and not signals.read(1):
                    return  # it has ended its run
            if not folder.is_training:
                with suppress(StudyError):
                    folder.write_status("cancelled", "it was stopped while it waited for something else")
                end_at_once(1)


def end_at_once(status: int) -> NoReturn:
    """End this process, and those that it has started, also halted ones."""
    with suppress(psutil.Error):
        for child in psutil.Process().children(recursive=True):
            with suppress(psutil.Error):
                child.kill()
    os._exit(status)


def has_lost_its_parent() -> bool:
    """Whether the other end of standard input is closed, or is closed at this moment."""
    if not hasattr(select, "poll"):
        return False  # on Windows, where nobody sends this signal either
    standard_input = select.poll()
    standard_input.register(sys.stdin, 0)  # its end is told without being asked for
    return bool(standard_input.poll(100))  # in ms: the signal may come as soon as the parent's files are closed
