"""The page of scenarios, driven as a person drives it, against the emulator."""

from typing import Any

import pytest
from playwright.sync_api import Page, expect

from optimizer.report.words import count, interval, money
from tests.browser.conftest import Estate
from tests.browser.driving import go

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def compared(estate: Estate) -> dict[str, Any]:
    """Return what the command line says of the same estate."""
    document: dict[str, Any] = estate.command("scenarios", "--json")
    return document


def figures(page: Page) -> Any:
    return page.get_by_test_id("stMetricValue")


def test_without_limits_the_best_is_what_the_command_line_says(
    page: Page, app: str, compared: dict[str, Any]
) -> None:
    best = compared["scenarios"][-1]
    saving, currency = best["saving_per_month"], compared["currency"]
    go(page, app, "Scenarios")
    expect(figures(page).nth(0)).to_have_text(money(saving["p50"], currency))
    expect(
        page.get_by_text(f"{interval(saving['p10'], saving['p90'])}, P10 to P90")
    ).to_be_visible()
    expect(figures(page).nth(2)).to_have_text(str(best["changes"]))
    expect(page.locator(".legendtext")).to_have_text(
        ["Most that can be saved", "Conservative", "Balanced", "Maximum", "Within your limits"]
    )


def test_a_limit_on_changes_chooses_anew(
    page: Page, app: str, estate: Estate, compared: dict[str, Any]
) -> None:
    most = compared["scenarios"][2]["changes"]
    asked = estate.command("scenarios", "--json", "--max-changes", str(most - 12))
    go(page, app, "Scenarios")
    slider = page.get_by_role("slider", name="Changes")
    slider.focus()
    for _ in range(12):
        slider.press("ArrowLeft")
    best = asked["scenarios"][-1]
    expect(figures(page).nth(0)).to_have_text(
        money(best["saving_per_month"]["p50"], asked["currency"])
    )
    expect(figures(page).nth(2)).to_have_text(str(best["changes"]))
    expect(page.get_by_role("heading", name="What the findings left out would add")).to_be_visible()


def test_a_pick_by_hand_is_totalled_and_leads_to_its_plan(
    page: Page, app: str, estate: Estate, compared: dict[str, Any]
) -> None:
    go(page, app, "Scenarios")
    changes = compared["scenarios"][-1]["changes"]
    expect(figures(page).nth(2)).to_have_text(str(changes))
    grid = page.get_by_test_id("stDataFrame").nth(1)  # beneath the scenarios side by side
    expect(grid.locator("canvas [role=row]")).not_to_have_count(0)
    grid.click(position={"x": 15, "y": 35 * 1.5})  # untick the first, largest one
    expect(figures(page).nth(2)).to_have_text(str(changes - 1))
    expect(page.locator(".legendtext").last).to_have_text("Picked below")
    first = estate.command("findings", "--json")["findings"][0]["id"]
    rest = [each for each in compared["scenarios"][-1]["findings"] if each != first]
    plan = estate.command("plan", "--json", *(part for key in rest for part in ("--finding", key)))
    saving = plan["totals"]["saving_per_month"]["p50"]
    expect(figures(page).nth(0)).to_have_text(money(saving, plan["currency"]))

    page.get_by_role("button", name=f"Plan {count(changes - 1, 'change')}").click()
    expect(page.get_by_role("heading", level=1, name="Plan", exact=True)).to_be_visible()
    expect(figures(page).nth(0)).to_have_text(money(saving, plan["currency"]))
    expect(figures(page).nth(1)).to_have_text(str(len(plan["steps"])))
