"""Names of a package that are imported when they are first used (PEP 562), so that what is not used is not loaded."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Mapping
from typing import Any


def import_on_use(package: str, place_of: Mapping[str, str]) -> Callable[[str], Any]:
    """What a package's `__getattr__` does: import a name from its module, and keep it.

    Args:
        package: full name of the package, which is being imported.
        place_of: name -> the module below the package that has it.
    """

    def find(name: str) -> Any:  # noqa: ANN401 - whatever has that name
        if name not in place_of:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        value = getattr(importlib.import_module(f"{package}.{place_of[name]}"), name)
        setattr(sys.modules[package], name, value)
        return value

    return find
