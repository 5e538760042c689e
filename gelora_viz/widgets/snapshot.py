"""What a panel shows, as a picture that needs no kernel: for a saved notebook, a web page or a slide."""

from __future__ import annotations

from dataclasses import dataclass

from gelora_viz.plots import Drawing


@dataclass(frozen=True)
class Snapshot:
    """A panel's picture at one moment.

    A notebook shows it as inline SVG, which stays in the file when it is saved (some ten kilobytes) and follows the
    page's theme.

    Attributes:
        drawing: what is in it; `snapshot.drawing.save(path)` makes a paper figure of it, and `snapshot.drawing` at
            the end of a cell is one to explore.
    """

    drawing: Drawing

    def __repr__(self) -> str:
        return f"Snapshot({self.drawing.title!r})"

    def _repr_html_(self) -> str:
        return self.drawing.to_svg()
