"""The record of a study: which step was finished, with which settings, never half-written."""

from __future__ import annotations

import json
import multiprocessing
from pathlib import Path

import pytest

from gelora_viz._results import file_digest, write_json
from gelora_viz.errors import StudyError
from gelora_viz.study.record import StudyRecord, prepare_folder, settings_digest

SOURCE = {"model": "minilm", "data": "icd10cm"}


def test_a_step_is_finished_with_its_settings_and_while_its_output_is_there(tmp_path):
    record, output = StudyRecord.create(tmp_path / "study", SOURCE), tmp_path / "output"
    assert not record.is_finished("profile", {"k": 5}, output)
    record.finish("profile", {"k": 5})
    assert not record.is_finished("profile", {"k": 5}, output)
    output.touch()
    assert record.is_finished("profile", {"k": 5}, output)
    assert not record.is_finished("profile", {"k": 6}, output)
    assert not record.is_finished("plan", {"k": 5}, output)


def test_the_next_process_reads_what_the_last_one_recorded(tmp_path):
    StudyRecord.create(tmp_path, SOURCE).finish("profile", {"k": 5, "poolings": ["mean"]})
    later = StudyRecord(tmp_path)
    assert later.settings_of("data") == SOURCE
    assert later.settings_of("profile") == {"k": 5, "poolings": ["mean"]}
    assert later.is_finished("profile", {"poolings": ["mean"], "k": 5})
    assert later.settings_of("plan") is None


def finish_many(path: Path, name: str) -> None:
    for number in range(50):
        StudyRecord(path).finish(f"{name} {number}", {})


def test_of_many_processes_that_record_at_once_none_loses_a_step(tmp_path):
    StudyRecord.create(tmp_path, SOURCE)
    processes = multiprocessing.get_context("fork")
    writers = [processes.Process(target=finish_many, args=(tmp_path, f"step {number}")) for number in range(4)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert [writer.exitcode for writer in writers] == [0] * 4
    assert len(json.loads((tmp_path / "study.json").read_text())["steps"]) == 1 + 4 * 50


def test_the_order_of_settings_does_not_matter_but_their_values_do():
    assert settings_digest({"a": 1, "b": 2}) == settings_digest({"b": 2, "a": 1})
    assert settings_digest({"a": 1}) != settings_digest({"a": 2}) != settings_digest({"a": None})


def test_a_file_s_fingerprint_is_that_of_its_content(tmp_path):
    first, second = tmp_path / "a", tmp_path / "b"
    first.write_text("x")
    second.write_text("x")
    assert file_digest(first) == file_digest(second)
    second.write_text("y")
    assert file_digest(first) != file_digest(second)


def test_a_path_below_a_file_cannot_be_a_study(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(StudyError, match=r"cannot write .*file/study: .*; choose a folder you can write to"):
        prepare_folder(tmp_path / "file" / "study")


def test_a_folder_that_holds_something_else_is_left_alone(tmp_path):
    (tmp_path / "thesis.tex").touch()
    with pytest.raises(StudyError, match="is not empty and holds no study"):
        prepare_folder(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_a_study_of_another_schema_version_is_refused_with_both_versions(tmp_path):
    StudyRecord.create(tmp_path, SOURCE)
    file = tmp_path / "study.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "schema_version": 99}))
    with pytest.raises(StudyError, match=r"has schema version 99.* reads version 1"):
        StudyRecord(tmp_path)
    assert json.loads(file.read_text())["schema_version"] == 99


def test_a_record_without_model_and_data_is_no_study(tmp_path):
    write_json(tmp_path / "study.json", "study", {"steps": {}})
    with pytest.raises(StudyError, match="names no model and no data"):
        StudyRecord(tmp_path)


@pytest.mark.parametrize("content", ["", "{", "[]", '{"kind": "recipe"}'])
def test_a_study_file_that_cannot_be_understood_is_refused_and_kept(tmp_path, content):
    (tmp_path / "study.json").write_text(content)
    with pytest.raises(StudyError, match=r"study\.json"):
        StudyRecord(tmp_path)
    assert (tmp_path / "study.json").read_text() == content


def test_a_crash_while_writing_leaves_the_old_file_and_no_scrap(tmp_path, monkeypatch):
    record = StudyRecord.create(tmp_path, SOURCE)
    record.finish("profile", {"k": 5})
    before = (tmp_path / "study.json").read_text()

    def crash(self, target):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", crash)
        with pytest.raises(KeyboardInterrupt):
            record.finish("profile", {"k": 6})
    assert (tmp_path / "study.json").read_text() == before
    assert {path.name for path in tmp_path.iterdir()} <= {"study.json", ".study.json.lock"}


def test_a_number_that_json_does_not_know_is_refused_before_the_old_file_is_touched(tmp_path):
    write_json(tmp_path / "table.json", "table", {"value": 1.5})
    before = (tmp_path / "table.json").read_text()
    with pytest.raises(ValueError, match="infinite"):
        write_json(tmp_path / "table.json", "table", {"value": float("inf")})
    assert (tmp_path / "table.json").read_text() == before
