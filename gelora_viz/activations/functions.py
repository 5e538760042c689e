"""What a pooling function computes, written out: equal texts, equal functions."""

from __future__ import annotations

import dis
import hashlib
import types
from collections.abc import Iterator

import numpy as np
import torch

_PLAIN = (type(None), bool, int, float, complex, str, bytes, type(...), slice, torch.dtype, torch.device, np.generic)


class UnreadableError(Exception):
    """Raised with the name of what a function depends on and nobody can write out."""


def write_out(function: object) -> str:
    """Code, constants, names, defaults, closure and globals of a function, and of those it calls in its module.

    Classes and modules from elsewhere are named; functions from elsewhere are written out without their globals,
    which are taken to stay as they are.

    Raises:
        UnreadableError: where it depends on an object whose repr need not say what it holds.

    Example:
        >>> write_out(lambda hidden, mask: hidden.mean(1)) == write_out(lambda hidden, mask: hidden.sum(1))
        False
    """
    if not isinstance(function, types.FunctionType):
        raise UnreadableError(type(function).__qualname__)
    return _function(function, function, {id(function)})


def _function(function: types.FunctionType, owner: types.FunctionType, seen: set[int]) -> str:
    cells = dict(zip(function.__code__.co_freevars, function.__closure__ or (), strict=True))
    depends_on: list[tuple[str, object]] = [
        *((name, cell.cell_contents) for name, cell in cells.items() if _is_filled(cell)),
        ("defaults", function.__defaults__),
        ("defaults by name", function.__kwdefaults__),
    ]
    if function.__globals__ is owner.__globals__:
        names = [name for name in _globals(function.__code__) if name in function.__globals__]
        depends_on += [(name, function.__globals__[name]) for name in names]
    written = [f"{name}={_value(name, value, owner, seen)}" for name, value in depends_on]
    return f"({function.__module__} {_code(function.__code__)}; {'; '.join(written)})"


def _code(code: types.CodeType) -> str:
    constants = [_code(each) if isinstance(each, types.CodeType) else _constant(each) for each in code.co_consts]
    return f"{code.co_code.hex()} {code.co_names} {constants}"


def _constant(value: object) -> str:
    if isinstance(value, frozenset):
        return f"frozenset{sorted(map(repr, value))}"  # whose own order changes from process to process
    return repr(value)


def _globals(code: types.CodeType) -> Iterator[str]:
    """Names that the code, or code inside it, reads from its module."""
    yield from sorted({str(each.argval) for each in dis.get_instructions(code) if each.opname == "LOAD_GLOBAL"})
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _globals(constant)


def _is_filled(cell: types.CellType) -> bool:
    try:
        return cell.cell_contents is not cell
    except ValueError:  # a variable that has no value yet
        return False


def _value(name: str, value: object, owner: types.FunctionType, seen: set[int]) -> str:
    """The value of a variable that `owner`, or a function that it calls, reads."""
    if isinstance(value, _PLAIN):
        return repr(value)
    if id(value) in seen:
        return "again"  # a function that calls itself
    inner = {*seen, id(value)}
    match value:
        case torch.Tensor() if value.layout == torch.strided and not value.is_meta:
            content = value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()
            return f"tensor {value.dtype} {tuple(value.shape)} {hashlib.blake2b(content).hexdigest()}"
        case np.ndarray() if not value.dtype.hasobject:
            return f"array {value.dtype} {value.shape} {hashlib.blake2b(value.tobytes()).hexdigest()}"
        case list() | tuple():
            return f"{type(value).__name__}[{', '.join(_value(name, each, owner, inner) for each in value)}]"
        case set() | frozenset():
            return f"set{sorted(_value(name, each, owner, inner) for each in value)}"
        case dict():
            return f"dict[{', '.join(_value(name, pair, owner, inner) for pair in value.items())}]"
        case types.FunctionType():
            return _function(value, owner, inner)
        case types.ModuleType():
            return value.__name__
        case types.BuiltinFunctionType() if isinstance(value.__self__, types.ModuleType | type | None):
            return f"{value.__module__}.{value.__qualname__}"
        case type() if value.__module__ != owner.__module__:
            return f"{value.__module__}.{value.__qualname__}"
    raise UnreadableError(f"{name}, a {type(value).__qualname__}")
