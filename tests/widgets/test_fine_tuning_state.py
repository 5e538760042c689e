"""The panel FineTuning without a page: runs are started, found again, watched at little cost, and cancelled."""

from __future__ import annotations

import gc
import json
import math
import threading
import time
import weakref

import numpy as np
import pytest
from peft import LoraConfig

from gelora_viz import RunSpec, Study, attach
from gelora_viz.errors import InputError
from gelora_viz.runs import RunFolder
from gelora_viz.widgets import FineTuning
from gelora_viz.widgets.run_watching import MOST_POINTS, RunLookout, thin

NASTY = "<script>alert(1)</script>"


@pytest.fixture
def panel(study):
    panel = FineTuning(study, threads=1, batch_size=8)
    yield panel
    panel.close()


def pretend(study, name, *, status="finished", message="", n_rows=4, steps=40, **differing):
    """A run's folder as a worker leaves it."""
    folder = RunFolder(study.path / "runs" / name)
    folder.path.mkdir(parents=True)
    RunSpec(name.rpartition("/")[2], "frozen", steps=steps, **differing).save(folder.path / "spec.json")
    for row in range(1, n_rows + 1):
        folder.append_metrics({"step": row, "seconds": row / 10, "loss": 1 / row, "eta_seconds": 7.0})
    if n_rows:
        folder.append_metrics({"step": n_rows, "seconds": n_rows / 10, "eval_accuracy": 0.5})
    folder.write_status(status, message)
    return folder


def rows(panel):
    panel.refresh()
    return {row["name"]: row for row in panel.runs}


def press_start(panel, **typed):
    panel.set_state({**typed, "presses": panel.presses + 1})


def press_cancel(panel, name):
    panel._handle_custom_msg({"call": "cancel", "args": [name]}, [])


def wait_until(holds, seconds=60):
    end = time.monotonic() + seconds
    while not holds() and time.monotonic() < end:
        time.sleep(0.05)
    assert holds()


def test_a_real_run_is_started_watched_by_itself_and_found_by_the_next_panel(panel, study):
    assert panel.plan == "uniform"
    press_start(panel, steps=6, seeds="3")
    assert panel.error == ""
    wait_until(lambda: panel.runs and panel.runs[0]["status"] == "finished")
    (row,) = panel.runs
    assert (row["name"], row["step"], row["seed"]) == ("uniform", 6, 3)
    assert panel.curves["uniform"]["losses"][0][-1] == 6
    assert 0 <= panel.curves["uniform"]["scores"][1][-1] <= 1
    assert panel.live_curves == {}
    assert panel.free_name == "uniform-2"
    assert panel.snapshot()._repr_html_().startswith("<svg")
    again = FineTuning(Study.open(study.path))
    assert again.curves == panel.curves
    again.close()
    assert study.start("uniform", steps=6, seed=3, threads=1, batch_size=8).status == "finished"


def test_runs_queue_and_one_that_waits_or_trains_is_cancelled_at_once(panel):
    press_start(panel, steps=100_000, seeds="0, 1", name="long")
    assert set(rows(panel)) == {"long-seed0", "long-seed1"}
    started = time.perf_counter()
    press_cancel(panel, "long-seed1")
    press_cancel(panel, "long-seed0")
    assert time.perf_counter() - started < 1
    assert panel.error == ""
    wait_until(lambda: {row["status"] for row in panel.runs} == {"cancelled"})
    assert panel.status == "2 runs: 2 cancelled."
    assert not any(row["stopping"] for row in rows(panel).values())


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({"name": "old"}, "'old' already exists; choose another name, such as 'old-2'"),
        ({"name": "comparison"}, "'comparison' already exists"),
        ({"name": "no spaces"}, "must be letters, digits"),
        ({"name": "../outside"}, "must be letters, digits"),
        ({"seeds": "1, 1"}, "seeds are '1, 1'"),
        ({"seeds": "one"}, "seeds are 'one'"),
        ({"learning_rate": "fast"}, "learning rate is 'fast'"),
        ({"learning_rate": "7"}, "learning_rate is 7.0; give a number between"),
        ({"steps": 0}, "steps is 0"),
        ({"plan": "gelara"}, "has no plan 'gelara' (made: uniform)"),
    ],
)
def test_what_cannot_be_started_is_said_and_nothing_is_begun(panel, study, asked, words):
    pretend(study, "old")
    pretend(study, "comparison/uniform/lr0.002-seed0")
    before = set(study.path.rglob("*"))
    press_start(panel, **asked)
    assert words in panel.error
    assert set(study.path.rglob("*")) == before


def test_runs_of_comparisons_are_shown_and_can_be_chosen(panel, study):
    pretend(study, "alone")
    for seed in range(3):
        pretend(study, f"compared/uniform/lr0.002-seed{seed}", seed=seed)
    assert len(rows(panel)) == 4
    assert [name for name, _ in panel.groups] == ["all", "single", "compared"]
    panel.set_state({"group": "compared"})
    assert {row["seed"] for row in panel.runs} == {0, 1, 2}
    panel.set_state({"group": "single"})
    assert set(rows(panel)) == {"alone"}
    panel.set_state({"group": "nothing"})
    assert panel.group == "all"


def test_the_reader_chooses_which_curves_are_drawn(panel, study):
    for number in range(9):
        pretend(study, f"run{number}")
    assert sum(row["drawn"] for row in rows(panel).values()) == 6
    panel.set_state({"picks": {"run0": True, "run8": False}})
    drawn = {row["name"] for row in panel.runs if row["drawn"]}
    assert "run0" in drawn
    assert "run8" not in drawn
    assert len({(row["color"], row["dash"]) for row in panel.runs}) == 9
    assert set(panel.curves) == drawn


def test_what_is_sent_stays_small_however_many_and_long_the_runs(panel, study):
    for number in range(70):
        folder = pretend(study, f"run{number}", n_rows=1, message=NASTY * 500, status="failed")
        with (folder.path / "metrics.jsonl").open("a") as stream:
            stream.writelines(
                json.dumps({"step": step, "seconds": 1.0, "loss": math.pi / step}) + "\n" for step in range(2, 900)
            )
    found = rows(panel)
    assert len(found) == 60
    assert panel.n_hidden == 10
    assert max(len(curve["losses"][0]) for curve in panel.curves.values()) <= MOST_POINTS
    state = {name: value for name, value in panel.get_state().items() if name not in ("_esm", "_css")}
    assert len(json.dumps(state)) < 100_000


def test_a_long_curve_is_sent_as_means_that_keep_its_ends():
    values = np.linspace(2, 1, 1000)
    steps, means = thin([(float(step), value) for step, value in enumerate(values, start=1)])
    assert len(steps) <= MOST_POINTS
    assert steps[-1] == 1000
    assert np.mean(means[:-1]) == pytest.approx(values.mean(), abs=0.01)
    assert thin([]) == ([], [])


def test_a_run_that_cannot_be_read_is_listed_with_the_reason(panel, study):
    folder = pretend(study, "broken")
    (folder.path / "spec.json").write_text("{}")
    row = rows(panel)["broken"]
    assert row["status"] == "unreadable"
    assert row["message"]


def test_a_run_without_a_living_worker_has_failed_and_one_removed_is_gone(panel, study):
    folder = pretend(study, "dead", status="running")
    document = json.loads((folder.path / "status.json").read_text())
    (folder.path / "status.json").write_text(json.dumps({**document, "started": 1}))
    assert "failed" in rows(panel)["dead"]["status"]
    (folder.path / "spec.json").unlink()
    assert rows(panel) == {}


def test_a_study_without_labels_trains_language_models(planned_study, tmp_path, texts, tiny_folder):
    study = Study.create(tmp_path / "unlabelled", model=str(tiny_folder("bert")), data=list(texts[:60]))
    panel = FineTuning(study)
    assert panel.metric == "perplexity"
    assert panel.usual_rate == "0.0005"
    panel.close()


def test_a_closed_panel_ends_its_thread_and_is_let_go(study):
    panel = FineTuning(study)
    watcher, alive = panel._watcher, weakref.ref(panel)
    assert watcher in threading.enumerate()
    panel.close()
    watcher.join(timeout=5)
    assert not watcher.is_alive()
    del panel
    gc.collect()
    assert alive() is None


def test_the_folder_is_watched_in_a_thread_of_its_own(panel, study, monkeypatch):
    pretend(study, "going-on", status="running")
    panel.refresh()
    look, threads = RunLookout.look, []

    def recorded(self):
        threads.append(threading.current_thread().name)
        return look(self)

    monkeypatch.setattr(RunLookout, "look", recorded)
    wait_until(lambda: len(threads) > 1)
    assert set(threads) == {"gelora_viz run watcher"}


def test_of_a_run_that_goes_on_only_new_lines_are_read(study, monkeypatch):
    folder = pretend(study, "going-on", status="running", n_rows=100)
    lookout = RunLookout(study.path / "runs")
    lookout.look()
    folder.append_metrics({"step": 101, "seconds": 10.1, "loss": 0.5})
    loads, parsed = json.loads, []

    def recorded(text, **options):
        parsed.append(loads(text, **options))
        return parsed[-1]

    monkeypatch.setattr(json, "loads", recorded)
    (run,) = lookout.look()
    assert run.step == 101
    assert [row["step"] for row in parsed if "loss" in row] == [101]


def test_of_ended_runs_nothing_is_read_again(study, monkeypatch):
    pretend(study, "ended")
    lookout = RunLookout(study.path / "runs")
    (first,) = lookout.look()
    monkeypatch.setattr(RunFolder, "read_rows", lambda _: pytest.fail("read again"))
    assert lookout.look() == [first]


def test_cancelling_a_run_that_is_not_there_is_an_error(panel):
    with pytest.raises(InputError, match="no run 'nothing'"):
        panel.cancel("nothing")


def test_other_methods_are_chosen_beside_the_plans(study):
    dora = LoraConfig(r=1, target_modules=["query"], use_dora=True)
    panel = FineTuning(study, methods={"dora": dora}, threads=1, batch_size=8)
    try:
        assert ["dora", "LORA"] in panel.plans
        press_start(panel, plan="dora", steps=2, name="")
        assert panel.error == ""
        wait_until(lambda: "dora" in {row["name"] for row in panel.runs})
        assert RunSpec.load(study.path / "runs" / "dora" / "spec.json").method == "LORA, DoRA"
        wait_until(lambda: attach(study.path / "runs" / "dora").status == "finished")
    finally:
        panel.close()
    with pytest.raises(InputError, match="methods have 'uniform', which names a plan"):
        FineTuning(study, methods={"uniform": dora})
