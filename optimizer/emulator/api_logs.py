"""Log Analytics: the tables that a workspace's diagnostic settings would have filled."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from optimizer.emulator import kql, skus
from optimizer.emulator.telemetry import computes_of, price_of
from optimizer.emulator.wire import (
    PROVIDER,
    TENANT,
    Answer,
    Call,
    Endpoint,
    Json,
    Refusal,
    epoch,
    error_body,
    iso,
    same,
    stable_id,
    workspace_of,
)
from optimizer.emulator.world import World

_DIAGNOSTICS = "Microsoft.Insights/diagnosticSettings"
_STORE = "/providers/microsoft.operationalinsights/workspaces/"


def _query_resource(call: Call) -> Answer:
    resource_id = f"/{call.parts['resource']}"
    if _STORE in resource_id.lower():
        senders = _senders(call.world, resource_id)
        if not senders:
            raise _not_found(resource_id)
        return _answered(call, senders)
    if call.world.document(resource_id) is None:
        raise _not_found(resource_id)
    return _answered(call, [resource_id])


def _not_found(resource_id: str) -> Refusal:
    return Refusal(404, "PathNotFoundError", f"The resource {resource_id} was not found.")


def _senders(world: World, store_id: str) -> list[str]:
    """Return the Azure ML workspaces whose diagnostic settings send to a Log Analytics one."""
    senders = {
        document["id"].lower().partition("/providers/microsoft.insights/")[0]
        for document in world.documents(_DIAGNOSTICS)
        if same(document["properties"].get("workspaceId") or "", store_id)
    }
    documents = world.documents(f"{PROVIDER}/workspaces")
    return [document["id"] for document in documents if document["id"].lower() in senders]


def _query_workspace(call: Call) -> Answer:
    """Answer for a Log Analytics workspace: every Azure ML workspace sends to the same one."""
    documents = call.world.documents(f"{PROVIDER}/workspaces")
    return _answered(call, [document["id"] for document in documents])


def _answered(call: Call, workspaces: Sequence[str]) -> Answer:
    query = str(call.json().get("query", ""))
    parts, after = kql.union_of(query)
    logged = [each for each in workspaces if _has_logs(call.world, each)]
    known = [part for part in parts if kql.table_of(part) in _TABLES and logged]
    if not known:
        return _unresolved(kql.table_of(parts[0]))
    period = kql.timespan(call.json().get("timespan"), call.world.now_utc)
    seconds = _Seconds(*map(epoch, period)) if period else _EVER
    rows: list[kql.Row] = []
    columns: dict[str, str] = {}
    try:
        for part in known:
            columns |= _columns(part, _kinds(kql.table_of(part)), call)
            rows += kql.run(part, _rows(call.world, part, logged, seconds), call.world.now_utc)
        if after:
            blank = dict.fromkeys(columns)
            united = [{**blank, **row} for row in rows]
            rows = kql.run(f"union {after}", united, call.world.now_utc)
            columns = dict(_columns(f"union {after}", columns, call))
    except kql.QueryError as error:
        raise Refusal(400, "BadArgumentError", f"Query could not be parsed: {error}.") from error
    return Answer(
        body={
            "tables": [
                {
                    "name": "PrimaryResult",
                    "columns": [{"name": c, "type": kind} for c, kind in columns.items()],
                    "rows": [[row.get(column) for column in columns] for row in rows],
                }
            ]
        }
    )


def _rows(
    world: World, query: str, workspaces: Sequence[str], seconds: "_Seconds"
) -> list[kql.Row]:
    name = kql.table_of(query)
    blank = dict.fromkeys(_TABLES[name].columns)
    only = kql.wanted(query, "_ResourceId")
    return [
        {**blank, **row, "Type": name}
        for workspace in workspaces
        if only is None or workspace.lower() in only
        for row in _TABLES[name].rows(world, workspace, seconds)
    ]


def _kinds(name: str) -> Mapping[str, str]:
    return _TABLES[name].columns | {"Type": "string"}


def _columns(query: str, kinds: Mapping[str, str], call: Call) -> Mapping[str, str]:
    """Return the columns of the result: those of a made-up row that no `where` sees."""
    steps = [step for step in query.split("|") if not step.strip().lower().startswith("where")]
    made_up = dict.fromkeys(kinds, "")
    shown = kql.run("|".join(steps), [made_up], call.world.now_utc)
    return {name: kinds.get(name, "dynamic") for name in (shown[0] if shown else made_up)}


def _has_logs(world: World, workspace_id: str) -> bool:
    """Return whether a workspace's logs are kept: by its diagnostic setting, if any has one."""
    if not world.estate.telemetry.diagnostic_logs:
        return False
    return bool(
        world.documents(_DIAGNOSTICS, within=workspace_id) or not world.documents(_DIAGNOSTICS)
    )


def _unresolved(name: str) -> Answer:
    """Answer as Log Analytics does where a table was never filled."""
    inner = {
        "code": "SEM0100",
        "message": f"'{name}' operator: Failed to resolve table or column expression named "
        f"'{name}'",
    }
    body = error_body("BadArgumentError", "The request had some invalid properties")
    body["error"]["innererror"] = {
        "code": "SemanticError",
        "message": "A semantic error occurred.",
        "innererror": inner,
    }
    return Answer(body=body, status=400)


# Tables


@dataclass(frozen=True, slots=True)
class _Seconds:
    """Seconds since the epoch, both ends included."""

    first: float
    last: float

    def __contains__(self, second: float) -> bool:
        return self.first <= second <= self.last


_EVER = _Seconds(-math.inf, math.inf)

_Rows = Callable[[World, str, _Seconds], Iterator[Json]]


class _Table:
    """A table: its columns with their types, and its rows for one workspace and some time."""

    def __init__(self, columns: Mapping[str, str], rows: _Rows) -> None:
        self.columns = dict(columns)
        self.rows = rows


def _cluster_events(world: World, workspace_id: str, seconds: _Seconds) -> Iterator[Json]:
    """Yield a row for each change of a cluster's nodes or settings."""
    for document in computes_of(world, workspace_id, "AmlCompute"):
        counts = world.node_counts(document["id"])
        settings = document["properties"]["properties"]
        price = price_of(world, document)
        cores = int(price.vcpus or 0) if price else None
        columns: Mapping[str, list[int]] = {
            name: getattr(counts, name).tolist()
            for name in (
                "at_s",
                "active",
                "idle",
                "preparing",
                "leaving",
                "preempted",
                "unusable",
                "target",
                "min_nodes",
                "max_nodes",
                "idle_seconds",
            )
        }
        previous = 0
        for values in zip(*columns.values(), strict=True):
            row: dict[str, Any] = dict(zip(columns, values, strict=True))
            current, before = sum(row[state] for state in _PRESENT), previous
            previous = current
            if row["at_s"] not in seconds:
                continue
            yield {
                "TimeGenerated": iso(row["at_s"]),
                "ClusterName": document["name"],
                "ClusterType": "AmlCompute",
                "VmSize": settings["vmSize"],
                "VmPriority": settings["vmPriority"],
                "VmFamilyName": skus.family_words(settings["vmSize"]),
                "CoreCount": cores,
                "CurrentNodeCount": current,
                "TargetNodeCount": row["target"],
                "MinimumNodeCount": row["min_nodes"],
                "MaximumNodeCount": row["max_nodes"],
                "IdleNodeCount": row["idle"],
                "RunningNodeCount": row["active"],
                "PreparingNodeCount": row["preparing"],
                "LeavingNodeCount": row["leaving"],
                "UnusableNodeCount": row["unusable"],
                # Azure's table holds this one count as text.
                "PreemptedNodeCount": str(row["preempted"]),
                "NodeIdleTimeSecondsBeforeScaleDown": row["idle_seconds"],
                "AllocationState": "Steady" if row["target"] == current else "Resizing",
                "AllocationStateTransitionTime": iso(row["at_s"]),
                "IsResizeGrow": current > before,
                # The values of this column are not documented.
                "EventType": "ClusterChanged",
                "_ResourceId": workspace_id.lower(),
            }


def _instance_events(world: World, workspace_id: str, seconds: _Seconds) -> Iterator[Json]:
    for operation in world.operations():
        inside = operation.at_s in seconds
        if not inside or not same(workspace_of(operation.resource_id), workspace_id):
            continue
        document = world.document(operation.resource_id)
        if document and document["properties"].get("computeType") == "ComputeInstance":
            yield {
                "TimeGenerated": iso(operation.at_s),
                "Level": "Informational",
                "ResultType": operation.status,
                "CorrelationId": str(stable_id(operation.resource_id, str(operation.at_s))),
                "OperationName": f"{PROVIDER}/workspaces/computes/{operation.name.lower()}/action",
                "Identity": operation.caller,
                "AadTenantId": TENANT,
                "AmlComputeInstanceName": document["name"],
                "_ResourceId": workspace_id.lower(),
            }


def _job_events(world: World, workspace_id: str, seconds: _Seconds) -> Iterator[Json]:
    """Yield when a job came, when each of its nodes began, and when it ended."""
    records = {record.job_index: record for record in world.jobs(within=workspace_id)}
    for record in records.values():
        told = {
            "JobId": record.id,
            "JobName": record.id,
            "ExperimentName": record.row["experiment"],
            "ClusterName": record.resource_id.rpartition("/")[2],
            "_ResourceId": workspace_id.lower(),
        }
        if record.submitted_s in seconds:
            yield told | {
                "TimeGenerated": iso(record.submitted_s),
                "EventType": "JobSubmitted",
                "ExecutionState": "Queued",
            }
        if record.ended_s is not None and record.ended_s in seconds:
            yield told | {
                "TimeGenerated": iso(record.ended_s),
                "EventType": "JobFinished",
                "ExecutionState": record.status,
            }
    for document in computes_of(world, workspace_id, "AmlCompute"):
        spans = world.occupancy(document["id"])
        for node, job, start in zip(
            spans.node_id.tolist(), spans.job_index.tolist(), spans.start_s.tolist(), strict=True
        ):
            if job in records and start in seconds:
                yield {
                    "TimeGenerated": iso(start),
                    "JobId": records[job].id,
                    "JobName": records[job].id,
                    "ExperimentName": records[job].row["experiment"],
                    "ClusterName": document["name"],
                    "NodeId": node,
                    "EventType": "JobStarted",
                    "ExecutionState": "Running",
                    "_ResourceId": workspace_id.lower(),
                }


_PRESENT = ("active", "idle", "preparing", "leaving", "unusable")


def _text(names: str) -> Mapping[str, str]:
    return dict.fromkeys(names.split(), "string")


def _ints(names: str) -> Mapping[str, str]:
    return dict.fromkeys(names.split(), "int")


_TABLES: Mapping[str, _Table] = {
    "AmlComputeClusterEvent": _Table(
        {
            "TimeGenerated": "datetime",
            **_text("ClusterName ClusterType VmSize VmPriority VmFamilyName"),
            **_ints("CoreCount CurrentNodeCount TargetNodeCount MinimumNodeCount"),
            **_ints("MaximumNodeCount IdleNodeCount RunningNodeCount PreparingNodeCount"),
            **_ints("LeavingNodeCount UnusableNodeCount"),
            "PreemptedNodeCount": "string",
            "NodeIdleTimeSecondsBeforeScaleDown": "int",
            "AllocationState": "string",
            "AllocationStateTransitionTime": "datetime",
            **_text("QuotaAllocated QuotaUtilized"),
            "IsResizeGrow": "bool",
            **_text("EventType SubnetId _ResourceId"),
        },
        _cluster_events,
    ),
    "AmlComputeInstanceEvent": _Table(
        {
            "TimeGenerated": "datetime",
            **_text("Level ResultType CorrelationId OperationName Identity AadTenantId"),
            **_text("AmlComputeInstanceName _ResourceId"),
        },
        _instance_events,
    ),
    "AmlComputeJobEvent": _Table(
        {
            "TimeGenerated": "datetime",
            **_text("JobId JobName ExperimentName ClusterName NodeId EventType ExecutionState"),
            "_ResourceId": "string",
        },
        _job_events,
    ),
}


def _logs(template: str, handle: Callable[[Call], Answer]) -> Endpoint:
    return Endpoint(
        api="log_analytics", method="POST", template=template, handle=handle, versioned=False
    )


ENDPOINTS = (
    _logs("/v1/workspaces/{workspace}/query", _query_workspace),
    _logs("/v1/{resource:path}/query", _query_resource),
)
