"""What happened: operations on instances, and jobs."""

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

import pandas as pd

from optimizer.azure.connect import Connection
from optimizer.model import Kind, Resource, Window
from optimizer.units import seconds_from_iso, utc

_PROVIDER = "Microsoft.MachineLearningServices"
_ACTIVITY_RETENTION = timedelta(days=89)
"""Azure keeps 90 days and refuses to be asked for more; a day is left for the clocks to differ."""

_OPERATIONS = {
    "write": "Create",
    "delete": "Delete",
    "start/action": "Start",
    "stop/action": "Stop",
    "restart/action": "Restart",
}
_UNDER_WAY = {"started", "accepted"}
_OVER = {"completed", "failed", "canceled", "notresponding"}

_KINDS = {"command": "command", "sweep": "sweep", "pipeline": "pipeline", "batch": "batch"}

Document = Mapping[str, Any]


def collect_instance_events(
    connection: Connection,
    subscription: str,
    instances: Sequence[Resource],
    window: Window,
) -> pd.DataFrame:
    """Return the rows of `tables.INSTANCE_EVENTS` of one subscription.

    They come from its activity log and from the last operation of each instance, which alone is
    documented to tell the trigger. The window ends now.

    Raises:
        AzureError: the activity log cannot be read.
    """
    start = max(window.start_utc, window.end_utc - _ACTIVITY_RETENTION)
    asked = Window(start_utc=start, end_utc=window.end_utc)
    ids = {instance.resource_id for instance in instances}
    logged = connection.monitor.activity(subscription, asked, provider=_PROVIDER)
    rows = [row for event in logged if (row := event_row(event)) and row["resource_id"] in ids]
    rows += [row for instance in instances if (row := last_operation_row(instance))]
    return pd.DataFrame(rows)


def event_row(event: Document) -> dict[str, Any] | None:
    """Return an event of the activity log as a row.

    None where it is not the end of an operation that starts, stops, makes or unmakes a compute, nor
    the beginning of a start, which together with its end tells how long people wait for it.
    """
    action = event["operationName"]["value"].lower().partition("/workspaces/computes/")[2]
    status = event["status"]["value"]
    begins = action == "start/action" and status.lower() == "started"
    if action not in _OPERATIONS or (status.lower() in _UNDER_WAY and not begins):
        return None
    return {
        "resource_id": event["resourceId"].lower(),
        "at_utc": utc(event["eventTimestamp"]).replace(microsecond=0),
        "operation": _OPERATIONS[action],
        "trigger": (event.get("properties") or {}).get("operationTrigger"),
        "status": status,
    }


def last_operation_row(instance: Resource) -> dict[str, Any] | None:
    """Return the last operation in an instance's own document as a row."""
    if instance.kind is not Kind.INSTANCE:
        return None
    last = ((instance.arm.get("properties") or {}).get("properties") or {}).get("lastOperation")
    if not last or not last.get("operationTime"):
        return None
    return {
        "resource_id": instance.resource_id,
        "at_utc": utc(last["operationTime"]).replace(microsecond=0),
        "operation": last.get("operationName"),
        "trigger": last.get("operationTrigger"),
        "status": last.get("operationStatus"),
    }


def collect_jobs(
    connection: Connection,
    workspace: Resource,
    *,
    since_utc: datetime,
    over: Collection[str],
    open_: Collection[str],
) -> pd.DataFrame:
    """Return the rows of `tables.JOBS` of a workspace: what is new and what may have changed.

    Azure lists jobs newest first. Reading stops at the first page that ends with a job from before
    `since_utc`, or holds only those of `over` (known to have ended), once all `open_` were seen.
    (azure-ai-ml lists the same jobs, at milliseconds of parsing for each.)

    Raises:
        AzureError: the jobs cannot be read.
    """
    rows: list[dict[str, Any]] = []
    waiting = set(open_)
    path = f"{workspace.arm['id']}/jobs"
    for page in connection.arm.pages(path, listViewType="All"):
        found = [job_row(document) for document in page]
        rows.extend(found)
        waiting -= {row["job_id"] for row in found}
        submitted = found[-1]["submitted_utc"] if found else None
        old = submitted is not None and submitted < since_utc
        if not waiting and (old or all(row["job_id"] in over for row in found)):
            break
    return pd.DataFrame(rows)


def job_row(document: Document) -> dict[str, Any]:
    """Return a job's document as a row of `tables.JOBS`.

    The documented schema dates a job's creation only; when it began and ended stands in the run's
    own property bag, where the service writes it. What is not said is None.
    """
    properties = document["properties"]
    bag = properties.get("properties") or {}
    system = document.get("systemData") or {}
    limits = properties.get("limits") or {}
    # A sweep tells what each of its trials runs on.
    trial = properties.get("trial") or {}
    resources = properties.get("resources") or trial.get("resources") or {}
    kind = str(properties.get("jobType") or "").lower()
    timeout = limits.get("timeout")
    parent = bag.get("azureml.parentRunId") or properties.get("parentJobName")
    return {
        "job_id": document["id"].lower(),
        "resource_id": (properties.get("computeId") or "").lower() or None,
        "experiment": properties.get("experimentName"),
        "kind": bag.get("azureml.jobkind") or _KINDS.get(kind, kind),
        "parent_id": f"{document['id'].rpartition('/')[0]}/{parent}".lower() if parent else None,
        "user": system.get("createdBy"),
        "status": properties.get("status"),
        "submitted_utc": _moment(system.get("createdAt")),
        "started_utc": _moment(bag.get("StartTimeUtc")),
        "ended_utc": _moment(bag.get("EndTimeUtc")),
        "nodes": resources.get("instanceCount"),
        "has_early_termination": bool(properties.get("earlyTermination"))
        if kind == "sweep"
        else None,
        "time_limit_minutes": seconds_from_iso(timeout) // 60 if timeout else None,
    }


def over_and_open(jobs: pd.DataFrame, workspace_id: str) -> tuple[set[str], set[str]]:
    """Return the ids of a workspace's jobs that ended, and of those that had not when last read."""
    mine = jobs[jobs["job_id"].str.startswith(f"{workspace_id}/")]
    over = mine["status"].str.lower().isin(_OVER)
    return set(mine.loc[over, "job_id"]), set(mine.loc[~over, "job_id"])


def _moment(text: str | None) -> datetime | None:
    return utc(text) if text else None
