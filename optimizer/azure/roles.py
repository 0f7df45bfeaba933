"""The two custom roles that the product needs, and which of them whoever is signed in holds.

`docs/roles/` has them as role definitions for `az role definition create`; a test holds both to
each other and to what the emulator sees of a collection and of an apply.
"""

from collections.abc import Iterable, Iterator, Mapping
from fnmatch import fnmatchcase
from typing import Any

from optimizer.azure.arm import Arm

PERMISSIONS_API = "2022-04-01"

_ML = "Microsoft.MachineLearningServices"
_COMPUTES = f"{_ML}/workspaces/computes"
_DEPLOYMENTS = f"{_ML}/workspaces/onlineEndpoints/deployments"

READER = (
    "Microsoft.Authorization/permissions/read",
    "Microsoft.CostManagement/*/read",
    "Microsoft.CostManagement/generateCostDetailsReport/action",
    "Microsoft.CostManagement/query/action",
    "Microsoft.Insights/autoscaleSettings/read",
    "Microsoft.Insights/diagnosticSettings/read",
    "Microsoft.Insights/eventtypes/values/read",
    "Microsoft.Insights/logs/*/read",
    "Microsoft.Insights/metrics/read",
    f"{_ML}/locations/usages/read",
    f"{_ML}/locations/vmSizes/read",
    _COMPUTES + "/read",
    f"{_ML}/workspaces/jobs/read",
    _DEPLOYMENTS + "/read",
    f"{_ML}/workspaces/onlineEndpoints/read",
    f"{_ML}/workspaces/read",
    f"{_ML}/workspaces/schedules/read",
    "Microsoft.OperationalInsights/workspaces/query/*/read",
    "Microsoft.OperationalInsights/workspaces/query/read",
    "Microsoft.OperationalInsights/workspaces/read",
    "Microsoft.Resources/subscriptions/read",
)
"""To collect. Those that end in `/action` are questions too: Azure asks them by POST."""

OPERATOR = (
    "Microsoft.Insights/autoscaleSettings/delete",
    "Microsoft.Insights/autoscaleSettings/read",
    "Microsoft.Insights/autoscaleSettings/write",
    f"{_ML}/locations/computeOperationsStatus/read",
    _COMPUTES + "/delete",
    _COMPUTES + "/read",
    _COMPUTES + "/start/action",
    _COMPUTES + "/stop/action",
    _COMPUTES + "/updateIdleShutdownSetting/action",
    _COMPUTES + "/write",
    f"{_ML}/workspaces/jobs/read",
    _DEPLOYMENTS + "/delete",
    _DEPLOYMENTS + "/read",
    _DEPLOYMENTS + "/write",
)
"""To apply and to roll back, beside what the reader may."""


def missing(wanted: Iterable[str], held: Iterable[Mapping[str, Any]]) -> tuple[str, ...]:
    """Return the actions that no permission grants; one that another takes back is not granted.

    >>> missing(["P/a/read", "P/a/write"], [{"actions": ["*/read"], "notActions": []}])
    ('P/a/write',)
    """
    every = list(held)
    return tuple(action for action in wanted if not any(_grants(one, action) for one in every))


def held_at(arm: Arm, resource_id: str) -> Iterator[dict[str, Any]]:
    """Yield the permissions of whoever is signed in on a resource, inherited ones included.

    Source: Azure's REST reference, Permissions, List For Resource (api 2022-04-01).
    """
    yield from arm.list(
        f"{resource_id}/providers/Microsoft.Authorization/permissions", api_version=PERMISSIONS_API
    )


def _grants(permission: Mapping[str, Any], action: str) -> bool:
    return _named(action, permission.get("actions") or ()) and not _named(
        action, permission.get("notActions") or ()
    )


def _named(action: str, patterns: Iterable[str]) -> bool:
    # A wanted action may be a pattern itself, which a wider one covers as it does a name.
    return any(fnmatchcase(action.lower(), pattern.lower()) for pattern in patterns)
