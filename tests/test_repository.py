"""What the repository promises about itself: one list of requirements, one version, light imports."""

from __future__ import annotations

import importlib
import importlib.metadata
import json
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import gelora_viz

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS = PROJECT["optional-dependencies"]
TOP_LEVEL = {
    ".ci", ".gitattributes", ".github", ".gitignore", ".pre-commit-config.yaml", "CHANGELOG.md", "CITATION.cff",
    "CODE_OF_CONDUCT.md", "CONTRIBUTING.md", "LICENSE", "Makefile", "README.md", "SECURITY.md", "benchmarks",
    "constraints.txt", "docs", "environment.yml", "gelora_viz", "notebooks", "pyproject.toml", "tests",
    "zensical.toml",
}  # fmt: skip
"""All that may stand at the top level of the repository. A new name needs a reason, and a line here."""


def specifiers(requirements):
    """{canonical name: specifier set}; a name that is listed twice is an error."""
    parsed = [Requirement(requirement) for requirement in requirements]
    by_name = {canonicalize_name(requirement.name): requirement.specifier for requirement in parsed}
    assert len(by_name) == len(parsed)
    return by_name


@pytest.fixture(scope="module")
def conda():
    """environment.yml's requirements: (from conda, from pip)."""
    dependencies = yaml.safe_load((ROOT / "environment.yml").read_text())["dependencies"]
    (from_pip,) = [entry["pip"] for entry in dependencies if isinstance(entry, dict)]
    return [entry for entry in dependencies if isinstance(entry, str)], from_pip


@pytest.fixture(scope="module")
def pins():
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    return [line for line in lines if not line.startswith("#")]


def test_environment_yml_asks_for_what_pyproject_asks_for(conda):
    from_conda, from_pip = conda
    assert from_pip[-1] == "-e ."
    listed = specifiers([*from_conda, *from_pip[:-1]])
    assert str(listed.pop("python")) == str(Requirement(f"python{PROJECT['requires-python']}").specifier)
    assert not listed.pop("pip")
    listed["torch"] = listed.pop("pytorch")
    named = ("demo", "smollm2", "datasets", "widgets", "paper")
    extras = [requirement for name in named for requirement in EXTRAS[name]]
    assert listed == specifiers([*PROJECT["dependencies"], *extras])


def test_constraints_pin_every_requirement_to_one_version(pins):
    pinned = specifiers(pins)
    for line in pins:
        requirement = Requirement(line)
        (specifier,) = requirement.specifier
        assert specifier.operator == "=="
        assert not specifier.version.endswith("*")
        assert "+" not in specifier.version
        assert requirement.url is None
        assert requirement.marker is None
    installed_by_make = EXTRAS.keys() - {"all"}  # and Ray, whose tests want the same version everywhere
    in_make = [*PROJECT["dependencies"], *(listed for extra in installed_by_make for listed in EXTRAS[extra])]
    for requirement in map(Requirement, in_make):
        if requirement.name != PROJECT["name"]:
            (pin,) = pinned[canonicalize_name(requirement.name)]
            assert requirement.specifier.contains(pin.version), f"{requirement} forbids the pinned {pin.version}"


def test_constraints_name_nothing_but_packages_and_versions(pins):
    assert pins == sorted(pins)
    assert canonicalize_name(PROJECT["name"]) not in specifiers(pins)


def test_nothing_stands_at_the_top_level_that_is_not_meant_to():
    if not (ROOT / ".git").exists():
        pytest.skip("not a clone, but what an sdist holds")
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.splitlines()
    assert {name.partition("/")[0] for name in listed if (ROOT / name).exists()} == TOP_LEVEL


def test_the_supported_versions_of_python_are_the_same_wherever_they_are_named():
    prefix = "Programming Language :: Python :: 3."
    minors = [int(line.removeprefix(prefix)) for line in PROJECT["classifiers"] if line.startswith(prefix)]
    first, last = minors[0], minors[-1]
    assert minors == list(range(first, last + 1))
    assert PROJECT["requires-python"] == f">=3.{first},<3.{last + 1}"
    assert f"(3, {first}) <= sys.version_info < (3, {last + 1})" in (ROOT / "Makefile").read_text()
    for page in ("README.md", "CONTRIBUTING.md", "docs/index.md"):
        assert f"Python 3.{first} to 3.{last}" in (ROOT / page).read_text(encoding="utf-8"), page
    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / "tests.yml").read_text())
    assert workflow["jobs"]["tests"]["strategy"]["matrix"]["python"] == [f"3.{minor}" for minor in minors]


def import_in_a_fresh_process():
    """Seconds that `import gelora_viz` takes, and the modules it brings along."""
    program = (
        "import time; start = time.perf_counter(); import gelora_viz; seconds = time.perf_counter() - start\n"
        "import json, sys; print(json.dumps([seconds, sorted(sys.modules)]))"
    )
    printed = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    return json.loads(printed)


def test_importing_the_package_is_quick_and_brings_no_heavy_library():
    runs = [import_in_a_fresh_process() for _ in range(5)]
    assert min(seconds for seconds, _ in runs) < 0.3
    assert not {"torch", "transformers", "pandas"} & set(runs[0][1])


def test_the_version_comes_from_one_place():
    assert PROJECT["dynamic"] == ["version"]
    assert gelora_viz.__version__ == importlib.metadata.version("gelora_viz")


def test_the_citation_names_the_version():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert citation["version"] == gelora_viz.__version__
    assert {reference["url"] for reference in citation["references"]} == {
        PROJECT["urls"]["GeLoRA"],
        PROJECT["urls"]["GenLoRA"],
    }


def test_a_room_imports_only_from_rooms_before_it():
    lint_imports = Path(sys.executable).with_name("lint-imports")
    outcome = subprocess.run([lint_imports, "--no-cache"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert outcome.returncode == 0, outcome.stdout + outcome.stderr


def test_notebooks_are_stored_without_outputs():
    for path in sorted((ROOT / "notebooks").glob("*.ipynb")):
        for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
            if cell["cell_type"] == "code":
                assert not cell["outputs"], f"{path.name} has outputs; run make format"
                assert cell["execution_count"] is None, f"{path.name} has execution counts; run make format"


def test_the_licence_is_the_whole_apache_licence():
    licence = (ROOT / "LICENSE").read_text()
    assert PROJECT["license"] == "Apache-2.0"
    assert "Version 2.0, January 2004" in licence
    assert all(f"   {section}. " in licence for section in range(1, 10))
    assert "END OF TERMS AND CONDITIONS" in licence


@pytest.mark.parametrize(
    "package",
    ["gelora_viz", *(f"gelora_viz.{room}" for room in ("comparison", "ranks", "runs", "training", "widgets"))],
)
def test_names_that_are_imported_on_use_are_all_there_and_others_are_not(package):
    module = importlib.import_module(package)
    assert set(module.__all__) <= set(dir(module))
    assert all(getattr(module, name) is not None for name in module.__all__)
    with pytest.raises(AttributeError, match=f"module '{package}' has no attribute 'nothing'"):
        module.nothing  # noqa: B018 - the look itself
