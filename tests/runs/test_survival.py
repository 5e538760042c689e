"""It keeps working: what is done to these runs really happens, and each says in one line what became of it.

Nothing here may end the process that launched and watches, which is the one that runs the tests.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import psutil
import pytest
import torch
from quick_workers import processes_of
from small_runs import train_here
from transformers import AutoModel
from watching import ENDLESS, PATIENCE, wait_until, wait_until_ended, wait_until_training, worker_of

from gelora_viz import LocalExecutor, attach, launch, list_runs, relaunch
from gelora_viz._locks import FileLock
from gelora_viz.errors import RunError, StudyError
from gelora_viz.runs import RunFolder
from gelora_viz.training import worker

pytestmark = pytest.mark.slow


def start_by_hand(run_dir):
    """The worker as Slurm or a shell starts it."""
    command = [sys.executable, "-m", "gelora_viz.training.worker", str(run_dir)]
    return subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=False)


def assert_failed(run, cause):
    """The run says so in one line, here and to everybody else, and the log is beside it."""
    assert run.status == attach(run.path).status == "failed"
    assert cause in run.message
    assert "\n" not in run.message
    assert (run.path / "log.txt").exists()
    assert not (run.path / "result.json").exists()
    row = list_runs(run.path.parent).set_index("run").loc[run.name]
    assert (row["status"], row["message"]) == ("failed", run.message)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("survival")


@pytest.fixture(scope="module")
def start(spec_of, folder):
    """`start("name", steps=4)`: launched beside whatever else is running."""
    side_by_side = LocalExecutor(at_once=16, queue=folder / "queue")

    def launch_one(name, run_dir=None, **differing):
        spec = spec_of(name, **{"threads": 1, **differing})
        return launch(spec, run_dir=run_dir or folder / "runs" / name, executor=side_by_side)

    return launch_one


# Memory


def test_out_of_memory_is_a_failure_that_says_so(start, tiny, labelled_texts, tmp_path):
    """One long text at a time fits; 64 of them, in an evaluation, need 268 MB more, and the system gives 64."""
    _, tokenizer = tiny("bert")
    config = tiny("bert")[0].config
    config.intermediate_size = 8192
    AutoModel.from_config(config).save_pretrained(tmp_path / "wide")
    tokenizer.save_pretrained(tmp_path / "wide")
    texts, labels = labelled_texts
    rows = [{"text": " ".join(texts[n : n + 12]), "label": str(labels[n])} for n in range(460)]
    (tmp_path / "long.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    run = start(
        "memory", adapter="frozen", model=str(tmp_path / "wide"), data=str(tmp_path / "long.jsonl"), batch_size=1,
        steps=400, evaluations=2,
    )  # fmt: skip
    process = wait_until_training(run)
    limit = process.memory_info().vms + (64 << 20)
    process.rlimit(psutil.RLIMIT_AS, (limit, limit))
    wait_until_ended(run)
    assert_failed(run, "out of memory")
    assert run.message.endswith("lower batch_size or max_length")


# Numbers


def test_a_loss_that_is_no_number_before_any_training_is_blamed_on_the_weights(start, tiny, tmp_path):
    model, tokenizer = tiny("bert")
    with torch.no_grad():
        model.encoder.layer[2].output.LayerNorm.weight.fill_(3e38)  # the largest float32 is 3.4e38
    model.save_pretrained(tmp_path / "model")
    tokenizer.save_pretrained(tmp_path / "model")
    run = wait_until_ended(start("diverged", model=str(tmp_path / "model"), steps=5))
    assert_failed(run, "the loss is nan in step 1, before anything has been trained; check the weights of")
    assert "learning rate" not in run.message


# Disks


def fill(disk):
    """Leave not one byte."""
    for size in (1 << 16, 1 << 10, 1):
        with suppress(OSError), (disk / f"filler-{size}").open("ab", buffering=0) as filler:
            while filler.write(bytes(size)):
                pass


@pytest.fixture(scope="module")
def disk(folder):
    """A megabyte of memory as a disk."""
    path = folder / "disk"
    path.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(path)]
    if subprocess.run(mount, capture_output=True, check=False).returncode != 0:
        pytest.skip("mounting a small disk needs root")
    yield path
    subprocess.run(["umount", "--lazy", str(path)], check=True)


def test_on_a_full_disk_a_run_fails_with_that_cause_and_what_was_finished_there_stays(start, spec_of, disk):
    finished = train_here(spec_of("finished"), disk / "finished")
    RunFolder(disk / "finished").write_status("finished")
    run = start("full", run_dir=disk / "full", steps=400, evaluations=40)
    wait_until_training(run)
    fill(disk)
    wait_until_ended(run)
    assert_failed(run, f"no disk space left for {run.path}; free some and launch the run again")
    assert not (run.path / "adapter").exists()
    assert list_runs(disk)["status"].tolist() == ["finished", "failed"]
    fill(disk)  # the run's reserve, too
    with pytest.raises(StudyError, match="No space left on device"):
        start("finished", run_dir=disk / "finished")
    again = attach(disk / "finished").result()
    assert again.numbers == finished.numbers
    assert again.predictions.equals(finished.predictions)


def test_a_worker_that_can_write_nothing_at_all_is_seen_to_have_failed(start):
    run = start("mute", **ENDLESS)
    wait_until_training(run).rlimit(psutil.RLIMIT_FSIZE, (0, 0))  # whatever it writes is refused, as on a full disk
    wait_until_ended(run)
    assert_failed(run, "the worker died without reporting why")


# Data and specifications


@pytest.fixture
def work_here(spec_of, tmp_path):
    """`work_here(data=...)`: what the worker does, in this process; gives the run and the exit status."""

    def work(**differing):
        spec_of("run", **differing).save(tmp_path / "runs" / "run" / "spec.json")
        (tmp_path / "runs" / "run" / "log.txt").touch()
        return attach(tmp_path / "runs" / "run"), worker.main([str(tmp_path / "runs" / "run")])

    before = signal.getsignal(signal.SIGTERM)
    yield work
    signal.signal(signal.SIGTERM, before)


def test_data_that_is_no_text_fails_with_its_name(work_here, tmp_path):
    (tmp_path / "noise.jsonl").write_bytes(bytes(range(256)) * 20)
    run, code = work_here(data=str(tmp_path / "noise.jsonl"))
    assert code == worker.UNUSABLE
    assert_failed(run, "noise.jsonl")


def test_data_that_may_not_be_read_fails_with_its_name(work_here, tmp_path):
    file = tmp_path / "secret.jsonl"
    if os.geteuid() == 0:
        file.mkdir()  # whom no permission stops
    else:
        file.touch(mode=0)
    run, code = work_here(data=str(file))
    assert code == worker.UNUSABLE
    assert_failed(run, "secret.jsonl")


def test_a_specification_of_another_version_fails_and_can_still_be_looked_at(spec_of, tmp_path):
    path = tmp_path / "runs" / "later"
    spec = spec_of("later").save(path / "spec.json")
    spec.write_text(json.dumps({**json.loads(spec.read_text()), "schema_version": 99}))
    (path / "log.txt").touch()
    assert start_by_hand(path).returncode == worker.UNUSABLE
    assert_failed(attach(path), "spec.json has schema version 99")
    assert wait_until_ended(attach(path)).status == "failed"
    with pytest.raises(StudyError, match="schema version 99"):
        relaunch(path)


# Two at once


@pytest.fixture(scope="module")
def contested(start):
    """A run that trains on and on, launched twice at the same moment: the run, and what the loser was told."""
    with ThreadPoolExecutor(2) as pool:
        launches = [pool.submit(start, "contested", **ENDLESS) for _ in range(2)]
    refused = [each.exception() for each in launches if each.exception() is not None]
    (run,) = [each.result() for each in launches if each.exception() is None]
    wait_until_training(run)
    yield run, refused
    run.cancel(grace=0)


def test_of_two_launches_into_one_folder_at_once_the_second_is_refused(contested):
    _, (refusal,) = contested
    assert isinstance(refusal, RunError)
    assert re.search(r"a run is going on in .*contested; cancel it, or choose another folder", str(refusal))


def test_a_second_worker_in_a_folder_leaves_the_first_alone(contested):
    run, _ = contested
    before = worker_of(run).pid
    second = start_by_hand(run.path)
    assert second.returncode == worker.OCCUPIED
    assert "a run is going on" in second.stderr
    assert (run.status, worker_of(run).pid) == ("running", before)


def test_cancel_ends_a_run_after_its_step_and_keeps_the_adapter(contested, record_property):
    run, _ = contested
    started = time.monotonic()
    run.cancel(grace=PATIENCE)
    seconds = time.monotonic() - started
    record_property("seconds", seconds)
    assert seconds < 10, "within 2 s where the machine does nothing else"
    assert (run.status, run.message) == ("cancelled", "")
    assert {file.name for file in (run.path / "adapter").iterdir()} >= {
        "adapter_model.safetensors", "adapter_config.json", "head.safetensors",
    }  # fmt: skip


def test_cancel_ends_a_run_that_has_not_begun_to_train_at_once(start):
    run = start("early", **ENDLESS)
    wait_until(lambda: run.status == "running")
    run.cancel(grace=PATIENCE)
    assert (run.status, run.message) == ("cancelled", "")
    assert run.metrics.empty
    assert not (run.path / "adapter").exists()


def test_a_worker_without_a_specification_makes_no_folder(tmp_path):
    told = start_by_hand(tmp_path / "mistyped")
    assert told.returncode == worker.UNUSABLE
    assert "no spec.json in" in told.stderr
    assert not (tmp_path / "mistyped").exists()


# Machines and kernels that go away


@pytest.mark.cold
def test_runs_that_waited_for_a_killed_process_say_so_and_are_launched_again_by_one_that_then_goes_away(
    spec_of, monkeypatch, tmp_path
):
    taken = FileLock(tmp_path / "queue" / "slots" / "cpu-0")
    assert taken.acquire()
    executor = LocalExecutor(queue=tmp_path / "queue")
    for name in ("first", "second"):
        launch(spec_of(name, steps=2), run_dir=tmp_path / "runs" / name, executor=executor)
    first, second = (attach(tmp_path / "runs" / name) for name in ("first", "second"))
    assert (first.status, second.status) == ("queued", "queued")
    (dispatcher,) = processes_of(tmp_path)
    dispatcher.kill()
    wait_until(lambda: first.status == second.status == "failed")
    assert_failed(first, "the process that starts runs when their turn comes was killed; launch it again")
    with monkeypatch.context() as patch:
        patch.setattr("gelora_viz.runs.liveness._boot", lambda: "the next")
        assert_failed(second, "the machine was restarted before the run began; launch it again")
    taken.release()
    script = (
        "import sys, gelora_viz as gv\n"
        "gv.relaunch(sys.argv[2], executor=gv.LocalExecutor(queue=sys.argv[1]))"  # the other is taken over by it
    )
    paths = [str(tmp_path / "queue"), str(first.path)]
    subprocess.run([sys.executable, "-c", script, *paths], check=True, timeout=PATIENCE)
    assert [wait_until_ended(run).status for run in (first, second)] == ["finished", "finished"]
    assert list_runs(tmp_path)["status"].tolist() == ["finished", "finished"]
    with pytest.raises(RunError, match="run 'first' is finished; to train it again anyway, launch its specification"):
        relaunch(first.path)
