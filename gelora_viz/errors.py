"""The toolkit's own exceptions: each message names the offending value and the remedy, in one line.

The command line prints such a message and exits with status 2; anything else that escapes is a bug and keeps its
traceback.
"""

from __future__ import annotations

from gelora_viz._text import to_one_line


class GeloraVizError(Exception):
    """Base of every error that gelora_viz raises on purpose.

    Its message may quote a file or a data set, so it is shown on one line and without terminal escapes.
    """

    def __str__(self) -> str:
        return to_one_line(super().__str__())


class GeloraVizWarning(UserWarning):
    """What a user should know, though nothing has failed; the command line prints it as one line."""


class SourceError(GeloraVizError):
    """A model or data set that was named could not be found or read."""


class InputError(GeloraVizError, ValueError):
    """An argument, a text or an array that an analysis cannot use."""


class StudyError(GeloraVizError):
    """A study folder or a saved result that cannot be written, read or understood."""


class RunError(GeloraVizError):
    """A fine-tuning that could not start, or that ended in failure."""


def first_line(error: BaseException) -> str:
    """The first line of what another library's exception says, or its type's name if it says nothing."""
    return next(iter(str(error).strip().splitlines()), type(error).__name__)
