"""What the functions of this room are given: a result of the right kind, or an error that names the right one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

from gelora_viz._checks import MADE_BY, article
from gelora_viz.errors import InputError

_Kind = TypeVar("_Kind")


def check_kind(result: object, kind: type[object], function: str) -> None:
    """Raise `InputError` unless a function of `plots` was given the kind of result that it draws."""
    if not isinstance(result, kind):
        wanted = _with_article(kind.__name__)
        raise InputError(f"{function} takes {wanted}, not {_kind_of(result)}; {_remedy(kind)}")


def check_kinds(results: Mapping[str, _Kind], kind: type[_Kind], function: str, example: str) -> None:
    """Raise `InputError` unless a function of `plots` was given results of one kind by name; `example` shows how."""
    name = kind.__name__
    if not isinstance(results, Mapping):
        raise InputError(
            f"{function} takes a mapping whose values are of type {name}, not {_kind_of(results)}; give {example}"
        )
    for key, result in results.items():
        if not isinstance(result, kind):
            raise InputError(
                f"{function} takes {_with_article(name)} under each name, not {_kind_of(result)} under {key!r}; "
                f"{_remedy(kind)}"
            )


def _kind_of(result: object) -> str:
    return "None" if result is None else _with_article(type(result).__name__)


def _with_article(name: str) -> str:
    return f"{article(name)} {name}"


def _remedy(kind: type[object]) -> str:
    return f"{MADE_BY[kind.__name__]} gives one"
