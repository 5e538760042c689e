"""The JupyterLab that the tests of panels run in: cells run, widgets appear, themes change, nothing leaves."""

from __future__ import annotations

import pytest

pytestmark = pytest.mark.browser

GREETING = """
import traitlets
from gelora_viz.widgets.panel import Panel, read_module, read_style

class Greeting(Panel):
    _esm = read_module() + '''
export default {
  render(view) {
    const panel = openPanel(view, "Greeting");
    const shown = make("h1");
    panel.body.append(shown);
    panel.follow(["text"], () => { shown.textContent = view.model.get("text"); });
    return panel.leave;
  },
};'''
    _css = read_style()
    text = traitlets.Unicode("<b>hello</b>").tag(sync=True)

greeting = Greeting(status="all is well")
greeting
"""


def test_a_panel_appears_follows_python_and_survives_a_reload(browser_page, jupyter_lab):
    jupyter_lab.write_notebook("greeting.ipynb", [GREETING])
    jupyter_lab.open(browser_page, "greeting.ipynb")
    jupyter_lab.run_all(browser_page)
    heading = browser_page.locator(".gelora-viz h1")
    heading.wait_for()
    assert heading.inner_text() == "<b>hello</b>"
    assert browser_page.locator(".gelora-viz [role=status]").inner_text() == "all is well"
    assert jupyter_lab.run(browser_page, "greeting.text = 'bye'; print(greeting.text)") == "bye"
    browser_page.wait_for_function("() => document.querySelector('.gelora-viz h1').textContent === 'bye'")
    jupyter_lab.reload(browser_page)
    heading.wait_for()
    assert heading.inner_text() == "bye"
    assert browser_page.outside_requests == []


def test_an_error_is_shown_until_it_is_dismissed(browser_page, jupyter_lab):
    jupyter_lab.write_notebook("error.ipynb", [GREETING, "greeting.show_error(ValueError('<i>no</i>'))"])
    jupyter_lab.open(browser_page, "error.ipynb")
    jupyter_lab.run_all(browser_page)
    alert = browser_page.locator(".gelora-viz [role=alert]")
    alert.wait_for()
    assert "ValueError: <i>no</i>" in alert.inner_text()
    alert.get_by_role("button").click()
    alert.wait_for(state="hidden")
    assert jupyter_lab.run(browser_page, "print(repr(greeting.error))") == "''"


def test_text_takes_the_color_of_the_theme(browser_page, jupyter_lab):
    jupyter_lab.write_notebook("theme.ipynb", [GREETING])
    jupyter_lab.open(browser_page, "theme.ipynb")
    jupyter_lab.run_all(browser_page)
    browser_page.locator(".gelora-viz h1").wait_for()

    def lightness():
        color = browser_page.evaluate("() => getComputedStyle(document.querySelector('.gelora-viz')).color")
        return sum(float(part) for part in color.split("(")[1].rstrip(")").split(",")[:3]) / 3

    try:
        jupyter_lab.use_theme(browser_page, "JupyterLab Dark")
        assert lightness() > 180
    finally:
        jupyter_lab.use_theme(browser_page, "JupyterLab Light")
    assert lightness() < 75
