"""Pictures of every page, light and dark, wide and narrow: to be looked at by a person.

    python -m tests.browser.screenshots OUT --home HOME

HOME holds what was collected; nothing is asked of Azure.
"""

import argparse
from itertools import product
from pathlib import Path
from typing import Literal

from playwright.sync_api import Page, expect, sync_playwright

from tests.browser.driving import ANSWER_MILLISECONDS, PAGES, go, serving, start_chromium

SCHEMES: tuple[Literal["light", "dark"], ...] = ("light", "dark")
WIDTHS = (1280, 700)
HEIGHT = 900

_DRAWN = """() => [...document.querySelectorAll('[data-testid=stPlotlyChart]')].every(frame => {
    const drawn = frame.querySelector('.main-svg');
    return drawn && Math.abs(drawn.getBoundingClientRect().width
                             - frame.getBoundingClientRect().width) < 4; })
    && !document.querySelector('[data-testid=stSkeleton]')
    && document.querySelector('[data-testid=stApp]').dataset.testScriptState === 'notRunning'"""
_HEIGHT_OF_ALL = "main => main.scrollHeight"


def main() -> None:
    """Write one file for each page, scheme and width, and for the question before an apply."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("--home", type=Path, default=Path(".optimizer/demo"))
    asked = parser.parse_args()
    asked.out.mkdir(parents=True, exist_ok=True)
    with (
        serving({"OPTIMIZER_HOME": str(asked.home.resolve())}) as app,
        sync_playwright() as playwright,
        start_chromium(playwright) as browser,
    ):
        for scheme, width, name in product(SCHEMES, WIDTHS, PAGES):
            page = browser.new_page(
                viewport={"width": max(WIDTHS), "height": HEIGHT}, color_scheme=scheme
            )
            page.set_default_timeout(ANSWER_MILLISECONDS)
            go(page, app, name)
            _fit(page, width)
            page.screenshot(path=asked.out / f"{name.lower()}-{scheme}-{width}.png")
            if name == "Plan":
                _ask(page, asked.out / f"confirm-{scheme}-{width}.png")
            page.close()


def _ask(page: Page, file: Path) -> None:
    button = page.get_by_role("button", name="Apply")
    if button.count():
        button.click()
        expect(page.get_by_role("dialog").get_by_role("checkbox")).to_be_visible()
        page.screenshot(path=file)


def _fit(page: Page, width: int) -> None:
    """Make the window as wide as wanted and as high as the page."""
    main, height = page.get_by_test_id("stMain"), 0
    while height != (height := max(HEIGHT, main.evaluate(_HEIGHT_OF_ALL))):
        page.set_viewport_size({"width": width, "height": height})
        page.wait_for_function(_DRAWN)


if __name__ == "__main__":
    main()
