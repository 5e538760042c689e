"""Rank plans of models that exist in shapes only, for properties that must hold of any plan."""

from __future__ import annotations

from types import SimpleNamespace

import pandas as pd
from hypothesis import strategies as st

from gelora_viz import RankPlan
from gelora_viz.ranks.plan import PLAN_COLUMNS


def plan_of(rows, *, budget=None, strategy="gelora", **settings):
    """A plan from (layer, name, in_features, out_features, rank) rows."""
    frame = pd.DataFrame(
        [
            {
                "module": f"{layer}.{name}", "layer": layer, "stack": "", "depth": int(layer.rpartition(".")[2]) + 1,
                "in_features": inputs, "out_features": outputs, "rank": rank,
                "n_parameters": rank * (inputs + outputs), "weight": float(rank), "lower_bound": float("nan"),
                "difference": float("nan"), "ci_low": float("nan"), "ci_high": float("nan"), "within_noise": None,
            }
            for layer, name, inputs, outputs, rank in rows
        ],
        columns=PLAN_COLUMNS,
    )  # fmt: skip
    return RankPlan(frame, strategy, budget, settings)


@st.composite
def plans(draw, lowest=0):
    """Plans of up to four blocks with up to three matrices of unequal shapes, some of rank 0, at least `lowest`.

    Some have no budget; of others, not all of it is spent.
    """
    n_kinds = draw(st.integers(1, 3))
    shapes = [draw(st.tuples(st.integers(1, 24), st.integers(1, 24))) for _ in range(n_kinds)]
    rows = [
        (f"layer.{block}", f"kind{kind}", *shape, draw(st.integers(min(lowest, *shape), min(shape))))
        for block in range(draw(st.integers(1, 4)))
        for kind, shape in enumerate(shapes)
    ]
    plan = plan_of(rows)
    spare = draw(st.one_of(st.none(), st.integers(0, 200)))
    return plan if spare is None else RankPlan(plan.frame, "gelora", plan.n_parameters + spare, {})


def spectrum_of(plan, reached=1.0):
    """Anything with the frame of an update spectrum: by module the entropy rank, or one for all."""
    rows = [
        {
            "module": module,
            "rank": float(rank),
            "entropy_rank": reached[module] if isinstance(reached, dict) else reached,
        }
        for module, rank in plan.ranks.items()
        if rank > 0
    ]
    return SimpleNamespace(frame=pd.DataFrame(rows, columns=["module", "rank", "entropy_rank"]))


def could_rise(plan, modules):
    """Costs of one more rank of those of `modules` that are below min(in, out)."""
    return [
        row.in_features + row.out_features
        for row in plan.frame.itertuples()
        if row.module in modules and row.rank < min(row.in_features, row.out_features)
    ]
