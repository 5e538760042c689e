"""Arguments that many functions take: the type is checked wherever the range is, and messages name the value."""

from __future__ import annotations

import numpy as np
import pytest

from gelora_viz._checks import check_number, check_whole
from gelora_viz.errors import InputError

RANGES = [
    ({"above": 0, "below": 1}, (1e-9, 0.5, np.float32(0.25)), (0, 1, -1), "between 0 and 1"),
    ({"at_least": 0, "below": 1}, (0, 0.0, 0.99), (1, -0.1), "of at least 0 and below 1"),
    ({"above": 0, "at_most": 1}, (0.1, 1, np.int64(1)), (0, 1.01), "above 0 and at most 1"),
    ({"at_least": 0, "at_most": 1}, (0, 1), (-1e-9, 2), "of at least 0 and at most 1"),
    ({"at_least": 1}, (1, 1e300), (0.999,), "of at least 1"),
    ({"above": 0}, (5e-324,), (0, -1), "above 0"),
    ({"below": 2.5}, (-1e300, 2), (2.5,), "below 2.5"),
]


@pytest.mark.parametrize(("limits", "inside", "outside", "said"), RANGES, ids=[case[-1] for case in RANGES])
def test_a_number_is_checked_for_its_type_and_its_range(limits, inside, outside, said):
    for number in inside:
        found = check_number(number, "share", **limits)
        assert (type(found), found) == (float, float(number))
    for number in (*outside, float("nan"), float("inf"), -float("inf"), True, None, "0.5", [0.5], 1j):
        with pytest.raises(InputError) as raised:
            check_number(number, "share", **limits)
        assert str(raised.value) == f"share is {number!r}; give a number {said}"


def test_a_number_without_limits_must_still_be_one():
    assert check_number(-3, "x") == -3.0
    with pytest.raises(InputError, match=r"^x is 'a'; give a number$"):
        check_number("a", "x")


def test_a_whole_number_may_have_a_word_beside_it():
    assert check_whole(np.int32(2), "n") == 2
    for number in (0, 2.0, True, None, "2", np.float64(2)):
        with pytest.raises(InputError) as raised:
            check_whole(number, "n", or_else="auto")
        assert str(raised.value) == f'n is {number!r}; give a whole number of at least 1, or "auto"'
