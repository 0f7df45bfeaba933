"""Reservations and savings plans: what to commit to for the hours that will be used (methods §5).

Demand is the sum of machine-hours inside each hour, in units of the size-flexibility ratio, after
every change of use. What is committed and not used within the hour is lost.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from optimizer.analysis.confidence import Floats
from optimizer.catalogue import Size

HOURS_PER_DAY = 24
HOURS_PER_WEEK = 168
WEEKS_PER_YEAR = 52
MONTHS_OF_TERM = {"1y": 12, "3y": 36}

_SEED = 730
"""Any constant: the same history gives the same scenarios."""
_ROUNDING = 1e-9
"""Relative; T·r/p of whole numbers must not fall below itself."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PurchaseRules:
    """When history is enough to buy on, and how much of the optimum at once (methods §5.5)."""

    min_history_days: int = 60
    look_back_days: tuple[int, ...] = (3, 7, 30, 60)
    """No more is bought than the smallest optimum of these last days."""
    trend_days: int = 90
    """Demand of the last third of these must not lie below that of the first third."""
    trend_tolerance: float = 0.05
    first_tranche: float = 0.5
    risk_aversion: float = 0.5
    """λ in (1 − λ)·mean + λ·CVaR of the scenarios' savings."""
    tail: float = 0.1
    """Share of the worst scenarios that CVaR averages."""
    migration_per_year: float = 0.25
    """Probability that demand of this family halves; 0.25 for GPUs, 0.1 for a region's pool."""


# --- How much: the closed form -------------------------------------------------------------------


def savings_curve(demand: Floats, quantities: Floats, *, price: float, committed: float) -> Floats:
    """Return what each quantity saves over these hours: S(Q) = Σ min(D, Q)·p − r·Q·T.

    One sort and one prefix sum serve all quantities.

    Args:
        demand: units used in each hour.
        quantities: committed units, of any shape.
        price: of a unit-hour as bought by the hour (p).
        committed: of a unit-hour of the commitment, used or not (r).
    """
    covered = _covered(demand, quantities)
    saved: Floats = covered * price - committed * quantities * demand.size
    return saved


def optimal_level(demand: Floats, *, price: float, committed: float) -> Floats:
    """Return the quantity that saves most, for each series of the last axis.

    A level pays as long as more than r/p of the hours use it, so the best is the
    (⌊T·r/p⌋ + 1)-th largest demand: the (1 − r/p)-quantile. One that just breaks even is left.
    """
    hours = demand.shape[-1]
    rank = math.floor(hours * committed / price * (1 + _ROUNDING)) + 1
    if rank > hours:
        return np.zeros(demand.shape[:-1])
    at = hours - rank
    # One series at a time stays in the processor's cache.
    each = [np.partition(series, at)[at] for series in demand.reshape(-1, hours)]
    return np.array(each, np.float64).reshape(demand.shape[:-1])


def optimal_quantity(demand: Floats, *, price: float, committed: float) -> int:
    """Return the number of whole units that saves most; S is concave, so it is a neighbour."""
    below = math.floor(float(optimal_level(demand, price=price, committed=committed)))
    both = np.array([below, below + 1], dtype=np.float64)
    saved = savings_curve(demand, both, price=price, committed=committed)
    return below + int(saved[1] > saved[0])


def utilisation(demand: Floats, quantity: float) -> float | None:
    """Return the share of a commitment that these hours would use; None of no commitment."""
    if quantity <= 0:
        return None
    return float(np.minimum(demand, quantity).mean()) / quantity


def break_even_months(*, term: str, price: float, committed: float, used: float) -> float | None:
    """Return after how many months what was saved has paid for the whole term.

    Were use to end then, nothing would be lost. None: at this utilisation it never pays.

    >>> break_even_months(term="1y", price=1.0, committed=0.63, used=0.9)
    8.4
    """
    share = committed / (price * used) if used else math.inf
    return round(MONTHS_OF_TERM[term] * share, 1) if share < 1 else None


def _covered(demand: Floats, quantities: Floats) -> Floats:
    """Return Σ min(demand, quantity) for each quantity."""
    rising = np.sort(demand)
    sums = np.concatenate(([0.0], np.cumsum(rising)))
    at = np.searchsorted(rising, quantities, side="right")
    covered: Floats = sums[at] + quantities * (rising.size - at)
    return covered


# --- Size flexibility ----------------------------------------------------------------------------


def flexibility_ratio(size: Size) -> float:
    """Return how many units of a reservation of its family an hour of this size takes.

    Azure's table of ratios follows the number of cores within a family, so cores are taken for it:
    an hour of DS4_v2 (8 cores) is worth eight of DS1_v2.
    """
    return float(size.vcpus)


# --- What is committed already -------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SavingsPlan:
    """An amount an hour, spent on whatever it covers at its own rates."""

    per_hour: float
    term: str
    rates: Floats
    """Of a unit-hour of each group; NaN = not covered."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Coverage:
    """What commitments leave over, hour by hour."""

    uncovered: Floats
    """Units by group and hour, to be paid by the hour."""
    unused_units: Floats
    """Reserved and not used, by group and hour."""
    unused_plans: Floats
    """Money of each plan and hour."""
    cost: float
    """Of plans and of what is left to pay by the hour; reservations are paid already."""


def cover(
    demand: Floats, prices: Floats, reserved: Floats, plans: Sequence[SavingsPlan] = ()
) -> Coverage:
    """Use up commitments hour by hour as Azure does: nothing is carried to the next hour.

    Reservations first, then plans, those of three years before those of one; a plan goes to the
    largest discount first (methods §5.1).

    Args:
        demand: units by group and hour.
        prices: of a unit-hour of each group, by the hour.
        reserved: units of each group.
        plans: in any order.
    """
    used = np.minimum(demand, reserved[:, None])
    left = demand - used
    unused = np.zeros((len(plans), demand.shape[1]))
    for plan in sorted(range(len(plans)), key=lambda index: plans[index].term, reverse=True):
        rates = plans[plan].rates
        money = np.full(demand.shape[1], plans[plan].per_hour)
        discounts = 1 - rates / prices
        for group in np.argsort(-discounts, kind="stable")[: np.isfinite(rates).sum()]:
            units = np.minimum(left[group], money / rates[group])
            left[group] -= units
            money = np.maximum(money - units * rates[group], 0.0)
        unused[plan] = money
    committed = sum(plan.per_hour for plan in plans) * demand.shape[1]
    return Coverage(
        uncovered=left,
        unused_units=reserved[:, None] - used,
        unused_plans=unused,
        cost=committed + float((left * prices[:, None]).sum()),
    )


def held_level(demand: Floats, covered: float) -> float:
    """Return the constant quantity that would have covered so many unit-hours of this demand.

    A bill tells how many hours a commitment covered, and not its size: Σ min(D, Q) grows with Q.

    >>> held_level(np.array([1.0, 3.0]), 3.0)
    2.0
    """
    levels = np.concatenate(([0.0], np.sort(demand)))
    return float(np.interp(covered, _covered(demand, levels), levels))


# --- Reservations and a plan at once -------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Portfolio:
    """The cheapest reservations and savings plan for some hours."""

    reserved: Floats
    """Units of each group."""
    plan_per_hour: float
    cost: float
    """Over these hours, all that is not covered included."""


def cheapest_portfolio(
    demand: Floats, prices: Floats, reserved: Floats, plan: Floats | None = None
) -> Portfolio:
    """Choose reservations and a plan together; a linear programme, solved by HiGHS.

    min Σ r·Q·T + C·T + Σ p·o  with  D ≤ Q + x + o,  Σ rate·x ≤ C in every hour (methods §5.1).
    Hours that are alike are one state. The plan costs a group the same wherever it is used, so
    the programme spends it on the largest discount by itself, as Azure does.

    Args:
        demand: units by group and hour.
        prices: of a unit-hour of each group, by the hour.
        reserved: of a reserved unit-hour; NaN = cannot be reserved.
        plan: of a unit-hour under the plan; NaN = not covered. None: no plan may be bought.
    """
    from scipy import sparse  # noqa: PLC0415 - half a second of import, for purchases only
    from scipy.optimize import linprog  # noqa: PLC0415

    states, counts = np.unique(demand, axis=1, return_counts=True)
    groups, many = states.shape
    hours = demand.shape[1]
    rates = np.full(groups, np.nan) if plan is None else plan
    cells = groups * many
    # Columns: Q of each group, C, then x and o of each group and state, group by group.
    cost = np.concatenate(
        (
            np.nan_to_num(reserved) * hours,
            [float(hours)],
            np.zeros(cells),
            (prices[:, None] * counts).ravel(),
        )
    )
    identity = sparse.identity(cells, format="csr")
    by_group = sparse.kron(sparse.identity(groups), np.ones((many, 1)), format="csr")
    needs = sparse.hstack([-by_group, sparse.csr_matrix((cells, 1)), -identity, -identity])
    parts: list[Any] = [
        sparse.csr_matrix((many, groups)),
        sparse.csr_matrix(-np.ones((many, 1))),
        sparse.kron(np.nan_to_num(rates)[None, :], sparse.identity(many)),
        sparse.csr_matrix((many, cells)),
    ]
    spends = sparse.hstack(parts)
    sold = np.concatenate(
        (np.isfinite(reserved), [plan is not None], np.repeat(np.isfinite(rates), many))
    )
    solved: Any = linprog(
        cost,
        A_ub=sparse.vstack([needs, spends], format="csr"),
        b_ub=np.concatenate((-states.ravel(), np.zeros(many))),
        bounds=[(0, None if free else 0) for free in sold] + [(0, None)] * cells,
        method="highs",
    )
    return Portfolio(
        reserved=np.asarray(solved.x[:groups]),
        plan_per_hour=float(solved.x[groups]),
        cost=float(solved.fun),
    )


def plan_covers(setting: bool | None, pricing_models: Iterable[str | None]) -> bool:  # noqa: FBT001
    """Tell whether savings plans apply to this compute, which Azure's documents leave open.

    Args:
        setting: what the customer says; None: what the bill shows.
        pricing_models: of the compute's cost rows.

    >>> plan_covers(None, ["OnDemand", "SavingsPlan"]), plan_covers(None, ["OnDemand"])
    (True, False)
    """
    if setting is not None:
        return setting
    return any((model or "").lower().replace(" ", "") == "savingsplan" for model in pricing_models)


# --- How sure: scenarios of the term -------------------------------------------------------------


def level_scenarios(
    demand: Floats,
    *,
    weeks: int,
    migration_per_year: float,
    draws: int = 400,
    block_weeks: int = 4,
    min_growth_weeks: int = 26,
) -> Floats:
    """Return paths of demand over the term, as shares of the last weeks' level: draws × weeks.

    Weekly growth is drawn in blocks from the history; below half a year of it there is no growth
    to learn from, and the level stays. At a random week demand halves with the probability given.
    """
    rng = np.random.default_rng(_SEED)
    whole = demand[demand.size % HOURS_PER_WEEK :].reshape(-1, HOURS_PER_WEEK).mean(axis=1)
    levels = np.ones((draws, weeks))
    if whole.size >= min_growth_weeks and (whole > 0).all():
        growth = np.diff(np.log(whole))
        first = rng.integers(0, growth.size, size=(draws, -(-weeks // block_weeks)))
        at = (first[:, :, None] + np.arange(block_weeks)).reshape(draws, -1)[:, :weeks]
        levels = np.exp(np.cumsum(growth[at % growth.size], axis=1))
    moved = rng.random((draws, weeks)) < 1 - (1 - migration_per_year) ** (1 / WEEKS_PER_YEAR)
    once = np.cumsum(moved, axis=1) > 0
    levels[once] *= 0.5
    return levels


def scenario_savings(
    shape: Floats, levels: Floats, quantities: Floats, *, price: float, committed: float
) -> Floats:
    """Return what each quantity saves an hour in each scenario: quantities × scenarios.

    Args:
        shape: demand of each hour of recent weeks.
        levels: shares of it, scenarios × weeks.
        quantities: committed units.
        price: of a unit-hour by the hour.
        committed: of a committed unit-hour.
    """
    alive = np.maximum(levels, _ROUNDING)
    covered = _covered(shape, quantities[:, None, None] / alive) * alive / shape.size
    saved: Floats = covered.mean(axis=2) * price - committed * quantities[:, None]
    return saved


def risk_adjusted(savings: Floats, *, aversion: float, tail: float) -> Floats:
    """Return (1 − λ)·mean + λ·CVaR over the last axis, scenarios being equally likely."""
    adjusted: Floats = (1 - aversion) * savings.mean(axis=-1) + aversion * tail_mean(savings, tail)
    return adjusted


def tail_mean(savings: Floats, tail: float) -> Floats:
    """Return CVaR: the mean of the worst `tail` of scenarios, the last of them in part."""
    rising = np.sort(savings, axis=-1)
    mass = tail * rising.shape[-1]
    weights = np.clip(mass - np.arange(rising.shape[-1]), 0, 1)
    worst: Floats = rising @ weights / weights.sum()
    return worst


# --- Whether: the gates --------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Purchase:
    """What to buy of one reservation, and why not more."""

    term: str
    optimum: int
    """Whole units that would have saved most over the whole history."""
    quantity: int
    """After look-backs and scenarios; what the ladder may reach."""
    now: int
    """The first tranche."""
    saving_per_hour: float
    """Of the first tranche, over the hours seen."""
    mean_per_hour: float
    """Of the first tranche, over the scenarios of the term."""
    worst_per_hour: float
    """The same, mean of the worst tenth."""
    utilisation: float
    break_even_utilisation: float
    break_even_months: float | None


def veto(
    demand: Floats, rules: PurchaseRules, *, changes_pending: Sequence[str] = ()
) -> str | None:
    """Return in one sentence why nothing may be bought yet; None: nothing stands against it.

    Args:
        demand: units of each hour.
        rules: the limits.
        changes_pending: computes of the pool that are about to change their size.
    """
    days = demand.size / HOURS_PER_DAY
    if days < rules.min_history_days:
        return (
            f"Only {days:.0f} days of hourly use are known; a commitment for a year needs "
            f"{rules.min_history_days}: raise analysis.lookback_days."
        )
    third = demand[-rules.trend_days * HOURS_PER_DAY :]
    third = third[third.size % 3 :].reshape(3, -1).mean(axis=1)
    if third[2] < third[0] * (1 - rules.trend_tolerance):
        return (
            f"Use is declining: {third[2]:,.2f} units an hour in the last third of "
            f"{min(days, rules.trend_days):.0f} days against {third[0]:,.2f} in the first."
        )
    if changes_pending:
        return (
            f"{', '.join(changes_pending)} should change size first; a reservation would be bound "
            "to the old one."
        )
    return None


def purchase(
    demand: Floats, *, term: str, price: float, committed: float, rules: PurchaseRules
) -> Purchase | None:
    """Return what to buy; None where no commitment would pay.

    The quantity is the best under the scenarios of the term, and never more than the optimum of
    any of the last days looked at; half of it is bought now.
    """
    terms = {"price": price, "committed": committed}
    optimum = optimal_quantity(demand, **terms)
    most = min(
        optimum,
        *(
            optimal_quantity(demand[-days * HOURS_PER_DAY :], **terms)
            for days in rules.look_back_days
        ),
    )
    if most <= 0:
        return None
    shape = demand[-max(rules.look_back_days) * HOURS_PER_DAY :]
    levels = level_scenarios(
        demand,
        weeks=MONTHS_OF_TERM[term] * WEEKS_PER_YEAR // 12,
        migration_per_year=rules.migration_per_year,
    )
    candidates = np.unique(np.linspace(0, most, min(most, 50) + 1).round())
    saved = scenario_savings(shape, levels, candidates, **terms)
    worth = risk_adjusted(saved, aversion=rules.risk_aversion, tail=rules.tail)
    quantity = int(candidates[int(np.argmax(worth))])
    if quantity <= 0:
        return None
    now = ladder(quantity, rules.first_tranche)[0]
    of_now = scenario_savings(shape, levels, np.array([float(now)]), **terms)
    used = utilisation(demand, now) or 0.0
    curve = savings_curve(demand, np.array([float(now)]), **terms)
    return Purchase(
        term=term,
        optimum=optimum,
        quantity=quantity,
        now=now,
        saving_per_hour=float(curve[0]) / demand.size,
        mean_per_hour=float(of_now.mean()),
        worst_per_hour=float(tail_mean(of_now, rules.tail)[0]),
        utilisation=used,
        break_even_utilisation=committed / price,
        break_even_months=break_even_months(term=term, price=price, committed=committed, used=used),
    )


def ladder(quantity: int, tranche: float) -> tuple[int, ...]:
    """Return what to buy now and in each month after, as long as the optimum holds.

    >>> ladder(10, 0.5), ladder(1, 0.5)
    ((5, 3, 1, 1), (1,))
    """
    steps = []
    while quantity > 0:
        step = math.ceil(quantity * tranche)
        steps.append(step)
        quantity -= step
    return tuple(steps)


# --- Whether the rule is any good: the back-test -------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class BackTest:
    """What a rule of buying would have brought, from one origin to the next."""

    purchases: int
    horizon_days: int
    realised: float
    """Money saved by all purchases, over their horizons."""
    oracle: float
    """The same, had the hours to come been known."""
    losing_share: float
    cvar10: float
    """Mean of the worst tenth of savings, as a share of what those hours cost by the hour."""

    @property
    def share_of_oracle(self) -> float | None:
        """Realised ÷ oracle; None where there was nothing to save."""
        return self.realised / self.oracle if self.oracle else None


def back_test(
    demand: Floats,
    rule: Callable[[Floats], float],
    *,
    price: float,
    committed: float,
    first_days: int = 60,
    every_days: int = 28,
    horizon_days: int = 365,
) -> BackTest | None:
    """Buy by a rule at rolling origins; it sees nothing of the hours after its origin.

    None where the history is too short for one purchase of that horizon.

    Args:
        demand: units of each hour.
        rule: from the hours before an origin to a quantity.
        price: of a unit-hour by the hour.
        committed: of a committed unit-hour.
        first_days: history before the first origin.
        every_days: from origin to origin.
        horizon_days: for which each purchase is judged.
    """
    ahead = horizon_days * HOURS_PER_DAY
    origins = range(first_days * HOURS_PER_DAY, demand.size - ahead + 1, every_days * HOURS_PER_DAY)
    terms = {"price": price, "committed": committed}
    saved, best, shares = [], [], []
    for origin in origins:
        future = demand[origin : origin + ahead]
        bought = rule(demand[:origin])
        top = float(optimal_level(future, **terms))
        realised, oracle = savings_curve(future, np.array([bought, top]), **terms)
        best.append(float(oracle))
        if bought > 0:
            saved.append(float(realised))
            spend = float(future.sum()) * price
            shares.append(float(realised) / spend if spend else -math.inf)
    if not best:
        return None
    return BackTest(
        purchases=len(saved),
        horizon_days=horizon_days,
        realised=sum(saved),
        oracle=sum(best),
        losing_share=float(np.mean(np.array(saved) < 0)) if saved else 0.0,
        cvar10=float(tail_mean(np.array(shares), 0.1)) if shares else 0.0,
    )


def look_back_rule(
    *, price: float, committed: float, look_back_days: Sequence[int] = (3, 7, 30, 60)
) -> Callable[[npt.NDArray[np.float64]], float]:
    """Return the rule that `purchase` keeps to: the least optimum of the last days."""

    def rule(history: Floats) -> float:
        return min(
            float(optimal_level(history[-days * HOURS_PER_DAY :], price=price, committed=committed))
            for days in look_back_days
        )

    return rule
