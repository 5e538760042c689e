"""What is handed to users: the wheel holds the package and nothing else, and the sdist gives the same wheel."""

from __future__ import annotations

import subprocess
import sys
import tarfile
import zipfile
from email.parser import Parser
from pathlib import Path

import pytest

from gelora_viz import __version__

ROOT = Path(__file__).parents[1]


def build(source, folder, *what):
    """Build with the tools that are installed, so without a network."""
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", folder, *what, source]
    outcome = subprocess.run(command, capture_output=True, text=True, check=False)
    assert outcome.returncode == 0, outcome.stdout + outcome.stderr
    return sorted(folder.iterdir())


def contents(wheel):
    """{name: bytes} of the wheel."""
    with zipfile.ZipFile(wheel) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """The wheel made from the source tree."""
    (built,) = build(ROOT, tmp_path_factory.mktemp("wheel"), "--wheel")
    return built


@pytest.fixture(scope="module")
def sdist(tmp_path_factory):
    """The sdist made from the source tree."""
    (built,) = build(ROOT, tmp_path_factory.mktemp("sdist"), "--sdist")
    return built


def test_the_wheel_holds_every_file_of_the_package_and_its_metadata_and_nothing_else(wheel):
    files = [path for path in (ROOT / "gelora_viz").rglob("*") if path.is_file() and "__pycache__" not in path.parts]
    of_the_package = {path.relative_to(ROOT).as_posix(): path.read_bytes() for path in files}
    assert {
        "gelora_viz/py.typed",
        "gelora_viz/study/report.html.j2",
        "gelora_viz/widgets/static/panel.js",
        "gelora_viz/widgets/static/panel.css",
    } <= of_the_package.keys()
    metadata = f"gelora_viz-{__version__}.dist-info"
    held = contents(wheel)
    assert {name: held[name] for name in held if not name.startswith(metadata)} == of_the_package
    assert {name.removeprefix(f"{metadata}/") for name in held if name.startswith(metadata)} == {
        "METADATA", "WHEEL", "RECORD", "entry_points.txt", "licenses/LICENSE",
    }  # fmt: skip


def test_the_wheel_says_its_version_in_its_name_and_metadata(wheel):
    assert wheel.name == f"gelora_viz-{__version__}-py3-none-any.whl"
    metadata = Parser().parsestr(contents(wheel)[f"gelora_viz-{__version__}.dist-info/METADATA"].decode())
    assert (metadata["Name"], metadata["Version"]) == ("gelora_viz", __version__)
    assert metadata["License-Expression"] == "Apache-2.0"


def test_the_sdist_gives_the_same_wheel(sdist, wheel, tmp_path):
    with tarfile.open(sdist) as archive:
        archive.extractall(tmp_path / "unpacked", filter="data")
    (unpacked,) = (tmp_path / "unpacked").iterdir()
    assert unpacked.name == f"gelora_viz-{__version__}"
    (again,) = build(unpacked, tmp_path / "built", "--wheel")
    assert again.name == wheel.name
    assert contents(again) == contents(wheel)


def test_the_sdist_holds_what_its_tests_need(sdist):
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert {
        "pyproject.toml", "constraints.txt", "environment.yml", "CITATION.cff", "LICENSE", "Makefile", "README.md",
        "tests/conftest.py", "tests/test_packaging.py", "notebooks/01_quickstart.ipynb", "docs/ranks.md",
        "zensical.toml", "SECURITY.md", ".github/workflows/tests.yml", ".pre-commit-config.yaml",
    } <= names  # fmt: skip
    assert not any(name.startswith((".venv", "studies", "site", "dist")) for name in names)
