"""Model and texts in, hidden states out: hooks on every block, masks honoured, points with their provenance."""

from gelora_viz.activations.blocks import Block, find_blocks
from gelora_viz.activations.inputs import collate, tokenize
from gelora_viz.activations.passes import capture
from gelora_viz.activations.pooling import pool_texts
from gelora_viz.activations.result import Activations

__all__ = ["Activations", "Block", "capture", "collate", "find_blocks", "pool_texts", "tokenize"]
