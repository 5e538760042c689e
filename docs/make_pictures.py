"""Draw the pictures of README and docs from a finished study: python docs/make_pictures.py studies/demo."""

from __future__ import annotations

import math
import sys
from pathlib import Path

import pandas as pd

from gelora_viz import Activations, Study, capture, dimension_scaling, estimate_dimension, load_model, load_texts
from gelora_viz.errors import SourceError
from gelora_viz.plots import (
    Drawing,
    Panel,
    Series,
    describe_comparison,
    describe_dimensions,
    describe_rank_profile,
    describe_scaling,
    save_paper_figure,
)
from gelora_viz.plots.description import style_number

PICTURES = Path(__file__).parent / "pictures"
RESULTS = Path(__file__).parents[1] / "benchmarks" / "results"


def describe_costs() -> Drawing:
    """Seconds of the graph and of the whole analysis, one panel for each quantity that grows."""
    table = pd.read_csv(RESULTS / "cost_profile.csv", comment="#")
    panels = []
    for axis, rows in table.groupby("axis", sort=False):
        positions = tuple(math.log2(value) for value in rows["value"])
        panels.append(
            Panel(
                title="",
                x_label=str(axis).capitalize(),
                y_label="Seconds" if len(panels) % 2 == 0 else "",
                series=tuple(
                    Series("line", positions, tuple(rows[column]), label, style_number(index))
                    for index, (column, label) in enumerate(
                        {"analysis": "Five estimators with intervals", "graph": "Graph alone"}.items()
                    )
                ),
                x_ticks=positions,
                x_tick_labels=tuple(f"{value:,}" for value in rows["value"]),
                log_y=True,
            )
        )
    return Drawing("What an analysis costs as it grows", tuple(panels), columns=2)


def describe_ablation() -> Drawing:
    """Accuracy and effective rank against trained parameters: means over seeds, whiskers from worst to best."""
    table = pd.read_csv(RESULTS / "genlora_ablation.csv", comment="#")
    table = table[table["chosen"]]
    kinds = {"LoRA": "lora-", "GenLoRA, fixed grid": "grid-", "GenLoRA, own RBFs": "full-"}
    ends = [table["n_parameters"].min(), table["n_parameters"].max()]
    ticks = [2.0**power for power in range(math.ceil(math.log2(ends[0])), math.floor(math.log2(ends[1])) + 1)]
    panels = []
    for column, label in (("accuracy", "Accuracy"), ("entropy_rank", "Mean effective rank")):
        series = []
        for index, (kind, prefix) in enumerate(kinds.items()):
            rows = table[table["method"].str.startswith(prefix)].groupby("method")
            found = rows[column].agg(["mean", "min", "max"]).assign(x=rows["n_parameters"].first()).sort_values("x")
            series.append(
                Series(
                    "markers",
                    tuple(math.log2(x) for x in found["x"]),
                    tuple(found["mean"]),
                    kind,
                    style_number(index),
                    low=tuple(found["min"]),
                    high=tuple(found["max"]),
                    details=tuple(str(method) for method in found.index),
                )
            )
        panels.append(
            Panel(
                title="",
                x_label="Trained parameters",
                y_label=label,
                series=tuple(series),
                x_ticks=tuple(math.log2(tick) for tick in ticks),
                x_tick_labels=tuple(f"{tick / 1000:.0f}k" for tick in ticks),
                y_from_zero=column == "entropy_rank",
            )
        )
    return Drawing("GenLoRA in our reconstruction, and LoRA", tuple(panels), columns=2)


def describe_decoder() -> Drawing | None:
    """SmolLM2-135M on 300 texts, last tokens and token clouds; None where it has not been fetched."""
    try:
        model, tokenizer, _ = load_model("smollm2")
    except SourceError as error:
        sys.stderr.write(f"{error}\n")
        return None
    texts = load_texts("icd10cm", max_texts=300).texts("train")
    profiles = {}
    for pooling in ("last", "tokens"):
        profiles[pooling] = estimate_dimension(capture(model, tokenizer, texts, pooling=pooling), ["twonn", "mle"])
    return describe_dimensions(profiles)


def main(folder: str) -> None:
    """Write the main picture, estimators, scales, runs and costs as PNG."""
    study = Study(folder)
    scaling = dimension_scaling(Activations.load(study.path / "activations" / "tokens"))
    profiles, plan = study.profiles(), study.plan("gelora")
    spectrum = next(result.spectrum for result in study.results() if result.spec.name == "gelora")
    drawings = {
        "rank_profile": describe_rank_profile(profiles["tokens"], plan, spectrum, estimators=["twonn", "mle"]),
        "dimensions": describe_dimensions(profiles),
        "scaling": describe_scaling(scaling),
        "comparison": describe_comparison(study.compare()),
        "cost": describe_costs(),
        "genlora_ablation": describe_ablation(),
    }
    decoder = describe_decoder()
    if decoder is not None:
        drawings["smollm2"] = decoder
    for name, drawing in drawings.items():
        save_paper_figure(drawing, PICTURES / f"{name}.png", venue="icml2024", width="text")


if __name__ == "__main__":
    main(*sys.argv[1:])
