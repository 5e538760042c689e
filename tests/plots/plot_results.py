"""Small results with the numbers of a real study: all-MiniLM-L6-v2 on ICD-10-CM diagnoses."""

from functools import cache

import numpy as np
import pandas as pd

from gelora_viz import plots
from gelora_viz.dimension import ESTIMATORS, DimensionProfile
from gelora_viz.ranks import RankPlan
from gelora_viz.spectra import UpdateSpectrum

NAN = float("nan")

MEAN_POOLED = {
    "twonn": [46.1, 40.6, 38.2, 37.9, 35.3, 35.7, 29.5],
    "mle": [43.0, 36.3, 33.9, 33.5, 31.0, 31.9, 33.1],
    "lpca_participation_ratio": [128.0, 121.0, 118.0, 117.0, 119.0, 122.0, 110.0],
    "lpca_maxgap": [1.0] * 7,
}
TOKENS = {
    "twonn": [1.9, 5.3, 8.0, 9.7, 10.6, 10.5, 9.8],
    "mle": [2.6, 6.1, 8.8, 10.1, 11.0, 10.9, 10.4],
}
RANKS = [8, 6, 5, 3, 2, 2]
EFFECTIVE = [3.1, 2.9, 2.5, 1.9, 1.4, 1.3]
MATRICES = ("attention.self.query", "attention.self.value")


def profile_rows(dimensions, stack="", prefix="encoder.layer"):
    for estimator, values in dimensions.items():
        for depth, value in enumerate(values):
            error = NAN if estimator == "lpca_maxgap" else 0.035 * value
            yield {
                "layer": "embeddings" if depth == 0 else f"{prefix}.{depth - 1}",
                "stack": stack,
                "depth": depth,
                "estimator": estimator,
                "dimension": value,
                "std_error": error,
                "ci_low": value - 1.96 * error,
                "ci_high": value + 1.96 * error,
                "n_points": 2000,
                "n_dropped": 3,
            }


def plan_rows(ranks, stack="", prefix="encoder.layer"):
    for block, rank in enumerate(ranks):
        for place, matrix in enumerate(MATRICES):
            # The second block gives one matrix a rank more, so that its bar has a whisker.
            given = rank + (place if block == 1 else 0)
            yield {
                "module": f"{prefix}.{block}.{matrix}",
                "layer": f"{prefix}.{block}",
                "stack": stack,
                "depth": block + 1,
                "in_features": 384,
                "out_features": 384,
                "rank": given,
                "n_parameters": given * 768,
                "lower_bound": max(rank - 2.0, 0.0),
                "difference": rank - 3.0,
                "ci_low": rank - 4.0,
                "ci_high": rank - 2.0,
                "within_noise": rank < 4,
            }


def spectrum_rows(plan_frame, effective):
    for row in plan_frame.itertuples():
        reached = min(effective[row.depth - 1] * (1.12 if row.module.endswith("value") else 0.88), row.rank)
        yield {
            "module": row.module,
            "rank": row.rank,
            "entropy_rank": reached,
            "stable_rank": 0.7 * reached,
            "participation_ratio": 0.8 * reached,
            "numerical_rank": row.rank,
            "utilisation": reached / row.rank,
        }


def make_profile(dimensions=None, *, pooling="mean", rows=None):
    frame = pd.DataFrame(rows if rows is not None else profile_rows(dimensions or MEAN_POOLED))
    return DimensionProfile(frame, half_gaps={}, pooling=pooling)


def make_plan(ranks=RANKS, *, rows=None):
    return RankPlan(pd.DataFrame(rows if rows is not None else plan_rows(ranks)), strategy="gelora")


def make_spectrum(plan, effective=EFFECTIVE):
    return UpdateSpectrum(pd.DataFrame(spectrum_rows(plan.frame, effective)), singular_values={}, method="lora")


def make_deep(n_blocks):
    """A profile, plan and spectrum of a model with any number of blocks."""
    depths = np.arange(n_blocks + 1)
    rng = np.random.default_rng(0)
    twonn = 12 + 14 * np.sin(np.pi * depths / n_blocks) + rng.normal(0, 0.6, n_blocks + 1)
    mle = 0.9 * twonn + rng.normal(0, 0.4, n_blocks + 1)
    ranks = np.maximum(1, np.ceil(np.abs(np.diff(twonn)) * 3)).astype(int)
    profile = make_profile({"twonn": list(twonn), "mle": list(mle)})
    plan = make_plan([int(rank) for rank in ranks])
    return profile, plan, make_spectrum(plan, list(0.5 * ranks))


def make_encoder_decoder():
    """A profile, plan and spectrum of a model with two stacks of six blocks."""
    stacks = {"encoder": [30.0, 26, 24, 22, 21, 20, 19], "decoder": [12.0, 15, 18, 19, 17, 15, 9]}
    rows = [
        row for stack, values in stacks.items() for row in profile_rows({"twonn": values}, stack, f"{stack}.block")
    ]
    plan = make_plan(rows=[row for stack in stacks for row in plan_rows(RANKS, stack, f"{stack}.block")])
    return make_profile(rows=rows), plan, make_spectrum(plan)


def make_many_estimators(n_blocks=6, stacks=("",)):
    """A profile with every estimator of the catalog that has a value everywhere but at one place."""
    rows = []
    for stack in stacks:
        shape = 20 + 14 * np.sin(np.pi * np.arange(n_blocks + 1) / n_blocks)
        values = {name: list(0.2 * (index + 1) * shape) for index, name in enumerate(ESTIMATORS)}
        rows += profile_rows(values, stack, f"{stack}.layer")
    rows[3]["dimension"] = rows[3]["ci_low"] = rows[3]["ci_high"] = NAN
    return make_profile(rows=rows)


def make_comparison(runs=("gelora", "lora-r4", "lora-r8", "adalora")):
    n_runs = len(runs)
    accuracy = np.linspace(0.842, 0.871, n_runs)[::-1]
    difference = accuracy - accuracy[1 % n_runs]
    return pd.DataFrame(
        {
            "run": list(runs),
            "method": "lora",
            "n_parameters": [36_864 * (index + 1) for index in range(n_runs)],
            "accuracy": accuracy,
            "ci_low": accuracy - 0.021,
            "ci_high": accuracy + 0.018,
            "difference": difference,
            "difference_low": difference - 0.015,
            "difference_high": difference + 0.015,
            "verdict": "within noise",
            "mean_effective_rank": 2.2,
            "mean_utilisation": 0.53,
            "seconds": 61.5,
        }
    )


def make_metrics(runs=("gelora", "lora-r8"), n_steps=200):
    rng = np.random.default_rng(0)
    steps = np.arange(1, n_steps + 1)
    metrics = {}
    for index, run in enumerate(runs):
        loss = 0.4 + 2.4 * np.exp(-steps / (40 + 12 * index)) + rng.normal(0, 0.06, n_steps)
        accuracy = np.where(steps % 25 == 0, 0.86 - 0.6 * np.exp(-steps / (50 + 15 * index)), NAN)
        metrics[run] = pd.DataFrame({"step": steps, "loss": loss, "eval_accuracy": accuracy})
    return metrics


@cache
def drawings():
    """Every picture, by name."""
    return {
        "main": plots.rank_profile(*make_deep(6)),
        "24 layers": plots.rank_profile(*make_deep(24)),
        "96 layers": plots.rank_profile(*make_deep(96)),
        "encoder-decoder": plots.rank_profile(*make_encoder_decoder()),
        "dimensions": plots.dimensions({"mean": make_profile(), "tokens": make_profile(TOKENS)}),
        "estimators": plots.estimator_heatmap(make_many_estimators()),
        "estimators of 96 layers": plots.estimator_heatmap(make_many_estimators(96)),
        "estimators of two stacks": plots.estimator_heatmap(make_many_estimators(12, ("encoder", "decoder"))),
        "plans": plots.plans({"gelora": make_plan(), "uniform": make_plan([4] * 6)}),
        "one plan": plots.plans({"gelora": make_plan()}),
        "comparison": plots.comparison(make_comparison()),
        "training": plots.training(make_metrics()),
        "score by size": plots.score_by_size(make_comparison()),
        "utilisation": plots.utilisation({"gelora": make_deep(6)[2], "uniform": make_deep(6)[2]}),
        "overview": plots.overview(*make_deep(6), make_comparison()),
    }
