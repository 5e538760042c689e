"""Whatever a file of ours holds, its reader gives a result or one line that names the file."""

from __future__ import annotations

import copy
import json
import os
import shutil
import struct
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from peft import LoraConfig

import gelora_viz as gv
from gelora_viz.activations.journal import Journal, read_journal
from gelora_viz.comparison.result import Comparison
from gelora_viz.dimension import DimensionProfile, DimensionScaling
from gelora_viz.errors import GeloraVizError
from gelora_viz.maps import Projection
from gelora_viz.maps.projection import make_frame
from gelora_viz.ranks import RankPlan
from gelora_viz.runs.folder import RunFolder
from gelora_viz.runs.queue import Queue, Slot
from gelora_viz.runs.result import RunResult
from gelora_viz.runs.spec import RunSpec
from gelora_viz.spectra import DimensionHistory, SpectrumHistory, UpdateSpectrum
from gelora_viz.spectra.compressed import Compression
from gelora_viz.study.record import StudyRecord


class Reader(NamedTuple):
    """A file of an example folder, and what reads it."""

    file: str
    read: Callable[[Path], object]


READERS = {
    "profile": Reader("profile.json", lambda at: DimensionProfile.load(at / "profile.json")),
    "scaling": Reader("scaling.json", lambda at: DimensionScaling.load(at / "scaling.json")),
    "plan": Reader("plan.json", lambda at: RankPlan.load(at / "plan.json")),
    "spectrum": Reader("spectrum.json", lambda at: UpdateSpectrum.load(at / "spectrum.json")),
    "spectra": Reader("spectra.json", lambda at: SpectrumHistory.load(at / "spectra.json")),
    "dimensions": Reader("dimensions.json", lambda at: DimensionHistory.load(at / "dimensions.json")),
    "compression": Reader("compression/compression.json", lambda at: Compression.load(at / "compression")),
    "PEFT configuration": Reader("compression/adapter_config.json", lambda at: Compression.load(at / "compression")),
    "comparison": Reader("comparison.json", Comparison.load),
    "projection": Reader("map.safetensors", lambda at: Projection.load(at / "map.safetensors")),
    "activations": Reader("points/activations.json", lambda at: gv.Activations.load(at / "points")),
    "unfinished capture": Reader("capture/capture.json", lambda at: resume_capture(at / "capture")),
    "specification": Reader("run/spec.json", lambda at: RunSpec.load(at / "run" / "spec.json")),
    "status": Reader("run/status.json", lambda at: RunFolder(at / "run").read_status()),
    "result": Reader("run/result.json", lambda at: RunResult.load(at / "run")),
    "predictions": Reader("run/predictions.json", lambda at: RunResult.load(at / "run")),
    "metrics": Reader("run/metrics.jsonl", lambda at: RunFolder(at / "run").read_metrics()),
    "all runs": Reader("run/spec.json", lambda at: gv.list_runs(at)),
    "study": Reader("study.json", gv.Study.open),
    "ticket": Reader("queue/tickets/0.json", lambda at: queue_of(at)._wanted_by_earlier()),
}
NEVER_REFUSE = ("all runs", "metrics", "ticket")
"""Readers that pass over what they cannot read and go on with the rest."""
WRITERS = ("unfinished capture", "ticket")
"""Readers that also write or remove files."""

NUMBERS = {"dimension": 3.0, "std_error": 0.1, "ci_low": 2.8, "ci_high": 3.2}
LAYER = {"layer": "block 1", "stack": "", "depth": 1}
WIDTHS = {"a": 2}


def queue_of(folder: Path) -> Queue:
    return Queue(folder / "queue", (Slot(("cpu",)),), "9")


def resume_capture(folder: Path) -> Journal | None:
    known = read_journal(folder)
    if known is None or not known["identity"]:  # that of another capture, which another message says
        return None
    return Journal(folder, known["identity"], ["a"], 3, torch.float32)


def make_example(folder: Path) -> Path:
    """One small file of every kind."""
    estimate = {**LAYER, "estimator": "twonn", **NUMBERS, "n_points": 9, "n_dropped": 0}
    profile = DimensionProfile(pd.DataFrame([estimate]), {("block 1", "twonn"): np.ones(3)})
    profile.save(folder / "profile.json")
    DimensionHistory({0: profile}).save(folder / "dimensions.json")
    step = {**LAYER, "estimator": "mle", "axis": "points", "n_points": 9.0, "k": 2, "radius": 1.0, **NUMBERS}
    DimensionScaling(pd.DataFrame([step])).save(folder / "scaling.json")
    matrix = {
        "module": "q", **LAYER, "in_features": 4, "out_features": 4, "rank": 1, "n_parameters": 8, "weight": 1.0,
        "lower_bound": 1.0, "difference": 0.5, "ci_low": 0.1, "ci_high": 0.9, "within_noise": False,
    }  # fmt: skip
    plan = RankPlan(pd.DataFrame([matrix]), "gelora", settings={"pooling": "mean"})
    plan.save(folder / "plan.json")
    measured = ("rank", "entropy_rank", "stable_rank", "participation_ratio", "utilisation", "norm", "energy_share")
    update = {"module": "q", "numerical_rank": 1, **dict.fromkeys(measured, 1.0)}
    spectrum = UpdateSpectrum(pd.DataFrame([update]), {"q": np.ones(1)}, "LORA")
    SpectrumHistory({0: spectrum}).save(folder / "spectra.json")
    spectrum.save(folder / "spectrum.json")
    lost = {"module": "q", "rank": 2.0, "compressed_rank": 1, "n_parameters": 8, "energy_kept": 1.0}
    figures = {"n_parameters_before": 16, "output_change": 0.0, "adapter_effect": 0.5, "settings": {"method": "LORA"}}
    weights = {"q.lora_A.weight": torch.ones(1, 4)}
    config = LoraConfig(r=1, target_modules=["q"])
    Compression(pd.DataFrame([{**lost, "relative_error": 0.0}]), config, weights, **figures).save(
        folder / "compression"
    )
    make_comparison().save(folder / "comparison.json")
    points = make_frame(np.zeros((2, 2), dtype=np.float32), np.arange(2), np.arange(2), ["a", "b"])
    Projection(points, "block 1").save(folder / "map.safetensors")
    gv.Activations.from_arrays({"a": np.ones((3, 2))}).save(folder / "points")
    journal = Journal(folder / "capture", {"model": "m"}, ["a"], 3, torch.float32)
    journal.write("a", np.arange(3), torch.ones(3, 2))
    journal.note(1, last=True)
    make_run(folder / "run", plan)
    StudyRecord.create(
        folder, {"model": "m", "data": "d", "seed": 0, "n_duplicates": 0, "n_unlabelled": 0, "source": "d"}
    )
    ticket = Queue(folder / "queue", (Slot(("cpu",)),), "0")
    ticket.draw()
    return folder


def make_comparison() -> Comparison:
    row = {
        "run": "a", "method": "frozen", "seeds": "0", "n_seeds": 1, "learning_rate": 0.1, "n_parameters": 8,
        "n_parameters_kept": 8, "accuracy": 0.5, "ci_low": 0.4, "ci_high": 0.6, "difference": None,
        "difference_low": None, "difference_high": None, "verdict": "baseline", "mean_effective_rank": 1.0,
        "mean_utilisation": 1.0, "seconds": 1.0, "peak_memory_mb": 1.0,
    }  # fmt: skip
    run = {"run": "a", "learning_rate": 0.1, "seed": 0, "chosen": True, "status": "finished", "message": ""}
    about = {"seeds": [0], "baseline": "a", "confidence": 0.95, "methods": {"a": {"steps": 1, "batch_size": 1}}}
    return Comparison(pd.DataFrame([row]), pd.DataFrame([run]), about)


def make_run(path: Path, plan: RankPlan) -> None:
    RunSpec("run", plan).save(path / "spec.json")
    folder = RunFolder(path)
    folder.append_metrics({"step": 1, "loss": 1.0, "seconds": 0.1})
    folder.write_predictions(["t"], ["a"], ["b"], [None])
    folder.write_result({"accuracy": 0.5, "n_test": 1, "versions": {"torch": "2"}, "device": "cpu"}, data="d")
    folder.write_status("finished")


@pytest.fixture(scope="module")
def example(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_example(tmp_path_factory.mktemp("example"))


def document_of(file: Path) -> Any:
    """The JSON in a file; of metrics the first line, of safetensors what the header describes."""
    if file.suffix == ".safetensors":
        return json.loads(header_of(file.read_bytes())["__metadata__"]["projection"])
    return json.loads(
        file.read_text(encoding="utf-8").splitlines()[0] if file.suffix == ".jsonl" else file.read_text()
    )


def header_of(content: bytes) -> dict[str, Any]:
    return json.loads(content[8 : 8 + struct.unpack("<Q", content[:8])[0]])


def as_bytes(file: Path, text: str | bytes) -> bytes:
    """The file's content with this JSON in it."""
    raw = text if isinstance(text, bytes) else text.encode("utf-8", "surrogatepass")
    if file.suffix == ".jsonl":
        return raw.replace(b"\n", b" ") + b"\n"
    if file.suffix != ".safetensors":
        return raw
    content = file.read_bytes()
    header = header_of(content) | {"__metadata__": {"projection": raw.decode("utf-8", "replace")}}
    written = json.dumps(header).encode()
    return struct.pack("<Q", len(written)) + written + content[8 + struct.unpack("<Q", content[:8])[0] :]


def check_reader(name: str, example: Path, content: Callable[[Path], bytes]) -> None:
    """Read a copy of the example with other content in the reader's file, and show what was read."""
    reader = READERS[name]
    folder = example.with_name(f"{example.name}-{name.replace(' ', '-')}")
    if not folder.exists() or name in WRITERS:
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(example, folder)
    (folder / reader.file).write_bytes(content(example / reader.file))
    said = complaint_of(lambda: show(reader.read(folder)))
    if said is not None:
        assert name not in NEVER_REFUSE, said
        assert Path(reader.file).name in said
        assert "\n" not in said
        assert len(said) < 1000


def show(found: object) -> None:
    """What a notebook does with a result."""
    repr(found)
    getattr(found, "_repr_html_", str)()


def complaint_of(act: Callable[[], object]) -> str | None:
    """The message of our own error, None where there is none; any other error is a bug."""
    try:
        act()
    except GeloraVizError as error:
        return str(error)
    return None


def parts_of(document: object, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The places of all values within a document."""
    inner = (
        document.items() if isinstance(document, dict) else enumerate(document) if isinstance(document, list) else ()
    )
    for key, value in inner:
        yield (*path, key)
        yield from parts_of(value, (*path, key))


OTHER_VALUES = (
    None, True, -1, 0, 2.5, 10**18, 10**400, 1e300, "", "x", "../../x", "a\nb", [], [[]], [None], {}, {"a": {}},
    "é" * 999,
)  # fmt: skip


@pytest.mark.parametrize("name", READERS)
def test_the_example_can_be_read(name, example):
    READERS[name].read(example)


@pytest.mark.parametrize("name", READERS)
@settings(
    max_examples=25,
    deadline=None,
    derandomize=True,
    database=None,
    phases=[Phase.generate],
    suppress_health_check=list(HealthCheck),
)
@given(data=st.data())
def test_a_file_of_another_shape_is_refused_in_one_line_that_names_it(name, example, data):
    def change(file: Path) -> bytes:
        document = document_of(file)
        for _ in range(data.draw(st.integers(1, 2))):
            *path, last = data.draw(st.sampled_from(list(parts_of(document)) or [()]))
            holder = document
            for key in path:
                holder = holder[key]
            if data.draw(st.booleans()):
                del holder[last]
            else:
                holder[last] = copy.deepcopy(data.draw(st.sampled_from(OTHER_VALUES)))
            if not document:
                break
        return as_bytes(file, json.dumps(document))

    check_reader(name, example, change)


NO_DOCUMENT = {
    "nothing": "", "half": '{"kind": ', "null": "null", "a list": "[]", "a number": "7", "binary": b"\xff\xfe\x00",
    "a mark before it": "\ufeff{}", "a million levels": "[" * 10**6, "many levels": '{"a":' * 300 + "1" + "}" * 300,
}  # fmt: skip


@pytest.mark.parametrize("name", READERS)
def test_what_is_no_document_is_refused_in_one_line_that_names_it(name, example):
    for content in NO_DOCUMENT.values():
        check_reader(name, example, lambda file, content=content: as_bytes(file, content))


@pytest.mark.parametrize("name", READERS)
@pytest.mark.parametrize("value", ["1e400", "NaN", "-Infinity", "9" * 5000, '"\\ud800"', "[" * 200 + "]" * 200])
def test_a_value_beyond_all_measure_is_refused_wherever_it_stands(name, value, example):
    check_reader(
        name,
        example,
        lambda file: as_bytes(file, json.dumps(document_of(file) | {"more": "!"}).replace('"!"', value)),
    )


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="Windows has no named pipes")
def test_a_pipe_that_nobody_writes_to_is_refused_and_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "plan.json")
    before = time.monotonic()
    with pytest.raises(GeloraVizError, match=r"cannot read .*plan\.json as a rank plan: it is no regular file"):
        RankPlan.load(tmp_path / "plan.json")
    assert time.monotonic() - before < 5


def test_a_bad_ticket_keeps_nobody_waiting_and_is_said(tmp_path, caplog):
    (tmp_path / "queue" / "tickets").mkdir(parents=True)
    (tmp_path / "queue" / "tickets" / "0.json").write_text('{"kind": "queue ticket", "schema_version": 1}')
    assert queue_of(tmp_path).wait_for_slot() == Slot(("cpu",))
    assert "0.json" in caplog.text
