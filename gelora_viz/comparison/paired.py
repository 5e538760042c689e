"""Finished runs side by side: scores with intervals, and differences from a baseline on the same test texts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from gelora_viz._checks import check_confidence, check_result, describe
from gelora_viz.comparison.intervals import Estimate, crossed_interval, group_numbers, interval_of_extreme
from gelora_viz.comparison.result import BASELINE, BETTER, NOISE, WORSE
from gelora_viz.errors import InputError
from gelora_viz.runs import CAUSAL_LM, RunResult

_SAME = ("name", "seed", "threads")
"""The fields in which runs of one method may differ, and their name, which is known to be the same."""


def tabulate_results(
    results: Sequence[RunResult], *, baseline: str | None = None, confidence: float = 0.95
) -> pd.DataFrame:
    """A table of methods, each compared with a baseline on the same test texts and, where possible, seeds.

    Runs of one name are one method under several seeds. Intervals cover the choice of test texts and of seeds
    together (`gelora_viz.comparison.intervals`): texts of one group, siblings of a category, count as one draw, and
    differences are paired by seed and text. With a single seed they cover only the texts; another seed can move
    a score by more than that.

    Args:
        results: finished runs of one task, tested on the same texts.
        baseline: name of the run that the others are compared with; by default the first.
        confidence: level of the intervals, between 0 and 1.

    Returns:
        One row per name: run, method, seeds (as text), n_seeds, learning_rate, n_parameters (trained, without the
        head), n_parameters_kept (fewer where a method gives some up), accuracy and macro_f1, or perplexity; ci_low,
        ci_high; difference (from the baseline over their common seeds: of accuracies, or of perplexities as a share
        of the baseline's), difference_low, difference_high, verdict (in words), mean_effective_rank,
        mean_utilisation, seconds (of training), peak_memory_mb. Numbers are means over the seeds.

    Raises:
        InputError: if there are no results, no such baseline, the confidence is not between 0 and 1, the test texts,
            tasks or tokens differ, or runs of one name differ in more than their seed.
    """
    check_confidence(confidence)
    if not isinstance(results, Iterable) or isinstance(results, str | Mapping):
        raise InputError(f"results is {describe(results)}; give a list of results, as run.result() gives them")
    results = [check_result(each, RunResult, "one of the results") for each in results]
    if not results:
        raise InputError("no finished runs to compare; fine-tune something first")
    methods: dict[str, list[RunResult]] = {}
    for result in results:
        methods.setdefault(result.spec.name, []).append(result)
    reference = results[0].spec.name if baseline is None else baseline
    if not isinstance(reference, str) or reference not in methods:
        raise InputError(f"no run {describe(reference)} to compare with; runs are {', '.join(methods)}")
    for name, runs in methods.items():
        _check_alike(name, runs)
    base = _Scores.of(methods[reference])
    rows = []
    for name, runs in methods.items():
        scores = _Scores.of(runs)
        _check_same_texts(scores, base, name, reference)
        rows.append(_row(name, runs, scores, base if name != reference else None, confidence))
    return pd.DataFrame(rows)


class _Scores(NamedTuple):
    """The scores of every seed of a method on every test text.

    Attributes:
        task: whose texts they are.
        seeds: (n_seeds,).
        values: (n_seeds, n_texts) 1 for right and 0 for wrong, or summed negative log-likelihoods.
        sizes: (n_texts,) 1, or numbers of predicted tokens.
        groups: (n_texts,) group numbers.
        texts: what must be the same of all that are compared: the texts' fingerprint, and labels or tokens.
    """

    task: str
    seeds: tuple[int, ...]
    values: np.ndarray
    sizes: np.ndarray
    groups: np.ndarray
    texts: tuple[Any, ...]

    @classmethod
    def of(cls, runs: Sequence[RunResult]) -> _Scores:
        first, task = runs[0].predictions, runs[0].spec.task
        if task == CAUSAL_LM:
            per_seed = [run.predictions["nll"].to_numpy(dtype=np.float64) for run in runs]
            sizes = first["n_tokens"].to_numpy(dtype=np.float64)
            alike: Any = [tuple(run.predictions["n_tokens"]) for run in runs]
        else:
            per_seed = [_correct(run.predictions) for run in runs]
            sizes = np.ones(len(first))
            alike = [tuple(run.predictions["label"]) for run in runs]
        texts = [(run.test_texts, each) for run, each in zip(runs, alike, strict=True)]
        if len(set(texts)) > 1:
            raise InputError(
                f"the seeds of {runs[0].spec.name!r} were tested on different texts; give them one data_seed"
            )
        seeds = tuple(run.spec.seed for run in runs)
        return cls(task, seeds, np.stack(per_seed), sizes, group_numbers(first["group"].to_numpy()), texts[0])

    def of_seeds(self, seeds: Sequence[int]) -> np.ndarray:
        """(n_seeds, n_texts) of these seeds."""
        return self.values[[self.seeds.index(seed) for seed in seeds]]


def _row(
    name: str, runs: Sequence[RunResult], scores: _Scores, base: _Scores | None, confidence: float
) -> dict[str, Any]:
    numbers = pd.DataFrame([run.numbers for run in runs])
    spectra = [run.spectrum.frame for run in runs if run.spectrum is not None]
    rate = numbers["learning_rate"].iloc[0]
    gap = Estimate(np.nan, np.nan, np.nan) if base is None else _gap(scores, base, confidence)
    return {
        "run": name,
        "method": runs[0].spec.method,
        "seeds": ", ".join(str(run.spec.seed) for run in runs),
        "n_seeds": len(runs),
        "learning_rate": np.nan if rate is None else float(rate),
        "n_parameters": int(numbers["n_parameters"].iloc[0]),
        "n_parameters_kept": round(float(numbers["n_parameters_kept"].mean())),
        **_score(scores, numbers, confidence),
        "difference": gap.value,
        "difference_low": gap.low,
        "difference_high": gap.high,
        "verdict": BASELINE if base is None else _verdict(gap, scores.task),
        "mean_effective_rank": np.mean([each["entropy_rank"].mean() for each in spectra]) if spectra else np.nan,
        "mean_utilisation": np.mean([each["utilisation"].mean() for each in spectra]) if spectra else np.nan,
        "seconds": float(numbers["seconds"].mean()),
        "peak_memory_mb": float(numbers["peak_memory_mb"].mean()) if "peak_memory_mb" in numbers else np.nan,
    }


def _score(scores: _Scores, numbers: pd.DataFrame, confidence: float) -> dict[str, float]:
    found = crossed_interval(scores.values, scores.groups, sizes=scores.sizes, confidence=confidence)
    if scores.task == CAUSAL_LM:
        value, low, high = (float(np.exp(min(each, 700.0))) for each in found)  # beyond it, infinite
        return {"perplexity": value, "ci_low": low, "ci_high": high}
    if found.value in (0.0, 1.0):
        found = interval_of_extreme(found.value, int(scores.groups.max()) + 1, confidence)
    low, high = (float(np.clip(each, 0, 1)) for each in (found.low, found.high))
    return {"accuracy": found.value, "ci_low": low, "ci_high": high, "macro_f1": float(numbers["macro_f1"].mean())}


def _gap(scores: _Scores, base: _Scores, confidence: float) -> Estimate:
    """Accuracy minus the baseline's, or perplexity over the baseline's, minus 1."""
    common = [seed for seed in scores.seeds if seed in base.seeds]
    if not common:
        return Estimate(np.nan, np.nan, np.nan)
    differences = scores.of_seeds(common) - base.of_seeds(common)
    gap = crossed_interval(differences, base.groups, sizes=base.sizes, confidence=confidence)
    return Estimate(*(float(np.expm1(min(each, 700.0))) for each in gap)) if scores.task == CAUSAL_LM else gap


def _check_alike(name: str, runs: Sequence[RunResult]) -> None:
    """Raise `InputError` unless runs of one name are one specification under different seeds."""
    seeds = [run.spec.seed for run in runs]
    if len(set(seeds)) < len(seeds):
        raise InputError(
            f"{name!r} appears twice with seed {max(seeds, key=seeds.count)}; give each run its own name or seed"
        )
    first = runs[0].spec.to_dict()
    for run in runs[1:]:
        other = run.spec.to_dict()
        differing = sorted(key for key in {*first, *other} - {*_SAME} if first.get(key) != other.get(key))
        if differing:
            raise InputError(
                f"runs named {name!r} differ in {', '.join(differing)}; give runs of one method that differ in "
                "nothing but their seed, and other methods other names"
            )


def _check_same_texts(scores: _Scores, base: _Scores, name: str, reference: str) -> None:
    if scores.task != base.task:
        raise InputError(
            f"run {name!r} is of task {scores.task!r}, and {reference!r} of {base.task!r}; compare runs of one task"
        )
    if scores.texts != base.texts:
        what = "texts, or as other tokens" if scores.task == CAUSAL_LM else "texts"
        raise InputError(f"runs {name!r} and {reference!r} were tested on different {what}; repeat one of them")


def _correct(predictions: pd.DataFrame) -> np.ndarray:
    return (predictions["label"] == predictions["predicted"]).to_numpy(dtype=np.float64)


def _verdict(gap: Estimate, task: str) -> str:
    if np.isnan(gap.value):
        return "unknown: no seed in common with the baseline"
    if np.isnan(gap.low):
        return "unknown: all test texts belong to one group"
    if gap.low <= 0 <= gap.high:
        return NOISE
    return BETTER if (gap.low > 0) is (task != CAUSAL_LM) else WORSE  # a lower perplexity is better
