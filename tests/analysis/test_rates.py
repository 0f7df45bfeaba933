"""Whose the spend is, and what an hour costs."""

from collections.abc import Mapping
from datetime import date

import pytest
from hypothesis import given
from hypothesis import strategies as st

from optimizer.analysis.features import CostLine
from optimizer.analysis.rates import Rate, attribute, rates
from optimizer.catalogue import Catalogue, ListPrice
from optimizer.model import Attribution, Basis, Kind, Resource
from tests.analysis.builders import WORKSPACE, resource

DAY = date(2026, 6, 1)
LISTED = date(2026, 5, 1)


def catalogue(per_hour: Mapping[str, float]) -> Catalogue:
    """Return list prices by size, offer and term, the latter two left out for pay as you go."""
    prices = {}
    for name, price in per_hour.items():
        what = name.lower().split()
        sku, offer, term = [*what, *("", "payg", "")[len(what) :]]
        key = ("westeurope", f"standard_{sku}", offer, term)
        prices[key] = ListPrice(per_hour=price, as_of=LISTED)
    return Catalogue(currency="USD", sizes={}, prices=prices)


PRICES = catalogue({"D2_v3": 0.10})


def line(cost: float, name: str | None = None, hours: float | None = None) -> CostLine:
    return CostLine(
        day=DAY,
        workspace_id=WORKSPACE,
        resource_id=None if name is None else f"{WORKSPACE}/computes/{name}",
        component="vm",
        cost=cost,
        list_cost=None,
        contracted_cost=None,
        hours=hours,
        vm_size=None,
        attribution=None if name is None else Attribution.EXACT,
        currency="USD",
        pricing_model=None,
    )


def computes(*names: str, **skus: str) -> dict[str, Resource]:
    """Clusters by name; those given by keyword have a size of their own."""
    found = [resource(Kind.CLUSTER, name) for name in names]
    found += [resource(Kind.CLUSTER, n, sku=f"Standard_{sku}") for n, sku in skus.items()]
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


def of(name: str) -> str:
    return f"{WORKSPACE}/computes/{name}"


def test_own_bill_beats_every_list() -> None:
    known = rates(computes("a"), [line(9.0, "a", 100.0)], PRICES, {}).known
    (rate,) = known.values()
    assert rate.per_hour == pytest.approx(0.09)
    assert (rate.basis, rate.listed_on) == (Basis.EFFECTIVE, None)


def test_a_compute_without_a_bill_gets_list_times_what_its_neighbours_pay_of_list() -> None:
    known = rates(computes("a", "b"), [line(8.0, "a", 100.0)], PRICES, {}).known
    rate = known[of("b")]
    assert rate.per_hour == pytest.approx(0.08)
    assert (rate.basis, rate.listed_on) == (Basis.LIST_TIMES_DISCOUNT, LISTED)


def test_with_no_bill_at_all_it_is_list() -> None:
    (rate,) = rates(computes("a"), [], PRICES, {}).known.values()
    assert rate == Rate(per_hour=0.10, basis=Basis.LIST, listed_on=LISTED)


def test_an_unknown_price_is_no_price() -> None:
    assert rates(computes("a"), [], catalogue({}), {}).known == {}


# A size that was never bought: D is billed at 90 % of list and NC at 60 %

SIZES = catalogue(
    {
        "D2_v3": 0.10,
        "D8_v3": 0.40,
        "E2_v3": 0.13,
        "NC6s_v3": 3.0,
        "NC12s_v3": 6.0,
        "D2_v3 low_priority": 0.02,
        "D2_v3 reservation 1y": 0.06,
    }
)
BILL = [line(9.0, "cpu", 100.0), line(18.0, "gpu", 10.0)]


def test_a_size_never_bought_gets_the_discount_of_its_family() -> None:
    priced = rates(computes("cpu", gpu="NC6s_v3"), BILL, SIZES, {})
    larger = priced.of_size("westeurope", "Standard_D8_v3")
    dearer = priced.of_size("westeurope", "Standard_NC12s_v3")
    assert larger is not None
    assert dearer is not None
    assert larger.per_hour == pytest.approx(0.40 * 9 / (100 * 0.10))
    assert dearer.per_hour == pytest.approx(6.0 * 18 / (10 * 3.0))
    assert {larger.basis, dearer.basis} == {Basis.LIST_TIMES_DISCOUNT}


@pytest.mark.parametrize(
    ("sku", "offer", "list_price"),
    [("Standard_E2_v3", "payg", 0.13), ("Standard_D2_v3", "low_priority", 0.02)],
)
def test_a_family_or_offer_never_bought_gets_the_discount_of_everything(
    sku: str, offer: str, list_price: float
) -> None:
    priced = rates(computes("cpu", gpu="NC6s_v3"), BILL, SIZES, {})
    rate = priced.of_size("westeurope", sku, offer=offer)
    assert rate is not None
    assert rate.per_hour == pytest.approx(list_price * (9 + 18) / (100 * 0.10 + 10 * 3.0))
    assert rate.basis is Basis.LIST_TIMES_DISCOUNT


def test_its_own_workspace_tells_more_than_all_of_them() -> None:
    elsewhere = resource(Kind.CLUSTER, "other", sku="Standard_E2_v3", workspace_id="elsewhere")
    priced = rates(
        computes("cpu") | {elsewhere.resource_id + "2": elsewhere},
        [line(9.0, "cpu", 100.0), line(13.0, "other2", 100.0)],
        SIZES,
        {},
    )
    here = priced.of_size("westeurope", "Standard_NC6s_v3", workspace_id=WORKSPACE)
    there = priced.of_size("westeurope", "Standard_NC6s_v3", workspace_id="elsewhere")
    assert here is not None
    assert there is not None
    assert here.per_hour == pytest.approx(2.7)
    assert there.per_hour == pytest.approx(3.0)


def test_a_compute_whose_bill_is_an_estimate_pays_what_its_workspace_pays() -> None:
    # The bill names the workspace only: 100 h of each at 0.10 and 3.00 were seen, 186 was billed.
    shares = attribute([line(186.0)], {(WORKSPACE, DAY): {of("cpu"): 10.0, of("gpu"): 300.0}})
    seen = {of("cpu"): 100.0, of("gpu"): 100.0}
    priced = rates(computes("cpu", gpu="NC6s_v3"), shares, SIZES, seen)
    assert priced.known[of("cpu")].per_hour == pytest.approx(0.10 * 186 / 310)
    assert priced.known[of("gpu")].per_hour == pytest.approx(3.00 * 186 / 310)


def test_nothing_bought_is_list_and_nothing_listed_is_nothing() -> None:
    priced = rates({}, [], SIZES, {})
    assert priced.of_size("westeurope", "Standard_E2_v3") == Rate(
        per_hour=0.13, basis=Basis.LIST, listed_on=LISTED
    )
    assert priced.of_size("eastus", "Standard_E2_v3") is None


def test_a_reserved_hour_lists_at_its_share_of_the_term() -> None:
    priced = rates(computes("cpu", gpu="NC6s_v3"), BILL, SIZES, {})
    assert priced.committed("westeurope", "Standard_D2_v3", "1y") == Rate(
        per_hour=0.06, basis=Basis.LIST, listed_on=LISTED
    )
    assert priced.committed("westeurope", "Standard_D2_v3", "3y") is None
