"""From files, lists and tables to texts with labels and splits: nothing lost, nothing invented, nothing crossing."""

import json

import datasets
import numpy as np
import pandas as pd
import pytest

from gelora_viz.errors import InputError, SourceError
from gelora_viz.sources import TextData, load_texts
from gelora_viz.sources.texts import SPLITS, check_texts

AWKWARD = [
    "naïve “quotes”, \"double\" and 'single'",
    "two\nlines, a return\r\nand a tab\t.",
    "line separators \u2028 \u2029 \x85 \x0b \x0c \x1c inside",
    "</script><script>alert('&amp;')</script>",
    "日本語, العربية, 😀",
    "a literal \\n and C:\\path",
    "123",
    "2020-01-01",
    "null",
    "NaN",
    "true",
    "  spaces around  ",
    '{"text": "json"}',
    "a,b;c",
]
FEATURES = datasets.Features({"text": datasets.Value("string"), "label": datasets.ClassLabel(names=["neg", "pos"])})


def numbered(n_texts, classes=("a", "b")):
    """Distinct texts whose classes come in turn."""
    return pd.DataFrame(
        {"text": [f"text {i}" for i in range(n_texts)], "label": [classes[i % len(classes)] for i in range(n_texts)]}
    )


def data_set(texts, labels):
    return datasets.Dataset.from_dict({"text": texts, "label": labels}, features=FEATURES)


def by_text(data, column):
    return dict(zip(data.frame["text"], data.frame[column], strict=True))


WRITERS = {
    "csv": lambda frame, path: frame.to_csv(path, index=False),
    "tsv": lambda frame, path: frame.to_csv(path, index=False, sep="\t"),
    "jsonl": lambda frame, path: frame.to_json(path, orient="records", lines=True),
    "json": lambda frame, path: frame.to_json(path, orient="records"),
    "parquet": lambda frame, path: frame.to_parquet(path),
}


@pytest.mark.parametrize("kind", WRITERS)
def test_a_file_of_any_kind_gives_the_same_texts_and_labels(kind, tmp_path):
    frame = numbered(30, classes=("1", "2", "10"))
    frame["text"] = frame["text"] + ', "quoted", ü'
    path = tmp_path / f"texts.{kind}"
    WRITERS[kind](frame, path)
    data = load_texts(path)
    assert by_text(data, "label") == dict(zip(frame["text"], frame["label"], strict=True))
    assert data.frame.equals(load_texts(frame).frame)
    assert data.name == path.name
    assert load_texts(str(path)).frame.equals(data.frame)


def test_a_text_file_has_one_text_a_line(tmp_path):
    path = tmp_path / "texts.txt"
    path.write_text("first\nzweites, ü\nthird\n", encoding="utf-8")
    data = load_texts(path)
    assert data.texts() == ["first", "zweites, ü", "third"]
    assert data.label_names == ()


@pytest.mark.parametrize("container", [list, tuple])
def test_a_list_keeps_its_order_and_is_all_training_text(container):
    data = load_texts(container(["b", "a", "c"]))
    assert data.texts("train") == ["b", "a", "c"]
    assert data.texts("validation") == data.texts("test") == []


def test_a_data_set_gives_its_class_names_as_labels():
    data = load_texts(data_set(["bad", "good"], [0, 1]))
    assert by_text(data, "label") == {"bad": "neg", "good": "pos"}
    assert data.label_names == ("neg", "pos")


def test_a_class_number_of_minus_one_means_no_label():
    data = load_texts(data_set(["bad", "hidden", "good"], [0, -1, 1]))
    assert "hidden" not in by_text(data, "label")
    assert data.n_unlabelled == 1
    assert data.label_names == ("neg", "pos")


def test_the_splits_of_a_dataset_dict_are_kept():
    parts = {
        name: data_set([f"{name} {i}" for i in range(4)], [0, 1] * 2) for name in ("train", "validation", "test")
    }
    data = load_texts(datasets.DatasetDict(parts))
    for name in parts:
        assert data.texts(name) == [f"{name} {i}" for i in range(4)]
        assert data.labels(name).tolist() == [0, 1, 0, 1]


def test_only_the_missing_splits_of_a_dataset_dict_are_made():
    train = data_set([f"train {i}" for i in range(100)], [0, 1] * 50)
    data = load_texts(datasets.DatasetDict({"train": train, "validation": data_set(["v 0", "v 1"], [0, 1])}))
    assert data.texts("validation") == ["v 0", "v 1"]
    assert len(data.texts("test")) == 20
    assert all(text.startswith("train") for text in data.texts("test"))


def test_a_test_split_without_labels_cannot_be_scored_and_is_replaced():
    train = data_set([f"train {i}" for i in range(100)], [0, 1] * 50)
    hidden = data_set(["hidden 0", "hidden 1"], [-1, -1])
    data = load_texts(datasets.DatasetDict({"train": train, "test": hidden}))
    assert len(data.texts("test")) == 20
    assert not {"hidden 0", "hidden 1"} & set(data.frame["text"])
    assert sorted(set(data.labels("test"))) == [0, 1]


def test_a_hub_id_without_a_network_is_a_source_error():
    with pytest.raises(SourceError, match="no-such-owner/no-such-data") as error:
        load_texts("no-such-owner/no-such-data")
    assert "icd10cm" in str(error.value)
    assert "Hub id" in str(error.value)


@pytest.mark.parametrize("role", ["text", "label"])
def test_a_missing_column_is_named_with_the_columns_there_are(role):
    with pytest.raises(InputError, match=f"no {role} column 'words'; its columns are text, label"):
        load_texts(numbered(4), **{f"{role}_column": "words"})


def test_columns_may_be_chosen_by_name():
    frame = pd.DataFrame({"text": ["x", "y"], "body": ["one", "two"], "label": ["p", "q"], "stars": [5, 1]})
    data = load_texts(frame, text_column="body", label_column="stars")
    assert by_text(data, "label") == {"one": "5", "two": "1"}


def test_the_only_column_of_strings_is_taken_for_the_texts():
    data = load_texts(pd.DataFrame({"id": [1, 2], "utterance": ["hello", "bye"]}))
    assert data.texts() == ["hello", "bye"]


def test_columns_that_could_both_be_texts_are_not_guessed_between():
    with pytest.raises(InputError, match=r"cannot tell which column .* name one of left, right"):
        load_texts(pd.DataFrame({"left": ["x"], "right": ["y"]}))


@pytest.mark.parametrize("bad", ["", "  \t\n", None, 3.5, float("nan"), b"bytes"])
def test_an_unusable_text_is_refused_with_its_position(bad):
    with pytest.raises(InputError, match="text 2 of"):
        load_texts(["fine", "also fine", bad])
    with pytest.raises(InputError, match="text 2 of"):
        check_texts(["fine", "also fine", bad])


def test_no_texts_at_all_are_refused():
    with pytest.raises(InputError, match="empty"):
        load_texts([])
    with pytest.raises(InputError, match="empty"):
        check_texts([])


def test_a_single_string_is_not_taken_for_a_list_of_letters():
    with pytest.raises(InputError, match="single string"):
        check_texts("a sentence")


def test_repeated_texts_are_left_out_and_counted():
    data = load_texts(["a", "b", "a", "c", "b", "a"])
    assert data.texts() == ["a", "b", "c"]
    assert data.n_duplicates == 3


def test_a_text_under_two_labels_stays_under_the_first_only():
    data = load_texts(pd.DataFrame({"text": ["same", "other", "same"], "label": ["a", "b", "b"]}))
    assert by_text(data, "label") == {"same": "a", "other": "b"}
    assert data.n_duplicates == 1


def test_a_text_in_two_splits_stays_in_the_first_only():
    frame = pd.DataFrame({"text": ["same", "other", "same"], "split": ["train", "test", "test"]})
    data = load_texts(frame)
    assert (data.texts("train"), data.texts("test")) == (["same"], ["other"])


def test_splits_are_made_within_each_class():
    data = load_texts(numbered(400, classes=("rare", *["common"] * 3)))
    shares = pd.crosstab(data.frame["label"], data.frame["split"], normalize="index")
    assert shares["test"].tolist() == [0.2, 0.2]
    assert shares["validation"].between(0.07, 0.12).all()
    assert shares["train"].between(0.68, 0.73).all()


def test_splits_share_no_text_and_lose_none():
    frame = numbered(101, classes=("a", "b", "c"))
    data = load_texts(frame)
    assert sorted(text for split in SPLITS for text in data.texts(split)) == sorted(frame["text"])


def test_a_seed_decides_the_splits():
    frame = numbered(200)
    assert load_texts(frame, seed=3).frame.equals(load_texts(frame, seed=3).frame)
    assert load_texts(frame, seed=3).texts("test") != load_texts(frame, seed=4).texts("test")


def test_a_split_is_no_prefix_of_the_data():
    data = load_texts(numbered(200))
    positions = [int(text.split()[1]) for text in data.texts("test")]
    assert 70 < np.mean(positions) < 130


@pytest.mark.parametrize(
    ("name", "split"),
    [
        ("train", "train"), ("TRAIN", "train"), ("training", "train"),
        ("validation", "validation"), ("valid", "validation"), ("val", "validation"), ("dev", "validation"),
        ("validation_matched", "validation"), ("development", "validation"),
        ("test", "test"), ("testing", "test"), ("Test", "test"),
    ],
)  # fmt: skip
def test_a_split_column_is_honoured_under_its_usual_names(name, split):
    data = load_texts(pd.DataFrame({"text": ["x", "y"], "split": ["train", name]}))
    assert by_text(data, "split")["y"] == split


def test_splits_that_the_source_has_are_not_made_again():
    frame = numbered(60).assign(split=["train", "dev", "test"] * 20)
    data = load_texts(frame)
    expected = {"train": "train", "dev": "validation", "test": "test"}
    assert by_text(data, "split") == {
        text: expected[split] for text, split in zip(frame["text"], frame["split"], strict=True)
    }


def test_groups_are_kept():
    frame = numbered(20).assign(group=[i // 4 for i in range(20)])
    data = load_texts(frame)
    assert by_text(data, "group") == {f"text {i}": str(i // 4) for i in range(20)}
    assert len(data.groups("test")) == len(data.texts("test"))
    assert load_texts(numbered(3)).groups() == [None] * 3


def test_labels_are_positions_in_the_sorted_names():
    data = load_texts(numbered(30, classes=("c", "a", "b")))
    assert data.label_names == ("a", "b", "c")
    for split in ("train", "test"):
        labels = data.labels(split)
        assert labels.dtype == np.int64
        assert [data.label_names[label] for label in labels] == [
            by_text(data, "label")[text] for text in data.texts(split)
        ]


def test_labels_may_be_numbers():
    data = load_texts(numbered(20, classes=(0, 1)))
    assert data.label_names == ("0", "1")
    assert data.labels().tolist() == [int(text.split()[1]) % 2 for text in data.texts()]


def test_asking_unlabelled_texts_for_labels_names_the_remedy():
    with pytest.raises(InputError, match="has no labels; name its label column"):
        load_texts(["a", "b"]).labels()


def test_an_unknown_split_is_refused():
    with pytest.raises(InputError, match="unknown split 'dev'; choose train, validation or test"):
        load_texts(["a"]).texts("dev")


def test_max_texts_keeps_a_seeded_choice_in_order_and_a_quarter_of_the_other_splits():
    frame = numbered(400)
    data = load_texts(frame, max_texts=40)
    assert [len(data.texts(split)) for split in ("train", "validation", "test")] == [40, 10, 10]
    positions = [int(text.split()[1]) for text in data.texts()]
    assert positions == sorted(positions)
    assert positions[-1] > 200
    assert data.frame.equals(load_texts(frame, max_texts=40).frame)
    assert data.texts() != load_texts(frame, max_texts=40, seed=1).texts()


def test_max_texts_never_moves_a_text_to_another_split():
    frame = numbered(400)
    whole = by_text(load_texts(frame), "split")
    kept = by_text(load_texts(frame, max_texts=40), "split")
    assert all(whole[text] == split for text, split in kept.items())


def test_max_texts_larger_than_the_data_keeps_everything():
    assert load_texts(["a", "b"], max_texts=100).texts() == ["a", "b"]


def test_max_texts_below_one_is_refused():
    with pytest.raises(InputError, match="max_texts is 0"):
        load_texts(["a"], max_texts=0)


@pytest.mark.parametrize("labelled", [True, False])
def test_what_was_saved_loads_unchanged(labelled, tmp_path):
    frame = pd.DataFrame({"text": AWKWARD, "group": ["g1", "g2"] * 7})
    if labelled:
        frame["label"] = ["1", "01", "null", "é", "NaN", "true", "1.0"] * 2
    data = load_texts(frame)
    path = data.save(tmp_path / "new folder" / "texts.jsonl")
    again = load_texts(path)
    assert again.frame.equals(data.frame)
    assert again.label_names == data.label_names
    assert sorted(again.frame["text"]) == sorted(AWKWARD)


def test_a_saved_file_is_one_json_document_a_line(tmp_path):
    path = load_texts(["é", "two\nlines"]).save(tmp_path / "texts.jsonl")
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n") if line]
    assert [row["text"] for row in rows] == ["é", "two\nlines"]
    assert rows[0] == {"split": "train", "text": "é", "label": None, "group": None}


def test_loaded_texts_may_be_thinned_again():
    data = load_texts(numbered(200))
    again = load_texts(data, max_texts=8)
    assert isinstance(again, TextData)
    assert set(again.texts("test")) <= set(data.texts("test"))


def test_a_file_that_does_not_exist_is_a_source_error_that_names_the_embedded_data():
    with pytest.raises(SourceError, match=r"no file at nowhere\.csv.*icd10cm"):
        load_texts("nowhere.csv")


def test_an_unknown_kind_of_file_is_named_with_the_kinds_there_are(tmp_path):
    path = tmp_path / "texts.docx"
    path.write_text("text")
    with pytest.raises(SourceError, match=r"unknown kind '\.docx'; readable are \.csv"):
        load_texts(path)


@pytest.mark.parametrize("name", ["bad.jsonl", "bad.json", "bad.parquet", "empty.csv", "latin.txt"])
def test_a_damaged_file_is_a_source_error_that_names_it(name, tmp_path):
    path = tmp_path / name
    path.write_bytes({"empty": b"", "bad": b"{broken", "latin": b"\xff\xfe\xfa"}[path.stem])
    with pytest.raises(SourceError, match=path.name):
        load_texts(path)


@pytest.mark.parametrize("source", [5, None, object()])
def test_what_holds_no_texts_is_a_source_error_that_names_what_would(source):
    with pytest.raises(SourceError, match=r"source is .*, which holds no texts; give one of the names"):
        load_texts(source)


def test_a_page_shows_texts_as_text_and_never_as_markup():
    page = load_texts(["<script>alert(1)</script>"])._repr_html_()
    assert "<script>" not in page
    assert "&lt;script&gt;" in page
