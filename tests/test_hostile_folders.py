"""A folder from somebody else: nothing outside of it is read, changed or removed, and its texts stay texts."""

from __future__ import annotations

import csv
import io
import json
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from peft import LoraConfig, PeftConfig

import gelora_viz as gv
from gelora_viz._names import check_file_name, is_file_name
from gelora_viz._results import write_csv
from gelora_viz.activations.journal import Journal
from gelora_viz.cli.printing import print_rows
from gelora_viz.errors import GeloraVizError, InputError, StudyError
from gelora_viz.plots import latex_table
from gelora_viz.runs.folder import RunFolder
from gelora_viz.sources import HUB_IDS
from gelora_viz.study.record import StudyRecord
from gelora_viz.study.report import _element_id
from gelora_viz.training.adapting import name_base_model

SETTINGS = {"model": "m", "data": "d", "seed": 0, "n_duplicates": 0, "n_unlabelled": 0, "source": "d"}


@pytest.fixture
def precious(tmp_path: Path) -> Path:
    """A folder with a file that nobody has named, which each test must leave as it is."""
    folder = tmp_path / "precious"
    folder.mkdir()
    (folder / "000-a.safetensors").write_bytes(b"precious")
    yield folder
    assert [(each.name, each.read_bytes()) for each in folder.iterdir()] == [("000-a.safetensors", b"precious")]


@pytest.fixture
def points() -> gv.Activations:
    return gv.Activations.from_arrays({"a": np.ones((3, 2))})


@pytest.fixture
def study(tmp_path: Path) -> gv.Study:
    folder = tmp_path / "study"
    folder.mkdir()
    StudyRecord.create(folder, SETTINGS)
    return gv.Study.open(folder)


def link(path: Path, target: Path) -> None:
    try:
        path.symlink_to(target, target_is_directory=target.is_dir())
    except OSError:
        pytest.skip("this user may make no links")


# Activations


@pytest.mark.parametrize("is_absolute", [False, True])
def test_points_named_outside_their_folder_are_neither_read_nor_removed(is_absolute, points, precious, tmp_path):
    folder = points.save(tmp_path / "store")
    document = json.loads((folder / "activations.json").read_text())
    outside = precious / "000-a.safetensors"
    document["files"]["a"] = str(outside) if is_absolute else f"../{precious.name}/{outside.name}"
    (folder / "activations.json").write_text(json.dumps(document))
    with pytest.raises(StudyError, match=r"the activations in .*activations\.json: .* as the file of a layer"):
        gv.Activations.load(folder)
    points.save(folder)
    assert gv.Activations.load(folder).n_points == 3


def test_a_save_removes_no_file_but_those_of_layers(points, tmp_path):
    folder = points.save(tmp_path / "store")
    (folder / "thesis.tex").write_text("years of work")
    document = json.loads((folder / "activations.json").read_text())
    document["files"]["b"] = "thesis.tex"
    (folder / "activations.json").write_text(json.dumps(document))
    points.save(folder)
    assert (folder / "thesis.tex").read_text() == "years of work"


def test_a_layer_that_is_a_link_is_not_read_and_a_save_replaces_the_link(points, precious, tmp_path):
    folder = points.save(tmp_path / "store")
    (folder / "000-a.safetensors").unlink()
    link(folder / "000-a.safetensors", precious / "000-a.safetensors")
    with pytest.raises(StudyError, match=r"leads out of .*store"):
        gv.Activations.load(folder)
    points.save(folder)
    assert not (folder / "000-a.safetensors").is_symlink()


def test_an_unfinished_capture_whose_file_is_a_link_begins_again_beside_it(tmp_path):
    def begin() -> Journal:
        return Journal(tmp_path / "store", {"model": "m"}, ["a"], 3, torch.float32)

    journal = begin()
    journal.write("a", np.arange(3), torch.ones(3, 2))
    journal.note(1, last=True)
    file = tmp_path / "store" / "000-a.safetensors"
    file.rename(tmp_path / "outside")
    content = (tmp_path / "outside").read_bytes()
    link(file, tmp_path / "outside")
    with pytest.raises(StudyError, match="cannot write"):
        journal.write("a", np.arange(3), torch.zeros(3, 2))
    again = begin()
    assert again.n_done == 0
    again.write("a", np.arange(3), torch.zeros(3, 2))
    assert (tmp_path / "outside").read_bytes() == content
    assert not file.is_symlink()


# Runs and studies


@pytest.mark.parametrize("name", ["adapter", "trainer", "log.txt", "metrics.jsonl", ".reserve", "cancel"])
def test_a_run_that_begins_anew_removes_links_and_not_what_they_lead_to(name, precious, tmp_path):
    run = tmp_path / "run"
    run.mkdir()
    target = precious if name in ("adapter", "trainer") else precious / "000-a.safetensors"
    link(run / name, target)
    RunFolder(run).clear()
    assert not (run / name).is_symlink()


def test_an_adapter_is_written_beside_a_link_in_its_place(precious, tmp_path):
    folder = RunFolder(tmp_path)
    link(tmp_path / "adapter", precious)
    link(tmp_path / ".adapter.unfinished", precious)
    with folder.write_whole("adapter") as place:
        (place / "weights").write_text("new")
    assert not (tmp_path / "adapter").is_symlink()
    assert (tmp_path / "adapter" / "weights").read_text() == "new"


def test_asking_a_run_to_stop_makes_no_file_where_a_link_leads(tmp_path):
    run = tmp_path / "run"
    run.mkdir()
    link(run / "cancel", tmp_path / "outside")
    RunFolder(run).ask_to_stop()
    assert not (tmp_path / "outside").exists()


def test_a_lock_that_is_a_link_empties_no_file(precious, tmp_path):
    run = tmp_path / "run"
    run.mkdir()
    link(run / "lock", precious / "000-a.safetensors")
    with pytest.raises((OSError, GeloraVizError)), RunFolder(run).claim(patience=0.1):
        pass


@pytest.mark.parametrize("place", ["activations", "runs", "figures", "plans", "activations/mean", "data.jsonl"])
def test_a_study_with_a_link_that_leads_out_of_it_is_not_opened(place, study, precious):
    path = study.path / place
    path.parent.mkdir(exist_ok=True)
    link(path, precious if path.suffix == "" else precious / "000-a.safetensors")
    with pytest.raises(StudyError, match=rf"'{place}' leads out of .*study"):
        gv.Study.open(study.path)


def test_a_study_may_lie_behind_a_link_and_have_links_within(study, tmp_path):
    (study.path / "runs").mkdir()
    link(study.path / "latest", study.path / "runs")
    link(tmp_path / "elsewhere", study.path)
    assert gv.Study.open(tmp_path / "elsewhere").title == "m on d"


@pytest.mark.parametrize("kind", ["plans", "profiles"])
def test_files_that_cannot_be_read_or_are_misnamed_are_left_out_and_said(kind, study, caplog):
    folder = study.path / kind
    folder.mkdir()
    for name in ("bad", "<script>", "CON"):
        (folder / f"{name}.json").write_text("{}")
    assert getattr(study, kind)() == {}
    assert all(f"{name}.json" in caplog.text for name in ("bad", "<script>", "CON"))


# Names

NO_NAMES = (
    "", " ", ".", "..", "../../evil", "a/b", "a\\b", "/etc/passwd", "C:x", "a\nb", "a\n", "a\0b", "é", "-x",
    ".hidden", "end.", "<img src=x onerror=alert(1)>",
    "x" * 101, "CON", "nul.json", "Lpt1", "a b", "%2e", None, 7, ["a"],
)  # fmt: skip
NAMES = ("gelora", "gelora-r4.2", "_x", "1", "x" * 100, "console", "com10", "a.b-c_d")


@pytest.mark.parametrize("name", NO_NAMES)
def test_a_name_that_some_system_cannot_have_or_that_leads_elsewhere_is_refused(name):
    assert not is_file_name(name)
    with pytest.raises(InputError, match=r"^plan name .* must be letters"):
        check_file_name(name, "plan name")


@pytest.mark.parametrize("name", NAMES)
def test_plain_names_are_taken(name):
    assert check_file_name(name, "plan name", taken=[name, "other"]) == name


def test_a_name_that_differs_in_capital_letters_alone_is_refused():
    with pytest.raises(InputError, match="'Uniform' differs from 'uniform' in capital letters alone"):
        check_file_name("Uniform", "plan name", taken=["gelora", "uniform"])


NAMED = {
    "a plan to make": lambda study, name: study.allocate(name),
    "a plan to read": lambda study, name: study.plan(name),
    "a plan to keep": lambda study, name: study.keep_plan(name, None),
    "a pooling": lambda study, name: study.allocate("x", pooling=name),
    "a comparison": lambda study, name: study.compare(["frozen"], name=name),
    "a run": lambda _, name: gv.RunSpec(name, "frozen"),
}


@pytest.mark.parametrize("what", NAMED)
@pytest.mark.parametrize("name", ["../../evil", "", "a\nb", "x" * 300, "CON"])
def test_wherever_a_name_is_given_the_same_ones_are_refused(what, name, study):
    before = sorted(study.path.rglob("*"))
    with pytest.raises(InputError, match="must be letters"):
        NAMED[what](study, name)
    assert sorted(study.path.rglob("*")) == before


def test_the_record_of_a_study_names_no_file_outside(study, tmp_path):
    (tmp_path / "secret.json").write_text("{}")
    assert study._profiles.digest("../../secret") is None


# Texts

ESCAPE = "\x1b]0;owned\x07\x1b[2J\u202eevil\r\n\x9b"


def test_an_error_shows_control_characters_and_stays_on_one_line():
    said = str(StudyError(f"cannot read {ESCAPE}; delete it"))
    assert said == r"cannot read \x1b]0;owned\x07\x1b[2J\u202eevil  \x9b; delete it"


def test_a_table_in_a_terminal_has_no_escapes_and_no_markup(capsys):
    print_rows(["[red]head", "b"], [["[bold]x[/bold]", f":smile: {ESCAPE}"]], f"[blink]title {ESCAPE}")
    shown = capsys.readouterr().out
    assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f\u202e]", shown)
    assert all(text in shown for text in ("[red]head", "[bold]x[/bold]", ":smile:", "[blink]title"))


def test_no_text_in_a_csv_file_is_a_formula_and_numbers_are_as_they_were(tmp_path):
    texts = ["=1+1", "+cmd|x", "-x", "@SUM(A1)", "\t=1", "plain", "-2.5", None]
    numbers = [-1.5, 2.0, -3.25, 0.1, 1e-12, 1e300, float("nan"), -0.0]
    file = write_csv(tmp_path / "t.csv", pd.DataFrame({"text": texts, "number": numbers}))
    rows = list(csv.DictReader(io.StringIO(file.read_text())))
    assert [row["text"] for row in rows] == ["'=1+1", "'+cmd|x", "'-x", "'@SUM(A1)", "'\t=1", "plain", "-2.5", ""]
    assert [row["number"] for row in rows] == ["-1.5", "2.0", "-3.25", "0.1", "1e-12", "1e+300", "", "-0.0"]


def test_a_cell_of_latex_is_no_option_of_the_row_before_and_no_command():
    source = latex_table(
        pd.DataFrame({"run": ["a", "[9cm]", "*", r"\input{x}", f"%{ESCAPE}"]}), caption="c", label="t"
    )
    rows = source.splitlines()[8:13]
    assert rows[1:4] == [r"{}[9cm] \\", r"{}* \\", r"\textbackslash{}input\{x\} \\"]
    assert rows[4].startswith(r"\%")
    assert "\x1b" not in source


def test_the_id_of_a_figure_is_no_script():
    assert _element_id('x"><script>alert(1)</script>') == "figure-x___script_alert_1___script_"


def test_the_adapter_of_an_embedded_model_says_its_name_and_not_where_it_lies_here(tiny_folder, tmp_path):
    model = gv.load_model(tiny_folder("bert")).model
    gv.add_adapter(model, LoraConfig(r=1, target_modules=["query"])).save_pretrained(str(tmp_path))
    here = str(tiny_folder("bert"))
    assert here in (tmp_path / "adapter_config.json").read_text()
    name_base_model(tmp_path, HUB_IDS["minilm"])
    for file in tmp_path.iterdir():
        assert here.encode() not in file.read_bytes()
    assert (
        PeftConfig.from_pretrained(str(tmp_path)).base_model_name_or_path == "sentence-transformers/all-MiniLM-L6-v2"
    )
