"""What all results share: files that are there whole or not at all, and cells of tables."""

from __future__ import annotations

import stat

import numpy as np
import pandas as pd
import pytest

from gelora_viz import _results
from gelora_viz._results import format_cell, frame_html, write_bytes, write_text
from gelora_viz.errors import StudyError


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (None, "–"), (float("nan"), "–"), (np.float32("nan"), "–"), (pd.NaT, "–"),
        (True, "yes"), (np.bool_(False), "no"),
        (1234567, "1,234,567"), (np.int64(0), "0"),
        (0.12345, "0.123"), (-9.9999, "-10.000"), (12.345, "12.3"), (np.float64(0.5), "0.500"),
        ("<b>", "<b>"),
    ],
)  # fmt: skip
def test_a_cell_shows_a_value_as_people_write_it(value, shown):
    assert format_cell(value) == shown


def test_a_table_may_choose_its_decimals_and_escapes_every_text():
    assert format_cell(123.456, 2) == "123.46"
    page = frame_html(pd.DataFrame({"<a>": ["<script>", None], "n": [1.23456, 2.0]}), caption="<c>")
    assert "<script>" not in page
    assert "&lt;a&gt;" in page
    assert "1.235" in page


def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch):
    file = write_text(tmp_path / "new" / "file.txt", "é")
    assert file.read_bytes() == "é".encode()
    monkeypatch.setattr(_results.Path, "replace", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left")))
    with pytest.raises(StudyError, match=r"cannot write .*file\.txt: No space left; free space there"):
        write_bytes(file, b"half")
    assert [path.name for path in file.parent.iterdir()] == ["file.txt"]
    assert file.read_bytes() == "é".encode()


def test_a_written_file_can_be_read_by_whom_the_user_s_umask_lets(tmp_path):
    mode = stat.S_IMODE(write_bytes(tmp_path / "file", b"").stat().st_mode)
    assert mode == 0o666 & ~_results._UMASK
