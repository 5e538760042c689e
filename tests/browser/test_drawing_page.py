"""A drawing at the end of a cell is the interactive figure, and not the still picture that stands beside it."""

from __future__ import annotations

import pytest

pytestmark = [pytest.mark.browser, pytest.mark.slow]

CELL = """
import pandas as pd
from gelora_viz import plots

steps = pd.DataFrame({"step": [1, 2, 3], "loss": [3.0, 2.0, 1.5], "eval_accuracy": [0.2, 0.5, 0.6]})
plots.training({"a run": steps, "another": steps})
"""


def test_jupyterlab_shows_the_interactive_figure(browser_page, jupyter_lab):
    jupyter_lab.write_notebook("drawing.ipynb", [CELL])
    jupyter_lab.open(browser_page, "drawing.ipynb")
    jupyter_lab.run_all(browser_page)
    figure = browser_page.locator(".js-plotly-plot")
    figure.locator(".main-svg").first.wait_for()
    assert "Evaluation accuracy" in figure.inner_text()
    assert browser_page.locator(".jp-RenderedSVG").count() == 0
    assert browser_page.outside_requests == []
