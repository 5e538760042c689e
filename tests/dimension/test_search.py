"""The search is exact whatever the blocks, the threads, the device, and the rounding of float32 products.

The source of truth is scipy's full distance matrix in float64.
"""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from scipy.spatial.distance import cdist
from threadpoolctl import threadpool_info

from gelora_viz.dimension import _search as search
from gelora_viz.dimension import neighbor_graph
from gelora_viz.errors import InputError

CPU = torch.device("cpu")


def curved(n_points=400, seed=0):
    rng = np.random.default_rng(seed)
    flat = rng.normal(size=(n_points, 4))
    return np.tanh(flat @ rng.normal(size=(4, 12))) + 0.02 * rng.normal(size=(n_points, 12))


def tight_clusters(n_points=600):
    """Clusters a million times narrower than they are apart: float32 products see one point in each."""
    rng = np.random.default_rng(1)
    return 1000 * rng.normal(size=(6, 20))[rng.integers(0, 6, n_points)] + 1e-3 * rng.normal(size=(n_points, 20))


def brute_force(points, k):
    distances = cdist(points, points)
    np.fill_diagonal(distances, np.inf)
    indices = np.argsort(distances, axis=1, kind="stable")[:, :k]
    return np.take_along_axis(distances, indices, axis=1), indices


def assert_exact(found, points, k):
    distances, indices = brute_force(points, k)
    np.testing.assert_allclose(found[0], distances, rtol=1e-9)
    np.testing.assert_array_equal(found[1], indices)


@pytest.mark.parametrize("block", [7, 64, 400, 1024])
@pytest.mark.parametrize("threads", [1, 3])
def test_blocks_and_threads_change_nothing(monkeypatch, block, threads):
    monkeypatch.setattr(search, "_BLOCK", block)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        found = search.nearest(curved(), 20, CPU)
    finally:
        torch.set_num_threads(before)
    assert_exact(found, curved(), 20)


@pytest.mark.parametrize("k", [2, 20])
def test_neighbors_that_rounding_hides_are_found_in_double_precision(k):
    points = tight_clusters()
    assert_exact(search.nearest(points, k, CPU), points, k)


def test_without_the_second_look_they_would_be_missed(monkeypatch):
    """The control: the case above needs it."""
    monkeypatch.setattr(search, "ROUNDING", -np.inf)
    points = tight_clusters()
    _, indices = search.nearest(points, 2, CPU)
    assert (indices != brute_force(points, 2)[1]).mean() > 0.1


def test_well_spread_points_need_no_second_look(monkeypatch):
    monkeypatch.setattr(search, "_search_in_double", None)
    assert_exact(search.nearest(curved(), 20, CPU), curved(), 20)


def test_equally_far_neighbors_are_ordered_by_index_and_their_distances_are_right():
    points = np.stack(np.meshgrid(*[np.arange(6.0)] * 3), -1).reshape(-1, 3)
    distances, indices = search.nearest(points, 10, CPU)
    np.testing.assert_allclose(distances, brute_force(points, 10)[0], rtol=1e-12)
    tied = np.diff(distances, axis=1) == 0
    assert tied.any()
    assert (np.diff(indices, axis=1)[tied] > 0).all()


@pytest.mark.parametrize("log_scale", [-100, -22, 19, 100])
def test_coordinates_beyond_single_precision_lose_no_neighbor(log_scale):
    points = curved() * 10.0**log_scale
    distances, indices = search.nearest(points, 20, CPU)
    np.testing.assert_array_equal(indices, brute_force(curved(), 20)[1])
    np.testing.assert_allclose(distances / 10.0**log_scale, brute_force(curved(), 20)[0], rtol=1e-9)


def test_searches_in_two_threads_leave_the_number_of_blas_threads_as_it_was():
    def blas_threads():
        return [each["num_threads"] for each in threadpool_info() if each["user_api"] == "blas"]

    before = blas_threads()
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda seed: search.nearest(curved(seed=seed), 5, CPU), range(8)))
    assert blas_threads() == before


# The accelerator's path, run on the CPU


@pytest.fixture
def accelerator(monkeypatch):
    """A device that is not called "cpu" and computes there: torch has no other here."""

    class Device:
        type = "accelerator"

        def __str__(self):
            return "accelerator"

    as_tensor, arange = torch.as_tensor, torch.arange
    monkeypatch.setattr(torch, "as_tensor", lambda data, **_device: as_tensor(data))
    monkeypatch.setattr(torch, "arange", lambda *bounds, **_device: arange(*bounds))
    return Device()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("product_bytes", [2**14, 2**29])
def test_the_accelerators_neighbors_are_the_processors(monkeypatch, accelerator, dtype, product_bytes):
    monkeypatch.setattr(search, "_PRODUCT_BYTES", product_bytes)
    points = (curved() + 3000.0 * (np.arange(12) == 5)).astype(dtype)
    distances, indices = search.nearest(points, 20, accelerator)
    expected, same = search.nearest(points, 20, CPU)
    np.testing.assert_allclose(distances, expected, rtol=1e-12)
    np.testing.assert_array_equal(indices, same)


def test_tf32_is_off_during_the_search_and_as_before_after_it(monkeypatch, accelerator):
    seen = []
    differences = search._differences

    def watched(*args):
        seen.append(torch.get_float32_matmul_precision())
        return differences(*args)

    monkeypatch.setattr(search, "_differences", watched)
    torch.set_float32_matmul_precision("high")
    try:
        search.nearest(curved(), 5, accelerator)
        assert (set(seen), torch.get_float32_matmul_precision()) == ({"highest"}, "high")
    finally:
        torch.set_float32_matmul_precision("highest")


def test_out_of_memory_makes_the_blocks_smaller(monkeypatch, accelerator, caplog):
    tried = []
    blocks = search._search_blocks

    def short_of_memory(device, points, centered, n_candidates, block_bytes):
        tried.append(block_bytes)
        if block_bytes > 2**26:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return blocks(device, points, centered, n_candidates, block_bytes)

    monkeypatch.setattr(search, "_search_blocks", short_of_memory)
    assert_exact(search.nearest(curved(), 5, accelerator), curved(), 5)
    assert tried == [2**29, 2**27, 2**25]
    assert "out of memory on accelerator" in caplog.text


def test_points_that_do_not_fit_are_refused_in_words(monkeypatch, accelerator):
    def too_large(*_args):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(search, "_search_blocks", too_large)
    with pytest.raises(InputError, match="accelerator has too little memory for 400 points of 12 features"):
        search.nearest(curved(), 5, accelerator)


def test_a_device_that_is_not_there_is_refused_before_the_search():
    if torch.cuda.is_available():
        pytest.skip("this machine has one")
    with pytest.raises(InputError, match="cuda"):
        neighbor_graph(curved(), 5, device="cuda")
