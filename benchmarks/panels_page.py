"""How soon a page with all panels is there, what it adds to the saved notebook, and what it asks of the network.

In seconds and kB, on a finished study (`make demo`), in a real JupyterLab driven by headless Chromium; writes
benchmarks/results/panels_page.txt. One cell makes the results, the next one shows all panels; the clock runs from the
moment that the kernel has made them until every panel has drawn, while the map's points are computed beside it. The
notebook is saved as JupyterLab does it by default, without its widgets' state.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
import time
from pathlib import Path
from urllib.parse import urlsplit

from machine import describe_machine
from playwright.sync_api import sync_playwright

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "browser"))
from jupyter_lab import JupyterLab

RESULTS = Path(__file__).parent / "results" / "panels_page.txt"
SETUP = """
import gelora_viz as gv
study = gv.Study.open({study!r})
model, profile = study.loaded.model, study.profiles()["tokens"]
points, results = gv.Activations.load(study.path / "activations" / "mean"), study.results()
import gelora_viz.widgets.explorer, gelora_viz.widgets.dashboard
"""
SHOW = """
import time
import ipywidgets
panels = [
    gv.widgets.RankBudget(profile, model), gv.widgets.Explorer(points, study.profiles()["mean"]),
    gv.widgets.FineTuning(study), gv.widgets.ComparisonExplorer(results, baseline="uniform"),
]
shown_from = time.time()
ipywidgets.VBox(panels)
"""
ROUNDS = 5
DRAWN = """() => {
    const panels = [...document.querySelectorAll("section.gelora-viz")];
    return panels.length >= 4 && panels.every((each) => each.querySelector("svg, canvas"));
}"""


def main(study: str) -> None:
    """Measure a few rounds, and write."""
    setup = SETUP.format(study=str(Path(study).resolve()))
    seconds, building, sizes, outside = [], [], [], []
    with tempfile.TemporaryDirectory() as place, sync_playwright() as playwright:
        lab = JupyterLab(Path(place))
        try:
            browser = playwright.chromium.launch(
                executable_path=shutil.which("chromium"), args=["--headless", "--no-sandbox"]
            )
            page = browser.new_page(viewport={"width": 1200, "height": 1000})
            page.on("request", lambda request: outside.append(request.url) if is_outside(request.url) else None)
            bare = lab.write_notebook("page.ipynb", [setup, SHOW]).stat().st_size
            lab.open(page, "page.ipynb")
            for _ in range(ROUNDS):
                started = time.time()
                lab.run_all(page)
                page.wait_for_function(DRAWN)
                drawn = time.time()
                shown = float(lab.run(page, "print(shown_from)"))
                seconds.append(drawn - shown)
                building.append(shown - started)
                sizes.append(len(json.dumps(lab.save(page, "page.ipynb"), indent=1)) - bare)
                page.evaluate("() => jupyterapp.commands.execute('notebook:clear-all-cell-outputs')")
            browser.close()
        finally:
            lab.stop()
    lines = [
        describe_machine("anywidget", "jupyterlab", "playwright"),
        f"{ROUNDS} rounds; four panels: RankBudget, Explorer, FineTuning, Comparison",
        f"from the end of their cell until all are drawn: {', '.join(f'{each:.2f}' for each in seconds)} s",
        f"both cells before that: {', '.join(f'{each:.2f}' for each in building)} s",
        f"added to the saved notebook: at most {max(sizes) / 1000:.1f} kB",
        f"requests that leave this machine: {len(outside)}",
    ]
    RESULTS.write_text("\n".join(lines) + "\n", encoding="utf-8")
    print("\n".join(lines))


def is_outside(url: str) -> bool:
    """Whether a request is for another machine."""
    parts = urlsplit(url)
    return parts.scheme in ("http", "https", "ws", "wss") and parts.hostname != "127.0.0.1"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("study", help="folder of a finished study")
    main(parser.parse_args().study)
