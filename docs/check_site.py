"""Check the built site: every link leads somewhere, no page is left out, and nothing is loaded from elsewhere.

The build itself checks links between pages; it passes over pictures, absolute links, links in HTML, and pages that
the navigation lacks or names in vain.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

LOADED_BY_A_SHEET = re.compile(r"""url\(["']?((?:https?:)?//[^"')]+)|@import\s+["']([^"']+)""")
NOT_LISTED = "404.html"
"""What servers show for an address that is none; no page links to it, and its own links are absolute."""


class Page(HTMLParser):
    """A page's links, what it loads, and the places on it that a link can lead to."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.links: list[str] = []
        self.loaded: list[str] = []
        self.anchors: set[str] = set()
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Called by the parser for every element."""
        values = dict(attrs)
        self.anchors.add(values.get("id") or "")
        for address in (values.get("href"), values.get("src"), values.get("data"), values.get("poster")):
            if address:
                (self.links if tag == "a" else self.loaded).append(address)


def find_problems(site: Path) -> Iterator[str]:
    """One line for each thing that is wrong with the site in this folder."""
    site = site.resolve()
    pages = {path: Page(path) for path in sorted(site.rglob("*.html")) if path.name != NOT_LISTED}
    for path, page in pages.items():
        name = path.relative_to(site).as_posix()
        for address in page.loaded:
            if urlsplit(address).netloc:
                yield f"{name} loads {address}"
        for address in page.links + page.loaded:
            if cause := _cause(address, path, pages):
                yield f"{name} links to {address}, {cause}"
    for sheet in site.rglob("*.css"):
        for found in LOADED_BY_A_SHEET.findall(sheet.read_text(encoding="utf-8")):
            yield f"{sheet.relative_to(site).as_posix()} loads {''.join(found)}"
    first = site / "index.html"
    listed = {_target(address, first) for address in pages[first].links}
    for path in pages.keys() - listed - {first}:
        yield f"{path.relative_to(site).as_posix()} is not in the navigation; name it in zensical.toml"


def _target(address: str, path: Path) -> Path:
    """The file that an address on this page leads to."""
    return (path.parent / unquote(urlsplit(address).path)).resolve() if urlsplit(address).path else path


def _cause(address: str, path: Path, pages: dict[Path, Page]) -> str | None:
    """Why an address within the site is of no use; None where it is, and for addresses elsewhere."""
    parts, target = urlsplit(address), _target(address, path)
    if parts.scheme or parts.netloc:
        return None
    if parts.path.startswith("/"):
        return "which is absolute; give it relative to the page"
    if not target.is_file():
        return "which does not exist"
    if parts.fragment and target in pages and unquote(parts.fragment) not in pages[target].anchors:
        return "and the page has no such place"
    return None


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("site", nargs="?", type=Path, default=Path("site"), help="its folder (default: %(default)s)")
    sys.exit("\n".join(find_problems(parser.parse_args().site)) or 0)
