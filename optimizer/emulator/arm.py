"""What the emulator reads in ARM documents."""

from collections.abc import Mapping
from typing import Any, TypeAlias

import isodate

from optimizer.emulator.autoscale import read_autoscale
from optimizer.emulator.clusters import Scale
from optimizer.emulator.deployments import DeploymentSettings
from optimizer.emulator.instances import InstanceSettings
from optimizer.emulator.schedules import read_schedules
from optimizer.errors import ConfigError, EstateError
from optimizer.units import seconds_from_iso

Document: TypeAlias = dict[str, Any]

AUTOSCALE = "Microsoft.Insights/autoscaleSettings"
DEFAULT_SERVERS_PER_INSTANCE = 1
DEFAULT_REQUEST_TIMEOUT = "PT5S"
DEFAULT_QUEUE_WAIT = "PT0.5S"
"""What Azure takes where a deployment's `requestSettings` do not say."""

DEFAULT_IDLE_BEFORE_SCALE_DOWN = "PT120S"
SHORTEST_IDLE_SHUTDOWN_SECONDS = 15 * 60
LONGEST_IDLE_SHUTDOWN_SECONDS = 3 * 24 * 3600


def key(resource_id: str) -> str:
    """Return an id as it is compared: Azure spells one id in several ways."""
    return resource_id.lower().rstrip("/")


def settings(document: Mapping[str, Any]) -> Document:
    """Return the `properties.properties` of a compute."""
    return (document.get("properties") or {}).get("properties") or {}


def is_compute(document: Mapping[str, Any]) -> bool:
    """Say whether it is a compute of a workspace, of whatever type."""
    return str(document.get("type", "")).lower().endswith("workspaces/computes")


def is_cluster(document: Mapping[str, Any]) -> bool:
    """Say whether it is an AmlCompute cluster."""
    return is_compute(document) and _compute_type(document) == "amlcompute"


def is_instance(document: Mapping[str, Any]) -> bool:
    """Say whether it is a compute instance."""
    return is_compute(document) and _compute_type(document) == "computeinstance"


def is_deployment(document: Mapping[str, Any]) -> bool:
    """Say whether it is a deployment of a managed online endpoint; Kubernetes bills elsewhere."""
    compute = (document.get("properties") or {}).get("endpointComputeType")
    is_online = str(document.get("type", "")).lower().endswith("onlineendpoints/deployments")
    return is_online and str(compute or "Managed").lower() != "kubernetes"


def is_autoscale(document: Mapping[str, Any]) -> bool:
    """Say whether it is an autoscale setting, of whatever resource."""
    return str(document.get("type", "")).lower() == AUTOSCALE.lower()


def autoscaled(document: Mapping[str, Any]) -> str:
    """Return the id, as it is compared, of what an autoscale setting scales."""
    return key(str((document.get("properties") or {}).get("targetResourceUri", "")))


def is_played(document: Mapping[str, Any]) -> bool:
    """Say whether something moves behind it, and costs money."""
    return is_cluster(document) or is_instance(document) or is_deployment(document)


def region(document: Mapping[str, Any]) -> str:
    """Return a location as price lists spell it.

    >>> region({"location": "West Europe"})
    'westeurope'
    """
    return str(document.get("location", "")).lower().replace(" ", "")


def vm_size(document: Mapping[str, Any]) -> str:
    """Return the VM size of a compute or deployment; empty where it names none."""
    if is_deployment(document):
        return str((document.get("properties") or {}).get("instanceType") or "")
    return str(settings(document).get("vmSize") or "")


def is_low_priority(document: Mapping[str, Any]) -> bool:
    """Say whether its nodes can be evicted."""
    return str(settings(document).get("vmPriority") or "").lower() == "lowpriority"


def workspace_id(resource_id: str) -> str:
    """Return the id of the workspace that a compute, endpoint or deployment belongs to.

    Raises:
        EstateError: the id names no workspace.
    """
    parts = resource_id.split("/")
    kinds = [part.lower() for part in parts]
    if "workspaces" not in kinds[:-1]:
        raise EstateError(f"{resource_id} names no workspace; write /…/workspaces/<name>/…")
    return "/".join(parts[: kinds.index("workspaces") + 2])


def read_scale(document: Mapping[str, Any]) -> Scale:
    """Return the scale settings of a cluster.

    Raises:
        EstateError: they are missing, or contradict one another.
    """
    found = settings(document).get("scaleSettings") or {}
    idle = found.get("nodeIdleTimeBeforeScaleDown") or DEFAULT_IDLE_BEFORE_SCALE_DOWN
    least, most = found.get("minNodeCount") or 0, found.get("maxNodeCount")
    if not (isinstance(least, int) and isinstance(most, int) and 0 <= least <= most):
        raise EstateError(
            f"{_name(document)} has minNodeCount {least!r} and maxNodeCount {most!r}; "
            "give whole numbers with 0 <= minNodeCount <= maxNodeCount"
        )
    return Scale(min_nodes=least, max_nodes=most, idle_seconds=_seconds(document, idle))


def read_instance(document: Mapping[str, Any]) -> InstanceSettings:
    """Return the settings of an instance that stop and start it.

    Raises:
        EstateError: its idle time or a schedule cannot be played.
    """
    found = settings(document)
    idle = found.get("idleTimeBeforeShutdown")
    idle_seconds = None if idle is None else _seconds(document, idle)
    if idle_seconds is not None and not (
        SHORTEST_IDLE_SHUTDOWN_SECONDS <= idle_seconds <= LONGEST_IDLE_SHUTDOWN_SECONDS
    ):
        raise EstateError(
            f"{_name(document)} has idleTimeBeforeShutdown {idle!r}; "
            "Azure takes 15 minutes (PT15M) to 3 days (P3D)"
        )
    return InstanceSettings(
        idle_seconds=idle_seconds,
        schedules=read_schedules(found),
        has_custom_services=bool(found.get("customServices")),
    )


def read_deployment(document: Mapping[str, Any]) -> DeploymentSettings:
    """Return how many instances a deployment runs and what each of them takes on.

    Raises:
        EstateError: `sku.capacity` or a request setting cannot be played.
    """
    capacity = (document.get("sku") or {}).get("capacity", 1)
    if not isinstance(capacity, int) or capacity < 0:
        raise EstateError(f"{_name(document)} has sku.capacity {capacity!r}; give a whole number")
    found = (document.get("properties") or {}).get("requestSettings") or {}
    servers = found.get("maxConcurrentRequestsPerInstance") or DEFAULT_SERVERS_PER_INSTANCE
    if not isinstance(servers, int) or servers < 1:
        raise EstateError(
            f"{_name(document)} has maxConcurrentRequestsPerInstance {servers!r}; give a count"
        )
    waits = found.get("maxQueueWait") or DEFAULT_QUEUE_WAIT
    takes = found.get("requestTimeout") or DEFAULT_REQUEST_TIMEOUT
    return DeploymentSettings(
        capacity=capacity,
        servers_per_instance=servers,
        longest_ms=_milliseconds(document, waits) + _milliseconds(document, takes),
    )


def check_settings(document: Mapping[str, Any]) -> None:
    """Read the settings of what is played, or of what scales it, and drop them.

    Raises:
        EstateError: they cannot be played.
    """
    if is_cluster(document):
        read_scale(document)
    elif is_instance(document):
        read_instance(document)
    elif is_deployment(document):
        read_deployment(document)
    elif is_autoscale(document):
        read_autoscale(document)


def put_at(document: Document, path: str, value: Any) -> None:
    """Set what stands at a dotted path, making the objects on the way."""
    *way, last = path.split(".")
    for step in way:
        document = document.setdefault(step, {})
    document[last] = value


def _compute_type(document: Mapping[str, Any]) -> str:
    return str((document.get("properties") or {}).get("computeType", "")).lower()


def _name(document: Mapping[str, Any]) -> str:
    return str(document.get("name") or document.get("id") or "a resource")


def _seconds(document: Mapping[str, Any], duration: Any) -> int:
    try:
        return seconds_from_iso(str(duration))
    except ConfigError as error:
        raise EstateError(f"{_name(document)}: {error}") from error


def _milliseconds(document: Mapping[str, Any], duration: Any) -> float:
    """Return an ISO 8601 duration, which may hold parts of a second."""
    try:
        length = isodate.parse_duration(str(duration))
        return float(length.total_seconds()) * 1000
    except (isodate.ISO8601Error, AttributeError) as error:
        raise EstateError(
            f"{_name(document)}: {duration!r} is not a duration such as PT5S"
        ) from error
