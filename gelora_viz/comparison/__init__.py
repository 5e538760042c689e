"""Methods compared over seeds: the same sweep of learning rates for each, intervals, differences, verdicts."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gelora_viz._lazy import import_on_use

if TYPE_CHECKING:
    from gelora_viz.comparison.experiment import compare as compare
    from gelora_viz.comparison.paired import tabulate_results as tabulate_results
    from gelora_viz.comparison.result import BASELINE as BASELINE
    from gelora_viz.comparison.result import BETTER as BETTER
    from gelora_viz.comparison.result import NOISE as NOISE
    from gelora_viz.comparison.result import WORSE as WORSE
    from gelora_viz.comparison.result import Comparison as Comparison
    from gelora_viz.comparison.result import difference_in_words as difference_in_words
    from gelora_viz.comparison.result import metric_of as metric_of
    from gelora_viz.comparison.result import shorten_comparison as shorten_comparison
    from gelora_viz.comparison.settings import check_n_seeds as check_n_seeds

_FILES = {
    "experiment": ("compare",),
    "paired": ("tabulate_results",),
    "result": (
        "BASELINE", "BETTER", "NOISE", "WORSE", "Comparison", "difference_in_words", "metric_of",
        "shorten_comparison",
    ),
    "settings": ("check_n_seeds",),
}  # fmt: skip
_FILE_OF = {name: file for file, names in _FILES.items() for name in names}

__all__ = list(_FILE_OF)


__getattr__ = import_on_use(__name__, _FILE_OF)


def __dir__() -> list[str]:
    return sorted(__all__)
