"""What all panels share: the page's files, error messages, actions that buttons call, and the snapshot."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib import resources
from typing import Any, ClassVar

import anywidget
import traitlets

from gelora_viz.errors import GeloraVizError
from gelora_viz.plots import PALETTE, Drawing
from gelora_viz.widgets.snapshot import Snapshot

_log = logging.getLogger("gelora_viz")


def read_module(*names: str) -> str:
    """A panel's JavaScript: what all panels share, then its own files, if it has any.

    A notebook loads a widget's module from a string, and such a module can import no neighbor; putting one after the
    other takes no build step, and all files stay readable.
    """
    own = f"const OWN_CLASS = {json.dumps(_own_class(names[-1]) if names else '')};"
    return "\n".join([*(_read(name) for name in ("panel.js", *names)), own])


def read_style(name: str | None = None) -> str:
    """A panel's CSS: the palette of all our figures, what all panels share, then its own file, if it has one.

    All panels of a notebook share one page, so the own file's rules are narrowed to its panel: two files may give the
    same name to different things.
    """
    palette = "".join(f" --gv-{color}: {value};" for color, value in PALETTE.items())
    shared = f".gelora-viz {{{palette} }}\n{_read('panel.css')}"
    if name is None:
        return shared
    own = _read(name).replace(".gelora-viz", f".gelora-viz.{_own_class(name)}")
    return f"{shared}\n{own}"


def _own_class(file: str) -> str:
    """The class of a panel's elements on the page, after its own file."""
    return f"gv-panel-{file.partition('.')[0]}"


def _read(name: str) -> str:
    return resources.files("gelora_viz.widgets").joinpath("static", name).read_text(encoding="utf-8")


class Panel(anywidget.AnyWidget):
    """A panel in a notebook.

    A subclass sets `_esm = read_module("its.js")` and `_css = read_style("its.css")`, keeps all its state in synced
    traits, and gives `describe()`. Values that are wrong raise when Python sets them; when the page sets them, or a
    button's action fails, the panel says why in `error`.
    """

    _page_calls: ClassVar[Sequence[str]] = ()
    """Names of the methods that the page may call, as `call(model, "undo")` or `call(model, "cancel", name)` does."""

    status = traitlets.Unicode("").tag(sync=True)
    """What the panel shows at the moment, in a sentence; read aloud by screen readers when it changes."""

    error = traitlets.Unicode("").tag(sync=True)
    """What went wrong with the last thing that was asked for on the page, in words; empty if nothing did."""

    last_error: Exception | None = None
    """The exception behind the latest `error`; `raise panel.last_error` shows where it comes from."""

    _asked_by_page: bool = False
    """Whether the present change was requested on the page, and not by Python."""

    def describe(self) -> Drawing:
        """The panel's picture, as `gelora_viz.plots` draws it."""
        raise NotImplementedError

    def snapshot(self) -> Snapshot:
        """The panel's picture as it is now, for pages without a kernel; a saved notebook keeps it.

        Example:
            >>> panel.snapshot()  # doctest: +SKIP
            Snapshot('Intrinsic dimension and rank by layer')
        """
        return Snapshot(self.describe())

    def show_error(self, error: Exception) -> None:
        """Show in the panel what went wrong; for work without a caller, such as a watching thread's."""
        self.last_error = error
        if isinstance(error, GeloraVizError):
            self.error = str(error)
            return
        _log.debug("a panel's action failed", exc_info=error)
        said = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
        self.error = f"{said} (unexpected; `raise panel.last_error` in a cell shows where it comes from)"

    @contextmanager
    def _errors_in_words(self) -> Iterator[None]:
        """Show errors of what the page requests: a message from there has no caller that could catch an exception."""
        self.error = ""
        self._asked_by_page = True
        try:
            yield
        except Exception as error:  # noqa: BLE001 - whatever it is, the reader sees it in the panel
            self.show_error(error)
        finally:
            self._asked_by_page = False

    def set_state(self, sync_data: Mapping[str, Any]) -> None:
        """Take over what the page has set; called by ipywidgets."""
        with self._errors_in_words():
            super().set_state(sync_data)

    def _handle_custom_msg(self, content: Any, buffers: Any) -> None:  # noqa: ANN401 - ipywidgets' own signature
        """Call the method that the page asks for; other messages go to `on_msg` as usual."""
        name = content.get("call") if isinstance(content, dict) else None
        if isinstance(name, str) and name in self._page_calls:
            with self._errors_in_words():
                getattr(self, name)(*content.get("args", ()))
        else:
            super()._handle_custom_msg(content, buffers)
