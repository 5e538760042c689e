"""Names: a module goes by its full name or the end of it, and a misspelt one is answered with the nearest."""

from __future__ import annotations

import pytest

from gelora_viz._names import did_you_mean, goes_by


@pytest.mark.parametrize(
    ("module", "name", "is_called_so"),
    [
        ("encoder.layer.0.query", "encoder.layer.0.query", True),
        ("encoder.layer.0.query", "query", True),
        ("encoder.layer.0.query", "0.query", True),
        ("encoder.layer.10.query", "0.query", False),
        ("encoder.layer.0.subquery", "query", False),
        ("query", "layer.query", False),
    ],
)
def test_a_module_goes_by_its_name_and_its_last_parts(module, name, is_called_so):
    assert goes_by(module, name) == is_called_so


def test_an_unknown_name_is_answered_with_near_ones_or_some_that_there_are():
    assert did_you_mean("qeury", ["output", "query", "value"]) == "did you mean query?"
    assert did_you_mean("?", ["a", "b", "a"]) == "there is a, b"
    assert did_you_mean("?", map(str, range(15))).endswith("10, 11 and 3 more")
    assert did_you_mean("?", map(str, range(15)), most=15).endswith("13, 14")
