"""How many requests a collection takes on large estates, by API, and how many the next day's.

    python -m benchmarks.call_budget [--workspaces 100] [--work DIR]

Twenty workspaces a subscription, four clusters and six instances each, in two regions, and one
Log Analytics workspace for all. Each cluster runs a job a day; two of the instances are used by
day, the others stay off. Waits for limits are virtual, so requests go out one at a time; the
seconds they would have taken are printed, beside those that the limits leave no way around.

Two bounds stand beside the requests. `section5` is that of performance.md §5 for a month, which
counts one list of computes a workspace, metrics of its own model estate in answers of 50 MB, a cost
query a subscription and a question to the logs. `needed` is what the rows that the lake keeps take
at the least: five lists a workspace, metrics by their grain and dimensions in answers of 50 MB,
reports of costs by month and metric with a look at each and its file, pages of the activity log.
"""

import argparse
import math
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
_LOGS = (
    "/subscriptions/00000000-0000-4000-8000-000000000000/resourceGroups/rg-logs"
    "/providers/Microsoft.OperationalInsights/workspaces/logs"
)
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
    document = judged(parsed.workspaces, *spent)
    for name in ("first", "next_day"):
        _show(name, document[name])
    print("next day / first:", document["next_day_share"])
    RESULTS.mkdir(exist_ok=True)
    write_json(RESULTS / f"call_budget_{parsed.workspaces}.json", document)
    return 0


def judged(workspaces: int, first: "Spent", next_day: "Spent") -> dict[str, Any]:
    """Return what two collections took, beside the bounds."""
    document: dict[str, Any] = {"workspaces": workspaces}
    month = fewest_requests(workspaces)
    for name, spent, section5, needed in zip(
        ("first", "next_day"),
        (first, next_day),
        (month, {}),
        needed_requests(workspaces),
        strict=True,
    ):
        total = sum(spent.requests.values())
        document[name] = asdict(spent) | {
            "by_api": {
                api: _row(spent.requests.get(api, 0), section5.get(api), needed.get(api))
                for api in sorted(spent.requests.keys() | needed.keys())
            }
            | {"total": _row(total, None, sum(needed.values()))},
            "least_seconds_of_limits": limit_seconds(spent.requests, workspaces),
        }
    document["next_day_share"] = {
        "requests": round(sum(next_day.requests.values()) / sum(first.requests.values()), 3),
        "rows": round(next_day.rows / first.rows, 3),
        "work_seconds": round(next_day.work_seconds / first.work_seconds, 3),
    }
    return document


def _show(name: str, spent: dict[str, Any]) -> None:
    print(f"{name:16}{'requests':>10}{'section5':>10}{'ratio':>7}{'needed':>10}{'ratio':>7}")
    for api, row in spent["by_api"].items():
        print(f"{api:16}" + "".join(_cell(row[key], width) for key, width in _CELLS))
    print(
        f"{spent['work_seconds']:,.0f} s of work, {spent['waited_seconds']:,.0f} s of waiting for "
        f"limits (at least {spent['least_seconds_of_limits']:,.0f}), "
        f"{sum(spent['refused'].values())} requests refused, "
        f"{spent['refused_again']} refused again"
    )


_CELLS = (
    ("requests", 10),
    ("section5", 10),
    ("section5_ratio", 7),
    ("needed", 10),
    ("needed_ratio", 7),
)


def _row(requests: int, section5: int | None, needed: int | None) -> dict[str, float | None]:
    return {
        "requests": requests,
        "section5": section5,
        "section5_ratio": round(requests / section5, 2) if section5 else None,
        "needed": needed,
        "needed_ratio": round(requests / needed, 2) if needed else None,
    }


def _cell(value: float | None, width: int) -> str:
    return f"{'' if value is None else f'{value:,}':>{width}}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Spent:
    """What one collection took."""

    requests: dict[str, int]
    """By API."""
    refused: dict[str, int]
    refused_again: int
    """Of requests that had been refused before."""
    rows: int
    """Written to the lake."""
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
    again = azure.refused_again()
    settings = load_settings({}, home=home)
    start = time.perf_counter()
    report = collect(
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
        refused_again=azure.refused_again() - again,
        rows=sum(report.rows.values()),
        work_seconds=round(time.perf_counter() - start, 1),
        waited_seconds=round(clock.waited_seconds, 1),
    )


def _say(stage: str, done: int, total: int | None) -> None:
    print(f"{stage} {done}/{total or '?'}", file=sys.stderr, flush=True)


def fewest_requests(workspaces: int) -> dict[str, int]:
    """Return the bound of performance.md §5 for each API that it counts.

    Resource Graph pages; a list of computes a workspace; 90 batches of metrics in answers of 50 MB
    for a hundred workspaces (20 were answers boundless); one question to the logs, and three for a
    thousand workspaces; a cost query a subscription.
    """
    subscriptions = -(-workspaces // WORKSPACES_A_SUBSCRIPTION)
    return {
        "resource_graph": -(-workspaces // 1000),
        "arm": workspaces,
        "metrics_batch": -(-90 * workspaces // 100),
        "cost_management": subscriptions,
        "log_analytics": -(-3 * workspaces // 1000),
    }


def needed_requests(workspaces: int) -> tuple[dict[str, int], dict[str, int]]:
    """Return the fewest requests that the lake's rows take, for the first look and the next day's.

    A workspace's computes, endpoints, schedules, diagnostic settings and jobs are lists of their
    own; sizes and quotas are one for each subscription and region. Metrics are five questions for
    each of those: nodes by the hour, and of instances and of clusters CPU and GPU, which differ in
    grain and dimensions. A month of each is cut into answers of 50 MB (`_answers`). Cost details
    are reports of a calendar month, billed and amortised, each begun, looked at and fetched.
    """
    subscriptions = -(-workspaces // WORKSPACES_A_SUBSCRIPTION)
    places = len(REGIONS) * subscriptions
    here = workspaces / places
    instances = _answers(here * USED_INSTANCES, 1440, nodes_stay=True, hours=8 * 5 / 7)
    clusters = _answers(here * CLUSTERS, 288, nodes_stay=False, hours=1)
    days = [START_UTC + timedelta(days=DAYS - back) for back in range(DAYS + 1)]
    reports = 2 * len({(day.year, day.month) for day in days})
    operations = WORKSPACES_A_SUBSCRIPTION * USED_INSTANCES * DAYS * 5 / 7 * 2
    jobs = -(-CLUSTERS * DAYS // _JOBS_A_PAGE)
    first = {
        "resource_graph": -(-workspaces // 1000),
        "arm": (4 + jobs) * workspaces + 2 * places + 1,
        "metrics_batch": places * (1 + 2 * instances + 2 * clusters),
        "log_analytics": -(-3 * workspaces // 1000),
        "activity_log": subscriptions * math.ceil(operations / _EVENTS_A_PAGE),
        "cost_management": subscriptions * 2 * reports,
        "blob": subscriptions * reports,
        "retail_prices": len(REGIONS),
    }
    return first, first | {
        "arm": 5 * workspaces + 2 * places + 1,
        "metrics_batch": 5 * places,
        "log_analytics": 1,
        "activity_log": subscriptions,
    }


_JOBS_A_PAGE, _EVENTS_A_PAGE = 100, 200
_BYTES_A_POINT, _BYTES_A_VALUE, _BYTES_AN_ANSWER = 37, 43, 50e6


def _answers(nodes: float, points_a_day: int, *, nodes_stay: bool, hours: float) -> int:
    """Return the fewest answers of 50 MB that hold two metrics of a month.

    Points without a value are told too. Instances keep their one node; a cluster has a new one
    each day, and each series is as long as the answer. `hours` a day have values.
    """
    for answers in range(1, DAYS + 1):
        days = DAYS / answers
        series = 2 * nodes * (1 if nodes_stay else days)
        points = series * points_a_day * days
        values = 2 * nodes * days * points_a_day * hours / 24
        if points * _BYTES_A_POINT + values * _BYTES_A_VALUE <= _BYTES_AN_ANSWER:
            return answers
    return DAYS


def limit_seconds(requests: dict[str, int], workspaces: int) -> float:
    """Return the seconds that Azure's limits leave no way around, if nothing else took time.

    Reads of Resource Manager in a subscription beyond 250 come at 25 a second, questions to
    Resource Graph at 15 in 5 s, to the logs at 200 in 30 s. Cost details have no published limit.
    """
    subscriptions = -(-workspaces // WORKSPACES_A_SUBSCRIPTION)
    reads = (requests.get("arm", 0) + requests.get("activity_log", 0)) / subscriptions
    return max(
        (reads - 250) / 25,
        5.0 * ((requests.get("resource_graph", 0) - 1) // 15),
        30.0 * ((requests.get("log_analytics", 0) - 1) // 200),
        0.0,
    )


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
        resources += [workspace, diagnostic_setting_document(workspace, _LOGS)]
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
