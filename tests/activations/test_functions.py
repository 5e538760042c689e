"""A pooling function is known by everything it computes with; what cannot be read is never taken for the same."""

import functools
import types

import numpy as np
import pytest
import torch

from gelora_viz.activations import capture
from gelora_viz.activations.functions import UnreadableError, write_out
from gelora_viz.errors import InputError

PLACE = 1


def at(place):
    return lambda hidden, _: hidden[:, place]


def weighted(weights):
    return lambda hidden, _: (hidden * weights).sum(1)


def default(place):
    def pool(hidden, _mask, place=place):
        return hidden[:, place]

    return pool


def by_name(place):
    def pool(hidden, _mask, *, place=place):
        return hidden[:, place]

    return pool


def through(inner):
    def pool(hidden, mask):
        return inner(hidden, mask)

    return pool


def at_the_global_place(hidden, _mask):
    return hidden[:, PLACE]


def through_a_global_function(hidden, mask):
    return at_the_global_place(hidden, mask)


def recursive(hidden, mask):
    return hidden[:, 0] if len(mask) else recursive(hidden, mask)


class Pool:
    def __call__(self, hidden, _mask):
        return hidden[:, 0]

    def pool(self, hidden, _mask):
        return hidden[:, 0]


PAIRS = {
    "a method": (lambda h, _: h.mean(1), lambda h, _: h.sum(1)),
    "a number": (lambda h, _: h[:, 1], lambda h, _: h[:, 2]),
    "a number in an inner function": (lambda h, _: (lambda: h[:, 1])(), lambda h, _: (lambda: h[:, 2])()),
    "a closure": (at(1), at(3)),
    "a default": (default(1), default(3)),
    "a default by name": (by_name(1), by_name(3)),
    "a tensor": (weighted(torch.ones(1)), weighted(torch.zeros(1))),
    "an array": (weighted(np.ones(1)), weighted(np.zeros(1))),
    "a function": (through(at(1)), through(at(3))),
    "a function of a library": (
        through(torch.nn.functional.cosine_similarity),
        through(torch.nn.functional.pairwise_distance),
    ),
}


@pytest.mark.parametrize("what", PAIRS)
def test_functions_that_differ_are_told_apart(what):
    one, other = PAIRS[what]
    assert write_out(one) == write_out(one)
    assert write_out(one) != write_out(other)


@pytest.mark.parametrize("function", [at_the_global_place, through_a_global_function])
def test_a_global_number_is_part_of_the_function_that_reads_it(function, monkeypatch):
    before = write_out(function)
    monkeypatch.setitem(globals(), "PLACE", 2)
    assert write_out(function) != before


def test_a_function_defined_again_is_the_same():
    assert write_out(at(1)) == write_out(at(1))
    assert write_out(weighted(torch.ones(2))) == write_out(weighted(torch.ones(2)))
    assert write_out(recursive) == write_out(recursive)


def test_the_order_of_a_set_which_changes_from_process_to_process_does_not_count():
    code = at_the_global_place.__code__
    one, other = (
        types.FunctionType(code.replace(co_consts=(*code.co_consts, frozenset(values))), {})
        for values in ([0, 8], [8, 0])
    )
    assert repr(one.__code__.co_consts) != repr(other.__code__.co_consts)
    assert write_out(one) == write_out(other)
    assert write_out(at({0, 8})) == write_out(at({8, 0}))


UNREADABLE = {
    "a partial": functools.partial(default(0), place=1),
    "an object": Pool(),
    "a method": Pool().pool,
    "a closure over an object": through(Pool()),
}


@pytest.mark.parametrize("what", UNREADABLE)
def test_what_depends_on_an_object_cannot_be_read(what):
    with pytest.raises(UnreadableError):
        write_out(UNREADABLE[what])


@pytest.mark.parametrize("what", ["a method", "a number", "a closure"])
def test_a_store_never_returns_the_points_of_another_function(tiny, texts, tmp_path, what):
    model, tokenizer = tiny("bert")
    one, other = PAIRS[what]
    options = {"store": tmp_path, "layers": "encoder.layer.0", "progress": False}
    first = capture(model, tokenizer, texts[:3], pooling=one, **options)["encoder.layer.0"]
    assert torch.equal(capture(model, tokenizer, texts[:3], pooling=one, **options)["encoder.layer.0"], first)
    with pytest.raises(InputError, match=r"holds another capture .*pooling"):
        capture(model, tokenizer, texts[:3], pooling=other, **options)


@pytest.mark.parametrize("what", UNREADABLE)
def test_a_store_is_never_taken_up_with_a_pooling_that_cannot_be_read(tiny, texts, tmp_path, what):
    model, tokenizer = tiny("bert")
    options = {"pooling": UNREADABLE[what], "store": tmp_path, "layers": "encoder.layer.0", "progress": False}
    assert capture(model, tokenizer, texts[:3], **options).n_points == 3
    with pytest.raises(InputError, match=r"cannot be told.*give a plain function .*or a new folder"):
        capture(model, tokenizer, texts[:3], **options)
    document = tmp_path / "activations.json"
    document.rename(tmp_path / "away.txt")
    (tmp_path / "capture.json").write_text(
        '{"kind": "unfinished capture", "schema_version": 1, "identity": {}, "n_done": 3, "n_features": {}}'
    )
    with pytest.raises(InputError, match="cannot be told"):
        capture(model, tokenizer, texts[:3], **options)
