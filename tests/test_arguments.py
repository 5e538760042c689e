"""Every argument of the public calls: a wrong type or value is refused by name, before the model has run.

The table says what kind of thing each argument is, and each kind brings values that it is not. A message names the
argument, shows the value and says what to give, in one line.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pytest
import torch
from peft import LoraConfig
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
    POSITIVE,
    SEED,
    SHARE,
    STACK,
    SURVEY,
    TEXTS,
    WORD,
    check_refusals,
)

import gelora_viz as gv
from gelora_viz import plots


class World(NamedTuple):
    """One of each thing that a call takes."""

    model: Any
    tokenizer: Any
    activations: gv.Activations
    profile: gv.DimensionProfile
    plan: gv.RankPlan
    adapted: Any
    spectrum: gv.UpdateSpectrum
    data: gv.TextData


@pytest.fixture(scope="module")
def world(tiny) -> World:
    model, tokenizer = tiny("bert")
    points = np.random.default_rng(0).normal(size=(5, 120, 4))
    names = ["embeddings", *(f"encoder.layer.{block}" for block in range(3))]
    activations = gv.Activations.from_arrays(dict(zip(names, points, strict=False)))
    profile = gv.estimate_dimension(activations, ["twonn", "mle"], k=5, progress=False)
    plan = gv.allocate_ranks(profile, model, budget=gv.uniform_budget(model, 2))
    adapted = gv.add_adapter(tiny("bert")[0], LoraConfig(target_modules=["query"], r=2, init_lora_weights=False))
    spectrum = gv.measure_spectra(adapted)
    for each in (model, adapted.get_base_model()):
        each.register_forward_pre_hook(fail_if_run)
    data = gv.load_texts([f"text {number}" for number in range(9)])
    return World(model, tokenizer, activations, profile, plan, adapted, spectrum, data)


def fail_if_run(_module: object, _args: object) -> None:
    pytest.fail("the model was run before the argument was refused")


def frame_of_labels(**columns: Any) -> pd.DataFrame:
    return pd.DataFrame({"text": ["a", "b"], **columns})


@pytest.fixture(scope="module")
def calls(world: World) -> dict[str, tuple[Callable[..., Any], dict[str, Any]]]:
    return list_calls(world)


def list_calls(w: World) -> dict[str, tuple[Callable[..., Any], dict[str, Any]]]:
    """Call -> the function and arguments that it can be called with, but for those that are to be refused."""
    return {
        "load_model": (gv.load_model, {"source": "minilm"}),
        "fetch_model": (gv.fetch_model, {"name": "smollm2", "progress": False}),
        "load_texts": (gv.load_texts, {"source": ["a", "b"]}),
        "load_texts of a frame": (gv.load_texts, {"source": frame_of_labels()}),
        "load_texts of splits": (lambda split: gv.load_texts(frame_of_labels(split=split)), {}),
        "TextData.texts": (w.data.texts, {}),
        "TextData.save": (w.data.save, {}),
        "capture": (
            gv.capture, {"model": w.model, "tokenizer": w.tokenizer, "texts": ["a", "b"], "progress": False},
        ),
        "find_blocks": (gv.find_blocks, {"model": w.model}),
        "survey": (gv.survey, {"model": w.model, "tokenizer": w.tokenizer, "texts": ["a", "b"]}),
        "from_arrays": (gv.Activations.from_arrays, {"arrays": {"x": ARRAY}}),
        "Activations[]": (lambda layer: w.activations[layer], {}),
        "Activations.save": (w.activations.save, {}),
        "Activations.load": (gv.Activations.load, {}),
        "neighbor_graph": (gv.neighbor_graph, {"x": ARRAY, "k": 3}),
        "estimate_dimension": (gv.estimate_dimension, {"activations": w.activations, "progress": False}),
        "dimension_scaling": (gv.dimension_scaling, {"activations": w.activations, "progress": False}),
        "local_dimension": (gv.local_dimension, {"activations": w.activations, "progress": False}),
        "profile.of": (w.profile.of, {}),
        "profile.differences": (w.profile.differences, {}),
        "profile.changes_since": (w.profile.changes_since, {"earlier": w.profile}),
        "profile.save": (w.profile.save, {}),
        "profile.load": (gv.DimensionProfile.load, {}),
        "allocate_ranks": (
            gv.allocate_ranks, {"profile": w.profile, "model": w.model, "budget": 10_000, "progress": False},
        ),
        "allocate_ranks by eva": (
            gv.allocate_ranks, {"profile": None, "model": w.model, "budget": 10_000, "strategy": "eva"},
        ),
        "allocate_ranks by gradient": (
            gv.allocate_ranks,
            {"profile": None, "model": w.model, "budget": 10_000, "strategy": "gradient",
             "batches": [{"input_ids": torch.ones(1, 2)}]},
        ),
        "uniform_budget": (gv.uniform_budget, {"model": w.model}),
        "find_matrices": (gv.find_matrices, {"model": w.model}),
        "plan.with_budget": (w.plan.with_budget, {}),
        "plan.with_rank": (w.plan.with_rank, {"where": "encoder.layer.0", "rank": 1}),
        "plan.refined": (w.plan.refined, {"spectrum": w.spectrum}),
        "plan.compared_with": (w.plan.compared_with, {}),
        "plan.check": (w.plan.check, {"peft_model": w.adapted}),
        "plan.to_peft_config": (w.plan.to_peft_config, {}),
        "plan.to_peft_code": (w.plan.to_peft_code, {}),
        "a plan's rank": (
            lambda rank: gv.RankPlan(w.plan.frame.assign(rank=[rank] + [1] * (len(w.plan.frame) - 1)), "uniform"), {},
        ),
        "plan.load": (gv.RankPlan.load, {}),
        "add_adapter": (gv.add_adapter, {"model": w.model, "adapter": w.plan}),
        "fit_budget": (gv.fit_budget, {"config": LoraConfig(), "model": w.model, "budget": 10_000}),
        "GenLoraConfig": (gv.GenLoraConfig, {}),
        "measure_spectra": (gv.measure_spectra, {"peft_model": w.adapted}),
        "compress": (gv.compress, {"peft_model": w.adapted}),
        "SpectrumRecorder": (gv.SpectrumRecorder, {}),
        "DimensionRecorder": (gv.DimensionRecorder, {"tokenizer": w.tokenizer, "texts": ["a", "b"]}),
        "project": (
            gv.project, {"activations": w.activations, "layer": "embeddings", "cache": False, "progress": False},
        ),
        "Projection.load": (gv.Projection.load, {}),
        "rank_profile": (plots.rank_profile, {"profile": w.profile}),
        "dimensions": (plots.dimensions, {}),
        "singular_values": (plots.singular_values, {"spectrum": w.spectrum}),
        "latex_table": (plots.latex_table, {"frame": w.profile.frame, "caption": "a", "label": "b"}),
        "Drawing.save": (plots.rank_profile(w.profile).save, {"path": "x.svg"}),
        "Drawing.to_svg": (plots.rank_profile(w.profile).to_svg, {}),
        "plots.umap": (plots.umap, {}),
    }  # fmt: skip


ARGUMENTS: dict[str, dict[str, tuple[Any, ...]]] = {
    "load_model": {
        "source": (None, 5, "", ["minilm"]), "dtype": (5, None, "float33", "banana", ["float32"]), "device": DEVICE,
        "trust_remote_code": FLAG, "head": (5, "banana", True, ["causal-lm"]),
    },
    "fetch_model": {
        "name": (None, 5, "banana", ["smollm2"]), "source": PATH, "force": FLAG, "progress": FLAG,
    },
    "load_texts": {
        "source": (None, 5, b"a", [], [5], ["a", None], [""], {"a", "b"}, {"a": "b"}), "text_column": WORD,
        "label_column": WORD, "max_texts": COUNT, "seed": SEED,
    },
    "load_texts of a frame": {"text_column": (*WORD, "banana"), "label_column": (*WORD, "banana")},
    "load_texts of splits": {"split": ("banana", NAN, 5, "")},
    "TextData.texts": {"split": NAME},
    "TextData.save": {"path": (None, *PATH)},
    "capture": {
        "model": (*MODEL, ("model", "tokenizer", "source")), "tokenizer": (None, "bert", 5, len), "texts": TEXTS,
        "layers": (None, *NAMES), "pooling": NAME, "pooling_name": (5, "", ["x"]), "max_points": COUNT,
        "stack": STACK, "batch_size": (*COUNT, None, "banana"), "max_length": (*COUNT, 1, 10_000),
        "dtype": (5, None, "banana", ["float32"]), "store": PATH, "cache": (5, "", None, 1, 0, ["x"]), "seed": SEED,
        "progress": FLAG,
    },
    "find_blocks": {"model": MODEL, "stack": STACK},
    "survey": {
        "model": MODEL, "tokenizer": (None, "bert", 5, len), "texts": (5, "a text", [], [5], [""]), "stack": STACK,
    },
    "from_arrays": {
        "arrays": (None, 5, ARRAY, [ARRAY], {}, {5: ARRAY}, {"": ARRAY}, {"x": None}, {"x": "y"}, {"x": ARRAY[0]}),
        "pooling": (5, None, ""),
    },
    "Activations[]": {"layer": (5, None, ["embeddings"], "banana")},
    "Activations.save": {"path": (None, *PATH)},
    "Activations.load": {"path": (None, *PATH)},
    "neighbor_graph": {
        "x": (None, "x", 5, ARRAY[0], [["a", "b"]], {"x": ARRAY}, ARRAY * NAN), "k": (*COUNT, None), "device": DEVICE,
    },
    "estimate_dimension": {
        "activations": ACTIVATIONS, "estimators": NAMES, "k": (*COUNT, None, 2), "confidence": SHARE, "correct": FLAG,
        "plateau": FLAG, "seed": SEED, "device": DEVICE, "progress": FLAG,
    },
    "dimension_scaling": {
        "activations": ACTIVATIONS, "estimators": NAMES, "layers": NAMES, "k": (*COUNT, None, 2),
        "scales": (None, 5, "ab", [], [1], ["3"], [2.5], {}), "smallest": (*COUNT, None), "confidence": SHARE,
        "seed": SEED, "device": DEVICE, "progress": FLAG,
    },
    "local_dimension": {
        "activations": ACTIVATIONS, "estimator": (*NAME, "all"), "k": (*COUNT, None, 2), "smooth": FLAG,
        "device": DEVICE, "progress": FLAG,
    },
    "profile.of": {"estimator": NAME},
    "profile.differences": {"estimator": NAME},
    "profile.changes_since": {"earlier": (None, "x", ARRAY), "estimator": NAME},
    "profile.save": {"path": (None, *PATH)},
    "profile.load": {"path": (None, *PATH)},
    "allocate_ranks": {
        "profile": ("x", 5, ARRAY, {}), "model": (*MODEL, [5], {"x": 5}), "strategy": NAME, "budget": COUNT,
        "target_modules": NAMES, "rounding": (5, True, "banana", ["ceil"]), "estimator": NAME,
        "min_rank": COUNT_FROM_ZERO, "max_rank": COUNT, "accept_other_model": FLAG, "seed": SEED, "progress": FLAG,
        "stack": STACK, "survey": SURVEY,
    },
    "allocate_ranks by eva": {
        "batches": (None, 5, "x", [], [5], {"input_ids": torch.ones(1, 2)}, [{"input_ids": 5}]),
    },
    "allocate_ranks by gradient": {"loss": (5, "x", torch.ones(1))},
    "uniform_budget": {
        "model": MODEL, "rank": (*COUNT, None), "target_modules": NAMES, "stack": STACK, "survey": SURVEY,
    },
    "find_matrices": {"model": MODEL, "target_modules": NAMES, "stack": STACK, "survey": SURVEY},
    "plan.with_budget": {"budget": (*COUNT, None)},
    "plan.with_rank": {
        "where": (None, 5, [], ["encoder.layer.0"], "banana"), "rank": (None, "3", 2.5, True, -1, NAN, 10**30),
        "rebalance": FLAG,
    },
    "plan.refined": {"spectrum": (None, "x", ARRAY), "min_rank": COUNT_FROM_ZERO},
    "plan.compared_with": {"other": (None, "x", ARRAY)},
    "plan.check": {"peft_model": MODEL, "alpha_over_rank": (*POSITIVE, None)},
    "plan.to_peft_config": {"model": MODEL[1:], "alpha_over_rank": (*POSITIVE, None)},
    "plan.to_peft_code": {"alpha_over_rank": (*POSITIVE, None)},
    "a plan's rank": {"rank": (2.5, -1, NAN, "x", None)},
    "plan.load": {"path": (None, *PATH)},
    "add_adapter": {"model": MODEL, "adapter": (None, "lora", {}, 5, LoraConfig), "seed": SEED},
    "fit_budget": {"config": (None, "lora", {}, 5, LoraConfig), "model": MODEL, "budget": (*COUNT, None)},
    "GenLoraConfig": {
        "r": (*COUNT, None), "num_groups": (*COUNT, None), "num_rbfs": (*COUNT, None), "train_latent": FLAG,
        "train_weights": FLAG, "train_centers": FLAG, "train_widths": FLAG, "alpha": POSITIVE,
        "dropout": ("x", -1, 1, True, None, NAN), "target_modules": NAMES[:-2],
        "rank_pattern": (5, "x", {"x": 2.5}, {"x": -1}, {5: 2}), "alpha_pattern": (5, "x", {"x": -1}, {"x": NAN}),
        "bias": (5, None, "banana", ["none"]), "init_weights": FLAG,
    },
    "measure_spectra": {
        "peft_model": MODEL, "adapter_name": NAME, "against_weights": FLAG, "device": DEVICE, "progress": FLAG,
    },
    "compress": {
        "peft_model": MODEL, "energy": ("x", -1, 0, 2, True, NAN, INF), "rank": (*COUNT, "banana"),
        "adapter_name": NAME, "batches": (5, "x", [], [5], {"input_ids": 5}, [{"input_ids": 5}]), "device": DEVICE,
        "progress": FLAG,
    },
    "SpectrumRecorder": {
        "every": (*COUNT, None), "adapter_name": (None, 5, ""), "device": DEVICE, "path": PATH,
    },
    "DimensionRecorder": {
        "tokenizer": (None, "bert"), "texts": TEXTS, "every": (*COUNT, None), "layers": (None, *NAMES[:-2]),
        "pooling": NAME, "max_points": COUNT, "max_length": (*COUNT, 1), "estimators": NAMES,
        "k": (*COUNT, None, 2), "confidence": SHARE, "seed": SEED, "device": DEVICE, "path": PATH,
    },
    "project": {
        "activations": ACTIVATIONS, "layer": NAME, "n_components": ("2", 2.5, True, None, 4, 0, ARRAY),
        "n_neighbors": (*COUNT, None), "min_dist": ("x", -1, 2, True, None, NAN), "max_points": (*COUNT, None),
        "seed": SEED, "cache": (5, "", None, 1, 0, ["x"]), "progress": ("no", 1, 0, None, [True]),
    },
    "Projection.load": {"path": (None, *PATH)},
    "rank_profile": {
        "profile": (None, "x", ARRAY), "plan": ("x", ARRAY), "spectrum": ("x", ARRAY), "estimators": NAMES,
    },
    "dimensions": {"profiles": (None, "x", ARRAY, {}, {"mean": None})},
    "singular_values": {"spectrum": (None, "x", ARRAY), "modules": NAMES},
    "latex_table": {
        "frame": (None, "x", ARRAY), "caption": (None, 5), "label": (None, 5, "", "a b"),
        "bold": (5, "x", {"dimension": True}, {"banana": [True]}),
    },
    "Drawing.save": {
        "path": (None, *PATH), "venue": NAME, "width": NAME, "about": (5, None),
    },
    "Drawing.to_svg": {"width": NAME},
    "plots.umap": {"projections": (None, "x", ARRAY, {}, {"x": None})},
}  # fmt: skip
"""Name of a call -> argument -> values that it must refuse."""

ROWS = [(call, argument) for call, arguments in ARGUMENTS.items() for argument in arguments]


@pytest.mark.parametrize(("call", "argument"), ROWS)
def test_a_wrong_argument_is_refused_by_name_with_its_value_and_a_remedy(
    calls, call, argument, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)  # where what is taken by mistake is written
    function, arguments = calls[call]
    check_refusals(function, arguments, argument, ARGUMENTS[call][argument])
