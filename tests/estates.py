"""Small estate folders made from code, so that a test's numbers can be worked out by hand."""

import csv
import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from optimizer.units import iso_utc

Arm = dict[str, Any]
Row = dict[str, Any]

SUBSCRIPTION = "11111111-1111-1111-1111-111111111111"
OTHER_SUBSCRIPTION = "22222222-2222-2222-2222-222222222222"
START_UTC = datetime(2026, 1, 5, tzinfo=UTC)
"""A Monday, so that weekdays and weekends are easy to count."""

CPU_SKU = "Standard_DS3_v2"
GPU_SKU = "Standard_NC6s_v3"

EXACT_PHYSICS = {
    "allocation_seconds_median": 0,
    "allocation_seconds_sigma": 0,
    "leaving_seconds": 0,
    "start_seconds": 0,
    "eviction_per_node_hour": 0,
}
"""Nothing takes time and nothing is left to chance: node-seconds follow from the jobs alone."""

_AT = pa.timestamp("us", tz="UTC")
_JOBS = pa.schema(
    {
        "job_id": pa.string(),
        "resource_id": pa.string(),
        "submit_utc": _AT,
        "run_seconds": pa.float64(),
        "nodes": pa.int32(),
        "kind": pa.string(),
        "parent_id": pa.string(),
        "experiment": pa.string(),
        "user": pa.string(),
        "fails": pa.bool_(),
        "cpu_cores_needed": pa.float64(),
        "memory_gib_needed": pa.float64(),
        "gpus_needed": pa.int32(),
        "gpu_busy_fraction": pa.float64(),
        "gpu_memory_gib_needed": pa.float64(),
        "checkpoint_minutes": pa.float64(),
        "reference_sku": pa.string(),
        "time_limit_minutes": pa.float64(),
        "early_termination": pa.string(),
    }
)
_SESSIONS = pa.schema(
    {
        "resource_id": pa.string(),
        "user": pa.string(),
        "start_utc": _AT,
        "end_utc": _AT,
        "cpu_pct": pa.float64(),
        "gpu_pct": pa.float64(),
        "memory_pct": pa.float64(),
        "keeps_kernel_open": pa.bool_(),
        "via": pa.string(),
        "user_stops": pa.bool_(),
    }
)
_REQUESTS = pa.schema(
    {
        "resource_id": pa.string(),
        "minute_utc": _AT,
        "requests_per_minute": pa.float64(),
        "service_ms": pa.float64(),
    }
)
_CHANGES = ("at_utc", "resource_id", "path", "value")


def workspace(
    name: str = "ws-vision",
    *,
    subscription: str = SUBSCRIPTION,
    group: str = "rg-ml",
    region: str = "eastus",
    tags: Mapping[str, str] | None = None,
) -> Arm:
    """Return the ARM document of a workspace."""
    return {
        "id": f"/subscriptions/{subscription}/resourceGroups/{group}"
        f"/providers/Microsoft.MachineLearningServices/workspaces/{name}",
        "name": name,
        "type": "Microsoft.MachineLearningServices/workspaces",
        "location": region,
        "kind": "Default",
        "tags": dict(tags or {}),
        "sku": {"name": "Basic", "tier": "Basic"},
        "identity": {"type": "SystemAssigned"},
        "properties": {
            "friendlyName": name,
            "workspaceId": "44444444-4444-4444-4444-444444444444",
            "provisioningState": "Succeeded",
            "publicNetworkAccess": "Enabled",
        },
    }


def diagnostics(of: Arm) -> Arm:
    """Return the diagnostic setting that sends a workspace's logs to Log Analytics."""
    return {
        "id": f"{of['id']}/providers/Microsoft.Insights/diagnosticSettings/all",
        "name": "all",
        "type": "Microsoft.Insights/diagnosticSettings",
        "properties": {
            "workspaceId": f"/subscriptions/{of['id'].split('/')[2]}/resourceGroups/rg-ml"
            "/providers/Microsoft.OperationalInsights/workspaces/logs",
            "logs": [{"categoryGroup": "allLogs", "enabled": True}],
            "metrics": [],
        },
    }


def cluster(
    of: Arm,
    name: str = "cpu-train",
    *,
    sku: str = CPU_SKU,
    priority: str = "Dedicated",
    minimum: int = 0,
    maximum: int = 4,
    idle: str = "PT120S",
    tags: Mapping[str, str] | None = None,
) -> Arm:
    """Return the ARM document of an AmlCompute cluster in the workspace `of`."""
    settings = {
        "vmSize": sku,
        "vmPriority": priority,
        "osType": "Linux",
        "scaleSettings": {
            "minNodeCount": minimum,
            "maxNodeCount": maximum,
            "nodeIdleTimeBeforeScaleDown": idle,
        },
        "remoteLoginPortPublicAccess": "Disabled",
        "enableNodePublicIp": False,
    }
    return _compute(of, name, "AmlCompute", settings, tags)


def instance(
    of: Arm,
    name: str = "ci-ana",
    *,
    sku: str = CPU_SKU,
    idle_shutdown: str | None = None,
    schedules: Sequence[Mapping[str, Any]] = (),
    tags: Mapping[str, str] | None = None,
) -> Arm:
    """Return the ARM document of a compute instance in the workspace `of`; it begins stopped."""
    settings = {
        "vmSize": sku,
        "state": "Stopped",
        "applicationSharingPolicy": "Personal",
        "computeInstanceAuthorizationType": "personal",
        "sshSettings": {"sshPublicAccess": "Disabled"},
        "idleTimeBeforeShutdown": idle_shutdown,
        "schedules": {"computeStartStop": [dict(schedule) for schedule in schedules]},
        "createdBy": {"userName": tags.get("owner", "Ana") if tags else "Ana"},
        "enableNodePublicIp": True,
    }
    return _compute(of, name, "ComputeInstance", settings, tags)


def endpoint(of: Arm, name: str = "ep", *, traffic: Mapping[str, int] | None = None) -> Arm:
    """Return the ARM document of a managed online endpoint in the workspace `of`."""
    return {
        "id": f"{of['id']}/onlineEndpoints/{name}",
        "name": name,
        "type": "Microsoft.MachineLearningServices/workspaces/onlineEndpoints",
        "location": of["location"],
        "kind": "Managed",
        "tags": {},
        "properties": {
            "authMode": "Key",
            "provisioningState": "Succeeded",
            "traffic": dict(traffic or {}),
        },
    }


def deployment(
    of: Arm,
    name: str = "blue",
    *,
    sku: str = CPU_SKU,
    instances: int = 1,
    concurrency: int = 1,
    tags: Mapping[str, str] | None = None,
) -> Arm:
    """Return the ARM document of a managed deployment of the endpoint `of`."""
    return {
        "id": f"{of['id']}/deployments/{name}",
        "name": name,
        "type": "Microsoft.MachineLearningServices/workspaces/onlineEndpoints/deployments",
        "location": of["location"],
        "tags": dict(tags or {}),
        "sku": {"name": "Default", "capacity": instances},
        "properties": {
            "endpointComputeType": "Managed",
            "instanceType": sku,
            "provisioningState": "Succeeded",
            "scaleSettings": {"scaleType": "Default"},
            "requestSettings": {
                "maxConcurrentRequestsPerInstance": concurrency,
                "requestTimeout": "PT5S",
                "maxQueueWait": "PT0.5S",
            },
        },
    }


def autoscale(
    of: Arm, *rules: Arm, minimum: int = 1, maximum: int = 5, more: Iterable[Arm] = ()
) -> Arm:
    """Return the autoscale setting of a deployment: one profile for always, and `more`."""
    subscription, group = of["id"].split("/")[2], of["id"].split("/")[4]
    return {
        "id": f"/subscriptions/{subscription}/resourceGroups/{group}"
        f"/providers/Microsoft.Insights/autoscaleSettings/scale-{of['name']}",
        "name": f"scale-{of['name']}",
        "type": "Microsoft.Insights/autoscaleSettings",
        "location": of["location"],
        "properties": {
            "enabled": True,
            "targetResourceUri": of["id"],
            "profiles": [*more, scale_profile("always", minimum, maximum, rules)],
        },
    }


def scale_profile(
    name: str, minimum: int, maximum: int, rules: Iterable[Arm] = (), **times: Any
) -> Arm:
    """Return a profile of an autoscale setting; `times` is its recurrence or fixedDate."""
    counts = {"minimum": str(minimum), "maximum": str(maximum), "default": str(minimum)}
    return {"name": name, "capacity": counts, "rules": list(rules)} | times


def scale_rule(
    operator: str,
    threshold: float,
    direction: str,
    *,
    by: int = 1,
    metric: str = "CpuUtilizationPercentage",
    minutes: int = 5,
    cooldown: str = "PT5M",
) -> Arm:
    """Return a rule such as `scale_rule("GreaterThan", 70, "Increase", by=2)`."""
    return {
        "metricTrigger": {
            "metricName": metric,
            "timeGrain": "PT1M",
            "statistic": "Average",
            "timeWindow": f"PT{minutes}M",
            "timeAggregation": "Average",
            "operator": operator,
            "threshold": threshold,
        },
        "scaleAction": {
            "direction": direction,
            "type": "ChangeCount",
            "value": str(by),
            "cooldown": cooldown,
        },
    }


def quota(of: Arm, family: str, cores: int) -> Arm:
    """Return how many cores of a family the workspace `of`, or a subscription, may use."""
    return {
        "id": f"{of['id']}/quotas/{family}",
        "name": family,
        "type": "Microsoft.MachineLearningServices/locations/quotas",
        "location": of.get("location", "eastus"),
        "properties": {"limit": cores},
    }


def commitment(account: str, utilisation: float, *, kind: str = "SavingsPlan") -> Arm:
    """Return a commitment of a billing account and how many percent of it are used."""
    return {
        "id": f"/subscriptions/{SUBSCRIPTION}/providers/Microsoft.CostManagement/commitments"
        f"/{kind}-{utilisation}",
        "name": f"{kind}-{utilisation}",
        "type": "Microsoft.CostManagement/commitments",
        "properties": {
            "billingAccountId": account,
            "kind": kind,
            "armSkuName": "Compute_Savings_Plan",
            "utilizationPercentage": utilisation,
        },
    }


def reservation(
    name: str = "r", *, sku: str = CPU_SKU, quantity: int = 2, account: str = "12345", **more: Any
) -> Arm:
    """Return a reservation for `billing.reservations`: of a year, shared, bought at the start."""
    return {
        "id": f"/providers/Microsoft.Capacity/reservationOrders/o-{name}/reservations/{name}",
        "billing_account": account,
        "subscription": SUBSCRIPTION,
        "region": "eastus",
        "sku": sku,
        "quantity": quantity,
        "start_utc": iso_utc(START_UTC),
    } | more


def requests(
    on: Arm, start_utc: datetime, minutes: int, per_minute: float, *, service_ms: float = 50.0
) -> list[Row]:
    """Return so many minutes of even traffic to a deployment."""
    return [
        {
            "resource_id": on["id"],
            "minute_utc": start_utc + timedelta(minutes=minute),
            "requests_per_minute": per_minute,
            "service_ms": service_ms,
        }
        for minute in range(minutes)
    ]


def job(
    on: Arm,
    submit_utc: datetime,
    *,
    run_seconds: float = 3600,
    nodes: int = 1,
    **columns: Any,
) -> Row:
    """Return one job; `columns` overrides any other column of `jobs.parquet`."""
    sku = on["properties"]["properties"]["vmSize"]
    stamp = f"{submit_utc:%Y%m%d%H%M%S}"
    return {
        "job_id": f"{on['name']}-{stamp}",
        "resource_id": on["id"],
        "submit_utc": submit_utc,
        "run_seconds": run_seconds,
        "nodes": nodes,
        "kind": "command",
        "parent_id": None,
        "experiment": "train",
        "user": "ana@contoso.com",
        "fails": False,
        "cpu_cores_needed": 2.0,
        "memory_gib_needed": 7.0,
        "gpus_needed": 1 if sku == GPU_SKU else 0,
        "gpu_busy_fraction": 0.5 if sku == GPU_SKU else 0.0,
        "gpu_memory_gib_needed": 8.0 if sku == GPU_SKU else 0.0,
        "checkpoint_minutes": None,
        "reference_sku": sku,
    } | columns


def session(on: Arm, start_utc: datetime, end_utc: datetime, **columns: Any) -> Row:
    """Return one session of work; nobody stops the instance after it unless `user_stops`."""
    return {
        "resource_id": on["id"],
        "user": "ana@contoso.com",
        "start_utc": start_utc,
        "end_utc": end_utc,
        "cpu_pct": 40.0,
        "gpu_pct": 0.0,
        "memory_pct": 30.0,
        "keeps_kernel_open": False,
        "via": "jupyter",
        "user_stops": False,
    } | columns


def price(sku: str, per_hour: float, *, region: str = "eastus", **columns: Any) -> Row:
    """Return one row of `prices.csv`: low priority at a fifth, reservations at 0.6 and 0.4."""
    return {
        "region": region,
        "sku": sku,
        "vcpus": 4,
        "memory_gib": 14,
        "gpus": 0,
        "gpu_memory_gib": 0,
        "list_per_hour": per_hour,
        "low_priority_per_hour": round(per_hour * 0.2, 4),
        "ri_1y_per_hour": round(per_hour * 0.6, 4),
        "ri_3y_per_hour": round(per_hour * 0.4, 4),
        "currency": "USD",
        "as_of": "2026-01-01",
    } | columns


PRICES = (
    price(CPU_SKU, 0.25),
    price(GPU_SKU, 3.0, vcpus=6, memory_gib=112, gpus=1, gpu_memory_gib=16),
)


def write_estate(  # noqa: PLR0913 - one keyword for each file of the folder
    folder: Path,
    *,
    resources: Iterable[Arm],
    jobs: Iterable[Row] = (),
    sessions: Iterable[Row] = (),
    requests: Iterable[Row] = (),
    changes: Iterable[Row] = (),
    prices: Iterable[Row] = PRICES,
    start_utc: datetime = START_UTC,
    days: float = 21,
    billing: Mapping[str, Any] | None = None,
    physics: Mapping[str, Any] | None = None,
    telemetry: Mapping[str, Any] | None = None,
    seed: int = 7,
) -> Path:
    """Write an estate folder whose clock stands `days` after `start_utc`; return the folder.

    By default list prices are billed at once, nothing takes time and no measurement is missing.
    """
    folder.mkdir(parents=True, exist_ok=True)
    estate = {
        "name": folder.name,
        "currency": "USD",
        "history_start_utc": iso_utc(start_utc),
        "now_utc": iso_utc(start_utc + timedelta(days=days)),
        "billing": {"discount": 0.0, "lag_hours": 0, "round_to": 0.0} | dict(billing or {}),
        "physics": EXACT_PHYSICS | dict(physics or {}),
        "telemetry": {
            "missing_fraction": 0.0,
            "diagnostic_logs": True,
            "cost_details": True,
            "tags_on_costs": True,
        }
        | dict(telemetry or {}),
        "seed": seed,
    }
    _write_json(folder / "estate.json", estate)
    _write_json(folder / "resources.json", list(resources))
    pq.write_table(pa.Table.from_pylist(list(jobs), schema=_JOBS), folder / "jobs.parquet")
    played = pa.Table.from_pylist(list(sessions), schema=_SESSIONS)
    pq.write_table(played, folder / "sessions.parquet")
    if asked := list(requests):
        table = pa.Table.from_pylist(asked, schema=_REQUESTS)
        pq.write_table(table, folder / "requests.parquet")
    _write_csv(folder / "prices.csv", list(PRICES[0]), prices)
    if changes := list(changes):
        _write_csv(folder / "changes.csv", _CHANGES, changes)
    return folder


def write_small_estate(
    folder: Path, *, more: Iterable[Arm] = (), requests: Iterable[Row] = ()
) -> Path:
    """Write two workspaces in two subscriptions with three clusters and three instances.

    Three weeks have passed and one is to come. `gpu-kept` keeps two nodes for nothing,
    `cpu-slow` holds nodes two hours after every job and `cpu-tidy` is well set; `ci-forgotten` is
    never stopped, `ci-guarded` stops itself after an hour and `ci-stopped` is stopped by its user.
    """
    vision = workspace("ws-vision", tags={"team": "vision"})
    speech = workspace("ws-speech", subscription=OTHER_SUBSCRIPTION, group="rg-speech")
    kept = cluster(vision, "gpu-kept", sku=GPU_SKU, minimum=2, maximum=6, tags={"owner": "ana"})
    slow = cluster(vision, "cpu-slow", idle="PT2H", maximum=8, tags={"owner": "ben"})
    tidy = cluster(speech, "cpu-tidy", idle="PT120S")
    forgotten = instance(vision, "ci-forgotten", tags={"owner": "ana"})
    guarded = instance(vision, "ci-guarded", idle_shutdown="PT60M")
    stopped = instance(speech, "ci-stopped")
    days = [START_UTC + timedelta(days=day) for day in range(28)]
    work_days = [day for day in days if day.weekday() < 5]
    jobs = [
        job(on, day + timedelta(hours=hour), run_seconds=run_seconds, nodes=nodes)
        for day in work_days
        for on, hours, run_seconds, nodes in (
            (kept, (9, 14), 2 * 3600, 1),
            (slow, (8, 11, 14, 17), 1800, 2),
            (tidy, (10, 15), 3600, 2),
        )
        for hour in hours
    ]
    sessions = [
        session(on, day + timedelta(hours=9), day + timedelta(hours=hours), user_stops=stops)
        for day in work_days
        for on, hours, stops in ((forgotten, 12, False), (guarded, 16, False), (stopped, 17, True))
    ]
    return write_estate(
        folder,
        resources=[
            vision,
            diagnostics(vision),
            speech,
            kept,
            slow,
            tidy,
            forgotten,
            guarded,
            stopped,
            *more,
        ],
        jobs=jobs,
        sessions=sessions,
        requests=requests,
    )


def _compute(of: Arm, name: str, kind: str, settings: Arm, tags: Mapping[str, str] | None) -> Arm:
    return {
        "id": f"{of['id']}/computes/{name}",
        "name": name,
        "type": "Microsoft.MachineLearningServices/workspaces/computes",
        "location": of["location"],
        "tags": dict(tags or {}),
        "properties": {
            "computeType": kind,
            "computeLocation": of["location"],
            "createdOn": "2025-12-01T00:00:00+00:00",
            "modifiedOn": "2025-12-01T00:00:00+00:00",
            "provisioningState": "Succeeded",
            "disableLocalAuth": True,
            "isAttachedCompute": False,
            "properties": settings,
        },
    }


def _write_json(path: Path, value: object) -> None:
    path.write_text(json.dumps(value, indent=1), encoding="utf-8")


def _write_csv(path: Path, columns: Sequence[str], rows: Iterable[Row]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        writer.writerows(rows)
