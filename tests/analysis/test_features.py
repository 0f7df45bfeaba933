"""Tables become the few arrays that a detector may see."""

from dataclasses import replace
from datetime import date
from pathlib import Path

import pandas as pd

from optimizer.analysis.features import Frames, instance_features, list_prices
from optimizer.catalogue import ListPrice
from optimizer.model import Kind, Resource
from optimizer.store import tables
from optimizer.store.lake import Lake
from optimizer.store.weeks import read_use
from tests.analysis.builders import resource, window


def empty_frames(lake: Lake) -> Frames:
    return Frames(
        window=window(14),
        resources=lake.read(tables.RESOURCES),
        node_minutes=lake.read(tables.NODE_MINUTES),
        node_days=lake.read(tables.NODE_DAYS),
        uses=read_use(lake, window(14)),
        intervals=lake.read(tables.INTERVALS),
        instance_events=lake.read(tables.INSTANCE_EVENTS),
        jobs=lake.read(tables.JOBS),
        requests=lake.read(tables.REQUESTS),
        costs=lake.read(tables.COSTS),
        prices=lake.read(tables.PRICES),
    )


def stopped_instance() -> Resource:
    return replace(resource(Kind.INSTANCE), state="Stopped", created_utc=None)


def test_an_instance_that_never_ran_was_never_on(tmp_path: Path) -> None:
    frames = empty_frames(Lake(tmp_path))
    seen = instance_features(frames, stopped_instance(), [(window(14).start_utc, {})])
    assert seen is not None
    assert (int(seen.on.sum()), seen.unknown_hours, seen.idle_stops) == (0, 0.0, 0)


def price_row(sku: str, per_hour: float, **changes: str) -> dict[str, object]:
    row = {"region": "eastus", "sku": sku, "offer": "payg", "term": "", "currency": "EUR"}
    as_of = pd.Timestamp(changes.pop("as_of", "2026-06-01"), tz="UTC")
    return {**row, "price_per_hour": per_hour, "as_of": as_of, **changes}


def test_the_later_of_two_list_prices_counts_and_only_in_the_currency_of_the_bill() -> None:
    rows = [
        price_row("Standard_D2_v3", 0.11, as_of="2026-07-01"),
        price_row("STANDARD_D2_V3", 0.10),
        price_row("Standard_D4_v3", 0.20, currency="USD"),
        price_row("Standard_D2_v3", 0.06, offer="reservation", term="1y"),
    ]
    assert list_prices(pd.DataFrame(rows), "EUR") == {
        ("eastus", "standard_d2_v3", "payg", ""): ListPrice(per_hour=0.11, as_of=date(2026, 7, 1)),
        ("eastus", "standard_d2_v3", "reservation", "1y"): ListPrice(
            per_hour=0.06, as_of=date(2026, 6, 1)
        ),
    }
