"""How far a replay strays from the bill: by chance among days, and beyond it (methods §9).

Days that are nearly alike say little of how far a replay may be off in another month. What a
replay misses the bill by on the days since was in nobody's calibration, so all computes of a kind
tell it together. Only hours that come and go can stray: what settings keep there whatever is done
is billed as it is replayed.
"""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any

import numpy as np
from scipy.optimize import brentq
from scipy.special import stdtrit

from optimizer.analysis.assemble import MIN_CALIBRATION_DAYS, Estate
from optimizer.analysis.case import Case
from optimizer.analysis.clusters import ClusterCase
from optimizer.analysis.confidence import Floats
from optimizer.analysis.deployments import DeploymentCase
from optimizer.model import Kind
from optimizer.remediation.baseline import MAX_BASELINE_DAYS, billed_hours, is_told

LEAST_CHANCE = 1e-4
"""Share by which rounding alone parts a bill from its replay."""

_UPPER = 0.95


@dataclass(frozen=True, slots=True, kw_only=True)
class Spread:
    """A standard deviation, and on how much it rests."""

    deviation: float
    freedom: float
    """Degrees of freedom it was estimated with."""

    @property
    def half_width(self) -> float:
        """Half of the 90 % interval: Student's, for the deviation is itself estimated.

        >>> round(Spread(deviation=1.0, freedom=4).half_width, 3)
        2.132
        """
        return self.deviation * float(stdtrit(max(1.0, self.freedom), _UPPER))

    def times(self, factor: float) -> "Spread":
        """Return that of a multiple."""
        return Spread(deviation=self.deviation * factor, freedom=self.freedom)

    def __add__(self, other: "Spread") -> "Spread":
        """Return that of the sum of two errors that know nothing of each other.

        Degrees of freedom by Welch and Satterthwaite (1946): adding the two intervals would count
        twice that deviations are estimated.

        >>> both = Spread(deviation=3.0, freedom=4) + Spread(deviation=4.0, freedom=4)
        >>> round(both.deviation, 3), round(both.freedom, 3)
        (5.0, 7.418)
        """
        variances = self.deviation**2, other.deviation**2
        parts = variances[0] ** 2 / self.freedom + variances[1] ** 2 / other.freedom
        total = sum(variances)
        return Spread(
            deviation=float(np.sqrt(total)),
            freedom=total**2 / parts if parts > 0 else min(self.freedom, other.freedom),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Stray:
    """How far one replay was off on days that it was not calibrated on."""

    kind: Kind
    share: float
    """(Bill − k × replay) ÷ k × replay of the hours that come and go, all as was in force."""
    chance: float
    """Standard deviation that the scatter of the days before and since explains."""
    as_calibrated: bool
    """Whether the settings in force replay the days as those of the calibration do. Others show
    the activity in another light: what waits for a node now did not wait when some were kept."""


def beyond_chance(strays: Collection[Stray]) -> Spread:
    """Return what calibrations stray beyond chance, as a share of the hours that come and go.

    A random effect around nothing, by the estimator of Paule and Mandel (1982): the variance that
    makes the weighted squares of what was seen as large as their number. 0 where nothing was seen.

    >>> seen = [
    ...     Stray(kind=Kind.CLUSTER, share=share, chance=0.0, as_calibrated=True)
    ...     for share in (0.01, -0.01)
    ... ]
    >>> round(beyond_chance(seen).half_width, 4), beyond_chance([]).half_width
    (0.0292, 0.0)
    """
    if not strays:
        return Spread(deviation=0.0, freedom=1)
    squares = np.array([stray.share**2 for stray in strays])
    chances = np.array([max(stray.chance, LEAST_CHANCE) ** 2 for stray in strays])

    def excess(variance: float) -> float:
        return float((squares / (chances + variance)).sum()) - squares.size

    if excess(0.0) <= 0:
        return Spread(deviation=0.0, freedom=squares.size)
    variance = float(brentq(excess, 0.0, float(squares.sum())))
    return Spread(deviation=float(np.sqrt(variance)), freedom=squares.size)


def of_mean(error: Floats, days: int) -> Spread:
    """Return how far chance alone takes the mean error of so many days from nothing.

    Args:
        error: of each day of a calibration, which leaves a mean of nothing.
        days: whose mean it is.

    Days that take after the day before count for fewer: n′ = n (1 − ρ) ÷ (1 + ρ), ρ the
    correlation of neighbours, and the variance of a day is Σ error² ÷ (n′ − 1), as ASHRAE
    Guideline 14 has it (methods §9). How a replay errs knows no weeks, as demand does, so there are
    more days to learn from than the blocks that a bootstrap of costs would draw.

    >>> spread = of_mean(np.array([1.0, -1.0] * 8), 4)
    >>> round(spread.deviation, 3), spread.freedom
    (0.516, 15.0)
    """
    left = error - error.mean()
    squares = float((left**2).sum())
    if squares <= 0:
        return Spread(deviation=0.0, freedom=max(1.0, error.size - 1.0))
    rho = max(0.0, float((left[1:] * left[:-1]).sum()) / squares)
    known = max(2.0, error.size * (1 - rho) / (1 + rho))
    return Spread(deviation=float(np.sqrt(squares / (known - 1) / days)), freedom=known - 1)


def apart(billed: Floats, replayed: Floats, days: int) -> Spread:
    """Return how far chance takes bill and replay apart, as a share of the replay.

    Args:
        billed: hours of each day that the replay is calibrated on.
        replayed: hours of the same days.
        days: since, whose mean is asked for.
    """
    error = _error(billed, replayed)
    known, since = of_mean(error, error.size), of_mean(error, days)
    deviation = float(np.hypot(known.deviation, since.deviation))
    return Spread(deviation=deviation, freedom=known.freedom)


def always_there(case: Case[Any], settings: Any) -> float:
    """Return the machine-hours a day that settings keep whatever is done."""
    match case:
        case ClusterCase():
            return 24.0 * int(settings.min_nodes)
        case DeploymentCase():
            least = settings.autoscale.least if settings.autoscale else settings.instances
            return 24.0 * int(least or 0)
        case _:
            return 0.0


def untouched(
    estate: Estate, *, changed: Collection[str], before: Sequence[date], since: Sequence[date]
) -> Iterator[Stray]:
    """Yield how far the replays of computes that nobody changed were off.

    Args:
        estate: all of them.
        changed: ids of those that were.
        before: days to calibrate on.
        since: days to hold the bill against.
    """
    for key, case in estate.cases.items():
        if key in changed or case.calibration is None or not is_told(estate.bill, key):
            continue
        billed = billed_hours(case, estate.bill, case.rate.per_hour)
        replayed, first = case.as_was(), case.window.start_utc.date()
        (one, other), (one_since, other_since) = (
            _both(billed, replayed, first, days) for days in (before[-MAX_BASELINE_DAYS:], since)
        )
        few = min(one.size, one_since.size) < MIN_CALIBRATION_DAYS
        if few or min(one.sum(), other.sum(), other_since.sum()) <= 0:
            continue
        kept = always_there(case, case.settings)
        if stray := stray_of(case.resource.kind, (one, other), (one_since, other_since), kept=kept):
            yield stray


def stray_of(
    kind: Kind,
    before: tuple[Floats, Floats],
    since: tuple[Floats, Floats],
    *,
    kept: float,
    as_calibrated: bool = True,
) -> Stray | None:
    """Return how far a replay was off since its calibration; None where nothing came and went.

    Args:
        kind: of the compute.
        before: billed and replayed hours of each day that it is calibrated on.
        since: those of the days that it is held against.
        kept: replayed hours a day that were there whatever was done.
        as_calibrated: whether the settings in force replay the days as those before do.
    """
    k = float(before[0].sum() / before[1].sum())
    moving = float(since[1].mean()) - kept
    if moving <= 0:
        return None
    miss = since[0] / k - since[1]
    calibrated = of_mean(_error(*before), before[0].size).times(float(since[1].mean()))
    return Stray(
        kind=kind,
        share=float(miss.mean()) / moving,
        chance=float(np.hypot(calibrated.deviation, of_mean(miss, miss.size).deviation)) / moving,
        as_calibrated=as_calibrated,
    )


def _error(billed: Floats, replayed: Floats) -> Floats:
    """Return by how much each day of a calibration was off, as a share of the mean replay."""
    k = billed.sum() / replayed.sum()
    error: Floats = (billed / k - replayed) / replayed.mean()
    return error


def _both(
    billed: Floats, replayed: Floats, first: date, days: Sequence[date]
) -> tuple[Floats, Floats]:
    """Return billed and replayed hours of the days that both are known of."""
    at = np.array([(day - first).days for day in days], dtype=np.int64)
    at = at[(at >= 0) & (at < billed.size)]
    known = at[~np.isnan(billed[at]) & ~np.isnan(replayed[at])]
    return billed[known], replayed[known]
