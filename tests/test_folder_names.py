"""A folder whose name reads like an option is refused before anything is made, wherever one is given."""

from __future__ import annotations

from pathlib import Path

import pytest

import gelora_viz as gv
from gelora_viz.errors import InputError
from gelora_viz.runs.executors.command import worker_command

SPEC = gv.RunSpec("probe", adapter="frozen")
REFUSED = {
    "an old study": ("study folder '--help'", lambda: gv.Study.open("--help")),
    "a study below another folder": (
        "study folder 'studies/-v'",
        lambda: gv.Study.create(Path("studies") / "-v", model="minilm", data="icd10cm"),
    ),
    "a run": ("run folder '-x'", lambda: gv.launch(SPEC, run_dir="-x")),
    "a comparison": ("comparison folder '--help'", lambda: gv.compare([SPEC], folder="--help")),
}


@pytest.mark.parametrize("what", REFUSED)
def test_a_name_that_begins_with_a_dash_is_refused_and_nothing_is_made(what, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    said, make = REFUSED[what]
    with pytest.raises(
        InputError, match=f"^{said} reads like an option; give a name that does not begin with a dash$"
    ):
        make()
    assert list(tmp_path.iterdir()) == []


def test_a_worker_is_given_its_folder_as_an_absolute_path(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert str(tmp_path / "runs" / "probe") in worker_command(Path("runs") / "probe")
