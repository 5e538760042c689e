"""Tables for papers: escaped, aligned, with intervals beside their values."""

import numpy as np
import pandas as pd
import pytest
from plot_results import make_comparison

from gelora_viz.errors import InputError
from gelora_viz.plots import latex_table
from gelora_viz.plots.latex import escape_latex


def rows(frame):
    lines = latex_table(frame, caption="Runs", label="tab:runs").splitlines()
    return lines[lines.index(r"\toprule") + 1], *lines[lines.index(r"\midrule") + 1 : lines.index(r"\bottomrule")]


def test_a_table_is_a_booktabs_float_with_caption_and_label():
    table = latex_table(make_comparison(), caption="All runs, 95% intervals", label="tab:runs")
    assert table.startswith("\\begin{table}[t]\n")
    assert r"\caption{All runs, 95\% intervals}" in table
    assert r"\label{tab:runs}" in table
    assert table.index(r"\toprule") < table.index(r"\midrule") < table.index(r"\bottomrule")
    assert table.endswith("\\end{table}\n")


def test_intervals_stand_beside_their_values():
    heading, first, *_ = rows(make_comparison()[["run", "accuracy", "ci_low", "ci_high"]])
    assert heading == r"run & accuracy \\"
    assert first == r"gelora & 0.871 [0.850, 0.889] \\"


def test_named_intervals_join_the_column_of_that_name():
    heading, *_, last = rows(make_comparison()[["run", "difference", "difference_low", "difference_high"]])
    assert heading == r"run & difference \\"
    assert last == r"adalora & $-$0.019 [$-$0.034, $-$0.004] \\"


def test_an_interval_belongs_to_the_estimate_before_the_standard_error():
    frame = pd.DataFrame(
        {"dimension": [46.1], "std_error": [1.6], "ci_low": [43.0], "ci_high": [49.2], "n_points": [2000]}
    )
    heading, row = rows(frame)
    assert heading == r"dimension & std error & n points \\"
    assert row == r"46.1 [43.0, 49.2] & 1.600 & 2\,000 \\"


def test_unknown_values_are_dashes():
    frame = pd.DataFrame(
        {"run": ["a", None], "accuracy": [0.5, np.nan], "ci_low": [np.nan, np.nan], "ci_high": [0.6, np.nan]}
    )
    assert rows(frame)[1:] == (r"a & 0.500 \\", r"-- & -- \\")


def test_numbers_are_flush_right_and_words_flush_left():
    assert r"\begin{tabular}{llrrrlrrr}" in latex_table(make_comparison(), caption="", label="a")


def test_a_negative_number_that_rounds_to_zero_has_no_sign():
    assert rows(pd.DataFrame({"difference": [-0.0001, 0.5]}))[1] == r"0.000 \\"


def test_yes_and_no():
    assert rows(pd.DataFrame({"within_noise": [True, False]})) == (r"within noise \\", r"yes \\", r"no \\")


@pytest.mark.parametrize(
    ("text", "source"),
    [
        ("a_b", r"a\_b"),
        ("100% & #1 $5", r"100\% \& \#1 \$5"),
        (r"\input{secret}", r"\textbackslash{}input\{secret\}"),
        ("x^2~<y>|", r"x\textasciicircum{}2\textasciitilde{}\textless{}y\textgreater{}\textbar{}"),
        ("two\nlines", "two lines"),
    ],
)
def test_text_cannot_become_a_command_a_comment_or_mathematics(text, source):
    assert escape_latex(text) == source


def test_a_label_that_latex_would_not_take_is_refused():
    with pytest.raises(InputError, match="label 'a}b' has characters"):
        latex_table(make_comparison(), caption="", label="a}b")


def test_an_empty_table_is_refused():
    with pytest.raises(InputError, match="the table has no rows"):
        latex_table(make_comparison().iloc[:0], caption="", label="a")
