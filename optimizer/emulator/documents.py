"""ARM documents in motion: what Azure fills in, and what a PUT makes of one."""

from collections.abc import Mapping, Sequence
from copy import deepcopy
from datetime import UTC, datetime
from typing import Any

from optimizer.emulator import arm
from optimizer.emulator.clusters import Cluster, NodeState
from optimizer.emulator.deployments import Deployment
from optimizer.emulator.engines import Engine
from optimizer.emulator.instances import Instance
from optimizer.units import iso_utc

# The service cannot change these in place.
_CREATE_ONLY = ("vmSize", "vmPriority", "osType")
_DEPLOYMENT_CREATE_ONLY = ("instanceType", "endpointComputeType")

# What a PUT cannot set, so that it stays as it was: what the service fills in, the idle time of an
# instance, which has an action of its own, and access over SSH, decided when a compute is made.
_KEPT_BY_PUT = (
    "applications",
    "connectivityEndpoints",
    "containers",
    "createdBy",
    "dataDisks",
    "dataMounts",
    "errors",
    "idleTimeBeforeShutdown",
    "lastOperation",
    "osImageMetadata",
    "remoteLoginPortPublicAccess",
    "sshSettings",
    "state",
    "versions",
)
_OUTER_KEPT_BY_PUT = ("createdOn", "disableLocalAuth", "isAttachedCompute", "provisioningState")


class WriteError(ValueError):
    """Azure would refuse this write; the text says why."""


class CreateOnlyError(WriteError):
    """A write would change what is fixed when a compute is made."""


def live(document: arm.Document, engine: Engine | None) -> arm.Document:
    """Return a copy of a document with what the service knows of its state now."""
    copy = deepcopy(document)
    match engine:
        case Cluster():
            copy["properties"]["properties"] |= _cluster_state(engine)
        case Instance():
            copy["properties"]["properties"] |= _instance_state(engine)
        case Deployment():
            copy["sku"] = {**(copy.get("sku") or {"name": "Default"}), "capacity": engine.instances}
        case _:
            pass
    return copy


def replaced(document: arm.Document, body: Mapping[str, Any]) -> arm.Document:
    """Return what a PUT of `body` makes of a compute's document.

    Raises:
        CreateOnlyError: it would change the VM size, priority, system or region.
    """
    _refuse_create_only(document, body)
    outer, inner = document.get("properties") or {}, arm.settings(document)
    new_outer = deepcopy(dict(body.get("properties") or {}))
    new_inner = new_outer.get("properties") or {}
    new_outer |= {name: outer[name] for name in _OUTER_KEPT_BY_PUT if name in outer}
    new_inner |= {name: inner[name] for name in _KEPT_BY_PUT if name in inner}
    identity = _identity(body.get("identity") or {}, document.get("identity") or {})
    return {
        **{
            name: document[name]
            for name in ("id", "name", "type", "location", "systemData", "sku")
            if name in document
        },
        **({"tags": deepcopy(body["tags"])} if "tags" in body else {}),
        **({"identity": identity} if "identity" in body else {}),
        "properties": new_outer | {"properties": new_inner},
    }


def _identity(wanted: Mapping[str, Any], found: Mapping[str, Any]) -> dict[str, Any]:
    """Return an identity with what the service knows of it, which no client says."""
    known = {name: found[name] for name in ("principalId", "tenantId") if name in found}
    if "systemassigned" not in str(wanted.get("type", "")).lower():
        known = {}
    assigned = {
        resource_id: (found.get("userAssignedIdentities") or {}).get(resource_id) or dict(said)
        for resource_id, said in (wanted.get("userAssignedIdentities") or {}).items()
    }
    users = {"userAssignedIdentities": assigned} if assigned else {}
    return {**deepcopy(dict(wanted)), **deepcopy(known), **deepcopy(users)}


def replaced_deployment(document: arm.Document, body: Mapping[str, Any]) -> arm.Document:
    """Return what a PUT of `body` makes of a deployment's document.

    Raises:
        CreateOnlyError: it would change the VM size or the kind of compute.
    """
    wanted, found = body.get("properties") or {}, document.get("properties") or {}
    _refuse_changes(document, _DEPLOYMENT_CREATE_ONLY, found, wanted)
    kept = ("id", "name", "type", "location", "systemData")
    state = {"provisioningState": found.get("provisioningState", "Succeeded")}
    return {
        **deepcopy(dict(body)),
        **{name: document[name] for name in kept if name in document},
        "properties": deepcopy(dict(wanted)) | state,
    }


def created_deployment(
    deployment_id: str, body: Mapping[str, Any], *, location: str | None, now_utc: datetime
) -> arm.Document:
    """Return the document of a deployment that a PUT of `body` makes."""
    return {
        "location": location,
        "systemData": {"createdAt": iso_utc(now_utc)},
        **deepcopy(dict(body)),
        "id": deployment_id,
        "name": deployment_id.rsplit("/", 1)[-1],
        "type": "Microsoft.MachineLearningServices/workspaces/onlineEndpoints/deployments",
        "properties": {
            "endpointComputeType": "Managed",
            **deepcopy(dict(body.get("properties") or {})),
            "provisioningState": "Succeeded",
        },
    }


def created(
    compute_id: str, body: Mapping[str, Any], *, location: str | None, now_utc: datetime
) -> arm.Document:
    """Return the document of a compute that a PUT of `body` makes."""
    now = iso_utc(now_utc)
    properties = deepcopy(dict(body.get("properties") or {}))
    return {
        "location": location,
        **deepcopy(dict(body)),
        "id": compute_id,
        "name": compute_id.rsplit("/", 1)[-1],
        "type": "Microsoft.MachineLearningServices/workspaces/computes",
        "properties": {
            **properties,
            "createdOn": now,
            "modifiedOn": now,
            "provisioningState": "Succeeded",
        },
    }


def _refuse_create_only(document: arm.Document, body: Mapping[str, Any]) -> None:
    _refuse_changes(document, _CREATE_ONLY, arm.settings(document), arm.settings(body))
    if body.get("location") and arm.region(body) != arm.region(document):
        raise CreateOnlyError(f"{document['name']} cannot move to {body['location']}")


def _refuse_changes(
    document: arm.Document,
    names: Sequence[str],
    found: Mapping[str, Any],
    wanted: Mapping[str, Any],
) -> None:
    kind = "deployment" if arm.is_deployment(document) else "compute"
    for name in names:
        before, after = found.get(name), wanted.get(name)
        if after is not None and str(after).lower() != str(before).lower():
            raise CreateOnlyError(
                f"{name} of {document['name']} is {before} and cannot become {after}; "
                f"make a new {kind}"
            )


def _cluster_state(cluster: Cluster) -> dict[str, Any]:
    steady = (
        cluster.current_nodes == cluster.target_nodes
        and not cluster.nodes_in(NodeState.PREPARING)
        and not cluster.nodes_in(NodeState.LEAVING)
    )
    return {
        "allocationState": "Steady" if steady else "Resizing",
        "allocationStateTransitionTime": _iso(cluster.changed_s),
        "currentNodeCount": cluster.current_nodes,
        "targetNodeCount": cluster.target_nodes,
        "nodeStateCounts": {
            "idleNodeCount": cluster.nodes_in(NodeState.IDLE),
            "runningNodeCount": cluster.nodes_in(NodeState.ACTIVE),
            "preparingNodeCount": cluster.nodes_in(NodeState.PREPARING),
            "unusableNodeCount": 0,
            "leavingNodeCount": cluster.nodes_in(NodeState.LEAVING),
            "preemptedNodeCount": cluster.nodes_in(NodeState.PREEMPTED),
        },
    }


def _instance_state(instance: Instance) -> dict[str, Any]:
    state: dict[str, Any] = {"state": instance.state}
    if instance.operations:
        last = instance.operations[-1]
        state["lastOperation"] = {
            "operationName": last.name,
            "operationTime": _iso(last.at_s),
            "operationStatus": last.status,
            "operationTrigger": last.trigger,
        }
    return state


def _iso(second: int) -> str:
    return iso_utc(datetime.fromtimestamp(second, UTC))
