"""One resource with its activity, its price and its physics: the question put to each detector.

A case can say what any policy would have cost on each day that was seen. Detectors propose
policies; they never reckon money themselves, and nothing that adds cases up knows their kinds.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Generic, Self, TypeVar

import numpy as np

from optimizer.analysis.confidence import Floats
from optimizer.analysis.features import Bools
from optimizer.analysis.rates import Rate
from optimizer.analysis.result import Calibration, Series
from optimizer.errors import OptimizerError
from optimizer.model import Effects, Estimate, Resource, Window
from optimizer.units import HOURS_PER_MONTH, SECONDS_PER_HOUR

S = TypeVar("S")
"""The settings of a kind of resource, frozen: what a finding changes."""

SECONDS_PER_DAY = 86_400
SERIES_STEP_SECONDS = 600


NOTHING_FELT = Effects(
    extra_waiting_minutes_per_month=0.0, extra_restarts_per_month=0.0, runtime_stretch=1.0
)
"""Of another way to pay: people and jobs notice nothing."""


class CannotAssessError(OptimizerError):
    """The question cannot be answered for this case; the text says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Assumptions:
    """What data cannot settle, and the limits below which nothing is said. See `config`."""

    cluster_interactive_share: float = 0.0
    instance_interactive_share: float = 0.25
    waiting_value_per_hour: float = 80.0
    min_saving_per_month: float = 20.0
    min_saving_share: float = 0.03
    time_zone: str = "UTC"
    """Of proposed schedules, by its IANA name."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Saving:
    """What a change saves on each whole day seen, and what else is unsure of it."""

    daily: Floats
    """Calibrated, in the billing currency."""
    low: float = 1.0
    """Factor on the mean at P10 for what the days cannot tell, such as open kernels."""
    high: float = 1.0


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Case(ABC, Generic[S]):
    """What every kind of resource can be asked."""

    rate: Rate
    """Of an hour of one of its machines as it was bought."""
    calibration: Calibration | None
    """None: its bill is not known by itself."""
    spend_per_month: float | None
    standing_per_day: float = 0.0
    """What it costs beside its machines as long as it exists: disks, load balancer, addresses."""
    standing_error_per_day: float = 0.0
    """How far that may be off: a bill tells each of its lines to half its last place."""

    @property
    @abstractmethod
    def resource(self) -> Resource:
        """The resource that a finding changes."""

    @property
    @abstractmethod
    def window(self) -> Window:
        """The whole days that were seen."""

    @property
    @abstractmethod
    def settings(self) -> S:
        """Today's policy."""

    @property
    @abstractmethod
    def samples(self) -> int:
        """Independent occasions behind a saving."""

    @property
    @abstractmethod
    def from_logs(self) -> bool:
        """Activity comes from a log of events, not from sampled metrics alone."""

    @property
    @abstractmethod
    def unknown_hours(self) -> float:
        """Hours of which nothing is known."""

    @property
    @abstractmethod
    def used_minutes(self) -> int:
        """Minutes from the window's start to the end of the last use; 0: there was none."""

    def after_use(self, step_seconds: int = SECONDS_PER_DAY) -> Bools:
        """Return which steps of the window begin after the last use: what deleting would save."""
        begins = np.arange(0, round(self.window.hours * SECONDS_PER_HOUR), step_seconds)
        unused: Bools = begins >= self.used_minutes * 60
        return unused

    @property
    def k(self) -> float:
        """Factor from replay to bill."""
        return self.calibration.k if self.calibration else 1.0

    @abstractmethod
    def hours(self, settings: S, step_seconds: int = SECONDS_PER_DAY) -> Floats:
        """Return the paid machine-hours in each step of the window."""

    @abstractmethod
    def as_was(self) -> Floats:
        """Return the paid machine-hours of each day under that day's settings; NaN = not known."""

    def under(self, settings: Mapping[str, Any]) -> Self:  # noqa: ARG002 - of others, by id
        """Return the case as it is once other resources have these settings; most do not care."""
        return self

    @property
    def waits_for(self) -> frozenset[str]:
        """Ids of the resources whose settings decide what this one costs; mostly none."""
        return frozenset()

    def at_most(self, after: S) -> Saving:
        """Return the most that `after` can save on each day, whatever settings others have."""
        return self.saving(after)

    def rate_of(self, settings: S) -> Rate:  # noqa: ARG002 - kinds that can change it do
        """Return what a machine-hour costs under `settings`.

        Raises:
            PriceNotFoundError: nobody knows it.
        """
        return self.rate

    @abstractmethod
    def saving(self, after: S, before: S | None = None) -> Saving:
        """Return what `after` saves against `before` (today's settings) on the days seen."""

    def of_deleting(self, daily: Floats) -> Saving:
        """Return what ends with the resource, as sure as the bill of what it costs beside machines.

        Without any spread of days, that is all there is to be unsure of.
        """
        share = self.standing_error_per_day / float(daily.mean())
        return Saving(daily=daily, low=1 - share, high=1 + share)

    @abstractmethod
    def effects(self, after: S, before: S) -> Effects:
        """Return what people and jobs feel of going from `before` to `after`."""

    @abstractmethod
    def series(self, after: Any) -> Series:
        """Return machines needed, paid now and paid under `after` over time."""

    def formula(self, after: S, before: S, saving: Estimate) -> str:
        """Return how the saving comes about, with its numbers in it."""
        rates = self.rate_of(before), self.rate_of(after)
        hours = self.hours(before).sum(), self.hours(after).sum()
        basis = rates[1].basis
        if rates[0].per_hour == rates[1].per_hour:
            difference = (
                f"({hours[0]:,.1f} h paid before − {hours[1]:,.1f} h with the change) in "
                f"{self.window.days:.0f} days × {rates[0].per_hour:.4f} per hour ({basis})"
            )
        else:
            difference = (
                f"({hours[0]:,.1f} h × {rates[0].per_hour:.4f} − {hours[1]:,.1f} h × "
                f"{rates[1].per_hour:.4f} ({basis})) in {self.window.days:.0f} days"
            )
        return (
            f"{difference} × {self.k:.4f} calibration × "
            f"{HOURS_PER_MONTH:.0f} h / {self.window.hours:.0f} h = {saving.p50:,.2f} per month"
        )
