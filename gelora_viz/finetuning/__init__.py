"""Short fine-tunings in a process of their own: specified in JSON, watched and cancelled from outside, compared."""

from gelora_viz.finetuning.comparison import compare_runs
from gelora_viz.finetuning.folder import RunResult
from gelora_viz.finetuning.probe import fit_probe, sample_batches
from gelora_viz.finetuning.run import Run, attach, launch
from gelora_viz.finetuning.spec import RunSpec

__all__ = ["Run", "RunResult", "RunSpec", "attach", "compare_runs", "fit_probe", "launch", "sample_batches"]
