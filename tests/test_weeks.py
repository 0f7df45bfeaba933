"""Use pooled by compute and week equals its node-days one by one."""

from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from shutil import copytree

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from optimizer.errors import LakeError
from optimizer.model import Window
from optimizer.store.lake import Lake
from optimizer.store.partials import built_days, refresh_partials
from optimizer.store.tables import NODE_DAYS, SAMPLES, USE_WEEKS
from optimizer.store.weeks import HISTOGRAMS, read_use, use_in

THURSDAY = datetime(2026, 1, 1, tzinfo=UTC)
DAYS = 18
"""Up to a Sunday: two whole weeks among them."""


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of two nodes of a compute, one with a GPU, and one of another that is not always there."""
    random = np.random.default_rng(5)
    rest = dict.fromkeys(SAMPLES.schema.names)
    rows = []
    for day in range(DAYS):
        devices = [("/a", "1", ""), ("/a", "2", ""), ("/a", "2", "0"), ("/b", "3", "")]
        for resource, node, device in devices[: 3 if day % 3 else 4]:
            kinds = ("gpu_max", "gpu_avg") if device else ("cpu_max", "cpu_avg", "memory_max")
            minute = timedelta(days=day, minutes=random.integers(1440).item())
            row = {
                "resource_id": resource,
                "node_id": node,
                "device_id": device,
                "minute_utc": THURSDAY + minute,
                "grain_minutes": 5,
                "busy": random.integers(2).item() == 1,
            }
            rows.append(rest | row | {kind: random.integers(1001).item() for kind in kinds})
    root = tmp_path_factory.mktemp("lake")
    filled = Lake(root)
    filled.write(SAMPLES, pa.Table.from_pylist(rows, SAMPLES.schema))
    refresh_partials(filled, filled.days(SAMPLES))
    return root


@pytest.fixture
def lake(built: Path, tmp_path: Path) -> Lake:
    copytree(built, tmp_path, dirs_exist_ok=True)
    return Lake(tmp_path)


def days(first: int, count: int) -> Window:
    start = THURSDAY + timedelta(days=first)
    return Window(start_utc=start, end_utc=start + timedelta(days=count))


def same(found: pd.DataFrame, expected: pd.DataFrame) -> bool:
    one, other = (frame.drop(columns=list(HISTOGRAMS)) for frame in (found, expected))
    pd.testing.assert_frame_equal(one, other)
    return all(
        np.array_equal(one, other)
        for name in HISTOGRAMS
        for one, other in zip(found[name], expected[name], strict=True)
    )


@pytest.mark.parametrize("first", range(5))
@pytest.mark.parametrize("count", [4, 7, 13])
def test_any_window_is_its_node_days_one_by_one(lake: Lake, first: int, count: int) -> None:
    window = days(first, count)
    found = read_use(lake, window)
    assert same(found, use_in(lake.read_arrow(NODE_DAYS, window)))
    assert found["machine_days"]["/a"] == 2 * count
    assert found["days"]["/b"] == sum(day % 3 == 0 for day in range(first, first + count))
    assert found["gpu_histogram"]["/b"] is None
    assert found["gpus_seen"].isna()["/b"]


def test_whole_weeks_are_read_as_one(lake: Lake) -> None:
    mondays = [date(2025, 12, 29), date(2026, 1, 5), date(2026, 1, 12)]
    assert lake.days(USE_WEEKS) == mondays
    before = read_use(lake, days(0, DAYS))
    for day in range(5, 9):  # within the second week
        lake.drop(NODE_DAYS, date(2026, 1, day))
    assert same(read_use(lake, days(0, DAYS)), before)


def test_a_week_that_is_being_built_anew_is_told_by_its_days(lake: Lake) -> None:
    before = read_use(lake, days(0, DAYS))
    lake.replace(USE_WEEKS, date(2026, 1, 5), USE_WEEKS.schema.empty_table())
    assert same(read_use(lake, days(0, DAYS)), before)


def test_a_window_without_days_is_empty(lake: Lake) -> None:
    assert read_use(lake, days(100, 3)).empty


def test_a_week_holds_what_its_days_became(lake: Lake) -> None:
    row = lake.read_arrow(SAMPLES, days(5, 1)).slice(0, 1)
    cpu = SAMPLES.schema.get_field_index("cpu_max")
    lake.write(SAMPLES, row.set_column(cpu, "cpu_max", pa.array([777], pa.uint16())))
    before = read_use(lake, days(4, 7))["cpu_histogram"]["/a"]
    refresh_partials(lake, [date(2026, 1, 6)])
    after = read_use(lake, days(4, 7))["cpu_histogram"]["/a"]
    assert after[777] - before[777] == 5


def test_partials_of_an_earlier_version_are_refused_and_built_anew(
    lake: Lake, tmp_path: Path
) -> None:
    file = tmp_path / "node_days" / "2026-01-01.parquet"
    pairs = pa.array([[10, 5], [20, 5], [30, 5]], pa.list_(pa.uint32()))
    rows = pq.read_table(file).drop_columns(["cpu_minutes", "cpu_sum"])
    for name in HISTOGRAMS:
        rows = rows.set_column(rows.schema.get_field_index(name), name, pairs)
    before = read_use(lake, days(0, 3))
    pq.write_table(rows, file)
    with pytest.raises(LakeError, match="earlier version: run `optimizer collect`"):
        read_use(lake, days(0, 3))
    stale = set(lake.days(SAMPLES)) - set(built_days(lake))
    assert stale == {date(2026, 1, 1)}
    refresh_partials(lake, stale)
    assert same(read_use(lake, days(0, 3)), before)


def test_a_refresh_that_is_cut_short_leaves_no_stale_week(lake: Lake, tmp_path: Path) -> None:
    (tmp_path / "samples" / "2026-01-06.parquet").write_bytes(b"damaged")
    with pytest.raises(LakeError):
        refresh_partials(lake, [date(2026, 1, 6)])
    assert date(2026, 1, 5) not in lake.days(USE_WEEKS)
    assert date(2026, 1, 7) not in built_days(lake)
