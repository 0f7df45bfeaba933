"""What there is: subscriptions → workspaces → clusters, instances and deployments."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import orjson
import pandas as pd

from optimizer.azure.arm import SUBSCRIPTIONS_API
from optimizer.azure.connect import Connection
from optimizer.collectors.problems import problem_of
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
    spelling = _spelling(connection, [w for some in found.values() for w in some])
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
    return Inventory(
        subscriptions=tuple(contents),
        resources=tuple(r for each in every for r in (each.workspace, *each.resources)),
        problems=(
            *(problem_of(f"/subscriptions/{s}", error) for s, error in refused.items()),
            *(problem for each in every for problem in each.problems),
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


def deployment_resource(document: Document, workspace: Resource, spelling: Spelling) -> Resource:
    """Return a managed online deployment from its document."""
    properties = document["properties"]
    sku = properties.get("instanceType")
    return Resource(
        resource_id=document["id"].lower(),
        kind=Kind.DEPLOYMENT,
        name=document["name"],
        workspace_id=workspace.resource_id,
        region=document.get("location") or workspace.region,
        sku=spelling.get(sku.lower(), sku) if sku else None,
        vm_priority="dedicated",
        state=properties.get("provisioningState"),
        created_utc=_moment(_created_at(document)),
        owner=_owner(document),
        tags=document.get("tags") or {},
        settings={"instances": (document.get("sku") or {}).get("capacity")},
        arm=document,
    )


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


def _spelling(connection: Connection, workspaces: Sequence[Resource]) -> Spelling:
    """Read how VM sizes are spelt: computes come back as STANDARD_D1_V2, prices do not.

    The spelling is a convenience, not worth a collection: where it cannot be read, sizes stay as
    they are sent.
    """
    places = {(subscription_of(w.resource_id), w.region) for w in workspaces}

    def sizes(place: tuple[str, str]) -> list[str]:
        path = f"/subscriptions/{place[0]}/providers/{_PROVIDER}/locations/{place[1]}/vmSizes"
        try:
            return [size["name"] for size in connection.arm.list(path)]
        except (ForbiddenError, NotFoundError):
            return []

    return {name.lower(): name for names in connection.map(sizes, places) for name in names}


def _contents(connection: Connection, workspace: Resource, spelling: Spelling) -> _Contents:
    try:
        computes = tuple(_computes(connection, workspace, spelling))
    except ForbiddenError as error:
        problem = problem_of(workspace.resource_id, error)
        return _Contents(workspace=workspace, problems=(problem,), refused=error)
    try:
        deployments = tuple(_deployments(connection, workspace, spelling))
    except (ForbiddenError, NotFoundError) as error:
        problem = problem_of(workspace.resource_id, error)
        return _Contents(workspace=workspace, resources=computes, problems=(problem,))
    return _Contents(workspace=workspace, resources=(*computes, *deployments))


def _computes(
    connection: Connection, workspace: Resource, spelling: Spelling
) -> Iterator[Resource]:
    for document in connection.arm.list(f"{workspace.arm['id']}/computes"):
        if resource := compute_resource(document, workspace, spelling):
            yield resource


def _deployments(
    connection: Connection, workspace: Resource, spelling: Spelling
) -> Iterator[Resource]:
    for endpoint in connection.arm.list(f"{workspace.arm['id']}/onlineEndpoints"):
        for document in connection.arm.list(f"{endpoint['id']}/deployments"):
            yield deployment_resource(document, workspace, spelling)


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
