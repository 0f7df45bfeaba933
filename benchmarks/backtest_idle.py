"""Idle times chosen on the first half of real traces, judged on the second half.

    python -m benchmarks.backtest_idle ../shared/data/traces

For each cluster of each trace, and restarts worth 10, 30 and 60 node-minutes: what the second half
costs beyond its work under the idle time that the product would have proposed, as a ratio to the
offline optimum that knows each pause (methods §1.1). Beside it: fixed idle times.
"""

import argparse
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

from benchmarks.estate_files import write_json
from optimizer.analysis.clusters import MIN_GAPS, best_policy
from optimizer.analysis.replay import Levels, Physics, cut_into_levels
from optimizer.analysis.work import anonymous, reshaped

RESULTS = Path(__file__).parent / "results"

RESTART_MINUTES = (10, 30, 60)
FIXED_MINUTES = (2, 15, 60)

Floats = npt.NDArray[np.float64]

GPUS_PER_NODE = {"cluster01": 4, "cluster03": 8, "cluster05": 8, "cluster07": 4, "cluster09": 1}
"""Of Microsoft's clusters, by the commonest large job; the traces do not say."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One cluster under one worth of a restart. Costs are ratios to the offline optimum."""

    trace: str
    cluster: str
    restart_minutes: int
    gaps_first_half: int
    gaps_second_half: int
    chosen_minutes: float
    chosen: float
    fixed: Mapping[str, float]


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the table and keep it as JSON."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.backtest_idle")
    parser.add_argument("traces", type=Path, help="the folder of the traces")
    parsed = parser.parse_args(arguments)
    try:
        rows = list(judged(parsed.traces))
    except OSError as error:
        parser.error(f"{parsed.traces} is not the folder of the traces: {error}")
    print(f"{'trace':<12}{'cluster':<12}{'restart':>8}{'chosen':>8}{'ratio':>8}", end="")
    print("".join(f"{minutes:>7} m" for minutes in FIXED_MINUTES))
    for row in rows:
        print(
            f"{row.trace:<12}{row.cluster:<12}{row.restart_minutes:>8}{row.chosen_minutes:>8.0f}"
            f"{row.chosen:>8.2f}" + "".join(f"{ratio:>9.2f}" for ratio in row.fixed.values())
        )
    summary = {}
    for minutes in RESTART_MINUTES:
        mine = [row for row in rows if row.restart_minutes == minutes]
        summary[str(minutes)] = {
            "clusters": len(mine),
            "mean": round(float(np.mean([row.chosen for row in mine])), 3),
            "max": round(max(row.chosen for row in mine), 3),
            **{
                f"fixed_{fixed}_mean": round(
                    float(np.mean([row.fixed[str(fixed)] for row in mine])), 3
                )
                for fixed in FIXED_MINUTES
            },
        }
        print(minutes, summary[str(minutes)])
    write_json(
        RESULTS / "backtest_idle.json", {"summary": summary, "rows": [asdict(r) for r in rows]}
    )
    return 0


def judged(traces: Path) -> Iterator[Row]:
    """Yield a row for each cluster with enough pauses in both halves, and each restart."""
    for trace, cluster, demand in demands(traces):
        half = demand.size // 2
        first, second = (cut_into_levels(part) for part in (demand[:half], demand[half:]))
        gaps = gaps_of(first), gaps_of(second)
        if min(gap.size for gap in gaps) < MIN_GAPS:
            continue
        for minutes in RESTART_MINUTES:
            physics = Physics(start_seconds=minutes * 60.0, leaving_seconds=0.0, wait_seconds=0.0)
            _, chosen = best_policy(first, physics, floors=(0,))
            yield Row(
                trace=trace,
                cluster=cluster,
                restart_minutes=minutes,
                gaps_first_half=gaps[0].size,
                gaps_second_half=gaps[1].size,
                chosen_minutes=chosen / 60,
                chosen=ratio(gaps[1], chosen, minutes * 60),
                fixed={
                    str(fixed): ratio(gaps[1], fixed * 60, minutes * 60) for fixed in FIXED_MINUTES
                },
            )


def ratio(gaps: Floats, idle_seconds: float, restart_seconds: float) -> float:
    """Return what an idle time costs on these pauses ÷ what knowing each of them would."""
    cost = np.minimum(gaps, idle_seconds) + restart_seconds * (gaps > idle_seconds)
    return round(float(cost.sum() / np.minimum(gaps, restart_seconds).sum()), 4)


def gaps_of(levels: Levels) -> Floats:
    """Return the pauses between two uses of a level, in seconds."""
    lengths: Floats = levels.length[levels.warm & levels.closed].astype(np.float64)
    return lengths


def demands(traces: Path) -> Iterator[tuple[str, str, Floats]]:
    """Yield trace, cluster and nodes at work in each minute."""
    jobs = pd.read_parquet(traces / "itp_jobs_odd.parquet")
    for name, mine in jobs.groupby("cluster"):
        yield (
            "itp",
            str(name),
            of_jobs(
                mine["submit_s"], mine["duration_s"], mine["num_gpus"], GPUS_PER_NODE[str(name)]
            ),
        )
    jobs = pd.read_parquet(traces / "philly_jobs_a.parquet")
    seconds = (jobs["submit_time"] - jobs["submit_time"].min()).dt.total_seconds()
    for name, mine in jobs.groupby("vc"):
        yield (
            "philly",
            str(name),
            of_jobs(seconds[mine.index], mine["duration_s"], mine["num_gpus"], 8),
        )
    minutes = pd.read_parquet(traces / "helios_earth_vc_minutes_a.parquet")
    for name, mine in minutes.groupby("vc"):
        gpus = mine.sort_values("time")["running_gpu_num"].to_numpy(dtype=np.float64)
        yield "helios", str(name), np.ceil(gpus / 8)
    nodes = pd.read_parquet(traces / "philly_active_nodes_minutes.parquet").sort_values("time")
    yield "philly all", "nodes", nodes["active"].to_numpy(dtype=np.float64)


def of_jobs(
    start: "pd.Series[float]", length: "pd.Series[float]", gpus: "pd.Series[int]", per_node: int
) -> Floats:
    """Return the whole nodes that jobs held in each minute, each starting when it was submitted."""
    begin = (start - start.min()).to_numpy().astype(np.int64)
    seconds: Floats = length.to_numpy().astype(np.float64)
    nodes = np.ceil(gpus.to_numpy(dtype=np.float64) / per_node).astype(np.int64)
    runs = anonymous(begin, begin, nodes)
    # Only until the last job was submitted: what follows is the trace's own end.
    idle = np.zeros(int(begin.max()) // 60 + 1)
    held: Floats = np.round(reshaped(idle, runs, seconds), 6)
    return held


if __name__ == "__main__":
    sys.exit(main())
