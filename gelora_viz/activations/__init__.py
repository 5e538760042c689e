"""Model and texts in, hidden states out: hooks on every block, masks respected, points with their provenance.

In the order of a capture: identity (has it been made already?), origin (by which model?), layers (which modules),
corpus and images (what is read), sample (which points), holding (by one thread at a time), forward (batches through
the model), journal and storage (points on disk), result.
"""

from gelora_viz.activations.blocks import Block, find_blocks
from gelora_viz.activations.holding import hold
from gelora_viz.activations.inputs import TokenizedText, collate, tokenize
from gelora_viz.activations.layers import evaluating
from gelora_viz.activations.offload import input_device
from gelora_viz.activations.origin import compare_origins, describe_origin
from gelora_viz.activations.passes import capture
from gelora_viz.activations.pooling import Pooling, PoolingFunction, check_pooling, pool_texts
from gelora_viz.activations.result import Activations

__all__ = [
    "Activations",
    "Block",
    "Pooling",
    "PoolingFunction",
    "TokenizedText",
    "capture",
    "check_pooling",
    "collate",
    "compare_origins",
    "describe_origin",
    "evaluating",
    "find_blocks",
    "hold",
    "input_device",
    "pool_texts",
    "tokenize",
]
