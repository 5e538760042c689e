"""From hidden states to one point per text: padding never counts, on either side."""

import pytest
import torch

from gelora_viz.activations import pool_texts
from gelora_viz.activations.pooling import check_pooling
from gelora_viz.errors import InputError

HIDDEN = torch.tensor([[[1.0], [3.0], [8.0], [100.0]], [[100.0], [5.0], [6.0], [10.0]]])
MASK = torch.tensor([[1, 1, 1, 0], [0, 1, 1, 1]])  # padded on the right, padded on the left


@pytest.mark.parametrize(("pooling", "expected"), [("mean", [4.0, 7.0]), ("last", [8.0, 10.0]), ("cls", [1.0, 5.0])])
def test_padding_on_either_side_is_left_out(pooling, expected):
    assert pool_texts(HIDDEN, MASK, pooling).squeeze(-1).tolist() == expected


def test_the_mean_is_summed_in_single_precision():
    hidden = torch.ones(1, 1000, 2, dtype=torch.bfloat16)
    hidden[0, 0] = 256  # in bfloat16, 256 + 1 is 256
    pooled = pool_texts(hidden, torch.ones(1, 1000))
    assert pooled.dtype == torch.float32
    assert pooled[0, 0] == pytest.approx((256 + 999) / 1000)


def test_a_function_gets_hidden_states_and_mask():
    def largest(hidden, mask):
        return hidden.masked_fill(mask.unsqueeze(-1) == 0, -torch.inf).amax(dim=1)

    assert pool_texts(HIDDEN, MASK, largest).squeeze(-1).tolist() == [8.0, 10.0]


def test_a_function_may_change_the_number_of_features():
    assert pool_texts(HIDDEN, MASK, lambda hidden, _: hidden.flatten(1)).shape == (2, 4)


def test_a_functions_view_does_not_keep_the_hidden_states():
    pooled = pool_texts(HIDDEN, MASK, lambda hidden, _: hidden[:, 0])
    assert pooled.untyped_storage().nbytes() == pooled.nbytes


@pytest.mark.parametrize(
    "pooling", [lambda hidden, _: hidden, lambda hidden, _: hidden[:1, 0], lambda hidden, _: hidden[:, 0, 0]]
)
def test_a_function_that_gives_no_point_per_text_is_refused_with_its_shape(pooling):
    with pytest.raises(InputError, match=r"returned shape \(.*must return \(n_texts, n_features\)"):
        pool_texts(HIDDEN, MASK, pooling)


def test_an_unknown_pooling_is_refused_with_the_choices():
    with pytest.raises(InputError, match="unknown pooling 'max'; choose mean, last, cls, tokens"):
        check_pooling("max")
    with pytest.raises(
        InputError, match="pooling_name 'mine' was given with pooling 'mean', which has a name; leave it out"
    ):
        check_pooling("mean", "mine")
    for name in ("", "mean", 3):
        with pytest.raises(InputError, match=r"pooling_name is .*; give a word of your own, other than mean, last"):
            check_pooling(torch.mean, name)
    with pytest.raises(InputError, match="unknown pooling 'max'"):
        pool_texts(HIDDEN, MASK, "max")
