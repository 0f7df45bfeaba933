"""List prices of VM sizes from Azure's public price list, and what serves where it is silent."""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any, TypeAlias

import pandas as pd

from optimizer.azure.connect import Connection
from optimizer.azure.doctor import Check
from optimizer.catalogue import snapshot
from optimizer.errors import AzureError, NoDataError, PriceNotFoundError
from optimizer.model import Problem
from optimizer.store.lake import Lake
from optimizer.store.tables import COSTS, PRICES, RESOURCES

_TERMS = {"1 Year": "1y", "3 Years": "3y"}
_HOURS = {"1y": 8760, "3y": 26280}
_SKUS_A_QUESTION = 15
"""Keeps the address of a request well under 2 kB."""

Item = Mapping[str, Any]
Place: TypeAlias = tuple[str, str]
"""A region and a VM size."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PriceReport:
    """What a refresh of the list prices brought."""

    currency: str
    as_of_utc: datetime
    regions: tuple[str, ...]
    rows: int
    """Prices read; a size has one for each offer and term."""
    places: int
    """Sizes that have a price, counted in each region."""
    asked: int
    oldest: date
    """Of all list prices in this currency that the lake now holds."""
    unpriced: tuple[Place, ...]
    """In use or asked for by name, and not on the list."""


def refresh_prices(
    connection: Connection, lake: Lake, *, regions: Collection[str], skus: Collection[str]
) -> PriceReport:
    """Read the list prices of all sizes in use and of those that could replace them.

    Args:
        connection: nobody need be signed in.
        lake: where the inventory is, and where the prices go.
        regions: those to read; where there are none, those in use.
        skus: sizes to read; where there are none, those in use and those of the snapshot.

    Raises:
        NoDataError: no region was named and none is in use.
        PriceNotFoundError: the list has none of what was asked.
        AzureError: the price list cannot be read.
    """
    seen = lake.read(RESOURCES, columns=["region", "sku"]).dropna()
    in_use = set(zip(seen["region"], seen["sku"], strict=True))
    asked_regions = set(regions) or {region for region, _ in in_use}
    if not asked_regions:
        raise NoDataError(
            "No region is known, as nothing was collected yet: name one with --region or run "
            "`optimizer collect` first."
        )
    named = {(region, sku) for region, sku in in_use if region in asked_regions}
    if skus:
        named = {(region, sku) for region in asked_regions for sku in skus}
    replacing = () if skus else [size.sku for size in snapshot().sizes.values()]
    places = _spelled(named | {(region, sku) for region in asked_regions for sku in replacing})
    currency = billing_currency(lake.read(COSTS, columns=["currency"]))
    now_utc = connection.prices.now_utc()
    rows, problems = collect_prices(connection, places, currency=currency, now_utc=now_utc)
    if rows.empty:
        raise PriceNotFoundError(
            f"Azure's price list has no price in {currency} for what was asked in "
            f"{', '.join(sorted(asked_regions))}: check how --region and --sku are spelled."
        )
    lake.write(PRICES, rows)
    held = lake.read(PRICES, columns=["currency", "as_of"])
    missing = {problem.scope for problem in problems}
    return PriceReport(
        currency=currency,
        as_of_utc=now_utc,
        regions=tuple(sorted(asked_regions)),
        rows=len(rows),
        places=len(places) - len(missing),
        asked=len(places),
        oldest=held["as_of"][held["currency"] == currency].min().date(),
        unpriced=tuple(place for place in sorted(_spelled(named)) if _scope(*place) in missing),
    )


def freshness(lake: Lake) -> Check:
    """Return how old the list prices of the lake are."""
    known = lake.read(PRICES, columns=["currency", "as_of"])
    if known.empty:
        return Check(name="List prices", ok=None, detail=f"None was read yet. {_ours()} serve.")
    days = known["as_of"].dt.strftime("%Y-%m-%d")
    return Check(
        name="List prices",
        ok=True,
        detail=f"{len(known):,} in {', '.join(sorted(set(known['currency'])))}, read from "
        f"{days.min()} to {days.max()}; `optimizer prices refresh` reads them again.",
    )


def billing_currency(costs: pd.DataFrame) -> str:
    """Return the currency that most costs are in; before any bill, that of the price list."""
    billed = costs["currency"].dropna()
    return str(billed.mode()[0]) if len(billed) else snapshot().currency


def collect_prices(
    connection: Connection, places: Collection[Place], *, currency: str, now_utc: datetime
) -> tuple[pd.DataFrame, list[Problem]]:
    """Return the rows of `tables.PRICES` of regions and sizes, and what the list does not have.

    Raises:
        AzureError: the price list cannot be read.
    """
    places = _spelled(places)
    answers = connection.map(
        lambda question: list(connection.prices.items(question, currency=currency)),
        list(_questions(places)),
    )
    items = (item for answer in answers for item in answer)
    rows = pd.DataFrame(price_rows(items, as_of=now_utc), columns=PRICES.schema.names)
    sold = set(zip(rows["region"], rows["sku"], strict=True))
    return rows, [_unpriced(*place, currency) for place in sorted(places - sold)]


def without(places: Collection[Place], prices: pd.DataFrame) -> set[Place]:
    """Return the places that have no row among some of the table's, however they are spelled."""
    have = set(zip(prices["region"], prices["sku"].str.lower(), strict=True))
    return {(region, sku) for region, sku in places if (region, sku.lower()) not in have}


def unread(error: AzureError, places: Collection[Place], currency: str) -> Problem:
    """Return that the list could not be read, and what serves for sizes that have no price yet."""
    return Problem(scope="Azure's price list", what=f"{error} {_serving(places, currency)}")


def _serving(places: Collection[Place], currency: str) -> str:
    if not places:
        return "The prices that were read before go on to serve."
    if currency != snapshot().currency:
        return (
            f"{_ours()} are in {snapshot().currency} and nothing is converted, so there is no "
            f"list price in {currency} until `optimizer prices refresh` succeeds."
        )
    served = sum(snapshot().price(*place) is not None for place in places)
    return (
        f"{_ours()} serve for {served} of {len(places)} sizes in use, until "
        "`optimizer prices refresh` succeeds."
    )


def _unpriced(region: str, sku: str, currency: str) -> Problem:
    price = snapshot().price(region, sku)
    if price is None:
        instead = "savings on it can only be worked out from the bill."
    elif currency != snapshot().currency:
        instead = (
            f"the one of {price.as_of} that comes with optimizer is in {snapshot().currency} and "
            "is not converted, so savings on it can only be worked out from the bill until "
            "`optimizer prices refresh` finds one."
        )
    else:
        instead = f"the list price of {price.as_of} that comes with optimizer is used."
    return Problem(
        scope=_scope(region, sku),
        what=f"Azure's price list has no {sku} in {region} in {currency}: {instead}",
    )


def _ours() -> str:
    oldest, newest = snapshot().listed_between
    return f"List prices of {oldest} to {newest} that come with optimizer"


def _scope(region: str, sku: str) -> str:
    return f"{region}/{sku}"


def _spelled(places: Iterable[Place]) -> set[Place]:
    """Return places with sizes as the price list spells them, which minds the case."""
    known = {region_sku: snapshot().size(region_sku[1]) for region_sku in places}
    return {(region, size.sku if size else sku) for (region, sku), size in known.items()}


def price_rows(items: Iterable[Item], *, as_of: datetime) -> Iterator[dict[str, Any]]:
    """Yield the prices of Linux virtual machines among the rows of the price list, per hour.

    A reservation is listed at the total of its term although its unit reads "1 Hour"; Windows and
    Cloud Services are other products of the same size; low priority and spot are meters of their
    own; savings plans hang below the pay-as-you-go row (facts §7). `as_of` is when the list was
    read.
    """
    for item in items:
        product, kind = item["productName"], item["type"]
        if product.endswith(("Windows", "Cloud Services")) or item["retailPrice"] is None:
            continue
        if kind == "Reservation":
            term = _TERMS.get(item.get("reservationTerm") or "")
            if term:
                yield _row(item, "reservation", term, item["retailPrice"] / _HOURS[term], as_of)
        elif kind == "Consumption" and item["unitOfMeasure"] == "1 Hour":
            offer = _offer(item["skuName"])
            yield _row(item, offer, "", item["retailPrice"], as_of)
            for plan in item.get("savingsPlan") or []:
                if offer == "payg" and plan["term"] in _TERMS:
                    term = _TERMS[plan["term"]]
                    yield _row(item, "savings_plan", term, plan["retailPrice"], as_of)


def _offer(sku_name: str) -> str:
    if sku_name.endswith("Low Priority"):
        return "low_priority"
    return "spot" if sku_name.endswith("Spot") else "payg"


def _row(
    item: Item, offer: str, term: str, price_per_hour: float, as_of: datetime
) -> dict[str, Any]:
    return {
        "region": item["armRegionName"],
        "sku": item["armSkuName"],
        "offer": offer,
        "term": term,
        "price_per_hour": price_per_hour,
        "currency": item["currencyCode"],
        "as_of": as_of,
    }


def _questions(places: Collection[Place]) -> Iterator[str]:
    by_region: dict[str, list[str]] = {}
    for region, sku in sorted(places):
        by_region.setdefault(region, []).append(sku)
    for region, skus in by_region.items():
        for start in range(0, len(skus), _SKUS_A_QUESTION):
            yield _question(region, skus[start : start + _SKUS_A_QUESTION])


def _question(region: str, skus: Sequence[str]) -> str:
    either = " or ".join(f"armSkuName eq '{sku}'" for sku in skus)
    return f"serviceName eq 'Virtual Machines' and armRegionName eq '{region}' and " + (
        f"({either})" if len(skus) > 1 else either
    )
