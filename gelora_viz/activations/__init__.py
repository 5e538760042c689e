"""Model and texts in, hidden states out: hooks on every block, masks respected, points with their provenance.

In the order of a capture: identity (has it been made already?), origin (by which model?), layers (which modules),
corpus and images (what is read), sample (which points), holding (by one thread at a time), forward (batches through
the model), journal and storage (points on disk), result. Names are imported when they are first used, so that the
command line can refuse an unknown pooling without torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from gelora_viz._lazy import import_on_use

if TYPE_CHECKING:
    from gelora_viz.activations.blocks import Block as Block
    from gelora_viz.activations.blocks import find_blocks as find_blocks
    from gelora_viz.activations.holding import hold as hold
    from gelora_viz.activations.inputs import TokenizedText as TokenizedText
    from gelora_viz.activations.inputs import collate as collate
    from gelora_viz.activations.inputs import tokenize as tokenize
    from gelora_viz.activations.layers import evaluating as evaluating
    from gelora_viz.activations.offload import input_device as input_device
    from gelora_viz.activations.origin import compare_origins as compare_origins
    from gelora_viz.activations.origin import describe_origin as describe_origin
    from gelora_viz.activations.passes import capture as capture
    from gelora_viz.activations.pooling import Pooling as Pooling
    from gelora_viz.activations.pooling import PoolingFunction as PoolingFunction
    from gelora_viz.activations.pooling import check_pooling as check_pooling
    from gelora_viz.activations.pooling import pool_texts as pool_texts
    from gelora_viz.activations.result import Activations as Activations

_FILES = {
    "blocks": ("Block", "find_blocks"),
    "holding": ("hold",),
    "inputs": ("TokenizedText", "collate", "tokenize"),
    "layers": ("evaluating",),
    "offload": ("input_device",),
    "origin": ("compare_origins", "describe_origin"),
    "passes": ("capture",),
    "pooling": ("Pooling", "PoolingFunction", "check_pooling", "pool_texts"),
    "result": ("Activations",),
}
_FILE_OF = {name: file for file, names in _FILES.items() for name in names}

__all__ = list(_FILE_OF)


__getattr__ = import_on_use(__name__, _FILE_OF)


def __dir__() -> list[str]:
    return sorted(__all__)
