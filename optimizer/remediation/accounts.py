"""A compute's bill before and since a change, and what it would have been without it (methods §9).

    before → other activity → the new settings → other prices → since

Each step is what it adds to those before it, so that together they are the change of the bill.
"""

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from datetime import date
from itertools import pairwise
from typing import Any

import numpy as np

from optimizer.analysis.assemble import Bill
from optimizer.analysis.case import CannotAssessError, Case
from optimizer.analysis.clusters import ClusterCase
from optimizer.analysis.confidence import Floats, block_days, block_means, few_blocks
from optimizer.analysis.deployments import DeploymentCase, demand_of
from optimizer.analysis.features import CostLine
from optimizer.analysis.instances import InstanceCase
from optimizer.analysis.joint import DAYS_PER_MONTH, overlaid
from optimizer.analysis.replay import Physics, cut_into_levels
from optimizer.errors import PriceNotFoundError
from optimizer.remediation.baseline import Baseline
from optimizer.remediation.drift import Spread, Stray, always_there, apart, stray_of
from optimizer.remediation.outcomes import AppliedChange, Measured, Parts
from optimizer.remediation.overlays import DELETED, overlay_of, setting_key

MIN_UNUSED_DAYS = 3
"""Days without work before a compute was stopped or deleted, from which its idle cost is known."""

NO_SPREAD = Spread(deviation=0.0, freedom=1)

_ENDS = (0.05, 0.95)
_SEED = 28


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """A bill a day, in the steps that lead from the one before to the one since."""

    before: float
    """As it was."""
    old: float
    """Old settings on the activity since, at the old prices."""
    now: float
    """Settings of now on the same activity, at the old prices."""
    since: float
    """As it is."""
    price: float
    """What a machine-hour costs now ÷ what it cost before."""
    least: float
    """How much less than `old` it may have been, at the end of the 90 % interval, for what no API
    tells or days without work leave open."""
    most: float
    """How much more."""
    weights: tuple[float, ...]
    """The share of each change in what they save together."""
    spread: Spread = NO_SPREAD
    """Of the replayed part of `old`, a day."""
    stray: Stray | None = None
    """How far the replay of the settings of now was off; None where none tells it."""
    strays_with: float = 0.0
    """What a stray calibration would shift, a day: the replayed part of `old` that comes and
    goes."""

    def widened(self, strays: Spread) -> "Account":
        """Return it with the interval that calibrations straying so leave."""
        return replace(self, spread=self.spread + strays.times(self.strays_with))

    @property
    def below(self) -> float:
        """How much less than `old` it may have been, at the end of the 90 % interval."""
        return float(np.hypot(self.least, self.spread.half_width))

    @property
    def above(self) -> float:
        """How much more than `old` it may have been, at the end of the 90 % interval."""
        return float(np.hypot(self.most, self.spread.half_width))

    @property
    def volume(self) -> float | None:
        """What the old settings cost on the activity since ÷ what they cost before."""
        return self.old / self.before if self.before > 0 else None

    def saved(self, share: float) -> Measured:
        """Return a share of what the changes save a month, at the prices of now."""
        factor = share * self.price * DAYS_PER_MONTH
        mid, below, above = self.old - self.now, self.below, self.above
        ends = sorted(((mid - below) * factor, (mid + above) * factor))
        return Measured(low=ends[0], mid=mid * factor, high=ends[1])

    def parts(self, share: float) -> Parts:
        """Return a share of what the bill changed by a month."""
        steps = (self.before, self.old, self.now, self.since)
        volume, policy, price = (
            (after - earlier) * share * DAYS_PER_MONTH for earlier, after in pairwise(steps)
        )
        return Parts(volume=volume, policy=policy, price=price)

    def moved(self, share: float) -> Measured:
        """Return the volume part of a share with its interval, which the replay gives it."""
        factor = share * DAYS_PER_MONTH
        mid, below, above = self.old - self.before, self.below, self.above
        ends = sorted(((mid - below) * factor, (mid + above) * factor))
        return Measured(low=ends[0], mid=mid * factor, high=ends[1])


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Billed:
    """What a compute was billed on some days."""

    cost: Floats
    """Of its machines."""
    hours: Floats
    """0 where the bill tells no hours."""
    beside: Floats
    """Of disks, addresses and the like."""


class Billing:
    """The bill by compute and day."""

    def __init__(self, bill: Bill) -> None:
        """Sort the lines once."""
        self._lines: dict[str, dict[date, list[float]]] = defaultdict(dict)
        self._beside: dict[str, list[CostLine]] = defaultdict(list)
        for line in bill.lines:
            if line.resource_id is None:
                continue
            if line.component != "vm":
                self._beside[line.resource_id].append(line)
            day = self._lines[line.resource_id].setdefault(line.day, [0.0, 0.0, 0.0])
            if line.component == "vm":
                day[0] += line.cost
                day[1] += line.hours or 0.0
            else:
                day[2] += line.cost

    def of(self, resource_id: str, days: Sequence[date]) -> Billed:
        """Return what a compute was billed; nothing on a day without a line."""
        known = self._lines.get(resource_id, {})
        rows = np.array([known.get(day, (0.0, 0.0, 0.0)) for day in days], dtype=np.float64)
        cost, hours, beside = rows.reshape(-1, 3).T
        return Billed(cost=cost, hours=hours, beside=beside)

    def beside_at_prices_of(
        self, resource_id: str, before: Collection[date], days: Collection[date]
    ) -> float:
        """Return the mean daily cost in `days` of what is no machine, at the prices of `before`.

        What has no amounts, or was not there before, counts as it was billed.
        """
        known = self._beside.get(resource_id, [])
        price = _price_by_component(line for line in known if line.day in before)
        total = 0.0
        for line in known:
            if line.day in days:
                told = line.component in price and line.units is not None
                total += price[line.component] * (line.units or 0.0) if told else line.cost
        return total / len(days)


def _price_by_component(lines: Iterable[CostLine]) -> dict[str, float]:
    """Return what a unit of each component cost; none of one whose amounts are not all told."""
    cost: dict[str, float] = defaultdict(float)
    units: dict[str, float] = defaultdict(float)
    for line in lines:
        cost[line.component] += line.cost
        units[line.component] += np.nan if line.units is None else line.units
    return {name: cost[name] / units[name] for name in cost if units[name] > 0}


def replayed(
    case: Case[Any],
    replacement: Case[Any] | None,
    changes: Sequence[AppliedChange],
    frozen: Baseline,
    days: Sequence[date],
    *,
    billing: Billing,
) -> Account:
    """Return the account of changed settings, by replay of the old ones.

    Args:
        case: the compute.
        replacement: the one made beside it, to which its work has moved; None: there is none.
        changes: those that still stand, in their order.
        frozen: the baseline.
        days: those that count.
        billing: of all computes.

    Raises:
        CannotAssessError: the old settings cannot be replayed; the text says why.
    """
    case = _with_physics(case, frozen)
    old = _old_settings(case, frozen)
    k = _k(frozen)
    bills = [billing.of(case.resource.resource_id, days)]
    rates = [frozen.rate_per_hour]
    kept = always_there(case, old)
    if replacement is None:
        hours = _daily(case, old, days)
    else:
        # Work moves to the new one, and with it the nodes that would have been kept for it.
        bills.append(billing.of(replacement.resource.resource_id, days))
        rates.append(frozen.rate_after_per_hour)
        likely, _ = frozen.stretch
        there = overlaid(_with_physics(replacement, frozen).settings, _policy(old))
        hours = _daily(case, replace(old, min_nodes=0), days)
        hours = hours + _daily(_with_physics(replacement, frozen), there, days) / likely
        kept = always_there(replacement, there) / likely
    if replacement is None and frozen.rate_after_per_hour != frozen.rate_per_hour:
        rates = [frozen.rate_after_per_hour]  # resized where it stands
    now = sum((_at_rate(bill, rate) for bill, rate in zip(bills, rates, strict=True)), 0.0)
    since = sum(float(bill.cost.mean()) for bill in bills)
    beside = sum(float(bill.beside.mean()) for bill in bills)
    computes = (case,) if replacement is None else (case, replacement)
    beside_now = sum(
        billing.beside_at_prices_of(each.resource.resource_id, set(frozen.dates), set(days))
        for each in computes
    )
    beside_old = frozen.standing_per_day * _presence(case, old, frozen.dates, days)
    if replacement is not None or not isinstance(case, ClusterCase):
        beside_old = beside_now
    replay = float(hours.mean()) * frozen.rate_per_hour
    chain = _chain(case, old, changes, days) if replacement is None else None
    least, most = _unsure(case, old, days, frozen)
    return Account(
        before=float(np.mean(frozen.billed_cost)) + frozen.standing_per_day,
        old=k * replay + beside_old,
        now=now + beside_now,
        since=since + beside,
        price=since / now if now > 0 else 1.0,
        least=least * k,
        most=most * k,
        weights=_weights(chain, changes),
        spread=apart(*frozen.pairs, days=len(days)).times(k * replay),
        stray=_stray(case, chain, bills[0], rates[0], frozen) if chain else None,
        strays_with=k * max(0.0, replay - kept * frozen.rate_per_hour),
    )


def unused(
    resource_id: str,
    changes: Sequence[AppliedChange],
    frozen: Baseline,
    days: Sequence[date],
    *,
    billing: Billing,
) -> Account:
    """Return the account of what was stopped or deleted: it saves what it cost unused.

    What it cost while it was used has gone with the use, which is no saving of ours.

    Raises:
        CannotAssessError: it was used on nearly every day before.
    """
    idle = frozen.unused_per_day
    if idle.size < MIN_UNUSED_DAYS:
        raise CannotAssessError(
            f"Before it ended it was unused on {idle.size} days; {MIN_UNUSED_DAYS} are needed to "
            "know what it costs unused."
        )
    bill = billing.of(resource_id, days)
    mean = float(idle.mean())
    deleted = any(setting_key(change.setting) == DELETED for change in changes)
    # Stopped, it saves until its user starts it again.
    off = np.ones(len(days), np.bool_) if deleted else bill.cost <= 0
    old = np.where(off, mean, bill.cost)
    kept = frozen.standing_per_day if deleted else float(bill.beside.mean())
    now = _at_rate(bill, frozen.rate_per_hour)
    rng = np.random.default_rng(_SEED)
    spread = block_means(idle, len(days), rng) - block_means(idle, idle.size, rng)
    low, high = np.quantile(spread, _ENDS) * few_blocks(
        idle.size // block_days(idle.size), quantile=_ENDS[1]
    )
    share = float(off.mean())
    return Account(
        before=float(np.mean(frozen.billed_cost)) + frozen.standing_per_day,
        old=float(old.mean()) + kept,
        now=now + float(bill.beside.mean()),
        since=float(bill.cost.mean()) + float(bill.beside.mean()),
        price=float(bill.cost.mean()) / now if now > 0 else 1.0,
        least=max(0.0, -float(low)) * share,
        most=max(0.0, float(high)) * share,
        weights=tuple(1 / len(changes) for _ in changes),
    )


def _k(frozen: Baseline) -> float:
    billed, replay = frozen.pairs
    if replay.sum() <= 0 or frozen.k is None:
        raise CannotAssessError(
            "Nothing ran before the change, so the replay could not be held against the bill."
        )
    return float(billed.sum() / replay.sum())


def _with_physics(case: Case[Any], frozen: Baseline) -> Case[Any]:
    if isinstance(case, ClusterCase) and frozen.physics is not None:
        return replace(case, physics=Physics(**frozen.physics))
    return case


def _old_settings(case: Case[Any], frozen: Baseline) -> Any:
    today: Any = case.settings
    known = {field.name for field in fields(today)}
    old = replace(today, **{n: v for n, v in frozen.settings.items() if n in known})
    if isinstance(case, DeploymentCase):
        if old.instances is None and old.autoscale is None:
            raise CannotAssessError(
                "How many instances its earlier autoscale rules had kept is not replayed: they are "
                "others than one rule out and one in, on CPU, for all times."
            )
        if old.autoscale is not None:
            demand_of(case)
    return old


def _policy(old: Any) -> Mapping[str, Any]:
    names = ("min_nodes", "max_nodes", "idle_seconds")
    return {name: getattr(old, name) for name in names if hasattr(old, name)}


def _daily(case: Case[Any], settings: Any, days: Sequence[date]) -> Floats:
    """Return the replayed hours of some days of the case's window; 0 outside it."""
    first = case.window.start_utc.date()
    hours = case.hours(settings)
    at = np.array([(day - first).days for day in days], dtype=np.int64)
    inside = (at >= 0) & (at < hours.size)
    return np.where(inside, hours[np.clip(at, 0, hours.size - 1)], 0.0)


def _presence(case: Case[Any], old: Any, before: Sequence[date], days: Sequence[date]) -> float:
    """Return how long old settings have any node there in some days ÷ in those before.

    A cluster pays a load balancer and addresses as long as it has a node, and not by their number.
    """
    if not isinstance(case, ClusterCase):
        return 1.0
    one = cut_into_levels(
        np.minimum(case.features.demand, 1.0), on_at_start=min(case.features.on_at_start, 1)
    )
    case, old = replace(case, levels=one), replace(old, min_nodes=min(old.min_nodes, 1))
    first = case.window.start_utc.date()
    was = _daily(case, old, [day for day in before if day >= first] or days).mean()
    return float(_daily(case, old, days).mean() / was) if was > 0 else 1.0


def _at_rate(bill: Billed, per_hour: float) -> float:
    """Return the mean daily cost of the billed hours at some price; as billed without hours."""
    if bill.hours.sum() <= 0:
        return float(bill.cost.mean())
    return float(bill.hours.mean()) * per_hour


def _stray(
    case: Case[Any], chain: Sequence["_Link"], bill: Billed, per_hour: float, frozen: Baseline
) -> Stray | None:
    """Return how far the replay of the settings of now was off since the change."""
    old, now = chain[0], chain[-1]
    return stray_of(
        case.resource.kind,
        frozen.pairs,
        (bill.hours if bill.hours.sum() > 0 else bill.cost / per_hour, now.daily),
        kept=always_there(case, now.settings),
        as_calibrated=np.array_equal(old.daily, now.daily),
    )


def _unsure(
    case: Case[Any], old: Any, days: Sequence[date], frozen: Baseline
) -> tuple[float, float]:
    """Return what no API tells of the old settings' cost a day, such as open kernels."""
    if not isinstance(case, InstanceCase):
        return 0.0, 0.0
    first = case.window.start_utc.date()
    at = [(day - first).days for day in days]
    least, mid, most = (
        float(case.hours_at(old, quantile)[at].mean()) * frozen.rate_per_hour
        for quantile in (_ENDS[0], 0.5, _ENDS[1])
    )
    return max(0.0, mid - least), max(0.0, most - mid)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Link:
    """What settings cost by replay."""

    settings: Any
    daily: Floats
    """Machine-hours."""
    per_hour: float

    @property
    def cost(self) -> float:
        """Mean of a day."""
        return float(self.daily.mean()) * self.per_hour


def _chain(
    case: Case[Any], old: Any, changes: Sequence[AppliedChange], days: Sequence[date]
) -> list[_Link] | None:
    """Return the replay of the old settings and of those after each change.

    None where one of them is not replayed, or nobody knows what it costs.
    """
    known = {field.name for field in fields(old)}
    settings = [old]
    for change in changes:
        overlay = overlay_of(change.setting, change.after)
        if overlay is None or not overlay.keys() <= known:
            return None
        settings.append(replace(settings[-1], **overlay))
    try:
        return [
            _Link(
                settings=each,
                daily=_daily(case, each, days),
                per_hour=case.rate_of(each).per_hour,
            )
            for each in settings
        ]
    except (CannotAssessError, PriceNotFoundError):
        return None


def _weights(chain: list[_Link] | None, changes: Sequence[AppliedChange]) -> tuple[float, ...]:
    """Return the share of each change: by its own replay, else by what was promised.

    Shares are never negative: what one change costs and another saves is not told apart by a bill.
    """
    if chain is None:
        gains = [max(0.0, change.promised_per_month.p50) for change in changes]
    else:
        costs = [link.cost for link in chain]
        gains = [max(0.0, before - after) for before, after in pairwise(costs)]
    total = sum(gains)
    return tuple(gain / total if total > 0 else 1 / len(gains) for gain in gains)
