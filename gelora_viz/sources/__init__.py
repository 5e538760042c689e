"""Named models and data sets: the embedded defaults, Hub ids, local paths and files, and your own objects."""

from gelora_viz.sources.models import MODEL_NAMES, LoadedModel, load_model
from gelora_viz.sources.smollm2 import WEIGHTS_NOTE, fetch_model
from gelora_viz.sources.texts import DATA_NAMES, SPLITS, TextData, check_texts, load_texts

__all__ = [
    "DATA_NAMES",
    "MODEL_NAMES",
    "SPLITS",
    "WEIGHTS_NOTE",
    "LoadedModel",
    "TextData",
    "check_texts",
    "fetch_model",
    "load_model",
    "load_texts",
]
