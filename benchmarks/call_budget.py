"""How many requests a collection takes on large estates, by API, and how many the next day's.

    python -m benchmarks.call_budget [--workspaces 100] [--work DIR]

Twenty workspaces a subscription, four clusters and six instances each, in two regions. Each cluster
runs a job a day; two of the instances are used by day, the others stay off.
"""

import argparse
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from benchmarks.closed_loop import RESULTS, Cli, emulator
from benchmarks.estate_files import (
    Estate,
    Job,
    Session,
    cluster_document,
    diagnostic_setting_document,
    instance_document,
    workspace_document,
    write_estate,
    write_json,
)
from benchmarks.trace_estate import PRICES
from optimizer.errors import OptimizerError
from optimizer.units import iso_utc

START_UTC = datetime(2026, 1, 5, tzinfo=UTC)
DAYS = 28
WORKSPACES_A_SUBSCRIPTION = 20
REGIONS = ("eastus", "westeurope")
CLUSTERS, INSTANCES, USED_INSTANCES = 4, 6, 2


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the requests of a first collection and of the next day's, and keep them as JSON."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.call_budget")
    parser.add_argument("--workspaces", type=int, default=100)
    parser.add_argument("--work", type=Path, help="keep estate and lake here")
    parsed = parser.parse_args(arguments)
    try:
        with tempfile.TemporaryDirectory() as scratch:
            work = parsed.work or Path(scratch)
            write_estate(work / "estate", estate_of(parsed.workspaces))
            first, second = budget(work)
    except (OptimizerError, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    fewest = fewest_requests(parsed.workspaces)
    print(f"{'api':16}{'first':>8}{'next day':>10}{'at least':>10}")
    for api in sorted(first.keys() | second.keys()):
        least = fewest.get(api)
        said = f"{least:>10,}" if least is not None else f"{'':>10}"
        print(f"{api:16}{first.get(api, 0):>8,}{second.get(api, 0):>10,}{said}")
    RESULTS.mkdir(exist_ok=True)
    write_json(
        RESULTS / f"call_budget_{parsed.workspaces}.json",
        {
            "workspaces": parsed.workspaces,
            "first": first,
            "next_day": second,
            "at_least": fewest,
        },
    )
    return 0


def budget(work: Path) -> tuple[dict[str, int], dict[str, int]]:
    """Collect twice, a day apart; return the requests of each collection by API."""
    with emulator(work / "estate") as azure:
        optimizer = Cli(azure, work / "home")
        optimizer("collect")
        first = azure.requests()
        azure.advance(24)
        optimizer("collect")
        both = azure.requests()
    return first, {api: number - first.get(api, 0) for api, number in both.items()}


def fewest_requests(workspaces: int) -> dict[str, int]:
    """Return the bound of performance.md §5 for each API that it counts.

    Resource Graph pages; a list of computes a workspace; and a batch of metrics for each 50
    workspaces of a subscription and region and each of two families of dimensions, however long.
    """
    subscriptions = -(-workspaces // WORKSPACES_A_SUBSCRIPTION)
    return {
        "resource_graph": -(-workspaces // 1000),
        "arm": workspaces,
        "metrics_batch": 2 * len(REGIONS) * subscriptions,
        "cost_management": subscriptions,
    }


def estate_of(workspaces: int) -> Estate:
    """Return the estate."""
    price = next(iter(PRICES.values()))
    resources: list[dict[str, Any]] = []
    jobs: list[Job] = []
    sessions: list[Session] = []
    for number in range(workspaces):
        subscription = f"00000000-0000-4000-8000-{number // WORKSPACES_A_SUBSCRIPTION:012}"
        workspace = workspace_document(
            subscription=subscription,
            group=f"rg-{number:04}",
            name=f"ws-{number:04}",
            region=REGIONS[number % len(REGIONS)],
            tags={},
        )
        resources += [workspace, diagnostic_setting_document(workspace)]
        created = START_UTC - timedelta(days=90)
        for which in range(CLUSTERS):
            cluster = cluster_document(
                workspace,
                f"cluster-{which}",
                sku=price.sku,
                min_nodes=0,
                max_nodes=3,
                idle_seconds=1800,
                created_utc=created,
                tags={},
            )
            resources.append(cluster)
            jobs += _daily_jobs(cluster["id"], which, price.vcpus, price.memory_gib, price.sku)
        for which in range(INSTANCES):
            instance = instance_document(
                workspace,
                f"ci-{which}-{number:04}",
                sku=price.sku,
                user=f"user{which}@example.com",
                created_utc=created,
                tags={},
                properties={},
            )
            resources.append(instance)
            if which < USED_INSTANCES:
                sessions += _working_days(instance["id"])
    prices = [replace(price, region=region) for region in REGIONS]
    return Estate(
        manifest={
            "name": f"{workspaces} workspaces",
            "currency": "USD",
            "history_start_utc": iso_utc(START_UTC),
            "now_utc": iso_utc(START_UTC + timedelta(days=DAYS)),
            "seed": 1,
        },
        resources=resources,
        jobs=sorted(jobs, key=lambda job: (job.submit_utc, job.job_id)),
        sessions=sorted(sessions, key=lambda session: session.start_utc),
        prices=prices,
    )


def _daily_jobs(
    resource_id: str, hour: int, vcpus: int, memory_gib: float, sku: str
) -> Iterator[Job]:
    for day in range(DAYS + 1):
        yield Job(
            job_id=f"{resource_id.rpartition('/workspaces/')[2].replace('/', '-')}-{day}",
            resource_id=resource_id,
            submit_utc=START_UTC + timedelta(days=day, hours=8 + hour),
            run_seconds=3600,
            nodes=1,
            kind="command",
            experiment="daily",
            user="pipeline",
            cpu_cores_needed=0.6 * vcpus,
            memory_gib_needed=0.5 * memory_gib,
            reference_sku=sku,
        )


def _working_days(resource_id: str) -> Iterator[Session]:
    for day in range(DAYS + 1):
        start = START_UTC + timedelta(days=day, hours=9)
        if start.weekday() < 5:  # noqa: PLR2004 - Monday to Friday
            yield Session(
                resource_id=resource_id,
                user="user@example.com",
                start_utc=start,
                end_utc=start + timedelta(hours=8),
                cpu_pct=40.0,
                gpu_pct=0.0,
                memory_pct=30.0,
                user_stops=True,
            )


if __name__ == "__main__":
    raise SystemExit(main())
