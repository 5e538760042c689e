"""Names and functions that are imported when they are first used, so that what is not used is not loaded."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Mapping
from typing import Any


def import_on_use(package: str, place_of: Mapping[str, str]) -> Callable[[str], Any]:
    """What a package's `__getattr__` does (PEP 562): import a name from its module, and keep it.

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


class FunctionsOf:
    """The functions of a module, which is imported when the first of them is called.

    Args:
        module: full name of the module.

    Example:
        >>> FunctionsOf("math").sqrt(9.0)
        3.0
    """

    def __init__(self, module: str) -> None:
        self._module = module

    def __getattr__(self, name: str) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:  # noqa: ANN401 - those of the function
            return getattr(importlib.import_module(self._module), name)(*arguments, **options)

        return call
