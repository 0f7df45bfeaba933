"""What one commitment can cover, as a case of its own: the hours that all its computes will pay.

A reservation with instance size flexibility serves every size of its family in its region, so the
question is asked once for a subscription, a region and a family. Commitments come last (methods
§6): the hours are those left once all other changes that were chosen are made.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any, TypeAlias

import numpy as np

from optimizer.analysis.case import NOTHING_FELT, SECONDS_PER_DAY, Case, Saving
from optimizer.analysis.commitments import (
    HOURS_PER_DAY,
    flexibility_ratio,
    held_level,
    plan_covers,
)
from optimizer.analysis.confidence import Floats
from optimizer.analysis.features import CostLine
from optimizer.analysis.rate_savings import pays_by_the_hour, under_commitment
from optimizer.analysis.rates import Rate, Rates
from optimizer.analysis.result import Series
from optimizer.catalogue import Size, vm_family
from optimizer.model import Basis, Effects, Estimate, Kind, PoolSettings, Resource, Window
from optimizer.units import HOURS_PER_MONTH, SECONDS_PER_HOUR

_Group: TypeAlias = tuple[str, str, str]
"""Subscription, region and family."""

_AN_HOUR = timedelta(hours=1)
_LATELY = timedelta(days=7)
"""What shows what is held today."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PoolCase(Case[PoolSettings]):
    """A family of sizes in a region of a subscription, counted in machines of one size."""

    pool: Resource
    span: Window
    """Whole days, of all members together."""
    unit: Size
    """The smallest size in use that has a reservation price: what a reservation would be of."""
    neighbours: tuple[Case[Any], ...]
    """Computes of the same subscription and region, whatever their family today."""
    chosen: Mapping[str, Any]
    """Settings by resource id, of those that are to change."""
    terms: Mapping[str, Rate]
    """What a reserved hour of one unit costs, by term."""
    held: float = 0.0
    """Units that commitments cover already."""
    plan_applies: bool = False
    """The bill shows that a savings plan covers machines of Azure Machine Learning."""
    rates: Rates
    _hours: dict[tuple[str, Any], Floats] = field(repr=False, default_factory=dict)
    """Worked out once for all choices of changes."""

    @property
    def resource(self) -> Resource:
        """The pool, which is no resource of Azure's: its id is where its quota stands."""
        return self.pool

    @property
    def window(self) -> Window:
        """The whole days that were seen of any member."""
        return self.span

    @property
    def settings(self) -> PoolSettings:
        """Nothing is bought."""
        return PoolSettings()

    @property
    def samples(self) -> int:
        """Days."""
        return round(self.span.days)

    @property
    def from_logs(self) -> bool:
        """Use is that of the members: a replay, whatever they rest on."""
        return all(case.from_logs for case in self.members)

    @property
    def unknown_hours(self) -> float:
        """None by itself: hours in which a member was not seen were replayed as they were."""
        return 0.0

    @property
    def used_minutes(self) -> int:
        """Minutes from the window's start to the end of the last use; 0: there was none."""
        used = np.flatnonzero(self.demand)
        return (int(used[-1]) + 1) * 60 if used.size else 0

    def under(self, settings: Mapping[str, Any]) -> "PoolCase":
        """Return the pool as it is once these settings of its members are made."""
        return replace(self, chosen=settings)

    @property
    def waits_for(self) -> frozenset[str]:
        """All computes near enough to be members, or to become some."""
        return frozenset(case.resource.resource_id for case in self.neighbours)

    def at_most(self, after: PoolSettings) -> Saving:
        """Return what `after` saves where every machine bought works in every hour."""
        less = self.rate.per_hour - self.terms[after.term].per_hour
        return Saving(
            daily=np.full(round(self.span.days), after.machines * HOURS_PER_DAY * max(0.0, less))
        )

    @property
    def members(self) -> tuple[Case[Any], ...]:
        """Computes that pay for machines of the family by the hour, and go on doing so."""
        family, pending = self.unit.family, set(self.about_to_change_size)
        return tuple(
            case
            for case in self.neighbours
            if vm_family(case.resource.sku or "") == family
            and case.resource.name not in pending
            and _priority(case, self._settings_of(case)) != "low_priority"
        )

    @property
    def about_to_change_size(self) -> tuple[str, ...]:
        """Names of computes that leave the family, or join it, or change within it.

        What they will use of it nobody has seen, so it is no ground to buy on.
        """
        family = self.unit.family
        return tuple(
            sorted(
                case.resource.name
                for case in self.neighbours
                if (after := _sku(case, self._settings_of(case))) != (case.resource.sku or "")
                and family in {vm_family(after), vm_family(case.resource.sku or "")}
            )
        )

    @property
    def demand(self) -> Floats:
        """Units used in each hour; fractions of an hour count as such (methods §5.1)."""
        total = np.zeros(round(self.span.hours))
        for case in self.members:
            at = round((case.window.start_utc - self.span.start_utc) / _AN_HOUR)
            hours = self._units(case, self._settings_of(case))
            total[at : at + hours.size] += hours
        return total

    @property
    def uncovered(self) -> Floats:
        """Units of each hour that no commitment covers yet."""
        return np.maximum(self.demand - self.held, 0.0)

    def hours(self, settings: PoolSettings, step_seconds: int = SECONDS_PER_DAY) -> Floats:
        """Return the units paid for in each step, used or committed."""
        paid = np.maximum(self.uncovered, settings.machines)
        hours: Floats = paid.reshape(-1, step_seconds // SECONDS_PER_HOUR).sum(axis=1)
        return hours

    def as_was(self) -> Floats:
        """Return the units of each day that no commitment covered."""
        return self.hours(self.settings)

    def saving(self, after: PoolSettings, before: PoolSettings | None = None) -> Saving:
        """Return what `after` saves against `before` (nothing bought) on the days seen."""
        return Saving(daily=self._cost(before or self.settings) - self._cost(after))

    def _cost(self, settings: PoolSettings) -> Floats:
        by_the_hour = np.maximum(self.uncovered - settings.machines, 0.0) * self.rate.per_hour
        committed = 0.0
        if settings.machines:
            committed = settings.machines * self.terms[settings.term].per_hour
        cost: Floats = (by_the_hour + committed).reshape(-1, HOURS_PER_DAY).sum(axis=1)
        return cost

    def effects(self, after: PoolSettings, before: PoolSettings) -> Effects:  # noqa: ARG002
        """Return what people and jobs feel: nothing, it is a way to pay."""
        return NOTHING_FELT

    def series(self, after: PoolSettings) -> Series:
        """Return units used, paid for by the hour, and paid for under `after`."""
        start = np.datetime64(self.span.start_utc.replace(tzinfo=None), "s")
        used = self.uncovered
        return Series(
            times_utc=start + np.arange(used.size) * np.timedelta64(SECONDS_PER_HOUR, "s"),
            needed=used,
            on_now=used,
            on_changed=np.maximum(used, after.machines),
        )

    def formula(self, after: PoolSettings, before: PoolSettings, saving: Estimate) -> str:  # noqa: ARG002
        """Return how the saving comes about, with its numbers in it."""
        covered = float(np.minimum(self.uncovered, after.machines).sum())
        committed = self.terms[after.term]
        return (
            f"({covered:,.1f} h of {self.unit.sku} covered × {self.rate.per_hour:.4f} per hour "
            f"({self.rate.basis}) − {after.machines} reserved × {self.span.hours:.0f} h × "
            f"{committed.per_hour:.4f} ({committed.basis}, {after.term})) × "
            f"{HOURS_PER_MONTH:.0f} h / {self.span.hours:.0f} h = {saving.p50:,.2f} per month"
        )

    def _settings_of(self, case: Case[Any]) -> Any:
        return self.chosen.get(case.resource.resource_id, case.settings)

    def _units(self, case: Case[Any], settings: Any) -> Floats:
        """Return what a compute uses of the pool in each of its hours, as it would be billed."""
        key = case.resource.resource_id, settings
        if key not in self._hours:
            size = self.rates.catalogue.size(case.resource.sku or "")
            ratio = flexibility_ratio(size) / flexibility_ratio(self.unit) if size else 0.0
            self._hours[key] = case.hours(settings, SECONDS_PER_HOUR) * case.k * ratio
        return self._hours[key]


def pools_of(
    cases: Iterable[Case[Any]],
    chosen: Mapping[str, Any],
    lines: Iterable[CostLine],
    rates: Rates,
    billed: Window,
) -> "Pools":
    """Return the pools of these computes, and why others cannot be judged.

    Args:
        cases: of computes; those without a size are passed over.
        chosen: settings by resource id, of those that are to change.
        lines: attributed costs, of whole billed days.
        rates: what this customer pays, and the list.
        billed: the days of `lines`.
    """
    nearby: dict[tuple[str, str], list[Case[Any]]] = {}
    for case in cases:
        if case.resource.sku and round(case.window.days) > 0:
            place = _subscription(case.resource), case.resource.region
            nearby.setdefault(place, []).append(case)
    every = tuple(lines)
    billing = _Billing(every)
    plan_applies = plan_covers(None, (line.pricing_model for line in every))
    resources: dict[str, Resource] = {}
    pools: dict[str, PoolCase] = {}
    refused: dict[str, str] = {}
    for (subscription, region), neighbours in sorted(nearby.items(), key=lambda each: each[0]):
        for family in sorted({vm_family(case.resource.sku or "") for case in neighbours}):
            mine = [c for c in neighbours if vm_family(c.resource.sku or "") == family]
            resource = _resource((subscription, region, family), mine)
            resources[resource.resource_id] = resource
            units = _reservable(mine, region, rates)
            rate = _unit_rate(mine, units[0][0], billing, rates) if units else None
            if rate is None:
                refused[resource.resource_id] = (
                    f"No price of a reservation of {resource.name} is known; "
                    "`optimizer prices refresh` reads Azure's list again."
                )
                continue
            unit, terms = units[0]
            pool = PoolCase(
                pool=resource,
                span=_span(mine),
                unit=unit,
                neighbours=tuple(neighbours),
                chosen={},
                terms=terms,
                plan_applies=plan_applies,
                rates=rates,
                rate=rate,
                calibration=None,
                spend_per_month=None,
            )
            pool = replace(pool, held=_held(pool, mine, every, rates, billed)).under(chosen)
            spend = pool.span.per_month(float(pool.uncovered.sum()) * pool.rate.per_hour)
            pools[resource.resource_id] = replace(pool, spend_per_month=spend)
    return Pools(resources=resources, cases=pools, unassessable=refused)


def _held(
    pool: PoolCase, mine: list[Case[Any]], lines: Sequence[CostLine], rates: Rates, billed: Window
) -> float:
    """Return the units that commitments hold: the most that all days, or the last, tell of.

    All days say too little of what was bought since, which the last do not; and those too little
    where it stood idle.
    """
    start_utc = max(billed.start_utc, billed.end_utc - _LATELY)
    recent = [line for line in lines if line.day >= start_utc.date()]
    spans = [(billed, lines), (replace(billed, start_utc=start_utc), recent)]
    return max(
        held_level(_between(pool, span), covered) if covered else 0.0
        for span, some in spans
        for covered in [_Billing(some).units(mine, pool.unit, rates, committed=True)]
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Pools:
    """All pools by id: those that can be judged, and why the others cannot."""

    resources: Mapping[str, Resource]
    cases: Mapping[str, PoolCase]
    unassessable: Mapping[str, str]


class _Billing:
    """Machine-hours and money of each compute, by whether a commitment covered them."""

    def __init__(self, lines: Iterable[CostLine]) -> None:
        self._cost: dict[tuple[str, bool], float] = {}
        self._hours: dict[tuple[str, bool], float] = {}
        for line in lines:
            if line.resource_id is None or line.component != "vm" or not line.hours:
                continue
            if under_commitment(line.pricing_model) or pays_by_the_hour(line.pricing_model):
                key = line.resource_id, under_commitment(line.pricing_model)
                self._cost[key] = self._cost.get(key, 0.0) + line.cost
                self._hours[key] = self._hours.get(key, 0.0) + line.hours

    def units(
        self, cases: Iterable[Case[Any]], unit: Size, rates: Rates, *, committed: bool
    ) -> float:
        """Return the billed hours of some computes, in hours of `unit`."""
        total = 0.0
        for case in cases:
            size = rates.catalogue.size(case.resource.sku or "")
            hours = self._hours.get((case.resource.resource_id, committed), 0.0)
            if size:
                total += hours * flexibility_ratio(size) / flexibility_ratio(unit)
        return total

    def cost(self, cases: Iterable[Case[Any]]) -> float:
        """Return what those computes paid by the hour."""
        return sum(self._cost.get((case.resource.resource_id, False), 0.0) for case in cases)


def _unit_rate(mine: list[Case[Any]], unit: Size, billing: _Billing, rates: Rates) -> Rate | None:
    """Return what an hour of `unit` costs by the hour: as billed, else as a compute of it pays.

    The rate of a compute that a commitment covers in part is a mixture, so the bill's own lines by
    the hour come first.
    """
    units = billing.units(mine, unit, rates, committed=False)
    if units > 0:
        return Rate(per_hour=billing.cost(mine) / units, basis=Basis.EFFECTIVE)
    own = next((c.rate for c in mine if (c.resource.sku or "").lower() == unit.sku.lower()), None)
    resource = mine[0].resource
    found = rates.of_size(resource.region, unit.sku, workspace_id=resource.workspace_id)
    return own or found


def _reservable(
    mine: Iterable[Case[Any]], region: str, rates: Rates
) -> list[tuple[Size, dict[str, Rate]]]:
    """Return the sizes in use that can be reserved, smallest first, with the price of each term."""
    found = {}
    for sku in {case.resource.sku or "" for case in mine}:
        size = rates.catalogue.size(sku)
        terms = {
            term: rate for term in ("1y", "3y") if (rate := rates.committed(region, sku, term))
        }
        if size and terms:
            found[size.sku] = size, terms
    return sorted(found.values(), key=lambda each: (each[0].vcpus, each[0].sku))


def _resource(group: _Group, mine: list[Case[Any]]) -> Resource:
    subscription, region, family = group
    workspaces = {case.resource.workspace_id for case in mine}
    scope = f"/subscriptions/{subscription}"
    return Resource(
        resource_id=f"{scope}/providers/microsoft.machinelearningservices/locations/{region}"
        f"/usages/{family}",
        kind=Kind.POOL,
        name=f"{family} in {region}",
        workspace_id=workspaces.pop() if len(workspaces) == 1 else scope,
        region=region,
        sku=None,
        vm_priority=None,
        state=None,
        created_utc=None,
        owner=None,
    )


def _span(mine: Iterable[Case[Any]]) -> Window:
    windows = [case.window for case in mine]
    return Window(
        start_utc=min(window.start_utc for window in windows),
        end_utc=max(window.end_utc for window in windows),
    )


def _between(pool: PoolCase, window: Window) -> Floats:
    """Return a pool's demand in the hours of another window."""
    first, last = (
        max(0, round((moment - pool.span.start_utc) / _AN_HOUR))
        for moment in (window.start_utc, window.end_utc)
    )
    return pool.demand[first:last]


def _subscription(resource: Resource) -> str:
    return resource.workspace_id.split("/")[2]


def _sku(case: Case[Any], settings: Any) -> str:
    return getattr(settings, "sku", None) or case.resource.sku or ""


def _priority(case: Case[Any], settings: Any) -> str | None:
    return getattr(settings, "vm_priority", None) or case.resource.vm_priority
