"""Methods compared in one call: the same sweep of learning rates, the same seeds, one table.

A comparison is a folder of runs, FOLDER/METHOD/lr0.002-seed0, and comparison.json. Runs that are finished there are
not repeated and those going on are waited for, so that an interrupted comparison goes on where it stopped.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from gelora_viz._checks import check_confidence, check_flag, check_folder, check_result, describe
from gelora_viz._names import did_you_mean
from gelora_viz.comparison.paired import tabulate_results
from gelora_viz.comparison.result import Comparison, metric_of
from gelora_viz.comparison.rounds import run_all
from gelora_viz.comparison.settings import check_rates, check_seeds
from gelora_viz.comparison.sweep import Method, choose_rates, sweep
from gelora_viz.errors import InputError, RunError
from gelora_viz.runs import Executor, Run, RunResult, RunSpec, choose_executor

_SHARED = ("task", "model", "data", "text_column", "label_column", "max_texts", "data_seed")
"""What must be the same for all methods to be tested on the same texts and tokens."""


def compare(
    specs: Sequence[RunSpec],
    *,
    seeds: Sequence[int] = (0, 1, 2),
    learning_rates: Sequence[float] | None = None,
    sweep_rates: bool = True,
    baseline: str | None = None,
    confidence: float = 0.95,
    folder: str | os.PathLike[str] = "runs/comparison",
    executor: str | Executor = "local",
    progress: bool = True,
    **options: Any,  # noqa: ANN401 - the executor's own
) -> Comparison:
    """Train every method under every seed, each at the learning rate that suits it, and compare them.

    Each method first tries the same learning rates with the first seed. Where the best of them, by the validation
    texts, is the lowest or the highest, up to two more are tried beyond it at the same ratio. The rule is the same
    for all methods, so that none is judged at a rate that suits another. The best rate is then run with the other
    seeds. Test texts take no part in the choice. A frozen probe tries rates of its head, in the same ratios.

    Args:
        specs: one per method, with different names; seeds and, with a sweep, learning rates are replaced.
        seeds: seeds of initial weights, dropout and data order, the same for all methods, so that differences are
            paired. Three distinguish a large gap from noise; a small one takes five or more.
        learning_rates: the rates to try, the same for all; None means 1/4, 1 and 4 times the usual rate of an
            adapter: 5e-4, 2e-3 and 8e-3 for classifiers, 1.25e-4, 5e-4 and 2e-3 for language models.
        sweep_rates: False runs each method at the learning rate of its specification.
        baseline: name of the method that the others are compared with; by default the first.
        confidence: level of the intervals, between 0 and 1.
        folder: the comparison's folder.
        executor: what starts the runs: "local", "ray" or an executor (see `launch`).
        progress: show a bar of runs.
        options: options of the executor that is named, such as at_once=2.

    Returns:
        The comparison, also saved as comparison.json in its folder. A method whose runs all failed is included, with
        the cause.

    Raises:
        InputError: before anything is run, if the specifications' names, data or tasks do not fit together, or seeds,
            rates, confidence or the baseline are unusable, or the folder's name begins with a dash.
        RunError: if no run of the baseline has finished, with the cause; the other runs are kept.

    Example:
        >>> specs = [RunSpec("uniform", plan), RunSpec("dora", dora), RunSpec("full", "full")]  # doctest: +SKIP
        >>> compare(specs, seeds=range(5), at_once=2)  # doctest: +SKIP
    """
    chosen = choose_executor(executor, options)
    reference = _check_methods(specs, baseline)
    seeds = check_seeds(seeds)
    rates = _check_rates(learning_rates, sweep_rates=sweep_rates)
    check_confidence(confidence)
    check_flag(progress, "progress")
    place = check_folder(folder, "comparison folder")
    chosen.prepare()
    methods = [
        Method(spec, place / spec.name, seeds, choose_rates(spec, rates, sweeps=sweep_rates)) for spec in specs
    ]
    sweep(methods, lambda asked: run_all(asked, chosen, progress=progress, title="learning rates"))
    repeats = {path: spec for method in methods for path, spec in method.repeats().items()}
    if repeats:
        run_all(repeats, chosen, progress=progress, title="seeds")
    comparison = _summarize(methods, reference, seeds, confidence)
    comparison.save(place / "comparison.json")
    return comparison


def _check_methods(specs: Sequence[RunSpec], baseline: str | None) -> str:
    """Check that the specifications can be compared; returns the baseline's name."""
    if not isinstance(specs, Iterable) or isinstance(specs, str | Mapping):
        raise InputError(f"specs is {describe(specs)}; give a list of RunSpec, one for each method")
    specs = [check_result(spec, RunSpec, "a method of specs") for spec in specs]
    names = [spec.name for spec in specs]
    if not names:
        raise InputError("no specifications to compare; give one for each method")
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise InputError(f"several specifications are named {', '.join(twice)}; give each method a name of its own")
    first = specs[0]
    for spec in specs[1:]:
        differing = [field for field in _SHARED if getattr(spec, field) != getattr(first, field)]
        if differing:
            raise InputError(
                f"{spec.name!r} and {first.name!r} differ in {', '.join(differing)} ("
                f"{getattr(spec, differing[0])!r}, {getattr(first, differing[0])!r}); compare methods on one model "
                "and the same texts"
            )
    if baseline is not None and baseline not in names:
        near = did_you_mean(str(baseline), names)
        raise InputError(f"no method {describe(baseline)} to compare with; {near}")
    return names[0] if baseline is None else baseline


def _check_rates(learning_rates: Sequence[float] | None, *, sweep_rates: bool) -> list[float] | None:
    """The rates to try, where they are given; raises `InputError` for unusable or unwanted ones."""
    sweeps = check_flag(sweep_rates, "sweep_rates")
    rates = None if learning_rates is None else check_rates(learning_rates)
    if rates is not None and not sweeps:
        raise InputError(f"learning_rates are {rates} and sweep_rates is False; give one of them")
    return rates


def _summarize(methods: Sequence[Method], reference: str, seeds: Sequence[int], confidence: float) -> Comparison:
    results: list[RunResult] = []
    rows = []
    causes: dict[str, str] = {}
    for method in methods:
        name, best = method.spec.name, method.best()
        for rate, seed, run in method.runs():
            row, result = _row(run, name, rate, seed)
            rows.append({**row, "chosen": rate == best})
            if result is None:
                causes.setdefault(name, run.message or run.status)
            elif rate == best:
                results.append(result)
    if not any(result.spec.name == reference for result in results):
        raise RunError(f"no run of {reference!r}, which the others are compared with, finished: {causes[reference]}")
    finished = tabulate_results(results, baseline=reference, confidence=confidence)
    by_name = {row["run"]: row for row in finished.to_dict(orient="records")}
    failed = dict.fromkeys(finished.columns, np.nan)
    frame = pd.DataFrame(
        [
            by_name.get(method.spec.name)
            or {**failed, "run": method.spec.name, "method": method.spec.method, "seeds": "", "n_seeds": 0,
                "verdict": f"failed: {causes[method.spec.name]}"}
            for method in methods
        ]
    )  # fmt: skip
    described = {
        method.spec.name: {
            "steps": method.spec.steps, "batch_size": method.spec.batch_size, "rates": method.rates,
            "spec": method.spec.to_dict(),
        }
        for method in methods
    }  # fmt: skip
    numbers = results[0].numbers
    settings = {
        "seeds": list(seeds), "baseline": reference, "confidence": confidence, "methods": described,
        "device": numbers["device"], "threads": numbers["threads"], "versions": numbers["versions"],
    }  # fmt: skip
    return Comparison(frame, pd.DataFrame(rows), settings)


def _row(run: Run, name: str, rate: float, seed: int) -> tuple[dict[str, Any], RunResult | None]:
    row: dict[str, Any] = {
        "run": name, "learning_rate": rate, "seed": seed, "status": run.status, "message": run.message,
        "folder": f"{name}/{run.path.name}",
    }  # fmt: skip
    if row["status"] != "finished":
        return row, None
    result = run.result()
    return {**row, **dict(_scores(result))}, result


def _scores(result: RunResult) -> Iterator[tuple[str, float]]:
    numbers = result.numbers
    metric = metric_of(pd.DataFrame([numbers]))
    yield metric, numbers[metric]
    yield f"validation_{metric}", numbers[f"validation_{metric}"]
    yield "validation_loss", numbers["validation_loss"]
    yield "seconds", numbers["seconds"]
    yield "peak_memory_mb", numbers["peak_memory_mb"]
    if result.spectrum is not None:
        yield "mean_effective_rank", float(result.spectrum.frame["entropy_rank"].mean())
