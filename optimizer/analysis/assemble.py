"""Tables become cases: activity joined with the bill, priced and calibrated, one per compute."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, time, timedelta
from typing import Any, TypeAlias

import numpy as np

from optimizer.analysis.bought import commitments_of
from optimizer.analysis.case import Case
from optimizer.analysis.clusters import (
    ClusterCase,
    evictions_of,
    fit_physics,
    levels_of,
    replayed_as_was,
    usual_start,
)
from optimizer.analysis.confidence import Floats, calibrate, last_place
from optimizer.analysis.deployments import DeploymentCase
from optimizer.analysis.features import (
    ClusterFeatures,
    CostLine,
    DeploymentFeatures,
    Frames,
    InstanceFeatures,
    benefits_of,
    cluster_features,
    cost_lines,
    deployment_features,
    instance_features,
    list_prices,
    policies_of,
    resources_of,
)
from optimizer.analysis.instances import (
    Habits,
    InstanceCase,
    habits_of,
    usual_start_seconds,
)
from optimizer.analysis.joint import DAYS_PER_MONTH
from optimizer.analysis.rate_savings import RateSavings, rate_savings
from optimizer.analysis.rates import Rate, Rates, attribute, list_rate, rates
from optimizer.analysis.replay import Levels
from optimizer.analysis.result import Calibration
from optimizer.analysis.starting import Starts, starts_of, together
from optimizer.analysis.use import use_of
from optimizer.catalogue import Catalogue
from optimizer.model import Attribution, Basis, Kind, Resource, Window

Features: TypeAlias = ClusterFeatures | InstanceFeatures | DeploymentFeatures

MIN_CALIBRATION_DAYS = 7
"""Fewer billed days cannot be compared with the replay."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Bill:
    """The attributed costs of whole, completely billed days."""

    lines: tuple[CostLine, ...]
    start: date
    end: date
    """Excluded."""
    currency: str
    rate_savings: RateSavings
    """Of the lines as billed: a share of a workspace's spend has no list cost of its own."""

    @property
    def days(self) -> int:
        """How many days it covers."""
        return max(0, (self.end - self.start).days)

    @property
    def window(self) -> Window:
        """The same days as a window."""
        start, end = (datetime.combine(day, time(), tzinfo=UTC) for day in (self.start, self.end))
        return Window(start_utc=start, end_utc=end)

    def monthly(self, lines: Iterable[CostLine]) -> float | None:
        """Return what these lines make in a month; None where no day is billed."""
        return sum(line.cost for line in lines) * DAYS_PER_MONTH / self.days if self.days else None

    def daily(self, resource_id: str, window: Window, *, hours: bool) -> Floats:
        """Return VM cost (or hours) of each day of the window; NaN where not billed."""
        first = window.start_utc.date()
        series = np.full(round(window.days), np.nan)
        billed = slice(
            max(0, (self.start - first).days), max(0, min(series.size, (self.end - first).days))
        )
        series[billed] = 0.0
        for line in self.lines:
            at = (line.day - first).days
            if (
                line.resource_id == resource_id
                and line.component == "vm"
                and at in range(billed.start, billed.stop)
            ):
                series[at] += (line.hours or 0.0) if hours else line.cost
        return series


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Estate:
    """Every case of a window, and what kept others from becoming one."""

    window: Window
    bill: Bill
    resources: Mapping[str, Resource]
    cases: Mapping[str, Case[Any]]
    unassessable: Mapping[str, str]
    """Why a compute has no case, by resource id."""
    rates: Rates


def build(frames: Frames, *, billed_through: datetime, snapshot: Catalogue) -> Estate:
    """Return the cases of all computes whose activity and price are known.

    Args:
        frames: the tables of a window.
        billed_through: costs of days that end later are incomplete.
        snapshot: list prices for what `frames.prices` says nothing of.
    """
    resources = resources_of(frames.resources)
    policies = policies_of(frames.resources, frames.window)
    features: dict[str, Features] = {}
    unassessable: dict[str, str] = {}
    for resource_id, resource in resources.items():
        read = _READERS.get(resource.kind)
        if read is None:
            continue
        seen = read(frames, resource, policies[resource_id])
        if seen is None:
            unassessable[resource_id] = _NOTHING_SEEN[resource.kind]
        else:
            features[resource_id] = seen

    lines = cost_lines(frames.costs)
    currency = _currency(lines, frames, snapshot)
    prices = snapshot.overlaid(list_prices(frames.prices, currency), currency=currency)
    bill = _bill(lines, frames, features, prices, billed_through)
    priced = rates(
        {resource_id: seen.resource for resource_id, seen in features.items()},
        bill.lines,
        prices,
        {resource_id: _hours_within(seen, bill) for resource_id, seen in features.items()},
    )
    uses = {str(resource_id): use_of(seen) for resource_id, seen in frames.uses.iterrows()}
    levels = {
        resource_id: levels_of(seen)
        for resource_id, seen in features.items()
        if isinstance(seen, ClusterFeatures)
    }
    usual = usual_start(
        [(s, levels[i]) for i, s in features.items() if isinstance(s, ClusterFeatures)]
    )
    starts_seen = together(
        starts_of(s.preparing) for s in features.values() if isinstance(s, ClusterFeatures)
    )
    evictions = evictions_of([s for s in features.values() if isinstance(s, ClusterFeatures)])
    instances = [seen for seen in features.values() if isinstance(seen, InstanceFeatures)]
    habits = habits_of(instances)
    starts = [seconds for seen in instances for seconds in seen.start_seconds]
    cases: dict[str, Case[Any]] = {}
    for resource_id, seen in features.items():
        rate = priced.known.get(resource_id)
        if rate is None:
            unassessable[resource_id] = _no_price(seen.resource, currency)
            continue
        workspace = resources.get(seen.resource.workspace_id)
        machines: dict[str, Any] = {
            "use": uses.get(resource_id),
            "offered": workspace.settings.get("sizes_offered") if workspace else None,
        }
        if isinstance(seen, ClusterFeatures):
            cases[resource_id] = replace(
                _cluster_case(seen, levels[resource_id], usual, starts_seen, rate, bill, priced),
                evictions=evictions,
                **machines,
            )
        elif isinstance(seen, DeploymentFeatures):
            cases[resource_id] = _deployment_case(seen, rate, bill)
        else:
            cases[resource_id] = replace(
                _instance_case(seen, rate, bill, priced, habits),
                start_seconds=usual_start_seconds(seen.start_seconds, starts),
                **machines,
            )
    bought = commitments_of(benefits_of(frames.commitments), bill.lines, bill.window)
    return Estate(
        window=frames.window,
        bill=bill,
        resources={**resources, **bought.resources},
        cases={**cases, **bought.cases},
        unassessable={**unassessable, **bought.unassessable},
        rates=priced,
    )


def _no_price(resource: Resource, currency: str) -> str:
    return (
        f"No price in {currency} is known for {resource.sku} in {resource.region}, neither from "
        "its own bill nor from Azure's list, which `optimizer prices refresh` reads again."
    )


_READERS: Mapping[Kind, Any] = {
    Kind.CLUSTER: cluster_features,
    Kind.INSTANCE: instance_features,
    Kind.DEPLOYMENT: deployment_features,
}

_NOTHING_SEEN = {
    Kind.CLUSTER: "No whole day of node states was observed; collect again after a day.",
    Kind.INSTANCE: (
        "It ran, but no CPU or GPU use was observed: Azure sent no utilisation metrics for it."
    ),
    Kind.DEPLOYMENT: (
        "It runs on Kubernetes, whose machines are billed elsewhere, or Azure told no number of "
        "instances for it."
    ),
}


def _bill(
    lines: Sequence[CostLine],
    frames: Frames,
    features: Mapping[str, Features],
    prices: Catalogue,
    billed_through: datetime,
) -> Bill:
    end = billed_through.date()
    if lines:
        end = min(end, max(line.day for line in lines) + timedelta(days=1))
    start = frames.window.start_utc.date()
    if frames.window.start_utc.time() != datetime.min.time():
        start += timedelta(days=1)
    weights: dict[tuple[str, date], dict[str, float]] = defaultdict(dict)
    for resource_id, seen in features.items():
        resource = seen.resource
        of_list = list_rate(resource, prices)
        hours = _daily_hours(seen)
        for offset in np.flatnonzero(np.nan_to_num(hours)):
            day = seen.window.start_utc.date() + timedelta(days=int(offset))
            weight = float(hours[offset]) * (of_list.per_hour if of_list else 0.0)
            if weight > 0:
                weights[resource.workspace_id, day][resource_id] = weight
    inside = [line for line in lines if start <= line.day < end]
    # An estate younger than the window had no bill before its first line, not a bill of nothing.
    start = min((line.day for line in inside), default=start)
    return Bill(
        lines=tuple(attribute(inside, weights)),
        start=start,
        end=max(start, end),
        currency=prices.currency,
        rate_savings=rate_savings(inside),
    )


def _currency(lines: Iterable[CostLine], frames: Frames, snapshot: Catalogue) -> str:
    """Return the currency of the bill, or of the list prices where nothing was billed."""
    if billed := {line.currency for line in lines}:
        return min(billed)
    listed = frames.prices["currency"].dropna()
    return str(listed.iloc[0]) if len(listed) else snapshot.currency


def _daily_hours(seen: Features) -> Floats:
    """Return the node-hours that were seen on each day."""
    present = seen.on.astype(np.float64) if isinstance(seen, InstanceFeatures) else seen.present
    hours: Floats = np.nansum(present.reshape(-1, 1440), axis=1) / 60
    return hours


def _hours_within(seen: Features, bill: Bill) -> float:
    offset = (bill.start - seen.window.start_utc.date()).days
    hours = _daily_hours(seen)
    return float(hours[max(0, offset) : max(0, offset + bill.days)].sum())


def _exact(lines: Iterable[CostLine], resource_id: str) -> bool:
    """Tell whether the bill itself says what this compute's machines cost."""
    return any(
        line.resource_id == resource_id
        and line.component == "vm"
        and line.attribution in {Attribution.EXACT, Attribution.TAG}
        for line in lines
    )


def _cluster_case(
    seen: ClusterFeatures,
    levels: Levels,
    usual_seconds: float,
    starts_seen: Starts,
    rate: Rate,
    bill: Bill,
    priced: Rates,
) -> ClusterCase:
    resource_id = seen.resource.resource_id
    told = _exact(bill.lines, resource_id)
    cost = bill.daily(resource_id, seen.window, hours=False) if told else None
    billed_hours = None if cost is None else cost / rate.per_hour
    physics = fit_physics(
        seen, levels, billed_hours, usual_seconds=usual_seconds, usual=starts_seen
    )
    as_was = replayed_as_was(levels, seen.policies, seen.window, physics) * rate.per_hour
    return ClusterCase(
        features=seen,
        levels=levels,
        physics=physics,
        estate_starts=starts_seen,
        rate=rate,
        rates=priced,
        calibration=_calibration(cost, as_was, rate.basis),
        spend_per_month=_spend(bill, resource_id),
        standing_per_day=_standing(bill, resource_id),
        standing_error_per_day=_standing_error(bill, resource_id),
    )


def _instance_case(
    seen: InstanceFeatures, rate: Rate, bill: Bill, priced: Rates, habits: Habits
) -> InstanceCase:
    resource_id = seen.resource.resource_id
    told = _exact(bill.lines, resource_id)
    cost = bill.daily(resource_id, seen.window, hours=False) if told else None
    return InstanceCase(
        features=seen,
        rate=rate,
        rates=priced,
        calibration=_calibration(cost, _daily_hours(seen) * rate.per_hour, rate.basis),
        habits=habits,
        spend_per_month=_spend(bill, resource_id),
        standing_per_day=_standing(bill, resource_id),
        standing_error_per_day=_standing_error(bill, resource_id),
    )


def _deployment_case(seen: DeploymentFeatures, rate: Rate, bill: Bill) -> DeploymentCase:
    resource_id = seen.resource.resource_id
    told = _exact(bill.lines, resource_id)
    cost = bill.daily(resource_id, seen.window, hours=False) if told else None
    return DeploymentCase(
        features=seen,
        rate=rate,
        calibration=_calibration(cost, _daily_hours(seen) * rate.per_hour, rate.basis),
        spend_per_month=_spend(bill, resource_id),
        standing_per_day=_standing(bill, resource_id),
        standing_error_per_day=_standing_error(bill, resource_id),
    )


def _calibration(cost: Floats | None, as_was: Floats, basis: Basis) -> Calibration | None:
    if cost is None:
        return None
    both = ~np.isnan(cost) & ~np.isnan(as_was)
    if both.sum() < MIN_CALIBRATION_DAYS:
        return None
    return calibrate(cost[both], as_was[both], basis=basis)


def _standing(bill: Bill, resource_id: str) -> float:
    """Return what it costs a day beside its machines."""
    return sum(_beside(bill, resource_id)) / bill.days if bill.days else 0.0


def _standing_error(bill: Bill, resource_id: str) -> float:
    """Return how far that may be off, as every line of it is rounded."""
    beside = _beside(bill, resource_id)
    return last_place(beside) / 2 * len(beside) / bill.days if bill.days else 0.0


def _beside(bill: Bill, resource_id: str) -> list[float]:
    return [
        line.cost
        for line in bill.lines
        if line.resource_id == resource_id and line.component != "vm"
    ]


def _spend(bill: Bill, resource_id: str) -> float | None:
    lines = [line for line in bill.lines if line.resource_id == resource_id]
    return bill.monthly(lines) if lines else None
