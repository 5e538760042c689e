"""See and test the intrinsic dimension of a transformer's hidden states, and choose LoRA ranks from it.

model + texts -> activations -> intrinsic dimension -> ranks -> adapter -> short fine-tuning -> effective rank ->
figure

Each step is a plain function that returns a small result object. Names are imported when they are first used, so that
`import gelora_viz` is quick and needs no torch.

Example:
    >>> import gelora_viz as gv
    >>> model, tokenizer, _ = gv.load_model("minilm")
    >>> texts = gv.load_texts("icd10cm", max_texts=300).texts()
    >>> profile = gv.estimate_dimension(gv.capture(model, tokenizer, texts, progress=False), progress=False)
    >>> gv.allocate_ranks(profile, model, budget=gv.uniform_budget(model, rank=4)).n_parameters
    36864
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from gelora_viz._lazy import import_on_use
from gelora_viz._version import __version__

if TYPE_CHECKING:
    from gelora_viz import plots as plots
    from gelora_viz import widgets as widgets
    from gelora_viz.activations import Activations as Activations
    from gelora_viz.activations import capture as capture
    from gelora_viz.activations import find_blocks as find_blocks
    from gelora_viz.adapters import GenLoraConfig as GenLoraConfig
    from gelora_viz.adapters import add_adapter as add_adapter
    from gelora_viz.adapters import fit_budget as fit_budget
    from gelora_viz.comparison import Comparison as Comparison
    from gelora_viz.comparison import compare as compare
    from gelora_viz.comparison import tabulate_results as tabulate_results
    from gelora_viz.dimension import DimensionProfile as DimensionProfile
    from gelora_viz.dimension import DimensionScaling as DimensionScaling
    from gelora_viz.dimension import NeighborGraph as NeighborGraph
    from gelora_viz.dimension import dimension_scaling as dimension_scaling
    from gelora_viz.dimension import estimate_dimension as estimate_dimension
    from gelora_viz.dimension import list_estimators as list_estimators
    from gelora_viz.dimension import local_dimension as local_dimension
    from gelora_viz.dimension import neighbor_graph as neighbor_graph
    from gelora_viz.errors import GeloraVizError as GeloraVizError
    from gelora_viz.maps import Projection as Projection
    from gelora_viz.maps import project as project
    from gelora_viz.ranks import RankPlan as RankPlan
    from gelora_viz.ranks import allocate_ranks as allocate_ranks
    from gelora_viz.ranks import find_matrices as find_matrices
    from gelora_viz.ranks import uniform_budget as uniform_budget
    from gelora_viz.runs import LocalExecutor as LocalExecutor
    from gelora_viz.runs import RayExecutor as RayExecutor
    from gelora_viz.runs import Run as Run
    from gelora_viz.runs import RunResult as RunResult
    from gelora_viz.runs import RunSpec as RunSpec
    from gelora_viz.runs import attach as attach
    from gelora_viz.runs import launch as launch
    from gelora_viz.runs import list_runs as list_runs
    from gelora_viz.runs import relaunch as relaunch
    from gelora_viz.sources import LoadedModel as LoadedModel
    from gelora_viz.sources import TextData as TextData
    from gelora_viz.sources import fetch_model as fetch_model
    from gelora_viz.sources import load_model as load_model
    from gelora_viz.sources import load_texts as load_texts
    from gelora_viz.spectra import Compression as Compression
    from gelora_viz.spectra import DimensionHistory as DimensionHistory
    from gelora_viz.spectra import DimensionRecorder as DimensionRecorder
    from gelora_viz.spectra import SpectrumHistory as SpectrumHistory
    from gelora_viz.spectra import SpectrumRecorder as SpectrumRecorder
    from gelora_viz.spectra import UpdateSpectrum as UpdateSpectrum
    from gelora_viz.spectra import compress as compress
    from gelora_viz.spectra import measure_spectra as measure_spectra
    from gelora_viz.study import Study as Study
    from gelora_viz.study import run_demo as run_demo
    from gelora_viz.surveys import ModelSurvey as ModelSurvey
    from gelora_viz.surveys import survey as survey
    from gelora_viz.training import fit_probe as fit_probe
    from gelora_viz.training import sample_batches as sample_batches

_ROOMS = {
    "sources": ("LoadedModel", "TextData", "fetch_model", "load_model", "load_texts"),
    "activations": ("Activations", "capture", "find_blocks"),
    "surveys": ("ModelSurvey", "survey"),
    "dimension": (
        "DimensionProfile", "DimensionScaling", "NeighborGraph", "dimension_scaling", "estimate_dimension",
        "list_estimators", "local_dimension", "neighbor_graph",
    ),
    "ranks": ("RankPlan", "allocate_ranks", "find_matrices", "uniform_budget"),
    "adapters": ("GenLoraConfig", "add_adapter", "fit_budget"),
    "spectra": (
        "Compression", "DimensionHistory", "DimensionRecorder", "SpectrumHistory", "SpectrumRecorder",
        "UpdateSpectrum", "compress", "measure_spectra",
    ),
    "runs": (
        "LocalExecutor", "RayExecutor", "Run", "RunResult", "RunSpec", "attach", "launch", "list_runs", "relaunch",
    ),
    "training": ("fit_probe", "sample_batches"),
    "comparison": ("Comparison", "compare", "tabulate_results"),
    "maps": ("Projection", "project"),
    "study": ("Study", "run_demo"),
    "errors": ("GeloraVizError",),
}  # fmt: skip
_ROOM_OF = {name: room for room, names in _ROOMS.items() for name in names}

__all__ = ["__version__", "plots", "widgets", *_ROOM_OF]

_find = import_on_use(__name__, _ROOM_OF)


def __getattr__(name: str) -> Any:  # noqa: ANN401 - PEP 562
    if name in ("plots", "widgets"):
        return importlib.import_module(f"gelora_viz.{name}")
    return _find(name)


def __dir__() -> list[str]:
    return sorted(__all__)
