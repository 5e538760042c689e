"""The outcome of a comparison: a table of methods, every run behind it, and what it means in words."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from gelora_viz._checks import check_path
from gelora_viz._reading import Fields
from gelora_viz._results import frame_html, frame_to_records, read_result, records_to_frame, write_json

BASELINE, BETTER, WORSE, NOISE = (
    "baseline", "better than the baseline", "worse than the baseline", "inside the noise",
)  # fmt: skip
_KIND = "comparison"
_TEXTS = ("run", "method", "seeds", "verdict", "status", "message", "folder", "task", "device", "precision")
"""Columns of both tables that hold texts."""
_FEW_SEEDS = 3
_SAME_SIZE = 0.05
"""Adapters whose sizes differ by at most this share count as having the same budget."""


@dataclass(frozen=True, eq=False)
class Comparison:
    """Methods side by side, over seeds, each at the learning rate that suits it.

    Attributes:
        frame: one row per method, as `tabulate_results` describes it; a method without a finished run has no numbers,
            and its verdict says why.
        runs: one row per run, including the sweep's: run (its method), learning_rate (of a frozen probe's head),
            seed, chosen (whether it is at the rate that was chosen), status, message, validation and validation_loss
            (what the rate was chosen by), accuracy or perplexity (of the test texts), mean_effective_rank, seconds,
            folder.
        settings: seeds, baseline, confidence, sweep, steps, batch_size and data of each method, versions and device.
    """

    frame: pd.DataFrame
    runs: pd.DataFrame
    settings: Mapping[str, Any]

    @property
    def metric(self) -> str:
        """What the methods were scored by: "accuracy" or "perplexity"."""
        return metric_of(self.frame)

    @property
    def notes(self) -> tuple[str, ...]:
        """What the numbers mean, and what they do not, one sentence each."""
        return tuple(_notes(self))

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write as JSON."""
        content = {
            "columns": list(self.frame.columns), "methods": frame_to_records(self.frame),
            "run_columns": list(self.runs.columns), "runs": frame_to_records(self.runs),
            "settings": self.settings,
        }  # fmt: skip
        return write_json(path, _KIND, content)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Comparison:
        """Read what `save` wrote, or a folder that `compare` wrote; raises `StudyError` for another version."""
        source = check_path(path, "path")
        return read_result(source / "comparison.json" if source.is_dir() else source, _KIND, cls._from_dict)

    @classmethod
    def _from_dict(cls, content: Mapping[str, Any]) -> Comparison:
        fields = Fields(content, _KIND)
        found = cls(
            records_to_frame(fields.rows("methods"), fields.texts("columns"), _TEXTS),
            records_to_frame(fields.rows("runs"), fields.texts("run_columns"), _TEXTS),
            fields.mapping("settings"),
        )
        Fields(found.settings, "settings").text("baseline")
        # Whatever a table and its notes read is there, or an error says here what is not.
        _ = found.caption, found.notes, shorten_comparison(found.frame)
        return found

    def __repr__(self) -> str:
        n_seeds = len(self.settings["seeds"])
        return (
            f"Comparison({len(self.frame)} methods, {n_seeds} seed{'s' if n_seeds > 1 else ''}, baseline "
            f"{self.settings['baseline']!r})"
        )

    def _repr_html_(self) -> str:
        table = frame_html(shorten_comparison(self.frame), caption=self.caption)
        return table + frame_html(pd.DataFrame({"in words": self.notes}), caption="")

    @property
    def caption(self) -> str:
        """What the table shows."""
        seeds = ", ".join(str(seed) for seed in self.settings["seeds"])
        over = "seeds and test texts" if len(self.settings["seeds"]) > 1 else "test texts"
        return f"Test {self.metric} with {100 * self.settings['confidence']:g} % intervals over {over}; seeds {seeds}"


def metric_of(frame: pd.DataFrame) -> str:
    """What the runs of a table were scored by: "accuracy" or "perplexity"."""
    return "perplexity" if "perplexity" in frame else "accuracy"


def shorten_comparison(frame: pd.DataFrame) -> pd.DataFrame:
    """The table with each interval in its number's cell, short enough for a page or a terminal."""
    metric = metric_of(frame)
    several_seeds, several_rates = (frame["n_seeds"] > 1).any(), len(set(frame["learning_rate"].dropna())) > 1
    rows = []
    for row in frame.to_dict(orient="records"):
        shown: dict[str, Any] = {
            "run": row["run"],
            "parameters": _parameters(row),
            metric: _score(row, metric),
            "difference": difference_in_words(row, metric),
            "verdict": row["verdict"],
            "effective rank": row["mean_effective_rank"],
            "utilisation": row["mean_utilisation"],
            "seconds": row["seconds"],
            "peak MB": row["peak_memory_mb"],
        }
        if several_seeds:
            shown["seeds"] = int(row["n_seeds"])
        if several_rates:
            shown["learning rate"] = f"{row['learning_rate']:g}" if _known(row["learning_rate"]) else "–"
        rows.append(shown)
    return pd.DataFrame(rows)


def difference_in_words(row: Mapping[Any, Any], metric: str) -> str:
    """A difference with its interval, in percent for perplexities; a dash if there is none."""
    ends = [row[name] for name in ("difference", "difference_low", "difference_high")]
    if not _known(ends[0]):
        return "–"
    value, low, high = (f"{end:{'+.3f' if metric == 'accuracy' else '+.1%'}}" for end in ends)
    return f"{value} [{low}, {high}]" if _known(ends[1]) else value


def _score(row: Mapping[Any, Any], metric: str) -> str:
    ends = [row[metric], row["ci_low"], row["ci_high"]]
    if not _known(ends[0]):
        return "–"
    value, low, high = (f"{end:{'.3f' if metric == 'accuracy' else '.4g'}}" for end in ends)
    return f"{value} [{low}, {high}]" if _known(ends[1]) else value


def _parameters(row: Mapping[Any, Any]) -> str:
    if not _known(row["n_parameters"]):
        return "–"
    kept, trained = f"{int(row['n_parameters_kept']):,}", f"{int(row['n_parameters']):,}"
    return kept if kept == trained else f"{kept} (of {trained})"


def _known(value: object) -> bool:
    return isinstance(value, int | float | np.number) and not math.isnan(float(value))


def _notes(comparison: Comparison) -> Iterator[str]:
    frame, settings, metric = comparison.frame, comparison.settings, comparison.metric
    rows = frame.to_dict(orient="records")
    base = next(row for row in rows if row["verdict"] == BASELINE)
    for row in rows:
        if _known(row["difference"]):
            yield f"{row['run']} against {base['run']}: {difference_in_words(row, metric)}, {row['verdict']}."
        elif row is not base:
            yield f"{row['run']}: {row['verdict']}."
    yield from _on_seeds(rows, len(settings["seeds"]))
    yield from _on_rates(comparison.runs, rows)
    yield from _on_sizes(rows, base)
    for field, what in (("steps", "steps"), ("batch_size", "texts a step")):
        values = {method[field] for method in settings["methods"].values()}
        if len(values) > 1:
            listed = _listed(sorted(values))
            yield f"Methods differ in their {what} ({listed}), so they did not train on the same data."


def _on_seeds(rows: Sequence[Mapping[Any, Any]], n_seeds: int) -> Iterator[str]:
    if n_seeds == 1:
        yield (
            "One seed: intervals cover only the choice of test texts, and another seed can move a score by more "
            "than the differences seen here."
        )
    elif n_seeds < _FEW_SEEDS:
        yield f"{n_seeds} seeds say little about the variation between seeds; the intervals may be too narrow."
    for row in rows:
        if 0 < row["n_seeds"] < n_seeds:
            yield f"{row['run']}: only {int(row['n_seeds'])} of {n_seeds} seeds finished."


def _on_rates(runs: pd.DataFrame, rows: Sequence[Mapping[Any, Any]]) -> Iterator[str]:
    """Which methods were best at an end of their learning rates, and which runs failed."""
    for row in rows:
        mine = runs[runs["run"] == row["run"]]
        rates = sorted(set(mine["learning_rate"]))
        chosen = set(mine[mine["chosen"]]["learning_rate"])
        if len(rates) > 1 and chosen & {rates[0], rates[-1]}:
            end = "highest" if rates[-1] in chosen else "lowest"
            yield (
                f"{row['run']}: the best learning rate is the {end} of those tried ({_listed(rates)}); a better one "
                "may lie beyond."
            )
        for run in mine[mine["status"] != "finished"].itertuples():
            yield f"{run.run} at learning rate {run.learning_rate:g}, seed {run.seed}: {run.message or run.status}."


def _on_sizes(rows: Sequence[Mapping[Any, Any]], base: Mapping[Any, Any]) -> Iterator[str]:
    """Which methods differ from the baseline in size."""
    size = base["n_parameters_kept"]
    others = [
        f"{row['run']} {_parameters(row)}"
        for row in rows
        if _known(row["n_parameters_kept"]) and abs(row["n_parameters_kept"] - size) > _SAME_SIZE * size
    ]
    if others:
        yield f"Sizes differ: {base['run']} trains {_parameters(base)} parameters, {', '.join(others)}."


def _listed(values: Sequence[float]) -> str:
    return ", ".join(f"{value:g}" for value in values)
