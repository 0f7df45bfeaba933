"""What reservations cover and lose, worked out by hand.

A machine of CPU_SKU costs 0.25 by the hour and 0.15 reserved for a year.
"""

import csv
import io
import ssl
from collections.abc import Callable
from datetime import timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import pytest

from optimizer.emulator.estate import load_estate
from optimizer.emulator.records import Charge
from optimizer.emulator.world import World
from optimizer.errors import EstateError
from optimizer.units import iso_utc
from tests.conftest import Emulator
from tests.emulator.schemas import validate
from tests.emulator.sdk import Sdk
from tests.estates import (
    CPU_SKU,
    GPU_SKU,
    OTHER_SUBSCRIPTION,
    PRICES,
    START_UTC,
    SUBSCRIPTION,
    Arm,
    cluster,
    deployment,
    endpoint,
    job,
    price,
    reservation,
    workspace,
    write_estate,
)

HOUR = timedelta(hours=1)
START_S = int(START_UTC.timestamp())
DAY_S = 86_400
WS = workspace()
LARGE = "Standard_DS4_v2"
SIZES = (*PRICES, price(LARGE, 0.5, vcpus=8))
NODES_ONLY = {"cluster_nodes_per_load_balancer": 0}
SCOPE = f"/subscriptions/{SUBSCRIPTION}"
NEVER = "PT1S"


def folder_of(folder: Path, *resources: Arm, reserved: list[Arm], **files: Any) -> Path:
    billing = {"discount": 0.2, "reservations": reserved} | files.pop("billing", {})
    physics = NODES_ONLY | files.pop("physics", {})
    files = {"days": 2, "prices": SIZES, **files}
    return write_estate(
        folder, resources=[WS, *resources], billing=billing, physics=physics, **files
    )


def world(folder: Path, *resources: Arm, reserved: list[Arm], **files: Any) -> World:
    return World(load_estate(folder_of(folder, *resources, reserved=reserved, **files)))


def first_day(of: World) -> dict[tuple[str, str | None], Charge]:
    """Return the charges of the first day by what they are for and what covers them."""
    found = of.charges(START_S, START_S + DAY_S)
    charges: dict[tuple[str, str | None], Charge] = {
        (each.charge_type, each.reservation_id): each for each in found
    }
    assert len(charges) == len(found)
    return charges


def test_what_is_used_is_covered_and_what_is_not_is_lost_within_its_hour(tmp_path: Path) -> None:
    # Two are reserved. In the first hour one node works for an hour and one for half of it; in the
    # second, three for an hour. So 1.5 + 2 hours are covered, 1 is paid by the hour, and of the
    # 2 × 24 hours 44.5 are lost: the half hour of the first does not help the second.
    machine = cluster(WS, maximum=3, idle=NEVER)
    at, first = START_UTC + 5 * HOUR, reservation()
    work = [(at, 3599), (at, 1799), *[(at + HOUR, 3599)] * 3]
    jobs = [
        job(machine, begin, run_seconds=seconds, job_id=f"job-{n}")
        for n, (begin, seconds) in enumerate(work)
    ]
    charges = first_day(world(tmp_path, machine, reserved=[first], jobs=jobs))
    covered, lost = (charges[kind, first["id"]] for kind in ("Usage", "UnusedReservation"))
    by_the_hour = charges["Usage", None]
    assert (covered.quantity, covered.cost) == pytest.approx((3.5, 3.5 * 0.15))
    assert (by_the_hour.quantity, by_the_hour.cost) == pytest.approx((1.0, 0.25 * 0.8))
    assert (lost.quantity, lost.cost) == pytest.approx((44.5, 44.5 * 0.15))
    assert covered.cost + lost.cost == pytest.approx(2 * 24 * 0.15)
    assert covered.contracted_cost == pytest.approx(3.5 * 0.25 * 0.8)


def test_parts_of_hours_add_up_to_the_whole(tmp_path: Path) -> None:
    machine = cluster(WS, maximum=3, idle="PT20M")
    jobs = [
        job(machine, START_UTC + n * timedelta(minutes=47), run_seconds=1300 + 200 * (n % 3))
        for n in range(40)
    ]
    played = world(tmp_path, machine, reserved=[reservation(quantity=1)], jobs=jobs)
    cuts = [START_S, START_S + 1111, START_S + 5 * 3600, START_S + 90_001, START_S + 2 * DAY_S]
    parts = [played.bill(*pair) for pair in pairwise(cuts)]
    whole = played.bill(cuts[0], cuts[-1])
    assert sum(part["total"] for part in parts) == pytest.approx(whole["total"])
    for resource_id, amount in whole["by_resource"].items():
        told = sum(part["by_resource"].get(resource_id, 0.0) for part in parts)
        assert told == pytest.approx(amount)


def test_a_year_amortised_is_what_was_paid(tmp_path: Path) -> None:
    machine = cluster(WS, minimum=1, maximum=1)
    bought = reservation(start_utc=iso_utc(START_UTC + 3 * HOUR))
    played = world(tmp_path, machine, reserved=[bought], days=370)
    purchased = played.purchases(START_S, START_S + 370 * DAY_S)
    (purchase,) = purchased
    assert (purchase.day, purchase.quantity) == (START_UTC.date(), 2 * 8760)
    amortised = [
        each for each in played.charges(START_S, START_S + 370 * DAY_S) if each.reservation_id
    ]
    assert sum(each.cost for each in amortised) == pytest.approx(purchase.cost)
    assert sum(each.cost for each in amortised if each.charge_type == "Usage") == pytest.approx(
        8760 * 0.15
    )


def test_sizes_of_a_family_are_covered_in_the_ratio_of_their_cores(tmp_path: Path) -> None:
    # Three small ones are reserved: one large node takes two of them, and the GPU none.
    large = cluster(WS, "large", sku=LARGE, minimum=1, maximum=1)
    gpu = cluster(WS, "gpu", sku=GPU_SKU, minimum=1, maximum=1)
    bought = reservation(quantity=3)
    played = world(tmp_path, large, gpu, reserved=[bought], days=1)
    charges = first_day(played)
    covered = charges["Usage", bought["id"]]
    assert covered.compute_name == "large"
    assert covered.quantity == pytest.approx(24)
    assert covered.cost == pytest.approx(24 * 2 * 0.15)
    assert charges["UnusedReservation", bought["id"]].quantity == pytest.approx(24)
    assert charges["Usage", None].compute_name == "gpu"


def test_machines_share_what_is_reserved(tmp_path: Path) -> None:
    some = [cluster(WS, name, minimum=n, maximum=n) for name, n in (("one", 1), ("three", 3))]
    played = world(tmp_path, *some, reserved=[reservation()], days=1)
    covered = {
        each.compute_name: each.quantity
        for each in played.charges(START_S, START_S + DAY_S)
        if each.reservation_id
    }
    assert covered == pytest.approx({"one": 12.0, "three": 36.0})


@pytest.mark.parametrize(
    ("more", "sku", "priority"),
    [
        ({"is_flexible": False}, CPU_SKU, "Dedicated"),
        ({"region": "westeurope"}, CPU_SKU, "Dedicated"),
        ({"scope": f"/subscriptions/{OTHER_SUBSCRIPTION}"}, CPU_SKU, "Dedicated"),
        ({"scope": f"{SCOPE}/resourceGroups/other"}, CPU_SKU, "Dedicated"),
        ({"start_utc": "2025-01-01T00:00:00Z"}, CPU_SKU, "Dedicated"),
        ({}, GPU_SKU, "Dedicated"),
        ({}, CPU_SKU, "LowPriority"),
    ],
)
def test_what_is_not_covered(more: dict[str, Any], sku: str, priority: str, tmp_path: Path) -> None:
    machine = cluster(WS, sku=sku, priority=priority, minimum=1, maximum=1)
    prices = (*SIZES, price(CPU_SKU, 0.25, region="westeurope"))
    bought = reservation(**more)
    charges = first_day(world(tmp_path, machine, reserved=[bought], prices=prices, days=1))
    assert charges["Usage", None].quantity == pytest.approx(24)
    assert ("Usage", bought["id"]) not in charges
    # What was reserved before is over, and costs nothing more.
    lost = charges.get(("UnusedReservation", bought["id"]))
    assert (lost.quantity if lost else 0) == (0 if "start_utc" in more else pytest.approx(48))


def test_the_narrower_scope_goes_first(tmp_path: Path) -> None:
    machine = cluster(WS, minimum=1, maximum=1)
    group = machine["id"].split("/providers/")[0]
    wide, narrow = reservation("wide"), reservation("narrow", quantity=1, scope=group)
    charges = first_day(world(tmp_path, machine, reserved=[wide, narrow], days=1))
    assert charges["Usage", narrow["id"]].quantity == pytest.approx(24)
    assert ("Usage", wide["id"]) not in charges
    assert ("Usage", None) not in charges


@pytest.mark.parametrize("reserved", [True, False])
def test_whether_deployments_are_covered_is_a_setting(reserved: bool, tmp_path: Path) -> None:  # noqa: FBT001
    serving = endpoint(WS)
    made = deployment(serving)
    bought = reservation(sku=made["properties"]["instanceType"])
    played = world(
        tmp_path,
        *(serving, made),
        reserved=[bought],
        physics={"deployments_reserved": reserved},
        days=1,
    )
    assert (("Usage", bought["id"]) in first_day(played)) is reserved


@pytest.mark.parametrize(
    ("reserved", "says"),
    [
        ([reservation(sku="Standard_Odd")], "prices.csv has no row for Standard_Odd"),
        ([reservation(term="P3Y")], "prices.csv has no ri_3y_per_hour for Standard_DS3_v2"),
        ([reservation(), reservation()], "twice; keep one"),
        ([reservation(quantity=0)], "quantity"),
        ([reservation(scope="shared")], "scope"),
    ],
)
def test_what_cannot_be_played_is_refused(reserved: list[Arm], says: str, tmp_path: Path) -> None:
    prices = [price(CPU_SKU, 0.25, ri_3y_per_hour=None)]
    folder = folder_of(tmp_path, cluster(WS), reserved=reserved, prices=prices)
    with pytest.raises(EstateError, match=says):
        load_estate(folder)


# -- what is served --------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def served(
    emulator: Callable[[Path], Emulator], tmp_path_factory: pytest.TempPathFactory
) -> Emulator:
    """Three days of one node around the clock, of which two were reserved at noon of the first."""
    folder = tmp_path_factory.mktemp("estates") / "reserved"
    bought = reservation(start_utc=iso_utc(START_UTC + 12 * HOUR))
    machine = cluster(WS, minimum=1, maximum=1)
    return emulator(
        folder_of(
            folder, machine, reserved=[bought], billing={"lag_hours": 24, "discount": 0}, days=4
        )
    )


def report(served: Emulator, metric: str) -> list[dict[str, str]]:
    asked = {"metric": metric, "timePeriod": {"start": "2026-01-05", "end": "2026-01-07"}}
    operations = Sdk(served).costs().generate_cost_details_report
    found = operations.begin_create_operation(SCOPE.lstrip("/"), asked).result()
    trust = ssl.create_default_context(cafile=served.ca_file)
    with urlopen(found.manifest.blobs[0].blob_link, context=trust) as answer:  # noqa: S310
        return list(csv.DictReader(io.TextIOWrapper(answer, "utf-8")))


def sums(rows: list[dict[str, str]]) -> dict[tuple[str, str], tuple[float, float]]:
    found: dict[tuple[str, str], tuple[float, float]] = {}
    for row in rows:
        key = row["ChargeType"], row["PricingModel"]
        hours, cost = found.get(key, (0.0, 0.0))
        found[key] = hours + float(row["Quantity"]), cost + float(row["Cost"])
    return found


def test_actual_costs_show_the_purchase_and_amortised_costs_what_came_of_it(
    served: Emulator,
) -> None:
    actual, amortised = (report(served, metric) for metric in ("ActualCost", "AmortizedCost"))
    assert sums(actual) == {
        ("Usage", "OnDemand"): pytest.approx((12.0, 3.0)),
        ("Usage", "Reservation"): pytest.approx((60.0, 0.0)),
        ("Purchase", "Reservation"): pytest.approx((17520.0, 2628.0)),
    }
    assert sums(amortised) == {
        ("Usage", "OnDemand"): pytest.approx((12.0, 3.0)),
        ("Usage", "Reservation"): pytest.approx((60.0, 9.0)),
        ("UnusedReservation", "Reservation"): pytest.approx((60.0, 9.0)),
    }
    covered = [row for row in amortised if row["PricingModel"] == "Reservation"]
    assert {row["ReservationName"] for row in covered} == {"r"}
    # An hour that is covered still tells what it would have cost.
    prices = {row["UnitPrice"] for row in covered if row["ChargeType"] == "Usage"}
    assert [float(each) for each in prices] == pytest.approx([0.25])


def test_the_query_tells_metrics_and_charges_apart(served: Emulator) -> None:
    asked = {
        "type": "AmortizedCost",
        "timeframe": "Custom",
        "timePeriod": {"from": "2026-01-05T00:00:00Z", "to": "2026-01-07T00:00:00Z"},
        "dataset": {
            "granularity": "None",
            "aggregation": {"total": {"name": "Cost", "function": "Sum"}},
            "grouping": [
                {"type": "Dimension", "name": "ChargeType"},
                {"type": "Dimension", "name": "ResourceId"},
            ],
        },
    }
    query = Sdk(served).costs().query
    costs = {row[1]: row[0] for row in query.usage(SCOPE, asked).rows}
    assert costs == pytest.approx({"Usage": 12.0, "UnusedReservation": 9.0})
    costs = {row[1]: row[0] for row in query.usage(SCOPE, asked | {"type": "ActualCost"}).rows}
    assert costs == pytest.approx({"Usage": 3.0, "Purchase": 2628.0})
    group = f"{SCOPE}/resourceGroups/rg"
    of_group = {row[1]: row[0] for row in query.usage(group, asked).rows}
    assert "UnusedReservation" not in of_group


def summaries(served: Emulator) -> list[Any]:
    path = (
        "/providers/Microsoft.Billing/billingAccounts/12345/providers"
        "/Microsoft.CostManagement/benefitUtilizationSummaries?api-version=2025-03-01"
        "&grainParameter=Daily&filter=properties/usageDate%20ge%202026-01-01"
        "%20and%20properties/usageDate%20le%202026-01-31"
    )
    found: list[Any] = served.call("GET", path)["value"]
    return found


def test_the_summaries_tell_whole_days_that_are_billed(served: Emulator) -> None:
    told = summaries(served)
    names = ("avgUtilizationPercentage", "minUtilizationPercentage", "maxUtilizationPercentage")
    days = {
        each["properties"]["usageDate"][:10]: [each["properties"][name] for name in names]
        for each in told
    }
    # Of the first day twelve hours were reserved; the fourth is not billed yet.
    assert days == {f"2026-01-0{day}": [50.0, 50.0, 50.0] for day in (5, 6, 7)}
    assert {each["kind"] for each in told} == {"Reservation"}
    for each in told:
        # No model is documented for those of a reservation; savings plans have the same fields.
        validate(
            each["properties"],
            "SavingsPlanUtilizationSummaryProperties",
            "derived-costmanagement-2025-03-01.json",
        )


def test_reservations_may_not_be_among_them(
    emulator: Callable[[Path], Emulator], tmp_path: Path
) -> None:
    telemetry = {"reservation_summaries": False}
    bare = emulator(folder_of(tmp_path, cluster(WS), reserved=[reservation()], telemetry=telemetry))
    assert summaries(bare) == []
