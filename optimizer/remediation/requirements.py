"""What a change asks of whoever makes it: Azure permissions, and the same thing by hand."""

import json
import shlex
from collections.abc import Mapping
from typing import Any

from optimizer.azure.arm import IDLE_SHUTDOWN_API, ML_API
from optimizer.model import Change, How, Json
from optimizer.remediation.documents import patch_body
from optimizer.units import seconds_from_iso

IDLE_SHUTDOWN_ACTION = "updateIdleShutdownSetting"

_COMPUTES = "Microsoft.MachineLearningServices/workspaces/computes"
_DEPLOYMENTS = "Microsoft.MachineLearningServices/workspaces/onlineEndpoints/deployments"
_OPTIONS = {
    "minNodeCount": "--min-instances",
    "maxNodeCount": "--max-instances",
    "nodeIdleTimeBeforeScaleDown": "--idle-time-before-scale-down",
}


def permissions(how: How, resource_id: str) -> tuple[str, ...]:
    """Return the Azure actions that a role must hold to make a change, and to check it.

    Azure documents `read` and `write` of computes. For the idle shutdown its list of permissions
    names none; `<type>/<action>/action` is the rule of Resource Manager for every POST.
    """
    if how is How.ACTION:
        return (f"{_COMPUTES}/read", f"{_COMPUTES}/{IDLE_SHUTDOWN_ACTION}/action")
    kind = _DEPLOYMENTS if "/onlineendpoints/" in resource_id.lower() else _COMPUTES
    return (f"{kind}/read", f"{kind}/write")


def az_cli(document: Mapping[str, Any], change: Change) -> str:
    """Return the `az` command that makes a change, quoted for a POSIX shell.

    `document` is the resource as it stands before the change.
    """
    leaf = change.setting.rpartition(".")[2]
    if change.how is How.ACTION:
        return _rest("post", document, {leaf: change.after})
    inside = document["properties"].get("properties") or {}
    # `az ml compute update` sends a PUT that leaves out the subnet (azure-ai-ml 1.35): a cluster
    # in a virtual network would fall out of it.
    if leaf in _OPTIONS and not inside.get("subnet"):
        return _update(document["id"], _OPTIONS[leaf], change.after)
    return _rest("patch", document, patch_body(document, change.setting, change.after))


def _update(resource_id: str, option: str, value: Json) -> str:
    parts = resource_id.split("/")
    # Here, unlike anywhere else in Azure, a duration is a number of seconds.
    number = seconds_from_iso(value) if isinstance(value, str) else value
    return shlex.join(
        [
            *("az", "ml", "compute", "update"),
            *("--subscription", parts[2], "--resource-group", parts[4]),
            *("--workspace-name", parts[8], "--name", parts[10]),
            *(option, str(number)),
        ]
    )


def _rest(method: str, document: Mapping[str, Any], body: Mapping[str, Any]) -> str:
    resource_id, api = document["id"], ML_API
    if method == "post":
        resource_id, api = f"{resource_id}/{IDLE_SHUTDOWN_ACTION}", IDLE_SHUTDOWN_API
    return shlex.join(
        [
            *("az", "rest", "--method", method),
            *("--url", f"{resource_id}?api-version={api}", "--body", json.dumps(body)),
        ]
    )
