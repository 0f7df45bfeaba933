"""The app, driven as a person drives it, against the emulator."""

import re
from http import HTTPStatus
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Locator, Page, expect

from optimizer.model import Estimate
from optimizer.report.words import interval, money
from tests.browser.conftest import Estate
from tests.browser.driving import PAGES, go
from tests.browser.example_analysis import HOSTILE_OWNER

# One process for all: they share an estate, what was collected from it, and a browser.
pytestmark = pytest.mark.browser

ROW_PIXELS = 35


@pytest.fixture(scope="module")
def found(estate: Estate) -> dict[str, Any]:
    """Return what the command line found."""
    document: dict[str, Any] = estate.command("findings", "--json")
    return document


def figure(page: Page, label: str) -> Locator:
    """Return the frame of one figure."""
    return page.locator("[data-testid=stVerticalBlock]:has(> * > [data-testid=stMetric])").filter(
        has_text=label
    )


def choose_row(page: Page, row: int) -> None:
    """Click the selector of a row of the table; the grid is drawn, so it has no elements."""
    grid = page.get_by_test_id("stDataFrame").first
    # Its rows stand behind the drawing for screen readers once it takes clicks.
    expect(grid.locator("canvas [role=row]")).not_to_have_count(0)
    grid.click(position={"x": 15, "y": ROW_PIXELS * (row + 1) + ROW_PIXELS / 2})


def test_overview_says_what_the_command_line_says(
    page: Page, app: str, found: dict[str, Any]
) -> None:
    totals, currency = found["totals"], found["currency"]
    saving = Estimate(**totals["saving_per_month"])
    go(page, app, "Overview")
    expect(figure(page, "Spend per month")).to_contain_text(
        money(totals["spend_per_month"], currency)
    )
    box = figure(page, "Saving found")
    expect(box).to_contain_text(money(saving.p50, currency))
    expect(box).to_contain_text(interval(saving.p10, saving.p90))
    expect(page.locator(".js-plotly-plot")).to_have_count(2)


def test_overview_explains_its_silence(page: Page, app: str, found: dict[str, Any]) -> None:
    go(page, app, "Overview")
    page.get_by_text(f"{len(found['not_assessed'])} questions could not be answered").click()
    expect(page.get_by_test_id("stDataFrame")).to_be_visible()


def test_a_chosen_finding_is_drawn_with_its_reason(
    page: Page, app: str, found: dict[str, Any]
) -> None:
    second = found["findings"][1]
    go(page, app, "Findings")
    choose_row(page, 1)
    expect(page.get_by_role("heading", level=2, name=second["title"])).to_be_visible()
    expect(page.get_by_text(second["why"], exact=True)).to_be_visible()
    expect(page.locator(".legendtext")).to_have_text(
        ["Needed", "Idle", "Paid today", "With the new setting"]
    )
    expect(page.get_by_role("link", name=second["source"]["title"])).to_have_attribute(
        "href", second["source"]["url"]
    )


def test_a_link_names_the_finding_to_open(page: Page, app: str, found: dict[str, Any]) -> None:
    third = found["findings"][2]
    page.goto(f"{app}/?finding={third['id']}")
    expect(page.get_by_role("heading", level=2, name=third["title"])).to_be_visible()


def test_a_filter_leaves_what_fits(page: Page, app: str, found: dict[str, Any]) -> None:
    idle = [f for f in found["findings"] if f["detector"] == "no_idle_shutdown"]
    go(page, app, "Findings")
    page.get_by_role("combobox", name="Detector").click()
    page.get_by_role("option", name="No idle shutdown").click()
    page.keyboard.press("Escape")  # while the list is open, the rest is hidden from roles
    expect(page.get_by_text(f"{len(idle)} findings. Choose a row")).to_be_visible()
    expect(page.get_by_role("heading", level=2, name=idle[0]["title"])).to_be_visible()


def test_what_an_owner_wrote_is_shown_as_written(page: Page, app: str) -> None:
    go(page, app, "Findings")
    page.get_by_role("combobox", name="Owner").click()
    page.get_by_role("option", name=HOSTILE_OWNER, exact=True).click()
    page.keyboard.press("Escape")
    expect(page.get_by_text("1 finding. Choose a row")).to_be_visible()
    expect(
        page.get_by_text(f"gpu-train in contoso-vision, owned by {HOSTILE_OWNER}")
    ).to_be_visible()
    expect(page.get_by_role("link", name="l", exact=True)).to_have_count(0)


def test_a_change_is_made_in_azure_and_put_back(
    page: Page, app: str, estate: Estate, tmp_path: Path
) -> None:
    plan_file = tmp_path / "plan.json"
    steps = estate.command("plan", "--json", "--out", str(plan_file))["steps"]
    in_place = [step for step in steps if step["how"] != "recreate"]
    beside = [step for step in steps if step["how"] == "recreate"]
    before = [step["before"] for step in in_place]
    assert settings_in_azure(estate, in_place) == before

    go(page, app, "Plan")
    for step in steps:
        expect(page.get_by_test_id("stCode").first).to_contain_text(f"+ {step['setting']}: ")
    page.get_by_role("button", name=f"Apply {len(steps)} changes…").click()
    dialog = page.get_by_role("dialog")
    make = dialog.get_by_role("button", name=f"Make {len(steps)} changes")
    expect(make).to_be_disabled()
    dialog.get_by_text(f"I want {len(steps)} changes made in Azure now").click()
    make.click()
    expect(dialog.get_by_text(re.compile(rf"apply \S+: {len(steps)} done\."))).to_be_visible()
    assert settings_in_azure(estate, in_place) == [step["after"] for step in in_place]
    for step in beside:
        made = setting_in_azure(estate, step["put"]["resource_id"], step["setting"])
        assert made == step["after"]

    go(page, app, "History")
    page.get_by_role("button", name="Roll back…").click()
    dialog.get_by_text(f"I want {len(steps)} settings put back in Azure now").click()
    dialog.get_by_role("button", name=f"Put {len(steps)} settings back").click()
    expect(dialog.get_by_text(re.compile(rf"rollback \S+: {len(steps)} done\."))).to_be_visible()
    assert settings_in_azure(estate, in_place) == before
    for step in beside:
        path = f"{step['put']['resource_id']}?api-version=2025-12-01"
        assert estate.emulator.refusal("GET", path)[0] == HTTPStatus.NOT_FOUND


def settings_in_azure(estate: Estate, steps: list[dict[str, Any]]) -> list[Any]:
    """Return what each step's setting is, as Azure says over HTTPS."""
    return [setting_in_azure(estate, step["resource_id"], step["setting"]) for step in steps]


def setting_in_azure(estate: Estate, resource_id: str, setting: str) -> Any:
    """Return one setting as Azure has it; None where it is not set."""
    value: Any = estate.emulator.call("GET", f"{resource_id}?api-version=2025-12-01")
    for name in setting.split("."):
        value = value.get(name)
    return value


@pytest.mark.parametrize("name", PAGES)
def test_everything_to_press_has_a_name(page: Page, app: str, name: str) -> None:
    go(page, app, name)
    buttons = page.get_by_role("button")
    unnamed = buttons.and_(page.get_by_role("button", name=re.compile(r"^\s*$"), exact=True))
    expect(buttons).not_to_have_count(0)
    expect(unnamed).to_have_count(0)


@pytest.mark.parametrize("width", [1280, 700])
@pytest.mark.parametrize("name", PAGES)
def test_no_page_is_wider_than_its_window(page: Page, app: str, name: str, width: int) -> None:
    page.goto(f"{app}/")
    go(page, app, name)
    page.set_viewport_size({"width": width, "height": 900})
    overflow = "main => main.scrollWidth - main.clientWidth"
    assert page.get_by_test_id("stMain").evaluate(overflow) == 0
