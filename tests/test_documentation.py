"""Documentation that is true: its code runs, and its reference is complete."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import NamedTuple

import ipywidgets
import matplotlib as mpl
import pytest

import gelora_viz
from gelora_viz import plots, widgets

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
NOT_RUN = re.compile(r"<!-- not run: .+ -->")
FEWER = {
    "README.md": {
        'gv.load_texts("icd10cm")': 'gv.load_texts("icd10cm", max_texts=150)',
        "gv.estimate_dimension(activations)": 'gv.estimate_dimension(activations, "twonn")',
        "steps=200)": "steps=2, evaluations=1)",
        "gv.widgets.RankBudget(": (
            'study = gv.Study.create("my-study", model="minilm", data="data.jsonl"); gv.widgets.RankBudget('
        ),
    },
    "docs/panels.md": {"max_texts=600": "max_texts=150"},
    "docs/index.md": {
        "max_texts=400": "max_texts=150",
        "gv.estimate_dimension(activations)": 'gv.estimate_dimension(activations, "twonn")',
        "steps=20,": "steps=2,",
    },
}
"""What is replaced in a page's code, so that it has the study it speaks of and takes seconds."""


class Block(NamedTuple):
    line: int
    code: str


def python_blocks(page):
    """The blocks marked as Python, but for those under a comment that says why they are not run."""
    lines = page.read_text(encoding="utf-8").splitlines()
    starts = [number for number, line in enumerate(lines) if line.strip() == "```python"]
    for start in starts:
        if not NOT_RUN.fullmatch(lines[start - 1].strip()):
            end = lines.index("```", start)
            yield Block(start + 2, "\n".join(lines[start + 1 : end]))


RENDERED = DOCS / "notebooks"
"""Pages made from the notebooks, which are run by a test of their own."""
PAGES = [
    page
    for page in [ROOT / "README.md", *sorted(DOCS.rglob("*.md"))]
    if list(python_blocks(page)) and RENDERED not in page.parents
]


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_the_code_of_a_page_runs_from_its_first_block_to_its_last(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code = ""
    for block in python_blocks(page):
        code += "\n" * (block.line - 1 - code.count("\n")) + block.code + "\n"  # lines have the page's own numbers
    for usual, fewer in FEWER.get(page.relative_to(ROOT).as_posix(), {}).items():
        assert usual in code
        code = code.replace(usual, fewer)
    with mpl.rc_context():
        exec(compile(code, str(page), "exec"), {"__name__": "__main__"})  # noqa: S102 - our own pages
    ipywidgets.Widget.close_all()  # panels watch folders that are about to go


def test_the_reference_has_every_public_name():
    shown = {
        name
        for page in (DOCS / "api").glob("*.md")
        for name in re.findall(r"^::: (\S+)$", page.read_text(), re.MULTILINE)
    }
    public = {f"gelora_viz.{name}" for name in set(gelora_viz.__all__) - {"__version__", "plots", "widgets"}}
    pictures = {f"gelora_viz.plots.{name}" for name in plots.__all__}
    panels = {f"gelora_viz.widgets.{name}" for name in widgets.__all__}
    assert not (public | pictures | panels) - shown


def test_the_page_of_the_command_line_has_every_command():
    from gelora_viz.cli import app

    page = (DOCS / "api" / "command_line.md").read_text()
    for command in app.registered_commands:
        name = command.name or command.callback.__name__
        assert f"`gelora-viz {name}" in page


@pytest.mark.parametrize("notebook", sorted((ROOT / "notebooks").glob("*.ipynb")), ids=lambda path: path.stem)
def test_a_rendered_notebook_shows_the_cells_of_today(notebook):
    page = (RENDERED / f"{notebook.stem}.md").read_text(encoding="utf-8")
    cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
    for cell in cells:
        assert "".join(cell["source"]).strip() in page, "run docs/render_notebooks.py again"
    assert "Traceback" not in page


@pytest.mark.parametrize("page", ["README.md", "CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md"])
def test_links_of_the_first_pages_lead_somewhere(page):
    """The site's own links are checked when it is built."""
    text = (ROOT / page).read_text(encoding="utf-8")
    links = [link for link in re.findall(r"\]\(([^)\s]+)\)", text) if "://" not in link]
    for link in links:
        file, _, anchor = link.partition("#")
        assert (ROOT / file).exists(), link
        if anchor:
            headings = re.findall(r"^#+ (.+)$", (ROOT / file).read_text(encoding="utf-8"), re.MULTILINE)
            assert anchor in {re.sub(r"[^\w -]", "", each.lower()).replace(" ", "-") for each in headings}, link
