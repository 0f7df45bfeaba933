"""How much a calibration moves by itself, learnt from computes that nobody changed (methods §9)."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import date

import numpy as np
from scipy.special import stdtrit

from optimizer.analysis.assemble import MIN_CALIBRATION_DAYS, Estate
from optimizer.analysis.confidence import Floats, block_means
from optimizer.remediation.baseline import MAX_BASELINE_DAYS, billed_hours, is_told

_SEED = 9


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Placebo:
    """A compute that nobody changed: what is told of it there says how far a replay may stray."""

    first: date
    billed: Floats
    replayed: Floats

    def between(self, days: Sequence[date]) -> tuple[Floats, Floats]:
        """Return billed and replayed hours of the days that both are known of."""
        at = np.array([(day - self.first).days for day in days], dtype=np.int64)
        at = at[(at >= 0) & (at < self.billed.size)]
        both = at[~np.isnan(self.billed[at]) & ~np.isnan(self.replayed[at])]
        return self.billed[both], self.replayed[both]


class Drift:
    """The drift of calibrations in one estate."""

    def __init__(self, estate: Estate, *, changed: Collection[str]) -> None:
        """Take all computes of the estate but those that were changed."""
        self._known: dict[tuple[date, date, int], float] = {}
        self._placebos = [
            _Placebo(
                first=case.window.start_utc.date(),
                billed=billed_hours(case, estate.bill, case.rate.per_hour),
                replayed=case.as_was(),
            )
            for key, case in estate.cases.items()
            if key not in changed and case.calibration is not None and is_told(estate.bill, key)
        ]

    def half_width(self, before: Sequence[date], since: Sequence[date]) -> float:
        """Return the 90 % half-width of a calibration's drift, as a share of what is replayed.

        The excess of the computes' own drifts over what chance among their days explains, as a
        random effect (DerSimonian and Laird 1986), with Student's quantile for their number.
        0 where there is no such compute.
        """
        key = (before[0], since[0], len(since))
        if key not in self._known:
            self._known[key] = self._half_width(before, since)
        return self._known[key]

    def _half_width(self, before: Sequence[date], since: Sequence[date]) -> float:
        drifts = [
            found
            for placebo in self._placebos
            if (found := _drift(placebo.between(before), placebo.between(since))) is not None
        ]
        if not drifts:
            return 0.0
        square, chance = np.mean(drifts, axis=0)
        excess = float(np.sqrt(max(0.0, square - chance)))
        return excess * float(stdtrit(len(drifts), 0.95))


def _drift(
    before: tuple[Floats, Floats], since: tuple[Floats, Floats]
) -> tuple[float, float] | None:
    """Return the square of a drift and what of it chance among days explains."""
    (billed, replayed), (billed_since, replayed_since) = before, since
    few = min(billed.size, billed_since.size) < MIN_CALIBRATION_DAYS
    if few or min(billed.sum(), replayed.sum(), replayed_since.sum()) <= 0:
        return None
    billed, replayed = billed[-MAX_BASELINE_DAYS:], replayed[-MAX_BASELINE_DAYS:]
    k = float(billed.sum() / replayed.sum())
    moved = float(billed_since.sum() / replayed_since.sum()) / k - 1
    error = (billed - k * replayed) / (k * replayed.mean())
    rng = np.random.default_rng(_SEED)
    chance = block_means(error, billed_since.size, rng) - block_means(error, billed.size, rng)
    return moved**2, float(chance.var())
