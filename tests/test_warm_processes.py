"""A process that is forked instead of started is, to whoever launches it, like any other."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys

import psutil
import pytest
from warm_processes import WarmPopen

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="processes are forked on Linux only")

TELLS = """
import json, os, sys
print(json.dumps({"arguments": sys.argv[1:], "folder": os.getcwd(), "mine": os.environ.get("MINE"),
    "home": os.environ.get("HOME"), "heard": sys.stdin.read(), "session": os.getsid(0) == os.getpid(),
    "name": __name__, "torch": "torch" in sys.modules}))
print("aside", file=sys.stderr)
sys.exit(3)
"""


@pytest.fixture
def tells(tmp_path) -> str:
    """A module that says what it was given."""
    (tmp_path / "tells.py").write_text(TELLS)
    return "tells"


def test_it_has_the_arguments_environment_folder_and_streams_that_it_was_given(tells, tmp_path):
    command = [sys.executable, "-m", tells, "one", "two words"]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    process = WarmPopen(command, **pipes, cwd=tmp_path, env={"MINE": "yes"}, start_new_session=True)
    printed, aside = process.communicate("words")
    assert json.loads(printed) == {
        "arguments": ["one", "two words"], "folder": str(tmp_path), "mine": "yes", "home": None, "heard": "words",
        "session": True, "name": "__main__", "torch": True,
    }  # fmt: skip
    assert (process.returncode, aside) == (3, "aside\n")


def test_it_is_a_child_of_this_process_and_ends_by_signals(tmp_path):
    (tmp_path / "sleeps.py").write_text("import time\nprint('up', flush=True)\ntime.sleep(600)")
    process = WarmPopen([sys.executable, "-m", "sleeps"], cwd=tmp_path, stdout=subprocess.PIPE)
    assert process.stdout.readline() == b"up\n"
    assert psutil.Process(process.pid).ppid() == os.getpid()
    process.kill()
    assert process.wait(timeout=60) == -signal.SIGKILL
    process.stdout.close()


def test_an_error_ends_it_as_it_ends_python(tmp_path):
    (tmp_path / "fails.py").write_text("raise ValueError('no')")
    outcome = WarmPopen([sys.executable, "-m", "fails"], cwd=tmp_path, stderr=subprocess.PIPE, text=True)
    assert outcome.communicate()[1].endswith("ValueError: no\n")
    assert outcome.returncode == 1


@pytest.mark.cold
def test_what_is_marked_cold_starts_from_nothing(tells, tmp_path):
    command = [sys.executable, "-m", tells]
    process = WarmPopen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, cwd=tmp_path)
    assert not json.loads(process.communicate()[0])["torch"]
