"""Results as tables on the terminal."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table
from rich.text import Text

from gelora_viz._results import format_cell
from gelora_viz._text import to_one_line

if TYPE_CHECKING:
    import pandas as pd

    from gelora_viz.comparison import Comparison


def print_results(table: pd.DataFrame) -> None:
    """Print the table of runs, short enough for a terminal."""
    from gelora_viz.comparison import metric_of, shorten_comparison

    seeds = ", ".join(sorted(set(table["seeds"])))
    title = f"Test {metric_of(table)} with 95 % intervals over test texts; seed {seeds}"
    print_table(shorten_comparison(table), title)


def print_comparison(found: Comparison) -> None:
    """Print a comparison over seeds with its notes."""
    from gelora_viz.comparison import shorten_comparison

    print_table(shorten_comparison(found.frame), found.caption)
    for note in found.notes:
        print(to_one_line(f"- {note}"))


def print_table(frame: pd.DataFrame, title: str) -> None:
    """Print a frame, numbers with two decimals."""
    columns = [str(column).replace("_", " ") for column in frame.columns]
    print_rows(columns, ([format_cell(value, 2) for value in row] for row in frame.itertuples(index=False)), title)


def print_rows(columns: Iterable[str], rows: Iterable[Iterable[str]], title: str) -> None:
    """Print a table of texts under a title."""
    table = Table(title=_as_it_is(title), title_justify="left")
    for column in columns:
        table.add_column(_as_it_is(column), overflow="fold")
    for row in rows:
        table.add_row(*map(_as_it_is, row))
    # Wide enough for the table where the output is no terminal: a log must not wrap it at 80 columns.
    console = Console(width=None if sys.stdout.isatty() else 200)
    console.print(table)


def _as_it_is(text: str) -> Text:
    """Text of a file or a data set, in which nothing is markup, an emoji's name or an escape of the terminal."""
    return Text(to_one_line(text))


_MOST_COLUMNS = 6
"""Estimators side by side; with more, there is a row for each."""


def print_dimensions(frame: pd.DataFrame, columns: tuple[str, str, str], title: str) -> None:
    """Print a row per layer and a column per estimator; with many estimators, a row per layer and estimator."""
    cells = frame[["layer", "estimator"]].assign(
        value=[f"{value:.1f} [{low:.1f}, {high:.1f}]" for value, low, high in frame[list(columns)].to_numpy()]
    )
    if cells["estimator"].nunique() > _MOST_COLUMNS:
        table = cells.assign(dropped=frame["n_dropped"])
    else:
        table = cells.pivot_table(index="layer", columns="estimator", values="value", aggfunc="first", sort=False)
        table["dropped"] = frame.groupby("layer", sort=False)["n_dropped"].max()
        table = table.reset_index()
    print_table(table, title)
