"""A finished run is replaced only by a finished one, and only when that is asked for."""

from __future__ import annotations

import json
import signal
from contextlib import nullcontext

import pytest

from gelora_viz import Run, launch, list_runs, relaunch
from gelora_viz.errors import RunError, StudyError
from gelora_viz.runs import RunFolder, RunSpec, find_finished, find_going_on
from gelora_viz.runs.liveness import identify
from gelora_viz.training import worker

QUICK = {"adapter": "frozen", "steps": 2, "evaluations": 1}


class Later:
    """An executor whose worker is this process, once the test says so: `launch`, then `work`."""

    def __init__(self):
        self.who = {**identify(), "is_worker": False}

    def prepare(self):
        pass

    def submit(self, run_dir, _spec):
        self.run_dir = run_dir
        (run_dir / "log.txt").touch()
        return self

    def work(self):
        return worker.main([str(self.run_dir)])

    def ended(self):
        return None

    def kill(self):
        pass

    def reap(self):
        pass


@pytest.fixture
def later(monkeypatch):
    monkeypatch.setattr("gelora_viz.runs.folder.RunFolder.has_other_worker", False)
    before = signal.getsignal(signal.SIGTERM)
    yield Later()
    signal.signal(signal.SIGTERM, before)


@pytest.fixture
def finished(later, spec_of, tmp_path):
    """A finished run of two steps."""
    run = launch(spec_of("probe", **QUICK), run_dir=tmp_path / "runs" / "probe", executor=later)
    assert later.work() == 0
    assert run.status == "finished"
    return run


def files_of(run: Run) -> dict[str, bytes]:
    """Name -> content of everything that a finished run left."""
    files = (file for file in run.path.rglob("*") if file.is_file() and file.name not in ("lock", ".reserve"))
    return {str(file.relative_to(run.path)): file.read_bytes() for file in files}


def test_a_launch_into_the_folder_of_a_finished_run_gets_a_number(finished, later, spec_of):
    before = files_of(finished)
    other = spec_of("probe", **QUICK | {"steps": 3})
    with pytest.warns(
        UserWarning, match=r"holds a finished run, which is kept; this one is .*probe-2 \(replace=True"
    ):
        second = launch(other, run_dir=finished.path, executor=later)
    assert (second.name, RunSpec.load(second.path / "spec.json").name) == ("probe-2", "probe-2")
    later.work()
    assert second.result().spec.steps == 3
    assert files_of(finished) == before


@pytest.mark.parametrize("replace", [False, True])
def test_a_run_that_fails_takes_nothing_from_the_finished_one(finished, later, spec_of, replace, tmp_path):
    before = files_of(finished)
    wrong = spec_of("probe", **QUICK | {"data": str(tmp_path / "none.jsonl")})
    with nullcontext() if replace else pytest.warns(UserWarning, match="holds a finished run"):
        run = launch(wrong, run_dir=finished.path, executor=later, replace=replace)
    assert later.work() != 0
    assert (run.status, finished.status) == ("failed", "finished")
    assert files_of(finished) == before


def test_a_replacement_takes_the_place_of_the_finished_run_once_it_has_finished(finished, later, spec_of):
    before = files_of(finished)
    other = spec_of("probe", **QUICK | {"steps": 3})
    run = launch(other, run_dir=finished.path, executor=later, replace=True)
    assert (run.name, run.status) == ("probe-replacement", "queued")
    assert files_of(finished) == before
    later.work()
    assert (run.status, run.path) == ("finished", finished.path)
    assert run.result().spec.steps == finished.result().spec.steps == 3
    assert len(run.metrics) > 0
    assert list_runs(finished.path.parent)["run"].tolist() == ["probe"]
    assert not [file for file in finished.path.parent.rglob("*") if "replace" in file.name or file.name == ".reserve"]


def test_where_nothing_is_finished_a_replacement_is_a_run_like_any_other(later, spec_of, tmp_path):
    run = launch(spec_of("probe", **QUICK), run_dir=tmp_path / "probe", executor=later, replace=True)
    assert run.path == tmp_path / "probe"


def test_a_replacement_that_cannot_be_moved_leaves_both(finished, later, spec_of, monkeypatch):
    run = launch(spec_of("probe", **QUICK | {"steps": 3}), run_dir=finished.path, executor=later, replace=True)
    original = type(run.path).rename

    def rename(path, target):
        if path.name == "probe-replacement":
            raise PermissionError(13, "Permission denied")
        return original(path, target)

    monkeypatch.setattr(type(run.path), "rename", rename)
    later.work()
    assert (run.status, run.result().spec.steps) == ("finished", 3)
    assert "could not take the place" in run.message
    assert finished.result().spec.steps == 2


def test_what_is_finished_is_found_whatever_number_it_got(finished, later, spec_of):
    first, second = spec_of("probe", **QUICK), spec_of("probe", **QUICK | {"steps": 3})
    with pytest.warns(UserWarning, match="holds a finished run"):
        going_on = launch(second, run_dir=finished.path, executor=later)
    assert find_finished(finished.path, first).path == finished.path
    assert find_finished(finished.path, second) is None
    assert find_going_on(finished.path, second).path == going_on.path
    assert find_going_on(finished.path, first) is None
    later.work()
    assert find_finished(finished.path, second).name == "probe-2"


def test_of_three_the_third_gets_the_next_number_while_the_second_goes_on(finished, later, spec_of):
    with pytest.warns(UserWarning, match="probe-2"):
        launch(spec_of("probe", **QUICK | {"steps": 3}), run_dir=finished.path, executor=later)
    with pytest.warns(UserWarning, match="probe-3"):
        third = launch(spec_of("probe", **QUICK | {"steps": 4}), run_dir=finished.path, executor=later)
    assert third.name == "probe-3"


def test_a_symbolic_link_in_the_folder_is_removed_and_what_it_points_to_kept(later, spec_of, tmp_path):
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "weights").write_text("dear")
    for name in ("adapter", "trainer"):
        (tmp_path / "probe").mkdir(exist_ok=True)
        (tmp_path / "probe" / name).symlink_to(outside)
    run = launch(spec_of("probe", **QUICK), run_dir=tmp_path / "probe", executor=later)
    assert later.work() == 0
    assert run.status == "finished"
    assert (outside / "weights").read_text() == "dear"
    assert [file.name for file in outside.iterdir()] == ["weights"]


# Consent to run a model's code


def test_consent_is_not_written_into_the_folder(later, spec_of, tmp_path):
    run = launch(spec_of("probe", **QUICK, trust_remote_code=True), run_dir=tmp_path / "probe", executor=later)
    assert "trust" not in (run.path / "spec.json").read_text()
    assert not RunSpec.load(run.path / "spec.json").trust_remote_code


def test_consent_is_not_read_from_the_folder_of_somebody_else(later, spec_of, tmp_path):
    file = spec_of("probe", **QUICK).save(tmp_path / "probe" / "spec.json")
    file.write_text(json.dumps({**json.loads(file.read_text()), "trust_remote_code": True}))
    RunFolder(tmp_path / "probe").write_status("failed")
    with pytest.raises(StudyError, match="consent to run a model's code is not read from files"):
        relaunch(tmp_path / "probe", executor=later)


def test_consent_is_given_to_the_worker_by_whoever_launches(later, spec_of, tmp_path, monkeypatch):
    seen = []
    monkeypatch.setattr(
        "gelora_viz.training.trainer.train", lambda spec, _folder: seen.append(spec.trust_remote_code) or False
    )
    spec_of("probe", **QUICK).save(tmp_path / "probe" / "spec.json")
    (tmp_path / "probe" / "log.txt").touch()
    for options in ([], ["--trust-remote-code"]):
        worker.main([str(tmp_path / "probe"), *options])
        (tmp_path / "probe" / "status.json").unlink()
    assert seen == [False, True]


def test_a_run_that_is_finished_is_not_relaunched(finished, later):
    with pytest.raises(RunError, match="is finished"):
        relaunch(finished.path, executor=later)
