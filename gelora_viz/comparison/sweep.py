"""The learning rate that suits a method, by validation texts: a few rates first, then others beyond the ends."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from gelora_viz.runs import CAUSAL_LM, FROZEN, Run, RunSpec, attach, usual_learning_rate

_FACTORS = (0.25, 1.0, 4.0)
"""Multiples of the usual rate: three runs, far enough apart to enclose the best rate of most methods."""
_MOST_FURTHER = 2
"""Rates tried beyond the ends of a sweep, as long as the last one is the best so far."""


class Method:
    """One method of a comparison: its runs, and the rate that suits it.

    Args:
        spec: the method; its seed and learning rate are replaced. Of a frozen probe the head's rate is.
        folder: the folder of its runs.
        seeds: the sweep is run with the first.
        rates: to try, in rising order; it grows.
    """

    def __init__(self, spec: RunSpec, folder: Path, seeds: Sequence[int], rates: Sequence[float]) -> None:
        self.spec, self.rates = spec, list(rates)
        self._folder, self._seeds = folder, list(seeds)

    def trials(self) -> dict[Path, RunSpec]:
        """The runs of the sweep: folder -> specification."""
        return dict(self._run_at(rate, self._seeds[0]) for rate in self.rates)

    def repeats(self) -> dict[Path, RunSpec]:
        """The runs at the best rate with the other seeds; none if every trial failed."""
        best = self.best()
        return {} if best is None else dict(self._run_at(best, seed) for seed in self._seeds[1:])

    def runs(self) -> list[tuple[float, int, Run]]:
        """(rate, seed, run) of all of them."""
        best = self.best()
        pairs = [(rate, self._seeds[0]) for rate in self.rates]
        pairs += [] if best is None else [(best, seed) for seed in self._seeds[1:]]
        return [(rate, seed, attach(self._run_at(rate, seed)[0])) for rate, seed in pairs]

    def best(self) -> float | None:
        """The rate with the best score on the validation texts, then the lowest loss; None if all failed."""
        scores = {}
        for rate in self.rates:
            run = attach(self._run_at(rate, self._seeds[0])[0])
            if run.status == "finished":
                scores[rate] = validation_score(run.result().numbers)
        return max(scores, key=lambda rate: scores[rate]) if scores else None

    def try_further(self) -> dict[Path, RunSpec]:
        """Add the next rate beyond the best one, at the same ratio; returns its run, or none if no end is best."""
        best, rates = self.best(), self.rates
        if best is None or len(rates) < 2 or best not in (rates[0], rates[-1]):
            return {}
        neighbor = rates[1] if best == rates[0] else rates[-2]
        further = _rounded(best * best / neighbor)
        if further >= 1:
            return {}
        self.rates = sorted([*rates, further])
        return dict([self._run_at(further, self._seeds[0])])

    def _run_at(self, rate: float, seed: int) -> tuple[Path, RunSpec]:
        swept = "head_learning_rate" if self.spec.adapter == FROZEN else "learning_rate"
        spec = dataclasses.replace(self.spec, seed=seed, **{swept: rate})  # type: ignore[arg-type]
        return self._folder / f"lr{rate:.4g}-seed{seed}", spec


def sweep(methods: Sequence[Method], run: Callable[[dict[Path, RunSpec]], None]) -> None:
    """Run every method's trials, and extend its rates as long as the best one is at an end."""
    run({path: spec for method in methods for path, spec in method.trials().items()})
    for _ in range(_MOST_FURTHER):
        further = {path: spec for method in methods for path, spec in method.try_further().items()}
        if not further:
            return
        run(further)  # these alone: a rate that failed would fail again


def choose_rates(spec: RunSpec, learning_rates: Sequence[float] | None, *, sweeps: bool) -> list[float]:
    """The rates that a method tries first, in rising order.

    The frozen probe of a classifier tries rates of its head instead, around its own in the same ratios; that of a
    language model trains nothing.
    """
    own = spec.head_learning_rate if spec.adapter == FROZEN else spec.learning_rate
    if not sweeps or (spec.adapter == FROZEN and spec.task == CAUSAL_LM):
        return [own]
    usual = usual_learning_rate(spec.task)
    rates = [factor * usual for factor in _FACTORS] if learning_rates is None else sorted(set(learning_rates))
    if spec.adapter != FROZEN:
        return [_rounded(rate) for rate in rates]
    middle = rates[len(rates) // 2]
    return [_rounded(own * rate / middle) for rate in rates]


def validation_score(numbers: Mapping[str, float]) -> tuple[float, float]:
    """What rates are chosen by, the higher the better: accuracy if there is one, then the negative loss."""
    loss = numbers["validation_loss"]
    return numbers.get("validation_accuracy", -loss), -loss


def _rounded(rate: float) -> float:
    """The rate to four digits, as in the names of folders."""
    return float(f"{rate:.4g}")
