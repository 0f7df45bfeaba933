"""Pictures of every page, light and dark, wide and narrow: to be looked at by a person.

    python -m tests.browser.screenshots OUT --home HOME

HOME holds what was collected; nothing is asked of Azure.
"""

import argparse
from pathlib import Path
from typing import Literal

from playwright.sync_api import expect, sync_playwright

from tests.browser.conftest import CHROMIUM_ARGUMENTS, chromium_path, serving

PAGES = ("Overview", "Findings", "Plan")
SCHEMES: tuple[Literal["light", "dark"], ...] = ("light", "dark")
WIDTHS = (1280, 700)


def main() -> None:
    """Write one file for each page, scheme and width."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("--home", type=Path, default=Path(".optimizer/demo"))
    asked = parser.parse_args()
    asked.out.mkdir(parents=True, exist_ok=True)
    with (
        serving({"OPTIMIZER_HOME": str(asked.home.resolve())}) as app,
        sync_playwright() as playwright,
        playwright.chromium.launch(
            executable_path=chromium_path(), args=list(CHROMIUM_ARGUMENTS)
        ) as browser,
    ):
        for scheme in SCHEMES:
            for width in WIDTHS:
                page = browser.new_page(
                    viewport={"width": width, "height": 900}, color_scheme=scheme
                )
                for name in PAGES:
                    path = "" if name == "Overview" else name.lower()
                    page.goto(f"{app}/{path}")
                    expect(page.get_by_test_id("stStatusWidget")).to_have_count(0, timeout=60_000)
                    expect(page.get_by_role("heading", level=1)).to_be_visible(timeout=60_000)
                    page.wait_for_load_state("networkidle")
                    page.screenshot(path=asked.out / f"{name.lower()}-{scheme}-{width}.png")
                page.close()


if __name__ == "__main__":
    main()
