"""The app as a person has it: a played estate, what was collected from it, and a browser."""

import json
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, ConsoleMessage, Page, Request, expect, sync_playwright

from tests.browser.example_analysis import HOSTILE_OWNER
from tests.conftest import ROOT, Emulator

CONTOSO = ROOT / "sample_data" / "contoso"
CHROMIUM_ARGUMENTS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
ANSWER_MILLISECONDS = 60_000
"""A busy machine may take this long over a replay."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Estate:
    """A played estate and the home of what was collected from it."""

    emulator: Emulator
    home: Path
    environment: dict[str, str]

    def command(self, *arguments: str) -> Any:
        """Run a command of ours; return the JSON it prints."""
        return json.loads(run(self.environment, *arguments))


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


def chromium_path() -> str:
    """Return the browser; there is no suite without one."""
    path = shutil.which("chromium") or shutil.which("chromium-browser")
    if path is None:
        pytest.fail("The browser tests need Chromium on the PATH: `apt-get install chromium`.")
    return path


@pytest.fixture(scope="session")
def estate(
    emulator: Callable[[Path], Emulator], tmp_path_factory: pytest.TempPathFactory
) -> Estate:
    """Return contoso, one of whose owners wrote all that a page could mistake for its own."""
    folder, home = tmp_path_factory.mktemp("estate") / "contoso", tmp_path_factory.mktemp("home")
    shutil.copytree(CONTOSO, folder)
    resources = folder / "resources.json"
    documents = json.loads(resources.read_text())
    for document in documents:
        if document["name"] == "gpu-train":
            document["tags"] = {**document.get("tags", {}), "owner": HOSTILE_OWNER}
    resources.write_text(json.dumps(documents))
    played = emulator(folder)
    environment = {**played.environment, "OPTIMIZER_HOME": str(home)}
    run(environment, "collect")
    return Estate(emulator=played, home=home, environment=environment)


@pytest.fixture(scope="session")
def app(estate: Estate) -> Iterator[str]:
    """Serve the app on the estate; return its address."""
    with serving(estate.environment) as url:
        yield url


@pytest.fixture(scope="session")
def chromium() -> Iterator[Browser]:
    """Start the browser once."""
    expect.set_options(timeout=ANSWER_MILLISECONDS)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=chromium_path(), args=list(CHROMIUM_ARGUMENTS)
        )
        yield browser
        browser.close()


@pytest.fixture
def page(chromium: Browser) -> Iterator[Page]:
    """Return an empty tab; whatever it loaded must be ours and must not have gone wrong."""
    faults: list[str] = []

    def hear(message: ConsoleMessage) -> None:
        if message.type in {"error", "warning"}:
            faults.append(message.text)

    def see(request: Request) -> None:
        if not request.url.startswith(("http://127.0.0.1:", "ws://127.0.0.1:", "data:", "blob:")):
            faults.append(f"asked for {request.url}")

    tab = chromium.new_page(viewport={"width": 1280, "height": 900})
    tab.set_default_timeout(ANSWER_MILLISECONDS)
    tab.on("console", hear)
    tab.on("request", see)
    tab.on("pageerror", lambda error: faults.append(error.message))
    yield tab
    tab.close()
    assert faults == []
