"""The demo, as a newcomer runs it: one command, no network, a minute on two cores."""

from __future__ import annotations

import os
import subprocess
import sys

import pandas as pd
import pytest

from gelora_viz import run_demo

DEAD_PROXY = "http://127.0.0.1:9"


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_demo_runs_offline_to_its_report_and_a_second_time_trains_nothing(tmp_path):
    folder = tmp_path / "demo"
    environment = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
    environment |= {"HTTPS_PROXY": DEAD_PROXY, "HTTP_PROXY": DEAD_PROXY, "HF_HOME": str(tmp_path / "empty")}
    command = [sys.executable, "-m", "gelora_viz.cli", "demo", "--quick", "--quiet", "--study", str(folder)]

    first = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert first.returncode == 0, first.stderr
    assert "Traceback" not in first.stderr
    assert "Test accuracy with 95 % intervals" in first.stdout
    assert str(folder / "report.html") in first.stdout
    comparison = pd.read_csv(folder / "tables" / "comparison.csv").set_index("run")
    assert comparison.index.tolist() == ["frozen", "uniform", "gelora"]
    for name, row in comparison.iterrows():
        assert name in first.stdout
        assert f"{row.accuracy:.3f} [{row.ci_low:.3f}, {row.ci_high:.3f}]" in first.stdout
    assert comparison.loc["gelora", "n_parameters"] <= comparison.loc["uniform", "n_parameters"] == 36_864
    assert (folder / "report.html").stat().st_size > 100_000
    assert (folder / "figures" / "rank_profile_gelora.pdf").exists()
    assert (folder / "figures" / "comparison.png").exists()

    results = {file: file.stat().st_mtime_ns for file in folder.glob("runs/*/result.json")}
    assert len(results) == 3
    again = run_demo(folder, quick=True, progress=False)
    assert {file: file.stat().st_mtime_ns for file in folder.glob("runs/*/result.json")} == results
    assert again["accuracy"].tolist() == pytest.approx(comparison["accuracy"].tolist())
