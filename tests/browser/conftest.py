"""A real browser for the tests: headless Chromium that may talk to this machine and to nothing else.

And, for tests of panels, a real JupyterLab: `jupyter_lab` is the server, `browser_page` shows its notebooks.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import pytest

if TYPE_CHECKING:
    from jupyter_lab import JupyterLab
    from playwright.sync_api import Browser, Page, Route, WebSocketRoute

FAILURES = Path(__file__).parent / "failures"
CHROMIUM_ARGUMENTS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
test_failed = pytest.StashKey[bool]()


@pytest.fixture(scope="module")
def browser_arguments() -> list[str]:
    """Further arguments for the Chromium of a test module, which may override this."""
    return []


@pytest.fixture(scope="module")
def browser(chromium: str, browser_arguments: list[str]) -> Iterator[Browser]:
    """One Chromium per test module: playwright's event loop must not outlive the tests that need it."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=[*CHROMIUM_ARGUMENTS, *browser_arguments])
        yield browser
        browser.close()


@pytest.fixture
def browser_page(browser: Browser, request: pytest.FixtureRequest) -> Iterator[Page]:
    """A fresh page without cookies or storage.

    Requests that leave this machine are blocked and listed, as URLs, in `page.outside_requests`; a test asserts that
    the list is empty. A failing test leaves a screenshot in tests/browser/failures/.
    """
    context = browser.new_context(viewport={"width": 1280, "height": 900}, service_workers="block")
    outside_requests: list[str] = []

    def let_through_or_record(route: Route) -> None:
        if stays_here(route.request.url):
            route.continue_()
        else:
            outside_requests.append(route.request.url)
            route.abort()

    def record_and_close(socket: WebSocketRoute) -> None:
        outside_requests.append(socket.url)
        socket.close()

    context.route("**/*", let_through_or_record)
    context.route_web_socket(lambda url: not stays_here(url), record_and_close)
    page = context.new_page()
    page.outside_requests = outside_requests
    try:
        yield page
        if request.node.stash.get(test_failed, False):
            name = re.sub(r"[^\w.-]+", "_", request.node.name)
            page.screenshot(path=FAILURES / f"{name}.png", full_page=True)
    finally:
        context.close()


@pytest.fixture(scope="session")
def jupyter_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[JupyterLab]:
    """One JupyterLab for all tests of this process; tests ask for `jupyter_lab`."""
    from jupyter_lab import JupyterLab
    from warm_processes import WarmPopen

    server = JupyterLab(tmp_path_factory.mktemp("jupyter"), start=WarmPopen)
    yield server
    server.stop()


@pytest.fixture(scope="module")
def jupyter_lab(jupyter_server: JupyterLab) -> Iterator[JupyterLab]:
    """The JupyterLab of this process, without kernels of other test files.

    A notebook of the same name has the same kernel in all tests of a file, and need not import torch again.
    """
    yield jupyter_server
    jupyter_server.end_sessions()


def stays_here(url: str) -> bool:
    """Whether a request is answered from within the page, the disk, or a server on 127.0.0.1."""
    parts = urlsplit(url)
    return parts.scheme in {"file", "data", "blob", "about"} or parts.hostname == "127.0.0.1"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[None]:
    """Tell the page fixture, before it tears down, whether its test failed."""
    report = yield
    if report.when == "call" and report.failed:
        item.stash[test_failed] = True
    return report
