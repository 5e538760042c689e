"""Named models and data sets: the embedded defaults, Hub ids, local paths and files, and your own objects."""

from gelora_viz.sources.models import MODEL_NAMES, LoadedModel, load_model
from gelora_viz.sources.smollm2 import fetch_model
from gelora_viz.sources.texts import DATA_NAMES, TextData, load_texts

__all__ = ["DATA_NAMES", "MODEL_NAMES", "LoadedModel", "TextData", "fetch_model", "load_model", "load_texts"]
