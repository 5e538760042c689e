"""A folder of results whose steps resume: texts, dimensions, plans, runs, tables, figures and one report.

Names are imported when they are first used, so that the command line can look for a study without torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from gelora_viz._lazy import import_on_use

if TYPE_CHECKING:
    from gelora_viz.study.arguments import POOLINGS as POOLINGS
    from gelora_viz.study.arguments import check_allocation as check_allocation
    from gelora_viz.study.arguments import check_baseline as check_baseline
    from gelora_viz.study.arguments import check_methods as check_methods
    from gelora_viz.study.arguments import check_profile as check_profile
    from gelora_viz.study.arguments import check_source as check_source
    from gelora_viz.study.demo import run_demo as run_demo
    from gelora_viz.study.record import open_record as open_record
    from gelora_viz.study.study import Study as Study

_FILES = {
    "arguments": ("POOLINGS", "check_allocation", "check_baseline", "check_methods", "check_profile", "check_source"),
    "demo": ("run_demo",),
    "record": ("open_record",),
    "study": ("Study",),
}
_FILE_OF = {name: file for file, names in _FILES.items() for name in names}

__all__ = list(_FILE_OF)


__getattr__ = import_on_use(__name__, _FILE_OF)


def __dir__() -> list[str]:
    return sorted(__all__)
