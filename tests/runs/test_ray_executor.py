"""Runs on a real Ray cluster of two nodes, on this machine: side by side, cancelled, killed, and sharing a GPU.

The GPU is one in Ray's books only: it hands out shares and numbers, and the runs train on the CPU.
"""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from contextlib import suppress

import pytest
from watching import ENDLESS, PATIENCE, wait_until, wait_until_ended, wait_until_training, worker_of

from gelora_viz import RayExecutor, attach, launch
from gelora_viz.errors import InputError, RunError

needs_ray = pytest.mark.skipif(
    importlib.util.find_spec("ray") is None and os.environ.get("CI") != "true", reason="needs the extra ray"
)
pytestmark = pytest.mark.slow


@pytest.fixture(scope="session")
def cluster():
    """Address of a cluster of two nodes, with a processor each and a GPU on the first; it takes half a minute."""
    os.environ |= {"RAY_USAGE_STATS_ENABLED": "0", "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}  # 0: on 127.0.0.1
    import ray

    nodes = patiently(start_two_nodes)
    yield nodes.address
    ray.shutdown()
    nodes.shutdown()


def start_two_nodes():
    from ray.cluster_utils import Cluster

    node = {"num_cpus": 1, "object_store_memory": 80_000_000, "include_log_monitor": False}
    head = {**node, "num_gpus": 1, "include_dashboard": False, "no_monitor": True}
    nodes = Cluster(initialize_head=True, head_node_args=head)
    nodes.add_node(**node)
    return nodes


def patiently(start):
    """Ray gives a node half a minute to start, which is not always enough on a busy machine."""
    for _ in range(3):
        with suppress(Exception):
            return start()
    return start()


@pytest.fixture(scope="session")
def side_by_side(cluster, spec_of, tmp_path_factory):
    """Name -> run: two that train on a node each, and one that waits for either of them."""
    folder = tmp_path_factory.mktemp("ray")
    executor = RayExecutor(num_gpus=0, address=cluster)
    runs = {
        name: launch(spec_of(name, **ENDLESS), run_dir=folder / name, executor=executor) for name in ("left", "right")
    }
    for run in runs.values():
        wait_until_training(run)
    runs["waiting"] = launch(spec_of("waiting", steps=2), run_dir=folder / "waiting", executor=executor)
    yield runs
    for run in runs.values():
        run.cancel(grace=0)


@needs_ray
def test_two_runs_train_at_once_on_two_nodes_and_the_next_one_waits(side_by_side, spec_of):
    assert [run.status for run in side_by_side.values()] == ["running", "running", "queued"]
    assert attach(side_by_side["waiting"].path).status == "queued"
    with pytest.raises(RunError, match=r"a run is going on in .*waiting; cancel it"):
        launch(spec_of("waiting"), run_dir=side_by_side["waiting"].path)


@needs_ray
def test_a_waiting_run_is_withdrawn_at_once(side_by_side, spec_of, cluster, tmp_path):
    run = launch(spec_of("withdrawn"), run_dir=tmp_path / "run", executor="ray", num_gpus=0, address=cluster)
    assert run.status == "queued"
    run.cancel()
    assert (run.status, run.message) == ("cancelled", "")
    assert not (tmp_path / "run" / "log.txt").exists()


@needs_ray
def test_cancel_of_a_training_run_keeps_the_adapter_and_makes_room_for_the_one_that_waits(side_by_side):
    side_by_side["left"].cancel(grace=60)
    assert (side_by_side["left"].status, side_by_side["left"].message) == ("cancelled", "")
    assert (side_by_side["left"].path / "adapter" / "adapter_model.safetensors").exists()
    assert wait_until_ended(side_by_side["waiting"]).status == "finished"
    assert side_by_side["waiting"].result().numbers["threads"] == 1


@needs_ray
def test_a_killed_worker_is_a_failed_run_and_nothing_else_notices(side_by_side):
    right = side_by_side["right"]
    worker_of(right).kill()
    assert wait_until_ended(right).status == attach(right.path).status == "failed"
    assert "the worker died without reporting why" in right.message


@needs_ray
def test_two_runs_share_a_gpu_and_each_ends_in_its_own_way(side_by_side, spec_of, cluster, tmp_path):
    wait_until_ended(side_by_side["waiting"])
    executor = RayExecutor(num_gpus=0.5, num_cpus=0.5, address=cluster)
    first, second = (
        launch(spec_of(name, **ENDLESS), run_dir=tmp_path / name, executor=executor) for name in ("first", "second")
    )
    workers = [wait_until_training(run) for run in (first, second)]
    assert [worker.environ()["CUDA_VISIBLE_DEVICES"] for worker in workers] == ["0", "0"]
    workers[0].parent().kill()  # the process that Ray runs itself
    assert wait_until_ended(first).status == attach(first.path).status == "failed"
    assert "killed" in first.message or "died" in first.message
    wait_until(lambda: not workers[0].is_running())
    attach(second.path).cancel(grace=60)
    assert second.status == "cancelled"
    assert (second.path / "adapter" / "adapter_model.safetensors").exists()


@needs_ray
def test_what_the_cluster_does_not_have_is_refused_and_the_folder_left_alone(spec_of, cluster, tmp_path):
    with pytest.raises(InputError, match="a run needs 64 CPUs, and the whole Ray cluster has 2; ask for less"):
        launch(spec_of(), run_dir=tmp_path / "run", executor=RayExecutor(num_gpus=0, num_cpus=64, address=cluster))
    assert not (tmp_path / "run").exists()


@needs_ray
def test_without_a_cluster_one_is_started_that_listens_to_this_machine_only(spec_of, tmp_path):
    spec_of("alone", steps=2).save(tmp_path / "spec.json")
    script = (
        "import sys, ray, gelora_viz as gv\n"
        "spec = gv.RunSpec.load(sys.argv[1] + '/spec.json')\n"
        "run = gv.launch(spec, run_dir=sys.argv[1] + '/run', executor='ray')\n"
        "print(ray.get_runtime_context().gcs_address)\n"
        "print(run.wait(progress=False).status, run.message)"
    )
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    told = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path)],
        capture_output=True, text=True, timeout=PATIENCE, check=False, env=environment,
    )  # fmt: skip
    address, status = told.stdout.split("\n")[:2]
    assert address.startswith("127.0.0.1:"), told.stderr
    assert status.strip() == "finished"


def test_without_ray_the_error_names_the_extra(spec_of, tmp_path, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    with pytest.raises(InputError, match=r"Ray is not installed; pip install 'gelora_viz\[ray\]'"):
        launch(spec_of(), run_dir=tmp_path / "run", executor="ray")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(("option", "value"), [("num_gpus", -1), ("num_cpus", float("nan")), ("processes", 0)])
def test_a_share_that_cannot_be_is_refused(option, value):
    if importlib.util.find_spec("ray") is None:
        pytest.skip("needs the extra ray")
    with pytest.raises(InputError, match=f"{option} is {value}; give a"):
        RayExecutor(**{option: value})
