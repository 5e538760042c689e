"""The dashboard without a page: it shows what the study has, says what it lacks, and keeps plans."""

from __future__ import annotations

import json
import os
import shutil
import time

import pytest

from gelora_viz import Study
from gelora_viz.errors import InputError
from gelora_viz.spectra import UpdateSpectrum
from gelora_viz.widgets import Dashboard
from gelora_viz.widgets import dashboard as dashboard_module
from gelora_viz.widgets.serving import write_notebook


@pytest.fixture
def dashboard(finished_study, tmp_path):
    dashboard = Dashboard(Study.open(shutil.copytree(finished_study, tmp_path / "study")), threads=1)
    yield dashboard
    dashboard.close()


def wait_until(condition, seconds=60):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it never came"
        time.sleep(0.05)


def press(section, name, **typed):
    section.set_state({**typed, "press": [name, (section.press or [name, 0])[1] + 1]})


def test_a_finished_study_has_all_panels(dashboard):
    assert dashboard.ranks.profile.pooling == "mean"
    assert {row["name"] for row in dashboard.fine_tuning.runs} == {"frozen", "uniform", "gelora"}
    assert [each["name"] for each in dashboard.comparison.methods] == ["frozen", "uniform", "gelora"]
    assert [done for done, _ in dashboard.overview.tasks] == [True, True, True, False]


def test_what_is_missing_is_said_with_what_to_do_and_found_when_it_is_there(study, finished_study):
    dashboard = Dashboard(study)
    ranks, map_head, compared = (dashboard.children[place] for place in (1, 3, 7))
    assert dashboard.ranks is None
    assert dashboard.comparison is None
    assert "gelora-viz profile" in ranks.hint
    assert "profile the study first" in map_head.hint
    assert map_head.buttons == []
    assert "start runs above" in compared.hint
    for name in ("profiles", "runs"):
        shutil.copytree(finished_study / name, study.path / name)
    press(dashboard.overview, "Look again")
    assert dashboard.overview.error == ""
    assert dashboard.ranks is not None
    assert dashboard.comparison is not None
    dashboard.close()


def test_its_snapshot_shows_the_whole_walk(dashboard):
    labels = [subplot.y_label for subplot in dashboard.snapshot().drawing.subplots]
    assert labels == ["Intrinsic dimension", "Rank", "Accuracy"]
    assert "<svg" in dashboard.snapshot()._repr_html_()


def test_without_a_profile_there_is_no_snapshot(study):
    empty = Dashboard(study)
    with pytest.raises(InputError, match="profile the study first"):
        empty.snapshot()
    empty.close()


def test_a_map_is_made_when_it_is_asked_for_and_goes_with_its_profile(dashboard):
    section = dashboard.children[3]
    assert dashboard.explorer is None
    press(section, "Show the map")
    assert section.error == ""
    assert dashboard.explorer.wait(60).projection is not None
    assert dict(dashboard.explorer.colorings).keys() >= {"label", "dimension"}
    press(dashboard.overview, "Look again")
    assert dashboard.explorer is not None
    profile = dashboard.study.path / "profiles" / "mean.json"
    os.utime(profile, ns=(0, profile.stat().st_mtime_ns + 1))  # as a new estimate does
    press(dashboard.overview, "Look again")
    assert dashboard.explorer is None
    assert dashboard.children[4].children == ()
    shutil.rmtree(dashboard.study.path / "activations")
    press(section, "Show the map")
    assert "are not kept; profile the study again" in section.error


def test_what_was_set_by_hand_stays_while_the_profile_does(dashboard):
    panel = dashboard.ranks
    panel.edits = {"encoder.layer.0": 4}
    press(dashboard.overview, "Look again")
    assert dashboard.ranks is panel
    profiles = dashboard.study.path / "profiles"
    shutil.copy(profiles / "mean.json", profiles / "other.json")
    press(dashboard.overview, "Look again")
    dashboard.children[1].choice = "other"
    assert dashboard.ranks is not panel
    assert dashboard.ranks.edits == {}


def test_the_newest_run_s_effective_ranks_stand_beside_the_ranks(dashboard):
    newest = next(name for name in reversed(dashboard.fine_tuning.finished) if name != "frozen")
    spectrum = UpdateSpectrum.load(dashboard.study.path / "runs" / newest / "spectrum.json")
    of_layers = spectrum.frame.groupby(spectrum.frame["module"].str.split(".attention").str[0])["entropy_rank"].mean()
    assert dashboard.ranks.effective_ranks == pytest.approx(of_layers.tolist())
    assert f"effective ranks of {newest}" in dashboard.children[1].hint


def test_which_runs_the_table_shows_changes_nothing_elsewhere(dashboard):
    before = dashboard.comparison, dashboard.overview.tasks, dashboard.ranks.effective_ranks
    dashboard.fine_tuning.group = "single"
    dashboard.refresh()
    assert (dashboard.overview.tasks, dashboard.ranks.effective_ranks) == before[1:]
    assert dashboard.overview.tasks[2][1] == "runs: 3 finished of 3"


def test_dots_go_with_their_run(dashboard):
    assert dashboard.ranks.effective_ranks
    for name in ("gelora", "uniform"):
        shutil.rmtree(dashboard.study.path / "runs" / name)
    dashboard.refresh()
    assert dashboard.ranks.effective_ranks == []
    assert "Dots" not in dashboard.children[1].hint


def test_a_run_that_cannot_be_read_is_said_and_the_table_of_runs_goes_on(dashboard):
    (dashboard.study.path / "runs" / "gelora" / "predictions.json").write_text("{")
    shutil.rmtree(dashboard.study.path / "runs" / "uniform")
    wait_until(lambda: dashboard.overview.error)
    assert "predictions.json" in dashboard.overview.error
    assert {row["name"] for row in dashboard.fine_tuning.runs} == {"frozen", "gelora"}
    assert dashboard.fine_tuning.error == ""


def test_a_profile_that_cannot_be_shown_is_tried_again(dashboard, monkeypatch):
    profiles = dashboard.study.path / "profiles"
    shutil.copy(profiles / "mean.json", profiles / "other.json")
    press(dashboard.overview, "Look again")
    with monkeypatch.context() as patch:
        patch.setattr(dashboard_module, "RankBudget", lambda *_: 1 / 0)
        dashboard.children[1].set_state({"choice": "other"})
        assert "ZeroDivisionError" in dashboard.children[1].error
    press(dashboard.overview, "Look again")
    assert dashboard.overview.error == ""
    assert dashboard.ranks.effective_ranks


def test_a_run_that_finishes_is_compared_by_itself(finished_study, tmp_path):
    study = Study.open(shutil.copytree(finished_study, tmp_path / "study"))
    shutil.move(study.path / "runs" / "gelora", tmp_path / "gelora")
    dashboard = Dashboard(study, threads=1)
    assert [each["name"] for each in dashboard.comparison.methods] == ["frozen", "uniform"]
    dashboard.ranks.edits = {"encoder.layer.0": 4}
    shutil.move(tmp_path / "gelora", study.path / "runs" / "gelora")
    wait_until(lambda: dashboard.overview.tasks[2][1] == "runs: 3 finished of 3")  # the watching thread finds it
    assert [each["name"] for each in dashboard.comparison.methods] == ["frozen", "uniform", "gelora"]
    assert dashboard.ranks.edits == {"encoder.layer.0": 4}
    dashboard.close()


def test_the_pair_that_is_looked_at_stays_when_a_run_joins(dashboard, tmp_path):
    panel = dashboard.comparison
    panel.first, panel.second = "frozen", "gelora"
    shutil.move(dashboard.study.path / "runs" / "uniform", tmp_path / "uniform")
    dashboard.refresh()
    assert dashboard.comparison is not panel
    assert (dashboard.comparison.first, dashboard.comparison.second) == ("frozen", "gelora")


def test_ranks_are_kept_as_a_plan_that_can_be_trained_next(dashboard):
    section = dashboard.children[1]
    dashboard.ranks.edits = {"encoder.layer.0": 4}
    press(section, "Keep as plan", text=" ")
    assert "no name yet" in section.error
    press(section, "Keep as plan", text="uniform")
    assert section.status.startswith("Kept as plan uniform-2,")
    assert dashboard.study.plan("uniform").strategy == "uniform"
    press(section, "Keep as plan", text="by-hand")
    assert section.error == ""
    assert dashboard.study.plan("by-hand").ranks == dashboard.ranks.plan.ranks
    assert dashboard.fine_tuning.plan == "by-hand"
    assert "by-hand" in dict(dashboard.fine_tuning.plans)
    assert dashboard.study.stale_plans() == []


def test_the_report_is_written_and_handed_to_the_page(dashboard, monkeypatch):
    press(dashboard.overview, "Write report")
    assert dashboard.overview.error == ""
    sent = []
    monkeypatch.setattr(dashboard.overview, "send", lambda content, buffers: sent.append((content, buffers)))
    dashboard.overview._handle_custom_msg({"call": "pass_file"}, [])
    ((content, (page,)),) = sent
    assert content == {"file": "report.html"}
    assert page == (dashboard.study.path / "report.html").read_bytes()
    assert dashboard.overview.tasks[-1][0]


def test_closing_it_closes_its_panels_and_their_thread(finished_study):
    dashboard = Dashboard(Study.open(finished_study))
    panels = [*dashboard.children, dashboard.ranks, dashboard.comparison]
    dashboard.close()
    assert all(panel.comm is None for panel in panels)
    dashboard.fine_tuning._watcher.join(timeout=5)
    assert not dashboard.fine_tuning._watcher.is_alive()


def test_the_notebook_that_is_served_names_the_study_whatever_its_folder_is_called(tmp_path):
    folder = tmp_path / 'it\'s "odd"'
    cell = json.loads(write_notebook(folder, tmp_path / "page.ipynb").read_text())["cells"][0]["source"]
    compile(cell, "cell", "exec")
    assert repr(str(folder)) in cell
