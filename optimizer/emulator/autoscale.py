"""Autoscale settings of deployments, as `Microsoft.Insights/autoscaleSettings` spells them.

What is played is what Azure documents: of several rules that scale out any one is enough and the
largest result counts; scaling in needs all of them and never goes so far that a rule would scale
out again; an action is followed by its cooldown; a profile of a fixed date beats a recurring one,
which lasts until the next recurring one begins, and that beats the one without a time.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import numpy.typing as npt

from optimizer.emulator.records import Floats
from optimizer.emulator.schedules import read_zone
from optimizer.errors import ConfigError, EstateError
from optimizer.units import seconds_from_iso

Bools = npt.NDArray[np.bool_]

MINUTES_PER_WEEK = 7 * 24 * 60

Values = Sequence[float]
"""A metric by the minute, the latest last; NaN = not measured."""

_DAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
_COMPARE: Mapping[str, Callable[[float, float], bool]] = {
    "equals": lambda value, limit: value == limit,
    "notequals": lambda value, limit: value != limit,
    "greaterthan": lambda value, limit: value > limit,
    "greaterthanorequal": lambda value, limit: value >= limit,
    "lessthan": lambda value, limit: value < limit,
    "lessthanorequal": lambda value, limit: value <= limit,
}
_AGGREGATE: Mapping[str, Callable[[Sequence[float]], float]] = {
    "average": lambda values: math.fsum(values) / len(values),
    "minimum": min,
    "maximum": max,
    "total": math.fsum,
    "count": lambda values: float(len(values)),
    "last": lambda values: values[-1],
}
_SLACK = 1e-6
_CHANGE_COUNT, _PERCENT, _EXACT = "changecount", "percentchangecount", "exactcount"


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """When to run more or fewer instances, and how many."""

    metric: str
    """In lower case."""
    minutes: int
    """How far back it looks."""
    is_average: bool
    aggregate: Callable[[Sequence[float]], float]
    holds: Callable[[float, float], bool]
    threshold: float
    per_instance: bool
    """Whether the metric is divided by the instances before it is compared."""
    is_out: bool
    kind: str
    value: int
    cooldown_seconds: int

    def measured(self, values: Values, instances: int) -> float | None:
        """Return what is compared with the threshold; None where nothing was measured."""
        seen = [value for value in values[-self.minutes :] if not math.isnan(value)]
        if not seen:
            return None
        found = self.aggregate(seen)
        return found / instances if self.per_instance and instances else found

    def may_hold(self, values: Floats, instances: int) -> tuple[Bools, Bools]:
        """Return at which minutes it may hold, and at which it measures anything at all.

        It never misses one at which `measured` would hold, and says yes to few others: averages
        are rolled along, which is not exact to the last digit. Other ways to aggregate are not
        looked into.
        """
        if not self.is_average:
            always = np.ones(len(values), dtype=np.bool_)
            return always, always
        seen = ~np.isnan(values)
        count = _rolled(seen.astype(np.float64), self.minutes)
        total = _rolled(np.where(seen, values, 0.0), self.minutes)
        mean = np.divide(total, count, out=np.full(len(values), np.nan), where=count > 0)
        if self.per_instance and instances:
            mean /= instances
        slack = _SLACK * max(1.0, abs(self.threshold))
        near = [np.asarray(self.holds(mean + by, self.threshold)) for by in (-slack, 0.0, slack)]
        may: Bools = np.logical_or.reduce(near) & (count > 0)
        return may, count > 0

    def target(self, instances: int) -> int:
        """Return how many instances its action leads to."""
        if self.kind == _EXACT:
            return self.value
        step = self.value
        if self.kind == _PERCENT:
            step = max(1, round(instances * self.value / 100))
        return instances + (step if self.is_out else -step)


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """Limits and rules that hold at some times."""

    name: str
    minimum: int
    maximum: int
    default: int
    rules: tuple[Rule, ...]
    fixed: tuple[float, float] | None
    """Seconds since the epoch."""
    zone: ZoneInfo | None
    starts: tuple[int, ...]
    """Minutes of the local week, from Monday on; none = it does not recur."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Autoscale:
    """One autoscale setting that is enabled."""

    profiles: tuple[Profile, ...]

    @property
    def is_steady(self) -> bool:
        """Whether one profile holds at all times."""
        return len(self.profiles) == 1

    @property
    def metrics(self) -> frozenset[str]:
        """The metrics that any rule looks at."""
        return frozenset(rule.metric for profile in self.profiles for rule in profile.rules)

    @property
    def longest_minutes(self) -> int:
        """How far back any rule looks."""
        return max((rule.minutes for p in self.profiles for rule in p.rules), default=1)

    def profile_at(self, second: int) -> Profile:
        """Return the profile that holds at a moment."""
        for profile in self.profiles:
            if profile.fixed is not None and profile.fixed[0] <= second < profile.fixed[1]:
                return profile
        recurring = [profile for profile in self.profiles if profile.starts]
        if recurring:
            return min(recurring, key=lambda profile: _minutes_since(profile, second))
        always = (p for p in self.profiles if p.fixed is None)
        return next(always, self.profiles[0])


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """How many instances to run from now on, and how long to rest after it."""

    instances: int
    cooldown_seconds: int = 0


def may_decide(
    profile: Profile, instances: int, history: Mapping[str, Floats], length: int
) -> Bools:
    """Return at which minutes `decide` may ask for another number of instances.

    Shape: `history` as of `decide`, all of one `length`; at each minute what came before it counts.
    """
    if not profile.minimum <= instances <= profile.maximum:
        return np.ones(length, dtype=np.bool_)
    none = np.zeros(length, dtype=np.bool_)
    found = [(rule, *rule.may_hold(history[rule.metric], instances)) for rule in profile.rules]
    grows = np.logical_or.reduce([none, *(may for rule, may, _ in found if rule.is_out)])
    shrinking = [may for rule, may, _ in found if not rule.is_out]
    shrinks = np.logical_and.reduce(shrinking) if shrinking else none
    blind = ~np.logical_or.reduce([none, *(measured for *_, measured in found)]) & bool(found)
    asked: Bools = (
        (grows & (instances < profile.maximum))
        | (shrinks & (instances > profile.minimum))
        | (blind & (instances < profile.default))
    )
    return asked


def _rolled(values: Floats, minutes: int) -> Floats:
    """Return the sum of each value and of those before it, so many in all."""
    total = np.concatenate(([0.0], np.cumsum(values)))
    last = np.arange(1, len(values) + 1)
    rolled: Floats = total[last] - total[np.maximum(last - minutes, 0)]
    return rolled


def decide(profile: Profile, instances: int, history: Mapping[str, Values]) -> Decision:
    """Return what a profile makes of the metrics so far; the same number where nothing is due.

    Shape: `history` by the name of a metric in lower case.
    """
    within = min(max(instances, profile.minimum), profile.maximum)
    if within != instances:
        return Decision(instances=within)
    measured = {
        index: rule.measured(history.get(rule.metric, ()), instances)
        for index, rule in enumerate(profile.rules)
    }
    if measured and all(value is None for value in measured.values()):
        # Without a measurement the default holds, but it never takes instances away.
        return Decision(instances=max(instances, profile.default))
    due = [
        rule
        for index, rule in enumerate(profile.rules)
        if (value := measured[index]) is not None and rule.holds(value, rule.threshold)
    ]
    if grown := [rule for rule in due if rule.is_out]:
        most = max(grown, key=lambda rule: rule.target(instances))
        return Decision(
            instances=min(most.target(instances), profile.maximum),
            cooldown_seconds=most.cooldown_seconds,
        )
    shrinking = [rule for rule in profile.rules if not rule.is_out]
    if not shrinking or any(rule not in due for rule in shrinking):
        return Decision(instances=instances)
    least = max(shrinking, key=lambda rule: rule.target(instances))
    lowest = max(least.target(instances), profile.minimum)
    for wanted in range(lowest, instances):
        if not _would_grow(profile, measured, instances, wanted):
            return Decision(instances=wanted, cooldown_seconds=least.cooldown_seconds)
    return Decision(instances=instances)


def read_autoscale(document: Mapping[str, Any]) -> Autoscale | None:
    """Return an autoscale setting; None where it is switched off.

    Raises:
        EstateError: it is spelt in a way that the emulator does not play.
    """
    properties = document.get("properties") or {}
    profiles = tuple(_profile(document, each) for each in properties.get("profiles") or [])
    if not profiles:
        raise EstateError(f"{document.get('name')} has no profiles; give it at least one")
    return Autoscale(profiles=profiles) if properties.get("enabled", True) else None


def _would_grow(
    profile: Profile, measured: Mapping[int, float | None], instances: int, wanted: int
) -> bool:
    """Return whether a rule would scale out again once the same load meets fewer instances."""
    if not wanted:
        return True
    return any(
        rule.is_out and value is not None and rule.holds(value * instances / wanted, rule.threshold)
        for index, rule in enumerate(profile.rules)
        for value in [measured[index]]
    )


def _minutes_since(profile: Profile, second: int) -> int:
    local = datetime.fromtimestamp(second, profile.zone or UTC)
    now = (local.weekday() * 24 + local.hour) * 60 + local.minute
    return min((now - start) % MINUTES_PER_WEEK for start in profile.starts)


def _profile(document: Mapping[str, Any], profile: Mapping[str, Any]) -> Profile:
    name = f"{document.get('name')}/{profile.get('name')}"
    capacity = profile.get("capacity") or {}
    least, most, usual = (_count(name, capacity, key) for key in ("minimum", "maximum", "default"))
    if not least <= usual <= most:
        raise EstateError(f"{name} has default {usual}, outside of {least} to {most}")
    recurrence = (profile.get("recurrence") or {}).get("schedule") or {}
    days = [str(day).lower() for day in recurrence.get("days") or []]
    if wrong := [day for day in days if day not in _DAYS]:
        raise EstateError(f"{name} recurs on {wrong[0]!r}; write Monday to Sunday")
    starts = [
        (_DAYS.index(day) * 24 + int(hour)) * 60 + int(minute)
        for day in days
        for hour in recurrence.get("hours") or [0]
        for minute in recurrence.get("minutes") or [0]
    ]
    return Profile(
        name=str(profile.get("name")),
        minimum=least,
        maximum=most,
        default=usual,
        rules=tuple(_rule(name, rule) for rule in profile.get("rules") or []),
        fixed=_fixed(name, profile.get("fixedDate")),
        zone=read_zone(recurrence) if starts else None,
        starts=tuple(starts),
    )


def _rule(name: str, rule: Mapping[str, Any]) -> Rule:
    trigger, action = rule.get("metricTrigger") or {}, rule.get("scaleAction") or {}
    operator = str(trigger.get("operator", "")).lower()
    aggregation = str(trigger.get("timeAggregation", "Average")).lower()
    direction, kind = (str(action.get(key, "")).lower() for key in ("direction", "type"))
    for value, known, what in (
        (operator, _COMPARE, "operator"),
        (aggregation, _AGGREGATE, "timeAggregation"),
        (direction, ("increase", "decrease"), "direction"),
        (kind, (_CHANGE_COUNT, _PERCENT, _EXACT), "type"),
    ):
        if value not in known:
            raise EstateError(
                f"{name} has a rule with the {what} {value!r}; use {', '.join(known)}"
            )
    return Rule(
        metric=str(trigger.get("metricName", "")).lower(),
        minutes=max(1, _seconds(name, trigger.get("timeWindow") or "PT10M") // 60),
        is_average=aggregation == "average",
        aggregate=_AGGREGATE[aggregation],
        holds=_COMPARE[operator],
        threshold=float(trigger.get("threshold", 0)),
        per_instance=bool(trigger.get("dividePerInstance")),
        is_out=direction == "increase",
        kind=kind,
        value=_count(name, action, "value"),
        cooldown_seconds=_seconds(name, action.get("cooldown") or "PT5M"),
    )


def _fixed(name: str, window: Mapping[str, Any] | None) -> tuple[float, float] | None:
    if not window:
        return None
    zone = read_zone(window)
    try:
        start, end = (datetime.fromisoformat(str(window[key])) for key in ("start", "end"))
    except (KeyError, ValueError) as error:
        raise EstateError(
            f"{name} has a fixedDate without a start and an end; write both"
        ) from error
    start, end = (each if each.tzinfo else each.replace(tzinfo=zone) for each in (start, end))
    return start.timestamp(), end.timestamp()


def _count(name: str, found: Mapping[str, Any], key: str) -> int:
    """Return a count, which Azure writes as text."""
    text = str(found.get(key, ""))
    if not text.isdecimal():
        raise EstateError(f"{name} has {key} {found.get(key)!r}; give a whole number")
    return int(text)


def _seconds(name: str, duration: Any) -> int:
    try:
        return seconds_from_iso(str(duration))
    except ConfigError as error:
        raise EstateError(f"{name}: {error}") from error
