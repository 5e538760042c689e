"""Named models and data sets: the embedded defaults, Hub ids, local paths and files, and your own objects.

Names are imported when they are first used, so that the command line can refuse an unknown name without torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from gelora_viz._lazy import import_on_use

if TYPE_CHECKING:
    from gelora_viz.sources.models import HUB_IDS as HUB_IDS
    from gelora_viz.sources.models import MODEL_NAMES as MODEL_NAMES
    from gelora_viz.sources.models import LoadedModel as LoadedModel
    from gelora_viz.sources.models import load_model as load_model
    from gelora_viz.sources.smollm2 import WEIGHTS_NOTE as WEIGHTS_NOTE
    from gelora_viz.sources.smollm2 import check_fetchable as check_fetchable
    from gelora_viz.sources.smollm2 import fetch_model as fetch_model
    from gelora_viz.sources.texts import DATA_NAMES as DATA_NAMES
    from gelora_viz.sources.texts import SPLITS as SPLITS
    from gelora_viz.sources.texts import TextData as TextData
    from gelora_viz.sources.texts import check_texts as check_texts
    from gelora_viz.sources.texts import load_texts as load_texts

_FILES = {
    "models": ("HUB_IDS", "MODEL_NAMES", "LoadedModel", "load_model"),
    "smollm2": ("WEIGHTS_NOTE", "check_fetchable", "fetch_model"),
    "texts": ("DATA_NAMES", "SPLITS", "TextData", "check_texts", "load_texts"),
}
_FILE_OF = {name: file for file, names in _FILES.items() for name in names}

__all__ = list(_FILE_OF)


__getattr__ = import_on_use(__name__, _FILE_OF)


def __dir__() -> list[str]:
    return sorted(__all__)
