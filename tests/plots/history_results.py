"""Histories of short trainings, with the numbers of a real one: all-MiniLM-L6-v2 with LoRA on ICD-10-CM diagnoses."""

from dataclasses import replace
from functools import cache

import numpy as np
import pandas as pd
from plot_results import MATRICES, make_profile

from gelora_viz import DimensionHistory, DimensionProfile, SpectrumHistory, UpdateSpectrum

STEPS = (0, 10, 50, 100, 150)
TWONN = {0: [7.4, 7.8, 7.9, 7.7, 7.6, 7.2, 6.1], 150: [7.4, 7.8, 7.7, 7.1, 6.8, 6.2, 4.1]}


def make_rank_history(n_blocks=6, matrices=MATRICES, rank=8, steps=STEPS, prefix="encoder.layer"):
    """Effective ranks that rise with depth and steps; the second kind of matrix has unequal ranks."""
    spectra = {}
    for step in steps:
        rows = []
        for block in range(n_blocks):
            for place, matrix in enumerate(matrices):
                given = rank + (block % 3 if place == 1 else 0)
                reached = given * (0.3 + 0.5 * block / n_blocks) * (1 - np.exp(-step / 50))
                module = f"{prefix}.{block}.{matrix}"
                rows.append({"module": module, "rank": float(given), "entropy_rank": reached})
        spectra[step] = UpdateSpectrum(pd.DataFrame(rows), singular_values={}, method="lora")
    return SpectrumHistory(spectra)


def with_rank(history, rank_at):
    """The same history, in which every matrix has the rank `rank_at(step)`."""
    return SpectrumHistory(
        {step: replace(each, frame=each.frame.assign(rank=rank_at(step))) for step, each in history.spectra.items()}
    )


def make_dimension_history(steps=STEPS, n_blocks=6, stacks=("",)):
    """Dimensions that fall from those before training to those after it, more so in the later blocks."""
    rng = np.random.default_rng(0)
    depths = np.linspace(0, 6, n_blocks + 1)
    before, after = (np.interp(depths, range(7), TWONN[step]) for step in (0, 150))
    sampling = {}  # the part of the halves' gaps that all steps share, since they share their texts
    profiles = {}
    for step in steps:
        values = before + (after - before) * step / 150
        plain = make_profile({"twonn": list(values), "mle": list(0.9 * values)}).frame
        frame = pd.concat([plain.assign(stack=stack, layer=stack + plain["layer"]) for stack in stacks])
        gaps = {}
        for key in zip(frame["layer"], frame["estimator"], strict=True):
            sampling.setdefault(key, rng.normal(0, 0.5, 30))
            gaps[key] = sampling[key] + rng.normal(0, 0.001 * (1 + step), 30)
        profiles[step] = DimensionProfile(frame.reset_index(drop=True), gaps, "mean")
    return DimensionHistory(profiles)


def make_singular_values(n_blocks=6, matrices=MATRICES, rank=8):
    """Values that fall by powers, faster in later blocks; the last of them are too small to count."""
    values = {
        f"encoder.layer.{block}.{matrix}": 3.0 * (0.7 - 0.06 * block) ** np.arange(rank)
        for block in range(n_blocks)
        for matrix in matrices
    }
    return UpdateSpectrum(pd.DataFrame(), values, method="lora")


@cache
def history_drawings():
    """Every picture of this file's results, by name."""
    from gelora_viz import plots

    names = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
    return {
        "rank growth": plots.rank_growth(make_rank_history()),
        "rank growth, 96 layers": plots.rank_growth(make_rank_history(96, names)),
        "dimension history": plots.dimension_history(make_dimension_history()),
        "dimension history, two stacks": plots.dimension_history(
            make_dimension_history(stacks=("encoder", "decoder"))
        ),
        "singular values": plots.singular_values(make_singular_values()),
    }
