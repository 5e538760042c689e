"""Captures into a folder: the same points in bounded memory, continued after a kill, never mixed with others."""

import errno
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModel, AutoTokenizer

from gelora_viz.activations import Activations, capture, journal, storage
from gelora_viz.activations.corpus import TextCorpus
from gelora_viz.errors import InputError, StudyError

LOOK = (1, 1, 2)
"""Sizes of the batches by which a model is looked at first."""
KILLED = """
import os, signal, sys
sys.path.insert(0, sys.argv[1])
import tiny_models
from transformers import AutoModel, AutoTokenizer
from gelora_viz.activations import capture, journal

journal._SECONDS = 0
model = AutoModel.from_pretrained(sys.argv[2])
batches = []

def kill_at_the_fourth(*_):
    batches.append(1)
    if len(batches) == 3 + 4:  # behind the three by which the model is looked at
        os.kill(os.getpid(), signal.SIGKILL)

model.register_forward_pre_hook(kill_at_the_fourth)
texts = tiny_models.labelled_texts()[0][:60]
tokenizer = AutoTokenizer.from_pretrained(sys.argv[2])
capture(model, tokenizer, texts, pooling=sys.argv[4], batch_size=8, store=sys.argv[3], progress=False)
"""


def assert_same(one, other):
    assert one.layers == other.layers
    assert one.provenance.equals(other.provenance)
    for layer in one:
        assert torch.equal(one[layer], other[layer])


def sizes_seen(model):
    """Numbers of texts of the batches that the model sees from here on."""
    sizes = []
    model.register_forward_pre_hook(
        lambda _module, _args, kwargs: sizes.append(len(kwargs["input_ids"])), with_kwargs=True
    )
    return sizes


@pytest.fixture
def bert(tiny):
    return tiny("bert")


@pytest.mark.parametrize("architecture", ["bert", "t5"])
@pytest.mark.parametrize(("pooling", "limit"), [("mean", None), ("tokens", 100), ("tokens", None), ("last", 11)])
def test_a_store_holds_the_points_that_memory_would(tiny, texts, tmp_path, architecture, pooling, limit):
    model, tokenizer = tiny(architecture)
    options = {"pooling": pooling, "max_points": limit, "seed": 5, "progress": False}
    kept = capture(model, tokenizer, texts[:70], **options)
    stored = capture(model, tokenizer, texts[:70], **options, store=tmp_path / "store")
    assert_same(stored, kept)
    assert_same(Activations.load(tmp_path / "store"), kept)
    assert (stored.pooling, stored.settings) == (kept.pooling, kept.settings)
    assert stored.frame.equals(kept.frame)


def test_each_layer_is_a_safetensors_file_that_anyone_can_read(bert, texts, tmp_path):
    stored = capture(*bert, texts[:10], store=tmp_path, progress=False)
    files = sorted(tmp_path.glob("*.safetensors"))
    assert [file.name for file in files][:2] == ["000-embeddings.safetensors", "001-encoder.layer.0.safetensors"]
    for file, layer in zip(files, stored, strict=True):
        assert torch.equal(load_file(file)["points"], stored[layer])


def test_a_layer_is_read_when_it_is_asked_for_and_not_before(bert, texts, tmp_path, monkeypatch):
    read = []
    monkeypatch.setattr(storage, "load_file", lambda path: read.append(path.name) or load_file(path))
    stored = capture(*bert, texts[:10], store=tmp_path, progress=False)
    assert (len(stored), stored.n_points, read) == (4, 10, [])
    assert "n_features" in stored._repr_html_()
    assert read == []
    assert stored["encoder.layer.1"].shape == (10, 32)
    assert read == ["002-encoder.layer.1.safetensors"]


def test_rows_never_stay_in_memory_with_a_store(bert, texts, tmp_path, monkeypatch):
    """Texts are tokenised in pieces; what is held of each piece are two numbers a text."""
    from gelora_viz.activations import corpus

    monkeypatch.setattr(corpus, "_PIECE", 16)
    seen = []
    original = corpus.tokenize
    monkeypatch.setattr(
        corpus, "tokenize", lambda *args, **rest: seen.append(len(args[1])) or original(*args, **rest)
    )
    capture(*bert, texts[:40], store=tmp_path, batch_size=20, progress=False)
    assert seen == [16, 16, 8, 1, 2, 20, 20]


def test_texts_are_named_by_their_place_in_the_whole_corpus(tiny, monkeypatch):
    from gelora_viz.activations import corpus

    monkeypatch.setattr(corpus, "_PIECE", 2)
    model, tokenizer = tiny("gpt2")
    monkeypatch.setattr(
        type(tokenizer), "__call__", lambda *_, **__: {"input_ids": [[], [1]], "special_tokens_mask": [[], [0]]}
    )
    with pytest.raises(InputError, match="text 0 "):
        capture(model, tokenizer, ["a", "b", "c", "d"], progress=False)


# What was killed goes on


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="no SIGKILL here")
@pytest.mark.parametrize("pooling", ["tokens"])
def test_a_killed_capture_goes_on_where_it_stopped(tiny_folder, texts, tmp_path, pooling):
    folder, store = tiny_folder("bert"), tmp_path / "store"
    tests = str(Path(__file__).parents[1])
    ended = subprocess.run([sys.executable, "-c", KILLED, tests, folder, store, pooling], check=False)
    assert ended.returncode == -signal.SIGKILL
    assert json.loads((store / "capture.json").read_text())["n_done"] == 24
    with pytest.raises(StudyError, match="no activations"):
        Activations.load(store)
    model, tokenizer = AutoModel.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    options = {"pooling": pooling, "batch_size": 8, "progress": False}
    uninterrupted = capture(model, tokenizer, texts[:60], **options)
    sizes = sizes_seen(model)
    continued = capture(model, tokenizer, texts[:60], **options, store=store)
    assert sizes == [*LOOK, 8, 8, 8, 8, 4]
    assert continued.provenance.equals(uninterrupted.provenance)
    for layer in continued:
        torch.testing.assert_close(continued[layer], uninterrupted[layer], atol=1e-5, rtol=1e-5)
    assert not (store / "capture.json").exists()


class InterruptedCaptureError(Exception):
    pass


def interrupt(model, at):
    """Raise in the forward pass of batch number `at`."""
    batches = []

    def hook(*_):
        batches.append(1)
        if len(batches) == at:
            raise InterruptedCaptureError

    return model.register_forward_pre_hook(hook)


@pytest.fixture
def interrupted(bert, texts, tmp_path):
    model, tokenizer = bert
    handle = interrupt(model, at=len(LOOK) + 3)
    with pytest.raises(InterruptedCaptureError):
        capture(model, tokenizer, texts[:40], batch_size=10, store=tmp_path / "store", progress=False)
    handle.remove()
    return tmp_path / "store"


def test_an_interrupted_capture_loses_nothing_that_was_done(bert, texts, interrupted):
    model, tokenizer = bert
    sizes = sizes_seen(model)
    capture(model, tokenizer, texts[:40], batch_size=10, store=interrupted, progress=False)
    assert sizes == [*LOOK, 10, 10]


def test_other_batches_may_go_on_with_a_capture(bert, texts, interrupted):
    model, tokenizer = bert
    kept = capture(model, tokenizer, texts[:40], progress=False)
    sizes = sizes_seen(model)
    stored = capture(model, tokenizer, texts[:40], batch_size=15, store=interrupted, progress=False)
    assert sizes == [*LOOK, 15, 5]
    for layer in kept:
        torch.testing.assert_close(stored[layer], kept[layer], atol=1e-5, rtol=1e-4)


def test_a_capture_that_lost_a_file_begins_anew(bert, texts, interrupted):
    model, tokenizer = bert
    (interrupted / "002-encoder.layer.1.safetensors").unlink()
    sizes = sizes_seen(model)
    capture(model, tokenizer, texts[:40], batch_size=20, store=interrupted, progress=False)
    assert sizes == [*LOOK, 20, 20]


def test_a_resumed_capture_of_whole_texts_reads_no_finished_text_again(bert, texts, interrupted, monkeypatch):
    read = []
    load = TextCorpus.load
    monkeypatch.setattr(
        TextCorpus,
        "load",
        lambda self, members, **options: read.append(len(members)) or load(self, members, **options),
    )
    capture(*bert, texts[:40], batch_size=10, store=interrupted, progress=False)
    assert read == [1, 2, 10, 10]


@pytest.mark.parametrize("content", ["damaged", '{"kind": "unfinished capture", "schema_version": 1}'])
def test_a_damaged_journal_of_a_store_is_an_error_that_names_it(bert, texts, interrupted, content):
    (interrupted / "capture.json").write_text(content)
    with pytest.raises(StudyError, match=r"capture\.json.*delete"):
        capture(*bert, texts[:40], store=interrupted, progress=False)


def test_a_capture_killed_in_its_very_first_entry_is_begun_anew(bert, texts, tmp_path):
    (tmp_path / ".lock").touch()
    (tmp_path / ".capture.json.x1y2z3").write_text('{"kind": "unfin')
    assert capture(*bert, texts[:5], store=tmp_path, progress=False).n_points == 5


def test_a_complete_capture_is_returned_without_a_forward_pass(bert, texts, tmp_path):
    model, tokenizer = bert
    first = capture(model, tokenizer, texts[:20], store=tmp_path, progress=False)
    sizes = sizes_seen(model)
    assert_same(capture(model, tokenizer, texts[:20], batch_size=3, store=tmp_path, progress=False), first)
    assert sizes == []


@pytest.mark.parametrize("state", ["complete", "unfinished"])
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"seed": 1}, "seed 0 there, 1 here"),
        ({"pooling": "last"}, "pooling 'mean' there, 'last' here"),
        ({"dtype": "float16"}, "dtype 'float32' there, 'float16' here"),
        ({"max_length": 16}, "max_length None there, 16 here"),
        ({"max_points": 9}, "max_points None there, 9 here"),
        ({"layers": "hidden_states"}, "layers .*encoder.layer.2 <- encoder:output"),
    ],
)
def test_a_store_of_other_options_is_refused_with_what_differs(
    bert, texts, tmp_path, request, state, change, message
):
    if state == "complete":
        capture(*bert, texts[:40], store=tmp_path, progress=False)
        store = tmp_path
    else:
        store = request.getfixturevalue("interrupted")
    with pytest.raises(InputError, match=f"holds another capture .*{message}"):
        capture(*bert, texts[:40], store=store, progress=False, **change)


def test_a_store_of_other_texts_or_weights_is_refused(bert, texts, tmp_path):
    model, tokenizer = bert
    capture(model, tokenizer, texts[:5], store=tmp_path, progress=False)
    with pytest.raises(InputError, match="other texts"):
        capture(model, tokenizer, texts[1:6], store=tmp_path, progress=False)
    with torch.no_grad():
        model.encoder.layer[0].output.dense.weight[0, 0] += 1e-3
    with pytest.raises(InputError, match="other weights"):
        capture(model, tokenizer, texts[:5], store=tmp_path, progress=False)


def test_activations_saved_by_hand_are_no_store(bert, texts, tmp_path):
    capture(*bert, texts[:5], progress=False).save(tmp_path)
    with pytest.raises(InputError, match="saved from elsewhere; choose another folder"):
        capture(*bert, texts[:5], store=tmp_path, progress=False)


# What cannot be written


def test_a_folder_of_other_files_is_no_store(bert, texts, tmp_path):
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(StudyError, match=r"not empty \(thesis\.tex.*choose a new folder"):
        capture(*bert, texts[:5], store=tmp_path, progress=False)


def test_a_store_that_cannot_be_written_is_refused_before_any_forward_pass(bert, texts, tmp_path):
    model, tokenizer = bert
    sizes = sizes_seen(model)
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StudyError, match=r"cannot write .*file.*choose a folder"):
        capture(model, tokenizer, texts[:5], store=tmp_path / "file", progress=False)
    assert sizes == []


def test_a_disk_without_room_is_refused_after_one_batch(bert, texts, tmp_path, monkeypatch):
    model, tokenizer = bert
    monkeypatch.setattr(storage.shutil, "disk_usage", lambda _: type("usage", (), {"free": 1000}))
    sizes = sizes_seen(model)
    with pytest.raises(StudyError, match=r"points need .* GB and .* GB free; free space"):
        capture(model, tokenizer, texts[:40], batch_size=10, store=tmp_path, progress=False)
    assert sizes == [*LOOK, 10]


@pytest.mark.skipif(not hasattr(os, "pwrite"), reason="written another way here")
def test_a_disk_that_fills_up_says_that_the_capture_can_go_on(bert, texts, tmp_path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "pwrite", full)
        with pytest.raises(StudyError, match=r"No space left .* capture again with the same store"):
            capture(*bert, texts[:20], store=tmp_path, progress=False)
    assert_same(
        capture(*bert, texts[:20], store=tmp_path, progress=False), capture(*bert, texts[:20], progress=False)
    )


@pytest.mark.skipif(not hasattr(os, "pwrite"), reason="written another way here")
def test_a_write_that_takes_only_a_part_is_continued(bert, texts, tmp_path, monkeypatch):
    whole = os.pwrite
    monkeypatch.setattr(os, "pwrite", lambda descriptor, data, place: whole(descriptor, data[:5], place))
    assert_same(capture(*bert, texts[:9], store=tmp_path, progress=False), capture(*bert, texts[:9], progress=False))


def test_the_journal_is_entered_now_and_then_and_only_behind_the_data(bert, texts, tmp_path, monkeypatch):
    order = []
    monkeypatch.setattr(journal.LayerFile, "sync", lambda _: order.append("data"))
    monkeypatch.setattr(journal, "write_json", lambda _path, _kind, content: order.append(content["n_done"]))
    monkeypatch.setattr(journal, "sync", lambda _: None)
    capture(*bert, texts[:40], batch_size=10, store=tmp_path / "seldom", progress=False)
    assert order == [0, *["data"] * 4, 40]
    monkeypatch.setattr(journal, "_SECONDS", 0)
    order.clear()
    capture(*bert, texts[:20], batch_size=10, store=tmp_path / "often", progress=False)
    assert order == [0, *["data"] * 4, 10, *["data"] * 4, 20, *["data"] * 4, 20]


# How points are kept


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32"])
@pytest.mark.parametrize("where", ["memory", "store"])
def test_points_are_kept_in_the_type_asked_for_and_handed_out_in_single_precision(
    bert, texts, tmp_path, dtype, where
):
    store = tmp_path if where == "store" else None
    narrow = capture(*bert, texts[:9], dtype=dtype, store=store, progress=False)
    full = capture(*bert, texts[:9], progress=False)
    kept = getattr(torch, dtype)
    for layer in full:
        assert narrow.points[layer].dtype == kept
        assert narrow[layer].dtype == torch.float32
        assert torch.equal(narrow[layer], full[layer].to(kept).float())
    again = Activations.load(narrow.save(tmp_path / "saved"))
    assert all(again.points[layer].dtype == kept for layer in again)
    assert narrow.settings["dtype"] == dtype


@pytest.mark.parametrize("where", ["memory", "store"])
def test_values_beyond_half_precision_are_refused_with_layer_and_remedy(bert, texts, tmp_path, where):
    model, tokenizer = bert
    model.encoder.layer[1].output.LayerNorm.weight.data *= 1e6
    store = tmp_path if where == "store" else None
    with pytest.raises(
        InputError, match=r"layer 'encoder\.layer\.1' has values up to .*beyond float16's 65504.*bfloat16"
    ):
        capture(model, tokenizer, texts[:5], dtype="float16", store=store, progress=False)
    capture(model, tokenizer, texts[:5], dtype="bfloat16", progress=False)


@pytest.mark.parametrize("where", ["memory", "store"])
def test_points_whose_width_depends_on_the_batch_are_refused(bert, texts, tmp_path, where):
    store = tmp_path if where == "store" else None
    options = {"pooling": lambda hidden, _: hidden.flatten(1), "batch_size": 4, "progress": False}
    with pytest.raises(InputError, match=r"layer 'embeddings' gives points of \d+ features in one batch and of \d+"):
        capture(*bert, texts[:20], store=store, **options)


def test_a_pooling_function_that_has_a_name_is_known_by_it(bert, texts, tmp_path):
    options = {"pooling": lambda hidden, _: hidden[:, 0], "store": tmp_path, "progress": False}
    first = capture(*bert, texts[:3], pooling_name="first token", **options)
    assert first.pooling == "first token"
    again = capture(*bert, texts[:3], pooling_name="first token", **options)
    assert torch.equal(again["embeddings"], first["embeddings"])
    with pytest.raises(InputError, match="pooling 'first token' there, 'second token' here"):
        capture(*bert, texts[:3], pooling_name="second token", **options)


def test_a_store_is_never_taken_up_with_a_function_that_has_none(bert, texts, tmp_path):
    options = {"pooling": lambda hidden, _: hidden[:, 0], "store": tmp_path, "progress": False}
    capture(*bert, texts[:3], **options)
    with pytest.raises(InputError, match=r"cannot be told; name the function .*or give a new folder as store"):
        capture(*bert, texts[:3], **options)
    (tmp_path / "activations.json").unlink()
    (tmp_path / "capture.json").write_text(
        '{"kind": "unfinished capture", "schema_version": 1, "identity": {}, "n_done": 3, "n_features": {}}'
    )
    with pytest.raises(InputError, match="cannot be told"):
        capture(*bert, texts[:3], **options)


def test_an_unknown_type_is_refused_with_the_choices(bert, texts):
    with pytest.raises(InputError, match="dtype is 'int8'; choose float32, float16, bfloat16"):
        capture(*bert, texts[:2], dtype="int8", progress=False)


def test_rows_are_written_in_any_order(tmp_path):
    rng = np.random.default_rng(0)
    points, order = torch.randn(50, 7), rng.permutation(50)
    file = storage.LayerFile(tmp_path / "x.safetensors", 50, 7, torch.float32)
    file.create()
    for part in np.array_split(order, 6):
        file.write(part, points[torch.as_tensor(part)])
    assert torch.equal(load_file(tmp_path / "x.safetensors")["points"], points)


def test_two_processes_never_write_one_store_at_once(tmp_path):
    program = (
        "import sys, pathlib\nfrom gelora_viz.activations.journal import hold_folder\n"
        "with hold_folder(pathlib.Path(sys.argv[1])):\n    print('in', flush=True)\n"
    )
    with journal.hold_folder(tmp_path):
        other = subprocess.Popen(
            [sys.executable, "-c", program, tmp_path], stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        assert b"waiting for it" in other.stderr.readline()
    assert other.communicate(timeout=60)[0] == b"in\n"
