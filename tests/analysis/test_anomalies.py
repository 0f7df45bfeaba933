"""Anomalies: rare, large, explained, and never of days that are not billed whole."""

from datetime import date, timedelta

import numpy as np
import pytest

from optimizer.analysis.anomalies import AnomalyRules, anomalies, moved_by, parts_of, robust_z

START = date(2026, 1, 5)
WEEK = [500.0, 520.0, 510.0, 505.0, 495.0, 200.0, 210.0]


def days(costs: list[float]) -> dict[date, float]:
    return {START + timedelta(days=day): cost for day, cost in enumerate(costs)}


def quiet(weeks: int = 8) -> list[float]:
    rng = np.random.default_rng(2)
    return [cost * float(rng.lognormal(0, 0.03)) for _ in range(weeks) for cost in WEEK]


def found(costs: list[float], rules: AnomalyRules | None = None) -> list[tuple[int, bool]]:
    through = START + timedelta(days=len(costs) + 2)
    return [
        ((each.day - START).days, each.level_shift)
        for each in anomalies(days(costs), through=through, rules=rules)
    ]


def test_known_answer() -> None:
    assert robust_z(np.array([100, 102, 98, 101, 99, 103, 97, 100.0]), 140.0) == pytest.approx(
        17.99, abs=0.005
    )
    assert robust_z(np.ones(5), 2.0) is None


def test_weekends_are_no_anomaly() -> None:
    assert found(quiet()) == []


@pytest.mark.parametrize("factor", [0.5, 1.5, 2.0])
def test_a_day_out_of_the_ordinary_is_found(factor: float) -> None:
    costs = quiet()
    costs[45] *= factor
    assert found(costs) == [(45, False)]


def test_what_is_small_in_money_or_share_is_not_said() -> None:
    costs = [cost / 20 for cost in quiet()]
    costs[45] *= 2
    assert found(costs) == []
    steady = [1000.0 + (day % 3) for day in range(56)]
    steady[45] = 1095.0
    assert found(steady) == []
    steady[45] = 1105.0
    assert found(steady) == [(45, False)]


def test_two_days_in_a_row_are_a_level_shift_and_then_the_new_level() -> None:
    costs = [cost if day < 44 else 2 * cost for day, cost in enumerate(quiet())]
    flagged = found(costs, AnomalyRules(days_per_alert=10))
    assert flagged[:2] == [(44, False), (45, True)]
    assert max(day for day, _ in flagged) < 49


def test_at_most_one_alert_a_month_on_its_own_history() -> None:
    rng = np.random.default_rng(11)
    wild = 500 * rng.lognormal(0, 0.6, size=60) * rng.choice([1, 4], p=[0.85, 0.15], size=60)
    assert len(found(wild.tolist())) <= 2


def test_the_last_two_days_and_a_short_history_are_not_judged() -> None:
    costs = quiet()
    costs[-1] *= 3
    read_on = START + timedelta(days=len(costs) + 1)
    assert anomalies(days(costs), through=read_on) == ()
    assert len(anomalies(days(costs), through=read_on + timedelta(days=1))) == 1
    short = quiet(3)[:20]
    short[-1] *= 3
    assert found(short) == []


def test_days_of_nothing_are_no_trouble() -> None:
    assert found([0.0] * 40) == []
    costs = quiet()
    costs[45] = 0.0
    assert found(costs) == [(45, False)]


def test_it_is_said_what_moved_the_day() -> None:
    lines = [
        (START + timedelta(days=day), component, who, cost)
        for day in range(8)
        for component, who, cost in (("vm", "/a", 10.0), ("disk", "/b", 5.0))
    ]
    day = START + timedelta(days=7)
    lines += [(day, "vm", "/a", 90.0), (day, "vm", "/new", 30.0)]
    parts = moved_by(day, parts_of(lines))
    assert [(part.component, part.resource_id) for part in parts] == [
        ("vm", "/a"),
        ("vm", "/new"),
    ]
    assert [part.change for part in parts] == pytest.approx([90.0, 30.0])


def test_impact_is_actual_less_expected() -> None:
    costs = quiet()
    costs[45] *= 2
    (one,) = anomalies(days(costs), through=START + timedelta(days=90))
    assert one.impact == pytest.approx(one.actual - one.expected)
    assert one.actual == costs[45]
    assert one.expected == pytest.approx(WEEK[45 % 7], rel=0.1)
