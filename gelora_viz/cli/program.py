"""The program: its commands in the order of its help, and how it ends."""

from __future__ import annotations

import logging
import os
import sys
import warnings
from typing import Annotated, NoReturn, TextIO

import typer

from gelora_viz._text import to_one_line
from gelora_viz._version import __version__
from gelora_viz.cli.analysis import allocate, estimators, profile
from gelora_viz.cli.installation import demo, doctor, fetch
from gelora_viz.cli.showing import dashboard, figures, report
from gelora_viz.cli.training import compare, finetune, results, runs
from gelora_viz.errors import GeloraVizError, GeloraVizWarning

INTERRUPTED = 130
"""Exit status after Ctrl-C, as shells have it: 128 + SIGINT."""

app = typer.Typer(
    name="gelora-viz",
    help=(
        "See and test the intrinsic dimension of a transformer's hidden states, and choose LoRA ranks from it.\n\n"
        "Four commands take a study folder from texts to a report: profile, allocate, finetune, report; compare "
        "trains methods over several seeds, and results, figures and dashboard show what has been found. A "
        "finished step is not repeated, an interrupted one starts again. Exit status: 0 done, 2 unusable input (one "
        "line says what is wrong and what to do), 130 interrupted."
    ),
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)


@app.callback(invoke_without_command=True)
def _root(
    version: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Log details.")] = False,
) -> None:
    if version:
        print(f"gelora-viz {__version__}")
        raise typer.Exit
    logging.getLogger("gelora_viz").setLevel(logging.DEBUG if verbose else logging.WARNING)
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)  # PEFT loads it, and it warns of faster kernels


for command in (
    demo, fetch, doctor, profile, estimators, allocate, finetune, results, runs, compare, report, figures, dashboard,
):  # fmt: skip
    app.command()(command)


def main() -> NoReturn:
    """Entry point: our own errors become one line and status 2, an interruption status 130."""
    warnings.showwarning = _show_warning
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # before torch is loaded; `launch` says why
    try:
        code = app(standalone_mode=False)
    except GeloraVizError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        _interrupted()
    except Exception as error:
        status = _usage_error(error)
        if status is None:
            raise
        sys.exit(status)
    # typer swallows Ctrl-C and returns its status; every other return value is a command's own, None.
    if code == INTERRUPTED:
        _interrupted()
    sys.exit(code or 0)


def _show_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    """Print a warning of ours as one line, and those of other libraries as Python does."""
    text = f"note: {to_one_line(str(message))}\n"
    if not issubclass(category, GeloraVizWarning):
        text = warnings.formatwarning(message, category, filename, lineno, line)
    print(text, end="", file=file or sys.stderr)


def _usage_error(error: Exception) -> int | None:
    """Show typer's message about a wrong command or option and return its exit status; None for any other error."""
    if type(error).__name__ == "Abort":
        _interrupted()
    show, code = getattr(error, "show", None), getattr(error, "exit_code", None)
    if show is None or code is None:
        return None
    show()
    return int(code)


def _interrupted() -> NoReturn:
    print("\ninterrupted; finished steps are kept, and the same command goes on from there", file=sys.stderr)
    sys.exit(INTERRUPTED)
