"""Pictures of rank plans: each kind of matrix over the depth of the model, one plan or several compared."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from gelora_viz._names import goes_by
from gelora_viz.errors import InputError
from gelora_viz.plots.arguments import check_kinds
from gelora_viz.plots.drawing import Drawing, Subplot
from gelora_viz.plots.frames import floats, require_columns
from gelora_viz.plots.layer_pictures import BOUND_STYLE, RANK_STYLE, depth_axis, stack_name
from gelora_viz.plots.marks import Series, style_number
from gelora_viz.ranks import RankPlan

_COLUMNS = ("module", "layer", "stack", "depth", "rank", "lower_bound")
_MOST_COLUMNS = 2
_MOST_NAMES = 3
"""Kinds of matrix that a title lists; of more, it names the first two."""


class _Kind(NamedTuple):
    """What matrices at the same place in their blocks have in common."""

    stack: str
    name: str


_Ranks = dict[_Kind, dict[int, float]]
"""Kind -> depth -> rank."""


def plans(plans: Mapping[str, RankPlan]) -> Drawing:
    """The ranks of one plan, or of several for the same model: a subplot for each kind of matrix, over the blocks.

    Kinds of matrix are what blocks have in common, such as query and value. Those whose ranks agree in every plan
    share a subplot; the stacks of an encoder-decoder have subplots of their own. Several plans are lines, a single
    one is bars, with strokes at its lower bounds where it has any. A matrix that a plan does not name has rank 0.

    Args:
        plans: name -> rank plan, such as {"uniform": ..., "gelora": ...}.

    Returns:
        The drawing.

    Raises:
        InputError: if this is not a mapping of rank plans, an empty one, or plans have no layer in common.
    """
    check_kinds(plans, RankPlan, "plans", "{'gelora': plan}")
    if not plans:
        raise InputError("no plans to draw; give a mapping such as {'gelora': plan}")
    _check_same_model(plans)
    ranks = {name: _by_kind(plan, "rank") for name, plan in plans.items()}
    bounds = _by_kind(next(iter(plans.values())), "lower_bound") if len(plans) == 1 else {}
    groups = _alike(ranks)
    columns = min(len(groups), _MOST_COLUMNS)
    highest = max(_highest(each) for each in (*ranks.values(), bounds))
    subplots = [
        _subplot(ranks, bounds, kinds, highest, first=place % columns == 0, n_columns=columns)
        for place, kinds in enumerate(groups)
    ]
    return Drawing(
        "Rank by block and kind of matrix",
        tuple(subplots),
        "Kinds of matrix whose ranks agree everywhere share a panel. A matrix of rank 0 is not adapted.",
        columns=columns,
        shared_x=len({subplot.x_range for subplot in subplots}) == 1,
    )


def _check_same_model(plans: Mapping[str, RankPlan]) -> None:
    first_name, first = next(iter(plans.items()))
    for name, plan in plans.items():
        require_columns(plan.frame, _COLUMNS, f"rank plan {name!r}")
        if not set(plan.frame["layer"]) & set(first.frame["layer"]):
            raise InputError(
                f"plans {first_name!r} and {name!r} are for different models, with layers such as "
                f"{first.frame['layer'].iloc[0]} and {plan.frame['layer'].iloc[0]}; draw plans for the same model"
            )


def _by_kind(plan: RankPlan, column: str) -> _Ranks:
    """A column of the plan, by kind of matrix and by the depth of its block."""
    found: _Ranks = {}
    for row in plan.frame.to_dict(orient="records"):
        kind = _Kind(row["stack"], str(row["module"]).removeprefix(f"{row['layer']}."))
        (value,) = floats([row[column]])
        found.setdefault(kind, {})[int(row["depth"])] = value
    return found


def _highest(ranks: _Ranks) -> float:
    return max((value for depths in ranks.values() for value in depths.values() if math.isfinite(value)), default=0.0)


def _alike(ranks: Mapping[str, _Ranks]) -> list[list[_Kind]]:
    """The kinds of all plans, stack by stack, grouped where they have the same rank in every block of every plan."""
    kinds = list(dict.fromkeys(kind for plan in ranks.values() for kind in plan))
    stacks = list(dict.fromkeys(kind.stack for kind in kinds))
    groups: dict[object, list[_Kind]] = {}
    for kind in sorted(kinds, key=lambda kind: stacks.index(kind.stack)):
        looks = tuple(tuple(sorted(plan.get(kind, {}).items())) for plan in ranks.values())
        groups.setdefault((kind.stack, looks), []).append(kind)
    return list(groups.values())


def _subplot(
    ranks: Mapping[str, _Ranks],
    bounds: _Ranks,
    kinds: Sequence[_Kind],
    highest: float,
    *,
    first: bool,
    n_columns: int,
) -> Subplot:
    """Rank over depth for kinds that look alike."""
    kind = kinds[0]
    depths = sorted({depth for plan in ranks.values() for depth in plan.get(kind, {})})
    every = {each for plan in ranks.values() for each in plan if each.stack == kind.stack}
    names = _short_names(every)
    return Subplot(
        title=_title(stack_name(kind.stack), [names[each] for each in kinds]),
        y_label="Rank" if first else "",
        series=tuple(_series(ranks, bounds, kind, depths)),
        **(depth_axis(depths, n_columns) | {"x_label": "Block"}),  # embeddings have no ranks
        y_range=(0.0, 1.06 * max(highest, 1.0)),
        y_whole=True,
    )


def _series(ranks: Mapping[str, _Ranks], bounds: _Ranks, kind: _Kind, depths: Sequence[int]) -> Iterable[Series]:
    alone = len(ranks) == 1
    for number, (name, plan) in enumerate(ranks.items()):
        yield Series(
            kind="bars" if alone else "line",
            x=floats(depths),
            y=tuple(plan.get(kind, {}).get(depth, 0.0) for depth in depths),
            label=name,
            style=RANK_STYLE if alone else style_number(number),
        )
    known = [depth for depth in depths if math.isfinite(bounds.get(kind, {}).get(depth, math.nan))]
    if known:
        yield Series(
            kind="markers",
            x=floats(known),
            y=tuple(bounds[kind][depth] for depth in known),
            label="Lower bound",
            style=BOUND_STYLE,
        )


def _short_names(kinds: Iterable[_Kind]) -> dict[_Kind, str]:
    """The shortest ending of each kind's name that tells it from the others of its stack."""
    names = {}
    for kind in kinds:
        parts = kind.name.split(".")
        endings = [".".join(parts[-length:]) for length in range(1, len(parts) + 1)]
        names[kind] = next(
            (ending for ending in endings if sum(goes_by(other.name, ending) for other in kinds) == 1),
            kind.name,
        )
    return names


def _title(stack: str, names: Sequence[str]) -> str:
    listed = ", ".join(names)
    if len(names) > _MOST_NAMES:
        listed = f"{names[0]}, {names[1]} and {len(names) - 2} more"
    return f"{stack}: {listed}" if stack else listed
