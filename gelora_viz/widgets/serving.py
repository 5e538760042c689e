"""The dashboard of a study as a page of its own, served by Voila to this machine alone."""

from __future__ import annotations

import html
import json
import secrets
import tempfile
import webbrowser
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from gelora_viz._checks import check_flag, describe
from gelora_viz.errors import InputError
from gelora_viz.study import Study

_ADDRESS = "127.0.0.1"
_LAST_PORT = 65535
_PAGES = ("index.html.j2", "page.html", "voila/templates/base/page.html")


def serve_dashboard(study: Path, *, port: int = 8866, open_browser: bool = False) -> None:
    """Serve the dashboard until Ctrl-C.

    The page asks for a token, which is new each time and printed with the address: other users of this machine
    could otherwise run code in the page's kernel.

    Args:
        study: folder of the study.
        port: port to listen on; where it is taken, the next free one.
        open_browser: also open the page in the browser.

    Raises:
        InputError: if Voila is not installed, or for a port that cannot be.
        StudyError: if the folder holds no study.
    """
    if isinstance(port, bool) or not isinstance(port, int) or not 1 <= port <= _LAST_PORT:
        raise InputError(f"port is {describe(port)}; give a whole number from 1 to {_LAST_PORT}")
    check_flag(open_browser, "open_browser")
    Study.open(study)
    try:
        from voila.app import Voila
    except ModuleNotFoundError as error:
        raise InputError(
            f"the dashboard needs {error.name}, which is not installed; install gelora_viz[widgets]"
        ) from error

    token = secrets.token_hex(24)

    class Server(Voila):  # type: ignore[misc] # it ships no types
        """Voila, which says its address with the token and opens the page without showing that to `ps`."""

        def launch_browser(self) -> None:
            url = f"{self.connection_url}?token={token}"
            print(f"dashboard  {url}\nCtrl-C ends it; runs go on.", flush=True)
            if open_browser:
                page = Path(folder) / "open.html"
                page.touch(mode=0o600)
                page.write_text(f'<meta http-equiv="refresh" content="0; url={html.escape(url)}">')
                webbrowser.open(page.as_uri())

    with tempfile.TemporaryDirectory(prefix="gelora_viz-dashboard-") as folder:
        notebook = write_notebook(study, Path(folder) / "dashboard.ipynb")
        server: Any = Server()
        server.initialize([str(notebook)])
        server.template_paths.insert(0, str(_keep_at_home(server.template_paths, Path(folder) / "templates")))
        # After Voila has read the configuration of this machine, so that nothing there opens the page to others.
        server.ip, server.port, server.token = _ADDRESS, port, token
        server.open_browser = True  # `launch_browser` decides
        server.log_level = "WARN"
        server.start()


def _keep_at_home(templates: Sequence[str], folder: Path) -> Path:
    """Copies of Voila's pages that fetch nothing from outside; theirs ask a content network for icons.

    Args:
        templates: folders in which Voila looks for pages, in this order.
        folder: folder for the copies.
    """
    for name in _PAGES:
        original = next((page for page in (Path(place) / name for place in templates) if page.exists()), None)
        if original is not None:
            lines = original.read_text(encoding="utf-8").splitlines(keepends=True)
            copy = folder / name
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_text("".join(line for line in lines if 'href="https://' not in line), encoding="utf-8")
    return folder


def write_notebook(study: Path, path: Path) -> Path:
    """A notebook that shows the dashboard, and nothing else."""
    source = (
        "import logging\n"
        'logging.getLogger("bitsandbytes").setLevel(logging.ERROR)\n'
        "from transformers.utils import logging as messages\n"
        "messages.disable_progress_bar()\n"
        "import gelora_viz as gv\n"
        f"gv.widgets.Dashboard(gv.Study.open({str(study.absolute())!r}))"
    )
    cell: dict[str, Any] = {
        "cell_type": "code", "execution_count": None, "id": "dashboard", "metadata": {}, "outputs": [],
        "source": source,
    }  # fmt: skip
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    notebook = {"cells": [cell], "metadata": {"kernelspec": kernel}, "nbformat": 4, "nbformat_minor": 5}
    path.write_text(json.dumps(notebook), encoding="utf-8")
    return path
