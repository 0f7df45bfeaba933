"""Days that cost more or less than this weekday does: rare, large and explained (methods §8).

The level is the median of the week before, the rhythm the median of the weekday over eight weeks,
both of the logarithm of daily amortised cost; what is left over is measured in its own spread.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date, timedelta

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

_MAD_TO_SIGMA = 1.4826
_WEEK = 7


@dataclass(frozen=True, slots=True, kw_only=True)
class AnomalyRules:
    """When a day is worth a word."""

    level_days: int = 7
    rhythm_weeks: int = 8
    min_history_days: int = 21
    look_back_days: int = 60
    nominal_z: float = 3.5
    """Below it nothing is said, however quiet the history was."""
    days_per_alert: int = 30
    """The threshold is raised until its own history has at most one alert in so many days."""
    min_impact_per_day: float = 50.0
    """In the billing currency."""
    min_impact_share: float = 0.10
    """Of what was expected."""
    incomplete_days: int = 2
    """The last 48 hours are not billed whole."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """What moved a day: one component of the cost of one resource."""

    component: str
    resource_id: str
    change: float
    """Against its mean over the week before."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Anomaly:
    """One day out of the ordinary."""

    day: date
    actual: float
    expected: float
    z: float
    level_shift: bool
    """The day before was off in the same direction: it may be here to stay."""
    parts: tuple[Part, ...] = ()
    """What moved it, most first."""

    @property
    def impact(self) -> float:
        """Actual − expected, in the billing currency."""
        return self.actual - self.expected


def robust_z(history: Floats, value: float) -> float | None:
    """Return the distance of a value from the median, in spreads; None where nothing varies.

    >>> round(robust_z(np.array([100, 102, 98, 101, 99, 103, 97, 100.0]), 140.0), 2)
    17.99
    """
    median = float(np.median(history))
    spread = _spread(history - median)
    return (value - median) / spread if spread > 0 else None


def _spread(deviations: Floats) -> float:
    return _MAD_TO_SIGMA * float(np.median(np.abs(deviations)))


def anomalies(
    daily: Mapping[date, float],
    *,
    through: date,
    parts: Mapping[date, Mapping[tuple[str, str], float]] | None = None,
    rules: AnomalyRules | None = None,
) -> tuple[Anomaly, ...]:
    """Return the days out of the ordinary, oldest first.

    Args:
        daily: amortised cost of each day without a gap; as billed, purchases would look like
            spikes.
        through: the day on which costs were read; the two before it are not complete.
        parts: cost by (component, resource id) of each day, to say what moved it.
        rules: the limits.
    """
    rules = rules or AnomalyRules()
    last = through - timedelta(days=rules.incomplete_days)
    days = [day for day in sorted(daily) if day < last][-rules.look_back_days :]
    costs = np.array([daily[day] for day in days], dtype=np.float64)
    if costs.size < rules.min_history_days:
        return ()
    expected, scores, shifts = _scored(costs, rules)
    threshold = _threshold(scores, rules)
    found = []
    for at in np.flatnonzero(np.abs(scores) >= threshold):
        impact = abs(costs[at] - expected[at])
        if impact >= max(rules.min_impact_per_day, rules.min_impact_share * expected[at]):
            found.append(
                Anomaly(
                    day=days[at],
                    actual=float(costs[at]),
                    expected=float(expected[at]),
                    z=float(scores[at]),
                    level_shift=bool(shifts[at]),
                    parts=moved_by(days[at], parts) if parts else (),
                )
            )
    return tuple(found)


def moved_by(
    day: date, parts: Mapping[date, Mapping[tuple[str, str], float]], *, most: int = 3
) -> tuple[Part, ...]:
    """Return what changed most against the week before, by component and resource."""
    before = [parts.get(day - timedelta(days=back), {}) for back in range(1, _WEEK + 1)]
    mean: dict[tuple[str, str], float] = defaultdict(float)
    for each in before:
        for key, cost in each.items():
            mean[key] += cost / _WEEK
    now = parts.get(day, {})
    changes = {key: now.get(key, 0.0) - mean.get(key, 0.0) for key in now.keys() | mean.keys()}
    largest = sorted(changes, key=lambda key: (-abs(changes[key]), key))[:most]
    return tuple(
        Part(component=component, resource_id=resource_id, change=changes[component, resource_id])
        for component, resource_id in largest
        if changes[component, resource_id]
    )


def parts_of(
    lines: Iterable[tuple[date, str, str, float]],
) -> dict[date, dict[tuple[str, str], float]]:
    """Add up (day, component, resource id, cost) for `anomalies`."""
    summed: dict[date, dict[tuple[str, str], float]] = defaultdict(lambda: defaultdict(float))
    for day, component, resource_id, cost in lines:
        summed[day][component, resource_id] += cost
    return {day: dict(of_day) for day, of_day in summed.items()}


def _scored(costs: Floats, rules: AnomalyRules) -> tuple[Floats, Floats, Floats]:
    """Return what was expected of each day, its robust z, and whether the level moved.

    Each day is judged by the days before it alone. Two days off in the same direction are a level
    shift: the level is learnt anew from the first of them.
    """
    # A day of nothing has no logarithm; a thousandth of the usual is far enough from it.
    floor = max(float(np.median(costs)), 1.0) / 1000
    logs = np.log(np.maximum(costs, floor))
    expected = np.full(costs.size, np.nan)
    scores = np.zeros(costs.size)
    shifts = np.zeros(costs.size)
    residuals: list[float] = []
    begins = 0
    for day in range(rules.level_days, costs.size):
        window = logs[max(begins, day - rules.level_days) : day]
        level = float(np.median(window))
        rhythm = _rhythm(logs, day, rules)
        centre = level + rhythm
        expected[day] = np.exp(centre)
        residual = float(logs[day]) - centre
        if len(residuals) >= _WEEK:
            scores[day] = residual / max(_spread(np.array(residuals)), 0.01)
        same = scores[day] * scores[day - 1] > 0
        if same and min(abs(scores[day]), abs(scores[day - 1])) >= rules.nominal_z:
            shifts[day] = 1
            begins = day - 1
        else:
            residuals.append(residual)
    return expected, scores, shifts


def _rhythm(logs: Floats, day: int, rules: AnomalyRules) -> float:
    """Return how this weekday differs from the level of its week, by median over the weeks."""
    same = range(day - _WEEK, rules.level_days - 1, -_WEEK)
    differences = [
        float(logs[at]) - float(np.median(logs[at - rules.level_days : at]))
        for at in list(same)[: rules.rhythm_weeks]
    ]
    return float(np.median(differences)) if differences else 0.0


def _threshold(scores: Floats, rules: AnomalyRules) -> float:
    """Return the z that at most one day in thirty of this history exceeds."""
    allowed = max(1, scores.size // rules.days_per_alert)
    falling = np.sort(np.abs(scores))[::-1]
    calibrated = np.nextafter(falling[allowed], np.inf) if falling.size > allowed else 0.0
    return max(rules.nominal_z, float(calibrated))
