"""A worker that is told to stop ends, whatever it is doing, with all of its processes, and says what stopped it."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys

import psutil
import pytest
from watching import wait_until, worker_of

from gelora_viz import LocalExecutor, attach, launch


@pytest.fixture
def start(quick_workers, spec_of, tmp_path, monkeypatch):
    """`start("mode")`: a run that trains, in the only slot of its queue."""

    def launch_one(mode="", name="run"):
        monkeypatch.setenv("QUICK_WORKERS_MODE", mode)
        run = launch(spec_of(name), run_dir=tmp_path / name, executor=LocalExecutor(queue=tmp_path / "queue"))
        wait_until(lambda: name in quick_workers.begun, 20)
        return run

    return launch_one


def is_gone(process):
    return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE


def test_a_worker_that_waits_in_foreign_code_ends_on_sigterm_and_frees_its_slot(start, spec_of, tmp_path):
    run = start("deaf")
    second = launch(spec_of("second"), run_dir=tmp_path / "second", executor=LocalExecutor(queue=tmp_path / "queue"))
    assert second.status == "queued"
    worker_of(run).terminate()
    wait_until(lambda: run.status == "cancelled", 5)
    wait_until(lambda: second.status == "running", 5)


def test_a_halted_run_is_cancelled_and_may_still_keep_what_it_has_trained(start):
    run = start()
    worker_of(run).suspend()
    run.cancel(grace=20)
    assert (run.status, run.message) == ("cancelled", "")


@pytest.mark.parametrize("from_elsewhere", [False, True])
def test_a_run_that_does_not_answer_is_killed_with_all_of_its_processes_also_halted_ones(start, from_elsewhere):
    run = start("with a child")
    worker = worker_of(run)
    wait_until(lambda: len(worker.children()) == 1, 5)
    processes = [worker, *worker.children()]
    for process in processes:
        process.suspend()
    (attach(run.path) if from_elsewhere else run).cancel(grace=0)
    wait_until(lambda: all(map(is_gone, processes)), 5)
    assert run.status == "cancelled"


def test_a_run_whose_folder_is_removed_ends_and_the_folder_does_not_come_back(start):
    run = start()
    worker = worker_of(run)
    shutil.rmtree(run.path)
    wait_until(lambda: is_gone(worker), 5)
    assert not run.path.exists()
    assert (run.status, run.message) == ("failed", "its folder has been removed")


# Ctrl-C


@pytest.fixture
def by_hand(quick_workers, spec_of, tmp_path, monkeypatch):
    """`by_hand("mode")`: a worker that trains, started by a shell, and its run."""
    started = []

    def start_one(mode=""):
        monkeypatch.setenv("QUICK_WORKERS_MODE", mode)
        spec_of("run").save(tmp_path / "run" / "spec.json")
        started.append(subprocess.Popen([sys.executable, "-m", "gelora_viz.training.worker", str(tmp_path / "run")]))
        wait_until(lambda: quick_workers.begun == ["run"], 20)
        return started[-1], attach(tmp_path / "run")

    yield start_one
    for each in started:
        each.kill()
        each.wait()


def test_ctrl_c_stops_a_run_and_is_named(by_hand):
    worker, run = by_hand()
    worker.send_signal(signal.SIGINT)
    assert worker.wait(10) == 0
    assert (run.status, run.message) == ("cancelled", "stopped by Ctrl-C (SIGINT)")


def test_a_second_ctrl_c_does_not_wait_for_the_step(by_hand):
    worker, run = by_hand("in a long step")
    worker.send_signal(signal.SIGINT)
    wait_until(lambda: (run.path / "cancel").exists(), 5)
    assert worker.poll() is None
    worker.send_signal(signal.SIGINT)
    assert worker.wait(10) == 0
    assert (run.status, run.message) == ("cancelled", "stopped by Ctrl-C (SIGINT)")


# What a worker inherits


INHERITED = {
    "RANK": "3", "WORLD_SIZE": "4", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "2", "GROUP_RANK": "1", "NODE_RANK": "1",
    "ROLE_RANK": "3", "MASTER_ADDR": "node17", "MASTER_PORT": "29500", "TORCHELASTIC_RUN_ID": "x", "PMI_RANK": "3",
    "SLURM_PROCID": "3", "SLURM_LOCALID": "1", "SLURM_NTASKS": "4", "ACCELERATE_USE_FSDP": "true",
    "OMPI_COMM_WORLD_RANK": "3",
}  # fmt: skip


def test_a_launch_from_a_step_of_slurm_or_torchrun_trains_alone_and_says_what_it_dropped(start, monkeypatch):
    for name, value in INHERITED.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("SLURM_JOB_ID", "17")  # whose GPUs these are
    run = start()
    environment = worker_of(run).environ()
    assert not set(INHERITED) & set(environment)
    assert environment["SLURM_JOB_ID"] == "17"
    first, *_ = (run.path / "log.txt").read_text().splitlines()
    assert first == f"dropped from the environment: {', '.join(sorted(INHERITED))}"


def test_without_a_role_nothing_is_dropped(start):
    assert (start().path / "log.txt").read_text() == ""


@pytest.mark.parametrize(
    "role", [{"RANK": "3"}, {"RANK": "x"}, {"RANK": "1", "WORLD_SIZE": "1"}, {"RANK": "0", "WORLD_SIZE": "2"}]
)
def test_a_worker_by_hand_with_half_a_role_is_refused_at_once(quick_workers, spec_of, tmp_path, role):
    spec_of("run").save(tmp_path / "run" / "spec.json")
    command = [sys.executable, "-m", "gelora_viz.training.worker", str(tmp_path / "run")]
    told = subprocess.run(
        command, env={**os.environ, **role}, capture_output=True, text=True, timeout=20, check=False
    )
    assert told.returncode == 2
    assert f"RANK is {role['RANK']} and WORLD_SIZE is {role.get('WORLD_SIZE', '1')}" in told.stderr
    assert "start the worker by torchrun, or unset them all" in told.stderr
