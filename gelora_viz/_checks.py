"""Arguments that many steps take, checked in one way before anything is done with them.

Each function returns the value as what it stands for, or raises `InputError` with the argument's name, the value and
what to give instead. Neither torch nor numpy is loaded before it is needed.
"""

from __future__ import annotations

import math
import numbers
import os
import reprlib
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from gelora_viz._names import did_you_mean
from gelora_viz.errors import InputError, first_line

if TYPE_CHECKING:
    import torch
    from torch import nn

MADE_BY = {
    "Activations": "gelora_viz.capture(model, tokenizer, texts)",
    "Comparison": "gelora_viz.compare(methods, ...)",
    "DataFrame": "run.metrics of a gelora_viz.Run",
    "DimensionHistory": "recorder.history of a gelora_viz.DimensionRecorder",
    "DimensionProfile": "gelora_viz.estimate_dimension(activations)",
    "DimensionScaling": "gelora_viz.dimension_scaling(activations)",
    "ModelSurvey": "gelora_viz.survey(model, tokenizer)",
    "Projection": "gelora_viz.project(activations, layer)",
    "RunSpec": 'gelora_viz.RunSpec("probe", adapter="frozen")',
    "RankPlan": "gelora_viz.allocate_ranks(profile, model, budget=...)",
    "RunResult": "run.result() of a gelora_viz.Run",
    "SpectrumHistory": "recorder.history of a gelora_viz.SpectrumRecorder",
    "Study": "gelora_viz.Study.open(path)",
    "TextData": "gelora_viz.load_texts(source)",
    "UpdateSpectrum": "gelora_viz.measure_spectra(model)",
}
"""Kind of result -> what gives one."""
_DEVICES = ("cpu", "cuda", "mps", "xpu", "hpu", "xla", "mtia", "maia", "npu", "ipu", "privateuseone")
"""Kinds of devices that torch can compute on."""
_LARGEST = 2**63 - 1
"""Beyond it, whole numbers fit in no array."""
_MOST_LISTED = 5
"""Of more words, a message names the nearest."""
_Kind = TypeVar("_Kind")


class _Short(reprlib.Repr):
    """Values as text, cut where they are long; of what is neither a number, a word nor a list of such, the kind."""

    def __init__(self) -> None:
        super().__init__()
        self.maxstring = self.maxother = self.maxlong = 60

    def repr_instance(self, x: object, level: int) -> str:  # noqa: ARG002 - reprlib's
        """What is neither text nor a container."""
        number = isinstance(x, numbers.Number) or (type(x).__module__ == "numpy" and getattr(x, "ndim", 1) == 0)
        if x is None or number or isinstance(x, bytes):
            return repr(x)
        name = type(x).__name__
        return f"{article(name)} {name}"


def describe(value: object) -> str:
    """A value in an error message: itself where it is short, or else what it is."""
    try:
        return _Short().repr(value)
    except ValueError:  # whole numbers of thousands of digits have no text
        return "a very large number"


def article(name: str) -> str:
    """The article of a name: "an" for Activations."""
    return "an" if name[0] in "AEIOUaeiou" or name == "ndarray" else "a"


def resolve_device(device: str | torch.device | None) -> torch.device:
    """The torch device of this name; None means the CPU.

    Raises:
        InputError: if torch does not know the device, or this machine does not have it.
    """
    if isinstance(device, str) and device.partition(":")[0] not in _DEVICES:
        raise InputError(f'device is {describe(device)}; give a name such as "cpu" or "cuda", or leave it out')
    import torch  # here, so that the command line can check arguments without it

    if isinstance(device, torch.device) and device.type not in _DEVICES:
        raise InputError(f"device {device} computes nothing; give cpu, or leave it out")
    if device is not None and not isinstance(device, str | torch.device):
        raise InputError(f'device is {describe(device)}; give a name such as "cpu" or "cuda", or leave it out')
    try:
        found = torch.device(device or "cpu")
        torch.empty(0, device=found)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise InputError(
            f"device {device!r} cannot be used here ({first_line(error)}); give cpu, or leave it out"
        ) from error
    return found


def check_seed(seed: object, name: str = "seed") -> int:
    """The seed; raises `InputError` unless it is a whole number from 0 to 2**32 - 1, as numpy and torch both take."""
    if isinstance(seed, bool) or not isinstance(seed, numbers.Integral) or not 0 <= int(seed) < 2**32:
        raise InputError(f"{name} is {describe(seed)}; give a whole number from 0 to {2**32 - 1}")
    return int(seed)


def check_flag(flag: object, name: str) -> bool:
    """The truth value, numpy's too; raises `InputError` for anything else, since "no" and "false" count as true."""
    if isinstance(flag, bool):
        return flag
    import numpy as np

    if not isinstance(flag, np.bool_):
        raise InputError(f"{name} is {describe(flag)}; give True or False")
    return bool(flag)


def check_text(text: object, name: str, example: str) -> str:
    """The string; raises `InputError` for anything else and for an empty one, with an `example` of what to give."""
    if not isinstance(text, str) or not text.strip():
        raise InputError(f"{name} is {describe(text)}; give a string, such as {example!r}")
    return text


def check_choice(choice: object, name: str, choices: Collection[str]) -> str:
    """The word; raises `InputError` unless it is one of `choices`, with the nearest ones."""
    if not isinstance(choice, str):
        raise InputError(f"{name} is {describe(choice)}; give a string, such as {next(iter(choices))!r}")
    if choice not in choices:
        *others, last = choices
        all_of_them = f"choose {', '.join(others)} or {last}" if others else f"there is {last}"
        remedy = all_of_them if len(choices) <= _MOST_LISTED else did_you_mean(choice, choices)
        raise InputError(f"unknown {name} {choice!r}; {remedy}")
    return choice


def check_names(names: object, name: str, example: str) -> list[str]:
    """The names as a list, in their order; one string is a list of one.

    Raises:
        InputError: if there are none, or something is no string.
    """
    listed = [names] if isinstance(names, str) else names
    if not isinstance(listed, Iterable) or isinstance(listed, Mapping | bytes):
        raise InputError(f"{name} is {describe(names)}; give a list of names, such as [{example!r}]")
    found = list(listed)
    wrong = [each for each in found if not isinstance(each, str) or not each]
    if wrong or not found:
        said = f"has {describe(wrong[0])}" if wrong else "is empty"
        raise InputError(f"{name} {said}; give names, which are strings, such as [{example!r}]")
    return found


def check_result(result: object, kind: type[_Kind], name: str) -> _Kind:
    """The result; raises `InputError` unless it is of this kind, with what gives one."""
    if not isinstance(result, kind):
        wanted = f"{article(kind.__name__)} {kind.__name__}"
        raise InputError(f"{name} is {describe(result)}; give {wanted}, such as {MADE_BY[kind.__name__]} gives")
    return result


def check_model(model: object, name: str = "model") -> nn.Module:
    """The model; raises `InputError` for anything else, such as a model's name or all that `load_model` returns."""
    from torch import nn

    if not isinstance(model, nn.Module):
        raise InputError(f"{name} is {describe(model)}; give a loaded transformer, such as load_model(...).model")
    return model


def check_path(path: object, name: str) -> Path:
    """The path; raises `InputError` for anything else, and for an empty one, which would mean this very folder."""
    if not isinstance(path, str | os.PathLike) or not os.fspath(path):
        raise InputError(f"{name} is {describe(path)}; give the path of a file or folder")
    return Path(path)


def check_cache(cache: object) -> bool | Path:
    """The folder, or whether to keep anything; raises `InputError` unless it is True, False or a path."""
    if isinstance(cache, bool):
        return cache
    if not isinstance(cache, str | os.PathLike) or not os.fspath(cache):
        raise InputError(f"cache is {describe(cache)}; give True, False, or the path of a folder")
    return Path(cache)


def check_whole(number: object, name: str, *, at_least: int = 1, or_else: str = "") -> int:
    """The whole number, numpy's too, as a plain one.

    Args:
        number: what was given.
        name: the argument's name, for the message.
        at_least: the lowest one allowed.
        or_else: the word that the caller takes instead, for the message.

    Raises:
        InputError: for anything else or less, with its name.
    """
    is_whole = isinstance(number, numbers.Integral) and not isinstance(number, bool)
    if not is_whole or not at_least <= int(number) <= _LARGEST:  # type: ignore[call-overload]
        word = f', or "{or_else}"' if or_else else ""
        raise InputError(f"{name} is {describe(number)}; give a whole number of at least {at_least}{word}")
    return int(number)  # type: ignore[call-overload]


def check_number(
    number: object,
    name: str,
    *,
    above: float | None = None,
    at_least: float | None = None,
    below: float | None = None,
    at_most: float | None = None,
) -> float:
    """The finite real number, numpy's too, as a plain one.

    Args:
        number: what was given.
        name: the argument's name, for the message.
        above: lower end of the range, which is not part of it; or `at_least`, where it is.
        at_least: see `above`.
        below: upper end of the range, which is not part of it; or `at_most`, where it is.
        at_most: see `below`.

    Raises:
        InputError: for anything else, with its name and the range.
    """
    value = _as_float(number)
    if not (
        math.isfinite(value)
        and (above is None or value > above)
        and (at_least is None or value >= at_least)
        and (below is None or value < below)
        and (at_most is None or value <= at_most)
    ):
        wanted = f"give a number {_range(above, at_least, below, at_most)}".rstrip()
        raise InputError(f"{name} is {describe(number)}; {wanted}")
    return value


def _as_float(number: object) -> float:
    """The number; NaN for what is none, or too large for one."""
    if isinstance(number, bool) or not isinstance(number, numbers.Real):
        return math.nan
    try:
        return float(number)
    except OverflowError:
        return math.inf


def _range(above: float | None, at_least: float | None, below: float | None, at_most: float | None) -> str:
    """The range in words."""
    if above is not None and below is not None:
        return f"between {above:g} and {below:g}"
    low = f"above {above:g}" if above is not None else "" if at_least is None else f"of at least {at_least:g}"
    high = f"below {below:g}" if below is not None else "" if at_most is None else f"at most {at_most:g}"
    return f"{low} and {high}" if low and high else low or high


def check_folder(folder: str | os.PathLike[str], what: str) -> Path:
    """The path of a folder that is to be made or opened.

    Args:
        folder: its path.
        what: the folder's role in an error message, such as "study folder".

    Raises:
        InputError: if its name begins with a dash, as that of an option that was taken for a folder does.
    """
    path = check_path(folder, what)
    if path.name.startswith("-"):
        raise InputError(f"{what} {str(folder)!r} reads like an option; give a name that does not begin with a dash")
    return path


def check_confidence(confidence: object) -> float:
    """The level of an interval; raises `InputError` unless it is a number between 0 and 1."""
    return check_number(confidence, "confidence", above=0, below=1)
