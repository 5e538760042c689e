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
    from gelora_viz.activations.blocks import Stack as Stack
    from gelora_viz.activations.blocks import blocks_of as blocks_of
    from gelora_viz.activations.blocks import choose_stack as choose_stack
    from gelora_viz.activations.blocks import find_blocks as find_blocks
    from gelora_viz.activations.blocks import find_stacks as find_stacks
    from gelora_viz.activations.holding import hold as hold
    from gelora_viz.activations.holding import reading as reading
    from gelora_viz.activations.inputs import TokenizedText as TokenizedText
    from gelora_viz.activations.inputs import collate as collate
    from gelora_viz.activations.inputs import tokenize as tokenize
    from gelora_viz.activations.layers import Layer as Layer
    from gelora_viz.activations.layers import evaluating as evaluating
    from gelora_viz.activations.layers import unwrap as unwrap
    from gelora_viz.activations.looking import Seen as Seen
    from gelora_viz.activations.looking import find_reader as find_reader
    from gelora_viz.activations.looking import largest_change as largest_change
    from gelora_viz.activations.looking import look as look
    from gelora_viz.activations.looking import run_once as run_once
    from gelora_viz.activations.looking import watching_norms as watching_norms
    from gelora_viz.activations.offload import input_device as input_device
    from gelora_viz.activations.origin import compare_origins as compare_origins
    from gelora_viz.activations.origin import describe_origin as describe_origin
    from gelora_viz.activations.pairs import load_first_pair as load_first_pair
    from gelora_viz.activations.passes import capture as capture
    from gelora_viz.activations.passes import check_data as check_data
    from gelora_viz.activations.pooling import Pooling as Pooling
    from gelora_viz.activations.pooling import PoolingFunction as PoolingFunction
    from gelora_viz.activations.pooling import check_pooling as check_pooling
    from gelora_viz.activations.pooling import pool_texts as pool_texts
    from gelora_viz.activations.result import Activations as Activations

_FILES = {
    "blocks": ("Block", "Stack", "blocks_of", "choose_stack", "find_blocks", "find_stacks"),
    "holding": ("hold", "reading"),
    "inputs": ("TokenizedText", "collate", "tokenize"),
    "layers": ("Layer", "evaluating", "unwrap"),
    "looking": ("Seen", "find_reader", "largest_change", "look", "run_once", "watching_norms"),
    "offload": ("input_device",),
    "origin": ("compare_origins", "describe_origin"),
    "pairs": ("load_first_pair",),
    "passes": ("capture", "check_data"),
    "pooling": ("Pooling", "PoolingFunction", "check_pooling", "pool_texts"),
    "result": ("Activations",),
}
_FILE_OF = {name: file for file, names in _FILES.items() for name in names}

__all__ = list(_FILE_OF)


__getattr__ = import_on_use(__name__, _FILE_OF)


def __dir__() -> list[str]:
    return sorted(__all__)
