"""Tables in, the few arrays that a detector may see out. The only frame code outside the store.

Every series starts at `window.start_utc` and counts in whole seconds or minutes from there.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import date, datetime, timedelta
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from optimizer.analysis.serving import Demand, fitted_cpu
from optimizer.analysis.work import Runs, nodes_by_share
from optimizer.catalogue import ListPrice, PriceKey
from optimizer.model import (
    Attribution,
    ClusterSettings,
    InstanceSettings,
    Kind,
    Resource,
    Window,
)
from optimizer.units import MINUTES_PER_DAY

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

BRIDGED_MINUTES = 5
"""Unobserved minutes up to here take the larger of their two neighbours; longer ones are unknown,
and unknown minutes are replayed as they were, so that they never save anything."""

MIN_LATENCIES = 100
"""Minutes with requests and a latency, below which nothing is said of how long one takes."""

NODE_DAY_COLUMNS = ("resource_id", "day", "cpu_hour_sums", "cpu_minutes")
"""What is read of single machines on single days; all else of their use comes pooled."""

_SECOND = np.timedelta64(1, "s")
_FAILED = ("Failed", "Canceled")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Frames:
    """The tables of the lake that the analysis reads, cut to one window."""

    window: Window
    resources: pd.DataFrame
    node_minutes: pd.DataFrame
    node_days: pd.DataFrame
    uses: pd.DataFrame
    """Of each compute, by id; see `store.weeks.read_use`."""
    intervals: pd.DataFrame
    instance_events: pd.DataFrame
    jobs: pd.DataFrame
    requests: pd.DataFrame
    costs: pd.DataFrame
    prices: pd.DataFrame
    commitments: pd.DataFrame = field(default_factory=pd.DataFrame)
    """Empty where no billing account is named."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CostLine:
    """What one day cost, one component of one compute or of a workspace."""

    day: date
    workspace_id: str
    resource_id: str | None
    """None: the bill names only the workspace."""
    component: str
    cost: float
    """Effective cost where the source tells it, else billed cost."""
    list_cost: float | None
    contracted_cost: float | None
    hours: float | None
    """Of virtual machines; None for everything else and where the source does not say."""
    vm_size: str | None
    attribution: Attribution | None
    currency: str
    pricing_model: str | None
    """OnDemand, Spot, Reservation or SavingsPlan."""
    units: float | None = None
    """Of everything but virtual machines, as its meter counts; None where it is not told."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Benefit:
    """A commitment and its use, as Azure tells them."""

    benefit_id: str
    order_id: str | None
    sku: str | None
    """Of a reservation."""
    utilisation: float | None
    """Share of what was committed, mean of the days told; None: no day tells it."""
    by_day: Mapping[date, float] = field(default_factory=dict)
    """The share of each day that was told; none: only the mean is known."""

    @property
    def is_savings_plan(self) -> bool:
        """Whether it is a savings plan; else it is a reservation."""
        return "/savingsplan" in self.benefit_id.lower()


def benefits_of(table: pd.DataFrame) -> tuple[Benefit, ...]:
    """Return the commitments of the table `commitments`."""
    rows = table.astype(object).where(table.notna(), None).to_dict("records")
    return tuple(
        Benefit(
            benefit_id=row["id"],
            order_id=row["scope"],
            sku=row["sku"],
            utilisation=row["utilisation"],
            by_day={
                date.fromisoformat(day): share
                for day, share in json.loads(row.get("by_day") or "{}").items()
            },
        )
        for row in rows
    )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ClusterFeatures:
    """One cluster's activity: all that its detectors may know of it."""

    resource: Resource
    window: Window
    """The whole days that were observed."""
    policies: tuple[tuple[datetime, ClusterSettings], ...]
    """Settings since when, oldest first; the last are today's."""
    demand: Floats
    """Nodes at work in each minute; unknown minutes hold all nodes that were there."""
    unknown: Bools
    """Minutes that were not observed."""
    present: Floats
    """Nodes there in each minute, in whatever state; NaN = not observed."""
    preparing: Floats
    """NaN where the source does not tell it."""
    leaving: Floats
    preempted: Floats
    """Nodes that were being taken away; NaN where the source does not tell it."""
    on_at_start: int
    from_logs: bool
    """Node states come from the event log, not from sampled metrics."""
    jobs: int
    """Jobs that ended in the window."""
    runs: Runs
    """Of jobs that held nodes in the window; none where jobs could not be read."""

    @property
    def settings(self) -> ClusterSettings:
        """Today's settings."""
        return self.policies[-1][1]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Gaps:
    """An instance's pauses, one array entry each, in minutes from the window's start.

    A gap runs from the end of use to the next use, or to a stop by a person or a schedule. A stop
    that Azure's idle rule made does not end it: without that rule the instance had stayed on.
    """

    start: Ints
    minutes: Ints
    resumed: Bools
    """Use went on after the gap, so that a shutdown in it means a restart."""
    on_minutes: Ints
    """Minutes of the gap that the instance really ran."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class InstanceFeatures:
    """One compute instance's activity, minute by minute."""

    resource: Resource
    window: Window
    """The whole days that were observed."""
    policies: tuple[tuple[datetime, InstanceSettings], ...]
    on: Bools
    """Minutes that it really ran."""
    active: Bools
    """Minutes of use; minutes on of which nothing is known count as use."""
    gaps: Gaps
    unknown_hours: float
    idle_stops: int
    """Stops that Azure's idle rule made."""
    unknown: Bools | None = None
    """Minutes on of which nothing is known; None where the case was made by hand."""
    start_seconds: tuple[float, ...] = ()
    """How long each start took of which beginning and end were told."""

    @property
    def settings(self) -> InstanceSettings:
        """Today's settings."""
        return self.policies[-1][1]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class DeploymentFeatures:
    """One managed online deployment's activity, minute by minute."""

    resource: Resource
    window: Window
    """The whole days that were observed."""
    requests_per_minute: Floats
    """NaN where Azure told none: that may be silence or a gap."""
    latency_p95_ms: Floats
    instances: Floats
    """NaN where it was not told."""
    demand: Demand | None
    """What a request takes; None where nothing tells it."""

    @property
    def present(self) -> Floats:
        """Instances there in each minute."""
        return self.instances


def resources_of(frame: pd.DataFrame) -> dict[str, Resource]:
    """Return each resource that the last look at its workspace still saw, by id."""
    last_look = frame.groupby("workspace_id")["collected_at_utc"].transform("max")
    latest = frame[frame["collected_at_utc"] == last_look]
    return {str(row["resource_id"]): _resource(row) for row in latest.to_dict("records")}


def _resource(row: Mapping[Any, Any]) -> Resource:
    text = {key: None if _missing(value) else value for key, value in row.items()}
    created = text["created_utc"]
    return Resource(
        resource_id=str(text["resource_id"]),
        kind=Kind(str(text["kind"])),
        name=str(text["name"]),
        workspace_id=str(text["workspace_id"] or ""),
        region=str(text["region"] or ""),
        sku=_text(text["sku"]),
        vm_priority=_text(text["vm_priority"]),
        state=_text(text["state"]),
        created_utc=created.to_pydatetime() if isinstance(created, pd.Timestamp) else None,
        owner=_text(text["owner"]),
        tags=_json(text["tags"]),
        settings=_json(text["settings"]),
        arm=_json(text["arm"]),
    )


def _missing(value: object) -> bool:
    return (
        value is None
        or value is pd.NaT
        or value is pd.NA
        or (isinstance(value, float) and np.isnan(value))
    )


def _text(value: object) -> str | None:
    return None if value is None else str(value)


def _json(value: object) -> dict[str, Any]:
    parsed = json.loads(str(value)) if value else {}
    return parsed if isinstance(parsed, dict) else {}


def policies_of(
    frame: pd.DataFrame, window: Window
) -> dict[str, tuple[tuple[datetime, Mapping[str, object]], ...]]:
    """Return each resource's settings since when, oldest first, as the snapshots tell them.

    What stood before the first snapshot is taken to have stood since the window's start.
    """
    history: dict[str, list[tuple[datetime, Mapping[str, object]]]] = {}
    rows = frame.sort_values("collected_at_utc")[["resource_id", "collected_at_utc", "settings"]]
    for resource_id, at, text in rows.itertuples(index=False):
        seen = history.setdefault(resource_id, [])
        settings = _json(text)
        if not seen:
            seen.append((window.start_utc, settings))
        elif seen[-1][1] != settings:
            seen.append((at.to_pydatetime(), settings))
    return {resource_id: tuple(seen) for resource_id, seen in history.items()}


def whole_days(window: Window) -> Window | None:
    """Return the whole UTC days inside a window, or None where there is none."""
    start = _midnight(window.start_utc)
    if start < window.start_utc:
        start += timedelta(days=1)
    end = _midnight(window.end_utc)
    return Window(start_utc=start, end_utc=end) if end > start else None


def _midnight(moment: datetime) -> datetime:
    return moment.replace(hour=0, minute=0, second=0, microsecond=0)


def cluster_features(
    frames: Frames,
    resource: Resource,
    policies: Iterable[tuple[datetime, Mapping[str, object]]],
) -> ClusterFeatures | None:
    """Return a cluster's activity, or None where no node state of a whole day was observed."""
    rows = frames.node_minutes
    rows = rows[rows["resource_id"] == resource.resource_id]
    rows = rows[rows["active"].notna()]
    if rows.empty:
        return None
    seen = Window(
        start_utc=rows["minute_utc"].min().to_pydatetime(),
        end_utc=rows["minute_utc"].max().to_pydatetime() + timedelta(minutes=1),
    )
    window = whole_days(seen)
    if window is None:
        return None
    minutes = round(window.days * MINUTES_PER_DAY)
    at = _seconds_since(rows["minute_utc"], window) // 60
    inside = (at >= 0) & (at < minutes)

    def series(column: str) -> Floats:
        values = np.full(minutes, np.nan)
        values[at[inside]] = rows[column].to_numpy(dtype=np.float64, na_value=np.nan)[inside]
        return values

    states = ("active", "idle", "preparing", "leaving", "unusable", "preempted")
    active, idle, preparing, leaving, unusable, preempted = (series(state) for state in states)
    present = active + np.nan_to_num(idle) + np.nan_to_num(leaving) + np.nan_to_num(unusable)
    demand, unknown = _bridge(active, present)
    at_start = np.flatnonzero(~np.isnan(present))
    jobs = frames.jobs[frames.jobs["resource_id"] == resource.resource_id]
    ended = jobs[jobs["ended_utc"].notna()]
    return ClusterFeatures(
        resource=resource,
        window=window,
        policies=tuple((since, cluster_settings(values)) for since, values in policies),
        demand=demand,
        unknown=unknown,
        present=present + np.nan_to_num(preparing),
        preparing=preparing,
        leaving=leaving,
        preempted=preempted,
        on_at_start=round(float(present[at_start[0]])) if at_start.size else 0,
        from_logs=bool((rows["source"] == "log").all()),
        jobs=int(
            ended["ended_utc"]
            .between(pd.Timestamp(window.start_utc), pd.Timestamp(window.end_utc))
            .sum()
        ),
        runs=_runs_of(jobs, window, demand),
    )


def _runs_of(jobs: pd.DataFrame, window: Window, demand: Floats) -> Runs:
    """Return the runs of a cluster's jobs within a window; one that has not ended lasts to its end.

    A job that others name as their parent (a sweep, a pipeline) holds no nodes of its own.
    """
    own = jobs[jobs["started_utc"].notna() & ~jobs["job_id"].isin(jobs["parent_id"].dropna())]
    ended = own["ended_utc"].fillna(pd.Timestamp(window.end_utc))
    length = round(window.hours * 3600)
    start = np.clip(_seconds_since(own["started_utc"], window), 0, length)
    end = np.clip(_seconds_since(ended, window), 0, length)
    inside = end > start
    nodes = own["nodes"].to_numpy(dtype=np.float64, na_value=np.nan)
    return Runs(
        start=start[inside],
        end=end[inside],
        nodes=nodes_by_share(demand, start[inside], end[inside], nodes[inside]),
        experiment=_words(own["experiment"])[inside],
        kind=_words(own["kind"].where(~_trials(jobs, own), "sweep"))[inside],
        status=_words(own["status"])[inside],
        limit_minutes=own["time_limit_minutes"].to_numpy(dtype=np.float64, na_value=np.nan)[inside],
        unended_sweep=_words(_unended_sweeps(jobs, own))[inside],
    )


def _trials(jobs: pd.DataFrame, own: pd.DataFrame) -> "pd.Series[bool]":
    """Tell which runs are trials of a sweep that was read."""
    return own["parent_id"].isin(jobs.loc[jobs["kind"] == "sweep", "job_id"])


def _unended_sweeps(jobs: pd.DataFrame, own: pd.DataFrame) -> "pd.Series[str]":
    """Return the sweep of each run that has no early termination policy; null elsewhere.

    The sweep says whether it has one; a trial whose sweep was not read says it for itself.
    """
    sweeps = jobs[jobs["kind"] == "sweep"].set_index("job_id")["has_early_termination"]
    known = own["parent_id"].isin(sweeps.index)
    policy = own["parent_id"].map(sweeps).where(known, own["has_early_termination"])
    is_trial = known | (own["kind"] == "sweep")
    named: pd.Series[str] = own["parent_id"].fillna(own["job_id"])
    return named.where(is_trial & (policy == False))  # noqa: E712 - null is neither


def _words(column: "pd.Series[str]") -> npt.NDArray[np.str_]:
    return column.fillna("").to_numpy(dtype=np.str_)


def deployment_features(
    frames: Frames,
    resource: Resource,
    policies: Iterable[tuple[datetime, Mapping[str, object]]],  # noqa: ARG001 - none is replayed
) -> DeploymentFeatures | None:
    """Return a deployment's activity, or None where no number of instances was ever told."""
    rows = frames.requests
    rows = rows[rows["resource_id"] == resource.resource_id]
    told = rows[rows["instances"].notna()]
    if not resource.settings.get("managed") or told.empty:
        return None
    since = max(frames.window.start_utc, told["minute_utc"].min().to_pydatetime())
    window = whole_days(replace(frames.window, start_utc=since))
    if window is None:
        return None
    minutes = round(window.days * MINUTES_PER_DAY)
    at = _seconds_since(rows["minute_utc"], window) // 60
    inside = (at >= 0) & (at < minutes)

    def series(column: str) -> Floats:
        values = np.full(minutes, np.nan)
        values[at[inside]] = rows[column].to_numpy(dtype=np.float64, na_value=np.nan)[inside]
        return values

    asked, latency, instances = (
        series(name) for name in ("requests_per_minute", "latency_p95_ms", "instances")
    )
    asked = _bridge_short(asked)
    if not np.isnan(instances).all():
        instances = _without_dips(_bridge(instances, instances)[0])
    return DeploymentFeatures(
        resource=resource,
        window=window,
        requests_per_minute=asked,
        latency_p95_ms=latency,
        instances=instances,
        demand=_demand(frames, resource, window, asked, latency, instances),
    )


def _demand(
    frames: Frames,
    resource: Resource,
    window: Window,
    asked: Floats,
    latency: Floats,
    instances: Floats,
) -> Demand | None:
    """Return what a request takes: its time where load is low, its CPU by the hours' regression."""
    known = ~np.isnan(latency) & (np.nan_to_num(asked) > 0)
    if known.sum() < MIN_LATENCIES:
        return None
    # P95 where it is lowest: hardly anybody waits there, and it errs to the slow side.
    service = float(np.quantile(latency[known], 0.1)) / 1000
    rows = frames.node_days[frames.node_days["resource_id"] == resource.resource_id]
    hours = round(window.days) * 24
    sums, minutes = np.zeros(hours), np.zeros(hours)
    rows = rows[["day", "cpu_hour_sums", "cpu_minutes"]]
    for day, hour_sums, told in rows.dropna().itertuples(index=False):
        first = (day.date() - window.start_utc.date()).days * 24
        if not 0 <= first < hours:
            continue
        sums[first : first + 24] += np.asarray(hour_sums, dtype=np.float64) / 1000
        there = np.nan_to_num(instances)[first * 60 : (first + 24) * 60].reshape(24, 60).sum(axis=1)
        if there.sum():
            # A day tells its minutes as one sum: more of them where there were more instances.
            minutes[first : first + 24] += told * there / there.sum()
    per_instance = np.divide(asked, instances, out=np.full(asked.size, np.nan), where=instances > 0)
    with np.errstate(invalid="ignore"):
        by_hour = np.nanmean(np.nan_to_num(per_instance).reshape(-1, 60), axis=1)
        cpu = np.where(minutes > 0, sums / np.maximum(minutes, 1e-9), np.nan)
    fitted = fitted_cpu(cpu, by_hour)
    concurrency = resource.settings.get("max_concurrent_requests_per_instance")
    return Demand(
        service_seconds=service,
        servers_per_instance=int(concurrency or 1),
        cpu_at_rest=fitted[0] if fitted else None,
        cpu_per_request=fitted[1] if fitted else None,
    )


def _seconds_since(column: "pd.Series[pd.Timestamp]", window: Window) -> Ints:
    start = np.datetime64(window.start_utc.replace(tzinfo=None), "s")
    moments = column.dt.tz_convert("UTC").dt.tz_localize(None).to_numpy(dtype="datetime64[s]")
    seconds: Ints = (moments - start) // _SECOND
    return seconds


def cluster_settings(values: Mapping[str, object]) -> ClusterSettings:
    """Return the settings of `resources.settings` as numbers."""
    min_nodes, max_nodes, idle_seconds = (
        int(str(values[key])) for key in ("min_nodes", "max_nodes", "idle_seconds")
    )
    return ClusterSettings(min_nodes=min_nodes, max_nodes=max_nodes, idle_seconds=idle_seconds)


def instance_settings(values: Mapping[str, object]) -> InstanceSettings:
    """Return the settings of `resources.settings` as numbers."""
    minutes = values.get("idle_shutdown_minutes")
    return InstanceSettings(idle_shutdown_minutes=None if minutes is None else int(str(minutes)))


def _bridge(active: Floats, present: Floats) -> tuple[Floats, Bools]:
    """Fill unobserved minutes; return the series and which minutes stay unknown."""
    unknown = np.isnan(active)
    if not unknown.any():
        return active, unknown
    filled = active.copy()
    long = unknown.copy()
    for begin, end in zip(*_runs(unknown), strict=True):
        before, after = begin - 1, end if end < active.size else begin - 1
        if end - begin <= BRIDGED_MINUTES and before >= 0:
            filled[begin:end] = max(active[before], active[after])
            long[begin:end] = False
        else:
            sides = [present[i] for i in (before, after) if 0 <= i < active.size]
            filled[begin:end] = np.ceil(max(sides, default=0.0))
    return filled, long


def _bridge_short(values: Floats) -> Floats:
    """Fill unobserved minutes as `_bridge` does; longer stretches of them stay unobserved."""
    if np.isnan(values).all():
        return values
    filled, unknown = _bridge(values, values)
    return np.where(unknown, np.nan, filled)


def _without_dips(counts: Floats) -> Floats:
    """Fill dips of a count of machines that are too short to be real, up to their lower side.

    Each instance tells of itself, so one sample that got lost looks like one instance less; none
    goes and is there again within minutes.
    """
    from scipy.ndimage import grey_closing  # noqa: PLC0415 - a tenth of a second of import

    filled: Floats = grey_closing(counts, size=(BRIDGED_MINUTES + 1,), mode="nearest")
    return filled


def instance_features(
    frames: Frames,
    resource: Resource,
    policies: Iterable[tuple[datetime, Mapping[str, object]]],
) -> InstanceFeatures | None:
    """Return an instance's activity, or None where it ran but no use of it was observed."""
    since = max(frames.window.start_utc, resource.created_utc or frames.window.start_utc)
    window = whole_days(replace(frames.window, start_utc=since))
    if window is None:
        return None
    minutes = round(window.days * MINUTES_PER_DAY)
    events = frames.instance_events
    events = events[events["resource_id"] == resource.resource_id].sort_values("at_utc")
    spans = _on_spans(events, resource, window)
    on, kept_on = np.zeros(minutes, np.bool_), np.zeros(minutes, np.bool_)
    for span, following in zip(spans, [*spans, None][1:], strict=True):
        on[span.start : span.end] = True
        stays = span.stopped_by == "IdleShutdown"
        until = (following.start if following else minutes) if stays else span.end
        kept_on[span.start : until] = True

    rows = frames.intervals
    rows = rows[rows["resource_id"] == resource.resource_id]
    if on.any() and rows.empty:
        return None
    start = np.clip(_seconds_since(rows["start_utc"], window) // 60, 0, minutes)
    end = np.clip(_seconds_since(rows["end_utc"], window) // 60, 0, minutes)
    busy = rows["busy"].to_numpy(dtype=bool)
    use = np.full(minutes, np.nan)
    use[_filled(minutes, start[~busy], end[~busy])] = 0.0
    use[_filled(minutes, start[busy], end[busy])] = 1.0
    use[~on] = 0.0
    # A day ends what is known of it: a sample lost at midnight is bridged here.
    use = _bridge_short(use)
    known = ~np.isnan(use)
    active = on & (np.nan_to_num(use, nan=1.0) > 0)

    return InstanceFeatures(
        resource=resource,
        window=window,
        policies=tuple((at, instance_settings(values)) for at, values in policies),
        on=on,
        active=active,
        gaps=cut_into_gaps(on=on, active=active, kept_on=kept_on),
        unknown_hours=int((on & ~known).sum()) / 60,
        unknown=on & ~known,
        idle_stops=sum(span.stopped_by == "IdleShutdown" for span in spans),
        start_seconds=_start_seconds(events),
    )


def cut_into_gaps(*, on: Bools, active: Bools, kept_on: Bools) -> Gaps:
    """Return the gaps of an instance from its minutes.

    Args:
        on: it really ran.
        active: it was used; never outside `on`.
        kept_on: it ran, or would have but for Azure's idle rule.
    """
    start, end = _runs(kept_on & ~active)
    on_before = np.concatenate(([0], on.cumsum()))
    return Gaps(
        start=start,
        minutes=end - start,
        resumed=np.append(active, False)[end],
        on_minutes=on_before[end] - on_before[start],
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Span:
    """One stretch of being on, in minutes from the window's start."""

    start: int
    end: int
    stopped_by: str | None
    """User, Schedule or IdleShutdown; None: on when the window ended."""


def _on_spans(events: pd.DataFrame, resource: Resource, window: Window) -> list[_Span]:
    """Return when the instance was on, from its start and stop events and its state today."""
    length = round(window.days * MINUTES_PER_DAY)
    came_to_nothing = _is_begun(events) & _next_of_its_kind(events)["status"].isin(_FAILED)
    moves = events[
        events["operation"].isin(["Create", "Start", "Stop"])
        & ~events["status"].isin(_FAILED)
        & ~came_to_nothing
    ]
    if moves.empty:
        on = (resource.state or "").lower() in {"running", "jobrunning"}
        return [_Span(start=0, end=length, stopped_by=None)] if on else []
    at = np.clip(np.rint(_seconds_since(moves["at_utc"], window) / 60), 0, length).astype(int)
    spans: list[_Span] = []
    since: int | None = 0 if moves["operation"].iloc[0] == "Stop" else None
    for moment, operation, trigger in zip(
        at.tolist(), moves["operation"], moves["trigger"], strict=True
    ):
        if operation != "Stop":
            since = moment if since is None else since
        elif since is not None:
            spans.append(_Span(start=since, end=moment, stopped_by=_text(trigger) or "User"))
            since = None
    if since is not None:
        spans.append(_Span(start=since, end=length, stopped_by=None))
    return [span for span in spans if span.end > span.start]


def _start_seconds(events: pd.DataFrame) -> tuple[float, ...]:
    """Return how long each start took, from its beginning to its end in the activity log."""
    ends = _next_of_its_kind(events)
    over = ends["status"].notna() & ~ends["status"].isin(_FAILED) & ~_is_begun(ends)
    took = (ends["at_utc"] - events["at_utc"])[_is_begun(events) & over]
    return tuple(took.dt.total_seconds().tolist())


def _is_begun(events: pd.DataFrame) -> "pd.Series[bool]":
    """Tell which events are the beginning of an operation; all others are its end."""
    begun: pd.Series[bool] = events["status"].str.lower() == "started"
    return begun.fillna(value=False).astype(bool)


def _next_of_its_kind(events: pd.DataFrame) -> pd.DataFrame:
    """Return for each event the next one of the same operation, in the same row."""
    return events.groupby("operation")[["at_utc", "status"]].shift(-1)


def _filled(size: int, start: Ints, end: Ints) -> Bools:
    """Return which places lie in one of the stretches."""
    steps = np.zeros(size + 1, dtype=np.int64)
    np.add.at(steps, start, 1)
    np.add.at(steps, end, -1)
    inside: Bools = steps[:-1].cumsum() > 0
    return inside


def _runs(flags: Bools) -> tuple[Ints, Ints]:
    """Return start and end of each unbroken run of True."""
    edges = np.flatnonzero(np.diff(np.concatenate(([0], flags.astype(np.int8), [0]))))
    return edges[::2], edges[1::2]


def cost_lines(frame: pd.DataFrame) -> list[CostLine]:
    """Return the costs of the lake as plain lines, day by day."""
    return [_cost_line(row) for row in frame.to_dict("records")]


def _cost_line(row: Mapping[Any, Any]) -> CostLine:
    value: dict[str, Any] = {key: None if _missing(cell) else cell for key, cell in row.items()}
    cost = value["billed_cost"] if value["effective_cost"] is None else value["effective_cost"]
    named = value["attribution"] is not None
    return CostLine(
        day=value["charge_date"].date(),
        workspace_id=str(value["workspace_id"]),
        resource_id=str(value["resource_id"]) if named else None,
        component=str(value["component"]),
        cost=float(cost or 0.0),
        list_cost=value["list_cost"],
        contracted_cost=value["contracted_cost"],
        hours=value["quantity"] if value["component"] == "vm" else None,
        vm_size=_text(value["vm_size"]),
        attribution=Attribution(value["attribution"]) if named else None,
        currency=str(value["currency"]),
        pricing_model=_text(value["pricing_model"]),
        units=value["quantity"] if value["component"] != "vm" else None,
    )


def list_prices(frame: pd.DataFrame, currency: str) -> dict[PriceKey, ListPrice]:
    """Return the list prices in a currency; of a size spelled in two ways, the later ones."""
    rows = frame[(frame["currency"] == currency) & frame["price_per_hour"].notna()]
    return {
        (str(row["region"]), str(row["sku"]).lower(), str(row["offer"]), str(row["term"])): (
            ListPrice(per_hour=float(row["price_per_hour"]), as_of=row["as_of"].date())
        )
        for row in rows.fillna({"term": ""}).sort_values("as_of").to_dict("records")
    }
