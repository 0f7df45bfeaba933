"""What workspaces log of their clusters and jobs: one question for all that send to one place.

Azure ML workspaces usually send their logs to a central Log Analytics workspace. That is asked once
for all of them; where it may not be read, or nothing names it, each workspace is asked for its own.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

import pandas as pd

from optimizer.azure.connect import Connection
from optimizer.collectors.nodes import LOG_COLUMNS as NODE_COLUMNS
from optimizer.collectors.nodes import TABLE as NODE_TABLE
from optimizer.collectors.nodes import NodeLog, node_log
from optimizer.collectors.problems import problem_of
from optimizer.collectors.runs import LOG_COLUMNS as RUN_COLUMNS
from optimizer.collectors.runs import TABLE as RUN_TABLE
from optimizer.collectors.runs import run_rows
from optimizer.errors import AzureError, TruncatedError, UnauthorizedError, UnreachableError
from optimizer.model import Resource, Window
from optimizer.units import iso_utc, utc

_RETENTION = timedelta(days=93)
_SHORTEST = timedelta(hours=1)
_IDS_A_QUESTION = 400
"""Some 60 kB of ids, and a month of their events within one answer."""

Event = Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What to read of the logs of a workspace."""

    workspace: Resource
    clusters: Sequence[Resource]
    nodes_since_utc: datetime
    runs_since_utc: datetime | None
    """None: its runs are not asked for."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class WorkspaceLog:
    """What the logs of a workspace tell."""

    nodes: NodeLog
    runs: pd.DataFrame | AzureError
    """Rows of `tables.RUNS`, or why there are none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Question:
    """Workspaces that send to the same places and lack the same time."""

    places: tuple[str, ...]
    nodes_since_utc: datetime
    runs_since_utc: datetime | None


def read_logs(
    connection: Connection, wanted: Sequence[Wanted], end_utc: datetime
) -> dict[str, WorkspaceLog]:
    """Return the logs of workspaces by their id; why one cannot be read stands in its place.

    Raises:
        UnauthorizedError: the token was refused.
        UnreachableError: the endpoint does not answer.
    """
    questions: dict[_Question, list[Wanted]] = {}
    for each in wanted:
        since = each.runs_since_utc
        question = _Question(
            places=_sent_to(each.workspace),
            nodes_since_utc=each.nodes_since_utc,
            # A whole day: oldest runs that go on would make a question for each workspace.
            runs_since_utc=since and since.replace(hour=0, minute=0, second=0, microsecond=0),
        )
        questions.setdefault(question, []).append(each)
    found: dict[str, WorkspaceLog] = {}

    def read(asked: tuple[_Question, Sequence[Wanted]]) -> dict[str, WorkspaceLog]:
        return _read(connection, *asked, end_utc)

    groups = [
        (question, some[start : start + _IDS_A_QUESTION])
        for question, some in questions.items()
        for start in range(0, len(some), _IDS_A_QUESTION)
    ]
    for some in connection.map(read, groups):
        found |= some
    return found


def _sent_to(workspace: Resource) -> tuple[str, ...]:
    """Return the Log Analytics workspaces that hold a workspace's logs, so far as is known."""
    categories = workspace.settings.get("log_categories") or {}
    places = {
        place.lower()
        for category in (NODE_TABLE, RUN_TABLE, "allLogs")
        for place in categories.get(category, ())
    }
    return tuple(sorted(places))


def _read(
    connection: Connection, question: _Question, wanted: Sequence[Wanted], end_utc: datetime
) -> dict[str, WorkspaceLog]:
    if question.places:
        ids = [each.workspace.resource_id for each in wanted]
        by_id: dict[str, list[Event]] = {workspace_id: [] for workspace_id in ids}
        try:
            for place in question.places:
                for event in _events(connection, place, question, end_utc, ids):
                    by_id.get(str(event.get("_ResourceId")).lower(), []).append(event)
        except (UnauthorizedError, UnreachableError):
            raise
        except AzureError:  # who may read a workspace may read its logs, if not everybody's
            pass
        else:
            # Who may not read its tables has them told as tables that were never filled.
            if any(by_id.values()):
                return {
                    each.workspace.resource_id: _told(each, by_id[each.workspace.resource_id])
                    for each in wanted
                }
    return {each.workspace.resource_id: _alone(connection, each, end_utc) for each in wanted}


def _alone(connection: Connection, wanted: Wanted, end_utc: datetime) -> WorkspaceLog:
    question = _Question(
        places=(),
        nodes_since_utc=wanted.nodes_since_utc,
        runs_since_utc=wanted.runs_since_utc,
    )
    of = wanted.workspace.resource_id
    try:
        return _told(wanted, list(_events(connection, of, question, end_utc, ())))
    except (UnauthorizedError, UnreachableError):
        raise
    except AzureError as error:
        return WorkspaceLog(nodes=NodeLog(steps={}, problems=(problem_of(of, error),)), runs=error)


def _told(wanted: Wanted, events: Sequence[Event]) -> WorkspaceLog:
    since = wanted.runs_since_utc
    runs = (e for e in events if e["Type"] == RUN_TABLE and since)
    return WorkspaceLog(
        nodes=node_log(e for e in events if e["Type"] == NODE_TABLE),
        runs=run_rows(
            (e for e in runs if since and utc(e["TimeGenerated"]) >= since), wanted.clusters
        ),
    )


def _events(
    connection: Connection,
    resource_id: str,
    question: _Question,
    end_utc: datetime,
    workspace_ids: Sequence[str],
) -> Iterator[Event]:
    """Yield what a resource holds of some workspaces' logs, after the state of each cluster before.

    An answer that Azure cut short is asked for again in two halves of its time.
    """
    starts = [t for t in (question.nodes_since_utc, question.runs_since_utc) if t is not None]
    whole = Window(start_utc=min(starts), end_utc=end_utc)
    pending = [whole]
    while pending:
        window = pending.pop()
        span = window
        legs = []
        if window.start_utc == whole.start_utc:
            span = replace(window, start_utc=question.nodes_since_utc - _RETENTION)
            legs.append(_state_before(question.nodes_since_utc, workspace_ids))
        for table, columns, since in (
            (NODE_TABLE, NODE_COLUMNS, question.nodes_since_utc),
            (RUN_TABLE, RUN_COLUMNS, question.runs_since_utc),
        ):
            if since is not None and since < window.end_utc:
                begin = max(since, window.start_utc)
                legs.append(_happened(table, columns, begin, window.end_utc, workspace_ids))
        # Each leg says what it shows, as a table that was never filled may have no columns.
        query = f"union isfuzzy=true {', '.join(legs)} | order by TimeGenerated asc"
        try:
            yield from connection.monitor.logs(resource_id, query, span)
        except TruncatedError:
            if window.length <= _SHORTEST:
                raise
            middle = window.start_utc + max(_SHORTEST, window.length / 2 // _SHORTEST * _SHORTEST)
            pending += [replace(window, start_utc=middle), replace(window, end_utc=middle)]


def _state_before(start_utc: datetime, workspace_ids: Sequence[str]) -> str:
    return (
        f"({NODE_TABLE} | where TimeGenerated < {_moment(start_utc)}{_of(workspace_ids)} "
        "| summarize arg_max(TimeGenerated, *) by _ResourceId, ClusterName "
        f"| project {_shown(NODE_COLUMNS)})"
    )


def _happened(
    table: str,
    columns: Sequence[str],
    start_utc: datetime,
    end_utc: datetime,
    workspace_ids: Sequence[str],
) -> str:
    return (
        f"({table} | where TimeGenerated >= {_moment(start_utc)} "
        f"and TimeGenerated < {_moment(end_utc)}{_of(workspace_ids)} | project {_shown(columns)})"
    )


def _of(workspace_ids: Sequence[str]) -> str:
    ids = ", ".join(f"'{each}'" for each in workspace_ids)
    return f" and _ResourceId in~ ({ids})" if workspace_ids else ""


def _shown(columns: Sequence[str]) -> str:
    return ", ".join(("Type", "_ResourceId", *columns))


def _moment(moment: datetime) -> str:
    return f"datetime({iso_utc(moment)})"
