"""One compute with its activity, its price and its physics: the question put to each detector.

A case can say what any policy would have cost on each day that was seen. Detectors propose
policies; they never reckon money themselves.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

import numpy as np
from scipy.special import betaincinv

from optimizer.analysis.confidence import Floats
from optimizer.analysis.features import ClusterFeatures, InstanceFeatures
from optimizer.analysis.rates import Rate
from optimizer.analysis.replay import (
    Ints,
    Levels,
    Outcome,
    Physics,
    covered,
    cut_into_levels,
    paid_by,
    replay,
    sweep,
)
from optimizer.analysis.result import Calibration, Series
from optimizer.model import ClusterSettings, InstanceSettings, Resource, Window
from optimizer.units import SECONDS_PER_HOUR

SECONDS_PER_DAY = 86_400
SERIES_STEP_SECONDS = 600

IDLE_MINUTES_GRID = (0, 1, 2, 5, 10, 15, 20, 30, 45, 60, 90, 120)
"""Idle times that are ever proposed (methods §1.5)."""

MIN_GAPS = 20
"""Below it, the idle time is set by rule and not by data (methods §1.5)."""

DEFAULT_START_SECONDS = 360.0
"""Billed node time of a cold start nobody has seen here yet (methods §1.5)."""

DEFAULT_LEAVING_SECONDS = 0.0
"""Nothing is documented, so nothing is assumed until leaving nodes were seen."""

PRIOR_STARTS = 5.0
"""How many cold starts a day the default weighs as much as when the bill is asked."""

MIN_SEEN = 3
"""Cold starts or releases from which on their mean length is believed."""

RESTART_SECONDS = 180.0
"""Billed time of a compute instance's start. Assumed: no table holds it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Assumptions:
    """What data cannot settle, and the limits below which nothing is said. See `config`."""

    cluster_interactive_share: float = 0.0
    instance_interactive_share: float = 0.25
    waiting_value_per_hour: float = 80.0
    min_saving_per_month: float = 20.0
    min_saving_share: float = 0.03


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Saving:
    """What a change saves on each whole day seen, and what else is unsure of it."""

    daily: Floats
    """Calibrated, in the billing currency."""
    low: float = 1.0
    """Factor on the mean at P10 for what the days cannot tell, such as open kernels."""
    high: float = 1.0


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ClusterCase:
    """A training cluster."""

    features: ClusterFeatures
    levels: Levels
    physics: Physics
    rate: Rate
    calibration: Calibration | None
    spend_per_month: float | None

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
        """Independent occasions behind a saving: idle gaps."""
        return int((self.levels.warm & self.levels.closed).sum())

    @property
    def from_logs(self) -> bool:
        """Node states come from the event log."""
        return self.features.from_logs

    @property
    def unknown_hours(self) -> float:
        """Hours of which nothing is known."""
        return float(self.features.unknown.sum()) / 60

    def outcome(self, settings: ClusterSettings) -> Outcome:
        """Return what `settings` would have paid for beside the work."""
        return replay(self.levels, settings, self.physics)

    def node_hours(self, settings: ClusterSettings, step_seconds: int = SECONDS_PER_DAY) -> Floats:
        """Return the paid node-hours in each step of the window."""
        edges = np.arange(0, self.levels.seconds + 1, step_seconds)
        paid = paid_by(self.levels, self.outcome(settings), edges)
        return paid / SECONDS_PER_HOUR

    def saving(self, after: ClusterSettings, before: ClusterSettings | None = None) -> Saving:
        """Return what `after` saves against `before` (today's settings) on the days seen."""
        hours = self.node_hours(before or self.settings) - self.node_hours(after)
        k = self.calibration.k if self.calibration else 1.0
        return Saving(daily=hours * self.rate.per_hour * k)

    def series(self, after: ClusterSettings) -> Series:
        """Return nodes needed, paid now and paid under `after` over time."""
        scale = SECONDS_PER_HOUR / SERIES_STEP_SECONDS
        needed = np.where(self.features.unknown, np.nan, self.features.demand)
        start = np.datetime64(self.window.start_utc.replace(tzinfo=None), "s")
        on_now = self.node_hours(self.settings, SERIES_STEP_SECONDS) * scale
        return Series(
            times_utc=start + np.arange(on_now.size) * np.timedelta64(SERIES_STEP_SECONDS, "s"),
            needed=needed.reshape(on_now.size, -1).mean(axis=1),
            on_now=on_now,
            on_changed=self.node_hours(after, SERIES_STEP_SECONDS) * scale,
        )

    def waiting_seconds(self, assumptions: Assumptions) -> float:
        """Return the node-seconds that one cold start's waiting is worth (methods §1.1)."""
        if self.rate.per_hour <= 0:
            return 0.0
        worth = assumptions.cluster_interactive_share * assumptions.waiting_value_per_hour
        return worth * self.physics.wait_seconds / self.rate.per_hour

    def best(self, assumptions: Assumptions, *, warm_nodes: int) -> ClusterSettings:
        """Return the cheapest policy, waiting included, that keeps `warm_nodes` nodes.

        All pairs of minimum node count and idle time are compared at once. The idle time is kept
        within half and twice the worth of a cold start, so that a short history cannot mislead it
        (methods §1.4); of equal ones the longer, and the smaller minimum, is taken.
        """
        now = self.settings
        waiting = self.waiting_seconds(assumptions)
        restart = self.physics.start_seconds + self.physics.leaving_seconds + waiting
        grid = [minutes * 60 for minutes in IDLE_MINUTES_GRID]
        allowed = [idle for idle in grid if restart / 2 <= idle <= restart * 2]
        if self.samples < MIN_GAPS or not allowed:
            allowed = [next((idle for idle in grid if idle >= restart), grid[-1])]
        floors = range(min(warm_nodes, now.min_nodes), now.min_nodes + 1)
        curve = sweep(self.levels, min_nodes=floors, idle_seconds=allowed, physics=self.physics)
        cost = curve.node_seconds(self.levels.busy_seconds, self.physics) + curve.starts * waiting
        cheapest = np.isclose(cost, cost.min(), rtol=1e-12)
        column = int(np.flatnonzero(cheapest.any(axis=0))[-1])
        row = int(np.flatnonzero(cheapest[:, column])[0])
        return replace(
            now,
            min_nodes=int(curve.min_nodes[row]),
            idle_seconds=int(curve.idle_seconds[column]),
        )


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


def fit_physics(features: ClusterFeatures, levels: Levels, billed_hours: Floats | None) -> Physics:
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
    """
    releases, starts = _released_and_started(features, levels)
    leaving_seconds = float(np.nansum(features.leaving)) * 60
    leaving = leaving_seconds / releases if releases >= MIN_SEEN else DEFAULT_LEAVING_SECONDS
    unfit = Physics(start_seconds=0.0, leaving_seconds=leaving, wait_seconds=0.0)
    seen = billed_hours if billed_hours is not None else _seen_hours(features)
    extra = _extra_per_start(features, levels, unfit, seen)
    preparing = float(np.nansum(features.preparing)) * 60
    known = not np.isnan(features.preparing).all() and starts >= MIN_SEEN
    wait = preparing / starts if known else min(extra, DEFAULT_START_SECONDS)
    # A node that starts waits for the others of its job about as long as it took itself, at most;
    # what is paid beyond that is the idling of nodes that came too late.
    start = min(extra, 2 * wait)
    idle = _usual_settings(features).idle_seconds + leaving
    late = min(1.0, (extra - start) / idle) if idle > 0 else 0.0
    return replace(unfit, start_seconds=start, wait_seconds=wait, late_share=late)


def _released_and_started(features: ClusterFeatures, levels: Levels) -> tuple[int, int]:
    """Count releases and cold starts under the settings of most of the window."""
    settings = _usual_settings(features)
    free = levels.level > settings.min_nodes
    outlived = free & levels.warm & (levels.length > settings.idle_seconds)
    started = free & levels.closed & (outlived | ~levels.warm)
    return int(outlived.sum()), int(started.sum())


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
    features: ClusterFeatures, levels: Levels, unfit: Physics, seen_hours: Floats
) -> float:
    """Return seconds billed beyond work and idling, per cold start; see `fit_physics`."""
    without = replayed_as_was(levels, features.policies, features.window, unfit)
    hourly = replace(unfit, start_seconds=float(SECONDS_PER_HOUR))
    starts = replayed_as_was(levels, features.policies, features.window, hourly) - without
    rest = (seen_hours - without) * SECONDS_PER_HOUR
    usable = ~np.isnan(rest)
    starts, rest = starts[usable], rest[usable]
    prior = PRIOR_STARTS**2
    fitted = (prior * DEFAULT_START_SECONDS + (starts * rest).sum()) / (prior + (starts**2).sum())
    return float(max(0.0, fitted))


def levels_of(features: ClusterFeatures) -> Levels:
    """Cut a cluster's demand into levels."""
    return cut_into_levels(features.demand, on_at_start=features.on_at_start)


@dataclass(frozen=True, slots=True, kw_only=True)
class Habits:
    """How often Azure's idle rule comes late or not at all on this estate's instances.

    Open kernels, terminals and custom applications keep an instance from being idle to Azure, and
    no API tells them (methods §2.1). Instances that have an idle shutdown show how often.
    """

    shut: int = 0
    """Gaps longer than the setting that a shutdown ended."""
    blocked: int = 0
    """Gaps longer than the setting that none ended."""
    delay_minutes: float = 0.0
    """Mean minutes by which a shutdown came later than the setting says."""

    def blocked_share(self, quantile: float) -> float:
        """Return a quantile of the share of gaps that no shutdown ends.

        Beta(½, 3/2) before anything was seen: one in four, and little sure of it.
        """
        return float(betaincinv(0.5 + self.blocked, 1.5 + self.shut, quantile))


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class InstanceCase:
    """A compute instance."""

    features: InstanceFeatures
    rate: Rate
    calibration: Calibration | None
    habits: Habits
    spend_per_month: float | None

    @property
    def resource(self) -> Resource:
        """The instance."""
        return self.features.resource

    @property
    def window(self) -> Window:
        """The whole days that were seen."""
        return self.features.window

    @property
    def settings(self) -> InstanceSettings:
        """Today's policy."""
        return self.features.settings

    @property
    def samples(self) -> int:
        """Independent occasions behind a saving: idle gaps of an hour and more."""
        return int((self.features.gaps.minutes >= 60).sum())  # noqa: PLR2004

    @property
    def from_logs(self) -> bool:
        """Starts and stops come from the activity log."""
        return True

    @property
    def unknown_hours(self) -> float:
        """Hours on of which nothing is known."""
        return self.features.unknown_hours

    def running_hours(
        self, settings: InstanceSettings, step_seconds: int = SECONDS_PER_DAY
    ) -> Floats:
        """Return the paid hours in each step of the window, were every kernel closed in time."""
        features = self.features
        edges = np.arange(0, features.on.size * 60 + 1, step_seconds)
        work = np.concatenate(([0], features.active.cumsum() * 60))[edges // 60]
        paid, restarts_at = self._gaps(settings)
        idle = covered(features.gaps.start * 60, paid * 60, np.ones_like(paid), edges)
        restarts, _ = np.histogram(restarts_at * 60, bins=edges)
        hours: Floats = (np.diff(work) + idle + restarts * RESTART_SECONDS) / SECONDS_PER_HOUR
        return hours

    def _gaps(self, settings: InstanceSettings) -> tuple[Ints, Ints]:
        """Return paid minutes of each gap, and when restarts end."""
        features, limit = self.features, settings.idle_shutdown_minutes
        if limit is None:
            return features.gaps.minutes, np.empty(0, dtype=np.int64)
        effective = limit + round(self.habits.delay_minutes)
        ends = features.gaps.start + features.gaps.minutes
        restarted = features.gaps.resumed & (features.gaps.minutes > effective)
        return np.minimum(features.gaps.minutes, effective), ends[restarted]

    def restarts(self, settings: InstanceSettings) -> int:
        """Return how often somebody would have had to start it again."""
        return self._gaps(settings)[1].size

    def saving(self, after: InstanceSettings, before: InstanceSettings | None = None) -> Saving:
        """Return what `after` saves against `before` (today's settings) on the days seen."""
        hours = self.running_hours(before or self.settings) - self.running_hours(after)
        k = self.calibration.k if self.calibration else 1.0
        median = 1.0 - self.habits.blocked_share(0.5)
        return Saving(
            daily=hours * self.rate.per_hour * k * median,
            low=(1.0 - self.habits.blocked_share(0.9)) / median,
            high=(1.0 - self.habits.blocked_share(0.1)) / median,
        )

    def series(self, after: InstanceSettings) -> Series:
        """Return use, running now and running under `after` over time, 1 = all the step."""
        scale = SECONDS_PER_HOUR / SERIES_STEP_SECONDS
        start = np.datetime64(self.window.start_utc.replace(tzinfo=None), "s")
        on_now = self.running_hours(self.settings, SERIES_STEP_SECONDS) * scale
        return Series(
            times_utc=start + np.arange(on_now.size) * np.timedelta64(SERIES_STEP_SECONDS, "s"),
            needed=self.features.active.reshape(on_now.size, -1).mean(axis=1),
            on_now=on_now,
            on_changed=self.running_hours(after, SERIES_STEP_SECONDS) * scale,
        )

    def best_minutes(self, assumptions: Assumptions, choices: Sequence[int]) -> int:
        """Return the cheapest idle shutdown among `choices`, waiting included.

        Kept within half and twice the worth of a restart, as for clusters (methods §1.4).
        """
        worth = assumptions.instance_interactive_share * assumptions.waiting_value_per_hour
        waiting_hours = worth * RESTART_SECONDS / SECONDS_PER_HOUR / max(self.rate.per_hour, 1e-9)
        restart = RESTART_SECONDS / 60 + waiting_hours * 60
        allowed = [minutes for minutes in choices if restart / 2 <= minutes <= restart * 2]
        if not allowed:
            allowed = [next((minutes for minutes in choices if minutes >= restart), choices[-1])]

        def cost(minutes: int) -> float:
            paid, restarts_at = self._gaps(InstanceSettings(idle_shutdown_minutes=minutes))
            return float(paid.sum()) + restarts_at.size * restart

        return min(allowed, key=lambda minutes: (cost(minutes), -minutes))


def habits_of(instances: Sequence[InstanceFeatures], *, slack_minutes: int = 240) -> Habits:
    """Learn from the instances whose idle shutdown stood unchanged how well Azure's rule works.

    Args:
        instances: all of the estate.
        slack_minutes: a shutdown up to this much late counts as late; Azure ends a forgotten VS
            Code connection after three hours (methods §2.1). One that came later never came.
    """
    shut = blocked = 0
    late = 0.0
    for features in instances:
        limit = features.settings.idle_shutdown_minutes
        if limit is None or len(features.policies) > 1:
            continue
        long = features.gaps.minutes > limit + slack_minutes
        over = features.gaps.on_minutes[long] - limit
        blocked += int((over > slack_minutes).sum())
        shut += int((over <= slack_minutes).sum())
        late += float(np.maximum(over[over <= slack_minutes], 0).sum())
    return Habits(shut=shut, blocked=blocked, delay_minutes=late / shut if shut else 0.0)
