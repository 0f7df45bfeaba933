"""How much a calibration strays by itself, learnt from all computes of a kind (methods §9).

Days that are nearly alike say little of how far a replay may be off in another month. What the
replay of the settings of now misses the bill by, on the days since, was in nobody's calibration.
"""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from datetime import date

import numpy as np
from scipy.optimize import brentq
from scipy.special import stdtrit

from optimizer.analysis.assemble import MIN_CALIBRATION_DAYS, Estate
from optimizer.analysis.confidence import Floats, block_means
from optimizer.model import Kind
from optimizer.remediation.baseline import MAX_BASELINE_DAYS, billed_hours, is_told

LEAST_CHANCE = 1e-4
"""Share by which rounding alone parts a bill from its replay."""

_UPPER = 0.95
_SEED = 9


@dataclass(frozen=True, slots=True, kw_only=True)
class Stray:
    """How far one replay was off on days that it was not calibrated on."""

    kind: Kind
    share: float
    """(Bill − k × replay of what was in force) ÷ k × replay of the settings before."""
    chance: float
    """Standard deviation that the scatter of its days explains."""


def half_width(strays: Collection[Stray]) -> float:
    """Return the 90 % half-width of what a calibration strays beyond chance, as a share.

    A random effect around nothing, by the estimator of Paule and Mandel (1982): the variance that
    makes the weighted squares of what was seen as large as their number. Student's quantile for
    that number makes up for its being estimated. 0 where nothing was seen.

    >>> kinds = [Stray(kind=Kind.CLUSTER, share=s, chance=0.0) for s in (0.01, -0.01)]
    >>> round(half_width(kinds), 4), round(half_width([]), 4)
    (0.0292, 0.0)
    """
    if not strays:
        return 0.0
    squares = np.array([stray.share**2 for stray in strays])
    chances = np.array([max(stray.chance, LEAST_CHANCE) ** 2 for stray in strays])

    def excess(variance: float) -> float:
        return float((squares / (chances + variance)).sum()) - squares.size

    if excess(0.0) <= 0:
        return 0.0
    variance = float(brentq(excess, 0.0, float(squares.sum())))
    return float(np.sqrt(variance) * stdtrit(squares.size, _UPPER))


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
        k = float(one.sum() / other.sum())
        yield Stray(
            kind=case.resource.kind,
            share=float(one_since.sum() / other_since.sum()) / k - 1,
            chance=float(np.std(means_apart(one / k, other, one_since.size))),
        )


def means_apart(billed: Floats, replayed: Floats, days: int) -> Floats:
    """Return draws of what chance among days makes of bill less replay, as a share of the replay.

    Day blocks of the time before are drawn twice, for the calibration and for the days since.
    """
    error = (billed - replayed) / replayed.mean()
    rng = np.random.default_rng(_SEED)
    return block_means(error, days, rng) - block_means(error, error.size, rng)


def _both(
    billed: Floats, replayed: Floats, first: date, days: Sequence[date]
) -> tuple[Floats, Floats]:
    """Return billed and replayed hours of the days that both are known of."""
    at = np.array([(day - first).days for day in days], dtype=np.int64)
    at = at[(at >= 0) & (at < billed.size)]
    known = at[~np.isnan(billed[at]) & ~np.isnan(replayed[at])]
    return billed[known], replayed[known]
