"""The FinOps measures of rates, on bills small enough to add up by hand."""

from dataclasses import replace
from datetime import date

import pytest
from hypothesis import given
from hypothesis import strategies as st

from optimizer.analysis.features import CostLine
from optimizer.analysis.rate_savings import rate_savings, utilisation
from optimizer.report.words import rates_words

HOUR = CostLine(
    day=date(2026, 6, 1),
    workspace_id="/w",
    resource_id=None,
    component="vm",
    cost=0.0,
    list_cost=50.0,
    contracted_cost=45.0,
    hours=50.0,
    vm_size=None,
    attribution=None,
    currency="EUR",
    pricing_model="OnDemand",
)


def test_the_worked_example() -> None:
    reserved = replace(HOUR, cost=15.0, pricing_model="Reservation")
    found = rate_savings([reserved, replace(HOUR, cost=45.0)])
    assert (found.list_cost, found.effective_cost) == (100.0, 60.0)
    assert (found.negotiated, found.commitment) == (10.0, 30.0)
    assert (found.effective_savings_rate, found.coverage) == (0.4, 0.5)
    assert rates_words(found) == (
        "Your rates are 40.0 % below list already (effective savings rate, known for 100.0 % of "
        "spend); commitments cover 50.0 % of committable hours."
    )


def test_a_commitment_may_cost_more_than_it_saves() -> None:
    found = rate_savings([replace(HOUR, cost=60.0, pricing_model="SavingsPlan")])
    assert (found.commitment, found.effective_savings_rate) == (-15.0, -0.2)


def test_spend_without_a_list_cost_is_told_and_not_guessed() -> None:
    found = rate_savings([replace(HOUR, cost=40.0), replace(HOUR, cost=60.0, list_cost=None)])
    assert (found.known_share, found.effective_savings_rate) == (0.4, 0.2)
    unknown = rate_savings([replace(HOUR, cost=60.0, list_cost=None)])
    assert (unknown.effective_savings_rate, rates_words(unknown)) == (None, None)


def test_interruptible_hours_cannot_be_covered() -> None:
    spot = replace(HOUR, pricing_model="Spot")
    assert rate_savings([HOUR, spot]).coverage == 0.0
    assert rate_savings([spot]).coverage is None


def test_what_is_not_contracted_tells_no_parts() -> None:
    found = rate_savings([HOUR, replace(HOUR, contracted_cost=None)])
    assert (found.negotiated, found.commitment) == (None, None)


def test_nothing_committed_has_no_utilisation() -> None:
    assert utilisation(0.0, 0.0) is None
    assert utilisation(3.0, 1.0) == 0.75


@given(st.lists(st.tuples(st.floats(0.01, 1e6), st.floats(0, 1)), min_size=1))
def test_the_rate_stays_between_nothing_and_all(bill: list[tuple[float, float]]) -> None:
    lines = [replace(HOUR, list_cost=listed, cost=listed * paid) for listed, paid in bill]
    rate = rate_savings(lines).effective_savings_rate
    assert rate is not None
    assert -1e-9 <= rate <= 1 + 1e-9
    assert rate == pytest.approx(1 - sum(x.cost for x in lines) / sum(b[0] for b in bill))
