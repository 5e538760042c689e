"""A drawing says what a figure shows, and no renderer is needed to read it."""

import math
import subprocess
import sys
from itertools import pairwise

import pytest

from gelora_viz.errors import InputError
from gelora_viz.plots.description import BAR_WIDTH, Cells, Drawing, Panel, Series, Style, style_number

NAN = float("nan")


def line(label="a", **changes):
    return Series(
        **{"kind": "line", "x": (0.0, 1.0), "y": (2.0, 3.0), "label": label, "style": Style("#000000")} | changes
    )


def test_importing_the_plots_loads_no_renderer():
    code = "import sys, gelora_viz.plots; print([m for m in ('plotly', 'matplotlib', 'torch') if m in sys.modules])"
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "[]"


def test_intervals_reach_below_and_above_and_vanish_where_an_end_is_unknown():
    series = line(low=(1.5, NAN), high=(2.25, 4.0))
    assert series.intervals() == ((0.5, 0.25), (0.0, 0.0))
    assert series.has_intervals
    assert not line().has_intervals


def test_an_interval_that_misses_its_value_has_no_negative_length():
    assert line(low=(2.5, 2.0), high=(3.0, 4.0)).intervals()[0] == (0.0, 1.0)


def test_a_level_is_a_stroke_as_wide_as_a_bar():
    across, along = line().strokes()
    assert across[1] - across[0] == pytest.approx(BAR_WIDTH)
    assert along[:2] == (2.0, 2.0)
    assert math.isnan(across[2])


def test_a_series_of_mixed_lengths_is_refused():
    with pytest.raises(InputError, match=r"series 'a' mixes lengths \[1, 2\]"):
        line(y=(1.0,))


def test_cells_of_mixed_lengths_are_refused():
    shape = {"x": (0.0, 1.0), "rows": ("a", "b"), "label": "dimension", "low": 1.0, "high": 2.0}
    full = ((1.0, 2.0), (1.0, 2.0))
    texts = (("", ""), ("", ""))
    assert Cells(values=full, details=texts, **shape).numbers() == (("1.0", "2.0"), ("1.0", "2.0"))
    with pytest.raises(InputError, match=r"cells 'dimension' have rows of lengths \[2\]; give 2 of 2 values"):
        Cells(values=full[:1], details=texts, **shape)
    with pytest.raises(InputError, match=r"lengths \[2, 1\]"):
        Cells(values=full, details=(("", ""), ("",)), **shape)


def test_half_an_interval_is_refused():
    with pytest.raises(InputError, match="give both low and high"):
        line(low=(1.0, 2.0))


def test_twenty_eight_series_all_look_different_and_neighbours_differ_in_more_than_colour():
    styles = [style_number(index) for index in range(28)]
    assert len(set(styles)) == 28
    assert all(one.dash != two.dash and one.marker != two.marker for one, two in pairwise(styles))


def test_panels_fill_rows_in_reading_order():
    panel = Panel("", "", "", (line(),))
    drawing = Drawing("", (panel,) * 5, columns=2)
    assert drawing.rows == 3
    assert [(row, column) for row, column, _ in drawing.places()] == [(0, 0), (0, 1), (1, 0), (1, 1), (2, 0)]


def test_a_legend_is_for_telling_names_apart():
    assert not Drawing("", (Panel("", "", "", (line("a"),)), Panel("", "", "", (line("a"),)))).has_legend
    assert Drawing("", (Panel("", "", "", (line("a"), line("b"))),)).has_legend
