"""Tables become the few arrays that a detector may see."""

from dataclasses import replace
from datetime import date
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

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


def events_of(lake: Lake, *rows: tuple[str, str, str]) -> pd.DataFrame:
    """Return events of the instance: when on the first day of June 2026, what, and how it went."""
    frame = lake.read(tables.INSTANCE_EVENTS).reindex(range(len(rows)))
    frame["resource_id"] = stopped_instance().resource_id
    frame["at_utc"] = [pd.Timestamp(f"2026-06-01T{at}Z") for at, *_ in rows]
    frame["operation"] = [operation for _, operation, _ in rows]
    frame["status"] = [status for *_, status in rows]
    return frame


def intervals_of(lake: Lake, *rows: tuple[str, str, bool]) -> pd.DataFrame:
    """Return stretches of use of the instance in June 2026."""
    frame = lake.read(tables.INTERVALS).reindex(range(len(rows)))
    frame["resource_id"] = stopped_instance().resource_id
    frame["start_utc"] = [pd.Timestamp(f"2026-06-{start}Z") for start, *_ in rows]
    frame["end_utc"] = [pd.Timestamp(f"2026-06-{end}Z") for _, end, _ in rows]
    frame["busy"] = pd.array([busy for *_, busy in rows], dtype="boolean")
    return frame


def test_the_activity_log_tells_how_long_starts_took(tmp_path: Path) -> None:
    lake = Lake(tmp_path)
    events = events_of(
        lake,
        ("08:00:00", "Start", "Started"),
        ("08:02:30", "Start", "Succeeded"),
        ("10:00:00", "Stop", "Succeeded"),
        # One that failed tells nothing, and the instance did not run.
        ("11:00:00", "Start", "Started"),
        ("11:09:00", "Start", "Failed"),
        # Of one whose beginning got lost the end is where it began to run.
        ("12:00:00", "Start", "Succeeded"),
        ("13:00:00", "Stop", "Succeeded"),
        ("14:00:00", "Start", "Started"),
        ("14:03:10", "Start", "Succeeded"),
        ("15:00:00", "Stop", "Succeeded"),
    )
    use = intervals_of(lake, ("01T08:03:00", "01T15:00:00", True))
    frames = replace(empty_frames(lake), instance_events=events, intervals=use)
    seen = instance_features(frames, stopped_instance(), [(window(14).start_utc, {})])
    assert seen is not None
    assert seen.start_seconds == (150.0, 190.0)
    on = np.flatnonzero(np.diff(seen.on.astype(int), prepend=0))
    assert (on / 60).tolist() == [8, 10, 12, 13, 14, 15]


def test_a_sample_lost_at_midnight_is_no_use(tmp_path: Path) -> None:
    lake = Lake(tmp_path)
    use = intervals_of(
        lake,
        ("01T00:00:00", "01T08:00:00", False),
        ("01T08:00:00", "01T18:00:00", True),
        ("01T18:00:00", "02T00:00:00", False),
        # The first minute of the day is missing, and later ten of them.
        ("02T00:01:00", "02T12:00:00", False),
        ("02T12:10:00", "15T00:00:00", False),
    )
    running = replace(stopped_instance(), state="Running")
    frames = replace(empty_frames(lake), intervals=use)
    seen = instance_features(frames, running, [(window(14).start_utc, {})])
    assert seen is not None
    assert seen.gaps.start.tolist() == [0, 18 * 60, 36 * 60 + 10]
    assert seen.gaps.minutes.tolist() == [480, 18 * 60, 14 * 1440 - 36 * 60 - 10]
    assert seen.unknown_hours == pytest.approx(10 / 60)


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
