"""Commitments that were bought, as cases: what they cover, what they cost, and what goes unused.

Azure tells the share of a commitment that is used, and neither its size nor its price. The bill
tells the rest: the hours it covered and their amortised cost are that share of it, on the same
days. Use outside Azure Machine Learning is not in the bill that was read, so the commitment is at
least so large.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeAlias

import numpy as np

from optimizer.analysis.case import NOTHING_FELT, SECONDS_PER_DAY, Case, Saving
from optimizer.analysis.commitments import HOURS_PER_DAY
from optimizer.analysis.confidence import Floats, next_month
from optimizer.analysis.features import Benefit, CostLine
from optimizer.analysis.rate_savings import under_commitment, under_savings_plan
from optimizer.analysis.rates import Rate
from optimizer.analysis.result import Series
from optimizer.catalogue import vm_family
from optimizer.model import Basis, Effects, Estimate, Kind, PoolSettings, Resource, Window
from optimizer.units import HOURS_PER_MONTH, MINUTES_PER_DAY

_Group: TypeAlias = str | None
"""The family that a reservation serves; None: any, as a savings plan does."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class CommitmentCase(Case[PoolSettings]):
    """A reservation or savings plan and the hours that it covered, at their mean rate."""

    bought: Resource
    billed: Window
    """Whole billed days, from the first to the last of which Azure told its use."""
    used_hours: Floats
    """Machine-hours it covered on each day."""
    utilisation: float
    """Share of it that was used on those days; over 0."""

    @property
    def resource(self) -> Resource:
        """The commitment."""
        return self.bought

    @property
    def window(self) -> Window:
        """The days of the bill."""
        return self.billed

    @property
    def settings(self) -> PoolSettings:
        """Nothing is bought beside it."""
        return PoolSettings()

    @property
    def samples(self) -> int:
        """Days."""
        return self.used_hours.size

    @property
    def from_logs(self) -> bool:
        """It rests on the bill alone."""
        return False

    @property
    def unknown_hours(self) -> float:
        """None: a bill is whole."""
        return 0.0

    @property
    def used_minutes(self) -> int:
        """Minutes from the window's start to the end of the last day with use; 0: none."""
        used = np.flatnonzero(self.used_hours)
        return (int(used[-1]) + 1) * MINUTES_PER_DAY if used.size else 0

    @property
    def machines(self) -> float:
        """Machines committed to, of the mean rate; at least."""
        return float(self.used_hours.mean()) / self.utilisation / HOURS_PER_DAY

    @property
    def unused_per_month(self) -> Estimate:
        """What is paid for and not used, as on the days seen; at least."""
        lost = (self.machines * HOURS_PER_DAY - self.used_hours) * self.rate.per_hour
        return next_month(lost, days_per_month=HOURS_PER_MONTH / HOURS_PER_DAY)

    def hours(self, settings: PoolSettings, step_seconds: int = SECONDS_PER_DAY) -> Floats:  # noqa: ARG002
        """Return the machine-hours committed in each step: it is paid for whether used or not."""
        steps = round(self.window.days) * SECONDS_PER_DAY // step_seconds
        return np.full(steps, self.machines * HOURS_PER_DAY * step_seconds / SECONDS_PER_DAY)

    def as_was(self) -> Floats:
        """Return the machine-hours committed on each day."""
        return self.hours(self.settings)

    def saving(self, after: PoolSettings, before: PoolSettings | None = None) -> Saving:  # noqa: ARG002
        """Return nothing: what was committed is owed for the rest of its term."""
        return Saving(daily=np.zeros(self.used_hours.size))

    def effects(self, after: PoolSettings, before: PoolSettings) -> Effects:  # noqa: ARG002
        """Return what people and jobs feel: nothing, it is a way to pay."""
        return NOTHING_FELT

    def series(self, after: PoolSettings) -> Series:  # noqa: ARG002
        """Return machines covered and machines committed on each day."""
        start = np.datetime64(self.window.start_utc.replace(tzinfo=None), "s")
        days = self.used_hours.size
        committed = np.full(days, self.machines)
        return Series(
            times_utc=start + np.arange(days) * np.timedelta64(SECONDS_PER_DAY, "s"),
            needed=self.used_hours / HOURS_PER_DAY,
            on_now=committed,
            on_changed=committed,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Commitments:
    """All commitments by id: those that can be judged, and why the others cannot."""

    resources: Mapping[str, Resource]
    cases: Mapping[str, Case[Any]]
    unassessable: Mapping[str, str]


def commitments_of(
    benefits: Iterable[Benefit], lines: Iterable[CostLine], billed: Window
) -> Commitments:
    """Return the commitments that Azure told of, each with the hours that it covered.

    Args:
        benefits: as Azure tells them.
        lines: attributed costs, of whole billed days.
        billed: the days of `lines`.
    """
    every = tuple(benefits)
    covered = [line for line in lines if under_commitment(line.pricing_model) and line.hours]
    groups = [_group(benefit) for benefit in every]
    resources: dict[str, Resource] = {}
    cases: dict[str, Case[Any]] = {}
    refused: dict[str, str] = {}
    for benefit, group in zip(every, groups, strict=True):
        resource = _resource(benefit)
        resources[resource.resource_id] = resource
        told = _told(benefit, billed)
        if told is None:
            refused[resource.resource_id] = "Azure told no use of it."
            continue
        utilisation, seen = told
        first = seen.start_utc.date()
        mine = [
            line
            for line in covered
            if _serves(benefit, line) and first <= line.day < seen.end_utc.date()
        ]
        unpriced = _unpriced(utilisation, mine, alone=groups.count(group) == 1)
        if unpriced is not None:
            refused[resource.resource_id] = unpriced
            continue
        hours = np.zeros(round(seen.days))
        for line in mine:
            hours[(line.day - first).days] += line.hours or 0.0
        rate = Rate(
            per_hour=sum(line.cost for line in mine) / float(hours.sum()), basis=Basis.EFFECTIVE
        )
        cases[resource.resource_id] = CommitmentCase(
            bought=resource,
            billed=seen,
            used_hours=hours,
            utilisation=utilisation,
            rate=rate,
            calibration=None,
            spend_per_month=None,
        )
    return Commitments(resources=resources, cases=cases, unassessable=refused)


def _told(benefit: Benefit, billed: Window) -> tuple[float, Window] | None:
    """Return the mean use of the billed days of which Azure told it, and from when to when.

    Where only a mean was kept, it is taken for that of all billed days.
    """
    if not benefit.by_day:
        return None if benefit.utilisation is None else (benefit.utilisation, billed)
    first, end = billed.start_utc.date(), billed.end_utc.date()
    shares = {day: share for day, share in benefit.by_day.items() if first <= day < end}
    if not shares:
        return None
    start_utc = billed.start_utc + (min(shares) - first)
    length = max(shares) - min(shares) + timedelta(days=1)
    seen = Window(start_utc=start_utc, end_utc=start_utc + length)
    return sum(shares.values()) / len(shares), seen


def _unpriced(utilisation: float, mine: list[CostLine], *, alone: bool) -> str | None:
    """Return why the bill does not tell what a commitment costs; None: it does."""
    told = f"It is used to {utilisation:.0%}, but what it costs is not known: "
    if not alone:
        return f"{told}several commitments cover the same hours of the bill."
    if not mine or utilisation <= 0:
        return f"{told}it covered no hour of a compute that was collected."
    return None


def _group(benefit: Benefit) -> _Group:
    return None if benefit.is_savings_plan else vm_family(benefit.sku or "")


def _serves(benefit: Benefit, line: CostLine) -> bool:
    if under_savings_plan(line.pricing_model):
        return benefit.is_savings_plan
    return not benefit.is_savings_plan and vm_family(line.vm_size or "") == _group(benefit)


def _resource(benefit: Benefit) -> Resource:
    short = benefit.benefit_id.rpartition("/")[2][:8]
    what = "savings plan" if benefit.is_savings_plan else f"reservation of {benefit.sku}"
    return Resource(
        resource_id=benefit.benefit_id,
        kind=Kind.COMMITMENT,
        name=f"{what} {short}",
        workspace_id=benefit.order_id or "",
        region="",
        sku=None,
        vm_priority=None,
        state=None,
        created_utc=None,
        owner=None,
    )
