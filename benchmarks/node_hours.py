"""Play whole clusters of a trace at several idle times and compare the billed node-hours.

    python -m benchmarks.node_hours --jobs ../shared/data/traces/itp_jobs_odd.parquet

No node is kept, none takes time to come or go, and the maximum is above the peak; so nothing is
left but the idle time itself, and a replay written by somebody else must agree.
"""

import argparse
import math
import sys
import tempfile
from collections.abc import Sequence
from datetime import date
from pathlib import Path

import pandas as pd

from benchmarks.estate_files import write_estate, write_json
from benchmarks.trace_estate import Options, read_trace, trace_estate
from optimizer.emulator.estate import load_estate
from optimizer.emulator.world import World
from optimizer.errors import OptimizerError

RESULTS = Path(__file__).parent / "results"

IDLE_MINUTES = (2, 30, 120, 1440)

# A rough whole-node replay of the same trace, not ours: node-hours at these idle times.
INDEPENDENT = {
    ("cluster05", 8): (10_405, 11_671, 15_161, 52_123),
    ("cluster01", 4): (9_538, 10_418, 12_895, 35_511),
    ("cluster09", 1): (39_335, 42_853, 51_215, 99_597),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Print a line for each cluster and idle time and keep them as JSON."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.node_hours")
    parser.add_argument("--jobs", type=Path, required=True, help="the trace of the ITP clusters")
    parsed = parser.parse_args(arguments)
    rows = []
    try:
        for (cluster, gpus_per_node), independent in INDEPENDENT.items():
            trace = read_trace(parsed.jobs, [cluster])
            for idle_minutes, expected in zip(IDLE_MINUTES, independent, strict=True):
                played = node_hours(trace, gpus_per_node, idle_minutes)
                off = played / expected - 1
                print(f"{cluster} {idle_minutes} min: {played:,.0f} h, {expected:,} h, {off:+.2%}")
                rows.append(
                    {
                        "cluster": cluster,
                        "gpus_per_node": gpus_per_node,
                        "idle_minutes": idle_minutes,
                        "node_hours": round(played, 1),
                        "independent_node_hours": expected,
                    }
                )
    except (OptimizerError, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    RESULTS.mkdir(exist_ok=True)
    write_json(RESULTS / "node_hours.json", rows)
    return 0


def node_hours(trace: pd.DataFrame, gpus_per_node: int, idle_minutes: float) -> float:
    """Return what one cluster of a trace bills from its first job until its last node is gone.

    Raises:
        EstateError: the trace cannot be played.
    """
    options = Options(
        gpus_per_node={"": gpus_per_node},
        sku=None,
        min_nodes=0,
        idle_minutes=idle_minutes,
        max_nodes=None,
        allocation_seconds=0.0,
        leaving_seconds=0,
        first_day=date(2021, 3, 4),
        whole_history=True,
    )
    estate, _ = trace_estate(trace, options, name="node hours")
    with tempfile.TemporaryDirectory() as folder:
        write_estate(Path(folder), estate)
        world = World(load_estate(Path(folder)))
    start_s = math.floor(world.now_utc.timestamp()) - 366 * 86_400
    # Nothing waits, so the last node is gone an idle time after the last job ended.
    world.advance((int(trace["duration_s"].max()) + 60 * idle_minutes) / 3600 + 24)
    charges = world.charges(start_s, math.ceil(world.now_utc.timestamp()))
    return sum(charge.quantity for charge in charges if charge.component == "vm")


if __name__ == "__main__":
    sys.exit(main())
