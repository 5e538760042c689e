"""The panel ComparisonExplorer without a page: what it shows is what was compared, from whatever form that has."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest

import gelora_viz as gv
from gelora_viz import Study, tabulate_results
from gelora_viz.errors import InputError
from gelora_viz.widgets import ComparisonExplorer


@pytest.fixture
def results(finished_study):
    return Study.open(finished_study).results()


def compared(results):
    """A `Comparison` as `compare` would make it of these runs."""
    frame = tabulate_results(results, baseline="uniform")
    runs = pd.DataFrame([{"run": each.spec.name, "chosen": True, "folder": each.spec.name} for each in results])
    settings = {"seeds": [0], "baseline": "uniform", "confidence": 0.95, "methods": {}}
    return gv.Comparison(frame, runs, settings)


def test_every_method_is_there_with_its_score_its_interval_and_its_verdict(results):
    panel = ComparisonExplorer(results, baseline="uniform")
    frame = tabulate_results(results, baseline="uniform").set_index("run")
    assert [each["name"] for each in panel.methods] == list(frame.index)
    for each in panel.methods:
        row = frame.loc[each["name"]]
        assert (each["parameters"], each["score"], each["low"]) == (
            row["n_parameters"], pytest.approx(row["accuracy"]), pytest.approx(row["ci_low"])
        )  # fmt: skip
        assert row["verdict"] in each["words"]
    assert (panel.first, panel.second) == ("uniform", "gelora")


def test_ranks_by_layer_are_means_over_the_layers_matrices(results):
    panel = ComparisonExplorer(results, baseline="uniform")
    spectrum = next(each.spectrum for each in results if each.spec.name == "gelora").frame
    for layer in panel.layers:
        mine = spectrum[spectrum["module"].str.startswith(layer["name"] + ".")]
        assert layer["effective"][1] == pytest.approx(mine["entropy_rank"].mean(), abs=1e-3)
        assert layer["assigned"] == [2, pytest.approx(mine["rank"].mean(), abs=1e-3)]
    gaps = [layer["effective"][1] - layer["effective"][0] for layer in panel.layers]
    assert ("the same effective rank" if abs(np.mean(gaps)) < 0.005 else f"{abs(np.mean(gaps)):.2f}") in panel.status


def test_runs_frames_and_comparisons_show_the_same(results, finished_study):
    by_runs = ComparisonExplorer(results, baseline="uniform")
    folder = finished_study / "runs"
    by_frame = ComparisonExplorer(tabulate_results(results, baseline="uniform"), folder=folder)
    by_comparison = ComparisonExplorer(compared(results), folder=folder)
    assert by_runs.methods == by_frame.methods == by_comparison.methods
    assert by_runs.layers == by_frame.layers == by_comparison.layers


def test_without_a_folder_it_says_where_ranks_by_layer_are(results):
    panel = ComparisonExplorer(compared(results))
    assert panel.layers == []
    assert "give folder=" in panel.why_no_layers


def test_a_choice_changes_the_layers_and_a_wrong_one_is_said(results):
    panel = ComparisonExplorer(results, baseline="uniform")
    before = panel.layers
    panel.set_state({"first": "frozen"})
    assert "frozen: no effective ranks" in panel.why_no_layers
    assert [layer["effective"][0] for layer in panel.layers] == [None] * len(before)
    panel.set_state({"first": "gelara"})
    assert "did you mean gelora" in panel.error


def test_layers_come_in_the_order_of_their_numbers():
    from gelora_viz.widgets.comparison import _layer_of, _natural

    names = [f"model.layers.{number}.self_attn.q_proj" for number in (10, 2, 0)]
    assert sorted(map(_layer_of, names), key=_natural) == ["model.layers.0", "model.layers.2", "model.layers.10"]
    assert _layer_of("lm_head") == "lm_head"


def test_what_is_no_comparison_is_refused():
    with pytest.raises(InputError, match="lacks run"):
        ComparisonExplorer(pd.DataFrame({"accuracy": [0.5]}))
    with pytest.raises(InputError, match="no finished runs"):
        ComparisonExplorer([])


def test_a_snapshot_needs_no_kernel_and_the_state_stays_small(results):
    panel = ComparisonExplorer(results)
    assert panel.snapshot()._repr_html_().startswith("<svg")
    state = {name: value for name, value in panel.get_state().items() if name not in ("_esm", "_css")}
    assert len(json.dumps(state)) < 10_000
