"""A study's figures and tables for a paper: all of them, at the venue's size, in a document that compiles."""

from __future__ import annotations

import os
import re
import shutil
import subprocess

import pandas as pd
import pytest

from gelora_viz import Study
from gelora_viz.errors import InputError
from gelora_viz.study.figures import _comparison_table

needs_tex = pytest.mark.skipif(
    shutil.which("pdflatex") is None and os.environ.get("CI") != "true", reason="no pdflatex on the PATH"
)


@pytest.fixture(scope="module")
def paper(finished_study, tmp_path_factory):
    """The folder of a study's figures for ICML."""
    study = Study.open(shutil.copytree(finished_study, tmp_path_factory.mktemp("paper") / "a_study"))
    return study.figures("icml2024")


def test_every_picture_and_table_is_there_and_in_the_document(paper):
    document = (paper / "main.tex").read_text()
    figures = {file.name for file in paper.glob("*.pdf")}
    assert {
        "rank_profile_gelora.pdf",
        "plans.pdf",
        "dimensions.pdf",
        "comparison.pdf",
        "training.pdf",
        "overview.pdf",
    } <= figures
    assert set(re.findall(r"\\includegraphics\[.*?\]\{(.*?)\}", document)) == figures
    tables = {file.name for file in paper.glob("table_*.tex")}
    assert set(re.findall(r"\\input\{(.*?)\}", document)) == tables == {"table_runs.tex", "table_plans.tex"}


@needs_tex
def test_the_document_compiles(paper, tmp_path):
    shutil.copytree(paper, tmp_path / "paper")
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "-no-shell-escape", "main.tex"]
    outcome = subprocess.run(command, cwd=tmp_path / "paper", capture_output=True, text=True, check=False)
    assert outcome.returncode == 0, outcome.stdout[-2000:]
    assert (tmp_path / "paper" / "main.pdf").read_bytes().startswith(b"%PDF")


def test_files_say_which_study_and_seed_they_come_from(paper):
    # matplotlib writes the text of a PDF's metadata as it is.
    content = (paper / "comparison.pdf").read_bytes()
    assert re.search(rb"/Subject \(bert on texts.csv, seed 0\)", content)


def test_the_same_study_gives_the_same_files(paper, finished_study, tmp_path):
    again = Study.open(shutil.copytree(finished_study, tmp_path / "again")).figures("icml2024")
    assert {file.name: file.read_bytes() for file in again.iterdir()} == {
        file.name: file.read_bytes() for file in paper.iterdir()
    }


def test_only_differences_beyond_the_noise_are_bold():
    frame = pd.DataFrame(
        {
            "run": ["base", "better", "noise"], "n_parameters_kept": 10, "accuracy": [0.5, 0.9, 0.95], "ci_low": 0.1,
            "ci_high": 0.99, "difference": [None, 0.4, 0.45], "difference_low": [None, 0.3, -0.1],
            "difference_high": [None, 0.5, 0.9], "mean_effective_rank": 1.5,
            "verdict": ["baseline", "better than the baseline", "inside the noise"],
        }
    )  # fmt: skip
    source = _comparison_table(frame, "Runs.", "runs")
    assert re.findall(r"\\textbf\{(.*?)\}", source) == ["0.400 [0.300, 0.500]"]
    assert "The baseline is base." in source


def test_a_suffix_or_venue_that_is_not_known_is_refused(finished_study):
    with pytest.raises(InputError, match=r"unknown suffix '\.bmp'; choose \.pdf"):
        Study.open(finished_study).figures("icml2024", suffix=".bmp")
    with pytest.raises(InputError, match="unknown venue 'iclm2024'; did you mean icml2024"):
        Study.open(finished_study).figures("iclm2024")
    assert not (finished_study / "figures").exists()
