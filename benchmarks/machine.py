"""Where a benchmark ran, and the memory it took."""

from __future__ import annotations

import datetime as dt
import importlib.metadata
import os
import platform
from pathlib import Path

import torch


def describe_machine(*packages: str) -> str:
    """Date, processor, threads, Python and the versions of these packages."""
    device = torch.cuda.get_device_name(0) if torch.cuda.is_available() else "no GPU"
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in packages)
    today = dt.datetime.now(tz=dt.UTC).date()
    return (
        f"# {today}, {platform.machine()}, {os.cpu_count()} cores, {torch.get_num_threads()} threads, {device}, "
        f"Python {platform.python_version()}, {versions}"
    )


def peak_mib() -> float:
    """Largest resident memory of this process so far, in MiB.

    From /proc: what getrusage reports begins at the size of the process that started this one.
    """
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM")) / 1024
