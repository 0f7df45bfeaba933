"""Feature build, replay and reservations against what they replace, as ratios in one run.

    python -m benchmarks.speed [--nodes 3500] [--days 21]

A day of one-minute samples lies in a lake, as collectors write it; the scan and the queries read
that file, and only the columns that the build reads. Figures are CPU seconds of all threads. Rounds
are interleaved and each figure is the median of their ratios, so that a noisy machine does not
matter. What is worked out in two ways must be equal, or nothing is printed.
"""

import argparse
import resource
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any, TypeAlias

import duckdb
import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa

from benchmarks.estate_files import write_json
from optimizer.analysis.commitments import optimal_level
from optimizer.analysis.replay import Physics, cut_into_levels, sweep
from optimizer.analysis.use import BINS, Use, use_of
from optimizer.errors import OptimizerError
from optimizer.model import Window
from optimizer.store.histograms import decoded
from optimizer.store.lake import Lake
from optimizer.store.partials import BRIDGED_MINUTES, COLUMNS, day_partials, refresh_partials
from optimizer.store.tables import INTERVALS, NODE_DAYS, SAMPLES, USE_WEEKS, Table
from optimizer.store.weeks import DAYS_PER_WEEK, HISTOGRAMS, read_use, use_in

RESULTS = Path(__file__).parent / "results"

ROUNDS = 5
MINUTES_PER_DAY = 1440
DAY = date(2026, 6, 1)
NODES_PER_CLUSTER = 12

METRICS = ("cpu_max", "memory_max", "gpu_max", "gpu_memory_max")
QUANTILES = (0.5, 0.95, 0.99)
IDLE_MINUTES = tuple(range(60))
MIN_NODES = (0, 1, 2, 3, 4)
REPEATS = 50
"""What takes a millisecond is measured so many times over."""

PEAK = """
import sys
from datetime import date
from pathlib import Path
from benchmarks.speed import print_peak_of

print_peak_of(Path(sys.argv[1]), [date.fromisoformat(day) for day in sys.argv[2:]])
"""

Ints: TypeAlias = npt.NDArray[np.int64]


class SpeedError(OptimizerError):
    """Two ways of working the same thing out do not agree."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Print goal and figure of each ratio and keep them as JSON."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.speed")
    parser.add_argument("--nodes", type=int, default=3500, help="of the day that is built")
    parser.add_argument("--days", type=int, default=21, help="of a fifth of the nodes, for a week")
    parsed = parser.parse_args(arguments)
    if parsed.days < DAYS_PER_WEEK:
        parser.error("--days must hold a week")
    try:
        with tempfile.TemporaryDirectory() as folder:
            table = feature_build(Path(folder) / "one", nodes=parsed.nodes)
            table += many_days(Path(folder) / "many", nodes=parsed.nodes // 5, days=parsed.days)
        table += [*replay_all_settings(), *reservations()]
    except OptimizerError as error:
        print(error, file=sys.stderr)
        return 1
    for row in table:
        print("  ".join(f"{name} {value}" for name, value in row.items()))
    write_json(RESULTS / "speed.json", {"ratios": table})
    return 0


def day_of_samples(nodes: int) -> pa.Table:
    """Return a day of nodes that are there two thirds of it, two of three with a GPU.

    Work comes in stretches of 75 minutes, each with a level of its own that samples scatter about.
    """
    rng = np.random.default_rng(7)
    there = rng.random((nodes, MINUTES_PER_DAY // 60)).repeat(60, axis=1) < 0.66  # noqa: PLR2004
    node, minute = np.nonzero(there)
    count = node.size
    stretch = np.arange(count) // 75
    busy = (rng.random(stretch[-1] + 1) < 0.6)[stretch]  # noqa: PLR2004
    no_gpu = node // NODES_PER_CLUSTER % 3 == 0
    columns: dict[str, Any] = {
        "resource_id": _named("/computes/cluster-{:03d}", node // NODES_PER_CLUSTER),
        "node_id": _named("node-{:05d}", node),
        "device_id": pa.array(np.full(count, "")),
        "minute_utc": _times(minute),
        "grain_minutes": np.ones(count, np.uint16),
        "busy": busy,
    }
    for name in SAMPLES.schema.names:
        if name.endswith(("_avg", "_max")):
            level = rng.integers(0, BINS, stretch[-1] + 1)[stretch] * busy
            value = np.clip(level + rng.normal(10, 20, count), 0, BINS - 1).astype(np.uint16)
            columns[name] = pa.array(value, mask=no_gpu if name.startswith("gpu") else None)
    return pa.table([columns[name] for name in SAMPLES.schema.names], schema=SAMPLES.schema)


def _named(form: str, number: Ints) -> pa.Array:
    return pa.array([form.format(n) for n in range(int(number[-1]) + 1)]).take(pa.array(number))


def _times(minute: Ints) -> pa.Array:
    start = int(datetime(DAY.year, DAY.month, DAY.day, tzinfo=UTC).timestamp())
    return pa.array(start + minute * 60).cast(pa.timestamp("s", tz="UTC"))


def feature_build(root: Path, *, nodes: int) -> list[dict[str, Any]]:
    """Return the build's CPU against DuckDB's raw scan, and against the queries it replaces.

    Raises:
        SpeedError: quantiles, minutes or intervals differ from those of the queries.
    """
    lake = Lake(root)
    rows = lake.replace(SAMPLES, DAY, day_of_samples(nodes))
    (file,) = _files(root, SAMPLES)
    scanned = ", ".join(_read(name) for name in COLUMNS)
    built: list[pa.Table] = []

    def build() -> None:
        built[:] = day_partials(lake.read_day(SAMPLES, DAY, COLUMNS))

    def queries() -> None:
        for name, query in replaced(file).items():
            duckdb.execute(f"create or replace temp table {name} as {query}")

    exact = ", ".join(f"quantile_disc({metric}, {list(QUANTILES)})" for metric in METRICS)
    by_node = f"select {exact} from '{file}' group by node_id order by node_id"  # noqa: S608
    times = interleaved(
        {
            "scan": lambda: duckdb.execute(f"select {scanned} from '{file}'").fetchall(),  # noqa: S608
            "read": lambda: lake.read_day(SAMPLES, DAY, COLUMNS),
            "build": build,
            "queries": queries,
            "quantile_disc": lambda: duckdb.execute(by_node).fetchall(),
            "from_histograms": lambda: (
                [_quantiles(built[0], m) for m in METRICS] if built else None
            ),
        }
    )
    told = zip(*(_quantiles(built[0], metric) for metric in METRICS), strict=True)
    if duckdb.execute(by_node).fetchall() != list(told):
        raise SpeedError("Quantiles of histograms differ from those of the values.")
    same = "select (select sum(busy_minutes) from counters), (select count(*) from intervals)"
    if duckdb.execute(same).fetchone() != (
        sum(built[0]["busy_minutes"].to_pylist()),
        built[1].num_rows,
    ):
        raise SpeedError("Busy minutes or intervals differ from those of the queries.")
    through = [a + b for a, b in zip(times["build"], times["from_histograms"], strict=True)]
    return [
        row("feature build ÷ raw scan", "≤ 1.3", times["build"], times["scan"], rows),
        row("of it, decoding ÷ raw scan", None, times["read"], times["scan"], rows),
        row("four queries ÷ feature build", "≥ 8", times["queries"], times["build"], rows),
        row(
            "feature build and quantiles of 4 histograms ÷ quantile_disc",
            "≤ 0.25",
            through,
            times["quantile_disc"],
            rows,
        ),
    ]


def _read(column: str) -> str:
    """Return the cheapest expression for which DuckDB has to read a column.

    A plain maximum or count is answered from the file's statistics, and the maximum of texts makes
    a text of each row, which the build does not.
    """
    if column.endswith("_id"):
        return f"max(strlen({column}))"
    told = {"busy": "count_if(busy)", "minute_utc": "max(epoch(minute_utc))"}
    return told.get(column, f"max({column})")


def replaced(file: Path) -> dict[str, str]:
    """Return the queries that work out what the build does, by name."""
    node = "resource_id, node_id"
    histograms = " union all ".join(
        f"select '{metric}' metric, {node}, {metric}, sum(grain_minutes) from '{file}' group by all"  # noqa: S608
        for metric in METRICS
    )
    maxima = ", ".join(f"max({metric})" for metric in METRICS)
    far = f"epoch(minute_utc) - epoch(lag(minute_utc) over w) > 60 * {BRIDGED_MINUTES + 1}"
    marked = (
        f"select *, coalesce(busy <> lag(busy) over w or {far}, true)::int far "  # noqa: S608
        f"from '{file}' window w as (partition by {node} order by minute_utc)"
    )
    numbered = (
        f"select *, sum(far) over (partition by {node} order by minute_utc) run from ({marked})"  # noqa: S608
    )
    return {
        "histograms": histograms,
        "counters": f"select {node}, sum(grain_minutes), {maxima}, "  # noqa: S608
        f"sum(grain_minutes) filter (busy) busy_minutes from '{file}' group by all",
        "hours": f"select {node}, epoch(minute_utc) // 3600 % 24 h, sum(cpu_avg * grain_minutes), "  # noqa: S608
        f"sum(gpu_avg * grain_minutes) from '{file}' group by all",
        "intervals": f"select {node}, run, busy, min(minute_utc), "  # noqa: S608
        f"max(epoch(minute_utc) + 60 * grain_minutes) from ({numbered}) group by all",
    }


def _quantiles(node_days: pa.Table, metric: str) -> list[list[int] | None]:
    """Return p50, p95 and p99 of each node by rank, from its lossless histogram."""
    name = metric.replace("_max", "_histogram")
    filled, bins, minutes = decoded(node_days[name])
    last = np.append(0, filled.cumsum())
    upto = np.concatenate(([0], minutes.cumsum(dtype=np.int64)))
    below, total = upto[last[:-1], None], np.diff(upto[last])[:, None]
    rank = below + np.ceil(np.array(QUANTILES) * total - 1e-9).astype(np.int64)
    known = np.diff(last) > 0
    found = iter(bins[np.searchsorted(upto[1:], rank[known])].tolist())
    return [next(found) if each else None for each in known.tolist()]


def many_days(root: Path, *, nodes: int, days: int) -> list[dict[str, Any]]:
    """Return memory of ten times the days, bytes of partials, and a week against all from raw.

    A year is taken to cost as many times what these days cost as it is longer: building goes day by
    day, and what is asked of it week by week, but for the days at either end.
    """
    lake, day = Lake(root), day_of_samples(nodes)
    dates, weeks = [DAY + timedelta(days=n) for n in range(days)], days // DAYS_PER_WEEK
    at = SAMPLES.schema.get_field_index("minute_utc")
    minute = day["minute_utc"].cast(pa.int64()).to_numpy()
    for n, each in enumerate(dates):
        shifted = pa.array(minute + n * 86400).cast(pa.timestamp("s", tz="UTC"))
        lake.replace(SAMPLES, each, day.set_column(at, "minute_utc", shifted))
    few, all_of_them = (_peak_memory(root, dates[:n]) for n in (max(1, days // 10), days))
    kept, raw = (
        float(sum(file.stat().st_size for table in tables for file in _files(root, table)))
        for tables in ((NODE_DAYS, USE_WEEKS, INTERVALS), (SAMPLES,))
    )

    def use_in_first(count: int) -> list[Use]:
        return [use_of(seen) for _, seen in read_use(lake, _first(count)).iterrows()]

    times = interleaved(
        {
            "build": lambda: refresh_partials(lake, dates),
            "weeks": lambda: use_in_first(weeks * DAYS_PER_WEEK),
            "loose": lambda: use_in_first(DAYS_PER_WEEK - 1),
        },
        rounds=3,
    )
    # At worst a year is 51 whole weeks and parts of two.
    merge = [
        51 / weeks * pooled + 8 / (DAYS_PER_WEEK - 1) * loose
        for pooled, loose in zip(times["weeks"], times["loose"], strict=True)
    ]
    whole, week = (
        [share / days * built + merged for built, merged in zip(times["build"], merge, strict=True)]
        for share in (365, DAYS_PER_WEEK)
    )
    window = _first(days)
    if not _same(read_use(lake, window), use_in(lake.read_arrow(NODE_DAYS, window))):
        raise SpeedError("Pooled weeks differ from their node-days.")
    rows = day.num_rows * days
    return [
        row(f"peak memory of {days} days ÷ of a tenth", "≤ 1.35", [all_of_them], [few], rows),
        row("bytes of partials ÷ of raw", "≤ 0.08", [kept], [raw], rows),
        row("a year from raw ÷ a week and a year of partials", "≥ 25", whole, week, rows),
    ]


def _first(days: int) -> Window:
    start = datetime(DAY.year, DAY.month, DAY.day, tzinfo=UTC)
    return Window(start_utc=start, end_utc=start + timedelta(days=days))


def _same(one: pd.DataFrame, other: pd.DataFrame) -> bool:
    apart = one.drop(columns=list(HISTOGRAMS)).compare(other.drop(columns=list(HISTOGRAMS)))
    pairs = [zip(one[name], other[name], strict=True) for name in HISTOGRAMS]
    return apart.empty and all(np.array_equal(a, b) for pair in pairs for a, b in pair)


def _files(root: Path, table: Table) -> list[Path]:
    return sorted((root / table.name).glob("*.parquet"))


def _peak_memory(root: Path, days: Sequence[date]) -> float:
    """Return the bytes at most of a process of its own that builds these days."""
    # A program of its own and no pool: a pool's child runs the parent's main module again, and
    # where that is a page of an app under test there is none to run.
    told = subprocess.run(
        [sys.executable, "-c", PEAK, root, *(day.isoformat() for day in days)],
        check=True,
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[1],
    )
    return float(told.stdout)


def print_peak_of(root: Path, days: Sequence[date]) -> None:
    """Build the days and print the bytes that this process held at most."""
    refresh_partials(Lake(root), days)
    # The peak that `getrusage` tells of would be the parent's, were it higher.
    (told,) = (
        line for line in Path("/proc/self/status").read_text().splitlines() if "VmHWM" in line
    )
    print(float(told.split()[1]) * 1024)


def replay_all_settings() -> list[dict[str, Any]]:
    """Return all idle times and minimum node counts at once against a simulation by minutes.

    Raises:
        SpeedError: they do not agree to the second.
    """
    rng = np.random.default_rng(11)
    days = 28
    demand = np.zeros(days * MINUTES_PER_DAY)
    for start in rng.integers(0, demand.size - 600, 3_000):
        demand[start : start + int(rng.integers(10, 300))] += 1
    physics = Physics(start_seconds=0.0, leaving_seconds=0.0, wait_seconds=0.0)

    def at_once() -> tuple[Ints, Ints]:
        curve = sweep(
            cut_into_levels(demand),
            min_nodes=MIN_NODES,
            idle_seconds=[minutes * 60 for minutes in IDLE_MINUTES],
            physics=physics,
        )
        return curve.paid_idle_seconds, curve.starts

    paid, starts = at_once()
    whole = demand.astype(np.int64).tolist()
    for least, idle in ((0, 7), (2, 30), (4, 59)):
        told = int(paid[least][idle]), int(starts[least][idle])
        if told != simulated(whole, least=least, idle_minutes=idle):
            raise SpeedError(f"The replay differs at {idle} min and {least} nodes.")
    one = interleaved(
        {
            "at_once": lambda: [at_once() for _ in range(REPEATS)],
            "one": lambda: simulated(whole, least=1, idle_minutes=15),
        }
    )
    settings = len(IDLE_MINUTES) * len(MIN_NODES)
    return [
        row(
            f"simulation of {settings} settings ÷ replay of all at once",
            "≥ 50,000",
            [seconds * settings * REPEATS for seconds in one["one"]],
            one["at_once"],
            demand.size,
        )
    ]


def simulated(demand: Sequence[int], *, least: int, idle_minutes: int) -> tuple[int, int]:
    """Return paid idle seconds and cold starts, minute by minute and node by node."""
    peak = max(*demand, least)
    last = [None if level >= least else -1 for level in range(peak)]
    on = [level < least for level in range(peak)]
    idle = starts = 0
    for minute, needed in enumerate(demand):
        for level in range(peak):
            if level < needed:
                starts += not on[level]
                on[level], last[level] = True, minute
            elif on[level]:
                used = last[level]
                if level >= least and used is not None and minute - used > idle_minutes:
                    on[level] = False
                else:
                    idle += 60
    return idle, starts


def reservations() -> list[dict[str, Any]]:
    """Return the cost-optimal reservation of each of many series against one read of them.

    Raises:
        SpeedError: the cost curve over all quantities has a lower point.
    """
    rng = np.random.default_rng(3)
    demand = rng.poisson(rng.uniform(1, 40, (2000, 1)), (2000, 8760)).astype(np.float64)
    price, committed = 1.0, 0.62
    best = optimal_level(demand, price=price, committed=committed)
    for series, level in zip(demand[:20], best[:20], strict=True):
        costs = [
            committed * n * series.size + price * float(np.maximum(series - n, 0).sum())
            for n in range(int(series.max()) + 1)
        ]
        if costs[int(level)] > min(costs) + 1e-6:
            raise SpeedError("A reservation is not the cheapest.")
    times = interleaved(
        {
            "closed": lambda: optimal_level(demand, price=price, committed=committed),
            "read": demand.sum,
        }
    )
    return [
        row(
            "reservations of 2,000 series of a year ÷ one read of them",
            "≤ 2",
            times["closed"],
            times["read"],
            demand.size,
        )
    ]


def interleaved(
    works: dict[str, Callable[[], Any]], *, rounds: int = ROUNDS
) -> dict[str, list[float]]:
    """Return the CPU seconds of each work in each round, all works one after another."""
    times: dict[str, list[float]] = {name: [] for name in works}
    for _ in range(rounds):
        for name, work in works.items():
            before = _cpu_seconds()
            work()
            times[name].append(_cpu_seconds() - before)
    return times


def row(
    what: str, goal: str | None, mine: Sequence[float], against: Sequence[float], rows: int
) -> dict[str, Any]:
    """Return the median of the rounds' ratios beside its goal, if it has one."""
    ratio = statistics.median(a / max(b, 1e-6) for a, b in zip(mine, against, strict=True))
    return {"what": what, "goal": goal, "ratio": float(f"{ratio:.3g}"), "rows": rows}


def _cpu_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


if __name__ == "__main__":
    sys.exit(main())
