"""The embedded task: balanced enough to learn, and no sibling codes on both sides of a split."""

import sys

import pandas as pd
import pytest

from gelora_viz.errors import SourceError
from gelora_viz.sources import load_texts
from gelora_viz.sources.icd10 import _MAX_PER_CATEGORY, _MAX_PER_CHAPTER, _MIN_PER_CHAPTER, load_icd10


def straddling(frame):
    """Categories that are in more than one split."""
    splits = frame[["group", "split"]].drop_duplicates()
    return splits.loc[splits["group"].duplicated(), "group"].tolist()


@pytest.fixture(scope="module")
def icd10():
    return load_texts("icd10cm")


def test_it_is_the_default(icd10):
    assert icd10.name == "icd10cm"
    assert load_texts().frame.equals(icd10.frame)


def test_no_category_straddles_splits(icd10):
    assert straddling(icd10.frame) == []
    assert icd10.frame["group"].str.fullmatch(r"[A-Z][0-9A-Z]{2}").all()


def test_no_text_is_in_it_twice(icd10):
    assert icd10.frame["text"].is_unique
    assert icd10.n_duplicates == 0


def test_no_chapter_is_tiny_and_none_dominates(icd10):
    counts = icd10.frame["label"].value_counts()
    assert counts.min() >= _MIN_PER_CHAPTER
    assert counts.max() <= _MAX_PER_CHAPTER
    assert counts.max() / counts.sum() < 0.1
    assert icd10.frame["group"].value_counts().max() <= _MAX_PER_CATEGORY


def test_every_chapter_is_in_every_split_in_about_the_stated_shares(icd10):
    shares = pd.crosstab(icd10.frame["label"], icd10.frame["split"], normalize="index")
    assert len(shares) == len(icd10.label_names) == 21
    assert shares["test"].between(0.1, 0.35).all()
    assert shares["validation"].between(0.03, 0.2).all()
    whole = icd10.frame["split"].value_counts(normalize=True)
    assert whole["train"] == pytest.approx(0.68, abs=0.03)


def test_a_seed_decides_codes_and_splits(icd10):
    assert load_icd10(seed=0).equals(load_icd10(seed=0))
    other = load_texts("icd10cm", seed=1)
    assert set(other.frame["text"]) != set(icd10.frame["text"])
    assert straddling(other.frame) == []


def test_thinning_keeps_categories_apart():
    data = load_texts("icd10cm", max_texts=400)
    assert [len(data.texts(split)) for split in ("train", "validation", "test")] == [400, 100, 100]
    assert not set(data.groups("train")) & set(data.groups("test"))


def test_a_known_code_is_under_its_own_chapter(icd10):
    diabetes = icd10.frame[icd10.frame["group"].isin(["E10", "E11"])]
    assert len(diabetes) > 0
    assert diabetes["label"].str.startswith("4. Endocrine").all()


def test_a_missing_extra_says_how_to_install_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "simple_icd_10_cm", None)
    with pytest.raises(SourceError, match=r'pip install "gelora_viz\[demo\]"'):
        load_texts("icd10cm")
