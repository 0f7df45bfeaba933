"""What there is: subscriptions → workspaces → clusters, instances and deployments."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, TypeVar

import isodate
import orjson
import pandas as pd

from optimizer.azure.arm import SUBSCRIPTIONS_API
from optimizer.azure.connect import Connection
from optimizer.catalogue import snapshot
from optimizer.collectors.autoscale import autoscale_by_target
from optimizer.collectors.problems import problem_of
from optimizer.collectors.workspaces import (
    attached_compute,
    job_schedules,
    log_categories,
    quotas_of,
    usages,
)
from optimizer.errors import AzureError, ForbiddenError, NotFoundError
from optimizer.model import Kind, Problem, Resource
from optimizer.store.lake import Lake
from optimizer.store.tables import RESOURCES
from optimizer.units import seconds_from_iso, utc

_PROVIDER = "Microsoft.MachineLearningServices"
_ALL_WORKSPACES = "resources | where type =~ 'microsoft.machinelearningservices/workspaces'"

_OWNER_TAGS = ("owner", "createdby", "created_by", "creator", "contact", "team_lead")
_IDLE_SECONDS_BY_DEFAULT = 120
"""What Azure takes where a cluster does not say."""

_PRIORITIES = {"dedicated": "dedicated", "lowpriority": "low_priority", "spot": "low_priority"}

T = TypeVar("T")

Document = Mapping[str, Any]
Spelling = Mapping[str, str]
"""VM sizes as the price list spells them, by their name in lower case."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Inventory:
    """Everything that was found, and what was not."""

    subscriptions: tuple[str, ...]
    """Those that could be read."""
    resources: tuple[Resource, ...]
    problems: tuple[Problem, ...]

    def of_kind(self, *kinds: Kind) -> tuple[Resource, ...]:
        """Return the resources of some kinds, in Azure's order."""
        return tuple(r for r in self.resources if r.kind in kinds)

    def judged(self) -> tuple[Resource, ...]:
        """Return what is billed here; deployments on Kubernetes are listed only."""
        computes = self.of_kind(Kind.CLUSTER, Kind.INSTANCE)
        return (*computes, *managed(self.of_kind(Kind.DEPLOYMENT)))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Contents:
    """What one workspace holds, so far as it shows it."""

    workspace: Resource
    resources: tuple[Resource, ...] = ()
    problems: tuple[Problem, ...] = ()
    refused: ForbiddenError | None = None
    """Why its computes cannot be read."""


def collect_inventory(connection: Connection, subscriptions: Sequence[str]) -> Inventory:
    """Read the subscriptions named, or all that the account sees, down to every compute.

    Resource Graph answers for all of them at once. It keeps silent about what is forbidden, so
    subscriptions without a workspace there are asked directly. A subscription counts as refused
    where its workspaces cannot be listed, or none of them shows its computes.

    Raises:
        UnauthorizedError: the token was refused.
        AzureError: not a single subscription could be read.
    """
    asked = [s.lower() for s in subscriptions] or _visible(connection)
    found, refused = _workspaces(connection, asked)
    every_workspace = [w for some in found.values() for w in some]
    sizes = _sizes(connection, every_workspace)
    spelling = {name.lower(): name for of_place in sizes.values() for name in of_place}
    contents: dict[str, list[_Contents]] = {}
    for subscription, workspaces in found.items():
        read = connection.map(lambda w: _contents(connection, w, spelling), workspaces)
        if read and all(each.refused for each in read):
            refused[subscription] = next(each.refused for each in read if each.refused)
        else:
            contents[subscription] = read
    if asked and len(refused) == len(asked):
        raise next(iter(refused.values()))
    every = [each for read in contents.values() for each in read]
    asked_about = _Surroundings(connection)
    resources = asked_about.completed(every, sizes)
    return Inventory(
        subscriptions=tuple(contents),
        resources=resources,
        problems=(
            *(problem_of(f"/subscriptions/{s}", error) for s, error in refused.items()),
            *(problem for each in every for problem in each.problems),
            *asked_about.problems,
        ),
    )


def resource_rows(inventory: Inventory, lake: Lake, now_utc: datetime) -> pd.DataFrame:
    """Return the rows of `tables.RESOURCES`; dictionaries are written as JSON.

    A look that saw other settings less than a second ago says what stood until now, and keeps its
    moment: this one then counts as a second later.

    Raises:
        LakeError: the earlier looks cannot be read.
    """
    known = lake.read(RESOURCES, columns=["resource_id", "collected_at_utc", "settings"])
    latest = known[known["collected_at_utc"] == known["collected_at_utc"].max()]
    settings = {r.resource_id: _json(r.settings) for r in inventory.resources}
    changed = dict(zip(latest["resource_id"], latest["settings"], strict=True)) != settings
    at_utc = now_utc
    if len(latest):
        last: datetime = latest["collected_at_utc"].iloc[0].to_pydatetime()
        at_utc = max(now_utc, last + timedelta(seconds=1) if changed else last)
    return pd.DataFrame(
        {
            "resource_id": r.resource_id,
            "collected_at_utc": at_utc,
            "kind": r.kind.value,
            "name": r.name,
            "workspace_id": r.workspace_id,
            "region": r.region,
            "sku": r.sku,
            "vm_priority": r.vm_priority,
            "state": r.state,
            "created_utc": r.created_utc,
            "owner": r.owner,
            "tags": _json(r.tags),
            "settings": _json(r.settings),
            "arm": _json(r.arm),
        }
        for r in inventory.resources
    )


def subscription_of(resource_id: str) -> str:
    """Return the subscription in an id, in lower case.

    >>> subscription_of("/subscriptions/ABC/resourceGroups/g")
    'abc'
    """
    return resource_id.split("/")[2].lower()


def workspace_resource(document: Document) -> Resource:
    """Return a workspace from its document, of Resource Manager or of Resource Graph."""
    properties = document.get("properties") or {}
    return Resource(
        resource_id=document["id"].lower(),
        kind=Kind.WORKSPACE,
        name=document["name"],
        workspace_id=document["id"].lower(),
        region=document["location"],
        sku=None,
        vm_priority=None,
        state=properties.get("provisioningState"),
        created_utc=_moment(properties.get("creationTime") or _created_at(document)),
        owner=_owner(document),
        tags=document.get("tags") or {},
        arm=document,
    )


def compute_resource(
    document: Document, workspace: Resource, spelling: Spelling
) -> Resource | None:
    """Return a cluster or an instance from its document; None for any other kind of compute.

    Attached computes (Kubernetes, Databricks, virtual machines) are billed elsewhere.
    """
    outer = document["properties"]
    inner = outer.get("properties") or {}
    kinds = {"AmlCompute": Kind.CLUSTER, "ComputeInstance": Kind.INSTANCE}
    kind = kinds.get(outer["computeType"])
    if kind is None:
        return None
    sku = inner.get("vmSize")
    is_cluster = kind is Kind.CLUSTER
    priority = str(inner.get("vmPriority") or "Dedicated").lower()
    return Resource(
        resource_id=document["id"].lower(),
        kind=kind,
        name=document["name"],
        workspace_id=workspace.resource_id,
        region=outer.get("computeLocation") or document.get("location") or workspace.region,
        sku=spelling.get(sku.lower(), sku) if sku else None,
        vm_priority=_PRIORITIES.get(priority, "dedicated") if is_cluster else "dedicated",
        state=inner.get("allocationState" if is_cluster else "state"),
        created_utc=_moment(outer.get("createdOn") or _created_at(document)),
        owner=_owner(document),
        tags=document.get("tags") or {},
        settings=_cluster_settings(inner) if is_cluster else _instance_settings(inner),
        arm=document,
    )


def deployment_resource(
    document: Document,
    workspace: Resource,
    spelling: Spelling,
    traffic: Mapping[str, int] | None = None,
) -> Resource:
    """Return an online deployment from its document; `traffic` is that of its endpoint.

    One that runs on Kubernetes is billed elsewhere: it has no size, and is not judged.
    """
    properties = document["properties"]
    is_managed = str(properties.get("endpointComputeType") or "Managed").lower() == "managed"
    sku = properties.get("instanceType") if is_managed else None
    return Resource(
        resource_id=document["id"].lower(),
        kind=Kind.DEPLOYMENT,
        name=document["name"],
        workspace_id=workspace.resource_id,
        region=document.get("location") or workspace.region,
        sku=spelling.get(sku.lower(), sku) if sku else None,
        vm_priority="dedicated" if is_managed else None,
        state=properties.get("provisioningState"),
        created_utc=_moment(_created_at(document)),
        owner=_owner(document),
        tags=document.get("tags") or {},
        settings={"managed": is_managed, **_deployment_settings(document, traffic or {})},
        arm=document,
    )


def managed(deployments: Sequence[Resource]) -> tuple[Resource, ...]:
    """Return the deployments that run on machines of the workspace's own subscription."""
    return tuple(d for d in deployments if d.settings.get("managed", True))


def _visible(connection: Connection) -> list[str]:
    documents = connection.arm.list("/subscriptions", api_version=SUBSCRIPTIONS_API)
    return [document["subscriptionId"].lower() for document in documents]


def _workspaces(
    connection: Connection, subscriptions: Sequence[str]
) -> tuple[dict[str, list[Resource]], dict[str, AzureError]]:
    """Return the workspaces of each subscription, and why some could not be listed."""
    found: dict[str, list[Resource]] = {subscription: [] for subscription in subscriptions}
    for document in connection.graph.query(_ALL_WORKSPACES, subscriptions) if found else ():
        found[subscription_of(document["id"])].append(workspace_resource(document))
    refused: dict[str, AzureError] = {}
    for subscription in [s for s, workspaces in found.items() if not workspaces]:
        path = f"/subscriptions/{subscription}/providers/{_PROVIDER}/workspaces"
        try:
            found[subscription] = [workspace_resource(d) for d in connection.arm.list(path)]
        except (ForbiddenError, NotFoundError) as error:
            refused[subscription] = error
            del found[subscription]
    return found, refused


def _sizes(
    connection: Connection, workspaces: Sequence[Resource]
) -> dict[tuple[str, str], dict[str, Document]]:
    """Return the VM sizes of each (subscription, region) by name, as the price list spells them.

    Computes come back as STANDARD_D1_V2, prices do not. The list is a convenience, not worth a
    collection: where it cannot be read, sizes stay as they are sent.
    """
    places = _places(workspaces)

    def sizes(place: tuple[str, str]) -> dict[str, Document]:
        path = f"/subscriptions/{place[0]}/providers/{_PROVIDER}/locations/{place[1]}/vmSizes"
        try:
            return {size["name"]: size for size in connection.arm.list(path)}
        except (ForbiddenError, NotFoundError):
            return {}

    return dict(zip(places, connection.map(sizes, places), strict=True))


def _places(workspaces: Sequence[Resource]) -> list[tuple[str, str]]:
    return list(dict.fromkeys((subscription_of(w.resource_id), w.region) for w in workspaces))


def _contents(connection: Connection, workspace: Resource, spelling: Spelling) -> _Contents:
    problems: list[Problem] = []

    def tolerated(ask: Callable[[], T]) -> T | None:
        """Return an answer, or None and a problem: of all these the computes alone are needed."""
        try:
            return ask()
        except (ForbiddenError, NotFoundError) as error:
            problems.append(problem_of(workspace.resource_id, error))
            return None

    documents: list[Document] = []
    try:
        documents.extend(connection.arm.list(f"{workspace.arm['id']}/computes"))
    except ForbiddenError as error:
        problem = problem_of(workspace.resource_id, error)
        return _Contents(workspace=workspace, problems=(problem,), refused=error)
    computes = {d["id"]: compute_resource(d, workspace, spelling) for d in documents}
    deployments = tolerated(lambda: list(_deployments(connection, workspace, spelling))) or []
    settings = {
        "log_categories": tolerated(lambda: log_categories(connection, workspace)),
        "job_schedules": tolerated(lambda: job_schedules(connection, workspace)),
        "attached_computes": [attached_compute(d) for d in documents if computes[d["id"]] is None],
    }
    return _Contents(
        workspace=replace(workspace, settings=settings),
        resources=(*(c for c in computes.values() if c is not None), *deployments),
        problems=tuple(problems),
    )


def _deployments(
    connection: Connection, workspace: Resource, spelling: Spelling
) -> Iterator[Resource]:
    for endpoint in connection.arm.list(f"{workspace.arm['id']}/onlineEndpoints"):
        traffic = (endpoint.get("properties") or {}).get("traffic")
        for document in connection.arm.list(f"{endpoint['id']}/deployments"):
            yield deployment_resource(document, workspace, spelling, traffic)


class _Surroundings:
    """What stands beside the workspaces: one question a subscription, or region of one."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self.problems: list[Problem] = []

    def completed(
        self,
        every: Sequence[_Contents],
        sizes: Mapping[tuple[str, str], Mapping[str, Document]],
    ) -> tuple[Resource, ...]:
        """Return all resources with their quotas, sizes and autoscale settings.

        Quotas are asked for where there are clusters or instances, autoscale settings where there
        are deployments to scale.
        """
        of = {each.workspace.resource_id: each.resources for each in every}
        busy = [each.workspace for each in every if each.resources]
        places = _places(busy)
        usage = dict(zip(places, self._connection.map(self._usages, places), strict=True))
        scaled = list(
            dict.fromkeys(
                subscription_of(each.workspace.resource_id)
                for each in every
                if managed([r for r in each.resources if r.kind is Kind.DEPLOYMENT])
            )
        )
        rules = dict(zip(scaled, self._connection.map(self._autoscale, scaled), strict=True))
        found: list[Resource] = []
        for each in every:
            workspace = each.workspace
            place = subscription_of(workspace.resource_id), workspace.region
            found.append(
                replace(
                    workspace,
                    settings={
                        **workspace.settings,
                        **_quota_settings(workspace, usage.get(place)),
                        "sizes": _sizes_used(of[workspace.resource_id], sizes.get(place, {})),
                        "sizes_offered": _sizes_offered(sizes.get(place)),
                    },
                )
            )
            found += [_scaled(r, rules.get(place[0])) for r in each.resources]
        return tuple(found)

    def _usages(self, place: tuple[str, str]) -> Sequence[Document] | None:
        return self._tolerated(lambda: usages(self._connection, *place), place[0])

    def _autoscale(self, subscription: str) -> Mapping[str, Any] | None:
        return self._tolerated(
            lambda: autoscale_by_target(self._connection, subscription), subscription
        )

    def _tolerated(self, ask: Callable[[], T], subscription: str) -> T | None:
        try:
            return ask()
        except (ForbiddenError, NotFoundError) as error:
            self.problems.append(problem_of(f"/subscriptions/{subscription}", error))
            return None


def _quota_settings(workspace: Resource, documents: Sequence[Document] | None) -> Mapping[str, Any]:
    return {"quotas": None if documents is None else quotas_of(workspace, documents)}


def _sizes_used(
    resources: Sequence[Resource], sizes: Mapping[str, Document]
) -> Mapping[str, Mapping[str, Any]]:
    """Return what the VM sizes in use hold, and to which quota family each belongs."""
    names = {"family": "family", "vcpus": "vCPUs", "memory_gib": "memoryGB", "gpus": "gpus"}
    names["low_priority_capable"] = "lowPriorityCapable"
    used = sorted({r.sku for r in resources if r.sku in sizes and r.sku is not None})
    return {sku: {ours: sizes[sku].get(wire) for ours, wire in names.items()} for sku in used}


def _sizes_offered(sizes: Mapping[str, Document] | None) -> Mapping[str, bool | None] | None:
    """Return the sizes of our catalogue that Azure offers here, and whether as low priority too.

    None where they could not be read: then it is not known.
    """
    if not sizes:
        return None
    known = snapshot().sizes
    return {
        name: size.get("lowPriorityCapable")
        for name, size in sorted(sizes.items())
        if name.lower() in known
    }


def _scaled(resource: Resource, rules: Mapping[str, Any] | None) -> Resource:
    """Return a managed deployment with its autoscale setting; unknown ones are not mentioned."""
    if resource.kind is not Kind.DEPLOYMENT or not resource.settings["managed"] or rules is None:
        return resource
    autoscale = rules.get(resource.resource_id)
    return replace(resource, settings={**resource.settings, "autoscale": autoscale})


def _cluster_settings(properties: Document) -> dict[str, Any]:
    scale = properties.get("scaleSettings") or {}
    idle = scale.get("nodeIdleTimeBeforeScaleDown")
    return {
        "min_nodes": scale.get("minNodeCount") or 0,
        "max_nodes": scale.get("maxNodeCount"),
        "idle_seconds": seconds_from_iso(idle) if idle else _IDLE_SECONDS_BY_DEFAULT,
    }


def _instance_settings(properties: Document) -> dict[str, Any]:
    idle = properties.get("idleTimeBeforeShutdown")
    ssh = (properties.get("sshSettings") or {}).get("sshPublicAccess")
    return {
        "idle_shutdown_minutes": seconds_from_iso(idle) // 60 if idle else None,
        "ssh_public_access": ssh == "Enabled" if ssh else None,
        "custom_applications": [
            service.get("name") for service in properties.get("customServices") or []
        ],
        "schedules": (properties.get("schedules") or {}).get("computeStartStop") or [],
    }


def _deployment_settings(document: Document, traffic: Mapping[str, int]) -> dict[str, Any]:
    properties = document["properties"]
    scale, limits = (properties.get(n) or {} for n in ("scaleSettings", "requestSettings"))
    return {
        "endpoint": document["id"].split("/")[10],
        "instances": (document.get("sku") or {}).get("capacity"),
        "scale_type": scale.get("scaleType"),
        "min_instances": scale.get("minInstances"),
        "max_instances": scale.get("maxInstances"),
        "traffic_percent": traffic.get(document["name"]),
        "max_concurrent_requests_per_instance": limits.get("maxConcurrentRequestsPerInstance"),
        "request_timeout_ms": _milliseconds(limits.get("requestTimeout")),
        "max_queue_wait_ms": _milliseconds(limits.get("maxQueueWait")),
    }


def _milliseconds(duration: str | None) -> float | None:
    """Return an ISO 8601 duration, which may hold parts of a second; None where it is none."""
    try:
        return float(isodate.parse_duration(duration).total_seconds() * 1000) if duration else None
    except (isodate.ISO8601Error, AttributeError):
        return None


def _owner(document: Document) -> str | None:
    tags = {name.lower(): value for name, value in (document.get("tags") or {}).items()}
    for name in _OWNER_TAGS:
        if tags.get(name):
            return str(tags[name])
    inner = (document.get("properties") or {}).get("properties") or {}
    return (inner.get("createdBy") or {}).get("userName") or None


def _created_at(document: Document) -> str | None:
    return (document.get("systemData") or {}).get("createdAt")


def _moment(text: str | None) -> datetime | None:
    return utc(text) if text else None


def _json(value: Mapping[str, Any]) -> str:
    return orjson.dumps(value, option=orjson.OPT_SORT_KEYS).decode()
