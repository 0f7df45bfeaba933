"""Two people and one plan, in a browser: nobody applies what no second person approved."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import Estate
from tests.browser.driving import go, run, serving

pytestmark = pytest.mark.browser

RULE = {"OPTIMIZER_REQUIRE_APPROVAL": "true"}


@pytest.fixture(scope="module")
def anas_app(estate: Estate) -> Iterator[str]:
    """Serve the app for Ana, whose team asks for a second person."""
    with serving(estate.environment | RULE | {"OPTIMIZER_USER": "ana"}) as url:
        yield url


@pytest.fixture(scope="module")
def bens_app(estate: Estate) -> Iterator[str]:
    """Serve the app for Ben, on the same home."""
    with serving(estate.environment | RULE | {"OPTIMIZER_USER": "ben"}) as url:
        yield url


def test_a_plan_is_applied_once_a_second_person_approved_it(
    page: Page, anas_app: str, bens_app: str, estate: Estate, tmp_path: Path
) -> None:
    steps = estate.command("plan", "--json", "--out", str(tmp_path / "plan.json"))["steps"]
    changes = f"{len(steps)} changes"
    apply = page.get_by_role("button", name=f"Apply {changes}…")
    dialog = page.get_by_role("dialog")

    go(page, anas_app, "Plan")
    expect(page.get_by_text("needs a second person to approve it: ask somebody")).to_be_visible()
    expect(apply).to_be_disabled()

    approve(page, changes, "mine")
    expect(page.get_by_text(re.compile(r"ana approved plan-\S+ on .*: mine"))).to_be_visible()
    expect(page.get_by_text("so far only ana did, who applies it")).to_be_visible()
    expect(apply).to_be_disabled()

    go(page, bens_app, "Plan")
    expect(apply).to_be_enabled()  # Ana's word is enough for Ben
    approve(page, changes, "<b>agreed</b> on Monday")

    go(page, anas_app, "Plan")
    expect(
        page.get_by_text(re.compile(r"ben approved plan-\S+ on .*: <b>agreed</b> on Monday"))
    ).to_be_visible()
    apply.click()
    dialog.get_by_text(f"I want {changes} made in Azure now").click()
    dialog.get_by_role("button", name=f"Make {changes}").click()
    expect(dialog.get_by_text(re.compile(rf"apply \S+: {len(steps)} done\."))).to_be_visible()
    (newest, *_) = estate.command("history", "--json")["runs"]
    assert newest["who"] == "ana"
    run(estate.environment, "rollback", newest["id"])


def approve(page: Page, changes: str, comment: str) -> None:
    """Approve the plan that is shown, with a comment."""
    page.get_by_role("button", name=f"Approve {changes}…").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_label("Comment").fill(comment)
    dialog.get_by_label("Comment").press("Enter")
    dialog.get_by_role("button", name=f"I approve {changes}").click()
    expect(dialog).to_have_count(0)
