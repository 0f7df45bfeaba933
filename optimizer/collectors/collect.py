"""One collection: find out what is missing in the lake, and fetch that.

Every table is written as it comes, with a note of what it covers, so that an interrupted collection
goes on where it stopped. The inventory is written last: it is what tells the analysis that a
collection is complete, and up to when.
"""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date, datetime, timedelta
from functools import partial
from typing import TypeVar

import pandas as pd
import pyarrow as pa

from optimizer.azure.connect import Connection
from optimizer.collectors.agreement import instance_disagreements, node_disagreements
from optimizer.collectors.commitments import collect_commitments
from optimizer.collectors.costs import collect_costs
from optimizer.collectors.events import collect_instance_events, collect_jobs, over_and_open
from optimizer.collectors.inventory import (
    Inventory,
    collect_inventory,
    managed,
    resource_rows,
    subscription_of,
)
from optimizer.collectors.nodes import NodeLog, collect_node_minutes, read_node_log
from optimizer.collectors.prices import billing_currency, collect_prices, unread, without
from optimizer.collectors.problems import problem_of
from optimizer.collectors.requests import collect_requests
from optimizer.collectors.runs import TABLE as RUN_LOG
from optimizer.collectors.runs import collect_runs, open_since
from optimizer.collectors.samples import collect_samples
from optimizer.collectors.workspaces import is_logged
from optimizer.config import AnalysisSettings
from optimizer.errors import AzureError, UnauthorizedError, UnreachableError
from optimizer.model import Kind, Problem, Resource, Window
from optimizer.store.lake import Coverage, Lake, days_of, start_of
from optimizer.store.partials import refresh_partials
from optimizer.store.tables import (
    COMMITMENTS,
    COSTS,
    INSTANCE_EVENTS,
    INTERVALS,
    JOBS,
    NODE_DAYS,
    NODE_MINUTES,
    PRICES,
    REQUESTS,
    RESOURCES,
    RUNS,
    SAMPLES,
    Table,
)
from optimizer.units import MINUTES_PER_DAY, floor_to_minute

T = TypeVar("T")

Progress = Callable[[str, int, int | None], None]

LATE = timedelta(minutes=30)
"""What happened this long before a collection may not have been told yet: it is read again."""
RESTATED_DAYS = 5
"""Azure may still correct the costs of so many days, beyond the usual lag."""
LONG_JOB = timedelta(days=7)
"""A job submitted this long before the window may run in it."""
PRICES_KEEP = timedelta(days=1)

_ROWS_A_CHUNK = 2_000_000
"""Some 600 MB while they are put together."""
_LONGEST_CHUNK_DAYS = 7
"""So that progress shows."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CollectReport:
    """What one collection brought."""

    window: Window
    """What the lake now covers, so far as there are no problems."""
    subscriptions: tuple[str, ...]
    rows: Mapping[str, int]
    """Rows written, by table; a row that was read again counts again."""
    problems: tuple[Problem, ...]


@dataclass(slots=True, kw_only=True)
class _Collection:
    """A collection under way."""

    connection: Connection
    lake: Lake
    window: Window
    inventory: Inventory
    analysis: AnalysisSettings
    progress: Progress
    rows: dict[str, int] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)

    @property
    def workspaces(self) -> tuple[Resource, ...]:
        return self.inventory.of_kind(Kind.WORKSPACE)

    def computes_of(self, workspaces: Collection[Resource], *kinds: Kind) -> list[Resource]:
        ids = {workspace.resource_id for workspace in workspaces}
        return [c for c in self.inventory.of_kind(*kinds) if c.workspace_id in ids]

    def deployments_of(self, workspaces: Collection[Resource]) -> tuple[Resource, ...]:
        """Return the deployments that Azure measures: not those on Kubernetes."""
        return managed(self.computes_of(workspaces, Kind.DEPLOYMENT))

    def write(
        self, table: Table, frame: pd.DataFrame | pa.Table, coverage: Coverage | None = None
    ) -> None:
        written = self.lake.write(table, frame, coverage=coverage)
        self.rows[table.name] = self.rows.get(table.name, 0) + written

    def tolerated(self, ask: Callable[[], T], scope: str) -> T | None:
        """Return an answer, or None where it was refused: a problem of `scope`, and we go on."""
        try:
            return ask()
        except (UnauthorizedError, UnreachableError):
            raise
        except AzureError as error:
            self.problems.append(problem_of(scope, error))
            return None


def collect(
    connection: Connection,
    lake: Lake,
    *,
    lookback_days: int,
    subscriptions: Sequence[str],
    analysis: AnalysisSettings,
    progress: Progress,
) -> CollectReport:
    """Bring the lake up to date and say what could not be seen.

    The first collection reads back `lookback_days`, from midnight UTC; later ones what came since.
    What one subscription or workspace refuses is a problem in the report, and the rest goes on. An
    estate without any compute gives a report without rows, and the lake is left as it is.

    Raises:
        UnauthorizedError: the token was refused.
        UnreachableError: the endpoint does not answer.
        AzureError: not a single subscription could be read.
        LakeError: a file of the lake is damaged.
    """
    progress("inventory", 0, None)
    now_utc = connection.arm.now_utc()
    inventory = collect_inventory(connection, subscriptions)
    end = floor_to_minute(now_utc)
    begin = start_of((end - timedelta(days=lookback_days)).date())
    run = _Collection(
        connection=connection,
        lake=lake,
        window=Window(start_utc=begin, end_utc=end),
        inventory=inventory,
        analysis=analysis,
        progress=progress,
        problems=list(inventory.problems),
    )
    if inventory.judged():
        _activity(run)
        _events(run)
        _jobs(run)
        _runs(run)
        _costs(run)
        _prices(run)
        _commitments(run)
        run.write(RESOURCES, resource_rows(inventory, lake, now_utc))
    return CollectReport(
        window=run.window,
        subscriptions=inventory.subscriptions,
        rows={RESOURCES.name: 0} | run.rows,
        problems=tuple(dict.fromkeys(run.problems)),
    )


def _activity(run: _Collection) -> None:
    """Node minutes and samples, some days of all workspaces at a time, oldest first."""
    clusters, instances = (len(run.inventory.of_kind(k)) for k in (Kind.CLUSTER, Kind.INSTANCE))
    deployments = len(run.deployments_of(run.workspaces))
    _by_chunk(run, "node states", NODE_MINUTES, clusters, partial(_node_minutes, _node_logs(run)))
    if deployments:
        _by_chunk(run, "requests", REQUESTS, deployments, _requests)
    start = _by_chunk(run, "use", SAMPLES, clusters + instances + deployments, _samples)
    _partials(run, start)


def _by_chunk(
    run: _Collection,
    stage: str,
    table: Table,
    computes: int,
    read: Callable[[_Collection, Sequence[Resource], Window], None],
) -> datetime:
    """Read what is missing of a table with about a row a minute and compute; return since when."""
    begins = [_missing(run, table, workspace.resource_id) for workspace in run.workspaces]
    start = min(begins, default=run.window.end_utc)
    fitting = _ROWS_A_CHUNK // max(1, computes * MINUTES_PER_DAY)
    days = max(1, min(fitting, _LONGEST_CHUNK_DAYS))
    chunks = list(_chunks(Window(start_utc=start, end_utc=run.window.end_utc), days))
    for done, chunk in enumerate(chunks):
        run.progress(stage, done, len(chunks))
        due: dict[Window, list[Resource]] = {}
        for workspace, begin in zip(run.workspaces, begins, strict=True):
            part = Window(start_utc=max(begin, chunk.start_utc), end_utc=chunk.end_utc)
            if part.start_utc < part.end_utc:
                due.setdefault(part, []).append(workspace)
        for window, workspaces in due.items():
            read(run, workspaces, window)
    run.progress(stage, len(chunks), len(chunks))
    return start


def _node_logs(run: _Collection) -> dict[str, NodeLog]:
    """Return the log of each workspace that has clusters, read once for all that is missing."""
    homes = {cluster.workspace_id for cluster in run.inventory.of_kind(Kind.CLUSTER)}
    asked = [workspace for workspace in run.workspaces if workspace.resource_id in homes]
    run.progress("node states", 0, None)

    def read(workspace: Resource) -> NodeLog:
        begin = _missing(run, NODE_MINUTES, workspace.resource_id)
        window = Window(start_utc=begin, end_utc=run.window.end_utc)
        return read_node_log(run.connection, workspace, window)

    logs = run.connection.map(read, asked)
    return {workspace.resource_id: log for workspace, log in zip(asked, logs, strict=True)}


def _node_minutes(
    logs: Mapping[str, NodeLog], run: _Collection, workspaces: Sequence[Resource], window: Window
) -> None:
    def read(workspace: Resource) -> pd.DataFrame | None:
        clusters = run.computes_of([workspace], Kind.CLUSTER)
        log = logs.get(workspace.resource_id, NodeLog(steps={}))
        found = run.tolerated(
            lambda: collect_node_minutes(run.connection, workspace, clusters, window, log),
            workspace.resource_id,
        )
        if found is None:
            return None
        run.problems.extend(found[1])
        return found[0]

    frames = run.connection.map(read, workspaces)
    rows, coverage = _together(workspaces, frames, window)
    if len(rows):
        found = run.tolerated(
            lambda: list(
                node_disagreements(
                    run.connection,
                    workspaces,
                    run.computes_of(workspaces, Kind.CLUSTER),
                    rows[rows["source"] == "log"].reset_index(drop=True),
                    window,
                )
            ),
            "Azure Monitor",
        )
        run.problems.extend(found or ())
    run.write(NODE_MINUTES, rows, coverage)


def _samples(run: _Collection, workspaces: Sequence[Resource], window: Window) -> None:
    computes = [
        *run.computes_of(workspaces, Kind.CLUSTER, Kind.INSTANCE),
        *run.deployments_of(workspaces),
    ]
    rows, refused = collect_samples(run.connection, computes, window, run.analysis)
    run.problems.extend(problem_of(scope, error) for scope, error in refused.items())
    read = [w.resource_id for w in workspaces if w.resource_id not in refused]
    run.write(SAMPLES, rows, Coverage(scopes=read, window=window))


def _requests(run: _Collection, workspaces: Sequence[Resource], window: Window) -> None:
    rows, refused = collect_requests(
        run.connection,
        run.deployments_of(workspaces),
        window,
        silence_is_none=run.analysis.silent_deployments_are_idle,
    )
    run.problems.extend(problem_of(scope, error) for scope, error in refused.items())
    read = [w.resource_id for w in workspaces if w.resource_id not in refused]
    run.write(REQUESTS, rows, Coverage(scopes=read, window=window))


def _partials(run: _Collection, start: datetime) -> None:
    """Build anew what rests on days whose samples were read, or that have none yet."""
    read = set(days_of(Window(start_utc=start, end_utc=run.window.end_utc)))
    built = set(run.lake.days(NODE_DAYS)) & set(run.lake.days(INTERVALS))
    stale: list[date] = [day for day in run.lake.days(SAMPLES) if day in read or day not in built]
    run.progress("partials", 0, len(stale))
    refresh_partials(run.lake, stale)
    run.progress("partials", len(stale), len(stale))


def _events(run: _Collection) -> None:
    run.progress("events", 0, len(run.inventory.subscriptions))
    for done, subscription in enumerate(run.inventory.subscriptions):
        scope = f"/subscriptions/{subscription}"
        begin = _missing(run, INSTANCE_EVENTS, scope)
        window = Window(start_utc=begin, end_utc=run.window.end_utc)
        instances = [
            i
            for i in run.inventory.of_kind(Kind.INSTANCE)
            if subscription_of(i.resource_id) == subscription
        ]
        rows = run.tolerated(
            partial(collect_instance_events, run.connection, subscription, instances, window),
            scope,
        )
        if rows is not None:
            run.write(INSTANCE_EVENTS, rows, Coverage(scopes=[scope], window=window))
        run.progress("events", done + 1, len(run.inventory.subscriptions))
    columns = ["resource_id", "start_utc", "end_utc"]
    run.problems.extend(
        instance_disagreements(
            run.inventory.of_kind(Kind.INSTANCE),
            run.lake.read(INSTANCE_EVENTS, run.window),
            run.lake.read(INTERVALS, run.window, columns),
            run.window,
        )
    )


def _jobs(run: _Collection) -> None:
    known = run.lake.read(JOBS, columns=["job_id", "status"])

    def read(workspace: Resource) -> pd.DataFrame | None:
        over, open_ = over_and_open(known, workspace.resource_id)
        since = _missing(run, JOBS, workspace.resource_id)
        if since == run.window.start_utc:
            since -= LONG_JOB
        return run.tolerated(
            lambda: collect_jobs(
                run.connection, workspace, since_utc=since, over=over, open_=open_
            ),
            workspace.resource_id,
        )

    run.progress("jobs", 0, len(run.workspaces))
    frames = run.connection.map(read, run.workspaces)
    run.write(JOBS, *_together(run.workspaces, frames, run.window))
    run.progress("jobs", len(frames), len(frames))


def _runs(run: _Collection) -> None:
    """Runs by node since the last collection, and from the oldest on that was still going then.

    A workspace that sends no log of its jobs is not asked: its runs stay unknown.
    """
    known = run.lake.read(RUNS, columns=["resource_id", "started_utc", "state"])
    clusters = {w.resource_id: run.computes_of([w], Kind.CLUSTER) for w in run.workspaces}
    asked = [
        w for w in run.workspaces if clusters[w.resource_id] and is_logged(w, RUN_LOG) is not False
    ]
    run.progress("runs", 0, len(asked))

    def since(workspace: Resource) -> datetime:
        missing = _missing(run, RUNS, workspace.resource_id)
        open_ = open_since(known, workspace.resource_id) or missing
        return max(run.window.start_utc, min(missing, open_))

    windows = {w.resource_id: replace(run.window, start_utc=since(w)) for w in asked}

    def read(workspace: Resource) -> pd.DataFrame | None:
        of, window = workspace.resource_id, windows[workspace.resource_id]
        return run.tolerated(
            lambda: collect_runs(run.connection, workspace, clusters[of], window), of
        )

    frames = dict(zip((w.resource_id for w in asked), run.connection.map(read, asked), strict=True))
    for window in dict.fromkeys(windows.values()):  # each file is written once, not once for each
        alike = [w for w in asked if windows[w.resource_id] == window]
        run.write(RUNS, *_together(alike, [frames[w.resource_id] for w in alike], window))
    run.progress("runs", len(asked), len(asked))


def _costs(run: _Collection) -> None:
    """Costs since the last collection, and again those that Azure may have corrected since."""
    lag = timedelta(hours=run.analysis.billing_lag_hours, days=RESTATED_DAYS)
    unsettled = start_of((run.window.end_utc - lag).date())
    subscriptions = run.inventory.subscriptions
    for done, subscription in enumerate(subscriptions):
        run.progress("costs", done, len(subscriptions))
        scope = f"/subscriptions/{subscription}"
        missing = run.lake.missing_from(COSTS, scope, run.window)
        begin = max(run.window.start_utc, min(unsettled, start_of(missing.date())))
        window = Window(start_utc=begin, end_utc=run.window.end_utc)
        computes = [
            c
            for c in run.inventory.of_kind(Kind.CLUSTER, Kind.INSTANCE)
            if subscription_of(c.resource_id) == subscription
        ]
        deployments = [
            d
            for d in run.deployments_of(run.workspaces)
            if subscription_of(d.resource_id) == subscription
        ]
        found = run.tolerated(
            partial(collect_costs, run.connection, subscription, computes, window, deployments),
            scope,
        )
        if found is not None:
            run.problems.extend(found[1])
            run.write(COSTS, found[0], Coverage(scopes=[scope], window=window))
    run.progress("costs", len(subscriptions), len(subscriptions))


def _prices(run: _Collection) -> None:
    """The price list of every size in use, unless it was read within a day."""
    run.progress("prices", 0, None)
    currency = billing_currency(run.lake.read(COSTS, run.window, ["currency"]))
    known = run.lake.read(PRICES, columns=["region", "sku", "currency", "as_of"])
    known = known[known["currency"] == currency]
    fresh = known[known["as_of"] > pd.Timestamp(run.window.end_utc - PRICES_KEEP)]
    in_use = {(r.region, r.sku) for r in run.inventory.resources if r.sku is not None}
    try:
        rows, problems = collect_prices(
            run.connection,
            without(in_use, fresh),
            currency=currency,
            now_utc=run.window.end_utc,
        )
    except AzureError as error:  # nobody signs in there, so a refusal says nothing of the rest
        run.problems.append(unread(error, without(in_use, known), currency))
    else:
        run.problems.extend(problems)
        run.write(PRICES, rows)


def _commitments(run: _Collection) -> None:
    """What the billing account committed to, where one is named: Azure lists it nowhere else."""
    account = run.connection.access.settings.billing_account
    if account is None:
        return
    run.progress("commitments", 0, None)
    rows = run.tolerated(
        lambda: collect_commitments(run.connection, account, run.window),
        f"billing account {account}",
    )
    if rows is not None:
        run.write(COMMITMENTS, rows)


def _together(
    workspaces: Sequence[Resource], frames: Sequence[pd.DataFrame | None], window: Window
) -> tuple[pd.DataFrame, Coverage]:
    """Return the rows of all workspaces that could be read, and that they could be."""
    read = [w.resource_id for w, frame in zip(workspaces, frames, strict=True) if frame is not None]
    filled = [frame for frame in frames if frame is not None and len(frame)]
    rows = pd.concat(filled) if filled else pd.DataFrame()
    return rows, Coverage(scopes=read, window=window)


def _missing(run: _Collection, table: Table, scope: str) -> datetime:
    """Return from when on a scope has to be read: what is missing, and what was told late."""
    missing = run.lake.missing_from(table, scope, run.window)
    return max(run.window.start_utc, missing - LATE)


def _chunks(window: Window, days: int) -> Iterator[Window]:
    """Yield a window in pieces of whole UTC days; its two ends may be parts of a day."""
    begin = window.start_utc
    while begin < window.end_utc:
        end = min(start_of(begin.date()) + timedelta(days=days), window.end_utc)
        yield Window(start_utc=begin, end_utc=end)
        begin = end
