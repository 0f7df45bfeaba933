"""A training cluster: what any scaling policy, machine or priority would have cost it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Literal, TypeAlias

import numpy as np

from optimizer.analysis import preemption
from optimizer.analysis.case import (
    SECONDS_PER_DAY,
    SERIES_STEP_SECONDS,
    Assumptions,
    CannotAssessError,
    Case,
    Saving,
)
from optimizer.analysis.confidence import Floats
from optimizer.analysis.features import ClusterFeatures
from optimizer.analysis.preemption import EvictionRate
from optimizer.analysis.rates import Rate, Rates
from optimizer.analysis.replay import (
    Ints,
    Levels,
    Outcome,
    Physics,
    cut_into_levels,
    paid_by,
    replay,
    sweep,
)
from optimizer.analysis.result import Series
from optimizer.analysis.sizing import SAME, Stretch, stretch
from optimizer.analysis.starting import Starts, pace, starts_of
from optimizer.analysis.use import Use
from optimizer.analysis.waiting import cold_starts, jobs_at, together_at
from optimizer.analysis.work import Runs, reshaped, spells
from optimizer.catalogue import Size
from optimizer.errors import PriceNotFoundError
from optimizer.model import ClusterSettings, Effects, Resource, Window
from optimizer.units import SECONDS_PER_HOUR

IDLE_MINUTES_GRID = (0, 1, 2, 5, 10, 15, 20, 30, 45, 60, 90, 120)
"""Idle times that are ever proposed (methods §1.5)."""

MIN_GAPS = 20
"""Below it, the idle time is set by rule and not by data (methods §1.5)."""

MANY_GAPS = 185
"""From here on the costs of all idle times are known within a tenth of τ + β (methods §1.2)."""

DEFAULT_START_SECONDS = 360.0
"""Billed node time of a cold start nobody has seen here yet (methods §1.5)."""

DEFAULT_LEAVING_SECONDS = 0.0
"""Nothing is documented, so nothing is assumed until leaving nodes were seen."""

PRIOR_STARTS = 5.0
"""How many cold starts a day the default weighs as much as when the bill is asked."""

MIN_SEEN = 3
"""Cold starts or releases from which on their mean length is believed."""


_End: TypeAlias = Literal["best", "likely", "worst"]
"""How long work takes where it is not known: see `sizing.Stretch`."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ClusterCase(Case[ClusterSettings]):
    """A training cluster."""

    features: ClusterFeatures
    levels: Levels
    """Demand as it was."""
    physics: Physics
    rates: Rates | None = None
    """What other machines would cost; None where the case was made by hand."""
    use: Use | None = None
    """None: Azure told no use of its machines."""
    offered: Mapping[str, bool | None] | None = None
    """Sizes that Azure offers here, and whether as low priority too; None: not known."""
    evictions: EvictionRate = field(default_factory=EvictionRate)
    """Of low-priority nodes of this estate."""
    estate_starts: Starts | None = None
    """Of all clusters of the estate; None: its own are all there are."""
    _cut: dict[tuple[ClusterSettings, _End], Levels] = field(
        init=False, repr=False, default_factory=dict
    )
    """Demand under other machines, priorities and limits, once it was worked out."""

    @property
    def resource(self) -> Resource:
        """The cluster."""
        return self.features.resource

    @property
    def window(self) -> Window:
        """The whole days that were seen."""
        return self.features.window

    @property
    def settings(self) -> ClusterSettings:
        """Today's policy."""
        return self.features.settings

    @property
    def samples(self) -> int:
        """Idle gaps."""
        return int((self.levels.warm & self.levels.closed).sum())

    @property
    def from_logs(self) -> bool:
        """Node states come from the event log."""
        return self.features.from_logs

    @property
    def unknown_hours(self) -> float:
        """Hours of which nothing is known."""
        return float(self.features.unknown.sum()) / 60

    @property
    def used_minutes(self) -> int:
        """Minutes from the window's start to the end of the last work; 0: there was none."""
        busy = np.flatnonzero(self.features.demand)
        return int(busy[-1]) + 1 if busy.size else 0

    def stretch(self, settings: ClusterSettings) -> Stretch:
        """Return how many times as long runs take under `settings` as they took.

        Raises:
            CannotAssessError: what the work needs, or what a size has, is not known.
        """
        evicted = self._evicted(settings)
        resized = self._resized(settings)
        return Stretch(
            best=evicted.best * resized.best / settings.spread,
            likely=evicted.likely * resized.likely / settings.spread,
            worst=evicted.worst * resized.worst / settings.spread,
        )

    def _evicted(self, settings: ClusterSettings) -> Stretch:
        """Return how much longer runs take on nodes that may be taken away (methods §4)."""
        if settings.vm_priority != "low_priority" or self.resource.vm_priority == "low_priority":
            return SAME
        runs = self.runs
        hours, nodes = runs.seconds / SECONDS_PER_HOUR, runs.nodes.astype(np.float64)
        rates = (self.evictions.quantile(0.05), self.evictions.mean, self.evictions.quantile(0.95))
        best, likely, worst = (
            preemption.stretch(
                hours, nodes, rate, restart=self.physics.wait_seconds / SECONDS_PER_HOUR
            )
            for rate in rates
        )
        return Stretch(best=best, likely=likely, worst=worst)

    @property
    def runs(self) -> Runs:
        """Its runs; where no job is known, each busy spell of a level stands for one."""
        return self.features.runs if self.features.runs.start.size else spells(self.levels)

    def _resized(self, settings: ClusterSettings) -> Stretch:
        """Return how much longer runs take on machines of another size."""
        sku = self.resource.sku or ""
        if settings.sku in {None, sku}:
            return SAME
        now, then = (self.size(name) for name in (sku, settings.sku or ""))
        found = stretch(self.use, now, then) if self.use and now and then else None
        if found is None:
            raise CannotAssessError(
                f"How long its work would take on {settings.sku} is not known: Azure told no use "
                "of its CPUs."
            )
        return found

    def size(self, sku: str) -> Size | None:
        """Return what a size has; None where it is not known."""
        return self.rates.catalogue.size(sku) if self.rates else None

    def levels_under(self, settings: ClusterSettings, end: _End = "likely") -> Levels:
        """Return demand under `settings`: runs end later or earlier, none starts elsewhen."""
        work = ClusterSettings(
            min_nodes=0,
            max_nodes=0,
            idle_seconds=0,
            sku=settings.sku,
            vm_priority=settings.vm_priority,
            spread=settings.spread,
            time_limits=settings.time_limits,
        )
        factor: float = getattr(self.stretch(settings), end)
        if factor == 1.0 and settings.spread == 1 and not settings.time_limits:
            return self.levels
        if (work, end) not in self._cut:
            runs = self.runs
            seconds = runs.seconds * factor
            for experiment, minutes in settings.time_limits:
                mine = runs.experiment == experiment
                seconds[mine] = np.minimum(seconds[mine], minutes * 60)
            self._cut[work, end] = cut_into_levels(
                reshaped(self.features.demand, runs, seconds, runs.nodes * settings.spread),
                on_at_start=self.features.on_at_start,
            )
        return self._cut[work, end]

    def outcome(self, settings: ClusterSettings, end: _End = "likely") -> Outcome:
        """Return what `settings` would have paid for beside the work."""
        return replay(self.levels_under(settings, end), settings, self.physics)

    def hours(self, settings: ClusterSettings, step_seconds: int = SECONDS_PER_DAY) -> Floats:
        """Return the paid node-hours in each step of the window."""
        return self._hours(settings, step_seconds, "likely")

    def _hours(self, settings: ClusterSettings, step_seconds: int, end: _End) -> Floats:
        edges = np.arange(0, self.levels.seconds + 1, step_seconds)
        paid = paid_by(self.levels_under(settings, end), self.outcome(settings, end), edges)
        if settings.deleted:
            paid[self.after_use(step_seconds)] = 0.0
        return paid / SECONDS_PER_HOUR

    def as_was(self) -> Floats:
        """Return the node-hours of each day by replay of that day's settings; see below."""
        return replayed_as_was(self.levels, self.features.policies, self.window, self.physics)

    def rate_of(self, settings: ClusterSettings) -> Rate:
        """Return what a node-hour costs under `settings`.

        Raises:
            PriceNotFoundError: nobody knows it.
        """
        resource = self.resource
        sku = settings.sku or resource.sku or ""
        priority = settings.vm_priority or resource.vm_priority
        if (sku, priority) == (resource.sku or "", resource.vm_priority):
            return self.rate
        offer = "low_priority" if priority == "low_priority" else "payg"
        found = self.rates and self.rates.of_size(
            resource.region, sku, offer=offer, workspace_id=resource.workspace_id
        )
        if not found:
            raise PriceNotFoundError(
                f"No price of {sku} as {offer} in {resource.region} is known; "
                "`optimizer prices refresh` reads Azure's list again."
            )
        return found

    def saving(self, after: ClusterSettings, before: ClusterSettings | None = None) -> Saving:
        """Return what `after` saves against `before` (today's settings) on the days seen."""
        before = before or self.settings
        likely = self._cost(before) - self._cost(after)
        total = float(likely.sum())
        if total <= 0:
            return Saving(daily=likely)
        if after.deleted:
            return self.of_deleting(likely)
        if self.stretch(after) == self.stretch(before):
            return Saving(daily=likely)
        ends: tuple[_End, _End] = "worst", "best"
        low, high = (
            float((self._cost(before, end) - self._cost(after, end)).sum()) / total for end in ends
        )
        return Saving(daily=likely, low=min(1.0, low), high=max(1.0, high))

    def _cost(self, settings: ClusterSettings, end: _End = "likely") -> Floats:
        standing = np.where(settings.deleted & self.after_use(), 0.0, self.standing_per_day)
        hours = self._hours(settings, SECONDS_PER_DAY, end)
        return hours * self.rate_of(settings).per_hour * self.k + standing

    def effects(self, after: ClusterSettings, before: ClusterSettings) -> Effects:
        """Return what people and jobs feel of going from `before` to `after`."""
        evictions = self._evictions(after) - self._evictions(before)
        waited = self._waited_seconds(after) - self._waited_seconds(before)
        waited += evictions * (self.evictions.away_seconds + self.physics.wait_seconds)
        starts = self._cold_starts(after).size - self._cold_starts(before).size + evictions
        return Effects(
            extra_waiting_minutes_per_month=self.window.per_month(waited) / 60,
            extra_restarts_per_month=self.window.per_month(starts),
            runtime_stretch=self.stretch(after).likely / self.stretch(before).likely,
        )

    def _cold_starts(self, settings: ClusterSettings) -> Ints:
        """Return when nodes begin to work that had to be allocated, in seconds.

        Demand as it was holds the waiting that there was: what waits longer ends later, and so much
        shorter is the pause behind it.
        """
        return cold_starts(
            self.levels_under(settings),
            settings,
            was=None if self._scales_as_now(settings) else self.settings,
            runs=self.features.runs,
            wait_seconds=self.physics.wait_seconds,
        )

    def _scales_as_now(self, settings: ClusterSettings) -> bool:
        now = self.settings
        return (settings.min_nodes, settings.idle_seconds) == (now.min_nodes, now.idle_seconds)

    def _waited_seconds(self, settings: ClusterSettings) -> float:
        """Return how long jobs wait for cold starts, each of which takes as long as is usual."""
        cold = self._cold_starts(settings)
        jobs = jobs_at(cold, self.features.runs, spread=settings.spread)
        nodes = np.maximum(np.rint(together_at(cold) / jobs).astype(np.int64), 1)
        own = starts_of(self.features.preparing)
        waits = _waits(nodes, jobs, own, self.estate_starts or own)
        if waits is None:
            waits = np.full(jobs.size, self.physics.wait_seconds)
        return float((jobs * waits).sum())

    def _evictions(self, settings: ClusterSettings) -> float:
        """Return how many restarts by eviction are to be expected beside those there are."""
        if self._evicted(settings) == SAME:
            return 0.0
        return float(self.runs.node_hours.sum()) * self.evictions.mean

    def series(self, after: ClusterSettings) -> Series:
        """Return nodes needed, paid now and paid under `after` over time."""
        scale = SECONDS_PER_HOUR / SERIES_STEP_SECONDS
        needed = np.where(self.features.unknown, np.nan, self.features.demand)
        start = np.datetime64(self.window.start_utc.replace(tzinfo=None), "s")
        on_now = self.hours(self.settings, SERIES_STEP_SECONDS) * scale
        return Series(
            times_utc=start + np.arange(on_now.size) * np.timedelta64(SERIES_STEP_SECONDS, "s"),
            needed=needed.reshape(on_now.size, -1).mean(axis=1),
            on_now=on_now,
            on_changed=self.hours(after, SERIES_STEP_SECONDS) * scale,
        )

    def waiting_seconds(self, assumptions: Assumptions) -> float:
        """Return the node-seconds that one cold start's waiting is worth (methods §1.1)."""
        if self.rate.per_hour <= 0:
            return 0.0
        worth = assumptions.cluster_interactive_share * assumptions.waiting_value_per_hour
        return worth * self.physics.wait_seconds / self.rate.per_hour

    def best(self, assumptions: Assumptions, *, warm_nodes: int) -> ClusterSettings:
        """Return the cheapest policy, waiting included, that keeps `warm_nodes` nodes."""
        now = self.settings
        min_nodes, idle_seconds = best_policy(
            self.levels,
            self.physics,
            floors=range(min(warm_nodes, now.min_nodes), now.min_nodes + 1),
            waiting_seconds=self.waiting_seconds(assumptions),
        )
        return replace(now, min_nodes=min_nodes, idle_seconds=idle_seconds)


def best_policy(
    levels: Levels, physics: Physics, *, floors: Sequence[int], waiting_seconds: float = 0.0
) -> tuple[int, int]:
    """Return the minimum node count and the idle time in seconds that would have cost least.

    All pairs are compared at once. The idle time is kept near the worth of a cold start, so that a
    short history cannot mislead it: within half and twice it (methods §1.4), from `MANY_GAPS` on
    within a fifth and five times. Of equal ones that nearest to it, which is the safest whatever
    comes (methods §1.2), and the smaller minimum is taken.

    Args:
        levels: the demand.
        physics: what a cold start and a release cost.
        floors: minimum node counts to choose from.
        waiting_seconds: node-seconds that the waiting for one cold start is worth.
    """
    restart = physics.start_seconds + physics.leaving_seconds + waiting_seconds
    grid = [minutes * 60 for minutes in IDLE_MINUTES_GRID]
    gaps = int((levels.warm & levels.closed).sum())
    trust = 2 if gaps < MANY_GAPS else 5
    allowed = [idle for idle in grid if restart / trust <= idle <= restart * trust]
    if gaps < MIN_GAPS or not allowed:
        allowed = [next((idle for idle in grid if idle >= restart), grid[-1])]
    curve = sweep(levels, min_nodes=floors, idle_seconds=allowed, physics=physics)
    cost = curve.node_seconds(levels.busy_seconds, physics) + curve.starts * waiting_seconds
    cheapest = np.isclose(cost, cost.min(), rtol=1e-12)
    columns = np.flatnonzero(cheapest.any(axis=0))[::-1]
    column = int(columns[np.argmin(np.abs(curve.idle_seconds[columns] - restart))])
    row = int(np.flatnonzero(cheapest[:, column])[0])
    return int(curve.min_nodes[row]), int(curve.idle_seconds[column])


def replayed_as_was(
    levels: Levels,
    policies: Sequence[tuple[datetime, ClusterSettings]],
    window: Window,
    physics: Physics,
) -> Floats:
    """Return paid node-hours of each day under the settings of that day; NaN where they changed."""
    days = round(window.days)
    edges = np.arange(days + 1) * SECONDS_PER_DAY
    hours = np.full(days, np.nan)
    for (since, settings), until in zip(
        policies, [since for since, _ in policies[1:]] + [window.end_utc], strict=True
    ):
        first = -(-(since - window.start_utc) // timedelta(days=1))
        last = (until - window.start_utc) // timedelta(days=1)
        chosen = slice(max(0, first), max(0, last))
        outcome = replay(levels, settings, physics)
        hours[chosen] = (paid_by(levels, outcome, edges) / SECONDS_PER_HOUR)[chosen]
    return hours


def usual_start(clusters: Sequence[tuple[ClusterFeatures, Levels]]) -> float:
    """Return how many seconds a cold start takes on this estate; the default where none was seen.

    Azure allocates nodes of all clusters alike, so one that never started any is told by others.
    """
    preparing = starts = 0.0
    for features, levels in clusters:
        _, started = _released_and_started(features, levels)
        if started >= MIN_SEEN and not np.isnan(features.preparing).all():
            preparing += float(np.nansum(features.preparing)) * 60
            starts += started
    return preparing / starts if starts else DEFAULT_START_SECONDS


def fit_physics(
    features: ClusterFeatures,
    levels: Levels,
    billed_hours: Floats | None,
    *,
    usual_seconds: float = DEFAULT_START_SECONDS,
    usual: Starts | None = None,
) -> Physics:
    """Learn what starts and releases cost on this cluster, from its states and its bill.

    The billed time of a cold start is what the bill (else the nodes seen) holds beyond work and
    idling, per start, by least squares over days with a weak prior. It so includes whatever Azure
    bills of `preparing`, the idling of nodes that wait for the rest of their job's nodes, and of
    nodes that came when their job had found another one: the last grows with the idle time.

    Args:
        features: the cluster.
        levels: its demand, cut.
        billed_hours: billed node-hours of each day of the window, NaN where not billed yet; None
            where the bill does not tell them for this cluster.
        usual_seconds: what a cold start takes where this cluster shows too few.
        usual: the starts of all clusters of the estate; None: its own are all there are.
    """
    releases, starts = _released_and_started(features, levels)
    leaving_seconds = float(np.nansum(features.leaving)) * 60
    leaving = leaving_seconds / releases if releases >= MIN_SEEN else DEFAULT_LEAVING_SECONDS
    unfit = Physics(start_seconds=0.0, leaving_seconds=leaving, wait_seconds=0.0)
    seen = billed_hours if billed_hours is not None else _seen_hours(features)
    extra = _extra_per_start(features, levels, unfit, seen, usual_seconds)
    known = not np.isnan(features.preparing).all() and starts >= MIN_SEEN
    alone = (
        float(np.nansum(features.preparing)) * 60 / starts if known else min(extra, usual_seconds)
    )
    own = starts_of(features.preparing)
    wait = _usual_wait(_gangs(features.runs, levels), own, own if usual is None else usual)
    # A node that starts waits for the others of its job about as long as it took itself, at most;
    # what is paid beyond that is the idling of nodes that came too late.
    start = min(extra, 2 * alone)
    idle = _usual_settings(features).idle_seconds + leaving
    late = min(1.0, (extra - start) / idle) if idle > 0 else 0.0
    return replace(
        unfit,
        start_seconds=start,
        wait_seconds=min(extra, usual_seconds) if wait is None else wait,
        late_share=late,
    )


def _usual_wait(gangs: Ints, own: Starts, usual: Starts) -> float | None:
    """Return how long a job of this cluster waits where none of its nodes is there.

    Until the last of them is, so it takes longer the more it wants. None: no start was seen.

    Args:
        gangs: the nodes of each job.
        own: starts of the cluster.
        usual: those of all the estate.
    """
    waits = _waits(gangs, 1, own, usual)
    return None if waits is None else float(waits.mean())


def _waits(nodes: Ints, jobs: Ints | int, own: Starts, usual: Starts) -> Floats | None:
    """Return how long jobs that want so many nodes each, some at once, wait; None: not known."""
    if usual.seconds.size < MIN_SEEN:
        return None
    return pace(own, usual) * usual.waits(nodes, jobs)


def _gangs(runs: Runs, levels: Levels) -> Ints:
    """Return how many nodes each job wants; where none is known, those that begin together."""
    if runs.start.size:
        return runs.nodes
    every = cold_starts(levels, ClusterSettings(min_nodes=0, max_nodes=0, idle_seconds=0))
    return together_at(every) if every.size else np.ones(1, np.int64)


def _released_and_started(features: ClusterFeatures, levels: Levels) -> tuple[int, int]:
    """Count releases and cold starts under the settings of most of the window."""
    settings = _usual_settings(features)
    free = levels.level > settings.min_nodes
    outlived = free & levels.warm & (levels.length > settings.idle_seconds)
    return int(outlived.sum()), int(cold_starts(levels, settings).size)


def _usual_settings(features: ClusterFeatures) -> ClusterSettings:
    """Return the settings of most of the window."""
    since = [at for at, _ in features.policies]
    until = [*since[1:], features.window.end_utc]
    held = [end - start for start, end in zip(since, until, strict=True)]
    return features.policies[held.index(max(held))][1]


def _seen_hours(features: ClusterFeatures) -> Floats:
    """Return node-hours seen on each day; NaN on days with an unobserved minute."""
    known = np.where(features.unknown, np.nan, features.present)
    bridged = np.where(np.isnan(known) & ~features.unknown, features.demand, known)
    hours: Floats = bridged.reshape(-1, 1440).sum(axis=1) / 60
    return hours


def _extra_per_start(
    features: ClusterFeatures,
    levels: Levels,
    unfit: Physics,
    seen_hours: Floats,
    usual_seconds: float,
) -> float:
    """Return seconds billed beyond work and idling, per cold start; see `fit_physics`."""
    without = replayed_as_was(levels, features.policies, features.window, unfit)
    hourly = replace(unfit, start_seconds=float(SECONDS_PER_HOUR))
    starts = replayed_as_was(levels, features.policies, features.window, hourly) - without
    rest = (seen_hours - without) * SECONDS_PER_HOUR
    usable = ~np.isnan(rest)
    starts, rest = starts[usable], rest[usable]
    prior = PRIOR_STARTS**2
    fitted = (prior * usual_seconds + (starts * rest).sum()) / (prior + (starts**2).sum())
    return float(max(0.0, fitted))


def levels_of(features: ClusterFeatures) -> Levels:
    """Cut a cluster's demand into levels."""
    return cut_into_levels(features.demand, on_at_start=features.on_at_start)


def evictions_of(clusters: Sequence[ClusterFeatures]) -> EvictionRate:
    """Learn from the low-priority clusters of the estate how often their nodes are taken away.

    An eviction is a rise of the number of nodes that are being preempted (methods §4.3). As long as
    a node counts as such, nothing takes its place.
    """
    evictions = hours = away = 0.0
    for features in clusters:
        if features.resource.vm_priority != "low_priority" or np.isnan(features.preempted).all():
            continue
        rises = np.diff(np.nan_to_num(features.preempted), prepend=0.0)
        evictions += float(rises[rises > 0].sum())
        hours += float(np.nansum(features.present)) / 60
        away += float(np.nansum(features.preempted)) * 60
    return EvictionRate(
        evictions=round(evictions),
        hours=hours,
        away_seconds=away / evictions if evictions else 0.0,
    )
