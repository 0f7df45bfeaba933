from dataclasses import replace

import pytest

from optimizer.model import Claim, How
from optimizer.remediation.outcomes import Measured, Status
from optimizer.report.changes import (
    history_text,
    left_undone,
    outcome_line,
    plan_text,
    run_text,
    verification_text,
)
from optimizer.scenarios import LeftOut
from tests.changes import THREE, plan_of
from tests.reports import (
    NO_CLAIMS,
    PARTS,
    REPORT,
    claim_of,
    outcome_of,
    run_of,
    verification_of,
)


def test_a_plan_reads_as_a_diff_with_its_price() -> None:
    lines = plan_text(plan_of()).splitlines()
    start = lines.index("~ Change cpu-slow")
    assert lines[start + 1 : start + 5] == [
        "  - nodeIdleTimeBeforeScaleDown: PT2H (2 h)",
        "  + nodeIdleTimeBeforeScaleDown: PT10M (10 min)",
        "    saves    100 USD (90.00 to 110) a month",
        "    costs    extra waiting: 0 s a month; extra restarts: 0 a month",
    ]
    assert lines[-1] == "Plan: 3 to change; 300 USD (50.00 to 900) a month together."


def test_a_plan_shows_permission_and_the_same_by_hand() -> None:
    text = plan_text(plan_of())
    assert "computes/updateIdleShutdownSetting/action" in text
    assert "--idle-time-before-scale-down 600" in text


def test_a_plan_shows_what_is_advice_and_what_is_left_out() -> None:
    advice = replace(THREE[0], change=replace(THREE[0].change, how=How.RECREATE))
    left = LeftOut(finding=THREE[1], why="risk is high")
    text = plan_text(plan_of([advice], left_out=[left]))
    assert "Only people can do this:\n* Change gpu-kept, 100 USD" in text
    assert "Left out:\n  risk is high: cpu-slow (cpu-slow-nodeIdleTimeBeforeScaleDown)" in text
    assert text.endswith("Plan: 1 for people; 100 USD (50.00 to 900) a month together.")


def test_a_plan_is_counted_by_what_is_done() -> None:
    anew = replace(
        THREE[1],
        id="anew",
        change=replace(
            THREE[1].change,
            setting="properties.properties.vmPriority",
            after="LowPriority",
            how=How.RECREATE,
        ),
    )
    gone = replace(
        THREE[2],
        id="gone",
        change=replace(THREE[2].change, setting="resource", after="deleted"),
    )
    people = replace(THREE[0], change=replace(THREE[0].change, how=How.ADVICE), id="people")
    text = plan_text(plan_of([THREE[0], anew, gone, people]))
    assert "+ Change cpu-slow\n  - vmPriority: Dedicated\n  + vmPriority: LowPriority\n" in text
    assert "    beside   cpu-slow-ds3-v2-lp, a new cluster\n" in text
    assert "- Change ci-forgotten\n  - resource: present\n  + resource: deleted\n" in text
    assert (
        "    undo     not possible\n    confirm  optimizer apply … --confirm-delete step-" in text
    )
    assert "    only if  step-" in text
    assert (
        "Plan: 1 to change, 1 to create beside, 1 to delete with its own confirmation, "
        "1 for people; 400 USD (50.00 to 900) a month together."
    ) in text


def test_an_empty_plan_says_so() -> None:
    assert plan_text(plan_of([])).endswith("\nNothing to change.")


@pytest.mark.parametrize("status", Status)
def test_every_end_of_a_step_has_words(status: Status) -> None:
    line = outcome_line(outcome_of(status, "because"))
    assert line.startswith(("✓", "=", "≠", "✗", "-", "!", "…"))
    assert "gpu-kept minNodeCount 2 → 0  " in line
    assert line.endswith(": because")


def test_a_run_is_counted_by_how_its_steps_ended() -> None:
    run = run_of(outcome_of(Status.DONE), outcome_of(Status.FAILED), outcome_of(Status.DONE))
    assert run_text(run) == "apply apply-20260110-3f9c2a: 2 done, 1 failed."
    assert left_undone(run) == 1
    assert left_undone(run_of(outcome_of(Status.UNCHANGED))) == 0


def test_history_is_newest_first_and_tells_interruptions() -> None:
    old = run_of(outcome_of(Status.DONE))
    new = replace(old, id="rollback-1", started_utc=old.started_utc.replace(day=20), ended_utc=None)
    lines = history_text([old, new]).splitlines()
    assert lines[0].startswith("rollback-1  2026-01-20 08:00 UTC")
    assert lines[1] == "  interrupted; the same command carries on"
    assert history_text([]) == "Nothing was applied yet."


def test_a_verification_shows_promise_measurement_and_level() -> None:
    measured = Measured(low=80, mid=95, high=105)
    text = verification_text(verification_of(claim_of(Claim.VERIFIED, measured), measured=measured))
    assert "Verified: proved on the bill. 28 days were billed." in text
    assert "  promised  100 USD (90.00 to 110) a month" in text
    assert "Measured  95.00 USD (80.00 to 105) a month" in text


def test_what_did_not_come_is_told_first_with_its_cause() -> None:
    measured = Measured(low=20, mid=40, high=60)
    short = claim_of(Claim.MEASURED, measured, shortfall="It was put back to 2.", report=REPORT)
    text = verification_text(verification_of(short, claim_of(Claim.APPLIED), measured=measured))
    lines = text.splitlines()
    assert lines[0] == "Did not come as promised:"
    assert "  likely because: It was put back to 2." in lines[: lines.index("Other changes:")]
    assert "          run-rate of 480 USD a year" in lines


def test_what_changed_the_bill_is_told_in_parts_that_sum() -> None:
    claim = claim_of(Claim.APPLIED, parts_per_month=PARTS)
    text = verification_text(verification_of(claim, parts_per_month=PARTS))
    told = "activity +20.00, settings -95.00, prices -1.00: -76.00 USD a month"
    assert f"  the bill  {told}" in text
    assert f"The bill  {told}" in text


def test_events_are_only_suggested() -> None:
    text = verification_text(
        verification_of(claim_of(Claim.APPLIED), suggested_events=("gpu runs new work.",))
    )
    assert text.endswith("verify.events in optimizer.toml:\n* gpu runs new work.")


def test_what_is_not_measured_is_said() -> None:
    assert "measured  not yet" in verification_text(verification_of(claim_of(Claim.APPLIED)))
    assert verification_text(NO_CLAIMS).startswith("Nothing was applied yet")
