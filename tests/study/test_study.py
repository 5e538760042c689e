"""A study walks its steps once: finished steps are read back, interrupted ones go on, and none is mistaken."""

from __future__ import annotations

import json
import shutil

import pandas as pd
import pytest
from small_study import PROFILING, QUICK, WORK

from gelora_viz import Activations, Run, Study, capture, list_runs
from gelora_viz.errors import GeloraVizWarning, InputError, RunError, SourceError, StudyError
from gelora_viz.runs import RunFolder
from gelora_viz.study import profiles, runs


def modified(folder):
    """When each result was last written."""
    return {
        file: file.stat().st_mtime_ns for file in folder.rglob("*") if file.is_file() and file.name != "study.json"
    }


# Finished steps


def test_finished_steps_are_read_back_and_not_repeated(copied_study, forbid):
    before = modified(copied_study)
    forbid(*WORK)
    study = Study.open(copied_study)
    profiles = study.profile(**PROFILING)
    assert list(profiles) == ["mean", "tokens"]
    assert set(study.allocate("uniform", strategy="uniform", budget_rank=2).frame["rank"]) == {2}
    assert study.allocate("gelora", pooling="tokens", budget_rank=2).strategy == "gelora"
    assert modified(copied_study) == before


def test_finished_runs_are_not_repeated(copied_study, forbid):
    before = modified(copied_study)
    forbid(*WORK)
    for name in ("frozen", "uniform", "gelora"):
        assert Study.open(copied_study).finetune(name, **QUICK).result().spec.name == name
    assert modified(copied_study) == before


def test_other_settings_repeat_the_step_and_no_earlier_one(copied_study, forbid):
    forbid("load_model", "capture")
    study = Study.open(copied_study)
    profiles = study.profile(
        **{**PROFILING, "estimators": ["twonn"], "poolings": ["mean"]}
    )  # on the kept activations
    assert profiles["mean"].estimators == ["twonn"]
    with pytest.raises(AssertionError, match="load_model was called"):
        study.profile(**{**PROFILING, "max_points": 300})
    with pytest.raises(AssertionError, match="load_model was called"):
        study.allocate("uniform", strategy="uniform", budget_rank=3)


def test_a_new_profile_makes_the_plans_that_read_it_anew(copied_study, forbid):
    study = Study.open(copied_study)
    study.profile(**{**PROFILING, "k": 6})
    forbid("allocate_ranks")
    with pytest.raises(AssertionError, match="allocate_ranks was called"):
        study.allocate("gelora", pooling="tokens", budget_rank=2)


def test_a_plan_of_other_settings_gets_a_number_and_none_is_lost(copied_study):
    study = Study.open(copied_study)
    before = study.plan("gelora").to_dict()
    with pytest.warns(GeloraVizWarning, match="has a plan 'gelora' of other settings, which is kept; .* 'gelora-2'"):
        second = study.allocate("gelora", estimator="mle", progress=False)
    assert (study.plan("gelora").to_dict(), study.name_of(second)) == (before, "gelora-2")
    again = study.allocate("gelora", estimator="mle", progress=False)
    assert again.to_dict() == second.to_dict()
    assert set(study.plans()) == {"uniform", "gelora", "gelora-2"}
    replaced = study.allocate("gelora", estimator="mle", max_rank=3, replace=True, progress=False)
    assert study.name_of(replaced) == "gelora"
    with pytest.raises(StudyError, match="has no such plan"):
        study.name_of(study.plan("gelora").with_budget(10**6))


def test_a_run_of_other_settings_gets_a_number_or_takes_the_place_of_the_first(copied_study, train_in_process):
    study = Study.open(copied_study)
    first = study.finetune("frozen", **QUICK).result()
    with pytest.warns(GeloraVizWarning, match="holds a finished run, which is kept"):
        second = study.finetune("frozen", **QUICK | {"steps": 2})
    assert (second.name, study.finetune("frozen", **QUICK | {"steps": 2}).name) == ("frozen-2", "frozen-2")
    assert study.finetune("frozen", **QUICK).result().numbers == first.numbers
    assert [result.spec.name for result in study.results()] == ["frozen", "uniform", "frozen-2", "gelora"]
    third = study.finetune("frozen", replace=True, **QUICK | {"steps": 4})
    assert (third.name, third.result().spec.steps) == ("frozen", 4)


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"max_length": 100_000}, "more than the model's longest input"),
        ({"max_length": 1}, "max_length is 1"),
        ({"k": 2}, "k is 2"),
        ({"k": 200}, "too few for 200 neighbors"),
        ({"correct": True, "plateau": True}, "choose correct or plateau"),
        ({"plateau": True}, "cannot be halved twice"),
        ({"max_points": 0}, "max_points is 0"),
        ({"seed": -1}, "seed is -1"),
        ({"device": "cudaa"}, "cudaa"),
        ({"poolings": ["mean", "max"]}, "max"),
        ({"estimators": ["twonn", "guess"]}, "guess"),
    ],
)
def test_a_profile_that_cannot_be_made_takes_nothing_away(copied_study, forbid, asked, message):
    before = modified(copied_study)
    forbid("estimate_dimension")
    with pytest.raises(InputError, match=message):
        Study.open(copied_study).profile(**PROFILING | asked)
    assert modified(copied_study) == before


def test_a_run_is_repeated_for_other_steps_another_seed_or_another_plan(copied_study, forbid):
    forbid("launch")
    study = Study.open(copied_study)
    for options in ({"steps": 4}, {"seed": 1}, {"learning_rate": 1e-3}):
        with pytest.raises(AssertionError, match="launch was called"):
            study.finetune("uniform", **QUICK | options)
    study.allocate("uniform", strategy="uniform", budget_rank=3, replace=True)
    with pytest.raises(AssertionError, match="launch was called"):
        study.finetune("uniform", **QUICK)


def test_a_step_whose_output_was_deleted_is_repeated(copied_study):
    (copied_study / "plans" / "gelora.json").unlink()
    Study.open(copied_study).allocate("gelora", pooling="tokens", budget_rank=2)
    assert (copied_study / "plans" / "gelora.json").exists()


def test_a_study_can_be_moved_to_another_folder(copied_study, tmp_path, forbid):
    moved = tmp_path / "elsewhere"
    shutil.move(copied_study, moved)
    forbid("launch")
    study = Study.open(moved)
    assert study.finetune("uniform", **QUICK).status == "finished"
    assert len(study.tabulate_results()) == 3


def test_the_data_are_those_of_the_beginning_even_if_their_file_has_gone(tiny_folder, csv_file, tmp_path):
    source = tmp_path / "texts.csv"
    shutil.copy(csv_file, source)
    begun = Study.create(tmp_path / "study", model=str(tiny_folder("bert")), data=source)
    source.unlink()
    later = Study.open(tmp_path / "study")
    assert later.data.name == "texts.csv"
    pd.testing.assert_frame_equal(later.data.frame, begun.data.frame)
    assert set(later.data.frame["split"]) == {"train", "validation", "test"}


# Interrupted steps


def test_an_interrupted_capture_leaves_a_study_that_goes_on(tiny_folder, csv_file, tmp_path, monkeypatch):
    study = Study.create(tmp_path / "study", model=str(tiny_folder("bert")), data=csv_file)

    def interrupt(*_args, **_options):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(profiles, "capture", interrupt)
        with pytest.raises(KeyboardInterrupt):
            study.profile(**PROFILING)
    assert study.profiles() == {}
    assert list(Study.open(tmp_path / "study").profile(**PROFILING)) == ["mean", "tokens"]


def test_a_capture_interrupted_in_the_middle_goes_on_where_it_stopped(tiny_folder, csv_file, tmp_path, monkeypatch):
    options = {**PROFILING, "poolings": ["mean"]}
    whole = Study.create(tmp_path / "whole", model=str(tiny_folder("bert")), data=csv_file).profile(**options)["mean"]
    study = Study.create(tmp_path / "study", model=str(tiny_folder("bert")), data=csv_file)
    texts_read = []
    forward = type(study.loaded.model).forward

    def counting(model, *args, **inputs):
        if len(inputs["input_ids"]) <= 2:  # a capture looks at the model with two texts first
            return forward(model, *args, **inputs)
        if len(texts_read) == 2 and not interrupted:
            interrupted.append(True)
            raise KeyboardInterrupt
        texts_read.append(len(inputs["input_ids"]))
        return forward(model, *args, **inputs)

    interrupted: list[bool] = []
    monkeypatch.setattr(type(study.loaded.model), "forward", counting)
    with pytest.raises(KeyboardInterrupt):
        study.profile(**options)
    profile = Study.open(tmp_path / "study").profile(**options)["mean"]
    assert sum(texts_read) == len(study.data.texts("train"))
    pd.testing.assert_frame_equal(profile.frame, whole.frame)


def test_a_capture_begun_with_other_weights_or_another_library_makes_way(tiny_folder, csv_file, tmp_path):
    options = {**PROFILING, "poolings": ["mean"]}
    expected = Study.create(tmp_path / "one", model=str(tiny_folder("bert")), data=csv_file).profile(**options)[
        "mean"
    ]
    study = Study.create(tmp_path / "two", model=str(tiny_folder("bert")), data=csv_file)
    stored = study.path / "activations" / "mean"
    capture(*study.loaded[:2], study.data.texts("train")[:50], pooling="last", store=stored, progress=False)
    pd.testing.assert_frame_equal(study.profile(**options)["mean"].frame, expected.frame)


def test_after_an_interrupted_first_capture_a_study_can_begin_with_other_data(
    tiny_folder, csv_file, labelled_texts, tmp_path, monkeypatch
):
    def interrupt(*_args, **_options):
        raise KeyboardInterrupt

    study = Study.create(tmp_path / "study", model=str(tiny_folder("bert")), data=csv_file)
    with monkeypatch.context() as patch:
        patch.setattr(profiles, "capture", interrupt)
        with pytest.raises(KeyboardInterrupt):
            study.profile(**PROFILING)
    other = Study.create(tmp_path / "study", model=str(tiny_folder("bert")), data=labelled_texts[0])
    assert len(other.data.frame) == len(labelled_texts[0])


def test_points_of_other_settings_make_way_for_those_asked_for_now(tiny_folder, csv_file, tmp_path):
    study = Study.create(tmp_path / "study", model=str(tiny_folder("bert")), data=csv_file)
    options = {**PROFILING, "poolings": ["mean"]}
    assert study.profile(**{**options, "max_points": 100})["mean"].frame["n_points"].max() <= 100
    assert study.profile(**{**options, "max_points": 90})["mean"].frame["n_points"].max() <= 90
    assert Activations.load(study.path / "activations" / "mean").n_points == 90


def test_a_profile_can_be_corrected_and_on_a_plateau(tiny_folder, labelled_texts, tmp_path):
    texts, _ = labelled_texts
    study = Study.create(
        tmp_path / "study", model=str(tiny_folder("bert")), data=[*texts, *(f"{text} Again." for text in texts)]
    )
    options = {"poolings": ["mean"], "estimators": "mle", "k": 10, "progress": False}
    assert study.profile(**options, correct=True)["mean"].frame["corrected"].notna().all()
    assert study.profile(**options, plateau=True)["mean"].settings["plateau"]


def test_an_interrupted_estimation_does_not_capture_again(tiny_folder, csv_file, tmp_path, monkeypatch, forbid):
    study = Study.create(tmp_path / "study", model=str(tiny_folder("bert")), data=csv_file)
    options = {**PROFILING, "poolings": ["mean"]}

    def interrupt(*_args, **_options):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(profiles, "estimate_dimension", interrupt)
        with pytest.raises(KeyboardInterrupt):
            study.profile(**options)
    forbid("capture", "load_model")
    assert Study.open(tmp_path / "study").profile(**options)["mean"].estimators == ["twonn", "mle"]


def test_an_interrupted_run_is_cancelled_and_started_again_by_the_next_call(copied_study, monkeypatch):
    study = Study.open(copied_study)
    shutil.rmtree(copied_study / "runs" / "uniform")

    def interrupt(self, **_options):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Run, "wait", interrupt)
        with pytest.raises(KeyboardInterrupt):
            study.finetune("uniform", **QUICK | {"steps": 5000})
    run = Run(copied_study / "runs" / "uniform")
    assert run.status == "cancelled"
    assert not (run.path / "result.json").exists()
    assert "uniform" not in study.tabulate_results(baseline="frozen")["run"].tolist()
    again = Study.open(copied_study).finetune("uniform", **QUICK)
    assert again.result().numbers["steps"] == QUICK["steps"]
    assert study.tabulate_results()["run"].tolist() == ["frozen", "uniform", "gelora"]


def test_a_failed_run_raises_its_cause_and_is_tried_again(copied_study, train_in_process, monkeypatch):
    study = Study.open(copied_study)

    def launch_failing(spec, *, run_dir, replace):
        assert not replace
        (run_dir / "result.json").unlink()
        RunFolder(run_dir).write_status("failed", "out of memory (so it was); lower batch_size or max_length")
        return Run(run_dir)

    with monkeypatch.context() as patch:
        patch.setattr(runs, "launch", launch_failing)
        with pytest.raises(RunError, match=r"run 'gelora' failed: out of memory .*; the log is .*log\.txt"):
            study.finetune("gelora", **QUICK | {"batch_size": 8})
    assert study.finetune("gelora", **QUICK | {"batch_size": 8}).result().spec.batch_size == 8


def test_the_runs_of_a_study_are_a_table(copied_study):
    study = Study.open(copied_study)
    assert set(study.runs()["run"]) == {"frozen", "uniform", "gelora"}
    assert study.runs()["status"].unique().tolist() == ["finished"]
    pd.testing.assert_frame_equal(list_runs(study), study.runs())


# Folders that are not for this study


def test_a_folder_that_cannot_be_written_is_refused_before_any_work(tmp_path, forbid):
    (tmp_path / "file").touch()
    forbid("load_texts", *WORK)
    with pytest.raises(StudyError, match="choose a folder you can write to"):
        Study.create(tmp_path / "file" / "study", model="minilm", data="icd10cm")


def test_a_folder_with_other_things_in_it_is_refused_before_any_work(tmp_path, forbid):
    (tmp_path / "notes.txt").touch()
    forbid("load_texts", *WORK)
    with pytest.raises(StudyError, match="not empty"):
        Study.create(tmp_path, model="minilm", data="icd10cm")


def test_a_study_of_another_schema_version_is_refused(copied_study, forbid):
    file = copied_study / "study.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "schema_version": 0}))
    forbid("load_texts", *WORK)
    with pytest.raises(StudyError, match="schema version 0"):
        Study.open(copied_study)


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"model": "minilm"}, "is a study with model .*bert', not 'minilm'; choose another folder"),
        ({"data": "icd10cm"}, r"is a study with data '.*texts\.csv', not 'icd10cm'"),
        ({"data": "texts.csv", "seed": 5}, "is a study with seed 0, not 5"),
        ({"data": "texts.csv", "max_texts": 10}, "is a study with max_texts None, not 10"),
    ],
)
def test_a_study_of_another_model_or_of_other_data_is_refused(copied_study, asked, message):
    with pytest.raises(StudyError, match=message):
        Study.open(copied_study).check_source(**asked)


def test_naming_the_study_s_own_model_and_data_again_is_fine(copied_study, tiny_folder, csv_file):
    assert Study.create(copied_study, model=str(tiny_folder("bert")), data=csv_file).data.name == "texts.csv"


# Steps that lack something


def test_what_a_step_lacks_is_named_with_what_there_is(copied_study):
    study = Study.open(copied_study)
    with pytest.raises(StudyError, match=r"no profile of pooling 'cls' \(made: mean, tokens\); run the step profile"):
        study.allocate("other", pooling="cls", budget_rank=2)
    with pytest.raises(StudyError, match=r"no plan 'best' \(made: gelora, uniform\); run the step allocate"):
        study.finetune("best", **QUICK)
    with pytest.raises(InputError, match="no run 'best' to compare with; runs are frozen, uniform, gelora"):
        study.tabulate_results(baseline="best")


def test_unusable_options_are_refused_by_name(copied_study):
    study = Study.open(copied_study)
    with pytest.raises(InputError, match="budget 10 and budget_rank 2 both name a budget"):
        study.allocate("both", budget=10, budget_rank=2)
    with pytest.raises(InputError, match=r"plan name '\.\./escape'"):
        study.allocate("../escape", strategy="uniform", budget_rank=2)
    with pytest.raises(InputError, match=r"'stepz'.*; options are the fields of RunSpec"):
        study.finetune("uniform", stepz=3)
    with pytest.raises(InputError, match="unknown pooling 'max'"):
        study.profile(poolings=["max"])
    with pytest.raises(InputError, match="has no name to save it under"):
        study.profile(poolings=[lambda hidden, mask: (hidden * mask[..., None]).sum(dim=1)])
    with pytest.raises(InputError, match="nothing"):
        study.profile(estimators=["nothing"])


def test_texts_without_labels_can_be_profiled_but_not_fine_tuned_on(tiny_folder, texts, tmp_path):
    study = Study.create(tmp_path / "study", model=str(tiny_folder("bert")), data=texts[:60])
    assert len(study.profile(**{**PROFILING, "poolings": ["mean"]})["mean"].layers) == 4
    with pytest.raises(InputError, match="'list of 60 texts' has no labels; name its label column"):
        study.finetune("frozen", **QUICK)


def test_runs_come_probe_first_then_uniform_then_by_name(finished_study):
    table = Study.open(finished_study).tabulate_results()
    assert table["run"].tolist() == ["frozen", "uniform", "gelora"]
    assert table.set_index("run").loc["uniform", "verdict"] == "baseline"


# What a study is of


def test_a_file_that_has_changed_is_another_data_set(tmp_path, tiny_folder, texts):
    file = tmp_path / "texts.txt"
    file.write_text("\n".join(texts[:100]))
    study = Study.create(tmp_path / "study", model=str(tiny_folder("bert")), data=file)
    study.profile(poolings=["mean"], estimators=["twonn"], k=5, progress=False)
    assert (
        Study.create(tmp_path / "study", model=str(tiny_folder("bert")), data=file).data.digest == study.data.digest
    )
    file.write_text("\n".join(texts[1:101]))
    with pytest.raises(StudyError, match="is a study with texts"):
        Study.create(tmp_path / "study", model=str(tiny_folder("bert")), data=file)


def test_another_list_of_texts_is_another_data_set(tmp_path, tiny_folder, texts):
    study = Study.create(tmp_path / "study", model=str(tiny_folder("bert")), data=texts[:100])
    study.profile(poolings=["mean"], estimators=["twonn"], k=5, progress=False)
    with pytest.raises(StudyError, match="is a study with texts"):
        Study.create(tmp_path / "study", model=str(tiny_folder("bert")), data=texts[1:101])


@pytest.mark.parametrize("asked", [{"max_texts": 20}, {"text_column": "nope"}, {"seed": 3}])
def test_other_choices_in_the_data_are_refused_though_the_data_is_not_named(copied_study, asked):
    with pytest.raises(StudyError, match=f"is a study with {next(iter(asked))}"):
        Study.open(copied_study).check_source(**asked)


def test_leave_to_run_remote_code_is_never_kept_in_the_folder(tmp_path, tiny_folder):
    Study.create(tmp_path / "study", model=str(tiny_folder("bert")), data=["one", "two"], trust_remote_code=True)
    assert "trust_remote_code" not in (tmp_path / "study" / "study.json").read_text()


def test_a_plan_cannot_take_the_probes_name(copied_study):
    with pytest.raises(InputError, match="cannot be named 'frozen'"):
        Study.open(copied_study).allocate("frozen", strategy="uniform", budget_rank=2)


def test_a_mistyped_path_is_no_new_study(tmp_path, forbid):
    forbid("load_texts", *WORK)
    with pytest.raises(StudyError, match=r"no study at .*a-typo; begin one with Study\.create"):
        Study.open(tmp_path / "a-typo")
    with pytest.raises(InputError, match=r"use Study\.open\('a-typo'\), or Study\.create\('a-typo', model="):
        Study("a-typo")
    assert list(tmp_path.iterdir()) == []


def test_a_study_whose_beginning_was_killed_is_begun_anew(tmp_path, tiny_folder, texts):
    (tmp_path / "data.jsonl").write_text("")
    with pytest.raises(StudyError, match="no study at"):
        Study.open(tmp_path)
    assert len(Study.create(tmp_path, model=str(tiny_folder("bert")), data=texts[:60]).data.frame) == 60


def test_a_study_that_cannot_begin_leaves_nothing_behind(tmp_path):
    with pytest.raises(SourceError):
        Study.create(tmp_path / "new" / "study", model=str(tmp_path / "no-model"), data=["one", "two"])
    assert not (tmp_path / "new").exists()


def test_plans_of_an_earlier_profile_are_called_stale(copied_study):
    study = Study.open(copied_study)
    assert study.stale_plans() == []
    study.profile(**{**PROFILING, "seed": 5})
    assert "gelora" in study.stale_plans()


def test_a_run_is_started_without_waiting_under_a_name_of_its_own(copied_study, train_in_process):
    study = Study.open(copied_study)
    options = {name: value for name, value in QUICK.items() if name != "progress"}
    run = study.start("uniform", run="uniform-seed1", seed=1, **options)
    assert (run.name, run.result().spec.seed) == ("uniform-seed1", 1)
    assert study.finetune("uniform", run="uniform-seed1", seed=1, **QUICK).path == run.path
    assert "uniform-seed1" in study.tabulate_results()["run"].tolist()
    (copied_study / "runs" / "compared" / "method").mkdir(parents=True)
    shutil.copy(run.path / "spec.json", copied_study / "runs" / "compared" / "method")
    with pytest.raises(StudyError, match="runs/compared is a comparison"):
        study.start("uniform", run="compared")


def test_a_finished_run_is_not_started_again(copied_study, forbid):
    forbid(*WORK)
    options = {name: value for name, value in QUICK.items() if name != "progress"}
    assert Study.open(copied_study).start("frozen", **options).status == "finished"


def test_a_plan_made_elsewhere_is_kept_and_no_other_one_is_lost(copied_study):
    study = Study.open(copied_study)
    plan = study.plan("gelora").with_rank("encoder.layer.0", 3)
    assert study.keep_plan("by-hand", plan) == copied_study / "plans" / "by-hand.json"
    assert Study.open(copied_study).plan("by-hand").ranks == plan.ranks
    study.keep_plan("by-hand", plan)
    before = study.plan("gelora").to_dict()
    assert study.keep_plan("gelora", plan).stem == study.keep_plan("gelora", plan).stem == "gelora-2"
    assert study.plan("gelora").to_dict() == before
    assert study.keep_plan("by-hand", study.plan("uniform"), replace=True).stem == "by-hand"
    assert study.plan("by-hand").strategy == "uniform"
    study.keep_plan("by-hand", plan, replace=True)
    with pytest.raises(InputError, match="cannot be named 'full'"):
        study.keep_plan("full", plan)
    assert study.stale_plans() == []
    study.profile(**{**PROFILING, "seed": 5})
    assert "by-hand" in study.stale_plans()
