"""Commitments: the worked examples of methods §5, and what holds whatever the demand."""

from itertools import pairwise, product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from optimizer.analysis.commitments import (
    PurchaseRules,
    SavingsPlan,
    back_test,
    break_even_months,
    cheapest_portfolio,
    cover,
    flexibility_ratio,
    ladder,
    level_scenarios,
    look_back_rule,
    optimal_level,
    optimal_quantity,
    purchase,
    risk_adjusted,
    savings_curve,
    scenario_savings,
    tail_mean,
    utilisation,
    veto,
)
from optimizer.analysis.confidence import Floats
from optimizer.catalogue import snapshot

ALPHA = {"price": 1.0, "committed": 0.63}
LEVELS = np.repeat([0.0, 1.0, 2.0, 3.0], [30, 20, 30, 20])
RULES = PurchaseRules()

demands = st.lists(st.integers(0, 12), min_size=1, max_size=60).map(
    lambda values: np.array(values, dtype=np.float64)
)
shares = st.floats(0.05, 0.99)


def steady(days: int, units: float = 10.0) -> Floats:
    return np.full(days * 24, units)


def test_the_saving_of_each_quantity() -> None:
    saved = savings_curve(LEVELS, np.arange(5.0), **ALPHA)
    assert saved == pytest.approx([0, 7, -6, -49, -112])
    assert optimal_quantity(LEVELS, **ALPHA) == 1


def test_hours_count_by_what_was_used_inside_them() -> None:
    # 0.75 h and 0.5 h inside one hour are 1.25, of which one unit covers 1.
    saved = savings_curve(np.array([0.75 + 0.5]), np.array([1.0]), price=1.0, committed=0.0)
    assert saved[0] == 1.0


def test_a_discount_of_37_percent_needs_63_percent_of_a_year() -> None:
    hours = np.zeros(8760)
    hours[:5518] = 1.0
    assert optimal_quantity(hours, **ALPHA) == 0
    hours[:5519] = 1.0
    assert optimal_quantity(hours, **ALPHA) == 1


def test_a_level_that_only_breaks_even_is_left() -> None:
    assert optimal_level(np.array([1.0] * 6 + [0.0] * 4), price=1.0, committed=0.6) == 0


@given(demands, shares)
def test_the_closed_form_is_the_best_of_all(demand: Floats, share: float) -> None:
    every = np.arange(14.0)
    curve = [float(np.minimum(demand, q).sum() - share * q * demand.size) for q in every]
    found = savings_curve(demand, every, price=1.0, committed=share)
    assert found == pytest.approx(curve)
    best = optimal_quantity(demand, price=1.0, committed=share)
    assert curve[best] == pytest.approx(max(curve), abs=1e-6)


@given(demands, shares, shares)
def test_property_17(demand: Floats, one: float, other: float) -> None:
    low, high = sorted((one, other))
    curve = savings_curve(demand, np.arange(14.0), price=1.0, committed=low)
    assert (np.diff(curve, 2) <= 1e-9).all()
    best = [float(optimal_level(demand, price=1.0, committed=share)) for share in (low, high)]
    assert best[1] <= best[0] <= demand.max()
    assert optimal_level(demand, price=1.0, committed=1.0) == 0


def test_many_series_at_once_are_each_alone() -> None:
    many = np.random.default_rng(3).integers(0, 9, size=(20, 200)).astype(np.float64)
    together = optimal_level(many, **ALPHA)
    assert together.tolist() == [float(optimal_level(row, **ALPHA)) for row in many]


def test_a_reservation_covers_sizes_of_its_family_by_their_cores() -> None:
    ratio = {
        name: flexibility_ratio(size)
        for name in ("DS1_v2", "DS2_v2", "DS3_v2", "DS4_v2", "DS5_v2")
        if (size := snapshot().size(f"Standard_{name}"))
    }
    assert ratio["DS4_v2"] == 8 * ratio["DS1_v2"]
    assert ratio["DS4_v2"] == 2 * ratio["DS2_v2"] + ratio["DS3_v2"]
    assert ratio["DS4_v2"] == ratio["DS5_v2"] / 2


@pytest.mark.parametrize(("per_hour", "cost", "unused"), [(3.0, 5.25, 0.0), (6.0, 6.0, 1.2)])
def test_a_plan_goes_to_the_largest_discount_first(
    per_hour: float, cost: float, unused: float
) -> None:
    covered = cover(
        np.array([[3.0], [4.0]]),
        np.ones(2),
        np.zeros(2),
        [SavingsPlan(per_hour=per_hour, term="1y", rates=np.array([0.8, 0.6]))],
    )
    assert covered.cost == pytest.approx(cost)
    assert covered.unused_plans.sum() == pytest.approx(unused)


def test_reservations_come_before_plans_and_each_hour_is_for_itself() -> None:
    covered = cover(
        np.array([[10.0, 0.0]]),
        np.array([2.0]),
        np.array([4.0]),
        [SavingsPlan(per_hour=3.0, term="1y", rates=np.array([1.5]))],
    )
    assert covered.unused_units.tolist() == [[0.0, 4.0]]
    assert covered.uncovered == pytest.approx(np.array([[4.0, 0.0]]))  # 10 − 4 − 3.00 / 1.50
    assert covered.unused_plans.tolist() == [[0.0, 3.0]]
    assert covered.cost == pytest.approx(2 * 3.0 + 4 * 2.0)


def test_plans_of_three_years_are_used_before_those_of_one() -> None:
    plans = [SavingsPlan(per_hour=1.0, term=term, rates=np.array([0.5])) for term in ("1y", "3y")]
    assert cover(np.array([[2.0]]), np.ones(1), np.zeros(1), plans).unused_plans.tolist() == [
        [1.0],
        [0.0],
    ]


def test_a_group_that_a_plan_does_not_cover_is_paid_by_the_hour() -> None:
    plan = SavingsPlan(per_hour=5.0, term="1y", rates=np.array([np.nan, 0.5]))
    covered = cover(np.array([[2.0], [2.0]]), np.ones(2), np.zeros(2), [plan])
    assert covered.uncovered.tolist() == [[2.0], [0.0]]


@pytest.mark.parametrize(
    ("demand", "reserved", "plan", "cost"),
    [
        ([[10, 0], [0, 10]], [0, 0], 7.5, 15.0),
        ([[10, 10], [5, 0]], [10, 0], 0.0, 17.0),
        ([[10, 10, 4, 4], [0, 0, 6, 6]], [4, 0], 4.5, 27.6),
    ],
)
def test_worked_portfolios(
    demand: list[list[float]], reserved: list[float], plan: float, cost: float
) -> None:
    best = cheapest_portfolio(
        np.array(demand, dtype=np.float64), np.ones(2), np.full(2, 0.6), np.full(2, 0.75)
    )
    assert best.cost == pytest.approx(cost)
    assert best.reserved == pytest.approx(reserved, abs=1e-9)
    assert best.plan_per_hour == pytest.approx(plan, abs=1e-9)


@settings(max_examples=15)
@given(
    st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=1, max_size=5),
    st.sampled_from([0.5, 0.6, 0.7]),
)
def test_no_whole_portfolio_is_cheaper_than_the_linear_programme(
    hours: list[tuple[int, int]], share: float
) -> None:
    demand = np.array(hours, dtype=np.float64).T
    prices, reserved, rates = np.ones(2), np.array([share, 0.65]), np.full(2, 0.75)
    best = cheapest_portfolio(demand, prices, reserved, rates)

    def cost(one: float, two: float, plan: float) -> float:
        bought = np.array([one, two])
        plans = [SavingsPlan(per_hour=plan, term="1y", rates=rates)]
        left = cover(demand, prices, bought, plans).cost
        return float(left + (reserved @ bought) * demand.shape[1])

    # With equal rates of the plan the optimum lies where some hour is covered exactly.
    steps = [0.75 * units for units in range(7)]
    tried = [cost(one, two, plan) for one, two, plan in product(range(4), range(4), steps)]
    assert best.cost == pytest.approx(min(tried))
    assert cost(
        float(best.reserved[0]), float(best.reserved[1]), best.plan_per_hour
    ) == pytest.approx(best.cost)


def test_what_is_not_sold_is_not_bought() -> None:
    best = cheapest_portfolio(np.full((1, 4), 2.0), np.ones(1), np.array([np.nan]))
    assert (best.reserved.tolist(), best.plan_per_hour, best.cost) == ([0.0], 0.0, 8.0)


def test_scenarios_of_risk() -> None:
    levels = np.array([[1.0], [1.0], [1.0], [0.6], [0.2]])
    quantities = np.array([20.0, 60.0, 100.0])
    saved = scenario_savings(np.array([100.0]), levels, quantities, **ALPHA)
    assert saved[1].mean() == pytest.approx(14.2)
    assert saved[1].min() == pytest.approx(-17.8)
    assert saved[0] == pytest.approx([7.4] * 5)
    for aversion, best in ((0.0, 60), (0.5, 20), (1.0, 20)):
        worth = risk_adjusted(saved, aversion=aversion, tail=0.2)
        assert quantities[int(np.argmax(worth))] == best


def test_the_tail_takes_its_last_scenario_in_part() -> None:
    assert tail_mean(np.array([4.0, 0.0, 2.0, 9.0]), 0.375) == pytest.approx((0 + 0.5 * 2) / 1.5)


def test_without_half_a_year_of_history_only_a_migration_moves_the_level() -> None:
    calm = level_scenarios(steady(60), weeks=52, migration_per_year=0.0)
    assert (calm == 1).all()
    moved = level_scenarios(steady(60), weeks=52, migration_per_year=0.25, draws=4000)
    assert set(np.unique(moved)) == {0.5, 1.0}
    assert (moved[:, -1] == 0.5).mean() == pytest.approx(0.25, abs=0.02)


def test_half_a_year_of_growth_is_expected_to_go_on() -> None:
    growing: Floats = (1.01 ** np.repeat(np.arange(30), 168)).astype(np.float64)
    levels = level_scenarios(growing, weeks=52, migration_per_year=0.0)
    assert levels[:, -1] == pytest.approx(np.full(400, 1.01**52))


def test_breaking_even() -> None:
    assert utilisation(LEVELS, 1) == pytest.approx(0.7)
    assert utilisation(LEVELS, 0) is None
    # 0.63 / 0.70 of the year is 10.8 months; at 63 % of use it is the whole year, and no gain.
    assert break_even_months(term="1y", used=0.7, **ALPHA) == 10.8
    assert break_even_months(term="3y", used=0.63, **ALPHA) is None
    assert break_even_months(term="1y", used=0.0, **ALPHA) is None


@pytest.mark.parametrize(
    ("demand", "pending", "reason"),
    [
        (steady(59), (), "Only 59 days of hourly use are known"),
        (np.concatenate((steady(60), steady(30, 9.0))), (), "Use is declining: 9.00 units"),
        (steady(60), ("train",), "train should change size first"),
        (steady(60), (), None),
        (np.concatenate((steady(60), steady(30, 9.6))), (), None),
    ],
)
def test_vetoes(demand: Floats, pending: tuple[str, ...], reason: str | None) -> None:
    said = veto(demand, RULES, changes_pending=pending)
    assert (said or "").startswith(reason or "") if reason else said is None


def test_half_of_what_is_steady_is_bought_now() -> None:
    bought = purchase(steady(90), term="1y", rules=RULES, **ALPHA)
    assert bought is not None
    assert (bought.optimum, bought.quantity, bought.now) == (10, 5, 3)
    # A quarter of scenarios fall to half: beyond five units the worst tenth loses too much.
    assert bought.saving_per_hour == pytest.approx(3 * 0.37)
    assert bought.worst_per_hour == pytest.approx(3 * 0.37)
    assert bought.break_even_months == pytest.approx(7.6)
    assert (bought.utilisation, bought.break_even_utilisation) == (1.0, 0.63)


def test_the_least_optimum_of_the_last_days_binds() -> None:
    quiet = np.concatenate((steady(87), steady(3, 2.0)))
    bought = purchase(quiet, term="1y", rules=RULES, **ALPHA)
    assert bought is not None
    assert (bought.optimum, bought.quantity, bought.now) == (10, 2, 1)
    assert (
        purchase(np.concatenate((steady(87), steady(3, 0.0))), term="1y", rules=RULES, **ALPHA)
        is None
    )


@given(st.integers(1, 1000), st.sampled_from([0.25, 0.5, 1.0]))
def test_a_ladder_reaches_the_whole_quantity(quantity: int, tranche: float) -> None:
    steps = ladder(quantity, tranche)
    assert sum(steps) == quantity
    assert all(after <= before for before, after in pairwise(steps))


def test_a_rule_is_judged_on_hours_it_never_saw() -> None:
    seen: list[int] = []

    def rule(history: Floats) -> float:
        seen.append(history.size)
        return look_back_rule(price=1.0, committed=0.63)(history)

    # Ten units for 60 days, then 30 days of ten, then four for 28.
    demand = np.concatenate((steady(88), steady(28, 4.0)))
    judged = back_test(demand, rule, horizon_days=28, price=1.0, committed=0.63)
    assert judged is not None
    assert seen == [60 * 24, 88 * 24]
    hours = 28 * 24
    assert judged.realised == pytest.approx(hours * (10 * 0.37 + (4 - 6.3)))
    assert judged.oracle == pytest.approx(hours * (10 * 0.37 + 4 * 0.37))
    assert judged.losing_share == 0.5
    assert judged.cvar10 == pytest.approx((4 - 6.3) / 4)
    assert back_test(steady(80), rule, horizon_days=28, price=1.0, committed=0.63) is None
