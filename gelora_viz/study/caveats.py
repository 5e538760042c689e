"""What a careful reader of a study would want to be told, in words, as far as the numbers themselves show it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from gelora_viz.comparison import BASELINE, NOISE, metric_of
from gelora_viz.dimension import ESTIMATORS
from gelora_viz.study.findings import Findings

if TYPE_CHECKING:
    import pandas as pd

_FEW = 500


def caveats(found: Findings) -> Iterator[str]:
    """List the caveats that follow from the numbers themselves."""
    n_texts = len(found.data.texts("train"))
    if n_texts < _FEW:
        yield f"Only {n_texts} training texts: intervals are wide, and runs on so few say little about accuracy."
    for pooling, profile in found.profiles.items():
        points = profile.frame.drop_duplicates("layer").set_index("layer")["n_points"]
        few = points[points < min(_FEW, n_texts)]
        if len(few):
            said = ", ".join(f"{layer} ({count:,})" for layer, count in few.items())
            yield (
                f"Pooling {pooling}: few points were left to estimate from in {said}; high dimensions are "
                "underestimated by much with so few."
            )
        dropped = profile.frame.drop_duplicates("layer").set_index("layer")["n_dropped"]
        for layer, count in dropped[dropped > 0].items():
            yield f"Pooling {pooling}, {layer}: {count:,} near-duplicate points were dropped before estimating."
        smooth = profile.frame[[ESTIMATORS[name].smooth for name in profile.frame["estimator"]]]
        ratio = smooth.groupby("layer", sort=False)["dimension"].agg(lambda each: each.max() / each.min()).max()
        if ratio > 2:
            yield (
                f"Pooling {pooling}: estimators disagree by a factor of up to {ratio:.1f} on the same layer. They "
                "look at different scales, and the linear ones do not measure a manifold dimension at all."
            )
    for name, plan in found.plans.items():
        if plan.strategy != "gelora":
            continue
        layers = plan.by_layer()
        noisy = int(layers["within_noise"].fillna(value=False).astype(bool).sum())
        yield (
            f"Plan {name}: in {noisy} of {len(layers)} blocks the change of dimension is inside the noise. The bound "
            f"also rests on the choice of pooling ({plan.settings['pooling']}) and estimator "
            f"({plan.settings['estimator']}); the table of bounds shows the others."
        )
        if plan.budget is not None:
            yield (
                f"Plan {name} spends its budget in proportion to GeLoRA's unrounded bounds. That scaling is our "
                "reconstruction; the paper's own could not be read."
            )
    for name in found.stale_plans:
        yield f"Plan {name} was made from an earlier profile than the one shown; allocate it again."
    for name in found.outdated():
        yield f"Run {name} was trained with an earlier plan of that name, its picture mixes both; fine-tune it again."
    yield (
        "Intervals of dimensions cover sampling error only. With finitely many points every distance-based estimator "
        "reads high dimensions too low, and no interval here covers that."
    )
    yield from _about_runs(found)
    if found.data.n_unlabelled:
        yield f"{found.data.n_unlabelled:,} texts without a label were left out of the data."
    if found.data.n_duplicates:
        yield f"{found.data.n_duplicates:,} repeated texts were left out of the data."


def _about_runs(found: Findings) -> Iterator[str]:
    if found.comparison is not None:
        metric = metric_of(found.comparison)
        yield from _inside_the_noise(found.comparison, f"on these test texts, in {metric}")
        yield (
            f"In the table of single runs each {metric} comes from one seed; its interval is about the choice of "
            "test texts, not about the seed. Another seed can move a single run by more than the gaps seen here."
        )
        if len({(each.spec.steps, each.spec.batch_size, each.spec.seed) for each in found.results}) == 1:
            yield (
                f"All runs took the same {found.results[0].spec.steps} steps with the same order of data; none is "
                "trained to convergence."
            )
    for name, compared in found.comparisons.items():
        yield from _inside_the_noise(compared.frame, f"over the seeds of {name}, in {metric_of(compared.frame)}")


def _inside_the_noise(frame: pd.DataFrame, where: str) -> Iterator[str]:
    """The runs that no reader should call better or worse than the baseline."""
    runs = frame["run"][frame["verdict"] == NOISE]
    if len(runs):
        baseline = frame["run"][frame["verdict"] == BASELINE].iloc[0]
        yield (
            f"{', '.join(runs)} against {baseline}: inside the noise {where}. That shows no difference, and shows "
            "no equality either."
        )
