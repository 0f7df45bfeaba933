"""How busy the machines of one compute were: all that right-sizing may know.

Histograms count machine-minutes by per mille of capacity, of the *maximum* within each sample;
they hold the grain they were seen at and are never compared with another grain's (methods §3.4).
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

BINS = 1001

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Histogram:
    """Minutes by per mille; at least one minute."""

    minutes: Floats
    """Of each of the 1001 bins."""

    @property
    def peak(self) -> float:
        """The highest share of capacity that was seen."""
        return float(np.flatnonzero(self.minutes)[-1]) / (BINS - 1)

    @property
    def mean(self) -> float:
        """The mean of the maxima."""
        return float(np.average(SHARES, weights=self.minutes))

    def quantile(self, q: float) -> float:
        """Return the lowest share that at least `q` of the minutes do not exceed."""
        below = self.minutes.cumsum()
        return float(np.searchsorted(below, q * below[-1] * (1 - 1e-12))) / (BINS - 1)

    def busiest(self, minutes: float) -> "Histogram":
        """Return its busiest `minutes`: what is left once idleness is taken off from below."""
        above = self.minutes[::-1].cumsum()
        kept = np.diff(np.minimum(above, minutes), prepend=0.0)[::-1]
        return Histogram(minutes=kept)

    def scaled_mean(self, mean: float) -> "Histogram":
        """Return one of the same shape whose mean is `mean`, that of averages and not of maxima."""
        factor = mean / self.mean if self.mean > 0 else 0.0
        at = np.minimum(np.rint(np.arange(BINS) * factor).astype(np.int64), BINS - 1)
        minutes: Floats = np.bincount(at, weights=self.minutes, minlength=BINS).astype(np.float64)
        return Histogram(minutes=minutes)


SHARES: Floats = np.arange(BINS) / (BINS - 1)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Use:
    """What was seen of one compute's machines. None = not observed, never 0."""

    machine_days: int
    days: int
    minutes: int
    """Machine-minutes that were observed."""
    busy_minutes: int
    cpu: Histogram | None
    cpu_mean: float | None
    """Mean of averages, over all that was observed."""
    memory: Histogram | None
    gpu: Histogram | None
    """Of device-minutes."""
    gpu_memory: Histogram | None
    gpus_seen: int | None
    """Most GPUs that one machine told of."""
    gpus_used: int | None
    """Most GPUs that one machine used on one day."""

    @property
    def cpu_at_work(self) -> Histogram | None:
        """CPU in the busiest of its minutes, as many as it was at work.

        Idle minutes take no longer on any machine and would hide how much longer work takes. All
        minutes where nothing tells which of them were at work.
        """
        if self.cpu is None or not self.busy_minutes:
            return self.cpu
        return self.cpu.busiest(self.busy_minutes)

    @property
    def cpu_mean_at_work(self) -> float | None:
        """Mean of averages over those minutes, as if work alone took CPU: it errs to the high."""
        if self.cpu is None or self.cpu_mean is None or not self.busy_minutes:
            return self.cpu_mean
        observed = float(self.cpu.minutes.sum())
        return self.cpu_mean * observed / min(observed, self.busy_minutes)


def use_of(seen: "pd.Series[Any]") -> Use:
    """Return the use of one compute from its row of `store.weeks.read_use`."""
    cpu = _histogram(seen["cpu_histogram"])
    told = _known(seen["cpu_sum"])
    return Use(
        machine_days=int(seen["machine_days"]),
        days=int(seen["days"]),
        minutes=int(seen["minutes"]),
        busy_minutes=int(seen["busy_minutes"]),
        cpu=cpu,
        cpu_mean=told / cpu.minutes.sum() / (BINS - 1) if cpu and told is not None else None,
        memory=_histogram(seen["memory_histogram"]),
        gpu=_histogram(seen["gpu_histogram"]),
        gpu_memory=_histogram(seen["gpu_memory_histogram"]),
        gpus_seen=_known(seen["gpus_seen"]),
        gpus_used=_known(seen["gpus_used"]),
    )


def _histogram(minutes: Floats | None) -> Histogram | None:
    return None if minutes is None else Histogram(minutes=minutes)


def _known(value: float) -> int | None:
    return None if pd.isna(value) else int(value)
