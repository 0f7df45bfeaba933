"""How the app is started and driven: for the tests and for the screenshots."""

import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from playwright.sync_api import Browser, Page, Playwright, expect

from tests.conftest import ROOT

CONTOSO = ROOT / "sample_data" / "contoso"
PAGES = ("Overview", "Findings", "Scenarios", "Plan", "History")
ANSWER_MILLISECONDS = 180_000
"""A busy machine may take this long over a replay."""

_CHROMIUM_ARGUMENTS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


def run(environment: dict[str, str], *arguments: str) -> str:
    """Run a command of ours; return what it prints."""
    done = subprocess.run(
        [sys.executable, "-m", "optimizer", *arguments],
        cwd=ROOT,
        env=os.environ | environment,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return done.stdout


@contextmanager
def serving(environment: dict[str, str]) -> Iterator[str]:
    """Serve the app as `optimizer app` does, while the context lasts; yields its address."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    command = [sys.executable, "-m", "optimizer", "app", "--port", str(port)]
    with subprocess.Popen(
        command, cwd=ROOT, env=os.environ | environment, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        try:
            assert f"http://127.0.0.1:{port}" in process.stdout.readline()
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()


def start_chromium(playwright: Playwright) -> Browser:
    """Start the browser that stands on the PATH; without one the tests fail, saying so."""
    path = shutil.which("chromium") or shutil.which("chromium-browser")
    assert path, "The browser tests need Chromium on the PATH: `apt-get install chromium`."
    expect.set_options(timeout=ANSWER_MILLISECONDS)
    return playwright.chromium.launch(executable_path=path, args=list(_CHROMIUM_ARGUMENTS))


def go(page: Page, app: str, name: str) -> None:
    """Open the app, click through to a page and wait until it is whole."""
    page.goto(app)
    _see_heading(page, "Overview")
    if name != "Overview":
        page.get_by_role("link", name=name, exact=True).click()
        _see_heading(page, name)
    expect(page.get_by_test_id("stStatusWidget")).to_have_count(0)


def _see_heading(page: Page, name: str) -> None:
    expect(page.get_by_role("heading", level=1, name=name)).to_be_visible()
