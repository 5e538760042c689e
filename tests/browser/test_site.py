"""The documentation as a site: built without a warning, complete by itself, whatever network there is."""

from __future__ import annotations

import os
import runpy
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The site, built as `make docs` builds it, in a copy: zensical writes nowhere but beside its settings."""
    folder = tmp_path_factory.mktemp("site")
    shutil.copytree(ROOT / "docs", folder / "docs", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "zensical.toml", folder)
    command = [sys.executable, "-m", "zensical", "build", "--strict"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    outcome = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert outcome.returncode == 0, outcome.stdout + outcome.stderr
    return folder / "site"


@pytest.fixture(scope="module")
def find_problems():
    """What `make docs` checks the site with."""
    return runpy.run_path(str(ROOT / "docs" / "check_site.py"))["find_problems"]


def test_every_link_of_the_site_leads_somewhere_and_nothing_is_loaded_from_elsewhere(site, find_problems):
    assert len(list(site.rglob("*.html"))) > 20
    assert list(find_problems(site)) == []


PROBLEMS = {
    '<a href="gone.html">x</a>': "index.html links to gone.html, which does not exist",
    '<a href="other.html#gone">x</a>': "index.html links to other.html#gone, and the page has no such place",
    '<a href="#gone">x</a>': "index.html links to #gone, and the page has no such place",
    '<a href="/other.html">x</a>': "index.html links to /other.html, which is absolute; give it relative to the page",
    '<img src="gone.png">': "index.html links to gone.png, which does not exist",
    '<img src="https://example.com/x.png">': "index.html loads https://example.com/x.png",
    '<script src="//example.com/x.js"></script>': "index.html loads //example.com/x.js",
    '<link href="https://example.com/x.css">': "index.html loads https://example.com/x.css",
}


@pytest.mark.parametrize("html", PROBLEMS)
def test_a_page_with_a_fault_is_named_with_it(html, find_problems, tmp_path):
    (tmp_path / "index.html").write_text(f'<a href="other.html#here">x</a> {html}', encoding="utf-8")
    (tmp_path / "other.html").write_text('<p id="here"><a href="https://example.com">x</a></p>', encoding="utf-8")
    assert list(find_problems(tmp_path)) == [PROBLEMS[html]]


def test_a_page_that_no_other_leads_to_and_a_sheet_that_loads_a_font_are_named(find_problems, tmp_path):
    for name in ("index.html", "alone.html"):
        (tmp_path / name).write_text("<p>text</p>", encoding="utf-8")
    (tmp_path / "site.css").write_text("@font-face { src: url('https://example.com/x.woff') }", encoding="utf-8")
    assert list(find_problems(tmp_path)) == [
        "site.css loads https://example.com/x.woff",
        "alone.html is not in the navigation; name it in zensical.toml",
    ]


def test_every_public_function_has_a_heading_of_its_own(site):
    page = (site / "api" / "ranks.html").read_text(encoding="utf-8")
    assert 'id="gelora_viz.allocate_ranks"' in page
    assert 'id="gelora_viz.RankPlan.to_peft_config"' in page


def test_examples_of_docstrings_are_shown_as_code(site):
    page = (site / "api" / "activations.html").read_text(encoding="utf-8")
    assert "Examples:" in page
    assert "<blockquote>" not in page


@pytest.mark.browser
@pytest.mark.parametrize("name", ["index.html", "reading_the_pictures.html", "api/dimension.html"])
def test_a_page_opens_from_a_folder_and_asks_for_nothing_from_elsewhere(site, browser_page, name):
    errors = []
    browser_page.on("pageerror", lambda error: errors.append(str(error)))
    browser_page.goto((site / name).as_uri())
    browser_page.wait_for_load_state("networkidle")
    assert browser_page.outside_requests == []
    assert errors == []


@pytest.mark.browser
def test_the_search_of_a_page_that_is_opened_from_a_folder_finds_a_function(site, browser_page):
    browser_page.goto((site / "index.html").as_uri())
    browser_page.keyboard.press("/")
    browser_page.keyboard.type("allocate_ranks")
    browser_page.get_by_text("gelora_viz.allocate_ranks").first.wait_for()
    assert browser_page.outside_requests == []
