"""Workers that start in a quarter of a second, since instead of training they wait to be told to finish.

Everything else of them is real: process, signals, queue, status. A folder on PYTHONPATH makes Python put the modules
below in the place of those that need torch.
"""

from __future__ import annotations

import os
from pathlib import Path

import psutil
import pytest
from warm_processes import WarmPopen
from watching import wait_until

from gelora_viz import Run
from gelora_viz.runs import dispatching

STAND_INS = """
import ctypes, dataclasses, os, subprocess, sys, time, types
from pathlib import Path

if "gelora_viz.training.worker" in sys.orig_argv:

    @dataclasses.dataclass
    class RunSpec:
        trust_remote_code: bool = False

        @classmethod
        def load(cls, path):
            return cls()

    class Companions:
        def __init__(self, *_, **__): pass
        def __enter__(self): pass
        def __exit__(self, *_): pass
        def cause(self): pass

    def train(spec, folder):
        with open(os.environ["QUICK_WORKERS_LOG"], "a") as log:
            log.write(f"{folder.path.name} {os.environ.get('CUDA_VISIBLE_DEVICES')} {spec.trust_remote_code}\\n")
        mode = os.environ.get("QUICK_WORKERS_MODE")
        if mode == "deaf":  # as in a wait for another process that is written in C
            import gelora_viz.training.signals

            gelora_viz.training.signals._ANSWER = 0.3
            mutex = (ctypes.c_char * 64)()
            ctypes.CDLL(None).pthread_mutex_lock(mutex)
            ctypes.CDLL(None).pthread_mutex_lock(mutex)
        if mode == "with a child":
            subprocess.Popen(["sleep", "60"])
        folder.is_training = True
        while mode == "in a long step":
            time.sleep(0.02)
        while not (folder.path / "finish").exists():
            if folder.is_asked_to_stop:
                return False
            time.sleep(0.02)
        folder.write_result({})
        return True

    def stand_in(name, **content):
        sys.modules[name] = types.ModuleType(name)
        vars(sys.modules[name]).update(content)

    stand_in("gelora_viz.runs.spec", RunSpec=RunSpec)
    stand_in("gelora_viz.training.processes", Companions=Companions)
    stand_in("gelora_viz.training.trainer", train=train)
"""


class QuickWorkers:
    """What the workers of a test have done."""

    def __init__(self, log: Path) -> None:
        self._log = log

    @property
    def begun(self) -> list[str]:
        """Names of the runs that have begun to train, in that order."""
        return [line.split()[0] for line in self.lines]

    @property
    def lines(self) -> list[str]:
        """Name, CUDA_VISIBLE_DEVICES and consent to a model's code of each."""
        return self._log.read_text().splitlines() if self._log.exists() else []

    def finish(self, run: Run) -> None:
        """Let a run end."""
        (run.path / "finish").touch()
        wait_until(lambda: run.status == "finished", 20)


@pytest.fixture
def quick_workers(tmp_path, monkeypatch):
    """Workers that are launched in the test only pretend to train."""
    folder = tmp_path / "stand_ins"
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(STAND_INS)
    path = [str(folder), str(Path(__file__).parents[1]), *filter(None, [os.environ.get("PYTHONPATH")])]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(path))
    monkeypatch.setenv("QUICK_WORKERS_LOG", str(tmp_path / "begun"))
    monkeypatch.setattr(WarmPopen, "is_on", False)  # they need none of the libraries that others are forked for
    # pytest changes it from a test's fixtures to the test, which are one environment to us.
    monkeypatch.setattr(dispatching, "_VOLATILE", (*dispatching._VOLATILE, "PYTEST_CURRENT_TEST"))
    yield QuickWorkers(tmp_path / "begun")
    for process in processes_of(tmp_path):
        process.kill()


def processes_of(folder: Path, module: str = "gelora_viz") -> list[psutil.Process]:
    """The living processes that run a module of ours on something in a folder."""
    found = []
    for process in psutil.process_iter(["cmdline", "status"]):
        words = process.info["cmdline"] or []
        if any(word.startswith(module) for word in words) and any(str(folder) in word for word in words):
            found.append(process)
    return found
