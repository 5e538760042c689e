"""Values that no argument of a kind can have, and what a message about one of them says."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np
import pytest
import torch

from gelora_viz._checks import describe
from gelora_viz.errors import GeloraVizError

ARRAY = np.ones((40, 3))
NAN, INF = math.nan, math.inf
COUNT = ("3", 2.5, True, 0, -1, NAN, [3], ARRAY, 10**30)
COUNT_FROM_ZERO = ("3", 2.5, True, None, -1, NAN, [3], 10**30)
SEED = ("x", -1, 1.5, True, None, 2**32, NAN)
FLAG = ("no", "false", "", 1, 0, None, [True], ARRAY)
SHARE = ("0.9", 95, 0, 1, -0.5, True, None, NAN, INF, 10**400, [0.9])
POSITIVE = ("x", -1, 0, True, NAN, INF, 10**400, [2.0])
DEVICE = ("cudaa", "", 5, True, ["cpu"], "meta")
NAME = (None, 5, "", ["twonn"], {"twonn"}, b"twonn", "banana")
WORD = (5, ["text"], b"text", "")
NAMES = (5, b"x", [], [5], [None], [["x"]], {}, {"x": 1}, ["banana"], "banana")
STACK = (5, "", ["x"], "banana")
SURVEY = ("x", 5, ARRAY)
PATH = (5, "", b"", ["x"])
MODEL = (None, "minilm", 5, ARRAY, [])
ACTIVATIONS = (None, "x", ARRAY, {"x": ARRAY}, torch.ones(40, 3))
TEXTS = (None, 5, "a text", b"a text", [], [5], ["a", None], [""], {"a text", "another"}, {"a": "text"})

ALSO_SAID = {
    "adapter_name": ["adapter"], "arrays": ["layer_"], "baseline": ["no_run", "no_method"],
    "compared": ["results", "no_finished"], "data": ["source"], "estimator": ["estimate"],
    "methods": ["plan_", "run_name", "adapter"], "modules": ["update"], "name": ["plan_"],
    "path": ["study", "folder"], "readings": ["plan"], "results": ["no_finished"], "where": ["module_or_layer"],
}  # fmt: skip
"""Argument -> what a message may say in its place."""


def check_refusals(
    function: Callable[..., Any], arguments: Mapping[str, Any], argument: str, values: Iterable[object]
) -> None:
    """Fail unless a function refuses each value by the argument's name and with a remedy, in one line.

    Args:
        function: the call.
        arguments: what it can be called with, but for the argument in question.
        argument: name of that argument.
        values: what it must refuse.
    """
    words = (argument.rstrip("s"), *ALSO_SAID.get(argument, ()))
    for value in values:
        try:
            result = function(**{**arguments, argument: value})
        except GeloraVizError as error:
            message = str(error)
            assert any(word in message.replace(" ", "_").lower() for word in words), message
            assert ";" in message, message
            assert "\n" not in message, message
        else:
            pytest.fail(f"{argument} = {describe(value)} was taken, and gave {result!r}")
