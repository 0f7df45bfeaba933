"""What a change asks of whoever makes it: Azure permissions, and the same thing by hand."""

import json
import shlex
from collections.abc import Iterable, Mapping
from typing import Any

from optimizer.azure.arm import IDLE_SHUTDOWN_API, ML_API
from optimizer.collectors.autoscale import AUTOSCALE_API
from optimizer.model import Change, How, Json
from optimizer.remediation import scaling
from optimizer.remediation.documents import patch_body, same, with_value, writable
from optimizer.units import seconds_from_iso

IDLE_SHUTDOWN_ACTION = "updateIdleShutdownSetting"

_INNER = "properties.properties"
MIN_NODES = f"{_INNER}.scaleSettings.minNodeCount"
SCALE = (
    MIN_NODES,
    f"{_INNER}.scaleSettings.maxNodeCount",
    f"{_INNER}.scaleSettings.nodeIdleTimeBeforeScaleDown",
)
CAPACITY = "sku.capacity"
IDLE_SHUTDOWN = f"{_INNER}.idleTimeBeforeShutdown"
SCHEDULES = f"{_INNER}.schedules.computeStartStop"
STATE = f"{_INNER}.state"
VM_SIZE = f"{_INNER}.vmSize"
VM_PRIORITY = f"{_INNER}.vmPriority"
BOTH = _INNER
"""Size and priority of a cluster at once, as an object of the two."""
AUTOSCALE = "autoscaleSettings"
AUTOSCALE_RULES = "autoscaleSettings.rules"
RESOURCE = "resource"
"""The resource itself: whether it is there."""

PRESENT, DELETED = "present", "deleted"
STOPPED = "Stopped"

_WORKSPACES = "Microsoft.MachineLearningServices/workspaces"
_COMPUTES = f"{_WORKSPACES}/computes"
_DEPLOYMENTS = f"{_WORKSPACES}/onlineEndpoints/deployments"
_AUTOSCALES = "Microsoft.Insights/autoscaleSettings"
_OPTIONS = {
    "minNodeCount": "--min-instances",
    "maxNodeCount": "--max-instances",
    "nodeIdleTimeBeforeScaleDown": "--idle-time-before-scale-down",
}


def permissions(how: How, resource_id: str, setting: str = "") -> tuple[str, ...]:
    """Return the Azure actions that a role must hold to make a change, check it and put it back.

    Azure documents `read`, `write`, `delete`, `start` and `stop` of computes. For the idle shutdown
    its list of permissions names none; `<type>/<action>/action` is the rule of Resource Manager for
    every POST.
    """
    kind = _DEPLOYMENTS if _is_deployment(resource_id) else _COMPUTES
    match how, setting:
        case How.ACTION, "resource":
            return (f"{kind}/read", f"{kind}/delete")
        case How.ACTION, _ if setting == STATE:
            return tuple(f"{_COMPUTES}/{verb}" for verb in ("read", "start/action", "stop/action"))
        case How.ACTION, _:
            return (f"{_COMPUTES}/read", f"{_COMPUTES}/{IDLE_SHUTDOWN_ACTION}/action")
        case How.RECREATE, _:
            verbs = ("read", "write", "delete")
            return (*(f"{_COMPUTES}/{verb}" for verb in verbs), f"{_WORKSPACES}/jobs/read")
        case How.PATCH, "autoscaleSettings" | "autoscaleSettings.rules":
            verbs = ("read", "write", "delete")
            actions = tuple(f"{_AUTOSCALES}/{verb}" for verb in verbs)
            return (*actions, f"{_DEPLOYMENTS}/read", f"{_DEPLOYMENTS}/write")
        case _:
            return (f"{kind}/read", f"{kind}/write")


def az_cli(
    document: Mapping[str, Any], change: Change, put: Mapping[str, Any] | None = None
) -> str:
    """Return the `az` commands that make a change, quoted for a POSIX shell.

    `document` is the resource as it stands before the change; `put`, what its step writes beside
    the value.
    """
    match change.how, change.setting:
        case How.ACTION, _:
            return _action(document, change)
        case How.RECREATE, _ if put:
            return _rest("put", put["resource_id"], put["document"])
        case How.PATCH, "autoscaleSettings" | "autoscaleSettings.rules" if put:
            return _autoscale(document, change, put)
        case How.PATCH, _ if change.setting == SCHEDULES or change.setting.startswith("tags."):
            body = writable(with_value(document, change.setting, change.after))
            return _rest("put", document["id"], body)
        case _:
            return _patch(document, change)


def _action(document: Mapping[str, Any], change: Change) -> str:
    if change.setting == RESOURCE:
        return _ml(document["id"], "delete")
    if change.setting == STATE:
        return _ml(document["id"], "stop" if same(change.after, STOPPED) else "start")
    body: Json = {change.setting.rpartition(".")[2]: change.after}
    return _rest("post", f"{document['id']}/{IDLE_SHUTDOWN_ACTION}", body, IDLE_SHUTDOWN_API)


def _patch(document: Mapping[str, Any], change: Change) -> str:
    inside = document["properties"].get("properties") or {}
    leaf = change.setting.rpartition(".")[2]
    # `az ml compute update` sends a PUT that leaves out the subnet (azure-ai-ml 1.35): a cluster
    # in a virtual network would fall out of it.
    if leaf in _OPTIONS and not inside.get("subnet"):
        # Here, unlike anywhere else in Azure, a duration is a number of seconds.
        value = change.after
        number = seconds_from_iso(value) if isinstance(value, str) else value
        return _ml(document["id"], "update", _OPTIONS[leaf], str(number))
    return _rest("patch", document["id"], patch_body(document, change.setting, change.after))


def _autoscale(document: Mapping[str, Any], change: Change, put: Mapping[str, Any]) -> str:
    if put["document"]:
        return _rest("put", put["resource_id"], put["document"], AUTOSCALE_API)
    wanted: Any = change.after
    return _joined(scaling.by_hand(put["resource_id"], document["id"], wanted))


def _ml(resource_id: str, verb: str, *options: str) -> str:
    """Return a command on a compute or a deployment."""
    parts = resource_id.split("/")
    here = [
        *("--subscription", parts[2], "--resource-group", parts[4]),
        *("--workspace-name", parts[8]),
    ]
    if _is_deployment(resource_id):
        named = ["--endpoint-name", parts[10], "--name", parts[12]]
        return shlex.join(["az", "ml", "online-deployment", verb, *here, *named, *options])
    return shlex.join(["az", "ml", "compute", verb, *here, "--name", parts[10], *options])


def _rest(method: str, resource_id: str, body: Json, api: str = ML_API) -> str:
    return shlex.join(
        [
            *("az", "rest", "--method", method),
            *("--url", f"{resource_id}?api-version={api}", "--body", json.dumps(body)),
        ]
    )


def _joined(commands: Iterable[list[str]]) -> str:
    return " && ".join(map(shlex.join, commands))


def _is_deployment(resource_id: str) -> bool:
    return "/onlineendpoints/" in resource_id.lower()
