"""A compute instance: what idle shutdown, schedules and another machine would have cost it."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, time, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo

import numpy as np
from scipy.special import betaincinv
from scipy.stats import betabinom

from optimizer.analysis.case import SECONDS_PER_DAY, SERIES_STEP_SECONDS, Assumptions, Case, Saving
from optimizer.analysis.confidence import Floats
from optimizer.analysis.features import Bools, Gaps, InstanceFeatures
from optimizer.analysis.rates import Rate, Rates
from optimizer.analysis.replay import Ints, covered
from optimizer.analysis.result import Series
from optimizer.analysis.use import Use
from optimizer.catalogue import Size
from optimizer.errors import PriceNotFoundError
from optimizer.model import Effects, InstanceSettings, Resource, StopTime, Window
from optimizer.units import MINUTES_PER_DAY, SECONDS_PER_HOUR

RESTART_SECONDS = 180.0
"""Billed time of a compute instance's start, where the activity log tells too few to learn it."""

MIN_STARTS = 3
"""Starts from which on their median is believed."""

SLACK_MINUTES = 240
"""An idle shutdown up to this much late counts as late: Azure ends a forgotten VS Code connection
after three hours (methods §2.1). One that came later never came."""

BROKEN_PAUSES = 5
BROKEN_SHARE = 0.9
"""Pauses that an idle shutdown slept through, and their share, from which on it is broken."""

IDLE_SHUTDOWN_MINUTES = (15, 30, 60, 120, 180, 240)
"""Idle shutdowns that are ever proposed; Azure takes 15 minutes to 3 days (methods §1.3)."""

MINUTE = timedelta(minutes=1)
WEEK = timedelta(weeks=1)
MINUTES_PER_WEEK = 7 * MINUTES_PER_DAY


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

    def blocked_share_of(self, pauses: int, quantile: float) -> float:
        """Return a quantile of the share among the next `pauses` of one instance.

        How many of a few are held open is chance, beside how common it is: a beta-binomial count.

        >>> often = Habits(shut=900_000, blocked=100_000)
        >>> [often.blocked_share_of(20, quantile) for quantile in (0.1, 0.5, 0.9)]
        [0.0, 0.1, 0.2]
        """
        if not pauses:
            return self.blocked_share(quantile)
        held = betabinom.ppf(quantile, pauses, 0.5 + self.blocked, 1.5 + self.shut)
        return float(held) / pauses


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class InstanceCase(Case[InstanceSettings]):
    """A compute instance."""

    features: InstanceFeatures
    habits: Habits
    start_seconds: float = RESTART_SECONDS
    """Billed time of a start, in which its user waits."""
    rates: Rates | None = None
    """What other machines would cost; None where the case was made by hand."""
    use: Use | None = None
    """None: Azure told no use of it."""
    offered: Mapping[str, bool | None] | None = None
    """Sizes that Azure offers here, and whether as low priority too; None: not known."""

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
        """Idle gaps of an hour and more."""
        return int((self.features.gaps.minutes >= 60).sum())  # noqa: PLR2004

    @property
    def from_logs(self) -> bool:
        """Starts and stops come from the activity log."""
        return True

    @property
    def unknown_hours(self) -> float:
        """Hours on of which nothing is known."""
        return self.features.unknown_hours

    @property
    def used_minutes(self) -> int:
        """Minutes from the window's start to the end of the last use; 0: there was none."""
        used = np.flatnonzero(self.features.active)
        return int(used[-1]) + 1 if used.size else 0

    def hours(self, settings: InstanceSettings, step_seconds: int = SECONDS_PER_DAY) -> Floats:
        """Return the paid hours in each step of the window."""
        return self._hours(settings, self.habits.blocked_share(0.5), step_seconds)

    def hours_at(self, settings: InstanceSettings, quantile: float) -> Floats:
        """Return the paid hours of each day if open kernels are as common as at a quantile."""
        return self._hours(settings, self.habits.blocked_share(quantile))

    def _hours(
        self, settings: InstanceSettings, blocked: float, step_seconds: int = SECONDS_PER_DAY
    ) -> Floats:
        features = self.features
        edges = np.arange(0, features.on.size * 60 + 1, step_seconds)
        work = np.concatenate(([0], features.active.cumsum() * 60))[edges // 60]
        seconds = np.diff(work).astype(np.float64)
        ends = (features.gaps.start + features.gaps.minutes) * 60
        for outcome in self._outcomes(settings, blocked):
            idle = covered(features.gaps.start * 60, outcome.paid * 60, outcome.share, edges)
            restarts, _ = np.histogram(
                ends, bins=edges, weights=outcome.share * (outcome.restarted * self.start_seconds)
            )
            seconds += idle + restarts
        if settings.deleted:
            seconds[self.after_use(step_seconds)] = 0.0
        hours: Floats = seconds / SECONDS_PER_HOUR
        return hours

    def _outcomes(
        self, settings: InstanceSettings, blocked: float
    ) -> tuple["_GapOutcome", "_GapOutcome"]:
        """Return what becomes of each gap where Azure's idle rule works, and where it does not."""
        features, gaps = self.features, self.features.gaps
        limit = settings.idle_shutdown_minutes
        held = np.full(gaps.start.size, blocked)
        shut = gaps.minutes
        if limit is not None:
            left = limit + round(self.habits.delay_minutes) - self._minutes_before_window()
            shut = np.minimum(gaps.minutes, np.maximum(left, 0))
        kept = gaps.minutes
        for since, until, past in _in_force(features):
            if past.idle_shutdown_minutes is None:
                continue
            mine = (gaps.start >= since) & (gaps.start < until)
            told = mine & (gaps.minutes > past.idle_shutdown_minutes + SLACK_MINUTES)
            over = gaps.on_minutes - past.idle_shutdown_minutes
            # What this very rule did to a gap was seen; it is no question of habits.
            held[told] = over[told] > SLACK_MINUTES
            if past.idle_shutdown_minutes == limit and not settings.rule_works:
                shut = np.where(mine, gaps.on_minutes, shut)
                kept = np.where(mine, gaps.on_minutes, kept)
        if settings.rule_works:
            held[:] = 0.0
        stop = self._minutes_to_stop(settings.stops)
        return (
            _gap_outcome(gaps, np.minimum(shut, stop), 1.0 - held),
            _gap_outcome(gaps, np.minimum(kept, stop), held),
        )

    def _minutes_to_stop(self, stops: Sequence[StopTime]) -> Ints:
        """Return how long after its start each gap meets a scheduled stop; its length at most.

        0 where a stop before the window had met it already.
        """
        gaps = self.features.gaps
        earlier = replace(self.window, start_utc=self.window.start_utc - WEEK)
        at = stop_minutes(stops, earlier) - MINUTES_PER_WEEK
        at = np.append(at, np.iinfo(np.int64).max)
        following = at[np.searchsorted(at, gaps.start - self._minutes_before_window())]
        minutes: Ints = np.clip(following - gaps.start, 0, gaps.minutes)
        return minutes

    def _minutes_before_window(self) -> Ints:
        """Return how long each gap had lasted when the window began: 0 but for one that was open.

        When that one began nobody saw. It is taken for as old as the gap of the same hour a week
        later was then, as people's weeks are alike.
        """
        gaps = self.features.gaps
        lasted = np.zeros(gaps.start.size, dtype=np.int64)
        if gaps.start.size and gaps.start[0] == 0:
            alike = np.searchsorted(gaps.start, MINUTES_PER_WEEK, side="right") - 1
            if gaps.start[alike] + gaps.minutes[alike] > MINUTES_PER_WEEK:
                lasted[0] = MINUTES_PER_WEEK - gaps.start[alike]
        return lasted

    def restarts(self, settings: InstanceSettings) -> float:
        """Return how often somebody would have had to start it again, in expectation."""
        outcomes = self._outcomes(settings, self.habits.blocked_share(0.5))
        return float(sum((each.share * each.restarted).sum() for each in outcomes))

    def size(self, sku: str) -> Size | None:
        """Return what a size has; None where it is not known."""
        return self.rates.catalogue.size(sku) if self.rates else None

    def rate_of(self, settings: InstanceSettings) -> Rate:
        """Return what an hour costs under `settings`.

        Raises:
            PriceNotFoundError: nobody knows it.
        """
        resource = self.resource
        if settings.sku in {None, resource.sku}:
            return self.rate
        found = self.rates and self.rates.of_size(
            resource.region, settings.sku or "", workspace_id=resource.workspace_id
        )
        if not found:
            raise PriceNotFoundError(
                f"No price of {settings.sku} in {resource.region} is known; "
                "`optimizer prices refresh` reads Azure's list again."
            )
        return found

    def saving(self, after: InstanceSettings, before: InstanceSettings | None = None) -> Saving:
        """Return what `after` saves against `before` (today's settings) on the days seen.

        Its interval holds what no API tells: how often an open kernel keeps Azure from stopping it.
        """
        before = before or self.settings
        pauses = self.pauses_beyond(after.idle_shutdown_minutes or before.idle_shutdown_minutes)
        median = self._saved(after, before, self.habits.blocked_share(0.5))
        most, least = (
            self._saved(after, before, self.habits.blocked_share_of(pauses, quantile))
            for quantile in (0.9, 0.1)
        )
        total = float(median.sum())
        if total <= 0:
            return Saving(daily=median)
        if after.deleted:
            return self.of_deleting(median)
        ends = sorted((float(most.sum()) / total, float(least.sum()) / total))
        return Saving(daily=median, low=ends[0], high=ends[1])

    def _saved(self, after: InstanceSettings, before: InstanceSettings, blocked: float) -> Floats:
        return self._cost(before, blocked) - self._cost(after, blocked)

    def _cost(self, settings: InstanceSettings, blocked: float) -> Floats:
        standing = np.where(settings.deleted & self.after_use(), 0.0, self.standing_per_day)
        hours = self._hours(settings, blocked)
        return hours * self.rate_of(settings).per_hour * self.k + standing

    def effects(self, after: InstanceSettings, before: InstanceSettings) -> Effects:
        """Return what its user feels of going from `before` to `after`."""
        extra = self.window.per_month(self.restarts(after) - self.restarts(before))
        return Effects(
            extra_waiting_minutes_per_month=extra * self.start_seconds / 60,
            extra_restarts_per_month=extra,
            runtime_stretch=1.0,
        )

    def series(self, after: InstanceSettings) -> Series:
        """Return use, running now and running under `after` over time, 1 = all the step."""
        scale = SECONDS_PER_HOUR / SERIES_STEP_SECONDS
        start = np.datetime64(self.window.start_utc.replace(tzinfo=None), "s")
        on_now = self.hours(self.settings, SERIES_STEP_SECONDS) * scale
        return Series(
            times_utc=start + np.arange(on_now.size) * np.timedelta64(SERIES_STEP_SECONDS, "s"),
            needed=self.features.active.reshape(on_now.size, -1).mean(axis=1),
            on_now=on_now,
            on_changed=self.hours(after, SERIES_STEP_SECONDS) * scale,
        )

    def as_was(self) -> Floats:
        """Return the hours of each day that it really ran."""
        hours: Floats = self.features.on.reshape(-1, MINUTES_PER_DAY).sum(axis=1) / 60
        return hours

    def pauses_beyond(self, minutes: int | None) -> int:
        """Return how many pauses last longer than an idle shutdown waits; 0: there is none."""
        return 0 if minutes is None else int((self.features.gaps.minutes > minutes).sum())

    def idle_hours_beyond(self, minutes: int) -> float:
        """Return the hours of its pauses that lie more than `minutes` after its last use."""
        return float(np.maximum(self.features.gaps.minutes - minutes, 0).sum()) / 60

    def best_minutes(
        self, assumptions: Assumptions, choices: Sequence[int] = IDLE_SHUTDOWN_MINUTES
    ) -> int:
        """Return the cheapest idle shutdown among `choices`, waiting included.

        Kept within half and twice the worth of a restart, as for clusters (methods §1.4).
        """
        worth = assumptions.instance_interactive_share * assumptions.waiting_value_per_hour
        waiting_hours = (
            worth * self.start_seconds / SECONDS_PER_HOUR / max(self.rate.per_hour, 1e-9)
        )
        restart = self.start_seconds / 60 + waiting_hours * 60
        allowed = [minutes for minutes in choices if restart / 2 <= minutes <= restart * 2]
        if not allowed:
            allowed = [next((minutes for minutes in choices if minutes >= restart), choices[-1])]

        def cost(minutes: int) -> float:
            closed, _ = self._outcomes(InstanceSettings(idle_shutdown_minutes=minutes), 0.0)
            return float(closed.paid.sum() + closed.restarted.sum() * restart)

        return min(allowed, key=lambda minutes: (cost(minutes), -minutes))


def _gap_outcome(gaps: Gaps, paid: Ints, share: Floats) -> "_GapOutcome":
    return _GapOutcome(paid=paid, restarted=gaps.resumed & (paid < gaps.minutes), share=share)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _GapOutcome:
    """What becomes of each gap in one of two worlds."""

    paid: Ints
    """Minutes from its start on."""
    restarted: Bools
    share: Floats
    """How likely this world is."""


def _in_force(features: InstanceFeatures) -> Iterator[tuple[int, int, InstanceSettings]]:
    """Yield each policy of the window with the minutes in which it stood."""
    begin = features.window.start_utc
    since = [max(0, (at - begin) // MINUTE) for at, _ in features.policies]
    until = [*since[1:], features.on.size]
    for (_, settings), first, last in zip(features.policies, since, until, strict=True):
        yield first, last, settings


@lru_cache(maxsize=1024)
def stop_minutes(stops: tuple[StopTime, ...], window: Window) -> Ints:
    """Return when weekly schedules stop an instance, in minutes from the window's start, rising.

    Clocks are those of the schedule's own time zone, summer time included.
    """
    moments: set[datetime] = set()
    for stop in stops:
        zone = ZoneInfo(stop.time_zone)
        day = window.start_utc.astimezone(zone).date()
        while day <= window.end_utc.astimezone(zone).date():
            if f"{day:%A}" in stop.days:
                moments.add(
                    datetime.combine(day, time(stop.hour, stop.minute), zone).astimezone(UTC)
                )
            day += timedelta(days=1)
    inside = sorted(at for at in moments if window.start_utc <= at < window.end_utc)
    return np.array([(at - window.start_utc) // MINUTE for at in inside], dtype=np.int64)


def usual_start_seconds(*told: Sequence[float]) -> float:
    """Return how long a start takes: the median of the first of these histories that tells enough.

    Its own comes first, as setup scripts make an instance's starts its own, then all of the
    estate's; `RESTART_SECONDS` where neither has `MIN_STARTS`.

    >>> usual_start_seconds([90.0], [90.0, 150.0, 140.0])
    140.0
    >>> usual_start_seconds([], [90.0])
    180.0
    """
    enough = (each for each in told if len(each) >= MIN_STARTS)
    return float(np.median(next(enough, [RESTART_SECONDS])))


def habits_of(
    instances: Sequence[InstanceFeatures], *, slack_minutes: int = SLACK_MINUTES
) -> Habits:
    """Learn from the instances whose idle shutdown stood unchanged how well Azure's rule works.

    One on which it practically never works is broken, which is a finding of its own and says
    nothing of the habits of others.

    Args:
        instances: all of the estate.
        slack_minutes: see `SLACK_MINUTES`.
    """
    shut = blocked = 0
    late = 0.0
    for features in instances:
        limit = features.settings.idle_shutdown_minutes
        if limit is None or len(features.policies) > 1:
            continue
        long = features.gaps.minutes > limit + slack_minutes
        over = features.gaps.on_minutes[long] - limit
        never = int((over > slack_minutes).sum())
        if never >= BROKEN_PAUSES and never >= BROKEN_SHARE * over.size:
            continue
        blocked += never
        shut += int((over <= slack_minutes).sum())
        late += float(np.maximum(over[over <= slack_minutes], 0).sum())
    return Habits(shut=shut, blocked=blocked, delay_minutes=late / shut if shut else 0.0)
