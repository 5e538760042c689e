"""Commands that show a study: as a report, as figures for a paper, as a page with controls."""

from __future__ import annotations

from typing import Annotated

import typer

from gelora_viz.cli.opening import StudyFolder, open_study
from gelora_viz.plots import check_format, check_venue
from gelora_viz.study import open_record


def report(study: StudyFolder) -> None:
    """Write report.html (one page, no network), figures (PDF, PNG) and tables (CSV, JSON).

    Example: gelora-viz report my-study
    """
    print(open_study(study).report())


def figures(
    study: StudyFolder,
    venue: Annotated[
        str, typer.Option(help="icml2026, neurips2026, iclr2026, acl2024, other bundles of tueplots, or plain.")
    ] = "icml2026",
    suffix: Annotated[str, typer.Option(help=".pdf, .pgf (needs LaTeX), .svg or .png.")] = ".pdf",
) -> None:
    """Write every figure and table for a paper at a venue's size, and a main.tex that shows them all.

    Example: gelora-viz figures my-study --venue icml2026
    """
    check_venue(venue)
    check_format(suffix)
    print(open_study(study).figures(venue, suffix=suffix))


def dashboard(
    study: StudyFolder,
    port: Annotated[
        int, typer.Option(help="Port to listen on; the next free one if it is taken.", min=1, max=65535)
    ] = 8866,
    open_browser: Annotated[bool, typer.Option("--open", help="Open the page in the browser.")] = False,
) -> None:
    """Show a study on one page, with the controls of the notebook: ranks, fine-tunings, comparison.

    For this machine alone (127.0.0.1), and only with the token that is printed with the address. Ctrl-C ends it.

    Example: gelora-viz dashboard my-study --open
    """
    open_record(study)
    from gelora_viz.widgets import serve_dashboard

    serve_dashboard(study, port=port, open_browser=open_browser)
