"""Odd tables, missing values and groups: read as they are meant, or refused in words."""

from __future__ import annotations

import json

import datasets
import numpy as np
import pandas as pd
import pytest

from gelora_viz.errors import InputError, SourceError
from gelora_viz.sources import load_texts


def numbered(n, classes=("a", "b")):
    return pd.DataFrame(
        {"text": [f"text {i}" for i in range(n)], "label": [classes[i % len(classes)] for i in range(n)]}
    )


def test_splits_are_70_10_20_within_each_class():
    data = load_texts(numbered(400, classes=("rare", *["common"] * 3)))
    shares = pd.crosstab(data.frame["label"], data.frame["split"], normalize="index")
    assert shares.to_numpy() == pytest.approx(np.array([[0.2, 0.7, 0.1]] * 2))


def test_a_missing_class_number_means_no_label():
    features = datasets.Features(
        {"text": datasets.Value("string"), "label": datasets.ClassLabel(names=["neg", "pos"])}
    )
    columns = {"text": ["a", "b", "c"], "label": [0, None, 1]}
    data = load_texts(datasets.Dataset.from_dict(columns, features=features))
    assert data.n_unlabelled == 1
    assert data.label_names == ("neg", "pos")


def test_unlabelled_texts_are_left_out_and_counted():
    data = load_texts(numbered(40, classes=("a", "b", None, "a")))
    assert data.n_unlabelled == 10
    assert len(data.frame) == 30
    assert data.label_names == ("a", "b")


def test_missing_groups_save_as_valid_json(tmp_path):
    frame = numbered(40).assign(group=["g1", None] * 20)
    path = load_texts(frame).save(tmp_path / "t.jsonl")

    def refuse(name):
        raise AssertionError(name)

    rows = [json.loads(line, parse_constant=refuse) for line in path.read_text().splitlines()]
    assert {row["group"] for row in rows} == {"g1", None}


def test_groups_that_are_unknown_are_none():
    assert load_texts(pd.DataFrame({"text": ["a", "b"], "group": ["g", None]})).groups() == ["g", None]


def test_a_frame_with_numbers_for_column_names_is_read():
    assert load_texts(pd.DataFrame([["a"], ["b"]])).texts() == ["a", "b"]


def test_repeated_column_names_are_refused():
    with pytest.raises(InputError, match="several columns named text"):
        load_texts(pd.DataFrame([["x", "y"]], columns=["text", "text"]))


def test_a_json_list_of_strings_is_a_list_of_texts(tmp_path):
    (tmp_path / "t.json").write_text('["a", "b"]')
    assert load_texts(tmp_path / "t.json").texts() == ["a", "b"]


def test_a_json_list_of_numbers_is_refused(tmp_path):
    (tmp_path / "t.json").write_text("[1, 2]")
    with pytest.raises(InputError, match="cannot tell which column"):
        load_texts(tmp_path / "t.json")


@pytest.mark.parametrize("label", ["None", "NA", "null", "n/a"])
def test_a_label_in_a_table_is_what_was_written(label, tmp_path):
    (tmp_path / "t.csv").write_text(f"text,label\nfine,{label}\ngood,x\n")
    assert label in load_texts(tmp_path / "t.csv").label_names


def test_a_table_without_rows_is_refused(tmp_path):
    (tmp_path / "t.csv").write_text("text,label\n")
    with pytest.raises((InputError, SourceError)):
        load_texts(tmp_path / "t.csv")


def test_groups_of_the_source_do_not_straddle_the_splits_we_make():
    frame = numbered(100).assign(group=[str(i // 10) for i in range(100)])
    pairs = load_texts(frame).frame[["group", "split"]].drop_duplicates()
    assert pairs["group"].is_unique


def test_a_row_longer_than_the_header_is_refused(tmp_path):
    (tmp_path / "t.csv").write_text("text,label\n" + "".join(f"text {i},a,\n" for i in range(30)))
    with pytest.raises(SourceError, match="more cells than the header"):
        load_texts(tmp_path / "t.csv")


def test_a_stray_quote_in_a_tsv_swallows_no_lines(tmp_path):
    rows = [f'"quoted start {i}\ta\n' if i % 7 == 0 else f"text {i}\tb\n" for i in range(30)]
    (tmp_path / "t.tsv").write_text("text\tlabel\n" + "".join(rows))
    assert len(load_texts(tmp_path / "t.tsv").frame) == 30


def test_a_csv_with_another_separator_is_refused(tmp_path):
    (tmp_path / "t.csv").write_text("text;label\none text;a\nanother;b\n")
    with pytest.raises(SourceError, match="separated by something other"):
        load_texts(tmp_path / "t.csv")


@pytest.mark.parametrize("suffix", [".txt", ".csv", ".jsonl"])
def test_a_byte_order_mark_is_no_part_of_a_text(suffix, tmp_path):
    content = {".txt": "one text\n", ".csv": "text\none text\n", ".jsonl": '{"text": "one text"}\n'}[suffix]
    (tmp_path / f"t{suffix}").write_text(content, encoding="utf-8-sig")
    assert load_texts(tmp_path / f"t{suffix}").texts() == ["one text"]


def test_several_labels_of_one_text_are_refused():
    with pytest.raises(InputError, match="several labels"):
        load_texts(pd.DataFrame({"text": ["a", "b"], "labels": [[1, 2], [0]]}))


def test_a_pair_of_texts_is_not_cut_to_its_first():
    frame = pd.DataFrame({"premise": ["a", "b"], "hypothesis": ["c", "d"], "label": ["x", "y"]})
    with pytest.raises(InputError, match="cannot tell which column"):
        load_texts(frame)


@pytest.mark.parametrize("seed", [-1, 2**32, 1.5, True])
def test_a_seed_that_is_none_is_refused(seed):
    with pytest.raises(InputError, match="seed is"):
        load_texts(["one", "two"], seed=seed)


def test_a_text_keeps_its_label_though_it_stands_unlabelled_before():
    data = load_texts(pd.DataFrame({"text": ["a", "a", "b"], "label": [None, "x", "y"]}))
    assert dict(zip(data.frame["text"], data.frame["label"], strict=True)) == {"a": "x", "b": "y"}
