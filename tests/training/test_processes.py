"""Several processes train one run together, over gloo: the same texts in every step, and they end together."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys

import numpy as np
import psutil
import pytest
import torch
from small_runs import losses_of, train_here
from transformers import AutoModel
from watching import ENDLESS, PATIENCE, wait_until, wait_until_ended, wait_until_training

from gelora_viz import LocalExecutor, attach, launch
from gelora_viz.errors import InputError, RunError
from gelora_viz.runs import RunFolder
from gelora_viz.runs.executors import local
from gelora_viz.runs.executors.command import worker_command
from gelora_viz.runs.queue import Slot
from gelora_viz.training import processes


@pytest.fixture(scope="module")
def together(tmp_path_factory):
    """`together(spec)`: the run, launched as two processes beside whatever else is running."""
    folder = tmp_path_factory.mktemp("together")
    executor = LocalExecutor(at_once=8, processes=2, queue=folder / "queue")
    return lambda spec: launch(spec, run_dir=folder / "runs" / spec.name, executor=executor)


@pytest.fixture(scope="module")
def without_dropout(tiny, tmp_path_factory):
    """A checkpoint of the tiny BERT. Two processes would draw other dropout masks than one."""
    model, tokenizer = tiny("bert")
    model.config.hidden_dropout_prob = model.config.attention_probs_dropout_prob = 0.0
    folder = tmp_path_factory.mktemp("without_dropout")
    AutoModel.from_config(model.config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="module")
def pairs(spec_of, language_spec_of, without_dropout, together):
    """Name -> (specification, run of two processes), side by side: one that ends by itself for each task, two not."""
    endless = {"model": without_dropout, **ENDLESS}
    specs = [
        spec_of("classification", model=without_dropout, steps=7), language_spec_of("causal-lm", steps=5),
        spec_of("cancelled", **endless), spec_of("halved", **endless),
    ]  # fmt: skip
    launched = {spec.name: (spec, together(spec)) for spec in specs}
    yield launched
    for _, run in launched.values():
        run.cancel(grace=0)


@pytest.mark.slow
@pytest.mark.parametrize("task", ["classification", "causal-lm"])
def test_two_processes_train_as_one_does(pairs, task, tmp_path):
    """The loss of every step is the mean over the same texts, to the rounding of a sum in another order."""
    spec, run = pairs[task]
    alone = train_here(spec, tmp_path / "alone")
    assert wait_until_ended(run).status == "finished", run.message
    result = run.result()
    np.testing.assert_allclose(losses_of(run.path), losses_of(tmp_path / "alone"), rtol=1e-4)
    assert (result.numbers["processes"], alone.numbers["processes"]) == (2, 1)
    assert result.numbers["steps"] == alone.numbers["steps"] == spec.steps
    assert len(result.predictions) == len(alone.predictions)
    assert result.test_texts == alone.test_texts
    same = ["n_train", "n_test", "n_parameters", "micro_batch_size"]
    assert {name: result.numbers[name] for name in same} == {name: alone.numbers[name] for name in same}


@pytest.mark.slow
def test_a_cancelled_run_of_two_ends_in_both_and_keeps_its_adapter(pairs):
    _, run = pairs["cancelled"]
    worker = wait_until_training(run)
    (companion,) = worker.children()
    run.cancel(grace=60)
    assert (run.status, run.message) == ("cancelled", "")
    assert (run.path / "adapter" / "adapter_model.safetensors").exists()
    companion.wait(20)


@pytest.mark.slow
def test_a_run_of_two_fails_with_the_cause_when_one_is_killed(pairs):
    _, run = pairs["halved"]
    (companion,) = wait_until_training(run).children()
    os.kill(companion.pid, signal.SIGKILL)
    assert wait_until_ended(run).status == "failed"
    assert "process 2 of 2 was killed (SIGKILL)" in run.message


def test_a_companion_ends_with_the_process_that_started_it(spec_of, tmp_path):
    spec_of().save(tmp_path / "run" / "spec.json")
    role = {"RANK": "1", "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "1"}
    companion = subprocess.Popen(
        worker_command(tmp_path / "run", with_parent=True), stdin=subprocess.PIPE, env={**os.environ, **role}
    )
    companion.stdin.close()  # as the operating system does when that process dies
    assert companion.wait(PATIENCE) == 1
    assert [file.name for file in (tmp_path / "run").iterdir()] == ["spec.json"]


@pytest.mark.slow
def test_processes_of_a_run_listen_to_this_machine_alone(spec_of, tmp_path):
    executor = LocalExecutor(processes=2, queue=tmp_path / "queue")
    run = launch(spec_of(**ENDLESS), run_dir=tmp_path / "run", executor=executor)
    worker = wait_until_training(run)
    listening = [
        connection.laddr.ip
        for process in (worker, *worker.children(recursive=True))
        for connection in process.net_connections()
        if connection.status == psutil.CONN_LISTEN
    ]
    run.cancel()
    assert listening
    assert set(listening) == {"127.0.0.1"}


LATE = """
import sys, time
from gelora_viz.training import worker
at_once = worker._end_with_parent
worker._end_with_parent = lambda folder: (sys.stdin.buffer.read(), time.sleep(2), at_once(folder))
sys.exit(worker.main([sys.argv[1], "--with-parent"]))
"""
"""A worker that hears of its parent's death later than of the signal."""


@pytest.mark.slow
@pytest.mark.parametrize("parent_lives", [True, False])
def test_a_signal_to_stop_counts_only_while_the_parent_lives(spec_of, tmp_path, parent_lives):
    """A scheduler that lost the parent sends the same signal to clear up; then the run has failed."""
    spec_of(**ENDLESS).save(tmp_path / "run" / "spec.json")
    worker = subprocess.Popen([sys.executable, "-c", LATE, str(tmp_path / "run")], stdin=subprocess.PIPE)
    run = attach(tmp_path / "run")
    wait_until(lambda: len(run.metrics) > 0)
    if not parent_lives:
        worker.stdin.close()
    worker.send_signal(signal.SIGTERM)
    worker.wait(PATIENCE)
    cause = "" if parent_lives else "the process that started the worker was killed"
    assert (run.status, run.message) == ("cancelled" if parent_lives else "failed", cause)
    assert (tmp_path / "run" / "adapter").exists() == parent_lives


# Joining


@pytest.fixture
def role(monkeypatch):
    """`role(0, of=3)`: this process's part in a group whose store nobody has opened yet, as Slurm gives it."""
    for name in ("TORCHELASTIC_USE_AGENT_STORE", "TORCHELASTIC_RESTART_COUNT"):
        monkeypatch.setenv(name, "")  # remembered, since joining sets them
        monkeypatch.delenv(name)
    monkeypatch.setattr(processes, "JOINING", 1.0)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]

    def play(rank, *, of):
        for name, value in {"RANK": rank, "WORLD_SIZE": of, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}.items():
            monkeypatch.setenv(name, str(value))

    yield play
    processes._kept.clear()


def test_who_has_not_joined_in_time_is_named_and_the_store_listens_to_one_address(role):
    role(0, of=3)
    with pytest.raises(RunError, match=r"process 2, 3 of 3 did not join within 1 s; see what the log says"):
        processes.join()
    listening = [each.laddr for each in psutil.Process().net_connections() if each.status == psutil.CONN_LISTEN]
    port = int(os.environ["MASTER_PORT"])
    assert [address.ip for address in listening if address.port == port] == ["127.0.0.1"]


def test_nobody_is_waited_for_who_has_died(role):
    role(0, of=2)
    with pytest.raises(RunError, match=r"^process 2 of 2 was killed \(SIGKILL\)$"):
        processes.join(lambda: "process 2 of 2 was killed (SIGKILL)")


def test_a_process_that_reaches_nobody_says_where_it_looked(role):
    role(1, of=2)
    with pytest.raises(
        RunError, match=r"process 2 of 2 reaches nobody at 127.0.0.1:\d+ .*MASTER_ADDR and MASTER_PORT"
    ):
        processes.join()


def test_alone_nobody_is_waited_for(role):
    role(0, of=1)
    processes.join()


@pytest.mark.slow
def test_workers_that_slurm_has_started_train_together(spec_of, tmp_path, role):
    """Each with its rank, and no store but the one that the first opens."""
    spec_of(steps=2, evaluations=1).save(tmp_path / "run" / "spec.json")
    started = []
    for rank in (1, 0):
        role(rank, of=2)
        started.append(subprocess.Popen([sys.executable, "-m", "gelora_viz.training.worker", str(tmp_path / "run")]))
    assert [worker.wait(PATIENCE) for worker in started] == [0, 0]
    assert attach(tmp_path / "run").result().numbers["processes"] == 2


def test_companions_end_also_when_they_are_halted(tmp_path):
    companions = processes.Companions(RunFolder(tmp_path), 2)
    halted = subprocess.Popen(["sleep", "60"], stdin=subprocess.PIPE)
    halted.send_signal(signal.SIGSTOP)
    companions._others.append(halted)
    companions._end_others(at_once=True)
    assert halted.wait(10) == -signal.SIGKILL


def test_a_batch_that_the_processes_cannot_share_is_refused(spec_of, tmp_path, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "3")
    with pytest.raises(InputError, match="16 texts at a time cannot be divided among 3 processes"):
        train_here(spec_of(), tmp_path / "run")


def test_alone_one_s_opinion_is_everybody_s():
    assert processes.agree(True, torch.device("cpu"))
    assert not processes.agree(False, torch.device("cpu"))


# What runs occupy


def slots(monkeypatch, *, gpus=0, visible=None, **options):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
    if visible is None:
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    else:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    return LocalExecutor(**options).slots()


def test_without_a_gpu_one_run_at_a_time_or_as_many_as_asked_for(monkeypatch):
    assert slots(monkeypatch) == (Slot(("cpu-0",)),)
    assert slots(monkeypatch, at_once=2, processes=3) == (Slot(("cpu-0",)), Slot(("cpu-1",)))


def test_every_visible_gpu_takes_a_run_and_each_run_sees_its_own_alone(monkeypatch):
    assert slots(monkeypatch, gpus=2) == (Slot(("gpu-0-0",), "0"), Slot(("gpu-1-0",), "1"))
    assert slots(monkeypatch, gpus=2, visible="3,GPU-ab") == (
        Slot(("gpu-3-0",), "3"),
        Slot(("gpu-GPU-ab-0",), "GPU-ab"),
    )
    assert slots(monkeypatch, gpus=2, at_once=1) == (Slot(("gpu-0-0",), "0"),)
    shared = slots(monkeypatch, gpus=2, at_once=3)
    assert [(slot.locks, slot.gpus) for slot in shared] == [
        (("gpu-0-0",), "0"), (("gpu-1-0",), "1"), (("gpu-0-1",), "0"),
    ]  # fmt: skip


def test_processes_of_one_run_have_a_gpu_each(monkeypatch):
    assert slots(monkeypatch, gpus=5, processes=2) == (
        Slot(("gpu-0-0", "gpu-1-0"), "0,1"), Slot(("gpu-2-0", "gpu-3-0"), "2,3"),
    )  # fmt: skip
    with pytest.raises(InputError, match="processes is 4, and 2 GPUs are visible; give at most one process per GPU"):
        slots(monkeypatch, gpus=2, processes=4)


def test_threads_are_divided_among_runs_at_once_and_their_processes(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(16)), raising=False)
    monkeypatch.delenv("OMP_NUM_THREADS")
    assert [local._threads_each(n) for n in (1, 2, 3, 64)] == [None, 8, 5, 1]
    monkeypatch.setenv("OMP_NUM_THREADS", "4")
    assert [local._threads_each(n) for n in (1, 2, 8)] == [None, 2, 1]


def test_the_worker_s_environment_has_the_threads(spec_of, tmp_path, monkeypatch):
    started = {}

    class Recorded(subprocess.Popen):
        def __init__(self, _command, **options):
            started.update(options["env"])
            super().__init__([sys.executable, "-c", "pass"], **options)

    monkeypatch.setattr(local.subprocess, "Popen", Recorded)
    monkeypatch.setattr(local, "_threads_each", lambda n_processes: 10 // n_processes)
    executor = LocalExecutor(at_once=2, queue=tmp_path / "queue")
    launch(spec_of(threads=None), run_dir=tmp_path / "run", executor=executor)
    assert (started["OMP_NUM_THREADS"], started["OMP_WAIT_POLICY"]) == ("5", "PASSIVE")
    wait_until_ended(attach(tmp_path / "run"))
    launch(spec_of(threads=3), run_dir=tmp_path / "run", executor=executor)
    assert started["OMP_NUM_THREADS"] == "3"
