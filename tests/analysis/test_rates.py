"""Whose the spend is, and what an hour costs."""

from datetime import date

import pytest
from hypothesis import given
from hypothesis import strategies as st

from optimizer.analysis.features import CostLine
from optimizer.analysis.rates import attribute, rates
from optimizer.model import Attribution, Basis, Kind, Resource
from tests.analysis.builders import WORKSPACE, resource

DAY = date(2026, 6, 1)
PRICES = {("westeurope", "standard_d2_v3", "payg"): 0.10}


def line(cost: float, name: str | None = None, hours: float | None = None) -> CostLine:
    return CostLine(
        day=DAY,
        workspace_id=WORKSPACE,
        resource_id=None if name is None else f"{WORKSPACE}/computes/{name}",
        component="vm",
        cost=cost,
        list_cost=None,
        hours=hours,
        vm_size=None,
        attribution=None if name is None else Attribution.EXACT,
        currency="USD",
    )


def computes(*names: str) -> dict[str, Resource]:
    found = [resource(Kind.CLUSTER, name) for name in names]
    return {one.resource_id: one for one in found}


@given(
    st.floats(-1e6, 1e6, allow_nan=False).map(lambda x: round(x, 2)),
    st.lists(st.floats(0.001, 1e6), min_size=1, max_size=9),
)
def test_shares_sum_to_the_line_to_the_cent(cost: float, weights: list[float]) -> None:
    owners = {f"r{number}": weight for number, weight in enumerate(weights)}
    shares = attribute([line(cost)], {(WORKSPACE, DAY): owners})
    assert round(sum(share.cost for share in shares), 2) == cost
    assert {share.attribution for share in shares} == {Attribution.ESTIMATED}


def test_spend_is_shared_by_node_hours_times_list() -> None:
    shares = attribute([line(10.0)], {(WORKSPACE, DAY): {"a": 3.0, "b": 1.0}})
    assert {share.resource_id: share.cost for share in shares} == {"a": 7.5, "b": 2.5}


def test_what_the_bill_attributes_stays_as_it_is() -> None:
    exact = line(10.0, "a", 100.0)
    assert attribute([exact], {(WORKSPACE, DAY): {"b": 1.0}}) == [exact]


def test_own_bill_beats_every_list() -> None:
    known = rates(computes("a"), [line(9.0, "a", 100.0)], PRICES, {})
    (rate,) = known.values()
    assert rate.per_hour == pytest.approx(0.09)
    assert rate.basis is Basis.EFFECTIVE


def test_a_compute_without_a_bill_gets_list_times_what_its_neighbours_pay_of_list() -> None:
    known = rates(
        computes("a", "b"),
        [line(8.0, "a", 100.0)],
        PRICES,
        {},
    )
    rate = known[f"{WORKSPACE}/computes/b"]
    assert rate.per_hour == pytest.approx(0.08)
    assert rate.basis is Basis.LIST_TIMES_DISCOUNT


def test_with_no_bill_at_all_it_is_list() -> None:
    (rate,) = rates(computes("a"), [], PRICES, {}).values()
    assert (rate.per_hour, rate.basis) == (0.10, Basis.LIST)


def test_an_unknown_price_is_no_price() -> None:
    assert rates(computes("a"), [], {}, {}) == {}
