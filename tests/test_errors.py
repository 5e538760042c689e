"""What a message keeps of another library's exception."""

from __future__ import annotations

import pytest

from gelora_viz.errors import first_line


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (ValueError("one line"), "one line"),
        (ValueError("\n  the cause \nits details"), "the cause "),
        (ValueError(), "ValueError"),
        (RuntimeError(" \n"), "RuntimeError"),
    ],
)
def test_an_exception_is_quoted_by_its_first_line_or_else_by_its_type(error, said):
    assert first_line(error) == said
