"""List prices: asked for in the currency of the bill, and what serves where there are none."""

import json
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from optimizer.azure.connect import Connection, connect
from optimizer.catalogue import snapshot
from optimizer.collectors.collect import CollectReport, collect
from optimizer.collectors.prices import collect_prices, freshness, refresh_prices
from optimizer.config import AnalysisSettings, AzureSettings, Settings
from optimizer.errors import NoDataError, PriceNotFoundError
from optimizer.model import Basis
from optimizer.pipeline import read_estate
from optimizer.store.lake import Lake
from optimizer.store.tables import PRICES, RESOURCES
from tests.conftest import Emulator
from tests.estates import CPU_SKU, GPU_SKU, write_small_estate

NOW = datetime(2026, 3, 1, tzinfo=UTC)
LIST_PATH = "/api/retail/prices"


def door_to(azure: Emulator) -> Connection:
    return connect(AzureSettings(endpoint=azure.url, ca_file=azure.ca_file, credential="emulator"))


def run(azure: Emulator, home: Path) -> CollectReport:
    return collect(
        door_to(azure),
        Lake(home / "lake"),
        lookback_days=21,
        subscriptions=(),
        analysis=AnalysisSettings(),
        progress=lambda *_: None,
    )


def small_estate(folder: Path, **changes: Any) -> Path:
    """Write the small estate whose bill names no compute, in another currency if so wished."""
    write_small_estate(folder)
    estate = json.loads((folder / "estate.json").read_text())
    estate["telemetry"] |= {"cost_details": False, "tags_on_costs": False}
    (folder / "estate.json").write_text(json.dumps(estate | changes))
    prices = (folder / "prices.csv").read_text()
    (folder / "prices.csv").write_text(prices.replace("USD", changes.get("currency", "USD")))
    return folder


def listing(report: CollectReport) -> list[str]:
    return [problem.what for problem in report.problems if "price" in problem.what]


@pytest.fixture(scope="module")
def dollars(
    emulator: Callable[[Path], Emulator], tmp_path_factory: pytest.TempPathFactory
) -> Emulator:
    return emulator(small_estate(tmp_path_factory.mktemp("usd") / "usd"))


@pytest.fixture(scope="module")
def euros(
    emulator: Callable[[Path], Emulator], tmp_path_factory: pytest.TempPathFactory
) -> Emulator:
    return emulator(small_estate(tmp_path_factory.mktemp("eur") / "eur", currency="EUR"))


@pytest.fixture
def healed(dollars: Emulator, euros: Emulator) -> Iterator[None]:
    yield
    dollars.heal()
    euros.heal()


# Which currency


def test_the_list_is_asked_for_in_the_currency_of_the_bill(euros: Emulator, tmp_path: Path) -> None:
    assert listing(run(euros, tmp_path)) == []
    assert set(Lake(tmp_path / "lake").read(PRICES)["currency"]) == {"EUR"}
    estate = read_estate(Settings(home=tmp_path))
    assert estate.bill.currency == estate.rates.catalogue.currency == "EUR"
    assert {case.rate.basis for case in estate.cases.values()} == {Basis.LIST_TIMES_DISCOUNT}


def test_the_list_answers_in_the_currency_it_is_asked_for(euros: Emulator) -> None:
    prices = door_to(euros).prices
    asked = f"armSkuName eq '{CPU_SKU}'"
    assert {row["currencyCode"] for row in prices.items(asked, currency="EUR")} == {"EUR"}
    assert list(prices.items(asked, currency="USD")) == []


# Where the list cannot be read


@pytest.mark.usefixtures("healed")
@pytest.mark.parametrize("fault", [{"status": 403}, {"status": 401}, {"cut_short": True}])
def test_without_the_list_the_snapshot_serves_and_says_of_when_it_is(
    fault: Mapping[str, Any], dollars: Emulator, tmp_path: Path
) -> None:
    dollars.fault(path_contains=LIST_PATH, **fault)
    (what,) = listing(run(dollars, tmp_path))
    assert "List prices of 2026-01-26 to 2026-08-22 that come with optimizer serve for 2 of" in what
    assert "`optimizer prices refresh`" in what
    assert Lake(tmp_path / "lake").read(PRICES).empty

    estate = read_estate(Settings(home=tmp_path))
    assert estate.unassessable == {}
    for case in estate.cases.values():
        price = snapshot().price("eastus", case.resource.sku or "")
        assert price is not None
        assert (case.rate.basis, case.rate.listed_on) == (Basis.LIST_TIMES_DISCOUNT, price.as_of)


@pytest.mark.usefixtures("healed")
def test_a_snapshot_in_dollars_is_no_price_of_a_bill_in_euros(
    euros: Emulator, tmp_path: Path
) -> None:
    euros.fault(status=403, path_contains=LIST_PATH)
    (what,) = listing(run(euros, tmp_path))
    assert "are in USD and nothing is converted" in what
    assert "no list price in EUR until `optimizer prices refresh` succeeds" in what
    estate = read_estate(Settings(home=tmp_path))
    assert estate.cases == {}
    assert all(
        reason.startswith("No price in EUR is known for Standard_")
        and "`optimizer prices refresh`" in reason
        for reason in estate.unassessable.values()
    )


@pytest.mark.usefixtures("healed")
def test_prices_read_before_go_on_to_serve(dollars: Emulator, tmp_path: Path) -> None:
    run(dollars, tmp_path)
    before = Lake(tmp_path / "lake").read(PRICES)
    dollars.advance(25)
    dollars.fault(status=403, path_contains=LIST_PATH)
    (what,) = listing(run(dollars, tmp_path))
    assert what.endswith("The prices that were read before go on to serve.")
    pd.testing.assert_frame_equal(Lake(tmp_path / "lake").read(PRICES), before)


# What the list does not have


def test_what_the_list_lacks_is_said_with_what_serves_instead(
    dollars: Emulator, euros: Emulator
) -> None:
    places = {("eastus", "Standard_D4s_v5"), ("eastus", "Standard_Odd"), ("eastus", CPU_SKU)}
    rows, problems = collect_prices(door_to(dollars), places, currency="USD", now_utc=NOW)
    assert set(rows["sku"]) == {CPU_SKU}
    served, unknown = problems
    assert "has no Standard_D4s_v5 in eastus in USD: the list price of 2026-06-01" in served.what
    assert "savings on it can only be worked out from the bill" in unknown.what
    _, (unconverted, _) = collect_prices(door_to(euros), places, currency="EUR", now_utc=NOW)
    assert "is in USD and is not converted" in unconverted.what


def test_a_size_is_asked_for_as_the_list_spells_it(dollars: Emulator) -> None:
    rows, problems = collect_prices(
        door_to(dollars), {("eastus", GPU_SKU.upper())}, currency="USD", now_utc=NOW
    )
    assert set(rows["sku"]) == {GPU_SKU}
    assert problems == []


# Refreshing


def test_a_refresh_reads_what_is_in_use_and_what_could_replace_it(
    dollars: Emulator, tmp_path: Path
) -> None:
    run(dollars, tmp_path)
    lake = Lake(tmp_path / "lake")
    later = dollars.advance(1)
    report = refresh_prices(door_to(dollars), lake, regions=(), skus=())
    assert (report.regions, report.currency, report.as_of_utc) == (("eastus",), "USD", later)
    assert (report.rows, report.places, report.unpriced) == (8, 2, ())
    assert report.asked == len(snapshot().sizes)
    assert set(lake.read(PRICES)["as_of"]) == {pd.Timestamp(later)}
    assert freshness(lake).ok


def test_a_refresh_says_what_was_named_and_is_not_listed(dollars: Emulator, tmp_path: Path) -> None:
    report = refresh_prices(
        door_to(dollars), Lake(tmp_path), regions=["eastus"], skus=["Standard_Odd", CPU_SKU.lower()]
    )
    assert (report.asked, report.places) == (2, 1)
    assert report.unpriced == (("eastus", "Standard_Odd"),)


def test_a_refresh_needs_a_region_that_exists(dollars: Emulator, tmp_path: Path) -> None:
    lake = Lake(tmp_path)
    assert freshness(lake).ok is None
    with pytest.raises(NoDataError, match="name one with --region"):
        refresh_prices(door_to(dollars), lake, regions=(), skus=())
    with pytest.raises(PriceNotFoundError, match="in nowhere: check how --region"):
        refresh_prices(door_to(dollars), lake, regions=["nowhere"], skus=())
    assert lake.read(RESOURCES).empty
