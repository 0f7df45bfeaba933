"""Feature build and replay against what they replace: CPU seconds, as ratios in one run.

    python -m benchmarks.speed [--nodes 3500]

A day of one-minute samples is written to Parquet in node order, as collectors write it. Rounds are
interleaved and each figure is the median of their ratios, so that a noisy machine does not matter.
Quantiles and replayed settings must equal those worked out the other way, or nothing is printed.
"""

import argparse
import resource
import statistics
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import duckdb
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.estate_files import write_json
from optimizer.analysis.replay import Physics, cut_into_levels, sweep
from optimizer.analysis.use import BINS
from optimizer.errors import OptimizerError
from optimizer.store.partials import day_partials
from optimizer.store.tables import SAMPLES

RESULTS = Path(__file__).parent / "results"

ROUNDS = 3
MINUTES_PER_DAY = 1440
DAY_S = 1_780_272_000
"""2026-06-01 in seconds since 1970."""

METRICS = ("cpu_max", "memory_max", "gpu_max", "gpu_memory_max")
IDLE_MINUTES = tuple(range(60))
MIN_NODES = (0, 1, 2, 3, 4)

Ints: TypeAlias = npt.NDArray[np.int64]


class SpeedError(OptimizerError):
    """Two ways of working the same thing out do not agree."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Print goal and figure of each ratio and keep them as JSON."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.speed")
    parser.add_argument("--nodes", type=int, default=3500)
    parsed = parser.parse_args(arguments)
    try:
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "day.parquet"
            rows = write_day(file, nodes=parsed.nodes)
            table = [*feature_build(file, rows), *replay_all_settings()]
    except OptimizerError as error:
        print(error, file=sys.stderr)
        return 1
    for row in table:
        print("  ".join(f"{name} {value}" for name, value in row.items()))
    write_json(RESULTS / "speed.json", {"rows": rows, "ratios": table})
    return 0


def write_day(file: Path, *, nodes: int) -> int:
    """Write a day of samples of nodes that are there two thirds of it; return how many rows."""
    rng = np.random.default_rng(7)
    there = rng.random((nodes, MINUTES_PER_DAY // 60)).repeat(60, axis=1) < 0.66  # noqa: PLR2004
    node, minute = np.nonzero(there)
    count = node.size
    names = pa.array([f"node-{n:05d}" for n in range(nodes)])
    clusters = pa.array([f"/computes/cluster-{n:03d}" for n in range(-(-nodes // 12))])
    values = {
        name: pa.array(rng.integers(0, BINS, count).astype(np.uint16))
        for name in SAMPLES.schema.names
        if name.endswith(("_avg", "_max"))
    }
    columns: dict[str, Any] = {
        "resource_id": clusters.take(pa.array(node // 12)),
        "node_id": names.take(pa.array(node)),
        "device_id": pa.array(np.full(count, "")),
        "minute_utc": pa.array(DAY_S + minute * 60).cast(pa.timestamp("s", tz="UTC")),
        "grain_minutes": pa.array(np.ones(count, np.uint16)),
        "busy": pa.array(rng.random(-(-count // 75)).repeat(75)[:count] < 0.6),  # noqa: PLR2004
        **values,
    }
    pq.write_table(
        pa.table([columns[name] for name in SAMPLES.schema.names], schema=SAMPLES.schema),
        file,
        compression="zstd",
    )
    return count


def feature_build(file: Path, rows: int) -> list[dict[str, Any]]:
    """Return the build's CPU against DuckDB's raw scan, and against the queries it replaces.

    Raises:
        SpeedError: a quantile of a histogram is not that of the values.
    """
    columns = ", ".join(
        {"minute_utc": "max(epoch(minute_utc))", "busy": "count(busy)"}.get(name, f"max({name})")
        for name in SAMPLES.schema.names
    )
    scan = f"select {columns} from '{file}'"  # noqa: S608 - our own names
    by_bin = [
        f"select resource_id, node_id, {metric}, sum(grain_minutes) from '{file}' group by all"  # noqa: S608
        for metric in METRICS
    ]
    quantiles = (
        "select node_id, quantile_disc(cpu_max, [0.5, 0.95, 0.99]) "  # noqa: S608
        f"from '{file}' group by node_id order by node_id"
    )
    built: list[pa.Table] = []

    def build() -> None:
        built[:] = [day_partials(pq.read_table(file, schema=SAMPLES.schema))[0]]

    def queries() -> None:
        for query in by_bin:
            duckdb.execute(f"create or replace temp table minutes as {query}")

    times = interleaved(
        {
            "scan": lambda: duckdb.execute(scan).fetchall(),
            "build": build,
            "four_queries": queries,
            "quantile_disc": lambda: duckdb.execute(quantiles).fetchall(),
            "from_histograms": lambda: _quantiles(built[0]) if built else None,
        }
    )
    exact = {name: tuple(values) for name, values in duckdb.execute(quantiles).fetchall()}
    if exact != _quantiles(built[0]):
        raise SpeedError("Quantiles of histograms differ from those of the values.")
    return [
        row("feature build ÷ raw scan", "≤ 1.3", times["build"], times["scan"], rows),
        row("four queries ÷ feature build", "≥ 8", times["four_queries"], times["build"], rows),
        row(
            "quantiles of histograms ÷ quantile_disc",
            "≤ 0.25",
            times["from_histograms"],
            times["quantile_disc"],
            rows,
        ),
    ]


def _quantiles(node_days: pa.Table) -> dict[str, tuple[int, ...]]:
    """Return p50, p95 and p99 of each node by rank, from its lossless histogram."""
    found = {}
    for name, pairs in zip(
        node_days["node_id"].to_pylist(), node_days["cpu_histogram"], strict=True
    ):
        bins, minutes = pairs.values.to_numpy().reshape(-1, 2).T
        upto = minutes.cumsum(dtype=np.int64)
        ranks = np.ceil(np.array([0.5, 0.95, 0.99]) * upto[-1] - 1e-9)
        found[name] = tuple(int(b) for b in bins[np.searchsorted(upto, ranks)])
    return found


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
    times = interleaved(
        {"at_once": at_once, "one": lambda: simulated(whole, least=1, idle_minutes=15)}
    )
    settings = len(IDLE_MINUTES) * len(MIN_NODES)
    all_of_them = [one * settings for one in times["one"]]
    return [
        row(
            f"simulation of {settings} settings ÷ replay of all at once",
            "≥ 50,000",
            all_of_them,
            times["at_once"],
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


def interleaved(works: dict[str, Callable[[], Any]]) -> dict[str, list[float]]:
    """Return the CPU seconds of each work in each round, all works one after another."""
    times: dict[str, list[float]] = {name: [] for name in works}
    for _ in range(ROUNDS):
        for name, work in works.items():
            before = _cpu_seconds()
            work()
            times[name].append(_cpu_seconds() - before)
    return times


def row(
    what: str, goal: str, mine: Sequence[float], against: Sequence[float], rows: int
) -> dict[str, Any]:
    """Return the median of the rounds' ratios beside its goal."""
    ratio = statistics.median(a / max(b, 1e-6) for a, b in zip(mine, against, strict=True))
    return {"what": what, "goal": goal, "ratio": float(f"{ratio:.3g}"), "rows": rows}


def _cpu_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


if __name__ == "__main__":
    sys.exit(main())
