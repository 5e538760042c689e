"""A study's figures and tables for a paper: files at a venue's size, and a document that shows them all."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from gelora_viz._results import write_text
from gelora_viz._version import __version__
from gelora_viz.comparison import BASELINE, BETTER, WORSE, metric_of
from gelora_viz.plots import escape_latex, latex_table
from gelora_viz.study.findings import Findings
from gelora_viz.study.pictures import Picture, overview, pictures

_COLUMNS = (
    "run", "n_parameters_kept", "{metric}", "ci_low", "ci_high", "difference", "difference_low", "difference_high",
    "mean_effective_rank",
)  # fmt: skip
_PREAMBLE = r"""\documentclass{article}
\usepackage[margin=1in]{geometry}
\usepackage{booktabs}
\usepackage{graphicx}
\begin{document}
"""


def write_figures(found: Findings, folder: Path, venue: str, *, suffix: str = ".pdf") -> Path:
    r"""Every figure and table of a study for a paper, with a main.tex that shows them all.

    Each figure is as wide as a column of the venue's page, or as its text where panels stand side by side. Tables are
    files of their own, to be taken over with \input; in bold is what differs from the baseline beyond the noise.

    Args:
        found: what is drawn; nothing is computed anew.
        folder: the folder to write into.
        venue: the venue whose sizes and fonts to use (see `Drawing.save`).
        suffix: format of the figures: .pdf, .pgf, .svg or .png; main.tex shows .pdf and .png.

    Returns:
        The folder.

    Raises:
        InputError: for an unknown venue or suffix.
    """
    drawn, about = [*pictures(found), *overview(found)], found.origin
    for each in drawn:
        side_by_side = each.drawing.columns > 1
        each.drawing.save(folder / f"{each.name}{suffix}", venue, "text" if side_by_side else "column", about)
    tables = _tables(found)
    for name, source in tables.items():
        write_text(folder / f"table_{name}.tex", source)
    write_text(folder / "main.tex", _document(about, drawn, list(tables), suffix))
    return folder


def _tables(found: Findings) -> dict[str, str]:
    """Name -> source of a table, of what there is."""
    frames = {} if found.comparison is None else {"runs": found.comparison}
    frames |= {f"comparison_{name}": each.frame for name, each in found.comparisons.items()}
    captions = {f"comparison_{name}": each.caption for name, each in found.comparisons.items()}
    said = "In brackets, 95 % confidence intervals; bold: different from the baseline beyond the noise."
    sources = {}
    for name, frame in frames.items():
        caption = f"{captions.get(name, 'Runs on the test texts')}. {said}"
        sources[name] = _comparison_table(frame, caption, name)
    plans = [plan.by_layer().assign(plan=name) for name, plan in found.plans.items()]
    if plans:
        columns = ["plan", "layer", "rank", "n_parameters", "lower_bound", "difference", "ci_low", "ci_high"]
        sources["plans"] = latex_table(
            pd.concat(plans)[columns], caption="Ranks of every plan, mean over a block's matrices, and the evidence "
            "behind them: the change of intrinsic dimension with its 95 % interval.", label="tab:plans",
        )  # fmt: skip
    return sources


def _comparison_table(frame: pd.DataFrame, caption: str, name: str) -> str:
    metric = metric_of(frame)
    columns = [column.format(metric=metric) for column in _COLUMNS]
    known = [verdict in (BETTER, WORSE) for verdict in frame["verdict"]]
    base = frame["run"][frame["verdict"] == BASELINE].iloc[0]
    return latex_table(
        frame[columns], caption=f"{caption} The baseline is {base}.", label=f"tab:{name}", bold={"difference": known}
    )


def _document(about: str, drawn: list[Picture], tables: list[str], suffix: str) -> str:
    parts = [f"% {escape_latex(about)}, by gelora_viz {__version__}\n{_PREAMBLE}"]
    if suffix in (".pdf", ".png"):
        parts += [
            "\\begin{figure}[p]\n\\centering\n"
            f"\\includegraphics[width=\\linewidth]{{{each.name}{suffix}}}\n"
            f"\\caption{{{escape_latex(f'{each.title}. {each.drawing.caption}'.strip())}}}\n"
            f"\\label{{fig:{each.name}}}\n\\end{{figure}}\n"
            for each in drawn
        ]
    parts += [f"\\input{{table_{name}.tex}}\n" for name in tables]
    return "\n".join([*parts, "\\end{document}", ""])
