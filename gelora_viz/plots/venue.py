"""How a venue wants its figures: its widths and fonts as matplotlib settings.

tueplots knows most venues; those that it does not know yet have entries here, with the style file that they follow.

TrueType fonts only: conferences refuse the Type 3 fonts that matplotlib embeds by default.
"""

from __future__ import annotations

import inspect
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from gelora_viz._checks import check_choice, check_text
from gelora_viz._names import did_you_mean
from gelora_viz.errors import InputError

PLAIN = "plain"


@dataclass(frozen=True)
class _Page:
    """What a venue's style file says about its pages.

    Attributes:
        column: width of a column, in inches; with one column per page, the width of the text.
        text: width of the text, in inches.
        size: font size of labels, in points: a size or two below the body, as in tueplots.
        small: font size of tick labels and legends, in points.
        style: the style file, with its version or the volume it is for.
        serif: whether the body is set in Times.
    """

    column: float
    text: float
    size: float
    small: float
    style: str
    serif: bool = True


PAGES = {
    PLAIN: _Page(3.4, 7.0, 8, 7, "none", serif=False),
    "aaai2026": _Page((7.0 - 0.375) / 2, 7.0, 9, 7, "aaai2026.sty of 2026-04-29"),
    "acl2024": _Page(7.7 / 2.54, 16.0 / 2.54, 9, 7, "acl.sty on A4, unchanged in these lengths from 2021 to 2024"),
    "iclr2025": _Page(5.5, 5.5, 9, 7, "iclr2025_conference.sty"),
    "iclr2026": _Page(5.5, 5.5, 9, 7, "iclr2026_conference.sty"),
    "icml2025": _Page(3.25, 6.75, 8, 6, "icml2025.sty of 2023-11-23"),
    "icml2026": _Page(3.25, 6.75, 8, 6, "icml2026.sty of 2025-10-29"),
    "neurips2025": _Page(5.5, 5.5, 9, 7, "neurips_2025.sty of 2025-04-02"),
    "neurips2026": _Page(5.5, 5.5, 9, 7, "neurips_2026.sty of 2026-01-29"),
}
"""Venues that need no tueplots; an entry is removed once tueplots has its venue."""
# The faces that stand in for Times, best first; STIX ships with matplotlib, so the last one is always there.
_SERIF = ("Times New Roman", "Times", "Nimbus Roman", "Liberation Serif", "FreeSerif", "STIXGeneral")
_SANS = ("Helvetica", "Arial", "Liberation Sans", "DejaVu Sans")

Width = Literal["column", "text"]
_WIDTHS: tuple[Width, ...] = ("column", "text")


FORMATS = (".pdf", ".pgf", ".svg", ".png")
"""Endings of the files that figures are saved in."""
_TEX = ("pdflatex", "xelatex", "lualatex")


def check_venue(venue: object) -> str:
    """The venue; raises `InputError` where nothing is known of it, or tueplots would know and is not installed."""
    name = check_text(venue, "venue", "plain")
    if name not in PAGES:
        _bundle_of(name)
    return name


def check_format(suffix: object) -> str:
    """The ending of a figure's file; raises `InputError` for one that cannot be written here."""
    check_choice(suffix, "suffix", FORMATS)
    if suffix == ".pgf":
        find_tex()
    return str(suffix)


def find_tex() -> str:
    """The LaTeX of this machine that PGF figures are measured with; raises `InputError` if there is none."""
    for program in _TEX:
        if shutil.which(program):
            return program
    raise InputError("PGF figures are measured with LaTeX; install pdflatex, xelatex or lualatex, or save a .pdf")


def paper_settings(venue: str, width: Width = "column") -> dict[Any, Any]:
    """Matplotlib's settings for a venue: its sizes and fonts, as far as this machine has them, without its LaTeX.

    Raises:
        InputError: if the venue or the width is unknown, or the venue's sizes need tueplots and it is not installed.
    """
    check_choice(width, "width", _WIDTHS)
    check_text(venue, "venue", "plain")
    bundle = _page_bundle(PAGES[venue], width) if venue in PAGES else _venue_bundle(venue, width)
    return {
        **{key: value for key, value in bundle.items() if key not in {"text.latex.preamble", "font.serif"}},
        "font.family": _installed_fonts(bundle),
        "mathtext.fontset": "stix",
        "text.usetex": False,
        # Names come from data: a dollar sign in them is a dollar sign.
        "text.parse_math": False,
        "pdf.fonttype": 42,
        "ps.fonttype": 42,
        "pgf.rcfonts": False,
        "svg.hashsalt": "gelora_viz",
        "savefig.dpi": 300,
        "figure.dpi": 150,
        "figure.constrained_layout.use": True,
        "figure.constrained_layout.h_pad": 0.03,
        "figure.constrained_layout.w_pad": 0.03,
        "figure.autolayout": False,
        "axes.linewidth": 0.5,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.axisbelow": True,
        "grid.linewidth": 0.3,
        "grid.alpha": 0.5,
        "xtick.major.width": 0.5,
        "ytick.major.width": 0.5,
        "xtick.major.size": 2.0,
        "ytick.major.size": 2.0,
        "ytick.minor.size": 1.0,
        "ytick.minor.width": 0.4,
        "lines.linewidth": 1.0,
        "hatch.linewidth": 0.4,
        "legend.frameon": False,
        "legend.handlelength": 2.2,
        "legend.columnspacing": 1.2,
        "legend.borderaxespad": 0.3,
        "legend.borderpad": 0.1,
        "legend.labelspacing": 0.25,
    }


def _page_bundle(page: _Page, width: Width) -> dict[str, Any]:
    inches = getattr(page, width)
    return {
        "font.family": "serif" if page.serif else "sans-serif",
        "figure.figsize": (inches, inches),
        **dict.fromkeys(("font.size", "axes.labelsize", "axes.titlesize"), page.size),
        **dict.fromkeys(("legend.fontsize", "xtick.labelsize", "ytick.labelsize"), page.small),
    }


def _venue_bundle(venue: str, width: Width) -> dict[str, Any]:
    """A venue's settings from tueplots, whose bundles take their widths in two ways."""
    bundle = _bundle_of(venue)
    choices: dict[str, Any] = {"column": {"column": "half", "text": "full"}[width], "usetex": False}
    taken = inspect.signature(bundle).parameters
    settings: dict[str, Any] = bundle(**{name: value for name, value in choices.items() if name in taken})
    return settings


def _bundle_of(venue: str) -> Callable[..., Any]:
    """The function of tueplots that knows a venue; raises `InputError` if there is none."""
    try:
        from tueplots import bundles
    except ImportError as error:
        raise InputError(
            f"the sizes and fonts of {venue!r} would come from tueplots, which is not installed; "
            f'pip install "gelora_viz[paper]", or choose one of {", ".join(PAGES)}'
        ) from error
    known = {
        name: function
        for name, function in inspect.getmembers(bundles, inspect.isfunction)
        if function.__module__ == bundles.__name__ and not name.startswith("_")
    }
    if venue not in known:
        venues = sorted({*PAGES, *known})
        raise InputError(f"unknown venue {venue!r}; {did_you_mean(venue.lower(), venues, most=len(venues))}")
    return known[venue]


def _installed_fonts(bundle: dict[str, Any]) -> list[str]:
    """The venue's faces that this machine has, then the nearest, then DejaVu for letters that those lack.

    Only TrueType files count: others cannot be embedded as such.
    """
    from matplotlib.font_manager import fontManager

    families = bundle.get("font.family", "sans-serif")
    families = [families] if isinstance(families, str) else list(families)
    serif = "serif" in families
    named = [name for name in families if name not in {"serif", "sans-serif"}]
    wanted = [*named, *bundle.get("font.serif" if serif else "font.sans-serif", ()), *(_SERIF if serif else _SANS)]
    installed = {font.name for font in fontManager.ttflist if font.fname.lower().endswith(".ttf")}
    return [name for name in dict.fromkeys([*wanted, "DejaVu Sans"]) if name in installed]
