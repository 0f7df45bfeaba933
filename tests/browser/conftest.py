"""The app as a person has it: a played estate, what was collected from it, and a browser."""

import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, ConsoleMessage, Page, Request, sync_playwright

from tests.browser.driving import ANSWER_MILLISECONDS, CONTOSO, run, serving, start_chromium
from tests.browser.example_analysis import HOSTILE_OWNER
from tests.conftest import Emulator


@dataclass(frozen=True, slots=True, kw_only=True)
class Estate:
    """A played estate and the variables that name it and the home of what was collected."""

    emulator: Emulator
    environment: dict[str, str]

    def command(self, *arguments: str) -> Any:
        """Run a command of ours; return the JSON it prints."""
        return json.loads(run(self.environment, *arguments))


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
    return Estate(emulator=played, environment=environment)


@pytest.fixture(scope="session")
def app(estate: Estate) -> Iterator[str]:
    """Serve the app on the estate; return its address."""
    with serving(estate.environment) as url:
        yield url


@pytest.fixture(scope="session")
def chromium() -> Iterator[Browser]:
    """Start the browser once."""
    with sync_playwright() as playwright, start_chromium(playwright) as browser:
        yield browser


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
