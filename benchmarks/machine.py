"""One line that says where a benchmark ran."""

from __future__ import annotations

import datetime as dt
import importlib.metadata
import os
import platform

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
