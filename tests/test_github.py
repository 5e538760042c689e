"""What greets a contributor: workflows that call targets which exist, forms that can be filled in, hooks that run."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[1]
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
FORMS = [path for path in sorted((ROOT / ".github" / "ISSUE_TEMPLATE").glob("*.yml")) if path.name != "config.yml"]
TARGETS = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))


def read(path):
    """The YAML of a file; its key "on" is not the truth value that YAML 1.1 makes of it."""
    document = yaml.safe_load(path.read_text(encoding="utf-8"))
    return {("on" if key is True else key): value for key, value in document.items()}


def commands(workflow):
    """Every command of a workflow's jobs."""
    for job in workflow["jobs"].values():
        yield from (step["run"] for step in job["steps"] if "run" in step)


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_a_workflow_calls_only_targets_that_there_are(path):
    called = [re.sub(r"\w+=\S*", "", command).split()[1:] for command in commands(read(path)) if "make " in command]
    assert called
    assert {target for targets in called for target in targets} <= TARGETS


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_a_workflow_may_only_read_and_ends_some_time(path):
    workflow = read(path)
    assert workflow["permissions"] == {"contents": "read"}
    assert set(workflow) <= {"name", "on", "permissions", "concurrency", "env", "jobs"}
    for job in workflow["jobs"].values():
        assert job["runs-on"] == "ubuntu-latest"
        assert job["timeout-minutes"] <= 90
        for step in job["steps"]:
            assert ("run" in step) != ("uses" in step)
            assert "${{" not in step.get("run", ""), "what comes from outside is passed as a variable, not as code"
            if step.get("uses", "").startswith("actions/checkout@"):
                assert step["with"]["persist-credentials"] is False


def test_every_push_and_pull_request_passes_the_checks_and_the_tests():
    workflow = read(ROOT / ".github" / "workflows" / "tests.yml")
    assert workflow["on"] == {"push": {"branches": ["main"]}, "pull_request": None}
    called = " ".join(commands(workflow)).split()
    assert {"lint", "types", "docs", "package", "test", "ray"} <= set(called)


def test_the_newest_transformers_and_peft_are_tried_every_week():
    workflow = read(ROOT / ".github" / "workflows" / "newest.yml")
    (schedule,) = workflow["on"]["schedule"]
    assert re.fullmatch(r"\d+ \d+ \* \* [0-6]", schedule["cron"])
    called = " ".join(commands(workflow))
    assert called.index("newest") < called.index("test")


def test_a_release_is_published_without_a_stored_token():
    path = ROOT / ".github" / "workflows" / "release.yml"
    publish = read(path)["jobs"]["publish"]
    assert publish["permissions"] == {"id-token": "write"}
    assert publish["needs"] == "build"
    assert [step["uses"].partition("@")[0] for step in publish["steps"]] == [
        "actions/download-artifact", "pypa/gh-action-pypi-publish",
    ]  # fmt: skip
    assert "secrets." not in path.read_text(encoding="utf-8")


@pytest.mark.parametrize("path", FORMS, ids=lambda path: path.stem)
def test_a_form_asks_for_something_and_names_every_field(path):
    form = read(path)
    assert form["name"]
    assert form["description"]
    fields = form["body"]
    assert {field["type"] for field in fields} <= {"textarea", "input", "dropdown", "checkboxes", "markdown"}
    names = [field["id"] for field in fields]
    assert len(set(names)) == len(names)
    assert all(field["attributes"]["label"] for field in fields)
    assert any(field.get("validations", {}).get("required") for field in fields)


def test_an_issue_begins_with_a_form():
    assert {path.stem for path in FORMS} == {"bug", "feature", "question"}
    assert read(ROOT / ".github" / "ISSUE_TEMPLATE" / "config.yml") == {"blank_issues_enabled": False}


def test_hooks_before_a_commit_run_what_make_has_installed():
    repositories = read(ROOT / ".pre-commit-config.yaml")["repos"]
    (local,) = [each["hooks"] for each in repositories if each["repo"] == "local"]
    assert [hook["id"] for hook in local] == ["ruff", "ruff-format", "nbstripout"]
    for hook in local:
        program = Path(hook["entry"].split()[0])
        assert program.parent == Path(".venv/bin")
        assert Path(sys.executable).with_name(program.name).exists()
