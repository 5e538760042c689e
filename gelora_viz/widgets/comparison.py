"""Compared methods: the score of each against its size, and how two of them used their ranks, by layer.

All numbers come from `compare` or `tabulate_results` and from the runs' spectra; here they are only put side by side.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
import traitlets

from gelora_viz import plots
from gelora_viz._checks import check_path
from gelora_viz._names import did_you_mean
from gelora_viz.comparison import Comparison, difference_in_words, metric_of, tabulate_results
from gelora_viz.errors import InputError
from gelora_viz.runs import RunResult
from gelora_viz.spectra import UpdateSpectrum
from gelora_viz.widgets.panel import Panel, read_module, read_style

_COLUMNS = ("run", "n_parameters", "ci_low", "ci_high", "verdict")


class ComparisonExplorer(Panel):
    """Methods side by side; `gelora_viz.Comparison` is the result that this panel shows.

    Above, each method's score with its interval against the number of parameters. Below, for two methods that can be
    chosen, the effective rank of every layer against its assigned rank, and the difference between the two by layer.
    Effective ranks are means over a layer's matrices and over seeds; they are read from the runs' folders when a
    method is first chosen.

    Args:
        compared: a `gelora_viz.Comparison`; results of finished runs; or a frame that `tabulate_results` has made of
            them.
        folder: the comparison's folder (runs/<name> of a study), or the folder of a frame's runs (runs of a study).
            Without it a `Comparison` or a frame shows no ranks by layer; runs bring theirs along.
        baseline: name of the run to compare runs with; by default the first.

    Raises:
        InputError: if there is nothing to compare, or a frame lacks a column.

    Example:
        >>> study = gv.Study.open("studies/demo")  # doctest: +SKIP
        >>> gv.widgets.ComparisonExplorer(study.results(), baseline="uniform")  # doctest: +SKIP
        >>> found = study.comparisons()["comparison"]  # doctest: +SKIP
        >>> gv.widgets.ComparisonExplorer(found, folder=study.path / "runs" / "comparison")  # doctest: +SKIP
    """

    _esm = read_module("comparison.js")
    _css = read_style("comparison.css")

    first = traitlets.Unicode().tag(sync=True)
    """The method whose effective ranks are subtracted."""

    second = traitlets.Unicode().tag(sync=True)
    """The method that they are subtracted from."""

    metric = traitlets.Unicode().tag(sync=True)
    """What methods are scored by: "accuracy" or "perplexity"."""

    methods: traitlets.List[dict[str, Any]] = traitlets.List().tag(sync=True)
    """Of every method: name, parameters, score with the ends of its interval, look, and all of it in words."""

    layers: traitlets.List[dict[str, Any]] = traitlets.List().tag(sync=True)
    """Of every layer: name, and for both chosen methods the assigned and the effective rank, null where unknown."""

    why_no_layers = traitlets.Unicode("").tag(sync=True)
    """Why no ranks by layer are shown, if none are."""

    def __init__(
        self,
        compared: Comparison | pd.DataFrame | Sequence[RunResult],
        *,
        folder: str | os.PathLike[str] | None = None,
        baseline: str | None = None,
    ) -> None:
        self._folder = None if folder is None else check_path(folder, "folder")
        self._results: dict[str, list[RunResult]] = {}
        self._runs: pd.DataFrame | None = None
        self._ranks: dict[str, dict[str, tuple[float, float]]] = {}
        self.compared: Comparison | pd.DataFrame
        if isinstance(compared, Comparison):
            self.compared, frame, self._runs = compared, compared.frame, compared.runs
        elif isinstance(compared, pd.DataFrame):
            self.compared = frame = compared
        else:
            self.compared = frame = tabulate_results(compared, baseline=baseline)
            for result in compared:
                self._results.setdefault(result.spec.name, []).append(result)
        lacking = [name for name in (*_COLUMNS, metric_of(frame)) if name not in frame]
        if lacking or not len(frame):
            what = f"lacks {', '.join(lacking)}" if lacking else "has no rows"
            raise InputError(f"the frame of compared runs {what}; give what tabulate_results returns")
        self._frame = frame
        names = [str(name) for name in frame["run"]]
        metric = metric_of(frame)
        first, second = self._begin_with(names)
        super().__init__(
            first=first,
            second=second,
            metric=metric,
            methods=[_method(number, row, metric) for number, row in enumerate(frame.to_dict(orient="records"))],
        )
        self._show()
        self.observe(self._on_choice, names=["first", "second"])

    def describe(self) -> plots.Drawing:
        """The scores and differences, as `plots.comparison` has them."""
        return plots.comparison(self.compared)

    def _begin_with(self, names: Sequence[str]) -> tuple[str, str]:
        """The baseline and the best of the others, of those that have ranks."""
        frame = self._frame
        trained = frame[frame["n_parameters"] > 0] if (frame["n_parameters"] > 0).any() else frame
        if "mean_effective_rank" in frame and trained["mean_effective_rank"].notna().any():
            trained = trained[trained["mean_effective_rank"].notna()]
        base = trained[trained["verdict"] == "baseline"]["run"].tolist() or trained["run"].tolist()
        metric = metric_of(frame)
        others = trained[trained["run"] != base[0]].sort_values(metric, ascending=metric == "perplexity")
        return str(base[0]), str(others["run"].iloc[0] if len(others) else names[-1])

    def _on_choice(self, change: Mapping[str, Any]) -> None:
        names = [each["name"] for each in self.methods]
        if change["new"] not in names:
            raise InputError(f"no method {change['new']!r} in the comparison; {did_you_mean(change['new'], names)}")
        self._show()

    def _show(self) -> None:
        both = [self._ranks_of(name) for name in (self.first, self.second)]
        layers = sorted({*both[0], *both[1]}, key=_natural)
        with self.hold_sync():
            self.layers = [
                {"name": layer, "assigned": [_known(each, layer, 0) for each in both],
                 "effective": [_known(each, layer, 1) for each in both]}
                for layer in layers
            ]  # fmt: skip
            missing = [name for name, ranks in zip((self.first, self.second), both, strict=True) if not ranks]
            self.why_no_layers = self._say_why(missing) if missing else ""
            self.status = self._say_difference()

    def _say_why(self, missing: Sequence[str]) -> str:
        if not self._results and self._folder is None:
            return "Ranks by layer are in the folders of the runs: give folder=, as the panel's description says."
        return f"{' and '.join(dict.fromkeys(missing))}: no effective ranks were recorded, as of a frozen model."

    def _say_difference(self) -> str:
        pairs = [each["effective"] for each in self.layers]
        gaps = [second - first for first, second in pairs if first is not None and second is not None]
        if not gaps:
            return f"{len(self.methods)} methods."
        mean = sum(gaps) / len(gaps)
        if abs(mean) < 0.005:
            return (
                f"{self.second} and {self.first} reach the same effective rank, on average over {len(gaps)} layers."
            )
        return (
            f"{self.second} reaches an effective rank {abs(mean):.2f} {'higher' if mean >= 0 else 'lower'} than "
            f"{self.first}, on average over {len(gaps)} layers."
        )

    def _ranks_of(self, name: str) -> dict[str, tuple[float, float]]:
        """Layer -> assigned and effective rank, means over its matrices and the seeds."""
        if name not in self._ranks:
            frames = [spectrum.frame for spectrum in self._read_spectra(name)]
            if not frames:
                self._ranks[name] = {}
            else:
                whole = pd.concat(frames)
                whole = whole.assign(layer=whole["module"].map(_layer_of))
                means = whole.groupby("layer", sort=False)[["rank", "entropy_rank"]].mean()
                self._ranks[name] = {str(row.Index): (row.rank, row.entropy_rank) for row in means.itertuples()}
        return self._ranks[name]

    def _read_spectra(self, name: str) -> list[UpdateSpectrum]:
        if name in self._results:
            return [each.spectrum for each in self._results[name] if each.spectrum is not None]
        if self._folder is None:
            return []
        if self._runs is None:
            places = [self._folder / name]
        else:
            chosen = self._runs[(self._runs["run"] == name) & self._runs["chosen"].astype(bool)]
            places = [self._folder / str(place) for place in chosen["folder"]]
        files = [place / "spectrum.json" for place in places]
        return [UpdateSpectrum.load(file) for file in files if file.exists()]


def _method(number: int, row: Mapping[Any, Any], metric: str) -> dict[str, Any]:
    style = plots.style_number(number)
    score, low, high = (_finite(row[name]) for name in (metric, "ci_low", "ci_high"))
    size = _finite(row["n_parameters"])
    form = ".3f" if metric == "accuracy" else ".4g"
    words = [str(row["run"])]
    if size is not None:
        words.append(f"{size:,.0f} parameters")
    if score is not None:
        interval = f" [{low:{form}}, {high:{form}}]" if low is not None and high is not None else ""
        words.append(f"{metric} {score:{form}}{interval}")
    if _finite(row.get("difference")) is not None:
        words.append(f"difference to the baseline {difference_in_words(row, metric)}")
    words.append(str(row["verdict"]))
    return {
        "name": str(row["run"]), "parameters": size, "score": score, "low": low, "high": high,
        "color": style.color, "marker": style.marker, "words": ", ".join(words),
    }  # fmt: skip


def _finite(value: Any) -> float | None:  # noqa: ANN401 - whatever a frame holds
    return float(value) if isinstance(value, int | float) and math.isfinite(value) else None


def _known(ranks: Mapping[str, tuple[float, float]], layer: str, place: int) -> float | None:
    found = _finite(ranks[layer][place]) if layer in ranks else None
    return None if found is None else round(found, 3)


def _layer_of(module: str) -> str:
    """The block that a matrix is in, by its name: up to the first number, which counts the blocks of a stack."""
    found = re.match(r"(.*?\.\d+)\.", f"{module}.")
    return found.group(1) if found else module


def _natural(name: str) -> list[Any]:
    """So that block 2 comes before block 10."""
    return [(1, int(part), "") if part.isdigit() else (0, 0, part) for part in re.split(r"(\d+)", name)]
