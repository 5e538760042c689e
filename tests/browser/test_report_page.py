"""report.html in a real browser: drawn, offline, readable in every theme and on a phone, and text stays text."""

from __future__ import annotations

import numpy as np
import pytest

from gelora_viz.activations import Activations
from gelora_viz.dimension import estimate_dimension
from gelora_viz.study import Study

pytestmark = pytest.mark.browser

NASTY = "<script>window.pwned = 1</script> & \"quotes\" <img src=x onerror='window.pwned = 1'>"


@pytest.fixture(scope="module")
def report(tmp_path_factory, tiny_folder, labelled_texts):
    """A study of a tiny BERT with two plans and a hostile label, profiled for real, with its report."""
    import pandas as pd

    texts, labels = labelled_texts
    names = [NASTY, "plain", "שלום‏"]
    frame = pd.DataFrame({"text": texts, "label": [names[label] for label in labels]})
    study = Study.create(tmp_path_factory.mktemp("report") / "study", model=str(tiny_folder("bert")), data=frame)
    study.profile(poolings=["mean"], k=5, progress=False)
    study.allocate("gelora", budget_rank=2)
    study.allocate("uniform", strategy="uniform", budget_rank=2)
    return study.report()


def open_report(page, report, **emulated):
    if emulated:
        page.emulate_media(**emulated)
    page.goto(report.as_uri())
    page.wait_for_function("() => document.querySelectorAll('.js-plotly-plot .main-svg').length > 0")


def test_every_figure_is_drawn_without_any_request(browser_page, report):
    errors = []
    browser_page.on("pageerror", lambda error: errors.append(str(error)))
    open_report(browser_page, report)
    drawn = browser_page.locator(".js-plotly-plot .main-svg:first-child").count()
    assert drawn == browser_page.locator("figure").count() > 0
    assert browser_page.outside_requests == []
    assert errors == []


def test_the_page_is_dark_where_the_reader_prefers_it(browser_page, report):
    def background():
        return browser_page.evaluate("() => getComputedStyle(document.body).backgroundColor")

    open_report(browser_page, report, color_scheme="light")
    light = background()
    browser_page.emulate_media(color_scheme="dark")
    assert background() != light


def test_a_phone_scrolls_tables_and_never_the_page_sideways(browser_page, report):
    browser_page.set_viewport_size({"width": 390, "height": 800})
    open_report(browser_page, report)
    wide, shown = browser_page.evaluate(
        "() => [document.documentElement.scrollWidth, document.documentElement.clientWidth]"
    )
    assert wide <= shown


CELLS = """([caption, name]) => {
    const tables = [...document.querySelectorAll("table")];
    const table = tables.find((each) => each.caption.textContent.startsWith(caption));
    const heading = [...table.tHead.rows[0].cells].find((each) => each.textContent === name);
    return [...table.tBodies[0].rows].map((row) => row.cells[heading.cellIndex].textContent);
}"""
A4_WIDTH = 703
"""Pixels between margins of 12 mm."""
CUT_OFF = "each.scrollWidth > each.clientWidth + 1"


def test_a_heading_sorts_its_table_by_numbers_both_ways_by_mouse_and_keyboard(browser_page, report):
    def column(name):
        return browser_page.evaluate(CELLS, ["The rule", name])

    open_report(browser_page, report)
    as_written = [float(value) for value in column("difference")]
    heading = browser_page.locator("table:has(caption:text('The rule')) th", has_text="difference").locator("button")
    heading.click()
    assert [float(value) for value in column("difference")] == sorted(as_written) != as_written
    heading.press("Enter")
    assert [float(value) for value in column("difference")] == sorted(as_written, reverse=True)
    assert heading.locator("..").get_attribute("aria-sort") == "descending"


def test_on_paper_nothing_is_cut_off_and_everything_is_unfolded(browser_page, report, tmp_path):
    browser_page.set_viewport_size({"width": 1200, "height": 1000})  # wider than a sheet
    open_report(browser_page, report)
    assert max(widths_of_pictures(browser_page)) > A4_WIDTH
    browser_page.evaluate("() => dispatchEvent(new Event('beforeprint'))")
    browser_page.emulate_media(media="print")
    assert max(widths_of_pictures(browser_page)) < A4_WIDTH
    browser_page.set_viewport_size({"width": A4_WIDTH, "height": 1000})
    assert not browser_page.evaluate(
        f"() => [...document.querySelectorAll('figure, .scroll')].some((each) => {CUT_OFF})"
    )
    assert browser_page.locator("details:not([open])").count() == 0
    assert browser_page.locator(".modebar").first.is_hidden()
    browser_page.emulate_media(media="screen")
    browser_page.set_viewport_size({"width": 1200, "height": 1000})
    browser_page.evaluate("() => dispatchEvent(new Event('afterprint'))")
    browser_page.wait_for_function(f"() => document.querySelector('.main-svg').clientWidth > {A4_WIDTH}")


def test_pictures_on_a_phone_keep_a_width_that_can_be_read(browser_page, report):
    browser_page.set_viewport_size({"width": 390, "height": 800})
    open_report(browser_page, report)
    assert min(widths_of_pictures(browser_page)) >= 440
    assert browser_page.locator("figure .scroll[tabindex='0']").count() == browser_page.locator("figure").count()


def widths_of_pictures(page):
    return page.evaluate("() => [...document.querySelectorAll('.main-svg')].map((each) => each.clientWidth)")


def test_a_hostile_figure_label_stays_text(browser_page, tmp_path):
    from gelora_viz.plots import rank_profile

    points = np.random.default_rng(0).normal(size=(200, 6))
    cloud = Activations.from_arrays({NASTY: points, "block": 2 * points})
    profile = estimate_dimension(cloud, ["twonn"], progress=False)
    page = tmp_path / "figure.html"
    rank_profile(profile).to_plotly().write_html(page, include_plotlyjs=True)
    browser_page.goto(page.as_uri())
    browser_page.wait_for_function("() => document.querySelectorAll('.js-plotly-plot .main-svg').length > 0")
    browser_page.mouse.move(300, 300)
    assert browser_page.evaluate("() => window.pwned") is None
