"""Panels for notebooks: controls and pictures of the results, live while a kernel runs.

A panel keeps its state in synced traits, asks the other rooms for every number, and leaves drawing to one small
JavaScript file. `panel` is what all panels share. Names are imported when they are first used, so that the toolkit
works without the extra `gelora_viz[widgets]`.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from gelora_viz.errors import InputError

if TYPE_CHECKING:
    from gelora_viz.widgets.comparison import Comparison as Comparison
    from gelora_viz.widgets.dashboard import Dashboard as Dashboard
    from gelora_viz.widgets.explorer import Explorer as Explorer
    from gelora_viz.widgets.fine_tuning import FineTuning as FineTuning
    from gelora_viz.widgets.panel import Panel as Panel
    from gelora_viz.widgets.rank_budget import RankBudget as RankBudget
    from gelora_viz.widgets.snapshot import Snapshot as Snapshot

_MODULE_OF = {
    "Comparison": "comparison", "Dashboard": "dashboard", "Explorer": "explorer", "FineTuning": "fine_tuning",
    "Panel": "panel", "RankBudget": "rank_budget", "Snapshot": "snapshot",
}  # fmt: skip

__all__ = [*_MODULE_OF]


def __getattr__(name: str) -> Any:  # noqa: ANN401 - PEP 562
    if name not in _MODULE_OF:
        raise AttributeError(f"module 'gelora_viz.widgets' has no attribute {name!r}")
    try:
        module = importlib.import_module(f"gelora_viz.widgets.{_MODULE_OF[name]}")
    except ModuleNotFoundError as error:
        if error.name not in ("anywidget", "ipywidgets", "traitlets"):
            raise
        raise InputError(
            f"widgets.{name} needs {error.name}, which is not installed; install gelora_viz[widgets]"
        ) from error
    value = getattr(module, name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
