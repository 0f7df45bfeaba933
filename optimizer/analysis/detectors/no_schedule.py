"""Compute instances that a weekly stop would switch off where nothing else does."""

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import ClassVar

import numpy as np

from optimizer.analysis.case import Assumptions
from optimizer.analysis.confidence import Floats
from optimizer.analysis.detectors import GUIDE, CannotAssessError, Detector, Proposal
from optimizer.analysis.features import Bools
from optimizer.analysis.instances import InstanceCase, stop_minutes
from optimizer.model import How, InstanceSettings, Json, Kind, Level, Source, StopTime
from optimizer.units import MINUTES_PER_DAY, SECONDS_PER_HOUR

_WORKDAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday")
_WEEKEND = ("Saturday", "Sunday")
_CRON = {_WORKDAYS: "1-5", _WEEKEND: "6,0"}

MARGIN_MINUTES = 30
"""Use so shortly before or after a stop counts as met: next week it may be a little later."""

MAX_SCHEDULES = 4
"""Of one instance, as Azure has it (methods §2.1)."""


@dataclass(frozen=True, kw_only=True)
class NoSchedule(Detector[InstanceCase]):
    """Fires where a weekly stop saves beyond what idle shutdown does, on weeks held back too."""

    source = Source(title="Schedule when compute instances start and stop", url=GUIDE)
    remedy_words = "PUT schedules.computeStartStop"
    kinds: ClassVar = (Kind.INSTANCE,)
    order: ClassVar = 25
    beside_others: ClassVar = True
    also_ignored_as: ClassVar = ("no_idle_shutdown",)

    lost_minutes_per_miss: float = 5.0
    """Of a person whose work a stop meets, and who dismisses it (methods §7)."""
    max_misses_per_week: float = 1.0
    min_held_out_share: float = 0.5
    """Of what stops chosen on one half gain there: the least they gain on the other."""

    def propose(self, case: InstanceCase, assumptions: Assumptions) -> Proposal | None:
        """Propose one stop for workdays and one for weekends: those that pay in both halves."""
        existing = case.resource.settings.get("schedules") or []
        if any(schedule.get("action") == "Stop" for schedule in existing):
            return None
        if len(existing) > MAX_SCHEDULES - len(_CRON):
            raise CannotAssessError(
                f"It has {len(existing)} schedules already, and Azure takes {MAX_SCHEDULES}."
            )
        base = _with_idle_shutdown(case, assumptions)
        idle = float(case.hours(base).sum()) - float(case.features.active.sum()) / 60
        if case.window.per_month(idle) * case.rate.per_hour < assumptions.min_saving_per_month:
            return None  # were every idle hour cut, it would not be worth saying
        trials = _Trials(
            case=case, base=base, assumptions=assumptions, lost_minutes=self.lost_minutes_per_miss
        )
        days = round(case.window.days)
        held_out, seen = self._cross_validated(trials, days)
        if seen <= 0 or held_out < self.min_held_out_share * seen:
            return None
        stops = self._best(trials, np.ones(days, np.bool_))
        if not stops:
            return None
        misses = float(trials.of(stops).misses.sum()) / days * 7
        cut = float((case.hours(base) - case.hours(replace(base, stops=stops))).sum())
        when = " and ".join(f"{stop.hour:02}:00 on {_plain(stop.days)}" for stop in stops)
        return Proposal(
            setting="properties.properties.schedules.computeStartStop",
            before=existing,
            after=[*existing, *map(_document, stops)],
            how=How.ADVICE,
            overlay={"stops": stops},
            title=f"{case.resource.name} runs on when its user has gone",
            why=(
                f"A stop at {when} ({assumptions.time_zone}) would have cut {cut:,.0f} idle hours "
                f"that idle shutdown leaves in {days} days, and met work {misses:.1f} times a week."
            ),
            evidence={
                "stops": when,
                "time_zone": assumptions.time_zone,
                "hours_cut_beyond_idle_shutdown": round(cut, 1),
                "stops_that_met_work_per_week": round(misses, 2),
                "saving_hours_on_the_halves_held_back": round(held_out, 1),
            },
            risk=Level.MEDIUM,
            pillar_notes=(
                (
                    "Operational excellence: Azure asks before a scheduled stop, and its user may "
                    "dismiss it; nothing starts the instance but its user."
                ),
            ),
            sensitivity=(
                (
                    f"A stop that meets work is taken to cost {self.lost_minutes_per_miss:.0f} "
                    "minutes of a person; holidays and travel are not known."
                ),
            ),
        )

    def _cross_validated(self, trials: "_Trials", days: int) -> tuple[float, float]:
        """Return what stops gain on the half they were not chosen on, and on that they were."""
        first = np.arange(days) < days // 2
        held_out = seen = 0.0
        for half in (first, ~first):
            gained = trials.of(self._best(trials, half)).net_hours
            held_out += float(gained[~half].sum())
            seen += float(gained[half].sum())
        return held_out, seen

    def _best(self, trials: "_Trials", seen: Bools) -> tuple[StopTime, ...]:
        """Return the stop of workdays that pays most on the days `seen`, and one of weekends.

        The second counts what it adds to the first. Those that meet work too often are out.
        """
        allowed = self.max_misses_per_week * float(seen.sum()) / 7

        def net(stops: tuple[StopTime, ...]) -> float:
            trial = trials.of(stops)
            too_often = trial.misses[seen].sum() > allowed
            return -np.inf if too_often else round(float(trial.net_hours[seen].sum()), 6)

        chosen: tuple[StopTime, ...] = ()
        zone = trials.assumptions.time_zone
        for group in _CRON:
            candidates = [
                (*chosen, StopTime(days=group, hour=hour, time_zone=zone)) for hour in range(24)
            ]
            # The first of equal ones: no stop before a late one, a late one before an early one.
            chosen = max([chosen, *reversed(candidates)], key=net)
        return chosen


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Trial:
    """What some stops would have done on each day."""

    net_hours: Floats
    """Machine-hours saved, less what meeting people's work is worth."""
    misses: Floats
    """Stops that met work."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Trials:
    """Tries stops on one instance, each once."""

    case: InstanceCase
    base: InstanceSettings
    """What stands without them."""
    assumptions: Assumptions
    lost_minutes: float
    _known: dict[tuple[StopTime, ...], _Trial] = field(init=False, default_factory=dict)

    def of(self, stops: tuple[StopTime, ...]) -> _Trial:
        """Return what these stops would have done."""
        if stops not in self._known:
            self._known[stops] = self._tried(stops)
        return self._known[stops]

    def _tried(self, stops: tuple[StopTime, ...]) -> _Trial:
        case, after = self.case, replace(self.base, stops=stops)
        worth = self.assumptions.waiting_value_per_hour / max(case.rate.per_hour, 1e-9)
        waiting = (
            self.assumptions.instance_interactive_share * case.start_seconds / SECONDS_PER_HOUR
        )
        restarts = (case.restarts(after) - case.restarts(self.base)) / round(case.window.days)
        misses = _misses(case, stops)
        lost = misses * self.lost_minutes / 60 + restarts * waiting
        return _Trial(
            net_hours=case.hours(self.base) - case.hours(after) - lost * worth, misses=misses
        )


def _with_idle_shutdown(case: InstanceCase, assumptions: Assumptions) -> InstanceSettings:
    """Return today's settings, with the idle shutdown that would be proposed where there is none.

    Where SSH or a custom application keeps one from fitting, a schedule is all there is.
    """
    now, settings = case.settings, case.resource.settings
    if now.idle_shutdown_minutes is not None:
        return now
    if settings.get("ssh_public_access") or settings.get("custom_applications"):
        return now
    return replace(now, idle_shutdown_minutes=case.best_minutes(assumptions))


def _misses(case: InstanceCase, stops: Iterable[StopTime]) -> Floats:
    """Return how many stops would have met work, or nearly so, on each day."""
    at = stop_minutes(tuple(stops), case.window)
    used = np.concatenate(([0], case.features.active.cumsum()))
    near = np.clip([at - MARGIN_MINUTES, at + MARGIN_MINUTES + 1], 0, used.size - 1)
    met = at[used[near[1]] > used[near[0]]]
    counts: Floats = np.bincount(met // MINUTES_PER_DAY, minlength=round(case.window.days)).astype(
        np.float64
    )
    return counts


def _plain(days: tuple[str, ...]) -> str:
    return "workdays" if days == _WORKDAYS else "weekends"


def _document(stop: StopTime) -> Json:
    """Return a schedule as Azure spells it."""
    return {
        "action": "Stop",
        "status": "Enabled",
        "triggerType": "Cron",
        "cron": {
            "expression": f"{stop.minute} {stop.hour} * * {_CRON[stop.days]}",
            "timeZone": stop.time_zone,
        },
    }
