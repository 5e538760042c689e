"""Every notebook runs from top to bottom in a fresh kernel, with shorter and fewer trainings than a reader's.

docs/render_notebooks.py runs them as they are.
"""

from __future__ import annotations

from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

SHORTER = {
    "01_quickstart": {"steps=40": "steps=5", "max_texts=1500": "max_texts=600", "max_points=3000": "max_points=1000"},
    "02_dimension": {
        "max_texts=1500": "max_texts=800",
        '"tokens": 3000': '"tokens": 1500',
        "texts[:300]": "texts[:150]",
    },
    "03_rank_budget": {"steps=40": "steps=5"},
    "04_genlora": {"steps=40": "steps=5"},
    "05_compare_methods": {
        "learning_rates=(2e-3, 8e-3)": "sweep_rates=False",
        '"steps": 12': '"steps": 4',
        "seeds=(0, 1)": "seeds=(0,)",
    },
    "06_paper_figures": {"steps=12, evaluations=2": "steps=4, evaluations=1"},
}
"""What of a notebook's code is replaced by what, so that the tests do not train for minutes."""
NOTEBOOKS = sorted((Path(__file__).parents[1] / "notebooks").glob("*.ipynb"))


def test_there_are_notebooks():
    assert NOTEBOOKS


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_the_notebook_runs_without_an_error(path, tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    notebook = nbformat.read(path, as_version=4)
    for usual, fewer in SHORTER.get(path.stem, {}).items():
        assert any(usual in cell.source for cell in notebook.cells)
        for cell in notebook.cells:
            cell.source = cell.source.replace(usual, fewer)
    NotebookClient(notebook, timeout=540, resources={"metadata": {"path": str(tmp_path)}}).execute()
    shown = [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]
    assert not [output for output in shown if output.output_type == "error"]
    assert any("text/html" in output.get("data", {}) for output in shown)
