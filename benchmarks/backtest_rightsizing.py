"""CPUs chosen on the first half of real machines' histories, judged on the second half.

    python -m benchmarks.backtest_rightsizing ../shared/data/util

Each virtual machine of Bitbrains and each long job of SURF is one machine. Its size is chosen by
the product's rule for machines that people work at: 95 % of active minutes take at most 70 % of the
CPUs. A minute of the second half violates it where it needs more than that share of the chosen
size. The traces tell no use of memory, so CPUs alone are judged. Beside it: sizes that hold the
highest use, and the mean use, of the first half.
"""

import argparse
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import pandas as pd

from benchmarks.estate_files import write_json
from optimizer.analysis.sizing import DEVELOPMENT_CPU, comfortable
from optimizer.analysis.use import BINS, Histogram, Use
from optimizer.catalogue import Size
from optimizer.config import AnalysisSettings

RESULTS = Path(__file__).parent / "results"

SAMPLE_MINUTES = 5
MIN_SAMPLES = 48
"""Four hours in each half; shorter jobs say nothing of a next half."""

CORES = (1, 2, 4, 8, 16)
GOAL = 0.05

Floats: TypeAlias = npt.NDArray[np.float64]
Rule: TypeAlias = Callable[[Floats, int], int]
"""Cores for a machine by its CPU shares and its cores."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One machine under one rule."""

    trace: str
    machine: str
    rule: str
    cores_now: int
    cores_chosen: int
    violated: float
    """Share of minutes of the second half over 70 % of the chosen CPUs."""
    violated_as_is: float
    """The same with its own CPUs: no size can be blamed for it."""
    saturated: float
    """Share of minutes that need more than all of them."""
    minutes: int


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the table and keep it as JSON."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.backtest_rightsizing")
    parser.add_argument("traces", type=Path, help="the folder of the utilisation series")
    parsed = parser.parse_args(arguments)
    try:
        rows = list(judged(parsed.traces))
    except OSError as error:
        parser.error(f"{parsed.traces} is not the folder of the utilisation series: {error}")
    summary = [
        summed([row for row in rows if (row.trace, row.rule) == key])
        for key in dict.fromkeys((row.trace, row.rule) for row in rows)
    ]
    for each in summary:
        print("  ".join(f"{name} {value}" for name, value in each.items()))
    write_json(
        RESULTS / "backtest_rightsizing.json",
        {"goal": GOAL, "summary": summary, "rows": [asdict(row) for row in rows]},
    )
    return 0


def judged(traces: Path) -> Iterator[Row]:
    """Yield a row for each machine and rule."""
    for trace, machine, shares, cores in machines(traces):
        half = shares.size // 2
        if half < MIN_SAMPLES:
            continue
        first, second = shares[:half], shares[half:]
        for rule, choose in RULES.items():
            chosen = choose(first, cores)
            needed = second * cores
            yield Row(
                trace=trace,
                machine=machine,
                rule=rule,
                cores_now=cores,
                cores_chosen=chosen,
                violated=float((needed > DEVELOPMENT_CPU * chosen).mean()),
                violated_as_is=float((second > DEVELOPMENT_CPU).mean()),
                saturated=float((needed > chosen).mean()),
                minutes=second.size * SAMPLE_MINUTES,
            )


def summed(rows: Sequence[Row]) -> dict[str, Any]:
    """Return what became of the machines that a rule made smaller, weighed by their minutes."""
    smaller = [row for row in rows if row.cores_chosen < row.cores_now]
    minutes = np.array([row.minutes for row in smaller], dtype=np.float64)
    shares = np.array([[r.violated, r.violated_as_is, r.saturated] for r in smaller]).reshape(-1, 3)
    violated, as_is, saturated = (minutes @ shares / minutes.sum()) if smaller else (None,) * 3
    before = sum(row.cores_now * row.minutes for row in rows)
    after = sum(row.cores_chosen * row.minutes for row in rows)
    return {
        "trace": rows[0].trace,
        "rule": rows[0].rule,
        "machines": len(rows),
        "made_smaller": len(smaller),
        "violated": None if violated is None else round(float(violated), 4),
        "violated_as_is": None if as_is is None else round(float(as_is), 4),
        "saturated": None if saturated is None else round(float(saturated), 4),
        "machines_over_5_percent": sum(row.violated > GOAL for row in smaller),
        "cores_saved": round(1 - after / before, 4),
    }


def machines(traces: Path) -> Iterator[tuple[str, str, Floats, int]]:
    """Yield trace, machine, its CPU share in each sample in time's order, and its cores."""
    bitbrains = pd.read_parquet(traces / "bitbrains_vms_a.parquet").sort_values("timestamp")
    for name, mine in bitbrains.groupby("id"):
        yield "bitbrains", str(name), _shares(mine["cpu_pct"]), int(mine["cores"].max())
    cores = pd.read_parquet(traces / "surf_week_jobs_a.parquet").set_index("id")["cpu_count"]
    surf = pd.read_parquet(traces / "surf_week_cpu_5min_a.parquet").sort_values("bin")
    for job, mine in surf.groupby("id"):
        yield "surf_week", str(job), _shares(mine["cpu_pct"]), int(cores[job])


def _shares(percent: "pd.Series[float]") -> Floats:
    # Bitbrains has values a little over 100 %: the host lent more than it sold.
    shares: Floats = np.minimum(percent.to_numpy(dtype=np.float64) / 100, 1.0)
    return shares


def by_the_product(shares: Floats, cores: int) -> int:
    """Return the fewest cores the product holds comfortable; today's where none was active."""
    active = AnalysisSettings().idle_cpu_percent / 100
    bins = np.rint(shares * (BINS - 1)).astype(np.int64)
    minutes: Floats = np.bincount(bins, minlength=BINS) * np.float64(SAMPLE_MINUTES)
    seen = Use(
        machine_days=1,
        days=1,
        minutes=round(minutes.sum()),
        busy_minutes=int((shares > active).sum()) * SAMPLE_MINUTES,
        cpu=Histogram(minutes=minutes),
        cpu_mean=float(shares.mean()),
        memory=None,
        gpu=None,
        gpu_memory=None,
        gpus_seen=None,
        gpus_used=None,
    )
    return next((fewer for fewer in CORES if comfortable(seen, _size(cores), _size(fewer))), cores)


def _size(cores: int) -> Size:
    return Size(
        sku=f"Standard_D{cores}s_v5",
        vcpus=cores,
        memory_gib=4.0 * cores,
        gpus=0,
        gpu_model=None,
        gpu_memory_gib=None,
    )


def _that_hold(needed: float, cores: int) -> int:
    return next((fewer for fewer in CORES if needed <= fewer < cores), cores)


RULES: dict[str, Rule] = {
    "product": by_the_product,
    "highest": lambda shares, cores: _that_hold(float(shares.max()) * cores, cores),
    "mean": lambda shares, cores: _that_hold(float(shares.mean()) * cores, cores),
}


if __name__ == "__main__":
    sys.exit(main())
