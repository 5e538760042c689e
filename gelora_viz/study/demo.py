"""The whole analysis on the embedded model and data, by the public steps of a study."""

from __future__ import annotations

import os
from typing import NamedTuple

import pandas as pd

from gelora_viz._checks import check_flag
from gelora_viz.runs import FROZEN
from gelora_viz.study.study import Study

BUDGET_RANK = 4
"""The budget is that of uniform LoRA with this rank."""
PLAN_POOLING = "tokens"
"""Whose dimensions the demo's GeLoRA plan uses.

Averaged over a text, this model's dimensions hardly change from block to block and the rule gives the uniform plan;
the report shows the bound for both poolings.
"""


class DemoSize(NamedTuple):
    """The size of the demo: training texts (None for all), token points, optimizer steps, evaluations."""

    max_texts: int | None
    max_points: int | None
    steps: int
    evaluations: int


_FULL_SIZE = DemoSize(max_texts=None, max_points=6000, steps=200, evaluations=4)
_QUICK_SIZE = DemoSize(max_texts=600, max_points=1200, steps=10, evaluations=1)


def run_demo(
    path: str | os.PathLike[str], *, quick: bool = False, seed: int = 0, progress: bool = True
) -> pd.DataFrame:
    """Profile the embedded model, allocate ranks, fine-tune, measure, report.

    At the budget of uniform LoRA r = 4 on the model's default matrices, it trains uniform LoRA and GeLoRA's plan,
    with the frozen probe beside them: same seed, same steps, same order of data.

    Args:
        path: the folder of the study; finished steps there are reused.
        quick: a few texts and steps, to see everything work; its accuracies mean nothing.
        seed: seed of data, points, weights and order.
        progress: show bars.

    Returns:
        The table of runs, as from `tabulate_results`.
    """
    check_flag(quick, "quick")
    check_flag(progress, "progress")
    size = _QUICK_SIZE if quick else _FULL_SIZE
    study = Study.create(path, model="minilm", data="icd10cm", max_texts=size.max_texts, seed=seed)
    study.profile(max_points=size.max_points, seed=seed, progress=progress)
    study.allocate("uniform", strategy="uniform", pooling=PLAN_POOLING, budget_rank=BUDGET_RANK, replace=True)
    study.allocate("gelora", strategy="gelora", pooling=PLAN_POOLING, budget_rank=BUDGET_RANK, replace=True)
    for name in (FROZEN, "uniform", "gelora"):
        study.finetune(
            name, steps=size.steps, evaluations=size.evaluations, seed=seed, replace=True, progress=progress
        )
    study.report()
    return study.tabulate_results()
