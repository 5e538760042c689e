"""gelora-viz doctor: a whole installation, one with gaps, and folders that cannot be written."""

from __future__ import annotations

import importlib.metadata
import json
import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import torch
from packaging.requirements import Requirement

from gelora_viz import __version__, doctor
from gelora_viz.doctor import diagnose
from gelora_viz.runs import find_queue

PROJECT = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text())["project"]


@pytest.fixture
def installed(monkeypatch):
    """`installed["tueplots"] = None` takes a package away, "0.1" puts an old version in its place."""
    changed = {}
    real = importlib.metadata.version

    def version(name):
        if name in changed and changed[name] is None:
            raise importlib.metadata.PackageNotFoundError(name)
        return changed.get(name) or real(name)

    monkeypatch.setattr(importlib.metadata, "version", version)
    return changed


def extra(name):
    (found,) = [each for each in diagnose().extras if each.name == name]
    return found


def test_packages_and_extras_are_those_of_pyproject():
    found = diagnose()
    assert {package.name for package in found.packages} == {
        Requirement(each).name for each in PROJECT["dependencies"]
    }
    features = PROJECT["optional-dependencies"]
    assert {each.name for each in found.extras} == Requirement(features["all"][0]).extras
    for each in found.extras:
        asked = {Requirement(requirement).name for requirement in features[each.name]}
        assert asked <= {package.name for package in each.packages}


def test_this_installation_works_and_says_what_it_is():
    found = diagnose()
    assert found.ok, found.problems
    assert found.version == __version__
    assert found.python == sys.version.split()[0]
    torch_itself = next(package for package in found.packages if package.name == "torch")
    assert torch_itself.installed == importlib.metadata.version("torch")
    assert found.devices.threads == torch.get_num_threads()
    assert len(found.devices.gpus) == torch.cuda.device_count()


def test_an_extra_without_its_package_names_it_and_the_command_that_brings_it(installed):
    assert extra("paper").complete
    installed["tueplots"] = None
    assert not extra("paper").complete
    assert [package.complaint for package in extra("paper").packages] == ["missing tueplots"]
    assert extra("paper").remedy == "pip install 'gelora_viz[paper]'"
    assert diagnose().ok


def test_a_package_that_is_too_old_is_as_good_as_missing(installed):
    installed["tueplots"] = "0.1"
    assert [package.complaint for package in extra("paper").packages] == ["tueplots is 0.1, needed >=0.2"]
    installed["peft"] = "0.22"
    assert diagnose().problems == ["peft is 0.22, needed <0.22,>=0.21"]


def test_extras_of_an_extra_s_package_count_too(installed, monkeypatch):
    real = importlib.metadata.requires
    ray = ["click", "aiohttp; extra == 'default'", "gymnasium; extra == 'rllib'"]
    monkeypatch.setattr(importlib.metadata, "requires", lambda name: ray if name == "ray" else real(name))
    installed |= {"ray": "2.60.0", "aiohttp": None}
    assert [package.complaint for package in extra("ray").packages if not package.fits] == ["missing aiohttp"]


def test_an_extra_that_names_extras_of_the_package_itself_is_followed(monkeypatch):
    real = importlib.metadata.requires
    everything = ["gelora_viz[paper,demo]; extra == 'all'"]
    others = [each for each in real("gelora_viz") if "extra == 'all'" not in each.replace('"', "'")]
    monkeypatch.setattr(
        importlib.metadata, "requires", lambda name: others + everything if name == "gelora_viz" else real(name)
    )
    assert {each.name for each in diagnose().extras} == {"paper", "demo"}


def test_a_torch_that_cannot_be_imported_is_a_problem_and_no_traceback(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    (problem,) = diagnose().problems
    assert problem.startswith("torch cannot be used: ")


def test_gpus_are_described_by_name_memory_and_precision(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(doctor, "_describe_gpu", lambda index: doctor.Gpu(f"GPU {index}", 80 * 2**30, bfloat16=True))
    assert diagnose().devices.gpus == (doctor.Gpu("GPU 0", 80 * 2**30, bfloat16=True),)


def test_folders_are_looked_at_and_not_made(monkeypatch, tmp_path):
    monkeypatch.setenv("GELORA_VIZ_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("GELORA_VIZ_QUEUE", str(tmp_path / "queue"))
    found = diagnose()
    assert found.cache.path == str(tmp_path / "cache")
    assert found.queue.path == str(find_queue()) == str(tmp_path / "queue")
    assert (found.cache.exists, found.queue.exists) == (False, False)
    assert (found.cache.problem, found.queue.problem) == ("", "")
    assert found.cache.free > 0
    assert list(tmp_path.iterdir()) == []


def test_a_cache_that_cannot_be_written_is_told_with_the_variable_to_set(monkeypatch, tmp_path):
    (tmp_path / "file").touch()
    monkeypatch.setenv("GELORA_VIZ_CACHE", str(tmp_path / "file" / "cache"))
    found = diagnose()
    assert found.cache.problem.endswith("cannot be written; set GELORA_VIZ_CACHE to a folder you can write to")
    assert found.ok  # an analysis needs no cache
    monkeypatch.setenv("GELORA_VIZ_QUEUE", str(tmp_path / "file" / "queue"))
    assert "GELORA_VIZ_QUEUE" in diagnose().problems[0]


def test_without_a_home_folder_the_cache_says_which_variable_to_set(monkeypatch):
    monkeypatch.delenv("GELORA_VIZ_CACHE", raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)

    def no_home(path):
        if path.parts[0] == "~":
            raise RuntimeError("Could not determine home directory.")
        return path

    monkeypatch.setattr(Path, "expanduser", no_home)
    assert "GELORA_VIZ_CACHE" in diagnose().cache.problem
    assert diagnose().models == {"smollm2": None}


def test_a_fetched_model_is_found(monkeypatch, tmp_path):
    monkeypatch.setenv("GELORA_VIZ_CACHE", str(tmp_path))
    folder = tmp_path / "models" / "smollm2"
    folder.mkdir(parents=True)
    assert diagnose().models == {"smollm2": None}
    (folder / "origin.json").touch()
    assert diagnose().models == {"smollm2": str(folder)}


def call_doctor(*words, **environment):
    return subprocess.run(
        [sys.executable, "-m", "gelora_viz.cli", "doctor", *words],
        capture_output=True, text=True, check=False, env={**os.environ, "COLUMNS": "200", **environment},
    )  # fmt: skip


def test_the_command_prints_a_table_and_ends_with_status_0():
    answer = call_doctor()
    assert (answer.returncode, answer.stderr) == (0, "")
    assert answer.stdout.startswith(f"gelora_viz {__version__}, Python ")
    assert "The core works." in answer.stdout


def test_the_command_prints_json_and_ends_with_status_1_where_no_run_could_start(tmp_path):
    (tmp_path / "file").touch()
    answer = call_doctor("--json", GELORA_VIZ_QUEUE=str(tmp_path / "file" / "queue"))
    assert (answer.returncode, answer.stderr) == (1, "")
    content = json.loads(answer.stdout)
    assert not content["ok"]
    assert content["problems"] == [content["queue"]["problem"]]
    assert {each["name"] for each in content["extras"]} >= {"demo", "paper"}
    assert all(each["complete"] or each["remedy"] for each in content["extras"])


def test_neither_transformers_nor_pandas_is_imported():
    program = (
        "import sys; from gelora_viz.doctor import diagnose; before = 'torch' in sys.modules; diagnose()\n"
        "print(before, {'transformers', 'pandas', 'peft'} & set(sys.modules))"
    )
    printed = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert printed == "False set()\n"
