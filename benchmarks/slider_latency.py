"""How long after a move of the budget slider are the bars redrawn, in a real JupyterLab in a real browser?

A notebook shows `widgets.RankBudget` for MiniLM's shapes and for a decoder of 96 blocks with seven matrices each. A
script in the page moves the slider by one stop, as a key press does, and waits until a bar has changed and the
browser has come to its next frame; the kernel's own share, from the new budget to the new plan, is measured in the
kernel. A sweep is forty moves, one every 16 ms as under a fast hand; what is measured is how long after the last of
them the bars stand still: moves must not pile up.
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
    from playwright.sync_api import Page

TESTS = Path(__file__).parents[1] / "tests"

SHOW = {
    "MiniLM (6 blocks, 12 matrices)": (
        "from transformers import BertConfig, BertModel\n"
        "model = BertModel(BertConfig(num_hidden_layers=6, hidden_size=384, num_attention_heads=12,\n"
        "                             intermediate_size=1536))\n"
        "panel = gv.widgets.RankBudget(panel_examples.make_profile(model), model)\n"
    ),
    "decoder (96 blocks, 672 matrices)": (
        "model = panel_examples.large_model(96)\n"
        "panel = gv.widgets.RankBudget(panel_examples.make_profile(model), model,\n"
        "                              target_modules=list(panel_examples.SEVEN_MATRICES))\n"
    ),
}
# Bars are redrawn in one go, so that any change of their heights is the new picture.
IN_THE_PAGE = """
globalThis.move = (by) => {
    const range = document.querySelector(".gelora-viz input[type=range]");
    range.value = Number(range.value) + by;
    range.dispatchEvent(new Event("input", {bubbles: true}));
};
globalThis.picture = () =>
    [...document.querySelectorAll(".gv-bar .gv-fill")].map((bar) => bar.getAttribute("y")).join();
globalThis.frame = () => new Promise(requestAnimationFrame);
globalThis.pause = (ms) => new Promise((done) => setTimeout(done, ms));
"""
ONE_MOVE = """async (by) => {
    const before = picture();
    const start = performance.now();
    move(by);
    while (picture() === before) await frame();
    await frame();
    return performance.now() - start;
}"""
A_SWEEP = """async () => {
    for (let moves = 0; moves < 40; moves++) {
        move(moves < 20 ? 1 : -1);
        await pause(16);
    }
    const start = performance.now();
    let last = start;
    for (let shown = picture(); performance.now() < last + 600;) {
        await frame();
        if (picture() !== shown) [shown, last] = [picture(), performance.now()];
    }
    return last - start;
}"""
IN_THE_KERNEL = """
import time
_seconds = []
for _budget, _ in (panel.stops * 4)[:60]:
    _start = time.perf_counter(); panel.budget = _budget; _seconds.append(time.perf_counter() - _start)
print(1000 * sorted(_seconds)[len(_seconds) // 2])
"""


def measure(page: Page, lab: JupyterLab, what: str, moves: int) -> dict[str, object]:
    """One row of the table."""
    lab.write_notebook("slider.ipynb", [f"import gelora_viz as gv, panel_examples\n{SHOW[what]}panel"])
    lab.open(page, "slider.ipynb")
    lab.run_all(page)
    page.locator(".gelora-viz .gv-bar").first.wait_for()
    page.evaluate(IN_THE_PAGE)
    page.evaluate("() => pause(1500)")
    took = [page.evaluate(ONE_MOVE, 1 if move // 12 % 2 == 0 else -1) for move in range(moves)]
    sweeps = [page.evaluate(A_SWEEP) for _ in range(3)]
    kernel = float(lab.run(page, IN_THE_KERNEL))
    lab.end_sessions()
    median, tail, most = (float(np.percentile(took, at)) for at in (50, 95, 100))
    return {
        "panel": what,
        "moves": moves,
        "p50 ms": median,
        "p95 ms": tail,
        "max ms": most,
        "kernel p50 ms": kernel,
        "after a sweep ms": float(np.median(sweeps)),
    }


def main(moves: int) -> None:
    """Print the table."""
    sys.path[:0] = [str(TESTS), str(TESTS / "browser")]  # the server and the examples of the browser tests
    from conftest import find_chromium
    from jupyter_lab import JupyterLab

    load = os.getloadavg()[0]
    with tempfile.TemporaryDirectory() as place, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=find_chromium(), args=["--headless", "--no-sandbox"])
        lab = JupyterLab(Path(place))
        try:
            page = browser.new_page(viewport={"width": 1280, "height": 900})
            rows = [measure(page, lab, what, moves) for what in SHOW]
        finally:
            lab.stop()
        version = browser.version
        browser.close()
    print(describe_machine("anywidget", "jupyterlab", "torch"))
    print(f"# Chromium {version}, load average {load:.1f} before it began")
    print(pd.DataFrame(rows).to_string(index=False, float_format="%.1f"))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("moves", nargs="?", type=int, default=96, help="number of moves (default: %(default)s)")
    main(parser.parse_args().moves)
