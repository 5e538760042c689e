"""Short fine-tunings in a process of their own: specified in JSON, watched and cancelled from outside, compared.

Names are imported when they are first used, so that a worker which waits for its turn needs no torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from gelora_viz._lazy import import_on_use

if TYPE_CHECKING:
    from gelora_viz.finetuning.comparison import Comparison as Comparison
    from gelora_viz.finetuning.executors import LocalExecutor as LocalExecutor
    from gelora_viz.finetuning.executors import RayExecutor as RayExecutor
    from gelora_viz.finetuning.experiment import compare as compare
    from gelora_viz.finetuning.launching import launch as launch
    from gelora_viz.finetuning.launching import relaunch as relaunch
    from gelora_viz.finetuning.paired import compare_runs as compare_runs
    from gelora_viz.finetuning.probe import fit_probe as fit_probe
    from gelora_viz.finetuning.probe import sample_batches as sample_batches
    from gelora_viz.finetuning.result import RunResult as RunResult
    from gelora_viz.finetuning.run import Run as Run
    from gelora_viz.finetuning.run import attach as attach
    from gelora_viz.finetuning.spec import RunSpec as RunSpec
    from gelora_viz.finetuning.table import runs as runs

_FILES = {
    "comparison": ("Comparison",),
    "executors": ("LocalExecutor", "RayExecutor"),
    "experiment": ("compare",),
    "launching": ("launch", "relaunch"),
    "paired": ("compare_runs",),
    "probe": ("fit_probe", "sample_batches"),
    "result": ("RunResult",),
    "run": ("Run", "attach"),
    "spec": ("RunSpec",),
    "table": ("runs",),
}
_FILE_OF = {name: file for file, names in _FILES.items() for name in names}

__all__ = list(_FILE_OF)


__getattr__ = import_on_use(__name__, _FILE_OF)


def __dir__() -> list[str]:
    return sorted(__all__)
