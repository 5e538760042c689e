"""The scripts of docs/ and benchmarks/: each says what it is for when it is asked, and does nothing else."""

from __future__ import annotations

import runpy
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
MODULES = {"docs/example_sections.py", "benchmarks/machine.py"}
"""What other files import and nobody runs."""
PYTHON_FILES = {
    path.relative_to(ROOT).as_posix() for place in ("docs", "benchmarks") for path in (ROOT / place).glob("*.py")
}
SCRIPTS = sorted(PYTHON_FILES - MODULES)


@pytest.fixture
def ask_for_help(tmp_path, monkeypatch):
    """Run a script with --help as the main program, in an empty folder, and return its exit status.

    In this process, which has loaded torch already; a process of its own for each would take a minute.
    """

    def run(script):
        path = ROOT / script
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr(sys, "path", [str(path.parent), *sys.path])
        monkeypatch.setattr(sys, "argv", [str(path), "--help"])
        with pytest.raises(SystemExit) as ended:
            runpy.run_path(str(path), run_name="__main__")
        return ended.value.code

    return run


def files():
    """{file: when it was last written} of the folders that scripts write to."""
    found = [path for place in ("docs", "benchmarks") for path in (ROOT / place).rglob("*") if path.is_file()]
    return {path: path.stat().st_mtime_ns for path in found if "__pycache__" not in path.parts}


@pytest.mark.parametrize("script", SCRIPTS)
def test_a_script_that_is_asked_for_help_says_what_it_does_and_writes_nothing(script, ask_for_help, capsys, tmp_path):
    before = files()
    assert ask_for_help(script) == 0
    shown = capsys.readouterr().out
    assert shown.startswith(f"usage: {Path(script).name} ")
    first_line = (ROOT / script).read_text(encoding="utf-8").split('"""')[1].splitlines()[0]
    assert first_line in shown
    assert list(tmp_path.iterdir()) == []
    assert files() == before


@pytest.mark.parametrize("script", sorted(PYTHON_FILES))
def test_no_script_reads_the_words_of_its_call_by_hand(script):
    assert "sys.argv" not in (ROOT / script).read_text(encoding="utf-8")
