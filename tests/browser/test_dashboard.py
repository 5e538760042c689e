"""The dashboard in a real JupyterLab, where it survives a reload, and as the page of `gelora-viz dashboard`."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import urllib.error
import urllib.request

import pytest
from jupyter_lab import free_port
from study_examples import finish, make_planned_study
from warm_processes import WarmPopen

pytestmark = pytest.mark.browser

NASTY = "<img src=x onerror='window.pwned = 1'>"
TITLES = ["1. Ranks from intrinsic dimension", "2. Maps of hidden states", "3. Fine-tuning", "4. What came of it"]
CELL = """
import gelora_viz as gv
dashboard = gv.widgets.Dashboard(gv.Study.open({path!r}), threads=1, batch_size=8)
dashboard
"""


@pytest.fixture(scope="module")
def finished(tmp_path_factory, tiny_folder, labelled_texts):
    """A study with a profile, two plans and three finished runs, in a folder with a nasty name."""
    folder = tmp_path_factory.mktemp("dashboard") / "<i>it's odd"
    study = make_planned_study(folder, tiny_folder("bert"), *labelled_texts, name=lambda label: f"{NASTY}{label}")
    finish(study)
    return study


@pytest.fixture
def study(finished, tmp_path):
    return type(finished).open(shutil.copytree(finished.path, tmp_path / finished.path.name))


def headings(page):
    return page.locator(".gelora-viz h2").all_inner_texts()


def all_parts_are_there(page, study):
    page.locator(".gelora-viz .gv-bar .gv-fill").first.wait_for(timeout=120_000)
    page.locator(".gelora-viz table.gv-runs tbody tr").nth(2).wait_for()
    page.locator(".gelora-viz .gv-mark").first.wait_for()
    page.locator(".gelora-viz h2").nth(len(TITLES)).wait_for()  # sections appear one after the other
    assert headings(page) == [f"Study: {study.title}", *TITLES]
    assert str(study.path) in page.locator(".gelora-viz dl").first.inner_text()


def test_in_a_notebook_a_plan_is_kept_a_report_saved_and_a_reload_changes_nothing(browser_page, jupyter_lab, study):
    from playwright.sync_api import expect

    page = browser_page
    jupyter_lab.write_notebook("dashboard.ipynb", [CELL.format(path=str(study.path))])
    jupyter_lab.open(page, "dashboard.ipynb")
    jupyter_lab.run_all(page)
    all_parts_are_there(page, study)
    page.get_by_label("Name of the plan").fill("by-hand")
    page.get_by_role("button", name="Keep as plan").click()
    page.get_by_text("Kept as plan by-hand").wait_for()
    assert "by-hand" in study.plans()
    expect(page.get_by_label("What to train")).to_have_value("by-hand")

    page.get_by_role("button", name="Show the map").click()
    page.locator(".gelora-viz canvas").first.wait_for(timeout=60_000)

    # Points and bars are put into words, by keyboard too.
    compared = page.get_by_role("region", name="Comparison of methods")
    compared.locator(".gv-mark").first.focus()
    page.keyboard.press("ArrowRight")
    assert "parameters, accuracy" in compared.locator(".gv-readout").last.inner_text()
    compared.get_by_label("less those of").select_option("frozen")
    compared.get_by_text("no effective ranks were recorded").wait_for()
    compared.get_by_label("less those of").select_option("uniform")

    page.get_by_role("button", name="Write report").click()
    with page.expect_download(timeout=60_000) as saved:
        page.get_by_role("link", name="Save report.html").click(timeout=60_000)
    assert "<html" in saved.value.path().read_text(encoding="utf-8")[:300]

    jupyter_lab.reload(page)
    all_parts_are_there(page, study)
    expect(page.get_by_label("What to train")).to_have_value("by-hand")
    page.set_viewport_size({"width": 520, "height": 900})
    page.wait_for_function("() => document.querySelector('.gelora-viz').clientWidth < 450")
    page.wait_for_timeout(300)
    wider = "[...document.querySelectorAll('.gelora-viz')].map((each) => each.scrollWidth - each.clientWidth)"
    assert max(page.evaluate(f"() => {wider}")) <= 0
    assert page.evaluate("() => window.pwned") is None
    assert page.outside_requests == []


def test_the_command_serves_it_to_this_machine_and_to_those_with_the_token(browser_page, study, tmp_path):
    command = [sys.executable, "-m", "gelora_viz.cli", "dashboard", str(study.path), "--port", str(free_port())]
    log = (tmp_path / "log.txt").open("wb")
    server = WarmPopen(command, stdout=subprocess.PIPE, stderr=log, start_new_session=True)
    try:
        url = re.search(r"http://127\.0\.0\.1:\d+/\?token=\w+", server.stdout.readline().decode()).group()
        page = browser_page
        page.goto(url)
        all_parts_are_there(page, study)
        address, token = url.split("?token=")
        assert token not in " ".join(command_lines())
        with pytest.raises(urllib.error.HTTPError, match=r"40[13]"):
            urllib.request.urlopen(f"{address}api/kernels/00000000-0000-0000-0000-000000000000", timeout=20)  # noqa: S310
        assert page.evaluate("() => window.pwned") is None
        page.context.clear_cookies()
        page.goto(address)
        page.locator("input[type=password]").first.wait_for()
        assert page.outside_requests == []
    finally:
        os.killpg(server.pid, signal.SIGTERM)
        server.wait(timeout=30)
        log.close()


def command_lines():
    import psutil

    for process in psutil.process_iter():
        try:
            yield from process.cmdline()
        except psutil.Error:
            continue
