"""Clouds at the edge of what has a dimension: too few texts, grids, flats, unequal widths."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch

from gelora_viz.activations import Activations
from gelora_viz.dimension import estimate_dimension, neighbor_graph
from gelora_viz.errors import InputError


def test_half_precision_tensors_are_points_too():
    assert neighbor_graph(torch.randn(50, 3, dtype=torch.bfloat16), 3).k == 3


def test_differences_of_layers_of_unequal_width():
    rng = np.random.default_rng(0)
    layers = {"a": rng.normal(size=(100, 1000)), "b": rng.normal(size=(100, 1100))}
    name = "lpca_participation_ratio"
    profile = estimate_dimension(Activations.from_arrays(layers), name, progress=False)
    assert len(profile.differences(name)) == 1


def lattice():
    return np.stack(np.meshgrid(*[np.arange(8.0)] * 3), -1).reshape(-1, 3)


def test_a_lattice_is_refused_since_its_neighbors_are_all_equally_far():
    with pytest.raises(InputError, match="layer 'a': twonn: every point's neighbors are equally far away"):
        estimate_dimension(Activations.from_arrays({"a": lattice()}), progress=False)


@pytest.mark.parametrize("n_texts", [1, 2])
def test_tokens_of_too_few_texts_are_refused(n_texts):
    given = Activations.from_arrays({"x": np.random.default_rng(0).normal(size=(600, 4))})
    text = np.arange(600) * n_texts // 600
    provenance = pd.DataFrame({"text": text, "token": "word", "position": 0})
    with pytest.raises(InputError, match="texts"):
        estimate_dimension(Activations(given.points, given.layer_frame, provenance, "tokens"), progress=False)


@pytest.mark.parametrize("rank", [2, 3, 5])
def test_the_largest_gap_of_a_flat_cloud_is_its_rank(rank):
    rng = np.random.default_rng(3)
    points = rng.normal(size=(200, rank)) @ rng.normal(size=(rank, 40))
    frame = estimate_dimension(Activations.from_arrays({"x": points}), "lpca_maxgap", progress=False).frame
    assert frame["dimension"].item() == rank


def test_a_spectrum_does_not_depend_on_which_other_estimators_are_asked_for():
    points = np.random.default_rng(0).normal(size=(200, 5))
    cloud = Activations.from_arrays({"x": np.concatenate([points, points[:40]])})
    name = "lpca_participation_ratio"
    alone = estimate_dimension(cloud, name, progress=False).frame
    beside = estimate_dimension(cloud, ["twonn", name], progress=False).of(name)
    assert alone["n_points"].item() == beside["n_points"].item() == 200
    assert alone["dimension"].item() == beside["dimension"].item()
