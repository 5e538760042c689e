"""A real JupyterLab for tests and benchmarks of panels: a server on this machine, its pages in headless Chromium.

Nothing here knows pytest; the fixture `jupyter_lab` in conftest.py starts a server and stops it.
"""

from __future__ import annotations

import json
import os
import secrets
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from playwright.sync_api import Page

SETTINGS = {
    # Cells out of sight are there too, for tests that look for them.
    "@jupyterlab/notebook-extension/tracker": {"windowingMode": "none"},
    "@jupyterlab/apputils-extension/notification": {"fetchNews": "false", "checkForUpdates": False},
    "@jupyterlab/extensionmanager-extension/plugin": {"enabled": False},
}
START_SECONDS = 60
KERNEL_IS_READY = """() => {
    const session = globalThis.jupyterapp?.shell.currentWidget?.context?.sessionContext?.session;
    return session?.kernel?.status === "idle" && session.kernel.connectionStatus === "connected";
}"""
TESTS = Path(__file__).parents[1]


class JupyterLab:
    """A server, bound to 127.0.0.1, whose notebooks lie in a folder of its own.

    Attributes:
        folder: where notebooks are; kernels start there.

    Args:
        place: a folder for its settings, notebooks and log.
        start: what starts the server's process.
    """

    def __init__(self, place: Path, start: type[subprocess.Popen[bytes]] = subprocess.Popen) -> None:
        self.folder = place / "notebooks"
        self.folder.mkdir(parents=True)
        self._token = secrets.token_hex(16)
        self._log = place / "server.log"
        for name, content in SETTINGS.items():
            path = place / "settings" / f"{name}.jupyterlab-settings"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps(content))
        port = free_port()
        self.url = f"http://127.0.0.1:{port}"
        command = [
            *(sys.executable, "-m", "jupyterlab", "--allow-root", "--no-browser", "--ip=127.0.0.1"),
            *(f"--port={port}", "--ServerApp.port_retries=0", f"--IdentityProvider.token={self._token}"),
            *("--expose-app-in-browser", f"--ServerApp.root_dir={self.folder}"),
        ]
        own = {f"JUPYTER_{what.upper()}_DIR": str(place / what) for what in ("config", "data", "runtime")}
        environment = {
            **os.environ,
            **own,
            "JUPYTERLAB_SETTINGS_DIR": str(place / "settings"),
            "JUPYTERLAB_WORKSPACES_DIR": str(place / "workspaces"),
            "IPYTHONDIR": str(place / "ipython"),
            # Notebooks import `panel_examples`, which lies beside the tiny models of all tests.
            "PYTHONPATH": os.pathsep.join([str(TESTS), os.environ.get("PYTHONPATH", "")]),
        }
        with self._log.open("wb") as log:
            self._process = start(
                command, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT
            )
        self._wait_until_it_answers()

    def write_notebook(self, name: str, cells: Sequence[str]) -> Path:
        """A notebook of these code cells, without outputs."""
        import nbformat

        code = [nbformat.v4.new_code_cell(cell) for cell in cells]
        kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
        path = self.folder / name
        nbformat.write(nbformat.v4.new_notebook(cells=code, metadata=kernel), path)
        return path

    def open(self, page: Page, name: str) -> None:
        """Show a notebook alone, and wait for its kernel."""
        page.goto(f"{self.url}/lab/workspaces/{Path(name).stem}/tree/{name}?token={self._token}&reset")
        page.wait_for_function(KERNEL_IS_READY, timeout=60_000)
        page.evaluate("() => jupyterapp.shell.collapseLeft()")

    def run_all(self, page: Page) -> None:
        """Run all cells; comes back when they are done. (Clicking through the Run menu fails now and then.)"""
        page.evaluate("() => jupyterapp.commands.execute('notebook:run-all-cells')")

    def run(self, page: Page, code: str) -> str:
        """Run code in the notebook's kernel, beside its cells, and return what it prints; raises if it fails."""
        reply: dict[str, str] = page.evaluate(
            """async (code) => {
                const {kernel} = jupyterapp.shell.currentWidget.context.sessionContext.session;
                const future = kernel.requestExecute({code, store_history: false});
                let printed = "";
                future.onIOPub = (message) => {
                    if (message.header.msg_type === "stream") printed += message.content.text;
                };
                const {content} = await future.done;
                const error = content.status === "error" ? `${content.ename}: ${content.evalue}` : "";
                return {printed, error};
            }""",
            code,
        )
        if reply["error"]:
            raise RuntimeError(reply["error"])
        return reply["printed"].strip()

    def save(self, page: Page, name: str) -> dict[str, Any]:
        """Save the notebook that is open, and return what is in the file."""
        page.evaluate("() => jupyterapp.commands.execute('docmanager:save')")
        return json.loads((self.folder / name).read_text(encoding="utf-8"))

    def reload(self, page: Page) -> None:
        """Reload the page; the kernel runs on."""
        page.evaluate("() => jupyterapp.commands.execute('docmanager:save')")
        page.reload()
        page.wait_for_function(KERNEL_IS_READY, timeout=60_000)

    def use_theme(self, page: Page, theme: str) -> None:
        """ "JupyterLab Light" or "JupyterLab Dark", until the next call; comes back when the page has it."""
        page.evaluate("(theme) => jupyterapp.commands.execute('apputils:change-theme', {theme})", theme)
        light = "true" if theme.endswith("Light") else "false"
        page.wait_for_selector(f"body[data-jp-theme-light='{light}']", state="attached")
        page.wait_for_timeout(300)  # the theme's style sheet comes a little later than its name

    def end_sessions(self) -> None:
        """Shut down all kernels, so that the next notebook begins with a fresh one."""
        for session in json.loads(self._ask("GET", "/api/sessions")):
            self._ask("DELETE", f"/api/sessions/{session['id']}")

    def stop(self) -> None:
        """End kernels and server."""
        if self._process.poll() is None:
            self.end_sessions()
            self._process.terminate()
            try:
                self._process.wait(timeout=20)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()

    def _ask(self, method: str, path: str) -> bytes:
        headers = {"Authorization": f"token {self._token}"}
        request = urllib.request.Request(self.url + path, method=method, headers=headers)  # noqa: S310 - our own
        with urllib.request.urlopen(request, timeout=20) as answer:  # noqa: S310
            return answer.read()

    def _wait_until_it_answers(self) -> None:
        end = time.monotonic() + START_SECONDS
        while time.monotonic() < end and self._process.poll() is None:
            try:
                self._ask("GET", "/api/status")
            except (urllib.error.URLError, ConnectionError, TimeoutError):
                time.sleep(0.2)
            else:
                return
        self._process.kill()
        raise RuntimeError(f"JupyterLab did not start; its log:\n{self._log.read_text(errors='replace')[-3000:]}")


def free_port() -> int:
    """A port that nobody listens at, at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
