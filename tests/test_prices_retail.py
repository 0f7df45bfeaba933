from datetime import UTC, datetime
from typing import Any

import pytest

from optimizer.collectors.prices import price_rows
from tests.recorded import recorded

NOW = datetime(2026, 8, 1, tzinfo=UTC)


def item(**columns: Any) -> dict[str, Any]:
    return {
        "armRegionName": "eastus",
        "armSkuName": "Standard_D2",
        "productName": "Virtual Machines D Series",
        "skuName": "D2",
        "type": "Consumption",
        "retailPrice": 0.1,
        "unitOfMeasure": "1 Hour",
        "currencyCode": "EUR",
        "reservationTerm": None,
    } | columns


def prices(*items: dict[str, Any]) -> dict[tuple[str, str], float]:
    rows = price_rows(items, as_of=NOW)
    return {(row["offer"], row["term"]): row["price_per_hour"] for row in rows}


def test_a_reservation_is_the_total_of_its_term() -> None:
    one = item(type="Reservation", reservationTerm="1 Year", retailPrice=876.0)
    three = item(type="Reservation", reservationTerm="3 Years", retailPrice=2628.0)
    assert prices(one, three) == {("reservation", "1y"): 0.1, ("reservation", "3y"): 0.1}


def test_low_priority_and_spot_are_offers_of_their_own() -> None:
    low, spot = item(skuName="D2 Low Priority"), item(skuName="D2 Spot", retailPrice=0.03)
    assert prices(item(), low, spot) == {
        ("payg", ""): 0.1,
        ("low_priority", ""): 0.1,
        ("spot", ""): 0.03,
    }


@pytest.mark.parametrize(
    "other",
    [
        {"productName": "Virtual Machines D Series Windows"},
        {"productName": "D Series Cloud Services"},
        {"type": "DevTestConsumption"},
        {"retailPrice": None},
        {"type": "Reservation", "reservationTerm": "5 Years"},
    ],
)
def test_other_products_are_no_price_of_ours(other: dict[str, Any]) -> None:
    assert prices(item(**other)) == {}


def test_a_row_says_when_and_in_which_currency() -> None:
    (row,) = price_rows([item()], as_of=NOW)
    assert (row["as_of"], row["currency"], row["region"]) == (NOW, "EUR", "eastus")


def test_recorded_rows_of_one_size() -> None:
    example = recorded("azure/examples/rec-retail-prices-one-sku-13-rows.json")
    names = example["allRowsColumns"]
    rest = {"armRegionName": "australiacentral", "armSkuName": "Standard_B16als_v2"}
    rows = [item(**rest, **dict(zip(names, row, strict=True))) for row in example["allRows"]]
    assert prices(*rows) == pytest.approx(
        {
            ("payg", ""): 0.673,
            ("low_priority", ""): 0.135,
            ("spot", ""): 0.6057,
            ("reservation", "1y"): 3478 / 8760,
            ("reservation", "3y"): 6721 / 26280,
        }
    )
    assert prices(*example["fullItems"]) == pytest.approx(
        {
            ("payg", ""): 0.673,
            ("savings_plan", "1y"): 0.49129,
            ("savings_plan", "3y"): 0.34323,
            ("reservation", "1y"): 3478 / 8760,
        }
    )
