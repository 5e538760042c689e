"""Locks on files: one holder at a time, gone with the process, and in nobody's way where there are none."""

from __future__ import annotations

import errno
import subprocess
import sys

import pytest

from gelora_viz._locks import FileLock

HOLDS = (
    "import pathlib, sys; from gelora_viz._locks import FileLock\n"
    "lock = FileLock(pathlib.Path(sys.argv[1])); print(lock.acquire(), flush=True); sys.stdin.read()"
)


def test_a_lock_can_be_taken_again_once_it_is_let_go_of(tmp_path):
    lock, other = FileLock(tmp_path / "lock"), FileLock(tmp_path / "lock")
    assert lock.acquire()
    assert not other.acquire()
    lock.release()
    with other:
        assert not lock.acquire()
    assert lock.acquire()


def test_a_killed_process_lets_go_of_its_locks(tmp_path):
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDS, tmp_path / "lock"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    try:
        assert holder.stdout.readline() == b"True\n"
        assert not FileLock(tmp_path / "lock").acquire()
    finally:
        holder.kill()
        holder.communicate()
    assert FileLock(tmp_path / "lock").acquire(wait=True)


@pytest.mark.parametrize("error", [OSError(errno.ENOLCK, "no locks"), NotImplementedError("no flock")], ids=repr)
def test_a_file_system_without_locks_lets_everybody_through(tmp_path, monkeypatch, error):
    lock = FileLock(tmp_path / "lock")

    def acquire(**_):
        raise error

    monkeypatch.setattr(lock._lock, "acquire", acquire)
    assert lock.acquire()
    lock.release()


def test_a_lock_that_cannot_be_made_is_an_error(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match="file"):
        FileLock(tmp_path / "file" / "lock").acquire()
