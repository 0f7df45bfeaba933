"""Another machine for the same work: whether it fits, how long it takes, which is cheapest.

For training the target is the cost of a finished job, not utilisation (methods §3.2): another size
costs R = (p′ ÷ p) × S of what it did, S being how much longer the work takes.
"""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np

from optimizer.analysis.use import SHARES, Histogram, Use
from optimizer.catalogue import Size

HEADROOM = 0.9
"""θ: the least share of a machine's CPU that work can really use (methods §3.2b)."""

LIKELY_HEADROOM = (1 - HEADROOM) / math.log(1 / HEADROOM)
"""θ where work can use any share from `HEADROOM` to all of a machine: 1 ÷ mean of 1/θ."""

LARGEST_VCPUS = 96
"""What the largest general-purpose sizes have, D96 of versions 3 to 5: as far as a hidden need is
taken to reach."""

BATCH_MEMORY = 0.8
"""The most of a target's memory that the peak may take: training and development (methods §12)."""

GPU_MEMORY = 0.9

DEVELOPMENT_CPU = 0.7
"""The most of a target's CPU that the 95th percentile of active minutes may take (§3.2a)."""

CONTEXT_GIB = 0.6
"""GPU memory below which nothing but a driver's context was there (methods §3.3)."""

PREALLOCATED = 0.95
"""A peak from here on says what a framework reserved, not what work needs (methods §3.3)."""

MAX_STRETCH = 1.2
"""Work that would take longer than this is not proposed to, however cheap: people wait for it."""

MAX_COST_RATIO = 0.9
"""R at its upper end from which on another size is recommended (methods §3.2b)."""

PEGGED = 0.98
"""CPU use from here on may hide a need for more (methods §3.2b)."""

BETWEEN_BURSTS = 0.5
"""What CPUs are taken to do between bursts, as a share of them."""

MOST_SAMPLES = 0.5
"""Share of samples that must be full at their maximum before any time is taken to be."""

_RETIRED = {"nv", "ncs_v2", "nds", "ndrs", "nc", "ncr", "ncrs_v2"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Stretch:
    """How many times as long work takes on another size."""

    best: float
    """Where work can use all of a machine's CPUs, and a pegged one as many more as it is given."""
    likely: float
    """From the averages within samples; of pegged CPUs, the mean of what they may hide."""
    worst: float
    """From the maxima within samples, and as if no pegged CPU would use more."""


SAME = Stretch(best=1.0, likely=1.0, worst=1.0)


def stretch(use: Use, now: Size, then: Size) -> Stretch | None:
    """Return S of a change of size, or None where what it needs was not observed.

    S = mean over minutes at work of max(1, u ÷ (κ θ)), κ the ratio of cores (methods §3.2b). The
    number of GPUs in use must fit; a GPU of another model is another question, as none here knows
    its speed. On a larger size, minutes with room take as long as they did, and pegged ones between
    as long and 1 ÷ κ; see `hidden`.
    """
    at_work, mean = use.cpu_at_work, use.cpu_mean_at_work
    if at_work is None or mean is None:
        return None
    if then.gpus and then.gpu_model != now.gpu_model:
        return None
    ratio = then.vcpus / now.vcpus
    mean = min(mean, at_work.mean)
    if ratio >= 1:
        at_times, pegged = _pegged(at_work, mean)
        return Stretch(
            best=1 - at_times * (1 - 1 / ratio),
            likely=1 - pegged * (1 - hidden(ratio, most=LARGEST_VCPUS / now.vcpus)),
            worst=1.0,
        )
    averages = at_work.scaled_mean(mean)
    worst = _bottleneck(at_work, ratio * HEADROOM)
    likely = min(_bottleneck(averages, ratio * LIKELY_HEADROOM), worst)
    # Whatever the averages were, none exceeds its maximum: what does not fit is made up for later.
    fits = float(np.average(np.minimum(SHARES, ratio), weights=at_work.minutes))
    best = 1 + max(0.0, mean - fits) / ratio
    return Stretch(best=min(best, likely), likely=likely, worst=worst)


def _pegged(at_work: Histogram, mean: float) -> tuple[float, float]:
    """Return the share of samples that were full at their maximum, and the time that was full.

    Averages are taken for the same share of every maximum. A full sample was full for what its
    average has beyond half of the CPUs, which is the level between bursts. Where fewer than half
    are full these are the bursts of work that has room: no time of it is taken to be full.
    """
    full = SHARES >= PEGGED
    at_times = float(at_work.minutes[full].sum() / at_work.minutes.sum())
    if at_times < MOST_SAMPLES:
        return at_times, 0.0
    averages = SHARES[full] * mean / at_work.mean
    level = float(np.average(averages, weights=at_work.minutes[full]))
    return at_times, at_times * max(0.0, level - BETWEEN_BURSTS) / (1 - BETWEEN_BURSTS)


def hidden(ratio: float, *, most: float) -> float:
    """Return how long a pegged minute likely takes with `ratio` times the CPUs.

    A need of n times the CPUs there are would take max(1/n, 1/ratio). Use is censored at n = 1 and
    says nothing of n beyond, so each doubling up to `most` is taken to be as likely as the other:
    ln n is uniform, the prior of a quantity whose scale is not known. The mean over it is
    (1 − 1/ratio) ÷ ln most + (1 − ln ratio ÷ ln most) ÷ ratio.

    >>> round(hidden(2, most=24), 3), hidden(1, most=24), round(hidden(2, most=2), 3)
    (0.548, 1.0, 0.721)
    """
    reach = math.log(max(ratio, most))
    if reach <= 0:
        return 1.0
    return (1 - 1 / ratio) / reach + (1 - math.log(ratio) / reach) / ratio


def _bottleneck(use: Histogram, limit: float) -> float:
    return float(np.average(np.maximum(1.0, SHARES / limit), weights=use.minutes))


def comfortable(use: Use, now: Size, then: Size) -> bool:
    """Tell whether 95 % of active minutes take at most 70 % of a size's CPUs (methods §3.2a)."""
    if then.vcpus >= now.vcpus:
        return True
    active = use.cpu_at_work
    if active is None or not use.busy_minutes:
        return False
    return active.quantile(0.95) * now.vcpus <= DEVELOPMENT_CPU * then.vcpus


def memory_fits(use: Use, now: Size, then: Size, *, share: float = BATCH_MEMORY) -> bool:
    """Tell whether the highest memory ever seen takes no more than `share` of the target's.

    Where memory was not observed only a size with at least as much fits.
    """
    if then.memory_gib >= now.memory_gib:
        return True
    return use.memory is not None and use.memory.peak * now.memory_gib <= share * then.memory_gib


def similar(now: Size, then: Size) -> bool:
    """Tell whether a size can stand in for another: nothing it has besides capacity is lost.

    Premium storage and InfiniBand are told by the letters `s` and `r` of a name; burstable,
    confidential and retired sizes stand in for none.
    """
    ours, theirs = _letters(now.sku), _letters(then.sku)
    kept = all(letter in theirs for letter in "sr" if letter in ours)
    return kept and then.family not in _RETIRED and (then.family == now.family or not _odd(then))


def _letters(sku: str) -> str:
    """Return the letters behind the number of cores: `s` and `r` among them mean something.

    >>> _letters("Standard_NC24rs_v3"), _letters("Standard_DS3_v2")
    ('rs', 's')
    """
    name = sku.lower().removeprefix("standard_").split("_")[0]
    head = name.rstrip("abcdefghijklmnopqrstuvwxyz")
    tail = name[len(head) :]
    # The old spelling has the letter before the number: DS3_v2.
    first = head.rstrip("0123456789-")
    return tail + ("s" if len(first) > 1 and first.endswith("s") else "")


def _odd(size: Size) -> bool:
    """Tell whether a size is burstable, confidential, or made for storage, memory or tight MPI."""
    family = size.family
    return family.startswith(("a", "b", "dc", "ec", "g", "h", "l", "m", "np")) or "promo" in family


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """A size that costs less for the same work."""

    size: Size
    rate_per_hour: float
    stretch: Stretch
    cost_ratio: float
    """R at its upper end."""

    @property
    def likely_ratio(self) -> float:
        """R as it will likely be."""
        return self.cost_ratio / self.stretch.worst * self.stretch.likely


def choices_among(
    sizes: Iterable[Size],
    *,
    now_per_hour: float,
    rate: Callable[[Size], float | None],
    stretch_to: Callable[[Size], Stretch | None],
    max_stretch: float = MAX_STRETCH,
) -> list[Choice]:
    """Return what each size would cost against today's, lowest R at its upper end first.

    Args:
        sizes: those that fit.
        now_per_hour: today's rate.
        rate: of a size; None where nobody knows it.
        stretch_to: S of a change to a size; None where it is not known.
        max_stretch: the most that S may be.
    """
    choices = []
    for size in sizes:
        per_hour, longer = rate(size), stretch_to(size)
        if per_hour is None or longer is None or longer.worst > max_stretch:
            continue
        choices.append(
            Choice(
                size=size,
                rate_per_hour=per_hour,
                stretch=longer,
                cost_ratio=per_hour / now_per_hour * longer.worst,
            )
        )
    return sorted(choices, key=lambda each: (each.cost_ratio, each.size.sku))
