"""What several commands take, and the study that they open."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gelora_viz._checks import check_folder
from gelora_viz.errors import GeloraVizError, InputError
from gelora_viz.study import open_record

if TYPE_CHECKING:
    from gelora_viz.study import Study


def read_folder(text: str) -> Path:
    """The folder that was named; an empty name, which would be this very folder, is refused."""
    try:
        return check_folder(text, "study folder")
    except InputError as error:  # which is a ValueError, and of those typer makes several lines
        raise GeloraVizError(str(error)) from error


StudyFolder = Annotated[
    Path,
    typer.Argument(
        help="Folder of the study; created by the first step.",
        show_default=False,
        parser=read_folder,
        metavar="STUDY",
    ),
]
Seed = Annotated[int, typer.Option(help="Seed of everything random in this step.")]
TrustRemoteCode = Annotated[
    bool, typer.Option("--trust-remote-code", help="Run Python code that comes with the model; read it first.")
]
Replace = Annotated[
    bool,
    typer.Option("--replace", help="Replace a finished one of the same name, which otherwise is kept."),
]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress bars.")]


def open_study(path: Path, *, trust_remote_code: bool = False) -> Study:
    """Open the study in a folder. A missing study is reported before torch is loaded, which takes seconds."""
    open_record(path)
    from gelora_viz.study import Study

    quieten_libraries()
    return Study.open(path, trust_remote_code=trust_remote_code)


def quieten_libraries() -> None:
    """Hide the progress bars and warnings of other libraries."""
    from transformers.utils import logging as transformers_logging

    transformers_logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    logging.getLogger("huggingface_hub").setLevel(
        logging.ERROR
    )  # it announces every retry; our error says the outcome
    transformers_logging.disable_progress_bar()  # type: ignore[no-untyped-call]
