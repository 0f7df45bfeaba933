"""How many requests a collection takes on large estates, by API, and how many the next day's.

    python -m benchmarks.call_budget [--workspaces 100] [--work DIR]

Twenty workspaces a subscription, four clusters and six instances each, in two regions. Each cluster
runs a job a day; two of the instances are used by day, the others stay off. Waits for limits
are virtual, so requests go out one at a time; the seconds they would have taken are printed.
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from benchmarks.closed_loop import RESULTS, Emulator, emulator
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
from optimizer.azure.connect import connect
from optimizer.collectors.collect import collect
from optimizer.config import AzureSettings, load_settings
from optimizer.errors import OptimizerError
from optimizer.store.lake import Lake
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
            spent = budget(work)
    except (OptimizerError, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    fewest = fewest_requests(parsed.workspaces)
    first, second = (each.requests for each in spent)
    print(f"{'api':16}{'first':>8}{'next day':>10}{'at least':>10}")
    for api in sorted(first.keys() | second.keys()):
        least = fewest.get(api)
        said = f"{least:>10,}" if least is not None else f"{'':>10}"
        print(f"{api:16}{first.get(api, 0):>8,}{second.get(api, 0):>10,}{said}")
    for name, each in zip(("first", "next day"), spent, strict=True):
        print(
            f"{name}: {each.work_seconds:,.0f} s of work, {each.waited_seconds:,.0f} s of waiting "
            f"for limits, {sum(each.refused.values())} requests refused"
        )
    RESULTS.mkdir(exist_ok=True)
    write_json(
        RESULTS / f"call_budget_{parsed.workspaces}.json",
        {
            "workspaces": parsed.workspaces,
            "at_least": fewest,
            **{n: asdict(each) for n, each in zip(("first", "next_day"), spent, strict=True)},
        },
    )
    return 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Spent:
    """What one collection took."""

    requests: dict[str, int]
    """By API."""
    refused: dict[str, int]
    work_seconds: float
    waited_seconds: float
    """For limits, on the virtual clock."""


class VirtualClock:
    """Waiting moves the emulator's clock of limits on, and takes no time."""

    def __init__(self, azure: Emulator) -> None:
        """Start now."""
        self._azure = azure
        self.waited_seconds = 0.0

    def now(self) -> float:
        """Return the time in seconds, real and waited."""
        return time.monotonic() + self.waited_seconds

    def sleep(self, seconds: float) -> None:
        """Let time pass."""
        self._azure.wait(seconds)
        self.waited_seconds += seconds


def budget(work: Path) -> tuple[Spent, Spent]:
    """Collect twice, a day apart."""
    with emulator(work / "estate") as azure:
        first = _collected(azure, work / "home")
        azure.advance(24)
        second = _collected(azure, work / "home")
    return first, second


def _collected(azure: Emulator, home: Path) -> Spent:
    clock, before, refused = VirtualClock(azure), azure.requests(), azure.refused()
    settings = load_settings({}, home=home)
    start = time.perf_counter()
    collect(
        connect(
            AzureSettings(
                endpoint=azure.url,
                ca_file=azure.ca_file,
                credential="emulator",
                max_concurrency=1,
            ),
            clock,
        ),
        Lake(settings.lake),
        lookback_days=DAYS,
        subscriptions=(),
        analysis=settings.analysis,
        progress=_say,
    )
    return Spent(
        requests={api: n - before.get(api, 0) for api, n in azure.requests().items()},
        refused={api: n - refused.get(api, 0) for api, n in azure.refused().items()},
        work_seconds=round(time.perf_counter() - start, 1),
        waited_seconds=round(clock.waited_seconds, 1),
    )


def _say(stage: str, done: int, total: int | None) -> None:
    print(f"{stage} {done}/{total or '?'}", file=sys.stderr, flush=True)


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
        logs = (
            f"/subscriptions/{subscription}/resourceGroups/rg-logs"
            "/providers/Microsoft.OperationalInsights/workspaces/logs"
        )
        resources += [workspace, diagnostic_setting_document(workspace, logs)]
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
