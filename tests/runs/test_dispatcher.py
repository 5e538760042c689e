"""Runs that wait have no process of their own: a small one starts them when their turn comes, whatever is killed."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time

import pytest
from quick_workers import processes_of
from typer.testing import CliRunner
from watching import wait_until, worker_of

from gelora_viz import LocalExecutor, attach, launch, list_runs, relaunch
from gelora_viz._locks import FileLock
from gelora_viz.cli import app
from gelora_viz.errors import RunError
from gelora_viz.runs.queue import Slot, read_tickets

DISPATCHER, WORKER = "gelora_viz.runs.dispatcher", "gelora_viz.training.worker"


@pytest.fixture
def start(quick_workers, spec_of, tmp_path):
    """`start("name")`: a run that waits for the one slot of the test's queue."""

    def launch_one(name, slots=1, **differing):
        executor = LocalExecutor(at_once=slots, queue=tmp_path / "queue")
        return launch(spec_of(name, **differing), run_dir=tmp_path / "runs" / name, executor=executor)

    return launch_one


@pytest.fixture
def crowd(start, quick_workers):
    """A run that trains, and three that wait for its slot."""
    runs = [start(name) for name in ("first", "second", "third", "fourth")]
    wait_until(lambda: quick_workers.begun == ["first"], 20)
    return runs


def test_runs_that_wait_share_one_small_process_and_train_in_the_order_of_launching(crowd, quick_workers, tmp_path):
    assert [run.status for run in crowd] == ["running", "queued", "queued", "queued"]
    (dispatcher,) = processes_of(tmp_path, DISPATCHER)
    assert dispatcher.memory_info().rss < 40e6
    assert len(processes_of(tmp_path, WORKER)) == 1
    for run in crowd:
        wait_until(lambda run=run: run.status == "running", 20)
        assert len(processes_of(tmp_path, WORKER)) <= 2  # the one before may be about to end
        quick_workers.finish(run)
    assert quick_workers.begun == ["first", "second", "third", "fourth"]
    wait_until(lambda: not processes_of(tmp_path), 20)
    assert not list(read_tickets(tmp_path / "queue"))


def test_where_there_is_room_a_worker_starts_at_once_without_a_dispatcher(start, quick_workers, tmp_path):
    first, second = start("first", slots=2), start("second", slots=2)
    assert not processes_of(tmp_path, DISPATCHER)
    wait_until(lambda: sorted(quick_workers.begun) == ["first", "second"], 20)
    third = start("third", slots=2)
    assert third.status == "queued"
    quick_workers.finish(second)
    wait_until(lambda: third.status == "running", 20)
    assert first.status == "running"


def test_a_killed_worker_frees_its_slot_at_once_and_the_cause_is_told(crowd, quick_workers):
    first, second, *_ = crowd
    worker_of(first).send_signal(signal.SIGSEGV)
    wait_until(lambda: second.status == "running", 5)
    assert (first.status, attach(first.path).status) == ("failed", "failed")
    assert "died without reporting why (killed by SIGSEGV)" in attach(first.path).message
    worker_of(second).send_signal(signal.SIGKILL)  # this one is the dispatcher's child
    wait_until(lambda: quick_workers.begun == ["first", "second", "third"], 5)
    assert "killed by SIGKILL, perhaps because memory ran out" in attach(second.path).message


def test_a_run_that_waits_is_withdrawn_at_once_by_anybody(crowd, quick_workers, tmp_path):
    first, second, third, _ = crowd
    second.cancel()
    attach(third.path).cancel()
    assert [run.status for run in crowd] == ["running", "cancelled", "cancelled", "queued"]
    assert second.message == third.message == ""
    quick_workers.finish(first)
    wait_until(lambda: quick_workers.begun == ["first", "fourth"], 20)
    assert (second.status, third.status) == ("cancelled", "cancelled")
    wait_until(lambda: not processes_of(tmp_path, DISPATCHER), 20)


def test_a_run_that_was_withdrawn_and_launched_again_comes_last(crowd, quick_workers, tmp_path):
    first, second, third, fourth = crowd
    second.cancel()
    again = relaunch(second.path, executor=LocalExecutor(queue=tmp_path / "queue"))
    assert again.status == "queued"
    for run in (first, third, fourth, again):
        wait_until(lambda run=run: run.status == "running", 20)
        quick_workers.finish(run)
    assert quick_workers.begun == ["first", "third", "fourth", "second"]


def test_a_folder_that_was_removed_while_its_run_waited_does_not_come_back(crowd, quick_workers):
    first, second, third, _ = crowd
    shutil.rmtree(second.path)
    assert (second.status, second.message) == ("failed", "its folder has been removed")
    quick_workers.finish(first)
    wait_until(lambda: third.status == "running", 20)
    assert not second.path.exists()


# What a run waits for


def test_a_run_that_waits_says_behind_which_since_when_and_how_to_end_that_one(crowd, quick_workers, capsys):
    first, second, third, _ = crowd
    wait_until(lambda: "waits behind" in second.message, 5)
    began = time.strftime("%H:%M")
    assert re.fullmatch(
        rf"waits behind {first.path}; first has trained since \d\d:\d\d, and ends with: "
        rf"gelora-viz runs --cancel {first.path}",
        second.message,
    )
    assert second.message.partition("since ")[2][:5] in (
        began,
        time.strftime("%H:%M", time.localtime(time.time() - 60)),
    )
    assert f"waits behind {first.path} and 1 launched before it; first has" in attach(third.path).message
    with pytest.raises(RunError, match=r"'second' is still queued after 0 s; .* \(waits behind .*first"):
        second.wait(timeout=0)
    assert "queued second" in (bar := capsys.readouterr().err)
    assert "waits behind" in bar
    second.cancel()
    assert f"waits behind {first.path}; first" in third.message
    quick_workers.finish(first)
    wait_until(lambda: third.status == "running", 20)
    assert third.message == ""


def test_all_runs_of_this_machine_are_listed_whatever_queue_they_are_in_and_whatever_started_them(
    crowd, quick_workers, spec_of, tmp_path
):
    first, second, third, fourth = crowd
    spec_of("by-hand").save(tmp_path / "elsewhere" / "by-hand" / "spec.json")
    by_hand = subprocess.Popen([sys.executable, "-m", WORKER, "by-hand"], cwd=tmp_path / "elsewhere")
    wait_until(lambda: "by-hand" in quick_workers.begun, 20)
    second.cancel()
    listed = list_runs()
    here = listed[listed["run"].str.startswith(str(tmp_path))].set_index("run")
    assert here["status"].to_dict() == {
        str(first.path): "running", str(tmp_path / "elsewhere" / "by-hand"): "running",
        str(third.path): "queued", str(fourth.path): "queued",
    }  # fmt: skip
    assert set(here["pid"].dropna()) == {worker_of(first).pid, by_hand.pid}
    assert here.loc[str(third.path), "message"].startswith(f"waits behind {first.path};")
    assert here["since"].notna().all()
    by_hand.terminate()
    by_hand.wait(20)
    assert str(tmp_path / "elsewhere" / "by-hand") not in set(list_runs()["run"])


def test_the_command_lists_and_ends_runs(crowd, tmp_path):
    first, second, *_ = crowd
    told = CliRunner().invoke(app, ["runs"])
    assert told.exit_code == 0
    assert "Runs on this machine" in told.output
    ended = CliRunner().invoke(app, ["runs", "--cancel", str(first.path)])
    assert f"{first.path}  cancelled" in ended.output.replace("\n", "")
    wait_until(lambda: second.status == "running", 20)
    told = CliRunner().invoke(app, ["runs", str(tmp_path / "runs")])
    assert [word for word in ("cancelled", "running", "queued") if word in told.output] == [
        "cancelled", "running", "queued",
    ]  # fmt: skip


# A dispatcher that is killed


def kill_dispatcher(tmp_path):
    (dispatcher,) = processes_of(tmp_path, DISPATCHER)
    dispatcher.kill()
    wait_until(lambda: dispatcher not in processes_of(tmp_path, DISPATCHER) or dispatcher.status() == "zombie", 5)


def test_a_process_that_watches_its_run_calls_another_dispatcher_and_the_order_stays(crowd, quick_workers, tmp_path):
    first, second, third, fourth = crowd
    kill_dispatcher(tmp_path)
    told = attach(fourth.path)
    assert told.status == "failed"
    assert told.message == "the process that starts runs when their turn comes was killed; launch it again"
    assert first.status == "running"
    third.status  # noqa: B018 - the look that calls it
    wait_until(lambda: [run.status for run in (second, third, told)] == ["queued"] * 3, 20)
    for run in crowd:
        wait_until(lambda run=run: run.status == "running", 20)
        quick_workers.finish(run)
    assert quick_workers.begun == ["first", "second", "third", "fourth"]


def test_the_next_launch_takes_over_what_waited_and_does_not_jump_the_queue(crowd, quick_workers, start, tmp_path):
    first, *others = [attach(run.path) for run in crowd]
    kill_dispatcher(tmp_path)
    quick_workers.finish(first)
    fifth = start("fifth")
    for run in (*others, fifth):
        wait_until(lambda run=run: run.status == "running", 20)
        quick_workers.finish(run)
    assert quick_workers.begun == ["first", "second", "third", "fourth", "fifth"]


def test_after_a_restart_of_the_machine_nothing_comes_back_by_itself(
    crowd, quick_workers, start, tmp_path, monkeypatch
):
    _, second, *_ = [attach(run.path) for run in crowd]
    for process in processes_of(tmp_path):
        process.kill()
    for file in (*(tmp_path / "queue").rglob("*.json"), *(run.path / "status.json" for run in crowd)):
        document = json.loads(file.read_text())
        file.write_text(json.dumps({**document, "boot": "the one before"}))
    assert second.message == "the machine was restarted before the run began; launch it again"
    start("fifth")
    wait_until(lambda: quick_workers.begun == ["first", "fifth"], 20)
    assert second.status == "failed"


# What is in the queue


def test_no_environment_and_no_consent_is_written_down(start, quick_workers, tmp_path, monkeypatch):
    monkeypatch.setenv("A_TOKEN", "sesame")
    first = start("first")
    wait_until(lambda: quick_workers.begun == ["first"], 20)
    second = start("second", trust_remote_code=True)
    third = start("third")
    assert len(processes_of(tmp_path, DISPATCHER)) == 2  # those who trust a model's code, and those who do not
    for file in (*(tmp_path / "queue").rglob("*"), *(tmp_path / "runs").rglob("*")):
        assert not file.is_file() or b"sesame" not in file.read_bytes(), file
        assert "tickets" not in file.parts or b"trust" not in (b"" if file.is_dir() else file.read_bytes())
    for run in (first, second, third):
        wait_until(lambda run=run: run.status == "running", 20)
        quick_workers.finish(run)
    assert quick_workers.lines == ["first None False", "second None True", "third None False"]


BAD = {
    "no JSON": "{",
    "a list": "[]",
    "nothing": '{"kind": "queue ticket", "schema_version": 1}',
    "a job of another shape": json.dumps({
        "kind": "queue ticket", "schema_version": 1, "host": "x", "boot": None, "pid": 1, "started": 1, "since": 0,
        "run": "x", "slots": [{"locks": ["cpu-0"], "gpus": None}], "job": {"run": "x"},
    }),
    "slots that are none": json.dumps({
        "kind": "queue ticket", "schema_version": 1, "host": "x", "boot": None, "pid": 1, "started": 1, "since": 0,
        "run": "x", "slots": 3, "job": None,
    }),
}  # fmt: skip


def test_tickets_that_say_nothing_that_makes_sense_are_in_nobody_s_way(start, quick_workers, tmp_path):
    (tmp_path / "queue" / "tickets").mkdir(parents=True)
    for name, content in BAD.items():
        (tmp_path / "queue" / "tickets" / f"0 {name}.json").write_text(content)
    run = start("first")
    wait_until(lambda: run.status == "running", 20)
    waiting = start("second")
    quick_workers.finish(run)
    wait_until(lambda: waiting.status == "running", 20)


def test_a_ticket_of_another_user_counts_for_nothing(crowd, tmp_path, monkeypatch):
    assert len(list(read_tickets(tmp_path / "queue"))) == 3
    monkeypatch.setattr("os.getuid", lambda: 12345)
    assert not list(read_tickets(tmp_path / "queue"))


def test_a_run_gets_the_slot_that_is_free_and_its_gpus(quick_workers, spec_of, tmp_path, monkeypatch):
    slots = (Slot(("gpu-0-0",), "0"), Slot(("gpu-1-0",), "1"))
    monkeypatch.setattr(LocalExecutor, "slots", lambda _: slots)
    taken = [FileLock(tmp_path / "queue" / "slots" / slot.locks[0]) for slot in slots]
    assert all(lock.acquire() for lock in taken)
    executor = LocalExecutor(queue=tmp_path / "queue")
    runs = [launch(spec_of(name), run_dir=tmp_path / "runs" / name, executor=executor) for name in ("a", "b")]
    time.sleep(0.5)
    assert quick_workers.begun == []
    taken[1].release()
    wait_until(lambda: quick_workers.lines == ["a 1 False"], 20)
    taken[0].release()
    wait_until(lambda: quick_workers.lines == ["a 1 False", "b 0 False"], 20)
    assert [run.status for run in runs] == ["running", "running"]
    assert os.environ.get("CUDA_VISIBLE_DEVICES") is None
