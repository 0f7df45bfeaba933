from collections import Counter
from datetime import UTC, date, datetime, timedelta
from itertools import accumulate
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from optimizer.store.lake import Lake
from optimizer.store.partials import day_partials, refresh_partials
from optimizer.store.tables import INTERVALS, NODE_DAYS, SAMPLES

DAY = datetime(2026, 1, 1, tzinfo=UTC)


def samples(*rows: dict[str, Any]) -> pa.Table:
    plain = {"resource_id": "/r", "node_id": "n", "device_id": "", "grain_minutes": 1}
    rest = dict.fromkeys(SAMPLES.schema.names)
    return pa.Table.from_pylist([rest | plain | row for row in rows], SAMPLES.schema)


def busy(text: str, *, grain: int = 1, first: int = 0, **row: Any) -> list[dict[str, Any]]:
    """Return samples in a row: `#` busy, `.` idle, a blank was not observed."""
    return [
        {
            "minute_utc": DAY + timedelta(minutes=first + i * grain),
            "grain_minutes": grain,
            "busy": mark == "#",
            "cpu_max": 900 if mark == "#" else 10,
            **row,
        }
        for i, mark in enumerate(text)
        if mark != " "
    ]


def bins(histogram: list[dict[str, int]] | None) -> dict[int, int] | None:
    """Return minutes by per mille."""
    if histogram is None:
        return None
    risen = accumulate(entry["rise"] for entry in histogram)
    return dict(zip(risen, (entry["minutes"] for entry in histogram), strict=True))


def intervals(*rows: dict[str, Any]) -> list[tuple[int, int, bool]]:
    found = day_partials(samples(*rows))[1].to_pylist()
    minute = timedelta(minutes=1)
    return [
        ((i["start_utc"] - DAY) // minute, (i["end_utc"] - DAY) // minute, i["busy"]) for i in found
    ]


def test_equal_neighbours_are_one_interval() -> None:
    assert intervals(*busy("##...#")) == [(0, 2, True), (2, 5, False), (5, 6, True)]


def test_a_short_hole_is_bridged_and_a_long_one_is_not() -> None:
    assert intervals(*busy("#     #")) == [(0, 7, True)]
    assert intervals(*busy("#      #")) == [(0, 1, True), (7, 8, True)]


def test_a_hole_between_busy_and_idle_belongs_to_neither() -> None:
    assert intervals(*busy("#  .")) == [(0, 1, True), (3, 4, False)]


def test_a_coarse_sample_covers_its_grain_and_ends_at_midnight() -> None:
    assert intervals(*busy("##", grain=5)) == [(0, 10, True)]
    assert intervals(*busy("#", grain=5, first=1438)) == [(1438, 1440, True)]


def test_a_node_is_busy_while_any_device_is() -> None:
    cpu, gpu = busy("....", device_id=""), busy(".##.", device_id="0")
    assert intervals(*cpu, *gpu) == [(0, 1, False), (1, 3, True), (3, 4, False)]


def test_unknown_is_neither_busy_nor_idle() -> None:
    rows = busy("##.##")
    rows[2]["busy"] = None
    node_days, _ = day_partials(samples(*rows))
    assert node_days["minutes"].to_pylist() == [4]
    assert intervals(*rows) == [(0, 5, True)]


def test_counters_and_maxima() -> None:
    (row,) = day_partials(samples(*busy("##..", grain=5, cpu_avg=100)))[0].to_pylist()
    assert (row["minutes"], row["busy_minutes"], row["cpu_max"]) == (20, 10, 900)
    assert bins(row["cpu_histogram"]) == {10: 10, 900: 10}
    assert (row["cpu_minutes"], row["cpu_sum"]) == (20, 2000)
    assert row["cpu_hour_sums"] == [2000] + [0] * 23


def test_gpus_are_told_apart() -> None:
    devices = {"0": (10, 900), "1": (0, 10), "2": (11, 0)}  # per mille in two samples
    rows = [
        row | {"gpu_max": value, "cpu_max": None}
        for device, values in devices.items()
        for row, value in zip(busy("##", device_id=device), values, strict=True)
    ]
    (row,) = day_partials(samples(*busy("##"), *rows))[0].to_pylist()
    assert (row["gpus_seen"], row["gpus_used"]) == (3, 2)  # 1 % is none


def test_what_was_not_observed_is_null() -> None:
    (row,) = day_partials(samples(*busy("#")))[0].to_pylist()
    gpu = ("gpu_histogram", "gpu_hour_sums", "gpu_max", "gpus_seen", "gpus_used")
    assert [row[k] for k in (*gpu, "memory_max")] == [None] * 6


def test_a_day_without_samples_gives_no_partials() -> None:
    assert [part.num_rows for part in day_partials(samples())] == [0, 0]


def test_histograms_lose_nothing() -> None:
    random = np.random.default_rng(7)
    values = random.integers(0, 1001, size=(3, 500))
    rows = [
        row | {"cpu_max": int(values[node, i])}
        for node in range(3)
        for i, row in enumerate(busy("#" * 500, node_id=f"n{node}"))
    ]
    random.shuffle(rows)
    for row in day_partials(samples(*rows))[0].to_pylist():
        node = int(row["node_id"][1:])
        assert bins(row["cpu_histogram"]) == Counter(values[node].tolist())


def test_refreshing_replaces_the_day(tmp_path: Path) -> None:
    lake = Lake(tmp_path)
    lake.write(SAMPLES, samples(*busy("##")))
    assert refresh_partials(lake, [date(2026, 1, 1)]) == 1
    lake.write(SAMPLES, samples(*busy(".", first=0)))
    refresh_partials(lake, [date(2026, 1, 1)])
    assert lake.read(INTERVALS)["busy"].tolist() == [False, True]
    assert lake.read(NODE_DAYS)["busy_minutes"].tolist() == [1]


@st.composite
def days(draw: st.DrawFn) -> list[dict[str, Any]]:
    """Samples of a few nodes and devices, any value and `busy` missing here and there."""
    per_mille = st.none() | st.sampled_from([0, 10, 11, 1000, 1003])
    keys = draw(
        st.lists(
            st.tuples(*(st.sampled_from("ab") for _ in range(3)), st.integers(1420, 1439)),
            unique=True,
            min_size=1,
            max_size=40,
        )
    )
    return [
        {
            "resource_id": resource,
            "node_id": node,
            "device_id": device,
            "minute_utc": DAY + timedelta(minutes=minute),
            "grain_minutes": draw(st.sampled_from([1, 5])),
            "busy": draw(st.none() | st.booleans()),
            "gpu_avg": draw(per_mille),
            "gpu_max": draw(per_mille),
        }
        for resource, node, device, minute in keys
    ]


def node_day(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Return what is kept of one node, worked out row by row."""
    minutes: Counter[int] = Counter()
    hours: Counter[int] = Counter()
    devices: dict[str, int] = {}
    observed: dict[int, tuple[int, bool]] = {}
    for row in rows:
        at, grain = (row["minute_utc"] - DAY) // timedelta(minutes=1), row["grain_minutes"]
        if (peak := row["gpu_max"]) is not None:
            minutes[min(peak, 1000)] += grain
            devices[row["device_id"]] = max(devices.get(row["device_id"], 0), peak)
        if row["gpu_avg"] is not None:
            hours[at // 60] += row["gpu_avg"] * grain
        if row["busy"] is not None:
            longest, busy = observed.get(at, (0, False))
            observed[at] = max(longest, grain), busy or row["busy"]
    lengths = {
        at: min(at + grain, min((a for a in observed if a > at), default=1440), 1440) - at
        for at, (grain, _) in observed.items()
    }
    told = any(row["gpu_avg"] is not None for row in rows)
    return {
        "minutes": sum(lengths.values()),
        "busy_minutes": sum(lengths[at] for at, (_, busy) in observed.items() if busy),
        "gpu_histogram": dict(minutes) or None,
        "gpu_hour_sums": [hours[hour] for hour in range(24)] if told else None,
        "gpu_max": max(devices.values(), default=None),
        "gpus_seen": len(devices) or None,
        "gpus_used": sum(peak > 10 for peak in devices.values()) if devices else None,
    }


@settings(max_examples=25)
@given(days(), st.randoms(use_true_random=False), st.sampled_from([1, 1 << 18]))
def test_any_day_in_any_order_is_worked_out_row_by_row(
    rows: list[dict[str, Any]], random: Random, block_rows: int
) -> None:
    shuffled = samples(*random.sample(rows, len(rows)))
    in_order = shuffled.sort_by([(name, "ascending") for name in SAMPLES.key])
    nodes = {(row["resource_id"], row["node_id"]) for row in rows}
    expected = {
        node: node_day([r for r in rows if (r["resource_id"], r["node_id"]) == node])
        for node in nodes
    }
    for table in (shuffled, in_order):
        found = day_partials(table, block_rows=block_rows)[0].to_pylist()
        assert len(found) == len(expected)
        for row in found:
            row["gpu_histogram"] = bins(row["gpu_histogram"])
            wanted = expected[row["resource_id"], row["node_id"]]
            assert {name: row[name] for name in wanted} == wanted
            assert row["cpu_histogram"] is None
