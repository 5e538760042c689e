"""The matplotlib renderer makes files that a venue accepts, and makes them again byte for byte."""

import builtins
import re
import shutil
import subprocess
import warnings
from itertools import pairwise

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib.collections import QuadMesh
from matplotlib.container import BarContainer
from plot_results import drawings, make_comparison, make_deep, make_encoder_decoder, make_metrics, make_profile

from gelora_viz import plots
from gelora_viz.errors import InputError, StudyError
from gelora_viz.plots import Series, Style, Subplot
from gelora_viz.plots.marks import LEVEL
from gelora_viz.plots.venue import PAGES, paper_settings

pytestmark = pytest.mark.filterwarnings("error")


@pytest.fixture
def main_picture(profile, plan, spectrum):
    return plots.rank_profile(profile, plan, spectrum)


@pytest.mark.parametrize("name", drawings())
def test_every_series_of_every_picture_is_an_artist_with_its_values(name):
    drawing = drawings()[name]
    figure = drawing.to_matplotlib("plain", "text")
    for axes, subplot in zip(figure.axes, drawing.subplots, strict=False):
        lines = {line.get_label(): line for line in axes.lines}
        bars = {
            container.get_label(): [bar.get_height() for bar in container]
            for container in axes.containers
            if isinstance(container, BarContainer)
        }
        for series in subplot.series:
            if series.kind == "bars":
                drawn = bars[series.label]
            else:
                line = lines[series.label]
                drawn = line.get_xdata() if subplot.horizontal else line.get_ydata()
            assert set(series.y) <= set(drawn)


@pytest.mark.parametrize("name", drawings())
def test_every_picture_is_drawn_without_a_warning(name, tmp_path):
    path = drawings()[name].save(tmp_path / "figure.pdf")
    assert path.stat().st_size > 5_000


@pytest.mark.parametrize("venue", ["icml2024", "neurips2024", "plain"])
def test_fonts_are_truetype_never_type_3(main_picture, venue, tmp_path):
    content = main_picture.save(tmp_path / "figure.pdf", venue).read_bytes()
    assert b"/Type3" not in content
    assert b"/CIDFontType2" in content
    assert b"/FontFile2" in content


@pytest.mark.skipif(not shutil.which("pdffonts"), reason="pdffonts is not installed")
def test_pdffonts_finds_only_embedded_truetype_fonts(main_picture, tmp_path):
    path = main_picture.save(tmp_path / "figure.pdf")
    fonts = subprocess.check_output(["pdffonts", path], text=True).splitlines()[2:]
    assert fonts
    assert all("TrueType" in font and " yes " in font for font in fonts)


@pytest.mark.parametrize("suffix", [".pdf", ".svg", ".png"])
def test_the_same_results_give_the_same_bytes(main_picture, suffix, tmp_path):
    first = main_picture.save(tmp_path / f"first{suffix}")
    second = main_picture.save(tmp_path / f"second{suffix}")
    assert first.read_bytes() == second.read_bytes()


@pytest.mark.parametrize("suffix", [".pdf", ".svg", ".png"])
def test_a_file_says_which_gelora_viz_made_it_and_not_when(main_picture, suffix, tmp_path):
    content = main_picture.save(tmp_path / f"figure{suffix}").read_bytes()
    assert re.search(rb"gelora_viz \d+\.\d+", content)
    assert b"CreationDate" not in content
    assert b"<dc:date>" not in content


@pytest.mark.parametrize(
    ("venue", "column", "text"),
    [("icml2024", 3.25, 6.75), ("neurips2024", 5.5, 5.5), ("acl2024", 7.7 / 2.54, 16 / 2.54), ("plain", 3.4, 7)],
)
def test_a_figure_is_as_wide_as_the_venue_wants_it(main_picture, venue, column, text):
    assert main_picture.to_matplotlib(venue, "column").get_figwidth() == pytest.approx(column)
    assert main_picture.to_matplotlib(venue, "text").get_figwidth() == pytest.approx(text)


def test_every_venue_of_tueplots_can_be_drawn_for(main_picture):
    from tueplots import bundles

    for venue in ("aaai2024", "aistats2025", "colm2026", "cvpr2024", "eccv2024", "iclr2024", "jmlr2001", "tmlr2023"):
        assert hasattr(bundles, venue)
        assert main_picture.to_matplotlib(venue).axes


def test_drawing_leaves_matplotlib_as_it_was(main_picture, tmp_path):
    before = dict(mpl.rcParams)
    main_picture.save(tmp_path / "figure.pdf")
    assert dict(mpl.rcParams) == before


def test_only_installed_truetype_fonts_are_asked_for():
    from matplotlib.font_manager import fontManager

    files = {font.name: font.fname for font in fontManager.ttflist}
    families = paper_settings("icml2024")["font.family"]
    assert "STIXGeneral" in families
    assert all(files[family].endswith(".ttf") for family in families)


def test_dollar_signs_and_underscores_in_names_are_just_that(tmp_path):
    names = ["$x$", "_hidden", "100% & #1", "\\alpha^2"]
    figure = plots.training({name: make_metrics()["gelora"] for name in names}).to_matplotlib("plain")
    assert [text.get_text() for text in figure.legends[0].get_texts()] == names
    svg = plots.comparison(make_comparison(names)).save(tmp_path / "figure.svg", "plain")
    assert "$x$" in svg.read_text()  # matplotlib notes the text that it draws; mathematics would read "x"


@pytest.mark.parametrize(
    "picture", [make_deep(6), make_deep(96), make_encoder_decoder()], ids=["6", "96", "two stacks"]
)
@pytest.mark.parametrize("width", ["column", "text"])
def test_tick_labels_do_not_touch_and_the_legend_stays_clear_of_the_subplots(picture, width):
    figure = plots.rank_profile(*picture).to_matplotlib("icml2024", width)
    figure.draw_without_rendering()
    for axes in figure.axes:
        boxes = [
            label.get_window_extent() for label in axes.get_xticklabels() if label.get_text() and label.get_visible()
        ]
        assert all(one.x1 < two.x0 for one, two in pairwise(boxes))
    legend = figure.legends[0].get_window_extent()
    assert legend.y0 >= max(axes.get_tightbbox().y1 for axes in figure.axes)
    assert legend.x0 >= 0
    assert legend.x1 <= figure.bbox.x1


@pytest.mark.parametrize("name", ["estimators", "estimators of 96 layers", "estimators of two stacks"])
@pytest.mark.parametrize("width", ["column", "text"])
def test_cells_have_their_values_as_colors_and_as_numbers_that_stay_inside(name, width):
    drawing = drawings()[name]
    figure = drawing.to_matplotlib("icml2024", width)
    figure.draw_without_rendering()
    for axes, subplot in zip(figure.axes, drawing.subplots, strict=False):
        (mesh,) = (each for each in axes.collections if isinstance(each, QuadMesh))
        drawn = mesh.get_array().filled(np.nan).reshape(len(subplot.cells.rows), -1)
        np.testing.assert_array_equal(drawn, subplot.cells.values)
        assert (mesh.norm.vmin, mesh.norm.vmax) == (subplot.cells.low, subplot.cells.high)
        names = [label.get_text() for label in axes.get_yticklabels()]
        assert names == (list(subplot.cells.rows) if subplot is drawing.subplots[0] else [])
        written = [text.get_text() for text in axes.texts]
        fits = (width == "text" and len(subplot.cells.x) < 20) or name == "estimators"
        assert written == ([each for row in subplot.cells.numbers() for each in row] if fits else [])
        cell = axes.get_window_extent().width / (len(subplot.cells.x) + 0.2)
        assert all(text.get_window_extent().width < cell for text in axes.texts)


def test_cells_are_told_apart_by_their_brightness():
    """For a print in gray: the larger of two values is the brighter one."""
    figure = drawings()["estimators"].to_matplotlib("plain")
    (mesh,) = (each for each in figure.axes[0].collections if isinstance(each, QuadMesh))
    values = np.geomspace(mesh.norm.vmin, mesh.norm.vmax, 50)
    luminance = mesh.to_rgba(values)[:, :3] @ [0.2126, 0.7152, 0.0722]
    assert np.all(np.diff(luminance) > 0)


@pytest.mark.parametrize("name", drawings())
def test_series_differ_in_more_than_their_color(name):
    """For a print in gray: dash or mark tells them apart, or the colors' brightness does."""
    for subplot in drawings()[name].subplots:
        looks = {series.label: (series.kind, series.style.dash, series.style.marker) for series in subplot.series}
        assert len(set(looks.values())) == len(looks)


def test_a_horizontal_subplot_turns_lines_bars_strokes_intervals_and_scales_alike():
    shape = {"x": (0.0, 1.0), "y": (1.0, 50.0), "low": (0.5, 40.0), "high": (2.0, 60.0)}
    series = (
        Series("bars", **shape, label="bars", style=Style("#56B4E9")),
        Series("line", **shape, label="line", style=Style("#0072B2")),
        Series("markers", **shape, label="level", style=Style("#7F7F7F", marker=LEVEL)),
    )
    subplot = Subplot(
        "", "place", "value", series, x_ticks=(0, 1), x_tick_labels=("a", "b"), log_y=True, horizontal=True
    )
    axes = plots.Drawing("", (subplot,)).to_matplotlib("plain").axes[0]
    assert (axes.get_xscale(), axes.get_xlabel(), axes.get_ylabel()) == ("log", "value", "place")
    assert [bar.get_width() for bar in axes.patches] == [1, 50]
    assert all(np.nanmax(line.get_xdata()) == 50 for line in axes.lines)
    outlines = [[path.vertices[:, 0].max() for path in collection.get_paths()] for collection in axes.collections]
    assert [max(outline) for outline in outlines] == pytest.approx([60, 60, 60])


def test_the_axis_begins_at_zero_unless_something_lies_below():
    def bottom(*values):
        series = Series("markers", tuple(map(float, range(len(values)))), values, label="a", style=Style("#0072B2"))
        drawing = plots.Drawing("", (Subplot("", "", "", (series,), y_from_zero=True),))
        return drawing.to_matplotlib("plain").axes[0].get_ylim()[0]

    assert bottom(3.0, 4.0) == 0
    assert bottom(-1.0, 4.0) == -1
    assert bottom(float("nan"), float("nan")) == 0


def test_missing_values_leave_gaps(profile):
    frame = profile.frame.copy()
    frame.loc[2, ["dimension", "ci_low", "ci_high"]] = np.nan
    comparison = make_comparison().assign(ci_low=np.nan)
    lines = plots.rank_profile(make_profile(rows=frame)).to_matplotlib("plain").axes[0].get_lines()
    assert sum(np.isnan(line.get_ydata()).any() for line in lines) == 1

    def n_interval_bars(results):
        return sum(len(axes.containers) for axes in plots.comparison(results).to_matplotlib("plain").axes)

    assert n_interval_bars(comparison) == n_interval_bars(make_comparison()) - 1


def test_missing_folders_are_made(main_picture, tmp_path):
    path = tmp_path / "deeper" / "figure.png"
    assert main_picture.save(path) == path
    assert path.read_bytes().startswith(b"\x89PNG")


def test_another_suffix_is_refused_with_those_that_work(main_picture, tmp_path):
    with pytest.raises(InputError, match=r"cannot write a figure as 'figure.jpg'; .* .pdf, .pgf, .svg, .png"):
        main_picture.save(tmp_path / "figure.jpg")


def test_an_unknown_venue_is_answered_with_the_nearest_or_with_all(main_picture):
    with pytest.raises(InputError, match="unknown venue 'ICML2042'; did you mean icml2026 or icml2025 or icml2024"):
        main_picture.to_matplotlib("ICML2042")
    with pytest.raises(InputError, match=r"there is aaai2024, aaai2026, acl2024, .*, plain"):
        main_picture.to_matplotlib("Nature")
    with pytest.raises(InputError, match="unknown venue 'figsizes'"):
        main_picture.to_matplotlib("figsizes")


def test_an_unknown_width_is_refused(main_picture):
    with pytest.raises(InputError, match="unknown width 'wide'; choose column or text"):
        main_picture.to_matplotlib("plain", "wide")


@pytest.mark.parametrize("venue", sorted(set(PAGES) - {"plain"}))
def test_our_own_venues_are_those_that_tueplots_lacks_and_follow_their_predecessor(main_picture, venue):
    from tueplots import bundles

    figure = main_picture.to_matplotlib(venue)
    before = next((name for name in dir(bundles) if name == f"{venue[:-4]}2024"), None)
    if before is not None and venue != "aaai2026":  # whose kit has wider columns now
        assert figure.get_figwidth() == main_picture.to_matplotlib(before).get_figwidth()
        settings, earlier = paper_settings(venue), paper_settings(before)
        same = ["font.family", "font.size", "axes.labelsize", "legend.fontsize", "xtick.labelsize"]
        assert {name: settings[name] for name in same} == {name: earlier[name] for name in same}


def test_our_own_venues_are_listed_where_figures_are_saved():
    assert all(f'"{venue}"' in plots.Drawing.save.__doc__ for venue in PAGES)


def test_without_tueplots_our_own_venues_are_drawn(main_picture, monkeypatch):
    imported = builtins.__import__

    def without_tueplots(name, *args, **kwargs):
        if name.startswith("tueplots"):
            raise ImportError(name)
        return imported(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without_tueplots)
    assert main_picture.to_matplotlib("plain").axes
    assert main_picture.to_matplotlib("icml2026").axes
    with pytest.raises(InputError, match=r'pip install "gelora_viz\[paper\]"'):
        main_picture.to_matplotlib("icml2024")


def test_a_failed_write_leaves_the_old_file_and_nothing_else(main_picture, tmp_path, monkeypatch):
    path = tmp_path / "figure.pdf"
    path.write_bytes(b"old")

    def full(self, target):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("pathlib.Path.replace", full)
    with pytest.raises(StudyError, match=r"cannot write .*figure.pdf: No space left on device"):
        main_picture.save(path)
    assert [file.name for file in tmp_path.iterdir()] == ["figure.pdf"]
    assert path.read_bytes() == b"old"


def test_a_pgf_figure_needs_latex(main_picture, tmp_path, monkeypatch):
    monkeypatch.setattr("shutil.which", {}.get)
    with pytest.raises(InputError, match="PGF figures are measured with LaTeX"):
        main_picture.save(tmp_path / "figure.pgf")


@pytest.mark.skipif(not shutil.which("pdflatex"), reason="LaTeX is not installed")
def test_names_in_a_pgf_figure_are_latex_source(tmp_path):
    path = plots.comparison(make_comparison(["a_b & c", "50%"])).save(tmp_path / "figure.pgf")
    assert r"a\_b \& c" in path.read_text()


def test_a_letter_that_no_font_has_is_reported_not_hidden(tmp_path):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        plots.comparison(make_comparison(["漢"])).save(tmp_path / "figure.pdf")
    assert {str(warning.message).split(" (")[0] for warning in caught} == {"Glyph 28450"}
