"""A run as folder, process and place in a queue: specified in JSON, watched and cancelled from outside.

Names are imported when they are first used, so that a worker which waits for its turn needs no torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from gelora_viz._lazy import import_on_use

if TYPE_CHECKING:
    from gelora_viz.runs.causes import OCCUPIED as OCCUPIED
    from gelora_viz.runs.causes import OUT_OF_MEMORY as OUT_OF_MEMORY
    from gelora_viz.runs.causes import UNUSABLE as UNUSABLE
    from gelora_viz.runs.causes import explain as explain
    from gelora_viz.runs.causes import is_lost_connection as is_lost_connection
    from gelora_viz.runs.causes import is_out_of_memory as is_out_of_memory
    from gelora_viz.runs.executors import Executor as Executor
    from gelora_viz.runs.executors import LocalExecutor as LocalExecutor
    from gelora_viz.runs.executors import RayExecutor as RayExecutor
    from gelora_viz.runs.executors import choose_executor as choose_executor
    from gelora_viz.runs.fields import CAUSAL_LM as CAUSAL_LM
    from gelora_viz.runs.fields import CLASSIFICATION as CLASSIFICATION
    from gelora_viz.runs.fields import FROZEN as FROZEN
    from gelora_viz.runs.fields import FULL as FULL
    from gelora_viz.runs.fields import check_fields as check_fields
    from gelora_viz.runs.folder import ENDED as ENDED
    from gelora_viz.runs.folder import METRICS as METRICS
    from gelora_viz.runs.folder import RunFolder as RunFolder
    from gelora_viz.runs.folder import last_of as last_of
    from gelora_viz.runs.launching import launch as launch
    from gelora_viz.runs.launching import relaunch as relaunch
    from gelora_viz.runs.places import add_number as add_number
    from gelora_viz.runs.places import take_place as take_place
    from gelora_viz.runs.queue import Queue as Queue
    from gelora_viz.runs.queue import find_queue as find_queue
    from gelora_viz.runs.result import RunResult as RunResult
    from gelora_viz.runs.run import Run as Run
    from gelora_viz.runs.run import attach as attach
    from gelora_viz.runs.run import find_finished as find_finished
    from gelora_viz.runs.run import find_going_on as find_going_on
    from gelora_viz.runs.spec import RunSpec as RunSpec
    from gelora_viz.runs.spec import usual_learning_rate as usual_learning_rate
    from gelora_viz.runs.table import RunReading as RunReading
    from gelora_viz.runs.table import find_runs as find_runs
    from gelora_viz.runs.table import list_runs as list_runs
    from gelora_viz.runs.table import read_run as read_run

_FILES = {
    "causes": ("OCCUPIED", "OUT_OF_MEMORY", "UNUSABLE", "explain", "is_lost_connection", "is_out_of_memory"),
    "executors": ("Executor", "LocalExecutor", "RayExecutor", "choose_executor"),
    "fields": ("CAUSAL_LM", "CLASSIFICATION", "FROZEN", "FULL", "check_fields"),
    "folder": ("ENDED", "METRICS", "RunFolder", "last_of"),
    "launching": ("launch", "relaunch"),
    "places": ("add_number", "take_place"),
    "queue": ("Queue", "find_queue"),
    "result": ("RunResult",),
    "run": ("Run", "attach", "find_finished", "find_going_on"),
    "spec": ("RunSpec", "usual_learning_rate"),
    "table": ("RunReading", "find_runs", "list_runs", "read_run"),
}
_FILE_OF = {name: file for file, names in _FILES.items() for name in names}

__all__ = list(_FILE_OF)


__getattr__ = import_on_use(__name__, _FILE_OF)


def __dir__() -> list[str]:
    return sorted(__all__)
