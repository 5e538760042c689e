"""The curve of intrinsic dimensions over the layers, as panels send it to their page."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from gelora_viz.plots import estimator_style, estimator_title

if TYPE_CHECKING:
    from gelora_viz.dimension import DimensionProfile


def describe_curve(profile: DimensionProfile, estimator: str) -> dict[str, Any]:
    """Look and alternative text of an estimator's curve, and for each stack layers, depths, values and intervals."""
    style = estimator_style(estimator)
    rows = profile.of(estimator).sort_values("depth")
    stacks = []
    for name, of_stack in rows.groupby("stack", sort=False):
        columns = {"dimension": "dimension", "low": "ci_low", "high": "ci_high"}
        curve = {key: without_nan(of_stack[column]) for key, column in columns.items()}
        places = {"layer": of_stack["layer"].tolist(), "depth": of_stack["depth"].tolist()}
        stacks.append({"stack": name, **places, **curve})
    highest = rows.loc[rows["dimension"].idxmax()]
    text = (
        f"Intrinsic dimension by {estimator_title(estimator)} over {len(rows)} layers: "
        f"{rows['dimension'].iloc[0]:.1f} at the embeddings, at most {highest['dimension']:.1f} at "
        f"{highest['layer']}, {rows['dimension'].iloc[-1]:.1f} at the last."
    )
    return {"estimator": estimator, "color": style.color, "dash": style.dash, "text": text, "stacks": stacks}


def without_nan(values: Iterable[float]) -> list[float | None]:
    """Numbers as JSON knows them: None where there is none."""
    return [round(float(value), 4) if math.isfinite(value) else None for value in values]
