"""Settings and short cuts that make a study take a second or two."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

PROFILING = {
    "poolings": ["mean", "tokens"],
    "estimators": ["twonn", "mle"],
    "k": 5,
    "max_points": 400,
    "progress": False,
}
QUICK = {"steps": 3, "batch_size": 16, "evaluations": 1, "threads": 1, "progress": False}
WORK = ("load_model", "capture", "estimate_dimension", "allocate_ranks", "launch")
"""Everything that takes time in a study."""


def write_csv(path: Path, texts: Sequence[str], labels: Sequence[object]) -> Path:
    """Columns text and label, every cell quoted."""
    rows = [f'"{text}","{label}"' for text, label in zip(texts, labels, strict=True)]
    path.write_text("\n".join(['"text","label"', *rows]) + "\n", encoding="utf-8")
    return path
