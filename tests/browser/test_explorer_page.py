"""The panel Explorer in a real JupyterLab: points on the canvas, another layer, texts, keys, themes and a reload."""

from __future__ import annotations

import io
import json

import numpy as np
import pytest

pytestmark = pytest.mark.browser

NASTY = "<script>window.pwned = 1</script> \u202e & \"quotes\" 'too' <img src=x onerror='window.pwned = 1'>"
CELL = """
import gelora_viz as gv, numpy as np, panel_examples
activations = panel_examples.make_points()
profile = gv.estimate_dimension(activations, ["twonn", "mle"], progress=False)
texts = [{text!r}] * 400
labels = [("red", "green", "blue", {text!r})[number % 4] for number in range(400)]
panel = gv.widgets.Explorer(activations, profile, texts=texts, labels=labels, cache={cache!r})
panel
"""
# Software WebGL, so that a machine without a graphics card draws what a reader's browser draws.
WEBGL = ["--use-angle=swiftshader", "--enable-unsafe-swiftshader"]


@pytest.fixture(scope="module")
def browser_arguments():
    return WEBGL


@pytest.fixture(scope="module")
def cell(tmp_path_factory):
    """The notebook's cell; all tests share a cache of maps."""
    return CELL.format(text=NASTY, cache=str(tmp_path_factory.mktemp("maps")))


class Shown:
    """The panel on the page, and its state in the kernel."""

    def __init__(self, page, lab):
        self.page, self.lab = page, lab
        self.root = page.locator(".gelora-viz")
        self.canvas = page.locator(".gv-map canvas")

    def kernel(self, expression):
        return json.loads(self.lab.run(self.page, f"import json; print(json.dumps({expression}))"))

    def wait_for_map(self, layer):
        """Until the page has another map, and its points stand still."""
        self.page.wait_for_selector(f".gv-map canvas[aria-label*='points of {layer}']", timeout=60_000)
        self.page.wait_for_timeout(900)

    def pixels(self):
        """(height, width, 3) what a reader sees of the map."""
        from PIL import Image

        return np.asarray(Image.open(io.BytesIO(self.canvas.screenshot())).convert("RGB")).astype(int)

    def spread(self):
        """How far colored pixels reach from left to right."""
        pixels = self.pixels()[50:, :]
        colored = np.flatnonzero((np.ptp(pixels, axis=2) > 60).any(axis=0))
        return int(np.ptp(colored)) if len(colored) else 0


# The panel draws by canvas where WebGL has no graphics card; here it is to draw by WebGL all the same.
ALLOW_SOFTWARE = (
    "const give = WebGLRenderingContext.prototype.getExtension;"
    "WebGLRenderingContext.prototype.getExtension = function (name) {"
    "  return name === 'WEBGL_debug_renderer_info' ? null : give.call(this, name); };"
)


@pytest.fixture
def shown(browser_page, jupyter_lab, cell):
    browser_page.add_init_script(ALLOW_SOFTWARE)
    return open_panel(browser_page, jupyter_lab, cell)


def open_panel(page, lab, cell, *more):
    lab.write_notebook("explorer.ipynb", [cell, *more])
    lab.open(page, "explorer.ipynb")
    lab.run_all(page)
    page.locator(".gv-map canvas[data-version]").wait_for(timeout=90_000)
    page.wait_for_timeout(300)
    return Shown(page, lab)


def has_color(pixels, color):
    wanted = [int(color[at : at + 2], 16) for at in (1, 3, 5)]
    return bool((np.abs(pixels - wanted).max(axis=2) < 50).any())


def test_points_are_drawn_by_webgl_in_their_colors_and_another_layer_moves_them(shown):
    assert "no WebGL" not in shown.root.locator(".gv-hint").inner_text()
    before = shown.pixels()
    for color in ("#0072B2", "#D55E00", "#009E73", "#E69F00"):
        assert has_color(before, color)
    first = shown.kernel("panel.layer")
    stops = shown.root.get_by_role("radio")
    assert stops.count() == 3
    shown.root.get_by_role("radio", name="embeddings: intrinsic dimension").click()
    shown.wait_for_map("embeddings")
    assert shown.kernel("panel.layer") == "embeddings" != first
    assert (np.abs(shown.pixels() - before).max(axis=2) > 40).mean() > 0.005
    shown.root.get_by_role("radio", name="embeddings").focus()
    shown.page.keyboard.press("ArrowRight")
    shown.page.keyboard.press("Enter")
    shown.wait_for_map("block 1")
    assert shown.root.get_by_role("radio", checked=True).get_attribute("aria-label").startswith("block 1")
    assert shown.page.locator(".jp-Cell").count() == 1
    # In space, by local dimension; dragging turns it.
    shown.page.get_by_label("Map in").select_option("3")
    shown.page.get_by_label("Color").first.select_option("dimension")
    shown.page.wait_for_function("() => document.querySelector('.gv-scale i')", timeout=60_000)
    shown.page.wait_for_timeout(900)
    before = shown.pixels()
    box = shown.canvas.bounding_box()
    shown.page.mouse.move(box["x"] + 300, box["y"] + 100)
    shown.page.mouse.down()
    shown.page.mouse.move(box["x"] + 420, box["y"] + 160, steps=4)
    shown.page.mouse.up()
    shown.page.mouse.move(box["x"] + 5, box["y"] - 20)
    shown.page.wait_for_timeout(200)
    assert (np.abs(shown.pixels() - before).max(axis=2) > 40).mean() > 0.005
    assert shown.page.outside_requests == []


def test_a_point_says_its_text_as_text_and_keys_move_the_map(shown):
    shown.canvas.focus()
    before = shown.spread()
    for _ in range(3):
        shown.page.keyboard.press("-")
    shown.page.wait_for_timeout(200)
    assert shown.spread() < 0.75 * before
    shown.page.keyboard.press("0")
    shown.page.wait_for_timeout(200)
    assert abs(shown.spread() - before) < 4
    shown.page.keyboard.press("Enter")
    tip = shown.root.locator(".gv-tip")
    tip.locator("bdi", has_text="quotes").wait_for()
    assert tip.locator("bdi").inner_text() == NASTY
    assert "Text " in tip.locator("small").inner_text()
    assert NASTY in shown.root.locator(".gv-unseen").text_content()
    shown.page.keyboard.press("Escape")
    tip.wait_for(state="hidden")
    # The same by mouse: over the first colored pixel in the middle row of points.
    pixels = shown.pixels()
    rows, columns = np.nonzero(np.ptp(pixels, axis=2) > 90)
    at = len(rows) // 2
    box = shown.canvas.bounding_box()
    shown.page.mouse.move(box["x"] + int(columns[at]), box["y"] + int(rows[at]))
    tip.wait_for()
    assert tip.locator("bdi").inner_text() == NASTY
    assert shown.page.evaluate("() => window.pwned") is None
    assert NASTY[:50] in shown.root.locator(".gv-key").inner_text()


def test_it_is_readable_in_the_dark_in_a_narrow_place_and_after_a_reload(shown):
    try:
        shown.lab.use_theme(shown.page, "JupyterLab Dark")
        shown.page.wait_for_timeout(300)
        pixels = shown.pixels()
        assert np.median(pixels) < 40
        assert has_color(pixels, "#E69F00")
        color = shown.page.evaluate("() => getComputedStyle(document.querySelector('.gv-status')).color")
        assert min(int(part) for part in color.split("(")[1].rstrip(")").split(",")[:3]) > 180
    finally:
        shown.lab.use_theme(shown.page, "JupyterLab Light")
    shown.page.set_viewport_size({"width": 560, "height": 900})
    shown.page.wait_for_function("() => document.querySelector('.gelora-viz').clientWidth < 460")
    shown.page.wait_for_timeout(300)
    overflow = "() => { const e = document.querySelector('.gelora-viz'); return e.scrollWidth - e.clientWidth; }"
    assert shown.page.evaluate(overflow) <= 0
    assert shown.spread() > 100
    shown.page.set_viewport_size({"width": 1280, "height": 900})
    shown.page.get_by_label("Layer", exact=True).select_option("block 1")
    shown.wait_for_map("block 1")
    shown.lab.reload(shown.page)
    shown.wait_for_map("block 1")
    assert shown.spread() > 200
    assert shown.page.get_by_label("Layer", exact=True).input_value() == "block 1"
    assert len(json.dumps(shown.lab.save(shown.page, "explorer.ipynb"))) < 500_000
    assert shown.page.outside_requests == []


def test_without_a_graphics_card_the_panel_draws_by_canvas_and_says_so(browser_page, jupyter_lab, cell):
    shown = open_panel(browser_page, jupyter_lab, cell, "panel.snapshot()")
    assert "no WebGL" in shown.root.locator(".gv-hint").inner_text()
    assert has_color(shown.pixels(), "#0072B2")
    before = shown.spread()
    shown.root.get_by_role("button", name="Zoom out").click()
    shown.page.wait_for_timeout(200)
    assert shown.spread() < 0.9 * before
    browser_page.locator(".jp-RenderedHTML svg").wait_for()
    shown.lab.run(shown.page, "panel.show_error(RuntimeError('a failure in the background'))")
    shown.root.get_by_role("alert").wait_for()
    shown.lab.run(shown.page, "panel.working, panel.progress = 'UMAP of block 2', 0.4")
    bar = shown.root.get_by_role("progressbar")
    bar.wait_for()
    assert bar.evaluate("(bar) => bar.value") == 0.4
    assert "UMAP of block 2 is being computed" in shown.root.locator(".gv-wait").inner_text()
