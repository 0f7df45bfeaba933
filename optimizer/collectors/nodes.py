"""Node minutes of clusters: from the event log where there is one, else from platform metrics."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from optimizer.azure.connect import Connection
from optimizer.azure.monitor import MetricQuestion, MetricSeries
from optimizer.collectors.problems import problem_of
from optimizer.collectors.samples import cut
from optimizer.errors import AzureError, UnauthorizedError, UnreachableError
from optimizer.model import Problem, Resource, Window
from optimizer.units import utc

TABLE = "AmlComputeClusterEvent"

_MINUTE = timedelta(minutes=1)
_STATES = {
    "active": "RunningNodeCount",
    "idle": "IdleNodeCount",
    "preparing": "PreparingNodeCount",
    "leaving": "LeavingNodeCount",
    "preempted": "PreemptedNodeCount",
    "unusable": "UnusableNodeCount",
}
LOG_COLUMNS = ("TimeGenerated", "ClusterName", *_STATES.values())
_METRICS = {
    "Active Nodes": "active",
    "Idle Nodes": "idle",
    "Leaving Nodes": "leaving",
    "Preempted Nodes": "preempted",
    "Unusable Nodes": "unusable",
    "Total Nodes": "total",
}

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Steps:
    """How many nodes a cluster has in each state, from each moment on."""

    at_ms: Ints
    nodes: Floats
    """(moments, states), in the order of `_STATES`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeLog:
    """What the log of a workspace tells of its clusters; empty where it keeps none."""

    steps: Mapping[str, _Steps]
    """By the name of the cluster in lower case."""
    problems: tuple[Problem, ...] = ()


def node_log(events: Iterable[Mapping[str, Any]]) -> NodeLog:
    """Turn AmlComputeClusterEvent rows, in any order, into the steps of each cluster."""
    by_name: dict[str, list[Mapping[str, Any]]] = {}
    for event in events:
        by_name.setdefault(event["ClusterName"].lower(), []).append(event)
    return NodeLog(steps={name: _steps(mine) for name, mine in by_name.items()})


def collect_node_minutes(
    connection: Connection,
    workspaces: Sequence[Resource],
    clusters: Sequence[Resource],
    window: Window,
    logs: Mapping[str, NodeLog],
) -> tuple[pd.DataFrame, list[Problem], set[str]]:
    """Return the rows of `tables.NODE_MINUTES` of some workspaces of one subscription and region.

    Also what was not seen, and the ids of the workspaces that could not be read. `logs` is by
    workspace id. Platform metrics stand in for a cluster that the log does not know; they have no
    preparing nodes, so its start-ups are null.

    Raises:
        UnauthorizedError: the token was refused.
        UnreachableError: the endpoint does not answer.
    """
    parts: list[pd.DataFrame] = []
    problems: list[Problem] = []
    rest: list[Resource] = []
    for workspace in workspaces:
        mine = [c for c in clusters if c.workspace_id == workspace.resource_id]
        log = logs.get(workspace.resource_id, NodeLog(steps={}))
        problems.extend(log.problems)
        logged = minutes_from_log(log, mine, window)
        known = set(logged["resource_id"].unique()) if len(logged) else set()
        parts.append(logged)
        rest.extend(cluster for cluster in mine if cluster.resource_id not in known)
    unlogged = {cluster.workspace_id for cluster in rest}
    asked = [workspace for workspace in workspaces if workspace.resource_id in unlogged]
    refused: dict[str, AzureError] = {}
    measured = [
        minutes_from_metrics(_states(connection, asked, part, refused), rest)
        for part in cut(window, _MINUTE, series=len(rest) * len(_METRICS), nodes_stay=True)
    ]
    told = {home for frame in measured if len(frame) for home in _homes(frame)}
    for workspace in asked:
        log = logs.get(workspace.resource_id, NodeLog(steps={}))
        if workspace.resource_id in refused:
            problems.append(problem_of(workspace.resource_id, refused[workspace.resource_id]))
        elif workspace.resource_id in told and not log.steps and not log.problems:
            problems.append(_no_logs(workspace))
    rows = pd.concat([p for p in (*parts, *measured) if len(p)] or [pd.DataFrame()])
    return rows, problems, set(refused)


def _homes(frame: pd.DataFrame) -> set[str]:
    return {str(each).rpartition("/computes/")[0] for each in frame["resource_id"].unique()}


def _states(
    connection: Connection,
    workspaces: Sequence[Resource],
    window: Window,
    refused: dict[str, AzureError],
) -> list[MetricSeries]:
    """Return the node states of workspaces of one place; note those that refuse to tell them."""
    asked = [workspace for workspace in workspaces if workspace.resource_id not in refused]
    if not asked:
        return []
    question = MetricQuestion(
        metrics=tuple(_METRICS),
        filter="ClusterName eq '*'",
        window=window,
        grain=_MINUTE,
        aggregations=("Average",),
    )
    ids = [workspace.resource_id for workspace in asked]
    try:
        return connection.monitor.metrics(asked[0].region, ids, question)
    except (UnauthorizedError, UnreachableError):
        raise
    except AzureError as error:
        if len(asked) == 1:
            refused[ids[0]] = error
            return []
    return [one for each in asked for one in _states(connection, [each], window, refused)]


def minutes_from_log(log: NodeLog, clusters: Sequence[Resource], window: Window) -> pd.DataFrame:
    """Turn the steps of a log into minutes: the time-weighted mean of each state.

    Each event holds from its moment on, until the next of its cluster. A minute that begins before
    the first event is not a row.
    """
    frames = [
        _minutes_of(cluster.resource_id, log.steps[cluster.name.lower()], window)
        for cluster in clusters
        if cluster.name.lower() in log.steps
    ]
    return pd.concat(frames) if frames else pd.DataFrame()


def minutes_from_metrics(
    series: Sequence[MetricSeries], clusters: Sequence[Resource]
) -> pd.DataFrame:
    """Turn node metrics by ClusterName into minutes; a minute without any value is not a row."""
    ids = {(c.workspace_id, c.name.lower()): c.resource_id for c in clusters}
    frames: dict[str, dict[str, pd.Series[float]]] = {}
    for one in series:
        resource_id = ids.get((one.resource_id, one.dimensions.get("clustername", "").lower()))
        if resource_id:
            values = pd.Series(one.average, index=pd.DatetimeIndex(one.times, tz="UTC"))
            frames.setdefault(resource_id, {})[_METRICS[one.metric]] = values.dropna()
    parts = [
        pd.DataFrame(columns)
        .rename_axis("minute_utc")
        .reset_index()
        .assign(resource_id=resource_id, source="metric")
        for resource_id, columns in frames.items()
    ]
    return pd.concat(parts) if parts else pd.DataFrame()


def step_means(at_ms: Ints, values: Floats, edges_ms: Ints) -> Floats:
    """Return the mean of step functions between neighbouring edges, weighted by time.

    Shape: `values` is (events, states), row i holding from `at_ms[i]` on; the result is
    (edges − 1, states). Before the first event nothing is known: NaN.

    >>> step_means(np.array([0, 30]), np.array([[2.0], [4.0]]), np.array([0, 60, 120])).ravel()
    array([3., 4.])
    """
    step = np.searchsorted(at_ms, edges_ms, side="right") - 1
    before = np.vstack(
        [np.zeros(values.shape[1]), np.cumsum(np.diff(at_ms)[:, None] * values[:-1], axis=0)]
    )
    area = before[step] + values[step] * (edges_ms - at_ms[step])[:, None]
    area[step < 0] = np.nan
    means: Floats = np.diff(area, axis=0) / np.diff(edges_ms)[:, None]
    return means


def _steps(events: Sequence[Mapping[str, Any]]) -> _Steps:
    rows = sorted(((utc(e["TimeGenerated"]), i, e) for i, e in enumerate(events)), key=_when)
    at = np.array([round(moment.timestamp() * 1000) for moment, _, _ in rows], np.int64)
    nodes = np.array(
        [[float(event[name] or 0) for name in _STATES.values()] for _, _, event in rows]
    )
    last = np.append(at[1:] != at[:-1], [True])  # of events at one moment the last one holds
    return _Steps(at_ms=at[last], nodes=nodes[last])


def _minutes_of(resource_id: str, steps: _Steps, window: Window) -> pd.DataFrame:
    minutes = pd.date_range(window.start_utc, window.end_utc, freq=_MINUTE)
    means = step_means(steps.at_ms, steps.nodes, minutes.as_unit("ms").asi8)
    known = np.flatnonzero(~np.isnan(means).any(axis=1))
    frame = pd.DataFrame(means[known], columns=list(_STATES))
    return frame.assign(
        resource_id=resource_id,
        minute_utc=minutes[:-1][known],
        total=frame.sum(axis=1),
        source="log",
    )


def _when(row: tuple[Any, int, Any]) -> tuple[Any, int]:
    return row[:2]


def _no_logs(workspace: Resource) -> Problem:
    return Problem(
        scope=workspace.resource_id,
        what=f"Workspace {workspace.name} keeps no log of its clusters, so that the minutes in "
        "which their nodes start up, and which run was on which node, are not seen: add a "
        "diagnostic setting that sends the categories AmlComputeClusterEvent and "
        "AmlComputeJobEvent to a Log Analytics workspace.",
    )
