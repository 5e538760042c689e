"""How long does a frame take while a map of 20,000 points is moved, in a real JupyterLab in a real browser?

A notebook shows `widgets.Explorer` for 20,000 points. A script in the page drags the map by some pixels a frame, as a
hand does, and measures the time between the browser's frames (16.7 ms at best, at 60 frames a second) and the time
that the page's own code takes of each. WebGL is drawn here by SwiftShader, on the processor: a computer with a
graphics card, however small, is faster. The places of points are random, so that nothing waits for UMAP: a frame's
time does not depend on them.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from machine import describe_machine
from playwright.sync_api import sync_playwright

if TYPE_CHECKING:
    from jupyter_lab import JupyterLab
    from playwright.sync_api import Browser

TESTS = Path(__file__).parents[1] / "tests"
N_POINTS = 20_000

CELL = f"""
import numpy as np, panel_examples, gelora_viz as gv
from gelora_viz.maps import Projection, umap
from gelora_viz.widgets import map_maker
umap._fit = lambda points, layer, settings, progress: np.random.default_rng(len(layer)).normal(
    size=(len(points), settings["n_components"])).astype(np.float32)
activations = panel_examples.make_points({N_POINTS})
profile = gv.estimate_dimension(panel_examples.make_points(400), ["twonn"], progress=False)
panel = gv.widgets.Explorer(activations, profile, labels=[n % 7 for n in range({N_POINTS})], cache=False)
panel
"""
PAN = """async (frames) => {
    const canvas = document.querySelector(".gv-map canvas");
    const box = canvas.getBoundingClientRect();
    const send = (kind, x, y) => canvas.dispatchEvent(new PointerEvent(kind,
        {clientX: box.left + x, clientY: box.top + y, pointerId: 1, button: 0, bubbles: true}));
    canvas.setPointerCapture = () => {};
    let inCode = 0;
    const ask = globalThis.requestAnimationFrame;
    globalThis.requestAnimationFrame = (paint) => ask((now) => {
        const start = performance.now();
        paint(now);
        inCode = performance.now() - start;
    });
    send("pointerdown", 400, 250);
    const [between, code] = [[], []];
    let last = await new Promise(ask);
    for (let frame = 0; frame < frames; frame++) {
        send("pointermove", 400 + 120 * Math.sin(frame / 12), 250 + 80 * Math.cos(frame / 9));
        const now = await new Promise(ask);
        between.push(now - last);
        code.push(inCode);
        last = now;
    }
    send("pointerup", 400, 250);
    globalThis.requestAnimationFrame = ask;
    return [between, code];
}"""
# The panel draws by canvas where WebGL has no graphics card; here each is measured.
ALLOW_SOFTWARE = """
const give = WebGLRenderingContext.prototype.getExtension;
WebGLRenderingContext.prototype.getExtension = function (name) {
    return name === "WEBGL_debug_renderer_info" ? null : give.call(this, name);
};
"""
CHROMIUM = ["--headless", "--no-sandbox", "--disable-quic"]
DRAWN_BY = {
    "WebGL (SwiftShader)": ["--use-angle=swiftshader", "--enable-unsafe-swiftshader"],
    "canvas 2-D": ["--disable-gpu", "--disable-3d-apis"],
}


def measure(browser: Browser, lab: JupyterLab, drawn_by: str, frames: int) -> list[dict[str, object]]:
    """The rows of one way of drawing."""
    page = browser.new_page(viewport={"width": 1280, "height": 900})
    page.add_init_script(ALLOW_SOFTWARE)
    lab.write_notebook("frames.ipynb", [CELL])
    lab.open(page, "frames.ipynb")
    lab.run_all(page)
    page.locator(".gv-map canvas[data-version]").wait_for(timeout=120_000)
    if ("no WebGL" in page.locator(".gv-hint").inner_text()) != (drawn_by == "canvas 2-D"):
        raise RuntimeError(f"the map is not drawn by {drawn_by}")
    rows = []
    for n_components, what in ((2, "move in the plane"), (3, "turn in space")):
        if n_components == 3:
            page.get_by_label("Map in").select_option("3")
            page.wait_for_function("() => document.querySelector('.gv-map canvas').dataset.version === '2'")
        page.wait_for_timeout(2000)
        between, code = page.evaluate(PAN, frames)
        median, tail, most = (float(np.percentile(between, at)) for at in (50, 95, 100))
        rows.append(
            {
                "drawn by": drawn_by,
                "what": what,
                "frames": frames,
                "p50 ms": median,
                "p95 ms": tail,
                "max ms": most,
                "own code p50 ms": float(np.median(code)),
            }
        )
    page.close()
    lab.end_sessions()
    return rows


def main(frames: int) -> None:
    """Print the table."""
    sys.path[:0] = [str(TESTS), str(TESTS / "browser")]  # the server and the examples of the browser tests
    from conftest import find_chromium
    from jupyter_lab import JupyterLab

    load = os.getloadavg()[0]
    rows = []
    with tempfile.TemporaryDirectory() as place, sync_playwright() as playwright:
        lab = JupyterLab(Path(place))
        try:
            for drawn_by, arguments in DRAWN_BY.items():
                browser = playwright.chromium.launch(executable_path=find_chromium(), args=[*CHROMIUM, *arguments])
                rows += measure(browser, lab, drawn_by, frames)
                version = browser.version
                browser.close()
        finally:
            lab.stop()
    print(describe_machine("anywidget", "jupyterlab"))
    print(
        f"# Chromium {version}, {N_POINTS:,} points, map of 950 x 540 pixels, load average {load:.1f} before it began"
    )
    print(pd.DataFrame(rows).to_string(index=False, float_format="%.1f"))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("frames", nargs="?", type=int, default=240, help="number of frames (default: %(default)s)")
    main(parser.parse_args().frames)
