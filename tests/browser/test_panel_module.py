"""What all panels share in JavaScript, where several panels are loaded into one page."""

from __future__ import annotations

import pytest

from gelora_viz.widgets.panel import read_module

pytestmark = pytest.mark.browser

LOAD_TWICE = """async (code) => {
  Date.now = () => 1;  // both are loaded in the same millisecond
  const url = () => URL.createObjectURL(new Blob([code], { type: "text/javascript" }));
  const [one, other] = await Promise.all([import(url()), import(url())]);
  return [one.freshId(), one.freshId(), other.freshId(), other.freshId()];
}"""


def test_panels_loaded_at_the_same_moment_share_no_ids(browser_page):
    """Labels name their controls by id; each panel has a copy of this module, and so a count, of its own."""
    ids = browser_page.evaluate(LOAD_TWICE, f"{read_module()}\nexport {{ freshId }};")
    assert len(set(ids)) == 4
