"""The embedded classification task: an ICD-10-CM diagnosis description -> the chapter it belongs to."""

from __future__ import annotations

from types import ModuleType

import numpy as np
import pandas as pd

from gelora_viz.errors import SourceError

_MAX_PER_CATEGORY = 6
"""Codes kept of each 3-character category: siblings are near-duplicates ("..., initial encounter", "... sequela")."""
_MAX_PER_CHAPTER = 450
"""Codes kept of each chapter; uncapped, chapter 19 (injuries) alone would be 55 % of the data."""
_MIN_PER_CHAPTER = 100
"""Chapters with fewer codes are dropped: too few to learn or to test."""
_SHARES = {"test": 0.22, "validation": 0.10}


def load_icd10(*, seed: int = 0) -> pd.DataFrame:
    """Diagnosis descriptions with their chapters, split so that sibling codes never straddle train and test.

    Whole 3-character categories (such as E11, type 2 diabetes) go to one split, per chapter 68 : 10 : 22.

    Args:
        seed: seed of the choices: which codes are kept and which categories go where.

    Returns:
        A frame with the columns split, text (the description), label (the chapter's title) and group (the category),
        in random order.

    Raises:
        SourceError: if the extra `demo`, which brings the code list, is not installed.
    """
    try:
        import simple_icd_10_cm as icd
    except ImportError as error:
        raise SourceError(
            'the embedded data set "icd10cm" is not installed; run: pip install "gelora_viz[demo]", or name a file'
        ) from error
    generator = np.random.default_rng(seed)
    rows: list[dict[str, str]] = []
    for chapter in sorted((code for code in icd.get_all_codes(with_dots=True) if icd.is_chapter(code)), key=int):
        rows.extend(_chapter_rows(icd, chapter, generator))
    frame = pd.DataFrame(rows).drop_duplicates(subset="text")
    large = frame["label"].value_counts()
    frame = frame[frame["label"].isin(large.index[large >= _MIN_PER_CHAPTER])]
    return frame.iloc[generator.permutation(len(frame))].reset_index(drop=True)


def _chapter_rows(icd: ModuleType, chapter: str, generator: np.random.Generator) -> list[dict[str, str]]:
    """The kept codes of one chapter, category by category in random order until the chapter's cap is reached."""
    categories: dict[str, list[str]] = {}
    for code in icd.get_descendants(chapter):
        if icd.is_leaf(code):
            categories.setdefault(code[:3], []).append(code)
    names = sorted(categories)
    order = [names[position] for position in generator.permutation(len(names))]
    label = f"{chapter}. {icd.get_description(chapter).split('(')[0].strip()}"
    kept: list[tuple[str, str]] = []
    for name in order:
        codes = categories[name]
        chosen = generator.choice(len(codes), size=min(_MAX_PER_CATEGORY, len(codes)), replace=False)
        kept.extend((name, icd.get_description(codes[position])) for position in sorted(chosen))
        if len(kept) >= _MAX_PER_CHAPTER:
            break
    used = list(dict.fromkeys(name for name, _ in kept))
    split_of = _split_categories(used)
    return [
        {"split": split_of[name], "text": text, "label": label, "group": name}
        for name, text in kept[:_MAX_PER_CHAPTER]
    ]


def _split_categories(names: list[str]) -> dict[str, str]:
    """Assign whole categories (already in random order) to test, validation and train by their shares."""
    n_test = max(1, round(_SHARES["test"] * len(names)))
    n_validation = max(1, round(_SHARES["validation"] * len(names)))
    split_of = dict.fromkeys(names, "train")
    split_of.update(dict.fromkeys(names[:n_test], "test"))
    split_of.update(dict.fromkeys(names[n_test : n_test + n_validation], "validation"))
    return split_of
