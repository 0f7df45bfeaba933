"""Who may do what: the role definitions of an estate, all held by whoever is signed in.

An estate without role definitions lets everybody do everything. Where there are some, a request
that none of them allows is answered 403 with the action that it takes.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any

from optimizer.emulator.wire import Answer, Call, Endpoint, Refusal

ROLE_DEFINITIONS = "Microsoft.Authorization/roleDefinitions"
_VERBS = {"GET": "read", "HEAD": "read", "PUT": "write", "PATCH": "write", "DELETE": "delete"}
_EVERYTHING = {"actions": ["*"], "notActions": [], "dataActions": [], "notDataActions": []}
_TABLE = re.compile(r"\w+")


def needed_action(method: str, path: str) -> str:
    """Return the Azure action that a request takes, by the rule of Resource Manager.

    >>> needed_action("GET", "/subscriptions/s/resourceGroups/g/providers/P.Q/workspaces/w/jobs")
    'P.Q/workspaces/jobs/read'
    >>> needed_action("GET", "/subscriptions/s/resourceGroups")
    'Microsoft.Resources/subscriptions/resourceGroups/read'
    >>> needed_action("POST", "/subscriptions/s/providers/P.Q/workspaces/w/start")
    'P.Q/workspaces/start/action'
    """
    _, provider, below = path.rpartition("/providers/")
    if not provider:
        types = ["Microsoft.Resources", *path.strip("/").split("/")[::2]]
    else:
        namespace, *segments = below.split("/")
        types = [namespace, *segments[::2]]
    return "/".join([*types, _VERBS.get(method, "action")])


def forbidden(action: str, path: str) -> Refusal:
    """Return Azure's words for an action that no role allows."""
    return Refusal(
        403,
        "AuthorizationFailed",
        "The client 'emulator' with object id '00000000-0000-0000-0000-000000000001' does not "
        f"have authorization to perform action '{action}' over scope '{path}' or the scope is "
        "invalid. If access was recently granted, please refresh your credentials.",
    )


def check_allowed(call: Call, api: str) -> None:
    """Refuse what no role of the estate allows.

    Raises:
        Refusal: with the action that is missing.
    """
    held = held_permissions(call)
    if held == [_EVERYTHING]:
        return
    action = _action(call, api)
    if action is not None and not allowed(action, held):
        raise forbidden(action, call.path)


def held_permissions(call: Call) -> Sequence[Mapping[str, Any]]:
    """Return the permissions of all role definitions."""
    roles = call.world.documents(ROLE_DEFINITIONS)
    return [one for role in roles for one in role["properties"]["permissions"]] or [_EVERYTHING]


def allowed(action: str, held: Iterable[Mapping[str, Any]]) -> bool:
    """Say whether one of the permissions grants an action and does not take it back.

    >>> allowed("P.Q/w/read", [{"actions": ["P.Q/*"], "notActions": ["*/delete"]}])
    True
    """
    return any(
        _named(action, one["actions"]) and not _named(action, one.get("notActions", []))
        for one in held
    )


def _named(action: str, patterns: Iterable[str]) -> bool:
    return any(fnmatchcase(action.lower(), pattern.lower()) for pattern in patterns)


def _action(call: Call, api: str) -> str | None:
    """Return the action of a request; None where anybody signed in may send it.

    Most follow the rule. The batch API of metrics asks for what reading one resource's takes, Log
    Analytics for the table where it is asked in the scope of a resource.
    """
    match api:
        case "log_analytics" if "workspace" in call.parts:
            return "Microsoft.OperationalInsights/workspaces/query/read"
        case "log_analytics":
            table = _TABLE.search(str(call.json().get("query", "")))
            return f"Microsoft.Insights/logs/{table.group() if table else ''}/read"
        case "metrics" | "metrics_batch":
            return "Microsoft.Insights/metrics/read"
        case _ if not call.path.lower().startswith("/subscriptions/"):
            return None  # of the tenant
        case _:
            return needed_action(call.method, call.path)


def _permissions(call: Call) -> Answer:
    return Answer(body={"value": held_permissions(call)})


ENDPOINTS = (
    Endpoint(
        api="arm",
        method="GET",
        template="/{resource:path}/providers/Microsoft.Authorization/permissions",
        handle=_permissions,
    ),
)
