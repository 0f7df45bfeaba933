"""Turn a trace of jobs into an estate folder: half of it is history, half the future.

    python -m benchmarks.trace_estate --jobs FILE --out DIR [--gpus-per-node 8] [--sku SKU] ...

The trace needs the columns job_id, submit_s, duration_s, num_gpus and cluster. Each of its
clusters becomes a cluster of one workspace, with waste planted in its settings only.
"""

import argparse
import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa

from benchmarks.estate_files import (
    Estate,
    Job,
    Price,
    cluster_document,
    diagnostic_setting_document,
    workspace_document,
    write_estate,
)
from optimizer.errors import EstateError, OptimizerError
from optimizer.units import iso_utc

COLUMNS = ("job_id", "submit_s", "duration_s", "num_gpus", "cluster")

NEWEST_NOW = date(2026, 11, 23)
"""The estate's now is the last day up to this one that keeps the trace's weekdays."""

SECONDS_PER_DAY = 86_400


def _price(
    sku: str, vcpus: int, memory: float, gpus: int, gpu_memory: float, dollars: float
) -> Price:
    return Price(
        region="westeurope",
        sku=sku,
        vcpus=vcpus,
        memory_gib=memory,
        gpus=gpus,
        gpu_memory_gib=gpu_memory,
        list_per_hour=dollars,
        low_priority_per_hour=round(dollars / 5, 3),
        ri_1y_per_hour=None,
        ri_3y_per_hour=None,
        currency="USD",
        as_of="2026-08-22",
    )


# Retail Prices API, Linux, pay as you go; low priority is one fifth of each, to a tenth of a cent.
PRICES = {
    price.sku: price
    for price in (
        _price("Standard_NC6s_v3", 6, 112, 1, 16, 3.823),
        _price("Standard_NC12s_v3", 12, 224, 2, 16, 7.646),
        _price("Standard_NC24s_v3", 24, 448, 4, 16, 15.292),
        _price("Standard_ND40rs_v2", 40, 672, 8, 32, 27.526),
        _price("Standard_NC24ads_A100_v4", 24, 220, 1, 80, 4.775),
        _price("Standard_ND96asr_v4", 96, 900, 8, 40, 35.357),
    )
}

SKU_OF_GPUS = {
    1: "Standard_NC6s_v3",
    2: "Standard_NC12s_v3",
    4: "Standard_NC24s_v3",
    8: "Standard_ND40rs_v2",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What the customer of the trace is made to look like."""

    gpus_per_node: Mapping[str, int]
    """By cluster; the key "" is for the others."""
    sku: str | None
    min_nodes: int
    idle_minutes: float
    max_nodes: int | None
    """None: above the peak of each cluster."""
    allocation_seconds: float
    leaving_seconds: int
    first_day: date
    """The day on which second 0 of the trace falls."""
    whole_history: bool
    """The whole trace is history and nothing is future."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterLine:
    """What was made of one cluster of the trace."""

    name: str
    jobs: int
    peak_nodes: int
    sku: str
    min_nodes: int
    idle_minutes: float


def main(arguments: Sequence[str] | None = None) -> int:
    """Make the folder and print one line for each cluster; 1 after one sentence if it cannot."""
    parsed = _parser().parse_args(arguments)
    try:
        trace = read_trace(parsed.jobs, parsed.clusters)
        options = Options(
            gpus_per_node=_gpus_per_node(parsed.gpus_per_node),
            sku=parsed.sku,
            min_nodes=parsed.min_nodes,
            idle_minutes=parsed.idle_minutes,
            max_nodes=parsed.max_nodes,
            allocation_seconds=parsed.allocation_seconds,
            leaving_seconds=parsed.leaving_seconds,
            first_day=parsed.first_day,
            whole_history=parsed.whole_history,
        )
        estate, lines = trace_estate(trace, options, name=parsed.jobs.stem)
        write_estate(parsed.out, estate)
    except (OptimizerError, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    for line in lines:
        print(
            f"{line.name}: {line.jobs} jobs, peak {line.peak_nodes} nodes of {line.sku}, "
            f"min {line.min_nodes}, idle {line.idle_minutes:g} min"
        )
    return 0


def read_trace(path: Path, clusters: Sequence[str] = ()) -> pd.DataFrame:
    """Read a job trace (Parquet or CSV), of these clusters only where some are named.

    Raises:
        EstateError: it is no such file, lacks a column, holds a value that no job has, or has
            none of the clusters.
    """
    try:
        frame = pd.read_csv(path) if path.suffix == ".csv" else pd.read_parquet(path)
    except FileNotFoundError as error:
        raise EstateError(f"{path} does not exist; name a job trace with --jobs") from error
    except (pa.ArrowInvalid, pd.errors.ParserError, pd.errors.EmptyDataError) as error:
        raise EstateError(f"{path} is no Parquet or CSV file of jobs ({error})") from error
    if missing := [column for column in COLUMNS if column not in frame]:
        raise EstateError(f"{path} lacks the column {missing[0]}; it needs {', '.join(COLUMNS)}")
    if unknown := set(clusters) - set(frame["cluster"]):
        known = ", ".join(sorted(set(frame["cluster"])))
        raise EstateError(f"{path} has no cluster {min(unknown)}; it has {known}")
    if clusters:
        frame = frame[frame["cluster"].isin(clusters)]
    for column, least in (("submit_s", 0), ("duration_s", 1), ("num_gpus", 1)):
        if not (pd.to_numeric(frame[column], errors="coerce") >= least).all():
            raise EstateError(f"{path} has a {column} that is no number of at least {least}")
    if frame.empty:
        raise EstateError(f"{path} holds no job")
    if frame["job_id"].duplicated().any():
        raise EstateError(f"{path} names a job_id twice; every job needs its own")
    return frame.sort_values(["submit_s", "job_id"], ignore_index=True)


def trace_estate(
    trace: pd.DataFrame, options: Options, *, name: str
) -> tuple[Estate, list[ClusterLine]]:
    """Return the estate that a trace makes, and what became of each of its clusters.

    Raises:
        EstateError: no price is known for a SKU, or a maximum is below what one job needs.
    """
    first_day = int(trace["submit_s"].min()) // SECONDS_PER_DAY
    days = math.ceil((int(trace["submit_s"].max()) + 1) / SECONDS_PER_DAY) - first_day
    past_days = days if options.whole_history else days // 2
    history_start = _history_start(options.first_day + timedelta(days=first_day), past_days)
    second_0 = history_start - timedelta(days=first_day)

    workspace = workspace_document(
        subscription="7ace0000-0000-4000-8000-000000000001",
        group="rg-trace",
        name="trace-workspace",
        region="westeurope",
        tags={"source": name},
    )
    resources = [workspace, diagnostic_setting_document(workspace)]
    jobs: list[Job] = []
    lines = []
    for cluster, its_jobs in trace.groupby("cluster", sort=True):
        per_node = options.gpus_per_node.get(str(cluster), options.gpus_per_node[""])
        price = _price_of(options.sku, per_node)
        nodes = np.ceil(its_jobs["num_gpus"].to_numpy() / per_node).astype(int)
        peak = peak_nodes(its_jobs["submit_s"].to_numpy(), its_jobs["duration_s"].to_numpy(), nodes)
        # Half as much again: a node that is still leaving counts towards the maximum.
        max_nodes = options.max_nodes or math.ceil(1.5 * max(peak, options.min_nodes)) + 1
        if nodes.max() > max_nodes:
            raise EstateError(
                f"a job of {cluster} needs {nodes.max()} nodes and the maximum is {max_nodes}; "
                f"raise --max-nodes or --gpus-per-node"
            )
        document = cluster_document(
            workspace,
            str(cluster),
            sku=price.sku,
            min_nodes=options.min_nodes,
            max_nodes=max_nodes,
            idle_seconds=round(options.idle_minutes * 60),
            created_utc=history_start - timedelta(days=90),
            tags={"team": str(cluster)},
        )
        resources.append(document)
        jobs += _jobs(its_jobs, nodes, document["id"], price, second_0)
        lines.append(
            ClusterLine(
                name=str(cluster),
                jobs=len(its_jobs),
                peak_nodes=peak,
                sku=price.sku,
                min_nodes=options.min_nodes,
                idle_minutes=options.idle_minutes,
            )
        )
    manifest = {
        "name": name,
        "currency": "USD",
        "history_start_utc": iso_utc(history_start),
        "now_utc": iso_utc(history_start + timedelta(days=past_days)),
        "billing": {"discount": 0.0, "lag_hours": 24, "round_to": 1e-4},
        "physics": {
            "allocation_seconds_median": options.allocation_seconds,
            "allocation_seconds_sigma": 0.35,
            "leaving_seconds": options.leaving_seconds,
            "start_seconds": 0,
            "eviction_per_node_hour": 0.0,
        },
        "telemetry": {
            "missing_fraction": 0.0,
            "diagnostic_logs": True,
            "cost_details": True,
            "tags_on_costs": True,
        },
        "seed": 1,
    }
    estate = Estate(
        manifest=manifest,
        resources=resources,
        jobs=sorted(jobs, key=lambda job: (job.submit_utc, job.job_id)),
        sessions=(),
        prices=tuple(PRICES.values()),
    )
    return estate, lines


def peak_nodes(submit_s: np.ndarray, duration_s: np.ndarray, nodes: np.ndarray) -> int:
    """Return the most nodes that run at once where no job ever waits."""
    at = np.concatenate([submit_s, submit_s + duration_s])
    step = np.concatenate([nodes, -nodes])
    # At one second, what ends makes room before what starts.
    return int(np.cumsum(step[np.lexsort((step, at))]).max())


def _jobs(
    its_jobs: pd.DataFrame, nodes: np.ndarray, resource_id: str, price: Price, second_0: datetime
) -> list[Job]:
    # The trace tells no utilisation: every job is taken to fit the machine it ran on.
    return [
        Job(
            job_id=str(job_id),
            resource_id=resource_id,
            submit_utc=second_0 + timedelta(seconds=int(submit_s)),
            run_seconds=int(duration_s),
            nodes=int(its_nodes),
            kind="command",
            experiment="trace",
            user="trace",
            cpu_cores_needed=0.6 * price.vcpus,
            memory_gib_needed=0.5 * price.memory_gib,
            gpus_needed=min(int(num_gpus), price.gpus),
            gpu_busy_fraction=0.8,
            gpu_memory_gib_needed=0.7 * price.gpu_memory_gib,
            reference_sku=price.sku,
        )
        for job_id, submit_s, duration_s, num_gpus, its_nodes in zip(
            its_jobs["job_id"],
            its_jobs["submit_s"],
            its_jobs["duration_s"],
            its_jobs["num_gpus"],
            nodes,
            strict=True,
        )
    ]


def _history_start(trace_day: date, past_days: int) -> datetime:
    newest = NEWEST_NOW - timedelta(days=past_days)
    whole_weeks = timedelta(days=(newest - trace_day).days // 7 * 7)
    return datetime.combine(trace_day + whole_weeks, time(), UTC)


def _price_of(sku: str | None, gpus_per_node: int) -> Price:
    wanted = sku or SKU_OF_GPUS.get(gpus_per_node)
    if wanted is None:
        raise EstateError(f"no SKU is known with {gpus_per_node} GPUs a node; name one with --sku")
    if wanted not in PRICES:
        raise EstateError(f"no price is known for {wanted}; --sku takes {', '.join(PRICES)}")
    return PRICES[wanted]


def _gpus_per_node(text: str) -> dict[str, int]:
    """Read `8`, or `cluster05=8,cluster01=4,1` where the bare number is for the others."""
    chosen = {"": 8}
    for part in text.split(","):
        cluster, _, number = part.rpartition("=")
        if not number.isdigit() or int(number) < 1:
            raise EstateError(f"--gpus-per-node takes 8 or cluster05=8,cluster01=4, not {text!r}")
        chosen[cluster] = int(number)
    return chosen


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.trace_estate",
        description="Turn a trace of jobs into an estate folder: half history, half future.",
    )
    add = parser.add_argument
    add("--jobs", type=Path, required=True, help="the trace, Parquet or CSV")
    add("--out", type=Path, required=True, help="the estate folder to write")
    add("--gpus-per-node", default="8", help="8, or cluster05=8,cluster01=4,1 (default 8)")
    add("--sku", help="VM size of every cluster; default: a V100 size with that many GPUs")
    add("--min-nodes", type=int, default=2, help="nodes always kept (default 2)")
    add("--idle-minutes", type=float, default=120, help="idle time before scale-down (120)")
    add("--clusters", type=lambda text: text.split(","), default=[], help="only these, a,b,…")
    add("--max-nodes", type=int, help="of every cluster; default: above the peak")
    add("--allocation-seconds", type=float, default=240, help="median time to get a node (240)")
    add("--leaving-seconds", type=int, default=60, help="time to give a node back (60)")
    add(
        "--first-day",
        type=date.fromisoformat,
        default=date(2021, 3, 4),
        help="the day of second 0; only its weekday matters (2021-03-04)",
    )
    add("--whole-history", action="store_true", help="leave nothing to the future")
    return parser


if __name__ == "__main__":
    sys.exit(main())
