"""The panel RankBudget in a real JupyterLab: moved by keyboard and by mouse, reloaded, in light and dark."""

from __future__ import annotations

import json

import pytest

pytestmark = pytest.mark.browser

SHOWN = """
import gelora_viz as gv, panel_examples
model = panel_examples.tiny_model({architecture!r})
profile = panel_examples.make_profile(model)
panel = gv.widgets.RankBudget(profile, model)
panel
"""
NASTY = "<img src=x onerror='window.pwned = 1'>"


class Shown:
    """The panel on the page, and its state in the kernel."""

    def __init__(self, page, lab):
        self.page, self.lab = page, lab
        self.root = page.locator(".gelora-viz")
        self.slider = page.get_by_label("Budget", exact=True)
        self.bars = page.locator(".gelora-viz .gv-bar")

    def kernel(self, expression):
        return json.loads(self.lab.run(self.page, f"import json; print(json.dumps({expression}))"))

    def wait_for(self, expression, value):
        """Until the kernel has this value; the page's requests are on their way."""
        for _ in range(50):
            if self.kernel(expression) == value:
                return
            self.page.wait_for_timeout(60)
        assert self.kernel(expression) == value

    def height(self, index):
        return self.bars.nth(index).locator(".gv-fill").bounding_box()["height"]

    def drag_bar(self, index, to_rank):
        """From the top of the bar to the height of another rank, by the axis."""
        fill = self.bars.nth(index).locator(".gv-fill").bounding_box()
        rank = float(self.bars.nth(index).get_attribute("aria-valuenow"))
        x, bottom = fill["x"] + fill["width"] / 2, fill["y"] + fill["height"]
        self.page.mouse.move(x, fill["y"] + 1)
        self.page.mouse.down()
        self.page.mouse.move(x, bottom - fill["height"] * to_rank / rank, steps=8)
        self.page.mouse.up()


@pytest.fixture
def shown(browser_page, jupyter_lab, request):
    """The panel for a tiny BERT, or the architecture that the test names."""
    architecture = getattr(request, "param", "bert")
    jupyter_lab.write_notebook("ranks.ipynb", [SHOWN.format(architecture=architecture)])
    jupyter_lab.open(browser_page, "ranks.ipynb")
    jupyter_lab.run_all(browser_page)
    browser_page.locator(".gelora-viz .gv-bar .gv-fill").first.wait_for()
    yield Shown(browser_page, jupyter_lab)
    assert browser_page.outside_requests == []


def test_the_slider_moves_by_keyboard_and_by_mouse_and_the_bars_follow(shown):
    before, height = shown.kernel("panel.budget"), shown.height(0)
    shown.slider.focus()
    shown.page.keyboard.press("ArrowRight")
    shown.wait_for("panel.budget > " + str(before), value=True)
    assert shown.kernel("panel.plan.n_parameters <= panel.budget")
    box = shown.slider.bounding_box()
    shown.page.mouse.click(box["x"] + 0.9 * box["width"], box["y"] + box["height"] / 2)
    shown.wait_for(f"panel.budget > {3 * before}", value=True)
    assert f"{shown.kernel('panel.budget'):,} parameters" in shown.root.inner_text()
    assert shown.height(0) != height


def test_a_bar_is_dragged_and_one_step_takes_it_back(shown):
    before = shown.kernel("panel.plan.ranks")
    shown.drag_bar(1, to_rank=5)
    shown.wait_for("panel.edits", {"encoder.layer.1": 5})
    assert shown.kernel("panel.plan.n_parameters <= panel.budget")
    assert "set by hand" in shown.root.locator(".gv-readout").inner_text()
    shown.root.get_by_role("button", name="Undo").click()
    shown.wait_for("panel.edits", {})
    assert shown.kernel("panel.plan.ranks") == before


def test_a_bar_is_stepped_by_keys_which_the_notebook_leaves_alone(shown):
    first = shown.bars.first
    rank = int(float(first.get_attribute("aria-valuenow")))
    first.focus()
    shown.page.keyboard.press("ArrowDown")
    shown.wait_for("panel.edits", {"encoder.layer.0": rank - 1})
    shown.page.keyboard.press("ArrowRight")
    shown.page.keyboard.press("ArrowUp")
    shown.wait_for("list(panel.edits)", ["encoder.layer.0", "encoder.layer.1"])
    shown.page.keyboard.press("Delete")
    shown.wait_for("list(panel.edits)", ["encoder.layer.0"])
    for _ in range(3):
        shown.page.keyboard.press("Control+z")
    shown.wait_for("panel.edits", {})
    shown.page.keyboard.press("Control+Shift+z")
    shown.wait_for("panel.edits", {"encoder.layer.0": rank - 1})
    assert shown.page.locator(".jp-Cell").count() == 1
    assert shown.page.evaluate("() => document.activeElement.getAttribute('aria-label')") == "Rank of encoder.layer.1"


def test_what_cannot_be_is_said_and_the_bar_goes_back(shown):
    edits = "{'encoder.layer.%d' % i: 4 for i in range(3)}"
    shown.lab.run(shown.page, f"panel.set_state({{'edits': {edits}}}); panel.set_state({{'budget': 30}})")
    alert = shown.root.get_by_role("alert")
    alert.wait_for()
    assert "raise the budget" in alert.inner_text()
    shown.slider.focus()
    shown.page.keyboard.press("ArrowRight")
    alert.wait_for(state="hidden")


def test_a_reload_keeps_every_control(shown):
    shown.page.get_by_label("Strategy").select_option("random")
    shown.page.get_by_label("Estimator").select_option("mle")
    shown.page.get_by_label("Keep the budget").uncheck()
    shown.drag_bar(2, to_rank=7)
    shown.slider.focus()
    shown.page.keyboard.press("ArrowRight")
    shown.wait_for(
        "[panel.strategy, panel.estimator, panel.keep_budget, len(panel.edits)]", ["random", "mle", False, 1]
    )

    def on_the_page():
        values = (
            "() => [...document.querySelectorAll('.gelora-viz select, .gelora-viz input')].map(each => each.value)"
        )
        ranks = [bar.get_attribute("aria-valuetext") for bar in shown.bars.all()]
        return shown.page.evaluate(values), shown.page.get_by_label("Keep the budget").is_checked(), ranks

    shown.page.wait_for_timeout(300)
    before = on_the_page()
    shown.lab.reload(shown.page)
    shown.bars.first.locator(".gv-fill").wait_for()
    assert on_the_page() == before
    shown.root.get_by_role("button", name="Undo").click()
    shown.page.wait_for_timeout(300)
    assert on_the_page() != before


def test_the_configuration_is_copied_or_shown(shown):
    shown.page.context.grant_permissions(["clipboard-read", "clipboard-write"], origin=shown.lab.url)
    button = shown.root.get_by_role("button", name="Copy as PEFT config")
    button.click()
    shown.root.get_by_role("button", name="Copied").wait_for()
    assert shown.page.evaluate("() => navigator.clipboard.readText()") == shown.kernel("panel.peft_code")
    shown.page.evaluate("() => { navigator.clipboard.writeText = () => Promise.reject(new Error('no')); }")
    button.click()
    text = shown.root.get_by_role("textbox")
    text.wait_for()
    assert text.input_value() == shown.kernel("panel.peft_code")
    assert shown.page.evaluate("() => document.activeElement.selectionEnd") == len(text.input_value())


@pytest.mark.parametrize("shown", ["gpt2", "t5"], indirect=True)
def test_decoders_and_encoder_decoders_have_a_bar_for_each_block_of_each_stack(shown):
    assert shown.bars.count() == shown.kernel("panel.plan.frame['layer'].nunique()")
    titles = shown.root.locator("h4").all_inner_texts()
    assert titles == (["Encoder", "Decoder"] if shown.kernel("panel.layers[0][1]") else [])


def test_it_is_readable_in_the_dark_and_in_a_narrow_place(shown):
    def lightness(selector, what):
        color = shown.page.evaluate(
            "([selector, what]) => getComputedStyle(document.querySelector(selector))[what]", [selector, what]
        )
        red, green, blue = (float(part) for part in color.split("(")[1].rstrip(")").split(",")[:3])
        return 0.2126 * red + 0.7152 * green + 0.0722 * blue

    try:
        shown.lab.use_theme(shown.page, "JupyterLab Dark")
        assert lightness(".jp-Notebook", "backgroundColor") < 40
        for selector, what in ((".gelora-viz .gv-tick", "fill"), (".gv-status", "color"), (".gv-bound", "stroke")):
            assert lightness(selector, what) > 180
    finally:
        shown.lab.use_theme(shown.page, "JupyterLab Light")
    assert lightness(".gelora-viz .gv-tick", "fill") < 75
    shown.page.set_viewport_size({"width": 520, "height": 900})
    shown.page.wait_for_function("() => document.querySelector('.gelora-viz').clientWidth < 420")
    shown.page.wait_for_timeout(200)
    assert (
        shown.page.evaluate(
            "() => { const e = document.querySelector('.gelora-viz'); return e.scrollWidth - e.clientWidth; }"
        )
        <= 0
    )


def test_a_nasty_layer_name_stays_text(browser_page, jupyter_lab):
    cell = SHOWN.format(architecture="bert").replace(
        "panel = ",
        f"profile.frame['layer'] = profile.frame['layer'].where(profile.frame['depth'] > 0, {NASTY!r})\n"
        f"gaps = profile.half_gaps\n"
        f"for name in profile.estimators: gaps[{NASTY!r}, name] = gaps['embeddings', name]\n"
        "profile.frame.loc[profile.frame['depth'] == 0, 'dimension'] = 30.0\n"
        "panel = ",
    )
    jupyter_lab.write_notebook("nasty.ipynb", [cell, "panel.snapshot()"])
    jupyter_lab.open(browser_page, "nasty.ipynb")
    jupyter_lab.run_all(browser_page)
    chart = browser_page.locator(".gelora-viz svg[role=img]")
    chart.wait_for()
    assert NASTY in chart.get_attribute("aria-label")
    browser_page.locator(".jp-RenderedHTML svg").wait_for()
    assert browser_page.evaluate("() => window.pwned") is None
    assert len(json.dumps(jupyter_lab.save(browser_page, "nasty.ipynb"))) < 120_000
    assert browser_page.outside_requests == []
