"""Photograph the panels in a real JupyterLab, and the dashboard: pictures of README and docs.

Needs Chromium and a finished study (`make demo`). Writes docs/pictures/panel_*.png and the short film
docs/pictures/rank_budget.gif.
"""

from __future__ import annotations

import argparse
import io
import shutil
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image
from playwright.sync_api import sync_playwright

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "browser"))
from jupyter_lab import JupyterLab

if TYPE_CHECKING:
    from playwright.sync_api import Locator, Page

PICTURES = Path(__file__).parent / "pictures"
SETUP = """
import gelora_viz as gv
study = gv.Study.open({study!r})
profile = study.profiles()["tokens"]
results = {{result.spec.name: result for result in study.results()}}
"""
PANELS = {
    "rank_budget": """
gv.widgets.RankBudget(profile, study.loaded.model, budget=study.plan("gelora").budget)
""",
    "explorer": """
train = study.data.frame[study.data.frame["split"] == "train"].reset_index(drop=True)
points = gv.Activations.load(study.path / "activations" / "mean")
explorer = gv.widgets.Explorer(
    points, study.profiles()["mean"], texts=train["text"].tolist(), labels=train["label"]
)
explorer.wait()
explorer
""",
    "fine_tuning": """
gv.widgets.FineTuning(study)
""",
    "comparison": """
gv.widgets.ComparisonExplorer(study.results(), baseline="uniform")
""",
}
BUDGETS = (4, 5, 6, 8, 10, 12, 10, 8, 6, 5)
"""Mean ranks that the film goes through."""
FRAME_MS = 350


def photograph(place: Locator, name: str) -> None:
    """One panel, as it stands on the page."""
    place.scroll_into_view_if_needed()
    place.screenshot(path=PICTURES / f"panel_{name}.png")


def film(page: Page, place: Locator) -> None:
    """The budget slides and the bars follow."""
    slider = place.locator("input[type=range]").first
    frames = []
    place.scroll_into_view_if_needed()
    for mean_rank in BUDGETS:
        slider.evaluate(
            """(slider, share) => {
                slider.value = Number(slider.min) + share * (Number(slider.max) - Number(slider.min));
                slider.dispatchEvent(new Event("input", {bubbles: true}));
                slider.dispatchEvent(new Event("change", {bubbles: true}));
            }""",
            mean_rank / 24,
        )
        page.wait_for_timeout(500)
        frames.append(Image.open(io.BytesIO(place.screenshot())).convert("P", palette=Image.Palette.ADAPTIVE))
    frames[0].save(
        PICTURES / "rank_budget.gif",
        save_all=True,
        append_images=frames[1:],
        duration=FRAME_MS,
        loop=0,
        optimize=True,
    )


def main(study: str) -> None:
    """Show every panel in a notebook, one cell each, and photograph it."""
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    with tempfile.TemporaryDirectory() as place, sync_playwright() as playwright:
        lab = JupyterLab(Path(place))
        try:
            arguments = ["--headless", "--no-sandbox", "--enable-unsafe-swiftshader"]
            browser = playwright.chromium.launch(executable_path=chromium, args=arguments)
            page = browser.new_page(viewport={"width": 1180, "height": 1000}, device_scale_factor=1.5)
            lab.write_notebook("panels.ipynb", [SETUP.format(study=str(Path(study).resolve())), *PANELS.values()])
            lab.open(page, "panels.ipynb")
            lab.run_all(page)
            page.wait_for_function(f"() => document.querySelectorAll('section.gelora-viz').length >= {len(PANELS)}")
            page.wait_for_timeout(3000)
            panels = page.locator("section.gelora-viz")
            for number, name in enumerate(PANELS):
                photograph(panels.nth(number), name)
            film(page, panels.first)
            lab.use_theme(page, "JupyterLab Dark")
            photograph(panels.first, "rank_budget_dark")
            browser.close()
        finally:
            lab.stop()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("study", help="folder of a finished study")
    main(parser.parse_args().study)
