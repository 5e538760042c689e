"""The four measures of effective rank, against closed forms."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gelora_viz.spectra import entropy_rank, numerical_rank, participation_ratio, stable_rank

MEASURES = (entropy_rank, stable_rank, participation_ratio, numerical_rank)
each_measure = pytest.mark.parametrize("measure", MEASURES)
spectra = st.lists(st.floats(1e-6, 1e6), min_size=1, max_size=20).map(lambda values: np.sort(values)[::-1].copy())


@each_measure
@pytest.mark.parametrize("size", [1, 2, 7])
def test_the_identity_uses_all_its_directions(measure, size):
    assert measure(np.linalg.svd(np.eye(size), compute_uv=False)) == pytest.approx(size)


@each_measure
def test_an_outer_product_uses_one(measure):
    values = np.linalg.svd(np.outer([1.0, 2.0, 3.0], [4.0, 5.0]), compute_uv=False)
    assert measure(values) == pytest.approx(1)


@each_measure
@pytest.mark.parametrize("size", [0, 1, 5])
def test_a_zero_matrix_uses_none(measure, size):
    assert measure(np.zeros(size)) == 0


def test_a_spectrum_of_two_unequal_values_has_the_ranks_of_the_formulas():
    values = np.array([3.0, 1.0])
    assert entropy_rank(values) == pytest.approx((4 / 3) ** 0.75 * 4**0.25)
    assert stable_rank(values) == pytest.approx(10 / 9)
    assert participation_ratio(values) == pytest.approx(100 / 82)


def test_the_numerical_rank_counts_what_lies_above_the_tolerance():
    values = np.array([1.0, 0.5, 1e-2, 9e-4, 0.0])
    assert numerical_rank(values) == 3
    assert numerical_rank(values, tolerance=1e-4) == 4
    assert numerical_rank(values, tolerance=0.4) == 2


@each_measure
@given(values=spectra, scale=st.floats(1e-3, 1e3))
def test_the_size_of_an_update_does_not_change_its_rank(measure, values, scale):
    doubled = 2.0 ** round(np.log2(scale))  # exact, so that no value crosses the tolerance by rounding
    assert measure(values * doubled) == pytest.approx(measure(values), rel=1e-9)


@each_measure
@given(values=spectra)
def test_a_rank_lies_between_one_and_the_number_of_singular_values(measure, values):
    assert 1 - 1e-9 <= measure(values) <= len(values) + 1e-9


@given(values=spectra)
def test_the_measures_that_weigh_large_values_more_say_less(values):
    assert stable_rank(values) <= participation_ratio(values) * (1 + 1e-9)
    assert participation_ratio(values) <= entropy_rank(values) * (1 + 1e-9)


@pytest.mark.parametrize("exponent", [-160, 160])
@pytest.mark.parametrize("measure", [stable_rank, participation_ratio, entropy_rank])
def test_squares_neither_overflow_nor_vanish(measure, exponent):
    assert measure(np.full(4, 10.0**exponent)) == pytest.approx(4)
