"""List prices of the VM sizes that are in use, from Azure's public price list."""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

import pandas as pd

from optimizer.azure.connect import Connection
from optimizer.model import Problem

_TERMS = {"1 Year": "1y", "3 Years": "3y"}
_HOURS = {"1y": 8760, "3y": 26280}
_SKUS_A_QUESTION = 15
"""Keeps the address of a request well under 2 kB."""

Item = Mapping[str, Any]


def collect_prices(
    connection: Connection,
    places: Collection[tuple[str, str]],
    *,
    currency: str,
    now_utc: datetime,
) -> tuple[pd.DataFrame, list[Problem]]:
    """Return the rows of `tables.PRICES` of pairs of region and VM size, and what has no price.

    Raises:
        AzureError: the price list cannot be read.
    """
    answers = connection.map(
        lambda question: list(connection.prices.items(question, currency=currency)),
        list(_questions(places)),
    )
    items = (item for answer in answers for item in answer)
    rows = pd.DataFrame(price_rows(items, as_of=now_utc))
    sold = set(zip(rows["region"], rows["sku"], strict=True)) if len(rows) else set()
    return rows, [_unpriced(*place) for place in sorted(set(places) - sold)]


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


def _questions(places: Collection[tuple[str, str]]) -> Iterator[str]:
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


def _unpriced(region: str, sku: str) -> Problem:
    return Problem(
        scope=f"{region}/{sku}",
        what=f"Azure's price list has no {sku} in {region}: savings on it can only be worked out "
        "from the bill.",
    )
