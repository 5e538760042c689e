"""What every test can ask for: tiny real models, texts, and a machine that neither downloads nor oversubscribes."""

from __future__ import annotations

import os
import tempfile
import time

# Read when the libraries are imported, so it comes before they are.
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"
os.environ["OMP_WAIT_POLICY"] = "PASSIVE"
# One thread for each of several test processes, which share the cores already.
os.environ["OMP_NUM_THREADS"] = "1" if "PYTEST_XDIST_WORKER" in os.environ else "2"
# Runs of these tests wait for no run of the user's, nor for those of other test processes.
os.environ["GELORA_VIZ_QUEUE"] = tempfile.mkdtemp(prefix="gelora_viz-tests-")

# Whatever these tests launch, in however many generations, is known by this, and ends with them.
if "PYTEST_XDIST_WORKER" not in os.environ:
    os.environ["GELORA_VIZ_TEST_SESSION"] = f"{os.getpid()}-{time.time_ns()}"

import copy
import functools
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import tiny_families
import tiny_models
import torch
import warm_processes

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # Started by a shell in the background, which has them ignore Ctrl-C; what the tests start is to hear it.
    signal.signal(signal.SIGINT, signal.default_int_handler)
torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))

pytest_plugins = ("run_specs", "quick_workers")
"""Fixtures of fine-tunings, which several rooms' tests launch."""

warm_processes.launch_warmly()

LEFTOVERS = pytest.StashKey[subprocess.Popen[bytes]]()
CHROMIUM_NAMES = ("chromium", "chromium-browser", "google-chrome")
LONG_FILES = (
    "test_notebooks.py", "test_demo.py", "test_processes.py", "test_training.py", "test_cli.py", "test_any_model.py",
    "test_survival.py", "test_run.py", "test_experiment.py", "test_recorders.py", "test_smollm2.py",
    "test_documentation.py", "test_dashboard.py", "test_fine_tuning.py",
)  # fmt: skip
SLOW_FILES = (
    *LONG_FILES, "test_capture_cache.py", "test_compare.py", "test_docstrings.py", "test_doctor.py",
    "test_explorer_page.py", "test_figures.py", "test_fine_tuning_state.py", "test_dashboard_state.py",
    "test_comparison_state.py", "test_language.py", "test_methods.py", "test_projection.py", "test_report.py",
    "test_store.py", "test_study.py",
)  # fmt: skip
"""Files whose tests take a second or more on average; `make quick` leaves them out."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip what this machine cannot run; in CI a missing browser is left to fail. Long files come first.

    Several processes share the files in this order, and the longest must not be left for the end.
    """
    items.sort(key=lambda item: LONG_FILES.index(item.path.name) if item.path.name in LONG_FILES else len(LONG_FILES))
    without_gpu = pytest.mark.skip(reason="no CUDA device")
    without_browser = pytest.mark.skip(reason=f"no browser on the PATH ({', '.join(CHROMIUM_NAMES)})")
    for item in items:
        if item.path.name in SLOW_FILES:
            item.add_marker(pytest.mark.slow)
        if item.get_closest_marker("gpu") and not torch.cuda.is_available():
            item.add_marker(without_gpu)
        if item.get_closest_marker("browser") and find_chromium() is None and os.environ.get("CI") != "true":
            item.add_marker(without_browser)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Start processes from nothing where that is what a test is about, before its fixtures start any."""
    warm_processes.WarmPopen.is_on = sys.platform == "linux" and item.get_closest_marker("cold") is None


def pytest_configure(config: pytest.Config) -> None:
    """Start the process that ends what the tests leave running, also where they are stopped or killed themselves."""
    if "PYTEST_XDIST_WORKER" not in os.environ:
        session = os.environ["GELORA_VIZ_TEST_SESSION"]
        command = [sys.executable, str(Path(__file__).with_name("end_leftovers.py")), session]
        # Its standard input ends when this process does, whatever ends that.
        config.stash[LEFTOVERS] = subprocess.Popen(command, stdin=subprocess.PIPE, start_new_session=True)


def pytest_unconfigure(config: pytest.Config) -> None:
    """Leave no process and no queue behind."""
    if LEFTOVERS in config.stash:
        config.stash[LEFTOVERS].communicate()
    shutil.rmtree(os.environ["GELORA_VIZ_QUEUE"], ignore_errors=True)


def find_chromium() -> str | None:
    """The path of the first browser found, or None."""
    return next(filter(None, map(shutil.which, CHROMIUM_NAMES)), None)


@pytest.fixture(scope="session")
def chromium() -> str:
    """The path of a Chromium; a test that asks for it without the `browser` mark fails where there is none."""
    path = find_chromium()
    if path is None:
        pytest.fail(f"no browser on the PATH ({', '.join(CHROMIUM_NAMES)}); install Chromium")
    return path


@pytest.fixture(scope="session")
def tiny() -> Callable[[str], tuple[PreTrainedModel, PreTrainedTokenizerBase]]:
    """`tiny("bert")` gives (model, tokenizer), copied on each call: a test may train, wrap or pad them."""
    build = functools.cache(tiny_models.build)
    return lambda architecture: copy.deepcopy(build(architecture))


@pytest.fixture(scope="session")
def family() -> Callable[[str], tuple[Any, Any]]:
    """`family("gemma3")` gives (model, processor) of a tiny model of that family, copied on each call."""
    build = functools.cache(tiny_families.build_family)
    return lambda name: copy.deepcopy(build(name))


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """`tiny_folder("bert")` gives a checkpoint folder, shared by all tests: read it, do not write to it."""

    @functools.cache
    def save_once(architecture: str) -> Path:
        return tiny_models.save(architecture, tmp_path_factory.mktemp("tiny") / architecture)

    return save_once


@pytest.fixture(scope="session")
def labelled_texts() -> tuple[list[str], list[int]]:
    """480 distinct short English texts and their classes 0, 1, 2: `texts, labels = labelled_texts`."""
    return tiny_models.labelled_texts()


@pytest.fixture(scope="session")
def texts(labelled_texts: tuple[list[str], list[int]]) -> list[str]:
    """The texts of `labelled_texts` alone."""
    return labelled_texts[0]
