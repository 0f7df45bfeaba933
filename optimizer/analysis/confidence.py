"""How sure a figure is: day-block bootstrap, calibration on the bill, grades (methods §3.4)."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.special import ndtri, stdtrit

from optimizer.analysis.result import Calibration
from optimizer.model import Basis, Estimate, Level

Floats = npt.NDArray[np.float64]

DRAWS = 500
BLOCK_DAYS = 7
"""A week, so that a block keeps the weekly rhythm; shorter where there are fewer than three."""

OVERLAP = 1.5
"""Degrees of freedom of blocks that begin on any day, against those of blocks end to end."""

MAX_NMBE = 0.10
"""No saving is quoted beyond it (methods §0)."""

_MOST_PLACES = 8
"""What a bill may print behind the point; more is what arithmetic leaves."""

_SEED = 730
"""Any constant: the same history gives the same interval."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Grades:
    """What a finding must show to be trusted (methods §3.4)."""

    high_days: float = 28
    high_samples: int = 30
    high_p10_share: float = 0.7
    medium_days: float = 14
    medium_samples: int = 10


def next_month(daily: Floats, *, days_per_month: float) -> Estimate:
    """Return what a daily amount makes in the coming month, from its own history.

    `p50` is the mean of the history itself, so that estimates of parts add up. The interval is the
    spread between two independent months like it: the one that was seen and the one to come. The
    latter is of whole blocks, four weeks: the odd days of a longer month fall on days of the week
    that the calendar tells, and are no chance. Where no day loses, no month does.

    Args:
        daily: the amount on each whole day; at least one.
        days_per_month: 730 / 24.
    """
    centre = float(daily.mean()) * days_per_month
    if daily.size < 2:  # noqa: PLR2004 - one day has no spread to learn from
        return Estimate(p10=min(0.0, centre), p50=centre, p90=max(0.0, centre))
    rng = np.random.default_rng(_SEED)
    block = block_days(daily.size)
    seen = block_means(daily, daily.size // block * block, rng)
    to_come = block_means(daily, round(days_per_month / block) * block, rng)
    low, high = np.quantile(to_come - seen, [0.1, 0.9]) * (
        days_per_month * few_blocks(daily.size // block)
    )
    least = 0.0 if daily.min() >= 0 else -np.inf
    return Estimate(
        p10=min(centre, max(least, centre + float(low))), p50=centre, p90=max(centre, centre + high)
    )


def block_means(daily: Floats, length: int, rng: np.random.Generator) -> Floats:
    """Return `DRAWS` means of `length` days, drawn in blocks of consecutive days.

    The last day is followed by the first one where that keeps the rhythm of the blocks.
    """
    days = daily.size
    block = block_days(days)
    blocks = -(-length // block)
    first = rng.integers(0, days - (block - 1) * (days % block > 0), size=(DRAWS, blocks))
    at = (first[:, :, None] + np.arange(block)).reshape(DRAWS, -1)[:, :length] % days
    means: Floats = daily[at].mean(axis=1)
    return means


def block_days(days: int) -> int:
    """Return how many consecutive days of a history are drawn together."""
    return BLOCK_DAYS if days >= 3 * BLOCK_DAYS else max(1, round(days ** (1 / 3)))


def few_blocks(blocks: int, *, quantile: float = 0.9) -> float:
    """Return how much wider an interval is than its bootstrap, which knows few blocks as all.

    Drawing from `blocks` independent blocks makes their spread too small by √(1 − 1/blocks), and
    quantiles of a mean whose spread is itself estimated are Student's, not the normal ones. Blocks
    that overlap tell that spread better than those that do not: with half as many degrees of
    freedom again (Meketon and Schmeiser 1984). `quantile` is the upper end of the interval.

    >>> round(few_blocks(4), 3), round(few_blocks(52), 3), round(few_blocks(4, quantile=0.95), 3)
    (1.352, 1.019, 1.45)
    """
    blocks = max(blocks, 2)
    student = float(stdtrit(OVERLAP * (blocks - 1), quantile) / ndtri(quantile))
    return student * float(np.sqrt(blocks / (blocks - 1)))


def calibrate(bill: Floats, replay: Floats, *, basis: Basis) -> Calibration | None:
    """Compare bill and replay of today's settings, day by day, in money.

    Returns None where nothing was replayed or billed, so that no factor can be told.
    NMBE and CV(RMSE) as ASHRAE Guideline 14 defines them (methods §0, §9).
    """
    billed, replayed = float(bill.sum()), float(replay.sum())
    if billed <= 0 or replayed <= 0:
        return None
    return Calibration(
        k=billed / replayed,
        nmbe=(billed - replayed) / billed,
        cv_rmse=float(np.sqrt(np.mean((bill - replay) ** 2)) / bill.mean()),
        days=bill.size,
        basis=basis,
    )


def last_place(amounts: Iterable[float]) -> float:
    """Return the step to which amounts are rounded; 0.0 where they are not.

    >>> last_place([0.5, 1.2345]), last_place([1 / 3]), last_place([])
    (0.0001, 0.0, 0.0)
    """
    known = np.array(list(amounts))
    for places in range(_MOST_PLACES + 1 if known.size else 0):
        if np.allclose(known, known.round(places), rtol=0.0, atol=10.0 ** -(_MOST_PLACES + 4)):
            return float(10.0**-places)
    return 0.0


def grade(
    estimate: Estimate, *, days: float, samples: int, logs_agree: bool, limits: Grades | None = None
) -> Level:
    """Grade a saving by how long, how often and how well it was seen.

    Args:
        estimate: the saving.
        days: observed days.
        samples: independent occasions, such as idle gaps or jobs.
        logs_agree: node states come from the event log, not from sampled metrics alone.
        limits: defaults are those of methods §3.4.
    """
    limits = limits or Grades()
    if (
        logs_agree
        and days >= limits.high_days
        and samples >= limits.high_samples
        and estimate.p10 >= limits.high_p10_share * estimate.p50
    ):
        return Level.HIGH
    if days >= limits.medium_days and samples >= limits.medium_samples and estimate.p10 > 0:
        return Level.MEDIUM
    return Level.LOW
