"""Whose death ends a run, and who alone gets its signals: never a process that only looks like the worker."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
from contextlib import suppress

import psutil
import pytest

from gelora_viz import Run, attach
from gelora_viz.errors import StudyError
from gelora_viz.runs import RunFolder
from gelora_viz.runs.liveness import SILENCE, identify, is_alive


@pytest.fixture
def process():
    """A process of this user's that has nothing to do with any run."""
    started = subprocess.Popen(["sleep", "60"])
    yield started
    started.kill()
    started.wait()


@pytest.fixture
def folder(spec_of, tmp_path):
    spec_of("run").save(tmp_path / "run" / "spec.json")
    return RunFolder(tmp_path / "run")


def rewrite(file, **changes):
    file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))


# On this machine


def test_a_process_lives_until_it_has_ended_and_is_known_by_boot_and_start(process, tmp_path):
    who = identify(process.pid)
    assert is_alive(who, tmp_path / "none")
    for change in ({"boot": "another"}, {"boot": None}, {"started": who["started"] + 1}, {"pid": True}, {"pid": -1}):
        assert not is_alive({**who, **change}, tmp_path / "none"), change
    os.kill(process.pid, 9)
    while psutil.Process(process.pid).status() != psutil.STATUS_ZOMBIE:
        time.sleep(0.01)
    assert not is_alive(who, tmp_path / "none")  # nobody has waited for it yet
    process.wait()
    assert not is_alive(who, tmp_path / "none")
    with pytest.raises(psutil.NoSuchProcess):
        identify(process.pid)


def test_a_step_of_the_clock_changes_no_state(folder, process, monkeypatch):
    folder.write_status("running", who={**identify(process.pid), "is_worker": True})
    for step in (-86400.0, 0.0, 86400.0):
        now = time.time() + step
        monkeypatch.setattr("time.time", lambda now=now: now)
        monkeypatch.setattr(psutil, "boot_time", lambda now=now: now)
        assert folder.read_status() == ("running", "")


def test_without_proc_a_process_is_known_by_the_time_of_its_start(process, tmp_path, monkeypatch):
    monkeypatch.setattr("gelora_viz.runs.liveness._BOOT_ID", tmp_path / "none")
    who = identify(process.pid)
    assert who["boot"] is None
    assert is_alive(who, tmp_path / "none")
    assert not is_alive({**who, "started": who["started"] - 0.5}, tmp_path / "none")


# Signals


CRAFTED = {
    "another boot": {"boot": "0f0e1c7e-0000-4000-8000-000000000000"},
    "no boot": {"boot": None},
    "another start": {"started": 1},
    "the first process": {"pid": 1},
    "a process group": {"pid": -1},
    "no process": {"pid": 0},
    "true": {"pid": True},
}


@pytest.mark.parametrize("changes", CRAFTED.values(), ids=CRAFTED)
def test_a_crafted_status_ends_no_innocent_process(folder, process, changes):
    folder.write_status("running", who={**identify(process.pid), "is_worker": True, **changes})
    with suppress(StudyError):  # where that can be the number of no process
        attach(folder.path).cancel(grace=0)
        folder.kill_worker()
    time.sleep(0.1)
    assert process.poll() is None


def test_a_status_that_was_copied_to_another_folder_ends_nobody_there(folder, process, tmp_path):
    folder.write_status("running", who={**identify(process.pid), "is_worker": True})
    shutil.copytree(folder.path, tmp_path / "copy")
    copy = Run(tmp_path / "copy")
    copy.cancel(grace=0)
    time.sleep(0.1)
    assert process.poll() is None
    folder.path.rename(tmp_path / "moved")
    attach(tmp_path / "moved").cancel(grace=0)
    assert process.wait(10) < 0


def test_a_process_of_another_user_gets_no_signal(folder, process, monkeypatch):
    folder.write_status("running", who={**identify(process.pid), "is_worker": True})
    monkeypatch.setattr("os.getuid", lambda: 12345)
    attach(folder.path).cancel(grace=0)
    time.sleep(0.1)
    assert process.poll() is None


@pytest.mark.parametrize("changes", [{"pid": "12"}, {"host": 3}, {"status": None}, {"is_worker": 1}, {"started": []}])
def test_a_status_of_another_shape_is_refused_with_the_file_s_name(folder, changes):
    folder.write_status("running")
    rewrite(folder.path / "status.json", **changes)
    (name,) = changes
    with pytest.raises(
        StudyError, match=rf"cannot use the run status in .*status\.json: {name} of the .* is .*, not a"
    ):
        folder.read_status()


# On another machine


@pytest.fixture
def elsewhere(folder):
    """A run whose worker is on another machine, and whose last heartbeat has come just now."""
    folder.write_status("running", who={**identify(), "host": "elsewhere", "pid": 1, "is_worker": True})
    return folder


def test_a_worker_on_another_machine_lives_as_long_as_it_sends_heartbeats(elsewhere):
    assert elsewhere.read_status() == ("running", "")
    assert elsewhere.worker_pid is None  # nobody here to send a signal to
    silent = time.time() - SILENCE - 60
    os.utime(elsewhere.path / "status.json", (silent, silent))
    status, message = elsewhere.read_status()
    assert status == "failed"
    assert "the worker on elsewhere has stopped sending heartbeats" in message
    elsewhere.send_heartbeat()
    assert elsewhere.read_status() == ("running", "")
    assert {file.name for file in elsewhere.path.iterdir()} == {"spec.json", "status.json"}


@pytest.mark.parametrize("skew", [-7200.0, 7200.0])
@pytest.mark.parametrize(("silent", "status"), [(SILENCE - 20, "running"), (SILENCE + 20, "failed")])
def test_clocks_of_two_machines_need_not_agree(elsewhere, monkeypatch, skew, silent, status):
    last = time.time() - silent
    os.utime(elsewhere.path / "status.json", (last, last))
    there = time.time
    monkeypatch.setattr("time.time", lambda: there() + skew)  # this machine's; the file system keeps its own
    assert elsewhere.read_status()[0] == status


def test_where_nothing_can_be_written_this_machine_s_clock_tells_the_age_of_heartbeats(elsewhere, monkeypatch):
    def refuse(**_options):
        raise PermissionError

    monkeypatch.setattr("tempfile.mkstemp", refuse)
    assert elsewhere.read_status() == ("running", "")
    now = time.time()
    monkeypatch.setattr("time.time", lambda: now + SILENCE + 20)
    assert elsewhere.read_status()[0] == "failed"
