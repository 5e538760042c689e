"""The documentation as a site: built without a warning, complete by itself, whatever network there is."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LOADED = re.compile(
    r"""<(?:script|link|img|iframe|source|video|object)\b[^>]*?(?:src|href|data)=["']?((?:https?:)?//[^"' >]+)"""
)
"""What a page loads from an address of another machine's."""


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The site, built as `make docs` builds it; a broken link or anchor is an error."""
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", folder]
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    outcome = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert outcome.returncode == 0, outcome.stdout + outcome.stderr
    return folder


def test_the_site_names_nothing_to_load_from_elsewhere(site):
    pages = sorted(site.rglob("*.html"))
    assert len(pages) > 20
    for page in pages:
        assert not LOADED.findall(page.read_text(encoding="utf-8")), page.name
    for sheet in site.rglob("*.css"):
        assert not re.search(r"url\([\"']?(?:https?:)?//|@import", sheet.read_text(encoding="utf-8")), sheet.name


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
