"""What a study remembers: which step was finished, with which settings, never half-written."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from gelora_viz._results import write_json
from gelora_viz.errors import StudyError
from gelora_viz.study.memory import Memory, digest, file_digest


def test_a_step_is_done_with_the_settings_it_was_done_with_and_while_its_output_is_there(tmp_path):
    memory, output = Memory(tmp_path / "study"), tmp_path / "output"
    assert not memory.is_done("profile", {"k": 5}, output)
    memory.remember("profile", {"k": 5})
    assert not memory.is_done("profile", {"k": 5}, output)
    output.touch()
    assert memory.is_done("profile", {"k": 5}, output)
    assert not memory.is_done("profile", {"k": 6}, output)
    assert not memory.is_done("plan", {"k": 5}, output)


def test_the_next_process_remembers(tmp_path):
    Memory(tmp_path).remember("profile", {"k": 5, "poolings": ["mean"]})
    later = Memory(tmp_path)
    assert later.recall("profile") == {"k": 5, "poolings": ["mean"]}
    assert later.is_done("profile", {"poolings": ["mean"], "k": 5})
    assert later.recall("plan") is None


def test_the_order_of_settings_does_not_matter_but_their_values_do():
    assert digest({"a": 1, "b": 2}) == digest({"b": 2, "a": 1})
    assert digest({"a": 1}) != digest({"a": 2}) != digest({"a": None})


def test_a_file_s_fingerprint_is_that_of_its_content(tmp_path):
    first, second = tmp_path / "a", tmp_path / "b"
    first.write_text("x")
    second.write_text("x")
    assert file_digest(first) == file_digest(second)
    second.write_text("y")
    assert file_digest(first) != file_digest(second)


def test_a_path_below_a_file_cannot_be_a_study(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(
        StudyError, match=r"cannot write .*file/study/study\.json: .*; choose a folder you can write to"
    ):
        Memory(tmp_path / "file" / "study")


def test_a_folder_that_holds_something_else_is_left_alone(tmp_path):
    (tmp_path / "thesis.tex").touch()
    with pytest.raises(StudyError, match="is not empty and holds no study"):
        Memory(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_a_study_of_another_schema_version_is_refused_with_both_versions(tmp_path):
    Memory(tmp_path)
    file = tmp_path / "study.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "schema_version": 99}))
    with pytest.raises(StudyError, match=r"has schema version 99.* reads version 1"):
        Memory(tmp_path)
    assert json.loads(file.read_text())["schema_version"] == 99


@pytest.mark.parametrize("content", ["", "{", "[]", '{"kind": "recipe"}'])
def test_a_study_file_that_cannot_be_understood_is_refused_and_kept(tmp_path, content):
    (tmp_path / "study.json").write_text(content)
    with pytest.raises(StudyError, match=r"study\.json"):
        Memory(tmp_path)
    assert (tmp_path / "study.json").read_text() == content


def test_a_crash_while_writing_leaves_the_old_file_and_no_scrap(tmp_path, monkeypatch):
    memory = Memory(tmp_path)
    memory.remember("profile", {"k": 5})
    before = (tmp_path / "study.json").read_text()

    def crash(self, target):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", crash)
        with pytest.raises(KeyboardInterrupt):
            memory.remember("profile", {"k": 6})
    assert (tmp_path / "study.json").read_text() == before
    assert [path.name for path in tmp_path.iterdir()] == ["study.json"]


def test_a_number_that_json_does_not_know_is_refused_before_the_old_file_is_touched(tmp_path):
    write_json(tmp_path / "table.json", "table", {"value": 1.5})
    before = (tmp_path / "table.json").read_text()
    with pytest.raises(ValueError, match="infinite"):
        write_json(tmp_path / "table.json", "table", {"value": float("inf")})
    assert (tmp_path / "table.json").read_text() == before
