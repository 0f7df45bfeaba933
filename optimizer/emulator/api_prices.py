"""Retail Prices: public list prices, with the traps of the real ones left in.

One size has rows for Linux, Windows and Cloud Services and a meter for low priority; the price of
a reservation is that of its whole term although its unit says an hour.
"""

from collections.abc import Iterator

from optimizer.emulator import skus
from optimizer.emulator.estate import Price
from optimizer.emulator.odata import parse_filter
from optimizer.emulator.wire import Answer, Call, Endpoint, Json, page, stable_id

PRICE_PAGE = 1000
_HOURS = {"1 Year": 8760, "3 Years": 26280}
_WINDOWS_SURCHARGE = 0.046
"""What a core's licence costs an hour: a decoy here, for Azure ML bills Linux."""


def _prices(call: Call) -> Answer:
    currency = call.query.get("currencycode", "'USD'").strip("'")
    # No exchange rate is known here: an estate has list prices in the currency of its bill only.
    sold = [price for price in call.world.estate.prices.values() if price.currency == currency]
    items = [item for price in sold for item in _items(price)]
    if text := call.query.get("$filter"):
        wanted = parse_filter(text)
        items = [item for item in items if wanted.holds(item | {"priceType": item["type"]})]
    body = page(call, items, PRICE_PAGE, link="NextPageLink")
    shown = body.pop("value")
    return Answer(
        body={
            "BillingCurrency": currency,
            "CustomerEntityId": "Default",
            "CustomerEntityType": "Retail",
            "Items": shown,
            "NextPageLink": body.get("NextPageLink"),
            "Count": len(shown),
        }
    )


def _items(price: Price) -> Iterator[Json]:
    series = f"Virtual Machines {skus.series(price.sku)}"
    if price.list_per_hour is not None:
        yield _item(price, price.list_per_hour, series)
        windows = price.list_per_hour + _WINDOWS_SURCHARGE * (price.vcpus or 1)
        yield _item(price, windows, f"{series} Windows")
        cloud = f"{skus.series(price.sku)} Cloud Services"
        yield _item(price, windows, cloud)
    if price.low_priority_per_hour is not None:
        yield _item(price, price.low_priority_per_hour, series, suffix=" Low Priority")
    for term, per_hour in (
        ("1 Year", price.ri_1y_per_hour),
        ("3 Years", price.ri_3y_per_hour),
    ):
        if per_hour is not None:
            total = round(per_hour * _HOURS[term], 2)
            yield _item(price, total, series) | {"type": "Reservation", "reservationTerm": term}


def _item(price: Price, amount: float, product: str, *, suffix: str = "") -> Json:
    name = f"{skus.meter(price.sku)}{suffix}"
    amount = round(amount, 6)
    product_id = str(stable_id("product", product)).upper()[:12]
    return {
        "currencyCode": price.currency,
        "tierMinimumUnits": 0.0,
        "retailPrice": amount,
        "unitPrice": amount,
        "armRegionName": price.region,
        "location": price.region,
        "effectiveStartDate": f"{price.as_of}T00:00:00Z",
        "meterId": str(stable_id("meter", price.region, product, name)),
        "meterName": name,
        "productId": product_id,
        "skuId": f"{product_id}/{str(stable_id('sku', name)).upper()[:4]}",
        "productName": product,
        "skuName": name,
        "serviceName": "Virtual Machines",
        "serviceId": "DZH313Z7MMC8",
        "serviceFamily": "Compute",
        "unitOfMeasure": "1 Hour",
        "type": "Consumption",
        "isPrimaryMeterRegion": True,
        "armSkuName": price.sku,
    }


ENDPOINTS = (
    Endpoint(
        api="retail_prices",
        method="GET",
        template="/api/retail/prices",
        handle=_prices,
        versioned=False,
    ),
)
