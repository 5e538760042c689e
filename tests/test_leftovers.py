"""Whatever a test session launches ends with it, also where the session is killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

SESSION = """
import os, subprocess, sys
os.environ["GELORA_VIZ_TEST_SESSION"] = sys.argv[2]
sleeper = [sys.executable, "-c", "import time; time.sleep(600)"]
launched = subprocess.Popen(sleeper, start_new_session=True)
subprocess.Popen([sys.executable, sys.argv[1], sys.argv[2]], stdin=subprocess.PIPE, start_new_session=True)
print(launched.pid, flush=True)
sys.stdin.read()
"""


@pytest.mark.parametrize("ending", [signal.SIGKILL, signal.SIGTERM])
def test_a_process_in_a_session_of_its_own_ends_with_the_tests_that_launched_it(ending):
    script = str(Path(__file__).with_name("end_leftovers.py"))
    session = subprocess.Popen(
        [sys.executable, "-c", SESSION, script, f"test-{os.getpid()}"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    launched = psutil.Process(int(session.stdout.readline()))
    assert launched.is_running()
    session.send_signal(ending)
    session.wait(30)
    psutil.wait_procs([launched], timeout=30)
    assert not launched.is_running() or launched.status() == psutil.STATUS_ZOMBIE
