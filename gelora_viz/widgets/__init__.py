"""Panels for notebooks: controls and pictures of the results, live while a kernel runs.

A panel keeps its state in synced traits, asks the other rooms for every number, and leaves drawing to one small
JavaScript file. `panel` is what all panels share. Names are imported when they are first used, so that the toolkit
works without the extra `gelora_viz[widgets]`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gelora_viz._lazy import import_on_use
from gelora_viz.errors import InputError

if TYPE_CHECKING:
    from gelora_viz.widgets.comparison import ComparisonExplorer as ComparisonExplorer
    from gelora_viz.widgets.dashboard import Dashboard as Dashboard
    from gelora_viz.widgets.explorer import Explorer as Explorer
    from gelora_viz.widgets.fine_tuning import FineTuning as FineTuning
    from gelora_viz.widgets.panel import Panel as Panel
    from gelora_viz.widgets.rank_budget import RankBudget as RankBudget
    from gelora_viz.widgets.serving import serve_dashboard as serve_dashboard
    from gelora_viz.widgets.snapshot import Snapshot as Snapshot

_MODULE_OF = {
    "ComparisonExplorer": "comparison", "Dashboard": "dashboard", "Explorer": "explorer", "FineTuning": "fine_tuning",
    "Panel": "panel", "RankBudget": "rank_budget", "Snapshot": "snapshot",
    "serve_dashboard": "serving",
}  # fmt: skip

__all__ = [*_MODULE_OF]

_find = import_on_use(__name__, _MODULE_OF)


def __getattr__(name: str) -> Any:  # noqa: ANN401 - PEP 562
    try:
        return _find(name)
    except ModuleNotFoundError as error:
        if error.name not in ("anywidget", "ipywidgets", "traitlets"):
            raise
        raise InputError(
            f"widgets.{name} needs {error.name}, which is not installed; install gelora_viz[widgets]"
        ) from error


def __dir__() -> list[str]:
    return sorted(__all__)
