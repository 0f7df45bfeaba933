"""Commitments that were bought: sized by the bill, or said not to be known."""

import json
from datetime import timedelta

import pandas as pd
import pytest

from optimizer.analysis.bought import CommitmentCase, Commitments, commitments_of
from optimizer.analysis.features import CostLine, benefits_of
from optimizer.model import Attribution
from tests.analysis.builders import WORKSPACE, window

RESERVED = "/providers/microsoft.capacity/reservationorders/o/reservations/r"
PLANNED = "/providers/microsoft.billingbenefits/savingsplanorders/o/savingsplans/p"


def line(day: int, model: str, sku: str = "Standard_D8s_v5") -> CostLine:
    """24 h of a machine for 4.80."""
    return CostLine(
        day=window(20).start_utc.date() + timedelta(days=day),
        workspace_id=WORKSPACE,
        resource_id=f"{WORKSPACE}/computes/it",
        component="vm",
        cost=4.80,
        list_cost=None,
        contracted_cost=None,
        hours=24.0,
        vm_size=sku,
        attribution=Attribution.EXACT,
        currency="USD",
        pricing_model=model,
    )


def bought(
    *rows: tuple[str, str | None, float | None],
    lines: list[CostLine],
    by_day: dict[int, float] | None = None,
) -> Commitments:
    table = pd.DataFrame(rows, columns=["id", "sku", "utilisation"]).assign(scope="/order")
    if by_day:
        first = window(20).start_utc.date()
        told = {str(first + timedelta(days=day)): share for day, share in by_day.items()}
        table["by_day"] = json.dumps(told)
    return commitments_of(benefits_of(table), lines, window(20))


def test_a_reservation_serves_its_family_and_no_other() -> None:
    lines = [line(day, "Reservation") for day in range(20)]
    lines += [line(day, "Reservation", "Standard_E8s_v5") for day in range(20)]
    lines += [line(day, model) for day in range(20) for model in ("OnDemand", "SavingsPlan")]
    (case,) = bought((RESERVED, "Standard_D4s_v5", 0.5), lines=lines).cases.values()
    assert isinstance(case, CommitmentCase)
    assert case.rate.per_hour == pytest.approx(0.20)
    assert case.machines == pytest.approx(2.0)
    # As much goes unused as is used: 4.80 a day.
    assert case.unused_per_month.p50 == pytest.approx(4.80 * 730 / 24)
    # Every day is like the others, and so is the coming month.
    assert case.unused_per_month.p10 == pytest.approx(case.unused_per_month.p90)
    assert case.hours(case.settings).sum() == pytest.approx(2 * 24 * 20)


def test_days_of_which_no_use_was_told_say_nothing_of_it() -> None:
    # It was bought on the sixteenth day: 24 h of one machine are half of it since.
    lines = [line(day, "OnDemand") for day in range(15)]
    lines += [line(day, "Reservation") for day in range(15, 20)]
    told = dict.fromkeys(range(15, 22), 0.5)
    (case,) = bought((RESERVED, "Standard_D4s_v5", 0.5), lines=lines, by_day=told).cases.values()
    assert isinstance(case, CommitmentCase)
    # What was told of days that are not billed yet waits for its bill.
    assert (case.window.days, case.window.end_utc) == (5, window(20).end_utc)
    assert case.machines == pytest.approx(2.0)


def test_use_is_that_of_the_days_billed() -> None:
    told = dict.fromkeys(range(-10, 0), 1.0) | dict.fromkeys(range(20), 0.25)
    lines = [line(day, "Reservation") for day in range(20)]
    (case,) = bought((RESERVED, "Standard_D8s_v5", 0.5), lines=lines, by_day=told).cases.values()
    assert isinstance(case, CommitmentCase)
    assert (case.utilisation, case.machines) == pytest.approx((0.25, 4.0))
    said = bought((RESERVED, "Standard_D8s_v5", 0.5), lines=lines, by_day={-1: 1.0})
    assert set(said.unassessable.values()) == {"Azure told no use of it."}


def test_a_savings_plan_serves_every_family() -> None:
    lines = [line(3, "SavingsPlan"), line(3, "SavingsPlan", "Standard_E8s_v5")]
    (case,) = bought((PLANNED, None, 0.8), lines=lines).cases.values()
    assert case.used_minutes == 4 * 1440
    assert case.resource.name == "savings plan p"


@pytest.mark.parametrize(
    ("rows", "reason"),
    [
        ([(RESERVED, "Standard_D4s_v5", None)], "Azure told no use of it."),
        (
            [(RESERVED, "Standard_NC6s_v3", 0.4)],
            (
                "It is used to 40%, but what it costs is not known: it covered no hour of a "
                "compute that was collected."
            ),
        ),
        (
            [(RESERVED, "Standard_D4s_v5", 0.4), (f"{RESERVED}2", "Standard_D2s_v5", 0.4)],
            (
                "It is used to 40%, but what it costs is not known: several commitments cover the "
                "same hours of the bill."
            ),
        ),
    ],
)
def test_what_is_not_told_is_said(rows: list[tuple[str, str, float]], reason: str) -> None:
    said = bought(*rows, lines=[line(0, "Reservation")])
    assert said.cases == {}
    assert set(said.unassessable.values()) == {reason}


def test_no_billing_account_means_no_commitments() -> None:
    assert benefits_of(pd.DataFrame()) == ()
