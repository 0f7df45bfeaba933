"""Which run was on which node: from the log of jobs, where a workspace keeps one."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

import pandas as pd

from optimizer.model import Resource
from optimizer.units import utc

TABLE = "AmlComputeJobEvent"
RUNNING = "Running"
STARTED_AGAIN = "It started again elsewhere; when it left this node is not logged."

_GANG = timedelta(minutes=5)
"""Nodes of one run that start within this time start together; later it is another start."""
_OVER = {"completed", "succeeded", "finished", "failed", "canceled", "cancelled"}
"""Azure's documents name the column ExecutionState, and not what it says."""
LOG_COLUMNS = ("TimeGenerated", "JobId", "ClusterName", "NodeId", "EventType", "ExecutionState")

Event = Mapping[str, Any]


def run_rows(events: Iterable[Event], clusters: Sequence[Resource]) -> pd.DataFrame:
    """Turn rows of AmlComputeJobEvent, in any order, into a row for each run and node.

    A run is on a node from the first event that names the node to the first one after it that
    ends the node's part, or the job. An end that no event tells is null.
    """
    ids = {cluster.name.lower(): cluster.resource_id for cluster in clusters}
    by_job: dict[tuple[str, str], list[tuple[datetime, Event]]] = {}
    for event in events:
        resource_id = ids.get(str(event.get("ClusterName") or "").lower())
        if resource_id and event.get("JobId"):
            moment = utc(event["TimeGenerated"]).replace(microsecond=0)
            by_job.setdefault((resource_id, str(event["JobId"])), []).append((moment, event))
    rows: list[dict[str, Any]] = []
    for (resource_id, run_id), told in by_job.items():
        told.sort(key=lambda each: (each[0], _is_over(each[1])))
        rows += ({"resource_id": resource_id, "run_id": run_id, **row} for row in _on_nodes(told))
    return pd.DataFrame(rows)


def _on_nodes(told: Sequence[tuple[datetime, Event]]) -> list[dict[str, Any]]:
    """Return the stays of one job on its nodes; its events are in order of time."""
    stays: list[dict[str, Any]] = []
    open_: dict[str, dict[str, Any]] = {}
    for at_utc, event in told:
        node = str(event.get("NodeId") or "")
        if _is_over(event):
            for left in [node] if node else [*open_]:
                if stay := open_.pop(left, None):
                    _end(stay, at_utc, event.get("ExecutionState"), event.get("EventType"))
        elif node and (node not in open_ or at_utc - open_[node]["started_utc"] > _GANG):
            for earlier in [n for n, s in open_.items() if at_utc - s["started_utc"] > _GANG]:
                stay = open_.pop(earlier)
                # Where it came back to the same node, it left it at the latest now.
                _end(stay, at_utc if earlier == node else None, None, STARTED_AGAIN)
            open_[node] = _end({"node_id": node, "started_utc": at_utc}, None, RUNNING, None)
            stays.append(open_[node])
    return stays


def _end(
    stay: dict[str, Any], ended_utc: datetime | None, state: str | None, reason: str | None
) -> dict[str, Any]:
    stay |= {"ended_utc": ended_utc, "state": state, "reason": reason}
    return stay


def _is_over(event: Event) -> bool:
    return str(event.get("ExecutionState") or "").lower() in _OVER


def open_since(runs: pd.DataFrame, workspace_id: str) -> datetime | None:
    """Return when the oldest of a workspace's runs began that was still going when last read."""
    mine = runs["resource_id"].str.startswith(f"{workspace_id}/") & (runs["state"] == RUNNING)
    began = runs.loc[mine, "started_utc"].min()
    return None if pd.isna(began) else began.to_pydatetime()
