"""What a worker does with a run's specification: adapt the model, train, evaluate, measure.

Names are imported when they are first used, so that a worker which waits for its turn needs no torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from gelora_viz._lazy import import_on_use

if TYPE_CHECKING:
    from gelora_viz.training.classifier import TextClassifier as TextClassifier
    from gelora_viz.training.probe import fit_probe as fit_probe
    from gelora_viz.training.probe import sample_batches as sample_batches
    from gelora_viz.training.trainer import train as train

_FILE_OF = {
    "TextClassifier": "classifier",
    "fit_probe": "probe",
    "sample_batches": "probe",
    "train": "trainer",
}

__all__ = list(_FILE_OF)


__getattr__ = import_on_use(__name__, _FILE_OF)


def __dir__() -> list[str]:
    return sorted(__all__)
