"""Work on machines that may be taken away: how much longer it takes, and how often it happens.

Formulas of methods §4; times are in hours. M is the mean time between evictions, 1/λ; of a gang of
N nodes it is M/N, for losing one of them ends the work of all.
"""

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.optimize import brentq
from scipy.stats import gamma

Floats = npt.NDArray[np.float64]

PRIOR_EVICTIONS = 1.0
PRIOR_HOURS = 24.0
"""One eviction a day, and as little sure of it, before anything was seen (methods §4.3)."""

_LARGEST_EXPONENT = 50.0
"""Beyond it work practically never ends; larger ones would only overflow."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EvictionRate:
    """Evictions of a node-hour, learnt as Gamma(1 + k, 24 h + H)."""

    evictions: int = 0
    """k: seen on low-priority nodes of this estate."""
    hours: float = 0.0
    """H: node-hours they were seen in."""
    away_seconds: float = 0.0
    """How long a node that was taken away is missing before another may come; 0: none was seen."""

    @property
    def mean(self) -> float:
        """The expected rate."""
        return (PRIOR_EVICTIONS + self.evictions) / (PRIOR_HOURS + self.hours)

    def quantile(self, q: float) -> float:
        """Return a quantile of the rate; what is decided is decided at 0.95."""
        scale = 1 / (PRIOR_HOURS + self.hours)
        return float(gamma.ppf(q, PRIOR_EVICTIONS + self.evictions, scale=scale))


def expected_hours(work: Floats, mean_between: Floats | float, restart: float) -> Floats:
    """Return E[T] of work without checkpoints: (e^(W/M) − 1)(M + R)."""
    exponent = np.minimum(work / mean_between, _LARGEST_EXPONENT)
    hours: Floats = np.expm1(exponent) * (mean_between + restart)
    return hours


def expected_hours_with_checkpoints(
    work: float, mean_between: float, *, every: float, dump: float, restart: float
) -> float:
    """Return E[T] of work that is saved every τ hours at δ hours each (Daly).

    E[T] = M e^(R/M) (e^((τ+δ)/M) − 1) W/τ.
    """
    m = mean_between
    return m * math.exp(restart / m) * math.expm1((every + dump) / m) * work / every


def best_checkpoint_interval(mean_between: float, *, dump: float) -> float:
    """Return Daly's optimum of the time between checkpoints."""
    m = mean_between
    if dump >= 2 * m:
        return m
    ratio = dump / (2 * m)
    return math.sqrt(2 * dump * m) * (1 + math.sqrt(ratio) / 3 + ratio / 9) - dump


def longest_that_pays(discount: float) -> float:
    """Return x(d): work without checkpoints pays while W/M < x, (1−d)(e^x − 1)/x = 1."""
    return float(brentq(lambda x: (1 - discount) * math.expm1(x) / x - 1, 1e-9, _LARGEST_EXPONENT))


def stretch(work: Floats, nodes: Floats, rate: float, *, restart: float) -> float:
    """Return how many times as long runs without checkpoints take, weighted by node-hours."""
    if not work.size or rate <= 0:
        return 1.0
    longer = expected_hours(work, 1 / (rate * nodes), restart)
    return float((longer * nodes).sum() / (work * nodes).sum())
