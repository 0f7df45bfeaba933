"""What is set around a workspace's computes: logs, schedules of jobs, quotas, attached computes."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from optimizer.azure.connect import Connection
from optimizer.model import Resource

DIAGNOSTICS_API = "2021-05-01-preview"
"""No stable version lists diagnostic settings."""

NO_LIMIT = -1
"""How Azure writes that a family's low-priority cores have no limit of their own."""

_PROVIDER = "Microsoft.MachineLearningServices"

Document = Mapping[str, Any]


def log_categories(connection: Connection, workspace: Resource) -> dict[str, list[str]]:
    """Return which logs of a workspace go to which Log Analytics workspaces.

    Raises:
        AzureError: its diagnostic settings cannot be read.
    """
    path = f"{workspace.arm['id']}/providers/Microsoft.Insights/diagnosticSettings"
    return logged_to(connection.arm.list(path, api_version=DIAGNOSTICS_API))


def logged_to(settings: Iterable[Document]) -> dict[str, list[str]]:
    """Return the Log Analytics workspaces by category, or group of categories, that is sent there.

    What goes elsewhere (a storage account, an event hub) cannot be asked, and is left out.
    """
    found: dict[str, list[str]] = {}
    for setting in settings:
        properties = setting.get("properties") or {}
        if target := properties.get("workspaceId"):
            for log in properties.get("logs") or []:
                category = log.get("category") or log.get("categoryGroup")
                if category and log.get("enabled"):
                    found.setdefault(category, []).append(target)
    return found


def is_logged(workspace: Resource, category: str) -> bool | None:
    """Return whether a category is sent to Log Analytics; None where that could not be read."""
    categories = workspace.settings.get("log_categories")
    return None if categories is None else category in categories or "allLogs" in categories


def job_schedules(connection: Connection, workspace: Resource) -> list[dict[str, Any]]:
    """Return when a workspace starts jobs by itself, schedules that are switched off too.

    Raises:
        AzureError: they cannot be read.
    """
    documents = connection.arm.list(f"{workspace.arm['id']}/schedules", listViewType="All")
    return [job_schedule(document) for document in documents]


def job_schedule(document: Document) -> dict[str, Any]:
    """Return a schedule of jobs in short."""
    properties = document["properties"]
    action = properties.get("action") or {}
    job = action.get("jobDefinition") or {}
    return {
        "name": document.get("name"),
        "enabled": properties.get("isEnabled"),
        "action": action.get("actionType"),
        "compute_id": (job.get("computeId") or "").lower() or None,
        "trigger": properties.get("trigger"),
    }


def attached_compute(document: Document) -> dict[str, Any]:
    """Return a compute that is attached and billed elsewhere, in short."""
    properties = document["properties"]
    return {
        "name": document["name"],
        "type": properties.get("computeType"),
        "resource_id": properties.get("resourceId"),
        "state": properties.get("provisioningState"),
    }


def usages(connection: Connection, subscription: str, region: str) -> list[Document]:
    """Return how many cores a subscription uses and may use in a region, as Azure lists them.

    Raises:
        AzureError: they cannot be read.
    """
    place = f"/subscriptions/{subscription}/providers/{_PROVIDER}/locations/{region}"
    return list(connection.arm.list(f"{place}/usages"))


def quotas_of(workspace: Resource, documents: Sequence[Document]) -> list[dict[str, Any]]:
    """Return the quotas that bind a workspace: its subscription's and its own, not other ones'.

    `limit` None: Azure sets none there. What single clusters use is left out: node states tell it.
    """
    return [
        {
            "of": document["type"].split("/")[1],
            "name": (document.get("name") or {}).get("value"),
            "used": document.get("currentValue"),
            "limit": None if document.get("limit") == NO_LIMIT else document.get("limit"),
        }
        for document in documents
        for scope in [_scope(document)]
        if scope == workspace.resource_id or "/workspaces/" not in scope
    ]


def _scope(usage: Document) -> str:
    return str(usage["id"]).lower().partition("/usages")[0]
