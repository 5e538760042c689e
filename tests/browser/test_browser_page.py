"""The browser that the other tests drive runs scripts, and lets nothing out of this machine without telling."""

from __future__ import annotations

import functools
import http.server
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import pytest

pytestmark = pytest.mark.browser

OUTSIDE = "http://outside.invalid"


@pytest.fixture
def local_server(tmp_path):
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=tmp_path)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_a_page_runs_its_script_and_asks_nobody_outside(browser_page):
    browser_page.goto("data:text/html,<h1></h1><script>document.querySelector('h1').textContent = 6 * 7</script>")
    assert browser_page.inner_text("h1") == "42"
    assert browser_page.outside_requests == []


def test_pages_from_the_disk_and_from_this_machine_are_let_through(browser_page, local_server, tmp_path):
    page = tmp_path / "page.html"
    page.write_text("<title>here</title><script src='script.js'></script>")
    (tmp_path / "script.js").write_text("document.title += ' and now'")
    for url in (page.as_uri(), f"{local_server}/page.html"):
        browser_page.goto(url)
        assert browser_page.title() == "here and now"
    assert browser_page.outside_requests == []


def test_requests_to_the_outside_are_blocked_and_listed(browser_page):
    browser_page.set_content(f"<img src='{OUTSIDE}/pixel.png'><script src='{OUTSIDE}/library.js'></script>")
    assert sorted(browser_page.outside_requests) == [f"{OUTSIDE}/library.js", f"{OUTSIDE}/pixel.png"]


def test_web_sockets_to_the_outside_are_blocked_and_listed(browser_page):
    browser_page.goto("about:blank")
    browser_page.evaluate(
        f"() => new Promise(done => {{ new WebSocket('{OUTSIDE.replace('http', 'ws')}/').onclose = done }})"
    )
    assert len(browser_page.outside_requests) == 1


def test_a_failing_test_leaves_a_screenshot(chromium, tmp_path):
    shutil.copy(Path(__file__).with_name("conftest.py"), tmp_path)
    (tmp_path / "test_broken.py").write_text(
        "import pytest\n\n"
        "@pytest.fixture(scope='session')\n"
        f"def chromium(): return {chromium!r}\n\n"
        "@pytest.mark.parametrize('title', ['', 'wanted/title'])\n"
        "def test_title(browser_page, title): assert browser_page.title() == title\n"
    )
    command = [sys.executable, "-m", "pytest", "-q", "--rootdir", tmp_path, "-c", "/dev/null", tmp_path]
    outcome = subprocess.run(command, capture_output=True, text=True, check=False)
    assert "1 failed, 1 passed" in outcome.stdout
    (screenshot,) = (tmp_path / "failures").iterdir()
    assert screenshot.name == "test_title_wanted_title_.png"
    assert screenshot.read_bytes().startswith(b"\x89PNG")
