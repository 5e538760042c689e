"""The panel FineTuning in a real JupyterLab: runs are started and cancelled by clicking, and outlive the page."""

from __future__ import annotations

import pandas as pd
import pytest

from gelora_viz import RunSpec, Study
from gelora_viz.runs import RunFolder

pytestmark = pytest.mark.browser

NASTY = "<img src=x onerror='window.pwned = 1'><script>window.pwned = 1</script>"
CELL = """
import gelora_viz as gv
panel = gv.widgets.FineTuning(gv.Study.open({path!r}), threads=1, batch_size=8)
panel
"""


@pytest.fixture(scope="module")
def study(tmp_path_factory, tiny_folder, labelled_texts):
    """A study with one plan, and two runs that were not started here, one of a comparison."""
    texts, labels = labelled_texts
    frame = pd.DataFrame({"text": texts[:180], "label": [NASTY if label else "plain" for label in labels[:180]]})
    study = Study.create(tmp_path_factory.mktemp("tuning") / "study", model=str(tiny_folder("bert")), data=frame)
    study.allocate("uniform", strategy="uniform", budget_rank=2)
    for name, message in (("elsewhere", NASTY), ("compared/uniform/lr0.002-seed0", "")):
        folder = RunFolder(study.path / "runs" / name)
        folder.path.mkdir(parents=True)
        RunSpec(name.rpartition("/")[2], "frozen", steps=40).save(folder.path / "spec.json")
        for step in range(1, 41):
            folder.append_metrics({"step": step, "seconds": step / 10, "loss": 1 + 1 / step})
        folder.append_metrics({"step": 40, "seconds": 4.0, "eval_accuracy": 0.4})
        folder.write_status("failed" if message else "finished", message)
    return study


def test_runs_are_started_watched_cancelled_and_there_after_a_reload_and_in_a_new_kernel(
    browser_page, jupyter_lab, study
):
    page, root = browser_page, browser_page.locator(".gelora-viz")
    jupyter_lab.write_notebook("tuning.ipynb", [CELL.format(path=str(study.path))])
    jupyter_lab.open(page, "tuning.ipynb")
    jupyter_lab.run_all(page)

    def row(name):
        return root.locator("tbody tr").filter(has=page.get_by_role("checkbox", name=f"Draw {name}", exact=True))

    # Started elsewhere, and with text that is not to be read as anything else.
    row("elsewhere").wait_for()
    assert NASTY in row("elsewhere").inner_text()
    root.get_by_label("Show").select_option("single")
    row("compared/uniform/lr0.002-seed0").wait_for(state="detached")
    root.get_by_label("Show").select_option("all")

    # A short run: its curve arrives.
    root.get_by_label("Steps").fill("8")
    root.get_by_label("Name").fill("<b>bold</b>")
    root.get_by_role("button", name="Start").click()
    alert = root.get_by_role("alert")
    alert.wait_for()
    assert "<b>bold</b>" in alert.inner_text()
    root.get_by_label("Name").fill("short")
    root.get_by_role("button", name="Start").click()
    alert.wait_for(state="hidden")
    row("short").get_by_text("finished").wait_for(timeout=60_000)
    assert "8/8" in row("short").inner_text()
    chart = root.get_by_role("img").first
    assert "short" in chart.get_attribute("aria-label")
    chart.focus()
    page.keyboard.press("ArrowRight")
    assert "Step 1, training loss" in root.locator(".gv-readout").first.inner_text()

    # A long run: cancelled by a click, also one that waits.
    root.get_by_label("Steps").fill("10000")
    root.get_by_label("Seeds").fill("0 1")
    root.get_by_label("Name").fill("long")
    page.keyboard.press("Enter")
    row("long-seed0").get_by_text("training").wait_for(timeout=60_000)
    assert "waiting" in row("long-seed1").inner_text()
    page.wait_for_function("() => document.querySelectorAll('.gelora-viz .gv-curve').length >= 8", timeout=60_000)
    for name in ("long-seed1", "long-seed0"):
        row(name).get_by_role("button", name="Cancel").click()
        row(name).get_by_text("cancelled").wait_for(timeout=60_000)

    def on_the_page():
        values = "() => [...document.querySelectorAll('.gelora-viz select, .gelora-viz input')].map((e) => e.value)"
        return page.evaluate(values), root.locator("table").inner_text(), root.get_by_role("status").inner_text()

    page.wait_for_timeout(700)
    before = on_the_page()
    jupyter_lab.reload(page)
    row("long-seed0").wait_for()
    page.wait_for_timeout(300)
    assert on_the_page() == before
    # Dark, narrow, small, and nothing left the machine.
    try:
        jupyter_lab.use_theme(page, "JupyterLab Dark")
        for selector, what in ((".gelora-viz .gv-tick", "fill"), (".gelora-viz .gv-name", "color")):
            assert lightness(page, selector, what) > 180
    finally:
        jupyter_lab.use_theme(page, "JupyterLab Light")
    page.set_viewport_size({"width": 520, "height": 900})
    page.wait_for_function("() => document.querySelector('.gelora-viz').clientWidth < 450")
    page.wait_for_timeout(200)
    assert sideways(page) <= 0
    # What a new kernel finds.
    jupyter_lab.run(page, "panel.close(); panel = gv.widgets.FineTuning(gv.Study.open(panel.study.path))")
    found = jupyter_lab.run(page, "print(*sorted(row['name'] for row in panel.runs))")
    assert found.split() == ["compared/uniform/lr0.002-seed0", "elsewhere", "long-seed0", "long-seed1", "short"]
    assert page.evaluate("() => window.pwned") is None
    assert page.outside_requests == []


def lightness(page, selector, what):
    color = page.evaluate(
        "([selector, what]) => getComputedStyle(document.querySelector(selector))[what]", [selector, what]
    )
    red, green, blue = (float(part) for part in color.split("(")[1].rstrip(")").split(",")[:3])
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def sideways(page):
    return page.evaluate(
        "() => Math.max(...[...document.querySelectorAll('.gelora-viz')].map((e) => e.scrollWidth - e.clientWidth))"
    )
