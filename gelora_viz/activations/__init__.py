"""Model and texts in, hidden states out: hooks on every block, masks respected, points with their provenance.

In the order of a capture: identity (has it been made already?), origin (by which model?), layers (which modules),
corpus and images (what is read), sample (which points), holding (by one thread at a time), forward (batches through
the model), journal and storage (points on disk), result.
"""

from gelora_viz.activations.blocks import Block, Stack, blocks_of, choose_stack, find_blocks, find_stacks
from gelora_viz.activations.holding import hold, reading
from gelora_viz.activations.inputs import TokenizedText, collate, tokenize
from gelora_viz.activations.layers import Layer, evaluating, unwrap
from gelora_viz.activations.looking import Seen, find_reader, largest_change, look, run_once, watching_norms
from gelora_viz.activations.offload import input_device
from gelora_viz.activations.origin import compare_origins, describe_origin
from gelora_viz.activations.pairs import load_first_pair
from gelora_viz.activations.passes import capture, check_data
from gelora_viz.activations.pooling import Pooling, PoolingFunction, check_pooling, pool_texts
from gelora_viz.activations.result import Activations

__all__ = [
    "Activations",
    "Block",
    "Layer",
    "Pooling",
    "PoolingFunction",
    "Seen",
    "Stack",
    "TokenizedText",
    "blocks_of",
    "capture",
    "check_data",
    "check_pooling",
    "choose_stack",
    "collate",
    "compare_origins",
    "describe_origin",
    "evaluating",
    "find_blocks",
    "find_reader",
    "find_stacks",
    "hold",
    "input_device",
    "largest_change",
    "load_first_pair",
    "look",
    "pool_texts",
    "reading",
    "run_once",
    "tokenize",
    "unwrap",
    "watching_norms",
]
