"""Every argument of the calls that train, compare, keep a study and show panels, as in test_arguments.py.

No model is loaded, no run is launched and no file is written before an argument is refused.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pytest
import torch
from peft import LoraConfig
from test_arguments import ARGUMENTS
from wrong_values import (
    ACTIVATIONS,
    ARRAY,
    COUNT,
    COUNT_FROM_ZERO,
    DEVICE,
    FLAG,
    INF,
    MODEL,
    NAME,
    NAMES,
    NAN,
    PATH,
    SEED,
    SHARE,
    TEXTS,
    WORD,
    check_refusals,
)

import gelora_viz as gv
from gelora_viz import widgets
from gelora_viz._results import write_json
from gelora_viz.comparison import experiment
from gelora_viz.study import check_profile, profiles, runs, source

OPTIONAL_NAME = NAME[1:]
FILE_NAME = (None, 5, "", ["x"], "../x", "a b", "CON", "x" * 101)
NUMBER = ("x", -1, True, NAN, INF, [1.0])
RATES = ("x", 5, [], ["x"], [5], [NAN], [0], {0.1: 1})
SEEDS = (None, "x", 5, [], [1.5], ["0"], [True], [-1], [0, 0], range(10**12), range(10**30), {0: 1})
ADAPTER = (5, "lora", {}, ARRAY, ["full"], LoraConfig)
STUDY = (None, 5, "x", ARRAY)
FIELDS: dict[str, tuple[Any, ...]] = {
    "max_texts": COUNT, "pooling": (*NAME, "tokens"), "steps": (*COUNT, None), "batch_size": (*COUNT, None),
    "learning_rate": tuple(each for each in SHARE if each is not None), "head_learning_rate": SHARE,
    "max_length": (*COUNT, 1), "evaluations": (*COUNT, None), "seed": SEED, "data_seed": SEED, "threads": COUNT,
    "task": NAME, "schedule": NAME, "warmup": (*NUMBER, None, 1), "precision": OPTIONAL_NAME,
    "gradient_accumulation": (*COUNT, None), "gradient_checkpointing": FLAG, "spectra_every": COUNT,
    "plus_ratio": (*NUMBER, 0.5), "text_column": WORD, "label_column": WORD,
}  # fmt: skip
"""Field of RunSpec -> what it cannot be."""

ARGUMENTS_OF_RUNS: dict[str, dict[str, tuple[Any, ...]]] = {
    "RunSpec": {
        "name": FILE_NAME, "adapter": (None, *ADAPTER), "model": (None, 5, "", ["minilm"], b"minilm"),
        "data": (None, 5, "", ["a text"], ARRAY), "trust_remote_code": FLAG, **FIELDS,
    },
    "RunSpec.load": {"path": (None, *PATH)},
    "LocalExecutor": {"at_once": COUNT, "processes": (*COUNT, None), "queue": PATH},
    "launch": {"spec": (None, "probe", 5, {}), "run_dir": PATH, "replace": FLAG, "executor": (None, 5, "cloud", [])},
    "relaunch": {"run_dir": (None, *PATH), "trust_remote_code": FLAG},
    "attach": {"run_dir": (None, *PATH)},
    "list_runs": {"folder": PATH},
    "run.wait": {"timeout": (*NUMBER, -1), "progress": FLAG},
    "run.cancel": {"grace": (None, *NUMBER, -1)},
    "RunResult.load": {"path": (None, *PATH)},
    "RayExecutor": {"num_gpus": NUMBER, "num_cpus": NUMBER, "processes": (*COUNT, None)},
    "compare": {
        "specs": (None, "x", 5, [], ["frozen"], [5], {}), "seeds": SEEDS, "learning_rates": RATES,
        "sweep_rates": FLAG, "baseline": OPTIONAL_NAME, "confidence": SHARE, "folder": (None, *PATH),
        "progress": FLAG, "at_once": COUNT,
    },
    "tabulate_results": {
        "results": (None, "x", 5, [], [5], ["x"], {}), "baseline": OPTIONAL_NAME, "confidence": SHARE,
    },
    "Comparison.load": {"path": (None, *PATH)},
    "Comparison.save": {"path": (None, *PATH)},
    "fit_probe": {
        "model": MODEL, "batches": (None, 5, "x", [], [5], {"labels": 5}, [{"labels": 5}], [{"input_ids": ARRAY}]),
        "pooling": (*NAME, "tokens"),
    },
    "sample_batches": {
        "data": (None, "icd10cm", ["a text"], ARRAY), "model": MODEL, "tokenizer": (None, "bert", 5),
        "n_texts": (*COUNT, None), "batch_size": (*COUNT, None), "max_length": (*COUNT, 1), "seed": SEED,
    },
    "Study": {"path": (None, *PATH, "mine")},
    "Study.open": {"path": (None, *PATH, "nowhere"), "trust_remote_code": FLAG},
    "Study.create": {
        "path": (None, *PATH, "-x"), "model": (None, 5, "", " ", b"minilm", ["minilm"]),
        "data": (None, 5, "", b"x", [], [5], {}, {"a", "b"}), "text_column": WORD, "label_column": WORD,
        "max_texts": COUNT, "seed": (*SEED,), "trust_remote_code": FLAG,
    },
    "study.check_source": {
        "model": (5, "", b"x", "bert"), "data": ("", "other.csv"), "text_column": WORD, "label_column": WORD,
        "max_texts": COUNT, "seed": ("x", -1, 1.5, True, 2**32, NAN),
    },
    "study.profile": {
        "poolings": (None, 5, b"x", [], [5], [None], {}, ["banana"], "banana", [len]), "estimators": NAMES,
        "k": (*COUNT, None, 2), "correct": FLAG, "plateau": FLAG, "max_points": COUNT, "max_length": (*COUNT, 1),
        "device": DEVICE, "seed": SEED, "progress": FLAG,
    },
    "study.allocate": {
        "name": (*FILE_NAME, "frozen", "full"), "strategy": NAME, "pooling": (*FILE_NAME, "banana"),
        "estimator": NAME, "budget": COUNT, "target_modules": NAMES[:-2], "rounding": (5, True, "banana", ["ceil"]),
        "min_rank": COUNT_FROM_ZERO, "max_rank": COUNT, "n_texts": (*COUNT, None), "seed": SEED, "replace": FLAG,
        "progress": FLAG,
    },
    "study.allocate at a rank": {"budget_rank": COUNT},
    "study.plan": {"name": (*FILE_NAME, "banana")},
    "study.keep_plan": {"name": (*FILE_NAME, "frozen"), "plan": (None, "x", ARRAY, {}), "replace": FLAG},
    "study.name_of": {"plan": (None, "x", ARRAY, {})},
    "study.check_method": {"name": (*FILE_NAME, "banana")},
    "study.finetune": {
        "name": (*FILE_NAME, "banana"), "run": FILE_NAME[1:], "replace": FLAG, "progress": FLAG, "banana": (5,),
        **FIELDS,
    },
    "study.start": {
        "name": (*FILE_NAME, "banana"), "run": FILE_NAME[1:], "adapter": ADAPTER, "replace": FLAG, "banana": (5,),
        "steps": FIELDS["steps"],
    },
    "study.compare": {
        "methods": (None, 5, b"x", "banana", [], [5], ["banana"], {}, {"x": 5}, {"../x": "frozen"}, {5: "frozen"}),
        "name": FILE_NAME, "seeds": SEEDS, "learning_rates": RATES, "sweep_rates": FLAG,
        "baseline": OPTIONAL_NAME, "at_once": COUNT, "progress": FLAG, "banana": (5,), "steps": FIELDS["steps"],
    },
    "study.tabulate_results": {"baseline": WORD},
    "study.figures": {"venue": NAME, "suffix": (None, 5, "", "pdf", ".gif", [".pdf"])},
    "run_demo": {"path": (None, *PATH), "quick": FLAG, "seed": SEED, "progress": FLAG},
    "widgets.RankBudget": {
        "profile": (None, "x", ARRAY), "model": MODEL, "budget": COUNT, "strategy": NAME, "estimator": OPTIONAL_NAME,
        "target_modules": NAMES, "min_rank": COUNT_FROM_ZERO, "max_rank": COUNT, "seed": SEED,
        "spectrum": ("x", ARRAY), "readings": (5, "x", {"eva": 5}, ["eva"]),
    },
    "widgets.Explorer": {
        "activations": ACTIVATIONS, "profile": (None, "x", ARRAY), "texts": TEXTS[1:],
        "labels": (5, "x", {"a": 1}), "layer": OPTIONAL_NAME, "estimator": OPTIONAL_NAME,
        "n_neighbors": (*COUNT, None), "min_dist": (*NUMBER, None, 2), "max_points": (*COUNT, None), "seed": SEED,
        "cache": (5, "", None, ["x"]),
    },
    "widgets.FineTuning": {
        "study": STUDY, "methods": (5, "x", ["lora"], {"lora": 5}, {5: LoraConfig()}, {"gelora": LoraConfig()}),
        "banana": (5,), "batch_size": FIELDS["batch_size"], "task": NAME,
    },
    "widgets.ComparisonExplorer": {
        "compared": (None, "x", 5, [], [5], pd.DataFrame()), "folder": PATH,
    },
    "widgets.Dashboard": {"study": STUDY, "batch_size": FIELDS["batch_size"]},
    "widgets.serve_dashboard": {
        "study": (None, *PATH, "nowhere"), "port": ("8866", 0, -1, 65536, 80.5, True, None), "open_browser": FLAG,
    },
}  # fmt: skip
"""Name of a call -> argument -> values that it must refuse."""
ROWS = [(call, argument) for call, arguments in ARGUMENTS_OF_RUNS.items() for argument in arguments]


class World(NamedTuple):
    """One of each thing that a call takes."""

    model: Any
    tokenizer: Any
    data: gv.TextData
    activations: gv.Activations
    profile: gv.DimensionProfile
    study: gv.Study
    comparison: gv.Comparison
    result: gv.RunResult


@pytest.fixture(scope="module")
def world(tiny, tmp_path_factory) -> World:
    model, tokenizer = tiny("bert")
    points = np.random.default_rng(0).normal(size=(4, 120, 4))
    names = ["embeddings", *(f"encoder.layer.{block}" for block in range(3))]
    activations = gv.Activations.from_arrays(dict(zip(names, points, strict=True)))
    profile = gv.estimate_dimension(activations, "twonn", k=5, progress=False)
    data = gv.load_texts(
        pd.DataFrame({"text": [f"text {each}" for each in range(90)], "label": ["a", "b", "c"] * 30})
    )
    plan = gv.allocate_ranks(None, model, strategy="uniform", budget=gv.uniform_budget(model, 2))
    study = make_study(tmp_path_factory.mktemp("arguments") / "study", data, profile, plan)
    frame = pd.DataFrame({"run": ["a"], "method": ["LORA"], "verdict": ["baseline"], "accuracy": [0.5]})
    comparison = gv.Comparison(frame, pd.DataFrame(), {"baseline": "a"})
    result = gv.RunResult(gv.RunSpec("a", "frozen"), {"accuracy": 0.5}, pd.DataFrame(), None)
    return World(model, tokenizer, data, activations, profile, study, comparison, result)


def make_study(path: Path, data: gv.TextData, profile: gv.DimensionProfile, plan: gv.RankPlan) -> gv.Study:
    """A study with a profile and a plan, whose model nobody has loaded."""
    data.save(path / "data.jsonl")
    settings = {
        "model": "minilm", "data": "icd10cm", "source": "icd10cm", "seed": 0, "text_column": None,
        "label_column": None, "max_texts": None, "n_duplicates": 0, "n_unlabelled": 0,
    }  # fmt: skip
    write_json(path / "study.json", "study", {"steps": {"data": {"settings": settings, "digest": "0"}}})
    profile.save(path / "profiles" / "mean.json")
    plan.save(path / "plans" / "gelora.json")
    return gv.Study.open(path)


@pytest.fixture
def calls(world: World, monkeypatch, tmp_path) -> dict[str, tuple[Callable[..., Any], dict[str, Any]]]:
    monkeypatch.chdir(tmp_path)  # where what is taken by mistake is written
    for place, name in (
        (source, "load_model"), (profiles, "capture"), (runs, "launch"), (experiment, "run_all"),
    ):  # fmt: skip
        monkeypatch.setattr(place, name, lambda *_, _name=name, **__: pytest.fail(f"{_name} was called"))
    return list_calls(world)


def list_calls(w: World) -> dict[str, tuple[Callable[..., Any], dict[str, Any]]]:
    """Call -> the function and arguments that it can be called with, but for those that are to be refused."""
    batches = [{"input_ids": torch.ones(3, 2, dtype=torch.long), "labels": torch.arange(3)}]
    return {
        "RunSpec": (gv.RunSpec, {"name": "run", "adapter": LoraConfig(target_modules=["query"])}),
        "RunSpec.load": (gv.RunSpec.load, {}),
        "LocalExecutor": (gv.LocalExecutor, {}),
        "launch": (gv.launch, {"spec": gv.RunSpec("a", "frozen")}),
        "relaunch": (gv.relaunch, {"run_dir": w.study.path}),
        "attach": (gv.attach, {}),
        "list_runs": (gv.list_runs, {}),
        "run.wait": (gv.Run(w.study.path).wait, {}),
        "run.cancel": (gv.Run(w.study.path).cancel, {}),
        "RunResult.load": (gv.RunResult.load, {}),
        "RayExecutor": (gv.RayExecutor, {}),
        "compare": (gv.compare, {"specs": [gv.RunSpec("a", "frozen")], "progress": False}),
        "tabulate_results": (gv.tabulate_results, {"results": [w.result]}),
        "Comparison.load": (gv.Comparison.load, {}),
        "Comparison.save": (w.comparison.save, {}),
        "fit_probe": (gv.fit_probe, {"model": w.model, "batches": batches}),
        "sample_batches": (gv.sample_batches, {"data": w.data, "model": w.model, "tokenizer": w.tokenizer}),
        "Study": (gv.Study, {}),
        "Study.open": (gv.Study.open, {"path": w.study.path}),
        "Study.create": (gv.Study.create, {"path": "mine", "model": "minilm", "data": w.data}),
        "study.check_source": (w.study.check_source, {}),
        "study.profile": (w.study.profile, {"progress": False}),
        "study.allocate": (w.study.allocate, {"name": "new"}),
        "study.allocate at a rank": (w.study.allocate, {"name": "new"}),
        "study.plan": (w.study.plan, {}),
        "study.keep_plan": (w.study.keep_plan, {"name": "new", "plan": w.study.plan("gelora")}),
        "study.name_of": (w.study.name_of, {}),
        "study.check_method": (w.study.check_method, {}),
        "study.finetune": (w.study.finetune, {"name": "gelora", "progress": False}),
        "study.start": (w.study.start, {"name": "gelora"}),
        "study.compare": (w.study.compare, {"methods": ["gelora", "frozen"], "progress": False}),
        "study.tabulate_results": (w.study.tabulate_results, {}),
        "study.figures": (w.study.figures, {}),
        "run_demo": (gv.run_demo, {"path": "demo", "quick": True, "progress": False}),
        "widgets.RankBudget": (widgets.RankBudget, {"profile": w.profile, "model": w.model}),
        "widgets.Explorer": (widgets.Explorer, {"activations": w.activations, "profile": w.profile}),
        "widgets.FineTuning": (widgets.FineTuning, {"study": w.study}),
        "widgets.ComparisonExplorer": (widgets.ComparisonExplorer, {"compared": [w.result]}),
        "widgets.Dashboard": (widgets.Dashboard, {"study": w.study}),
        "widgets.serve_dashboard": (widgets.serve_dashboard, {"study": w.study.path}),
    }  # fmt: skip


@pytest.mark.parametrize(("call", "argument"), ROWS)
def test_a_wrong_argument_is_refused_by_name_with_its_value_and_a_remedy(calls, world, call, argument, tmp_path):
    if call == "RayExecutor":
        pytest.importorskip("ray")
    before = sorted(world.study.path.rglob("*"))
    function, arguments = calls[call]
    check_refusals(function, arguments, argument, ARGUMENTS_OF_RUNS[call][argument])
    assert sorted(world.study.path.rglob("*")) == before
    assert list(tmp_path.iterdir()) == []


def test_one_pooling_and_one_method_need_no_list(world, monkeypatch):
    options = {
        "estimators": None, "k": 20, "correct": False, "plateau": False, "max_points": None, "max_length": None,
        "seed": 0,
    }  # fmt: skip
    assert check_profile(poolings="mean", **options) == ["mean"]
    asked = []
    monkeypatch.setattr(runs, "compare", lambda specs, **_: asked.extend(spec.name for spec in specs))
    world.study.compare("gelora")
    assert asked == ["gelora"]


RESULTS = {
    "Activations", "Compression", "DimensionHistory", "DimensionProfile", "DimensionScaling", "LoadedModel",
    "ModelSurvey", "NeighborGraph", "Projection", "RankPlan", "Run", "RunResult", "SpectrumHistory", "TextData",
    "UpdateSpectrum",
}  # fmt: skip
"""What calls give; nobody makes them by hand, but for the methods in the tables."""
WITHOUT_ARGUMENTS = {"list_estimators"}


@pytest.mark.parametrize("name", sorted({*gv.__all__} - {"__version__", "GeloraVizError", "plots", "widgets"}))
def test_every_public_call_is_in_a_table(name):
    covered = {call.split(".")[0] for call in (*ARGUMENTS, *ARGUMENTS_OF_RUNS)}
    assert name in covered | RESULTS | WITHOUT_ARGUMENTS


@pytest.mark.parametrize("name", sorted({*widgets.__all__} - {"Panel", "Snapshot"}))  # which others are made of
def test_every_panel_is_in_a_table(name):
    assert f"widgets.{name}" in ARGUMENTS_OF_RUNS
