"""End what a test session has launched and left running, once the session itself has ended: `end_leftovers.py ID`.

Waits until standard input ends, which it does with the session, however that ended; then every process whose
environment names the session is killed.
"""

from __future__ import annotations

import os
import signal
import sys
from contextlib import suppress

import psutil


def leftovers(session: str) -> list[psutil.Process]:
    """The processes of a session, but for this one."""
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error, OSError):
            if process.pid != os.getpid() and process.environ().get("GELORA_VIZ_TEST_SESSION") == session:
                found.append(process)
    return found


def main() -> None:
    """Wait, then kill; new ones may be started by those that are about to be killed, so look again."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is meant for the session, and ends standard input
    sys.stdin.buffer.read()
    for _ in range(5):
        remaining = leftovers(sys.argv[1])
        for process in remaining:
            with suppress(psutil.Error):
                process.kill()
        if not remaining:
            return
        psutil.wait_procs(remaining, timeout=5)


if __name__ == "__main__":
    main()
