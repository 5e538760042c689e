"""Runs on a real CUDA device: one to a GPU at a time, cancelled in time, and nobody else's memory touched."""

from __future__ import annotations

import os
import time

import pytest
import torch

from gelora_viz import LocalExecutor, RunSpec, launch
from gelora_viz.runs import ENDED
from gelora_viz.runs.executors.local import visible_gpus

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")]


@pytest.fixture
def spec_of(tiny_folder, labelled_texts, tmp_path):
    """`spec_of("name", steps=4)`: a run of the tiny BERT's head on 180 texts."""
    texts, labels = labelled_texts
    (tmp_path / "texts.csv").write_text(
        "\n".join(["text,label", *(f'"{text}",{label}' for text, label in zip(texts[:180], labels, strict=False))])
    )

    def make(name, **differing):
        usual = {"adapter": "frozen", "model": str(tiny_folder("bert")), "data": str(tmp_path / "texts.csv")}
        return RunSpec(name, **usual | differing)

    return make


def wait_until_training(run):
    while not len(run.metrics):
        assert run.status not in ENDED, run.message
        time.sleep(0.05)


def test_a_gpu_trains_one_run_at_a_time_and_cancel_takes_less_than_two_seconds(spec_of, tmp_path):
    executor = LocalExecutor(at_once=1, queue=tmp_path / "queue")
    first = launch(spec_of("first", steps=20_000), run_dir=tmp_path / "first", executor=executor)
    second = launch(spec_of("second", steps=4), run_dir=tmp_path / "second", executor=executor)
    wait_until_training(first)
    assert second.status == "queued"
    started = time.monotonic()
    first.cancel()
    assert time.monotonic() - started < 2
    assert first.status == "cancelled"
    assert second.wait(timeout=300, progress=False).result().numbers["device"] == torch.cuda.get_device_name(0)


def test_looking_for_gpus_does_not_take_their_memory():
    before = torch.cuda.is_initialized()
    assert len(visible_gpus()) == torch.cuda.device_count() >= 1
    assert torch.cuda.is_initialized() == before
    if "CUDA_VISIBLE_DEVICES" in os.environ:
        assert visible_gpus()[0] == os.environ["CUDA_VISIBLE_DEVICES"].split(",")[0].strip()


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two CUDA devices")
def test_two_processes_share_a_run_over_two_gpus(spec_of, tmp_path):
    executor = LocalExecutor(processes=2, queue=tmp_path / "queue")
    run = launch(spec_of("pair", steps=4), run_dir=tmp_path / "pair", executor=executor)
    assert run.wait(timeout=300, progress=False).result().numbers["processes"] == 2
