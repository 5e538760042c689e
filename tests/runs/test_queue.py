"""Processes that take turns: one to a slot, the earlier one first, and nobody waits for the dead."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time

import pytest

from gelora_viz.errors import InputError
from gelora_viz.runs.liveness import identify
from gelora_viz.runs.queue import Queue, Slot, own_queue

PATIENCE = 60
WAITS = (
    "import sys; from gelora_viz.runs.queue import Queue\n"
    "slot = Queue.from_json(sys.argv[1]).wait_for_slot()\n"
    "print(*slot.locks, flush=True); sys.stdin.read()"
)


class Waiting:
    """A process that waits for a slot and then holds it."""

    def __init__(self, queue):
        self.ticket = queue.folder / "tickets" / f"{queue.ticket}.json"
        self.process = subprocess.Popen(
            [sys.executable, "-c", WAITS, queue.to_json()], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        queue.draw(identify(self.process.pid))

    def slot(self):
        return self.process.stdout.readline().split()

    def has_slot(self):
        return not self.ticket.exists()

    def kill(self):
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()


@pytest.fixture
def wait_for(tmp_path):
    """`wait_for(Slot(("a",)))`: a process that waits for one of these slots."""
    started = []

    def start(*slots):
        started.append(Waiting(Queue.join(tmp_path, slots)))
        return started[-1]

    yield start
    for each in started:
        each.kill()
        each.process.stdin.close()
        each.process.stdout.close()


ONE = Slot(("one",))
TWO = Slot(("two",))


def test_a_slot_is_one_process_s_until_that_dies_however_it_does(wait_for):
    first, second = wait_for(ONE), wait_for(ONE)
    assert first.slot() == ["one"]
    time.sleep(1.0)
    assert not second.has_slot()
    first.kill()
    assert second.slot() == ["one"]
    assert second.has_slot()


def test_those_who_wait_come_in_the_order_of_their_tickets_and_the_dead_are_passed_over(wait_for):
    first = wait_for(ONE)
    assert first.slot() == ["one"]
    second, third, fourth = wait_for(ONE), wait_for(ONE), wait_for(ONE)
    second.kill()
    first.kill()
    assert third.slot() == ["one"]
    assert not second.ticket.exists()
    assert not fourth.has_slot()


def test_who_waits_for_another_slot_is_in_nobody_s_way(wait_for):
    assert wait_for(ONE).slot() == ["one"]
    wait_for(ONE)
    assert wait_for(TWO).slot() == ["two"]
    assert not wait_for(ONE, TWO).has_slot()


def test_a_slot_of_several_is_had_as_a_whole_and_later_ones_do_not_keep_it_away(wait_for):
    holds_one = wait_for(ONE)
    assert holds_one.slot() == ["one"]
    wants_both, wants_two = wait_for(Slot(("one", "two"))), wait_for(TWO)
    time.sleep(1.0)
    assert not wants_both.has_slot()
    assert not wants_two.has_slot()
    holds_one.kill()
    assert wants_both.slot() == ["one", "two"]
    assert not wants_two.has_slot()


def test_a_place_in_the_queue_survives_the_command_line(tmp_path):
    queue = Queue.join(tmp_path / "with space", [Slot(("gpu-MIG-1/0", "gpu-1"), "MIG-1/0,1"), ONE])
    assert Queue.from_json(queue.to_json()) == queue
    assert Queue.join(tmp_path, [ONE]).ticket > queue.ticket
    assert queue._take() == queue.slots[0]  # held by this process from now on
    assert Queue.join(queue.folder, queue.slots[:1])._take() is None


def test_whoever_waits_loads_nothing_heavy():
    program = (
        "import json, sys, psutil; import gelora_viz.training.worker, gelora_viz.runs.dispatcher\n"
        "print(json.dumps([psutil.Process().memory_info().rss, sorted(sys.modules)]))"
    )
    printed = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    n_bytes, modules = json.loads(printed)
    assert not {"torch", "numpy", "pandas", "transformers", "peft"} & set(modules)
    assert n_bytes < 40e6


# Whose queue


def test_the_queue_is_the_user_s_own_and_can_be_chosen(tmp_path, monkeypatch):
    monkeypatch.setenv("GELORA_VIZ_QUEUE", str(tmp_path / "chosen"))
    assert own_queue() == tmp_path / "chosen"
    assert own_queue().is_dir()
    monkeypatch.delenv("GELORA_VIZ_QUEUE")
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    assert own_queue().name == f"gelora_viz-{os.getuid()}"
    assert own_queue().stat().st_mode & 0o077 == 0
    monkeypatch.setenv("SLURM_JOB_ID", "17")
    assert own_queue().name == f"gelora_viz-{os.getuid()}-slurm-17"


def test_a_queue_that_somebody_else_has_made_or_that_cannot_be_is_refused(tmp_path, monkeypatch):
    monkeypatch.setenv("GELORA_VIZ_QUEUE", str(tmp_path / "file" / "queue"))
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match=r"cannot make .*queue: Not a directory; set GELORA_VIZ_QUEUE to a folder"):
        own_queue()
    monkeypatch.delenv("GELORA_VIZ_QUEUE")
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setattr("os.getuid", lambda: 12345)
    with pytest.raises(InputError, match="gelora_viz-12345 belongs to another user; set GELORA_VIZ_QUEUE"):
        own_queue()
