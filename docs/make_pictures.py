"""Draw the pictures of README and docs, as PNG files in docs/pictures.

python docs/make_pictures.py studies/demo                     # all of them, from a finished study
python docs/make_pictures.py genlora_ablation rank_growth     # some that need no study
"""

from __future__ import annotations

import argparse
import math
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import pandas as pd
from peft import LoraConfig

from gelora_viz import (
    Activations,
    RunSpec,
    SpectrumHistory,
    Study,
    capture,
    dimension_scaling,
    estimate_dimension,
    launch,
    load_model,
    load_texts,
    plots,
)
from gelora_viz.errors import SourceError
from gelora_viz.plots import Drawing, Series, Subplot, style_number

PICTURES = Path(__file__).parent / "pictures"
RESULTS = Path(__file__).parents[1] / "benchmarks" / "results"


def draw_costs() -> Drawing:
    """Seconds of the graph and of the whole analysis, one subplot for each quantity that grows."""
    table = pd.read_csv(RESULTS / "cost_profile.csv", comment="#")
    subplots = []
    for axis, rows in table.groupby("axis", sort=False):
        positions = tuple(math.log2(value) for value in rows["value"])
        subplots.append(
            Subplot(
                title="",
                x_label=str(axis).capitalize(),
                y_label="Seconds" if len(subplots) % 2 == 0 else "",
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
    return Drawing("What an analysis costs as it grows", tuple(subplots), columns=2)


def draw_ablation() -> Drawing:
    """Accuracy and effective rank against trained parameters: means over seeds, whiskers from worst to best."""
    table = pd.read_csv(RESULTS / "genlora_ablation.csv", comment="#")
    table = table[table["chosen"]]
    kinds = {"LoRA": "lora-", "GenLoRA, fixed grid": "grid-", "GenLoRA, own RBFs": "full-"}
    ticks = [10_000.0, 20_000.0, 40_000.0, 80_000.0]
    subplots = []
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
        subplots.append(
            Subplot(
                title="",
                x_label="Trained parameters",
                y_label=label,
                series=tuple(series),
                x_ticks=tuple(math.log2(tick) for tick in ticks),
                x_tick_labels=tuple(f"{tick / 1000:.0f}k" for tick in ticks),
                y_from_zero=column == "entropy_rank",
            )
        )
    return Drawing("GenLoRA in our reconstruction, and LoRA", tuple(subplots), columns=2)


def draw_decoder() -> Drawing | None:
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
    return plots.dimensions(profiles)


def draw_all_estimators() -> Drawing:
    """All estimators that need no further package, on the mean-pooled texts of notebook 02."""
    model, tokenizer, _ = load_model("minilm")
    texts = load_texts("icd10cm", max_texts=1500, seed=0).texts("train")
    return plots.estimator_heatmap(
        estimate_dimension(capture(model, tokenizer, texts, pooling="mean", seed=0), "all")
    )


def draw_growth() -> Drawing:
    """Effective ranks of LoRA r = 8 over a training of 150 steps on the default task, seed 0."""
    adapter = LoraConfig(r=8, lora_alpha=16, target_modules=["query", "value"])
    with tempfile.TemporaryDirectory() as folder:
        run = launch(RunSpec("growth", adapter, steps=150, spectra_every=10), run_dir=Path(folder) / "growth").wait()
        run.result()  # says why, where it failed
        return plots.rank_growth(SpectrumHistory.load(run.path / "spectra.json"))


def of_study(folder: str) -> dict[str, Callable[[], Drawing | None]]:
    """Name -> what draws it, from a study's results."""
    study = Study.open(folder)

    def rank_profile() -> Drawing:
        spectrum = next(result.spectrum for result in study.results() if result.spec.name == "gelora")
        return plots.rank_profile(
            study.profiles()["tokens"], study.plan("gelora"), spectrum, estimators=["twonn", "mle"]
        )

    return {
        "rank_profile": rank_profile,
        "dimensions": lambda: plots.dimensions(study.profiles()),
        "scaling": lambda: plots.scaling(dimension_scaling(Activations.load(study.path / "activations" / "tokens"))),
        "comparison": lambda: plots.comparison(study.tabulate_results()),
    }


OTHERS: dict[str, Callable[[], Drawing | None]] = {
    "cost": draw_costs,
    "estimators": draw_all_estimators,
    "genlora_ablation": draw_ablation,
    "rank_growth": draw_growth,
    "smollm2": draw_decoder,
}
"""Name -> what draws it, from benchmarks/results or from a run of its own; None where something is not here."""


def main(*words: str) -> None:
    """Write the pictures as PNG."""
    drawing = dict(OTHERS)
    for word in words:
        if word not in OTHERS:
            drawing |= of_study(word)
    chosen = [word for word in words if word in OTHERS] or list(drawing)
    for name in chosen:
        found = drawing[name]()
        if found is not None:
            found.save(PICTURES / f"{name}.png", venue="icml2026", width="text")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "what",
        nargs="*",
        help=f"a finished study, or pictures that need none: {', '.join(OTHERS)} (default: all of these)",
    )
    main(*parser.parse_args().what)
