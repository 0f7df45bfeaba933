"""One collection: find out what is missing in the lake, and fetch that.

Every table is written as it comes, with a note of what it covers, so that an interrupted collection
goes on where it stopped. The inventory is written last: it is what tells the analysis that a
collection is complete, and up to when.
"""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date, datetime, timedelta
from functools import partial
from itertools import count
from threading import Lock
from typing import TypeVar

import pandas as pd
import pyarrow as pa

from optimizer.azure.connect import Connection
from optimizer.collectors.agreement import (
    instance_disagreements,
    node_disagreements,
    node_hours,
)
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
from optimizer.collectors.logs import Wanted, WorkspaceLog, read_logs
from optimizer.collectors.nodes import NodeLog, collect_node_minutes
from optimizer.collectors.prices import billing_currency, collect_prices, unread, without
from optimizer.collectors.problems import problem_of
from optimizer.collectors.requests import collect_requests
from optimizer.collectors.runs import TABLE as RUN_LOG
from optimizer.collectors.runs import open_since
from optimizer.collectors.samples import Expected, batches, collect_samples
from optimizer.collectors.workspaces import is_logged
from optimizer.config import AnalysisSettings
from optimizer.errors import AzureError, UnauthorizedError, UnreachableError
from optimizer.model import Kind, Problem, Resource, Window
from optimizer.store.lake import Coverage, Lake, start_of
from optimizer.store.partials import built_days, refresh_partials
from optimizer.store.tables import (
    COMMITMENTS,
    COSTS,
    INSTANCE_EVENTS,
    INTERVALS,
    JOBS,
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
    counting: Lock = field(default_factory=Lock)

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
        self._count(table, self.lake.write(table, frame, coverage=coverage))

    def set_aside(
        self, table: Table, frame: pd.DataFrame | pa.Table, coverage: Coverage | None = None
    ) -> None:
        """Keep rows until all places have been read; threads may."""
        self._count(table, self.lake.set_aside(table, frame, coverage=coverage))

    def _count(self, table: Table, written: int) -> None:
        with self.counting:
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
        _events(run)
        _activity(run)
        _agreement(run)
        _jobs(run)
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
    """Node minutes and samples, some workspaces of one subscription and region at a time."""
    stale = set(_settled(run))
    logs = {of: log.nodes for of, log in _logs(run).items()}
    places = _places(run, NODE_MINUTES)
    try:
        nodes: dict[str, float] = {}
        for done, place in enumerate(places):
            run.progress("node states", done, len(places))
            nodes |= _node_minutes(run, place, logs)
        run.progress("node states", len(places), len(places))
        if run.deployments_of(run.workspaces):
            _by_place(run, "requests", REQUESTS, _requests)
        expected = Expected(nodes=nodes | _at_rest(run), devices=_devices(run))
        _by_place(run, "use", SAMPLES, partial(_samples, expected))
    finally:  # what came before an interruption need not come again
        stale |= set(_settled(run))
    _partials(run, stale)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Place:
    """Workspaces of one subscription and region that lack a table for the same time."""

    workspaces: Sequence[Resource]
    window: Window


def _places(run: _Collection, table: Table) -> list[_Place]:
    due: dict[Window, list[Resource]] = {}
    for workspace in run.workspaces:
        window = replace(run.window, start_utc=_begin(run, table, workspace))
        due.setdefault(window, []).append(workspace)
    return [
        _Place(workspaces=some, window=window)
        for window, workspaces in due.items()
        for some in batches(workspaces)
    ]


def _begin(run: _Collection, table: Table, workspace: Resource) -> datetime:
    """Return from when on a table is read: a full hour, the coarsest grain there is."""
    missing = _missing(run, table, workspace.resource_id)
    return max(missing.replace(minute=0, second=0, microsecond=0), run.window.start_utc)


def _by_place(
    run: _Collection, stage: str, table: Table, read: Callable[[_Collection, _Place], None]
) -> None:
    places = _places(run, table)
    done = count(1)
    run.progress(stage, 0, len(places))

    def one(place: _Place) -> None:
        read(run, place)
        run.progress(stage, next(done), len(places))

    run.connection.map(one, places)


def _settled(run: _Collection) -> list[date]:
    """Lay what was set aside over the days of the lake; return those whose samples changed."""
    for table in (NODE_MINUTES, REQUESTS):
        run.lake.settle(table)
    return run.lake.settle(SAMPLES)


def _logs(run: _Collection) -> dict[str, WorkspaceLog]:
    """Return the logs of each workspace that has clusters, for all that is missing.

    Runs are read since the last collection, and from the oldest on that was still going then. A
    workspace that sends no log of its jobs is not asked for them: its runs stay unknown.
    """
    known = run.lake.read(RUNS, columns=["resource_id", "started_utc", "state"])
    run.progress("logs", 0, None)
    wanted = [
        Wanted(
            workspace=workspace,
            clusters=clusters,
            nodes_since_utc=_begin(run, NODE_MINUTES, workspace),
            runs_since_utc=_runs_since(run, known, workspace)
            if is_logged(workspace, RUN_LOG) is not False
            else None,
        )
        for workspace in run.workspaces
        if (clusters := run.computes_of([workspace], Kind.CLUSTER))
    ]
    logs = read_logs(run.connection, wanted, run.window.end_utc)
    windows: dict[Window, dict[str, pd.DataFrame]] = {}
    for each in wanted:
        of = each.workspace.resource_id
        if each.runs_since_utc is not None:
            if isinstance(runs := logs[of].runs, AzureError):
                run.problems.append(problem_of(of, runs))
            else:
                window = replace(run.window, start_utc=each.runs_since_utc)
                windows.setdefault(window, {})[of] = runs
    for window, found in windows.items():  # each file is written once, not once for each
        rows = pd.concat([f for f in found.values() if len(f)] or [pd.DataFrame()])
        run.write(RUNS, rows, Coverage(scopes=list(found), window=window))
    return logs


def _runs_since(run: _Collection, known: pd.DataFrame, workspace: Resource) -> datetime:
    missing = _missing(run, RUNS, workspace.resource_id)
    open_ = open_since(known, workspace.resource_id) or missing
    return max(run.window.start_utc, min(missing, open_))


def _node_minutes(run: _Collection, place: _Place, logs: Mapping[str, NodeLog]) -> dict[str, float]:
    """Read a place's node minutes; return how many nodes a cluster has had at work on a day."""
    clusters = run.computes_of(place.workspaces, Kind.CLUSTER)
    peaks, hours = [], []
    for part in _parts(place.window, len(clusters) * MINUTES_PER_DAY):
        rows, problems, unread = collect_node_minutes(
            run.connection, place.workspaces, clusters, part, logs
        )
        run.problems.extend(problems)
        read = [w.resource_id for w in place.workspaces if w.resource_id not in unread]
        run.set_aside(NODE_MINUTES, rows, Coverage(scopes=read, window=part))
        if len(rows):
            day = rows["minute_utc"].dt.floor("D")
            peaks.append(rows.groupby(["resource_id", day])["active"].max())
            hours.append(node_hours(rows[rows["source"] == "log"], part))
    if not peaks:
        return {}
    found = run.tolerated(
        lambda: list(
            node_disagreements(
                run.connection, place.workspaces, clusters, pd.concat(hours), place.window
            )
        ),
        "Azure Monitor",
    )
    run.problems.extend(found or ())
    means = pd.concat(peaks).groupby("resource_id").mean()
    return {str(resource_id): float(nodes) for resource_id, nodes in means.items()}


def _at_rest(run: _Collection) -> dict[str, float]:
    """Return the instances that were off all the time, with the nodes they had: none."""
    events = set(run.lake.read(INSTANCE_EVENTS, run.window, ["resource_id"])["resource_id"])
    return {
        instance.resource_id: 0.0
        for instance in run.inventory.of_kind(Kind.INSTANCE)
        if (instance.state or "").lower() == "stopped" and instance.resource_id not in events
    }


def _devices(run: _Collection) -> dict[str, int]:
    """Return how many GPUs each size in use has."""
    sizes = [(w.settings.get("sizes") or {}).items() for w in run.workspaces]
    return {sku: size["gpus"] for some in sizes for sku, size in some if size.get("gpus")}


def _samples(expected: Expected, run: _Collection, place: _Place) -> None:
    computes = [
        *run.computes_of(place.workspaces, Kind.CLUSTER, Kind.INSTANCE),
        *run.deployments_of(place.workspaces),
    ]
    refused = collect_samples(
        run.connection,
        computes,
        place.window,
        run.analysis,
        partial(run.set_aside, SAMPLES),
        expected,
    )
    run.problems.extend(problem_of(scope, each.error) for scope, each in refused.items())
    read: dict[datetime, list[str]] = {}
    for workspace in (w.resource_id for w in place.workspaces):
        until = refused[workspace].since_utc if workspace in refused else place.window.end_utc
        read.setdefault(until, []).append(workspace)
    nothing = SAMPLES.schema.empty_table()
    for until, scopes in read.items():
        if until > place.window.start_utc:
            window = replace(place.window, end_utc=until)
            run.set_aside(SAMPLES, nothing, Coverage(scopes=scopes, window=window))


def _requests(run: _Collection, place: _Place) -> None:
    deployments = run.deployments_of(place.workspaces)
    for part in _parts(place.window, len(deployments) * MINUTES_PER_DAY):
        rows, refused = collect_requests(
            run.connection,
            deployments,
            part,
            silence_is_none=run.analysis.silent_deployments_are_idle,
        )
        run.problems.extend(problem_of(scope, error) for scope, error in refused.items())
        read = [w.resource_id for w in place.workspaces if w.resource_id not in refused]
        run.set_aside(REQUESTS, rows, Coverage(scopes=read, window=part))


def _parts(window: Window, rows_a_day: int) -> Iterator[Window]:
    """Yield a window in pieces of whole UTC days with a fair number of rows."""
    days = max(1, _ROWS_A_CHUNK // max(1, rows_a_day))
    begin = window.start_utc
    while begin < window.end_utc:
        end = min(start_of(begin.date()) + timedelta(days=days), window.end_utc)
        yield Window(start_utc=begin, end_utc=end)
        begin = end


def _partials(run: _Collection, changed: Collection[date]) -> None:
    """Build anew what rests on days whose samples changed, or that have none yet."""
    built = set(built_days(run.lake))
    stale = [day for day in run.lake.days(SAMPLES) if day in changed or day not in built]
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


def _agreement(run: _Collection) -> None:
    """Hold what the activity log says of instances against what was measured of them."""
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
