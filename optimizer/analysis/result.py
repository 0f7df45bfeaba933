"""What an analysis hands on: to scenarios, plan, page, mail and terminal alike."""

from collections.abc import Collection, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from datetime import date
from typing import Protocol

import numpy as np
import numpy.typing as npt

from optimizer.analysis.anomalies import Anomaly
from optimizer.analysis.forecast import MonthEnd
from optimizer.analysis.rate_savings import RateSavings
from optimizer.model import Basis, Estimate, Finding, Gone, NotAssessed, Resource, Window


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibration:
    """How well the replay of today's settings meets the bill, per resource (methods §0)."""

    k: float
    """Σ bill / Σ replay; every saving of the resource is multiplied by it."""
    nmbe: float
    """(Σ bill − Σ replay) / Σ bill, over whole billed days."""
    cv_rmse: float
    """Root mean square of the daily differences / mean daily bill."""
    days: int
    """Whole billed days it rests on."""
    basis: Basis


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Series:
    """Nodes (of an instance: 0 or 1) over time, in steps of equal length: a finding's picture."""

    times_utc: npt.NDArray[np.datetime64]
    needed: npt.NDArray[np.float64]
    """Nodes at work; NaN = not observed."""
    on_now: npt.NDArray[np.float64]
    """Nodes paid for as it was, by replay of today's settings."""
    on_changed: npt.NDArray[np.float64]
    """Nodes paid for had the finding's change been in place."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Felt:
    """What people and jobs feel of all changes of a choice together, against today's settings."""

    extra_waiting_minutes_per_month: float = 0.0
    """Of the resources where it is known."""
    extra_restarts_per_month: float = 0.0
    waiting_not_known: int = 0
    """Resources that the waiting says nothing of."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Together:
    """What a set of findings saves: in all, and each after those before it."""

    total: Estimate
    marginal: Mapping[str, Estimate]
    """By finding id, in the order of the waterfall; sums to the total at p50."""
    by_detector: Mapping[str, Estimate]
    by_owner: Mapping[str | None, Estimate]
    """Each owner's share; None: of what nobody owns. Sums to the total at p50."""
    felt: Felt


@dataclass(frozen=True, slots=True, kw_only=True)
class Combination:
    """Some findings of one resource, replayed together."""

    resource_id: str
    finding_ids: tuple[str, ...]
    saving: Estimate
    """Against today's settings. Of a purchase: the most it can save, whatever else changes."""
    felt: Felt
    waits_for: frozenset[str] = frozenset()
    """Resources whose changes decide what a purchase saves; empty for all others."""


class JointReplay(Protocol):
    """Everything needed to total any choice of findings; `analysis/joint.py` provides it."""

    def together(self, finding_ids: Collection[str], /) -> Together:
        """Replay all changes of these findings at once."""

    def would_add(
        self, finding_ids: Collection[str], others: Collection[str], /
    ) -> Mapping[str, Estimate]:
        """Return what each of the others alone would add to a choice.

        An other that excludes one of the choice, or whose price is not known, is not among them.
        """

    def combinations(self, finding_ids: Collection[str], /) -> tuple[Combination, ...]:
        """Return the ways to follow some of these findings, resource by resource."""

    def after_others(self, finding_ids: Collection[str], every: Collection[str], /) -> Estimate:
        """Return what findings of one resource save once all of `every` are carried out.

        For purchases, whose worth depends on what others leave.
        """

    def excludes(self, finding_id: str, finding_ids: AbstractSet[str], /) -> str | None:
        """Return the first of these findings that cannot be followed beside this one, or None."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Analysis:
    """Everything that was found in one window, priced, ranked and added up without overlap."""

    currency: str
    window: Window
    findings: tuple[Finding, ...]
    """Largest saving first; findings without a known price last."""
    not_assessed: tuple[NotAssessed, ...]
    spend_per_month: float
    saving_per_month: Estimate
    """Of all findings together, by joint replay: never a sum of findings."""
    by_detector: Mapping[str, Estimate]
    """The waterfall: what each detector adds to those before it; telescopes to the total at p50."""
    resources: Mapping[str, Resource]
    rate_savings: RateSavings | None = None
    """What the rates save against list already; None where the analysis was made by hand."""
    calibrations: Mapping[str, Calibration] = field(default_factory=dict)
    daily_spend: Mapping[date, float] = field(default_factory=dict)
    """Whole billed days of the window."""
    month_end: MonthEnd | None = None
    """What the month under way will have cost; None: less than a week is billed."""
    anomalies: tuple[Anomaly, ...] = ()
    """Billed days out of the ordinary, oldest first."""
    formulas: Mapping[str, str] = field(default_factory=dict)
    """By finding id: how its saving comes about, with the numbers in it."""
    sensitivity: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """By finding id: what would change the answer."""
    series: Mapping[str, Series] = field(default_factory=dict)
    """By finding id."""
    gone: tuple[Gone, ...] = ()
    """Findings of the collection before this one, or of the last mail, that are no longer there."""
    joint: JointReplay | None = None
    """Totals any choice of these findings; None where the analysis was put together by hand."""

    def finding(self, finding_id: str) -> Finding | None:
        """Return the finding with this id, or None."""
        return next((f for f in self.findings if f.id == finding_id), None)
