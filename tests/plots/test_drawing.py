"""A drawing says what a figure shows, and no renderer is needed to read it."""

import base64
import inspect
import math
import subprocess
import sys
from itertools import pairwise

import nbformat
import plotly.io as pio
import pytest
from IPython.core.formatters import DisplayFormatter
from nbconvert import HTMLExporter

from gelora_viz import DimensionScaling, plots
from gelora_viz.errors import InputError
from gelora_viz.plots.drawing import Drawing, Subplot
from gelora_viz.plots.marks import BAR_WIDTH, Cells, Series, Style, style_number

NAN = float("nan")


def line(label="a", **changes):
    return Series(
        **{"kind": "line", "x": (0.0, 1.0), "y": (2.0, 3.0), "label": label, "style": Style("#000000")} | changes
    )


def test_importing_the_plots_and_their_colors_loads_no_renderer():
    code = (
        "import sys; from gelora_viz.plots import PALETTE, Drawing, style_number; "
        "print([m for m in ('plotly', 'matplotlib', 'torch', 'pandas') if m in sys.modules])"
    )
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


def test_twenty_eight_series_all_look_different_and_neighbors_differ_in_more_than_color():
    styles = [style_number(index) for index in range(28)]
    assert len(set(styles)) == 28
    assert all(one.dash != two.dash and one.marker != two.marker for one, two in pairwise(styles))


def test_subplots_fill_rows_in_reading_order():
    subplot = Subplot("", "", "", (line(),))
    drawing = Drawing("", (subplot,) * 5, columns=2)
    assert drawing.rows == 3
    assert [(row, column) for row, column, _ in drawing.places()] == [(0, 0), (0, 1), (1, 0), (1, 1), (2, 0)]


def test_a_legend_is_for_telling_names_apart():
    assert not Drawing("", (Subplot("", "", "", (line("a"),)), Subplot("", "", "", (line("a"),)))).has_legend
    assert Drawing("", (Subplot("", "", "", (line("a"), line("b"))),)).has_legend


def test_a_drawing_says_what_it_shows():
    one = Drawing("Dimension", (Subplot("", "", "", (line("TwoNN"),)),))
    assert repr(one) == "Drawing('Dimension': 1 subplot, showing TwoNN)"
    many = Drawing("Ranks", (Subplot("", "", "", tuple(map(line, "abcdefgh"))),) * 2)
    assert repr(many) == "Drawing('Ranks': 2 subplots, showing a, b, c, d, e, f and 2 more)"
    assert repr(Drawing("Nothing", ())) == "Drawing('Nothing': 0 subplots)"


# In a notebook


@pytest.fixture
def drawing(profile):
    return plots.rank_profile(profile)


def test_a_notebook_gets_the_plotly_figure_and_a_picture_for_pages_without_plotly(drawing, monkeypatch):
    monkeypatch.setattr(pio.renderers, "default", "plotly_mimetype")
    shown, _ = DisplayFormatter().format(drawing)
    assert set(shown) == {"application/vnd.plotly.v1+json", "image/svg+xml", "text/plain"}
    assert (
        shown["application/vnd.plotly.v1+json"]
        == drawing.to_plotly()._repr_mimebundle_()["application/vnd.plotly.v1+json"]
    )
    assert shown["image/svg+xml"] == drawing.to_svg()
    assert shown["text/plain"] == repr(drawing)


def test_a_converted_notebook_shows_the_picture(drawing, monkeypatch):
    monkeypatch.setattr(pio.renderers, "default", "plotly_mimetype")
    cell = nbformat.v4.new_code_cell(outputs=[nbformat.v4.new_output("display_data", drawing._repr_mimebundle_())])
    page, _ = HTMLExporter().from_notebook_node(nbformat.v4.new_notebook(cells=[cell]))
    assert base64.b64encode(drawing.to_svg().encode()).decode() in page


def test_where_plotly_shows_figures_elsewhere_they_are_shown_there(drawing, monkeypatch):
    opened = []
    monkeypatch.setattr(pio.renderers, "default", "browser")
    monkeypatch.setattr(pio, "show", opened.append)
    assert drawing._repr_mimebundle_() == {"text/plain": repr(drawing)}
    assert opened == [drawing.to_plotly()]


def test_where_plotly_shows_nothing_there_are_words(drawing, monkeypatch):
    monkeypatch.setattr(pio.renderers, "default", "")
    assert drawing._repr_mimebundle_() == {"text/plain": repr(drawing)}


# The right kind of result


def test_a_result_of_another_kind_is_refused_by_name_with_what_gives_the_right_one(profile, plan, spectrum):
    with pytest.raises(
        InputError,
        match=r"^rank_profile takes a DimensionProfile, not a DataFrame; gelora_viz\.estimate_dimension\(.* gives",
    ):
        plots.rank_profile(profile.frame)
    with pytest.raises(InputError, match="rank_profile takes a RankPlan, not an UpdateSpectrum"):
        plots.rank_profile(profile, spectrum)
    with pytest.raises(InputError, match="rank_profile takes an UpdateSpectrum, not a RankPlan"):
        plots.rank_profile(profile, None, plan)


def test_results_that_look_alike_are_not_confused(profile):
    scaling = DimensionScaling(profile.frame)
    with pytest.raises(InputError, match="rank_profile takes a DimensionProfile, not a DimensionScaling"):
        plots.rank_profile(scaling)
    with pytest.raises(InputError, match="scaling takes a DimensionScaling, not a DimensionProfile"):
        plots.scaling(profile)


@pytest.mark.parametrize(
    ("draw", "kind"),
    [
        (plots.comparison, "Comparison"),
        (plots.dimension_history, "DimensionHistory"),
        (plots.estimator_heatmap, "DimensionProfile"),
        (plots.rank_growth, "SpectrumHistory"),
        (plots.rank_profile, "DimensionProfile"),
        (plots.scaling, "DimensionScaling"),
        (plots.score_by_size, "Comparison"),
        (plots.singular_values, "UpdateSpectrum"),
        (plots.umap, "Projection"),
    ],
)
def test_every_picture_of_one_result_checks_it(draw, kind):
    with pytest.raises(InputError, match=f"^{draw.__name__} takes an? {kind}, not None; .* gives one$"):
        draw(None)


@pytest.mark.parametrize(
    ("draw", "kind"),
    [
        (plots.dimensions, "DimensionProfile"),
        (plots.plans, "RankPlan"),
        (plots.training, "DataFrame"),
        (plots.utilisation, "UpdateSpectrum"),
    ],
)
def test_every_picture_of_several_results_checks_each(draw, kind):
    with pytest.raises(
        InputError, match=f"^{draw.__name__} takes a mapping whose values are of type {kind}, not an? "
    ):
        draw("one")
    with pytest.raises(
        InputError, match=f"^{draw.__name__} takes an? {kind} under each name, not a list under 'a'; "
    ):
        draw({"a": []})


def test_every_function_of_the_room_gives_a_drawing():
    pictures = [name for name in plots.__all__ if inspect.isfunction(getattr(plots, name))]
    others = {"class_styles", "color_scale", "escape_latex", "estimator_style", "estimator_title", "latex_table",
              "name_classes", "style_number"}  # fmt: skip
    given = {inspect.signature(getattr(plots, name)).return_annotation for name in {*pictures} - others}
    assert given == {"Drawing"}
