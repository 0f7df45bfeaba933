"""Estate folders written file by file, and copied under other settings.

The columns are those the emulator plays. Amounts of memory, GPUs and cores that a job needs are
per node; GPU memory is per GPU, in a job's need as in a price row.
"""

import csv
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import asdict, astuple, dataclass, fields
from datetime import datetime
from pathlib import Path
from typing import Any, TypedDict

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from pyarrow import compute as pc
from pyarrow import parquet

from optimizer.errors import EstateError
from optimizer.units import iso_from_seconds, iso_utc

UTC_MILLI = pa.timestamp("ms", tz="UTC")

JOBS = pa.schema(
    {
        "job_id": pa.string(),
        "resource_id": pa.string(),
        "submit_utc": UTC_MILLI,
        "run_seconds": pa.int64(),
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
        "checkpoint_minutes": pa.int32(),
        "reference_sku": pa.string(),
    }.items()
)

SPOKEN = pa.schema({"time_limit_minutes": pa.float64(), "early_termination": pa.string()}.items())
"""Columns that `jobs.parquet` has only where a job's document says so."""

SESSIONS = pa.schema(
    {
        "resource_id": pa.string(),
        "user": pa.string(),
        "start_utc": UTC_MILLI,
        "end_utc": UTC_MILLI,
        "cpu_pct": pa.float64(),
        "gpu_pct": pa.float64(),
        "memory_pct": pa.float64(),
        "keeps_kernel_open": pa.bool_(),
        "via": pa.string(),
        "user_stops": pa.bool_(),
    }.items()
)

REQUESTS = pa.schema(
    {
        "resource_id": pa.string(),
        "minute_utc": UTC_MILLI,
        "requests_per_minute": pa.float64(),
        "service_ms": pa.float64(),
    }.items()
)

PATH_OF_SETTING = {
    "min_nodes": "properties.properties.scaleSettings.minNodeCount",
    "max_nodes": "properties.properties.scaleSettings.maxNodeCount",
    "idle_seconds": "properties.properties.scaleSettings.nodeIdleTimeBeforeScaleDown",
    "idle_shutdown": "properties.properties.idleTimeBeforeShutdown",
}


class Settings(TypedDict, total=False):
    """What a copied estate sets differently; a key left out stays as it is."""

    min_nodes: int
    max_nodes: int
    idle_seconds: int
    idle_shutdown: str | None
    """ISO 8601, such as PT60M; None: it never stops by itself."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One row of `jobs.parquet`. A parent that runs nothing itself has no row."""

    job_id: str
    resource_id: str
    submit_utc: datetime
    run_seconds: int
    nodes: int
    kind: str
    experiment: str
    user: str
    cpu_cores_needed: float
    memory_gib_needed: float
    reference_sku: str
    parent_id: str | None = None
    fails: bool = False
    gpus_needed: int = 0
    gpu_busy_fraction: float = 0.0
    gpu_memory_gib_needed: float = 0.0
    checkpoint_minutes: int | None = None
    time_limit_minutes: float | None = None
    early_termination: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """One row of `sessions.parquet`: a stretch of work on a compute instance."""

    resource_id: str
    user: str
    start_utc: datetime
    end_utc: datetime
    cpu_pct: float
    gpu_pct: float
    memory_pct: float
    keeps_kernel_open: bool = False
    via: str = "jupyter"
    user_stops: bool = False


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Traffic:
    """What a deployment is asked, minute by minute: its rows of `requests.parquet`."""

    resource_id: str
    start_utc: datetime
    per_minute: npt.NDArray[np.float64]
    service_ms: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Price:
    """One row of `prices.csv`: list prices of a Linux VM-hour. None: not known to be sold."""

    region: str
    sku: str
    vcpus: int
    memory_gib: float
    gpus: int
    gpu_memory_gib: float
    list_per_hour: float
    low_priority_per_hour: float | None
    ri_1y_per_hour: float | None
    ri_3y_per_hour: float | None
    currency: str
    as_of: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Estate:
    """Everything an estate folder holds but its truth."""

    manifest: Mapping[str, Any]
    """`estate.json`."""
    resources: Sequence[Mapping[str, Any]]
    jobs: Sequence[Job]
    sessions: Sequence[Session]
    prices: Sequence[Price]
    traffic: Sequence[Traffic] = ()


def write_estate(folder: Path, estate: Estate) -> None:
    """Write an estate folder, creating it; the same estate gives the same bytes."""
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / "estate.json", estate.manifest)
    write_json(folder / "resources.json", estate.resources)
    spoken = any(job.time_limit_minutes or job.early_termination for job in estate.jobs)
    columns = pa.schema([*JOBS, *SPOKEN]) if spoken else JOBS
    _write_table(folder / "jobs.parquet", estate.jobs, columns)
    _write_table(folder / "sessions.parquet", estate.sessions, SESSIONS)
    if estate.traffic:
        table = pa.concat_tables(map(_asked, estate.traffic))
        parquet.write_table(table, folder / "requests.parquet", compression="zstd")
    with (folder / "prices.csv").open("w", newline="") as file:
        rows = csv.writer(file, lineterminator="\n")
        rows.writerow(field.name for field in fields(Price))
        rows.writerows(astuple(price) for price in estate.prices)


def write_json(path: Path, value: Any) -> None:
    """Write JSON that reads well in a diff."""
    path.write_text(json.dumps(value, indent=1, ensure_ascii=False) + "\n")


def read_estate(folder: Path) -> Estate:
    """Return what `write_estate` wrote.

    Raises:
        EstateError: settings change while the estate is played, which no `Estate` can hold.
    """
    if (folder / "changes.csv").exists():
        raise EstateError(f"{folder} has a changes.csv, so its settings are not those of one day")
    asked = folder / "requests.parquet"
    with (folder / "prices.csv").open(newline="") as file:
        prices = tuple(map(_price, csv.DictReader(file)))
    return Estate(
        manifest=json.loads((folder / "estate.json").read_text()),
        resources=json.loads((folder / "resources.json").read_text()),
        jobs=[Job(**row) for row in _rows(folder / "jobs.parquet")],
        sessions=[Session(**row) for row in _rows(folder / "sessions.parquet")],
        prices=prices,
        traffic=tuple(_traffic(parquet.read_table(asked))) if asked.exists() else (),
    )


def with_settings(
    resources: Sequence[Mapping[str, Any]], settings: Mapping[str, Settings]
) -> list[dict[str, Any]]:
    """Return the documents of an estate with these settings changed.

    Raises:
        EstateError: a resource id is not among them.
    """
    by_id = {document["id"].lower(): deepcopy(dict(document)) for document in resources}
    for resource_id, chosen in settings.items():
        if resource_id.lower() not in by_id:
            raise EstateError(f"the estate holds no resource {resource_id}")
        for name, value in chosen.items():
            _set(by_id[resource_id.lower()], PATH_OF_SETTING[name], as_azure_writes(name, value))
    return list(by_id.values())


def as_azure_writes(name: str, value: object) -> object:
    """Return the value of a setting as it stands in an ARM document."""
    return iso_from_seconds(value) if name == "idle_seconds" and isinstance(value, int) else value


def workspace_document(
    *, subscription: str, group: str, name: str, region: str, tags: Mapping[str, str]
) -> dict[str, Any]:
    """Return a workspace as ARM describes it."""
    scope = f"/subscriptions/{subscription}/resourceGroups/{group}/providers"
    return {
        "id": f"{scope}/Microsoft.MachineLearningServices/workspaces/{name}",
        "name": name,
        "type": "Microsoft.MachineLearningServices/workspaces",
        "location": region,
        "kind": "Default",
        "tags": dict(tags),
        "identity": {"type": "SystemAssigned"},
        "sku": {"name": "Basic", "tier": "Basic"},
        "properties": {
            "friendlyName": name,
            "provisioningState": "Succeeded",
            "publicNetworkAccess": "Enabled",
            "storageAccount": f"{scope}/Microsoft.Storage/storageAccounts/{name.replace('-', '')}",
            "keyVault": f"{scope}/Microsoft.KeyVault/vaults/{name}",
            "applicationInsights": f"{scope}/Microsoft.Insights/components/{name}",
        },
    }


def diagnostic_setting_document(
    workspace: Mapping[str, Any], logs: str | None = None
) -> dict[str, Any]:
    """Return the setting that sends a workspace's compute events to Log Analytics.

    `logs` is the id of the Log Analytics workspace; None: the workspace has one of its own.
    """
    if logs is None:
        group = workspace["id"].partition("/providers/")[0]
        own = f"{workspace['name']}-logs"
        logs = f"{group}/providers/Microsoft.OperationalInsights/workspaces/{own}"
    categories = ("AmlComputeClusterEvent", "AmlComputeJobEvent", "AmlComputeInstanceEvent")
    return {
        "id": f"{workspace['id']}/providers/Microsoft.Insights/diagnosticSettings/compute",
        "name": "compute",
        "type": "Microsoft.Insights/diagnosticSettings",
        "properties": {
            "workspaceId": logs,
            "logs": [{"category": category, "enabled": True} for category in categories],
            "metrics": [],
        },
    }


def cluster_document(
    workspace: Mapping[str, Any],
    name: str,
    *,
    sku: str,
    min_nodes: int,
    max_nodes: int,
    idle_seconds: int,
    created_utc: datetime,
    tags: Mapping[str, str],
) -> dict[str, Any]:
    """Return an AmlCompute cluster with no node allocated yet."""
    return _compute_document(
        workspace,
        name,
        "AmlCompute",
        created_utc=created_utc,
        tags=tags,
        properties={
            "vmSize": sku,
            "vmPriority": "Dedicated",
            "osType": "Linux",
            "isolatedNetwork": False,
            "scaleSettings": {
                "maxNodeCount": max_nodes,
                "minNodeCount": min_nodes,
                "nodeIdleTimeBeforeScaleDown": iso_from_seconds(idle_seconds),
            },
            "remoteLoginPortPublicAccess": "Disabled",
            "allocationState": "Steady",
            "errors": None,
            "currentNodeCount": 0,
            "targetNodeCount": 0,
            "enableNodePublicIp": True,
        },
    )


def instance_document(
    workspace: Mapping[str, Any],
    name: str,
    *,
    sku: str,
    user: str,
    created_utc: datetime,
    tags: Mapping[str, str],
    properties: Mapping[str, Any],
) -> dict[str, Any]:
    """Return a compute instance as it stands when the history starts.

    `properties` are laid over the plain ones: `state`, `idleTimeBeforeShutdown` and the like.
    """
    return _compute_document(
        workspace,
        name,
        "ComputeInstance",
        created_utc=created_utc,
        tags=tags,
        properties={
            "vmSize": sku,
            "applicationSharingPolicy": "Personal",
            "computeInstanceAuthorizationType": "personal",
            "sshSettings": {"sshPublicAccess": "Disabled"},
            "enableNodePublicIp": True,
            "createdBy": {"userName": user},
            "state": "Stopped",
            "errors": None,
            **properties,
        },
    )


def endpoint_document(workspace: Mapping[str, Any], name: str) -> dict[str, Any]:
    """Return a managed online endpoint whose traffic all goes to its deployment `main`."""
    return {
        "id": f"{workspace['id']}/onlineEndpoints/{name}",
        "name": name,
        "type": "Microsoft.MachineLearningServices/workspaces/onlineEndpoints",
        "location": workspace["location"],
        "kind": "Managed",
        "tags": {},
        "properties": {
            "authMode": "Key",
            "provisioningState": "Succeeded",
            "traffic": {"main": 100},
        },
    }


def deployment_document(
    endpoint: Mapping[str, Any],
    *,
    sku: str,
    instances: int,
    requests_at_once: int,
    created_utc: datetime,
    tags: Mapping[str, str],
) -> dict[str, Any]:
    """Return the deployment `main` of an endpoint."""
    return {
        "id": f"{endpoint['id']}/deployments/main",
        "name": "main",
        "type": f"{endpoint['type']}/deployments",
        "location": endpoint["location"],
        "tags": dict(tags),
        "sku": {"name": "Default", "capacity": instances},
        "systemData": {"createdAt": iso_utc(created_utc)},
        "properties": {
            "endpointComputeType": "Managed",
            "instanceType": sku,
            "provisioningState": "Succeeded",
            "scaleSettings": {"scaleType": "Default"},
            "requestSettings": {
                "maxConcurrentRequestsPerInstance": requests_at_once,
                "requestTimeout": "PT5S",
                "maxQueueWait": "PT0.5S",
            },
        },
    }


def autoscale_document(
    deployment: Mapping[str, Any], *, least: int, most: int, rules: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    """Return the autoscale setting of a deployment, with one profile for always."""
    group = deployment["id"].partition("/providers/")[0]
    name = f"scale-{deployment['id'].split('/')[-3]}"
    limits = {"minimum": str(least), "maximum": str(most), "default": str(least)}
    return {
        "id": f"{group}/providers/Microsoft.Insights/autoscaleSettings/{name}",
        "name": name,
        "type": "Microsoft.Insights/autoscaleSettings",
        "location": deployment["location"],
        "properties": {
            "enabled": True,
            "targetResourceUri": deployment["id"],
            "profiles": [{"name": "always", "capacity": limits, "rules": list(rules)}],
        },
    }


def cpu_rule(
    operator: str, percent: float, direction: str, *, by: int, cooldown_minutes: int
) -> dict[str, Any]:
    """Return an autoscale rule on the mean CPU of five minutes."""
    return {
        "metricTrigger": {
            "metricName": "CpuUtilizationPercentage",
            "timeGrain": "PT1M",
            "statistic": "Average",
            "timeWindow": "PT5M",
            "timeAggregation": "Average",
            "operator": operator,
            "threshold": percent,
        },
        "scaleAction": {
            "direction": direction,
            "type": "ChangeCount",
            "value": str(by),
            "cooldown": iso_from_seconds(60 * cooldown_minutes),
        },
    }


def _compute_document(
    workspace: Mapping[str, Any],
    name: str,
    compute_type: str,
    *,
    created_utc: datetime,
    tags: Mapping[str, str],
    properties: Mapping[str, Any],
) -> dict[str, Any]:
    return {
        "id": f"{workspace['id']}/computes/{name}",
        "name": name,
        "type": "Microsoft.MachineLearningServices/workspaces/computes",
        "location": workspace["location"],
        "tags": dict(tags),
        "properties": {
            "computeType": compute_type,
            "createdOn": iso_utc(created_utc),
            "modifiedOn": iso_utc(created_utc),
            "provisioningState": "Succeeded",
            "isAttachedCompute": False,
            "disableLocalAuth": True,
            "properties": dict(properties),
        },
    }


def _asked(traffic: Traffic) -> pa.Table:
    start = np.datetime64(traffic.start_utc.replace(tzinfo=None), "ms")
    minutes = np.flatnonzero(traffic.per_minute)
    columns = {
        "resource_id": pa.array([traffic.resource_id] * minutes.size),
        "minute_utc": pa.array(start + minutes * np.timedelta64(60_000, "ms")),
        "requests_per_minute": traffic.per_minute[minutes],
        "service_ms": np.full(minutes.size, traffic.service_ms),
    }
    return pa.table(columns).cast(REQUESTS)


def _traffic(rows: pa.Table) -> Iterator[Traffic]:
    for resource_id in pc.unique(rows["resource_id"]).to_pylist():
        mine = rows.filter(pc.equal(rows["resource_id"], resource_id))
        minutes = mine["minute_utc"].to_numpy().astype("datetime64[m]").astype(np.int64)
        per_minute = np.zeros(int(minutes[-1] - minutes[0]) + 1)
        per_minute[minutes - minutes[0]] = mine["requests_per_minute"].to_numpy()
        yield Traffic(
            resource_id=resource_id,
            start_utc=mine["minute_utc"][0].as_py(),
            per_minute=per_minute,
            service_ms=mine["service_ms"][0].as_py(),
        )


def _rows(path: Path) -> Iterator[dict[str, Any]]:
    """Yield rows without what they leave open, which has a default."""
    for row in parquet.read_table(path).to_pylist():
        yield {name: value for name, value in row.items() if value is not None}


def _price(row: Mapping[str, str]) -> Price:
    typed: dict[str, Any] = {
        name: as_type(row[name]) if row[name] else None for name, as_type in _TYPES_OF_PRICE.items()
    }
    return Price(**typed)


_TYPES_OF_PRICE: dict[str, Callable[[str], Any]] = {
    field.name: field.type if field.type in {str, int} else float  # what may be left open is money
    for field in fields(Price)
}


def _write_table(path: Path, rows: Iterable[Job] | Iterable[Session], schema: pa.Schema) -> None:
    table = pa.Table.from_pylist([asdict(row) for row in rows], schema=schema)
    parquet.write_table(table, path, compression="zstd", compression_level=19)


def _set(document: dict[str, Any], path: str, value: object) -> None:
    *parents, last = path.split(".")
    for key in parents:
        document = document[key]
    if value is None:
        document.pop(last, None)
    else:
        document[last] = value
