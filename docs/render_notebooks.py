"""Run the notebooks and render them with their outputs, as pages of the site: docs/notebooks/*.md.

python docs/render_notebooks.py                  # all of them, some minutes each
python docs/render_notebooks.py 03_rank_budget   # one

A page needs no script and nothing from elsewhere, so pictures are drawn as SVG instead of by plotly, and panels show
what they would look like with a kernel behind them.
"""

from __future__ import annotations

import argparse
import os
import re
import tempfile
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbconvert import MarkdownExporter

NOTEBOOKS = Path(__file__).parents[1] / "notebooks"
PAGES = Path(__file__).parent / "notebooks"
STATIC = """
from gelora_viz.plots import Drawing
from gelora_viz.widgets import Panel

def show_snapshot(panel, **_):
    if hasattr(panel, "wait"):
        panel.wait()
    return {"text/html": panel.snapshot()._repr_html_(), "text/plain": repr(panel)}

def show_drawing(drawing, **_):
    return {"text/html": drawing.to_svg(), "text/plain": repr(drawing)}

Drawing._repr_mimebundle_ = show_drawing
Panel._repr_mimebundle_ = show_snapshot
"""
TIMEOUT = 1200
"""Seconds for a cell."""
MEASURED = "Rendered from notebooks/{name}.ipynb on {cores} processor cores; times are those of that machine."


def render(name: str) -> Path:
    """Run one notebook in a fresh kernel, in a folder of its own, and write its page."""
    notebook = nbformat.read(NOTEBOOKS / f"{name}.ipynb", as_version=4)
    notebook.cells.insert(0, nbformat.v4.new_code_cell(STATIC))
    with tempfile.TemporaryDirectory() as folder:
        NotebookClient(notebook, timeout=TIMEOUT, resources={"metadata": {"path": folder}}).execute()
        temporary = re.compile(re.escape(tempfile.gettempdir()) + r"/[\w.-]+")
        del notebook.cells[0]
        for cell in notebook.cells:
            if cell.cell_type == "code":
                cell.execution_count = None
                cell.outputs = [shown for output in cell.outputs if (shown := _shown(output, temporary)) is not None]
    text, _ = MarkdownExporter().from_notebook_node(notebook)
    note = MEASURED.format(name=name, cores=os.cpu_count())
    page = PAGES / f"{name}.md"
    page.parent.mkdir(exist_ok=True)
    page.write_text(f"{text.strip()}\n\n---\n\n*{note}*\n", encoding="utf-8")
    return page


def _shown(output: nbformat.NotebookNode, folder: re.Pattern[str]) -> nbformat.NotebookNode | None:
    """An output as a page without a kernel shows it, without names of temporary folders; None for what is none."""
    if output.output_type == "stream":
        if output.name == "stderr":
            return None
        output.text = _without_places(output.text, folder)
        return output
    data = output.data
    if data.pop("application/vnd.jupyter.widget-view+json", None) and "text/html" not in data:
        return None  # a progress bar
    for kind in ("text/html", "text/plain"):
        if kind in data:
            data[kind] = _without_places(data[kind], folder)
    if "text/html" in data:
        data["text/html"] = f"<div class='output'>\n{data['text/html']}\n</div>"
    if "image/png" in data:
        data["text/html"] = f"<img alt='a figure' src='data:image/png;base64,{data.pop('image/png').strip()}'>"
    return output if data else None


def _without_places(text: str, folder: re.Pattern[str]) -> str:
    """The text without the names of folders that are only on this machine."""
    return folder.sub("folder", text).replace(str(Path.home()), "~")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    names = sorted(path.stem for path in NOTEBOOKS.glob("*.ipynb"))
    parser.add_argument(
        "notebooks", nargs="*", choices=names, metavar="notebook", help="such as 03_rank_budget (default: all)"
    )
    chosen = parser.parse_args().notebooks or names
    os.environ |= {"TQDM_DISABLE": "1", "PYTHONWARNINGS": "ignore"}
    for name in chosen:
        render(name)
