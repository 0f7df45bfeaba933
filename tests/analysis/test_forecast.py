"""Forecasts: constants stay, scales pass through, the better method is used and named."""

from datetime import date, timedelta
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from optimizer.analysis.forecast import (
    METHODS,
    accuracy,
    forecast_hours,
    forecast_spend,
    gradient_boosting,
    hour_of_week,
    month_end,
    pinball,
)

WEEK = np.array([5.0, 5.0, 5.0, 5.0, 5.0, 1.0, 2.0])
spends = st.lists(st.floats(0.5, 1000), min_size=14, max_size=60)


@pytest.mark.parametrize("name", METHODS)
def test_property_18_constant_stays_constant(name: str) -> None:
    assert METHODS[name](np.full(42, 7.0), 30) == pytest.approx(np.full(30, 7.0))


@settings(max_examples=25)
@given(spends, st.sampled_from([0.01, 3.0, 1000.0]))
def test_property_18_scale_passes_through(spend: list[float], factor: float) -> None:
    history = np.array(spend)
    for method in METHODS.values():
        assert method(history * factor, 9) == pytest.approx(
            method(history, 9) * factor, rel=1e-6, abs=1e-9
        )


@pytest.mark.parametrize("name", METHODS)
def test_a_weekly_rhythm_is_kept(name: str) -> None:
    forecast = METHODS[name](np.tile(WEEK, 8), 10)
    assert forecast == pytest.approx(np.resize(WEEK, 10), rel=0.02)


def test_a_level_that_just_rose_is_taken_from_the_last_week() -> None:
    history = np.concatenate((np.full(28, 10.0), np.full(28, 20.0)))
    assert METHODS["flat7"](history, 3) == pytest.approx([20.0] * 3)
    assert METHODS["flat28"](np.concatenate((history, np.full(7, 60.0))), 1) == pytest.approx(
        [30.0]
    )


def test_a_drift_is_damped() -> None:
    forecast = METHODS["damped_drift"](np.arange(35.0), 400)
    # Level 31, one a day: 31 + 0.9 + 0.81 + … → 31 + 9.
    assert forecast[-7:].mean() == pytest.approx(40.0, rel=0.05)


def test_error_and_bias_of_a_back_test() -> None:
    def half(history: np.ndarray[Any, Any], days: int) -> np.ndarray[Any, Any]:
        return np.full(days, history.mean() / 2)

    judged = accuracy(np.full(28, 10.0), half, days=7)
    assert judged is not None
    assert (judged.wape, judged.bias) == (0.5, -0.5)
    assert judged.errors == (2.0, 2.0)  # origins on days 14 and 21
    assert accuracy(np.full(20, 10.0), half, days=7) is None


def test_the_best_on_the_history_is_used_and_named() -> None:
    calm = forecast_spend(np.tile(WEEK, 10), 14)
    assert calm is not None
    assert calm.method == "flat7"
    assert [calm.total.p10, calm.total.p50, calm.total.p90] == pytest.approx([56.0] * 3)
    # A level that is thrown each week is best told by the mean of four.
    rng = np.random.default_rng(5)
    thrown = forecast_spend(np.repeat(rng.choice([50.0, 150.0], size=30), 7), 14)
    assert thrown is not None
    assert thrown.method == "flat28"
    assert thrown.total.p10 < thrown.total.p50 < thrown.total.p90


def test_a_week_is_needed_and_two_more_for_an_interval() -> None:
    assert forecast_spend(np.ones(6), 5) is None
    short = forecast_spend(np.ones(10), 5)
    assert short is not None
    assert short.accuracy is None
    assert (short.total.p10, short.total.p50, short.total.p90) == (0.0, 5.0, 10.0)


def test_month_end_is_actual_and_the_rest() -> None:
    start = date(2026, 3, 1)
    daily = {start + timedelta(days=day): 10.0 for day in range(50)}  # until 19 April
    ended = month_end(daily)
    assert ended is not None
    assert ended.actual == 190.0
    assert ended.total.p50 == pytest.approx(300.0)
    assert (ended.method, ended.wape, ended.bias) == ("flat7", 0.0, 0.0)
    assert month_end({}) is None


def test_a_month_that_ended_gives_way_to_the_next() -> None:
    daily = {date(2026, 3, 1) + timedelta(days=day): 10.0 for day in range(31)}
    ended = month_end(daily)
    assert ended is not None
    assert ended.actual == 0.0
    assert ended.total.p50 == pytest.approx(300.0)


def test_pinball_weighs_the_two_sides() -> None:
    assert pinball(np.array([10.0]), np.array([[8.0]]), [0.9]) == pytest.approx(1.8)
    assert pinball(np.array([8.0]), np.array([[10.0]]), [0.9]) == pytest.approx(0.2)


def test_quantiles_of_an_hour_of_the_week() -> None:
    # Two kinds of week, 1:3 in relation to their own mean only in the first hour.
    weeks = [np.full(168, 10.0) for _ in range(4)]
    forecast = hour_of_week(np.concatenate(weeks) * 2, 170, [0.1, 0.9])
    assert forecast.shape == (2, 170)
    assert forecast == pytest.approx(np.full((2, 170), 20.0))


def test_the_better_method_is_used_and_named() -> None:
    rng = np.random.default_rng(1)
    shape = np.tile(np.concatenate((np.full(120, 8.0), np.full(48, 2.0))), 5)
    # Every hour of the day is alike: few weeks tell little of one hour, and much of all of them.
    history = shape * rng.gamma(4.0, 0.25, size=shape.size)
    made = forecast_hours(history, 168, [0.1, 0.9])
    assert made is not None
    assert set(made.losses) == {"hour_of_week", "gradient_boosting"}
    assert made.method == min(made.losses, key=lambda name: made.losses[name])
    assert (np.diff(made.quantiles, axis=0) >= 0).all()
    assert forecast_hours(history[:335], 168, [0.5]) is None
    short = forecast_hours(history[:400], 168, [0.5])
    assert short is not None
    assert (short.method, short.losses) == ("hour_of_week", {})


def test_nothing_used_is_nothing_forecast() -> None:
    assert not gradient_boosting(np.zeros(672), 24, [0.5]).any()
    assert not hour_of_week(np.zeros(672), 24, [0.5]).any()
