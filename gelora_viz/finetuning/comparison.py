"""Finished runs side by side: accuracies with intervals, and differences to a baseline on the same test texts."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from scipy import stats

from gelora_viz.errors import InputError
from gelora_viz.finetuning.result import RunResult


def compare_runs(
    results: Sequence[RunResult], *, baseline: str | None = None, confidence: float = 0.95
) -> pd.DataFrame:
    """A table of runs, each compared with a baseline on the same test texts.

    Intervals are about the choice of test texts: texts of one group (siblings of a category) are taken as one draw,
    so the standard error is that of group totals. They are not about the seed: one seed per method says nothing about
    how the next seed would turn out, and gaps between single runs are often smaller than that.

    Args:
        results: finished runs, tested on the same texts.
        baseline: name of the run that the others are compared with; by default the first.
        confidence: of the intervals.

    Returns:
        One row per run: run, method, seed, n_parameters, accuracy, ci_low, ci_high, macro_f1, difference (to the
        baseline), difference_low, difference_high, verdict (in words), mean_effective_rank, mean_utilisation,
        seconds.

    Raises:
        InputError: if there are no results, no such baseline, or the test texts differ.
    """
    if not results:
        raise InputError("no finished runs to compare; fine-tune something first")
    names = [result.spec.name for result in results]
    reference = names[0] if baseline is None else baseline
    if reference not in names:
        raise InputError(f"no run {reference!r} to compare with; runs are {', '.join(names)}")
    base = results[names.index(reference)]
    rows = []
    for result in results:
        same_labels = list(result.predictions["label"]) == list(base.predictions["label"])
        if not same_labels or result.test_texts != base.test_texts:
            raise InputError(
                f"runs {result.spec.name!r} and {reference!r} were tested on different texts; repeat one of them"
            )
        groups = _groups(result.predictions["group"])
        accuracy, low, high = _mean_interval(_correct(result), groups, confidence)
        low, high = float(np.clip(low, 0, 1)), float(np.clip(high, 0, 1))
        if accuracy in (0.0, 1.0):
            low, high = _extreme_interval(accuracy, int(groups.max()) + 1, confidence)
        gap, gap_low, gap_high = _mean_interval(_correct(result) - _correct(base), groups, confidence)
        is_base = result is base
        spectrum = None if result.spectrum is None else result.spectrum.frame
        rows.append(
            {
                "run": result.spec.name,
                "method": result.spec.method,
                "seed": result.spec.seed,
                "n_parameters": result.numbers["n_parameters"],
                "accuracy": accuracy,
                "ci_low": low,
                "ci_high": high,
                "macro_f1": result.numbers["macro_f1"],
                "difference": np.nan if is_base else gap,
                "difference_low": np.nan if is_base else gap_low,
                "difference_high": np.nan if is_base else gap_high,
                "verdict": "baseline" if is_base else _verdict(gap_low, gap_high),
                "mean_effective_rank": np.nan if spectrum is None else spectrum["entropy_rank"].mean(),
                "mean_utilisation": np.nan if spectrum is None else spectrum["utilisation"].mean(),
                "seconds": result.numbers["seconds"],
            }
        )
    return pd.DataFrame(rows)


def shorten_comparison(comparison: pd.DataFrame) -> pd.DataFrame:
    """The comparison with each interval in the cell of its number, as a page and a terminal have room for."""
    rows = [
        {
            "run": row.run,
            "parameters": row.n_parameters,
            "accuracy": f"{row.accuracy:.3f} [{row.ci_low:.3f}, {row.ci_high:.3f}]",
            "difference": "–"
            if row.verdict == "baseline"
            else f"{row.difference:+.3f} [{row.difference_low:+.3f}, {row.difference_high:+.3f}]",
            "verdict": row.verdict,
            "effective rank": row.mean_effective_rank,
            "utilisation": row.mean_utilisation,
            "seconds": row.seconds,
        }
        for row in comparison.itertuples()
    ]
    return pd.DataFrame(rows)


def _correct(result: RunResult) -> np.ndarray:
    return (result.predictions["label"] == result.predictions["predicted"]).to_numpy(dtype=np.float64)


def _groups(group: pd.Series) -> np.ndarray:
    """Group number of each text; a text without a group is one of its own."""
    alone = pd.Series([f"\0{position}" for position in range(len(group))], index=group.index)
    return pd.factorize(group.where(group.notna(), alone))[0]


def _mean_interval(values: np.ndarray, groups: np.ndarray, confidence: float) -> tuple[float, float, float]:
    """Mean, and its interval from the variance of group totals (Cochran 1977, section 9A.2, infinite population)."""
    mean = float(values.mean())
    totals = np.bincount(groups, weights=values - mean)
    n_groups = len(totals)
    if n_groups < 2:
        return mean, np.nan, np.nan
    std_error = np.sqrt(n_groups / (n_groups - 1) * np.square(totals).sum()) / len(values)
    reach = float(stats.t.ppf(0.5 + confidence / 2, n_groups - 1) * std_error)
    return mean, mean - reach, mean + reach


def _extreme_interval(accuracy: float, n_groups: int, confidence: float) -> tuple[float, float]:
    """Wilson's interval (1927) where every text, or none, was right and the variance says nothing."""
    z2 = float(stats.norm.ppf(0.5 + confidence / 2)) ** 2
    reach = z2 / (n_groups + z2)
    return (1 - reach, 1.0) if accuracy == 1.0 else (0.0, reach)


def _verdict(low: float, high: float) -> str:
    if np.isnan(low):
        return "unknown: all test texts are of one group"
    if low > 0:
        return "better than the baseline"
    return "worse than the baseline" if high < 0 else "inside the noise"
