"""Intervals, calibration and grades."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from optimizer.analysis.confidence import calibrate, grade, next_month
from optimizer.model import Basis, Estimate, Level


def test_the_interval_of_four_weeks_holds_the_month_to_come_four_times_in_five() -> None:
    random = np.random.default_rng(1)
    inside = 0
    for _ in range(400):
        days = random.normal(10.0, 4.0, 58)
        said = next_month(days[:28], days_per_month=30)
        inside += said.p10 <= days[28:].sum() <= said.p90
    assert 0.75 <= inside / 400 <= 0.88


@given(st.lists(st.floats(-100, 1000), min_size=1, max_size=60))
def test_p50_is_the_mean_and_lies_inside(daily: list[float]) -> None:
    estimate = next_month(np.asarray(daily), days_per_month=30)
    assert estimate.p50 == pytest.approx(np.mean(daily) * 30)
    assert estimate.p10 <= estimate.p50 <= estimate.p90


def test_equal_days_leave_nothing_to_doubt() -> None:
    estimate = next_month(np.full(28, 7.0), days_per_month=30)
    assert (estimate.p10, estimate.p50, estimate.p90) == (210, 210, 210)


def test_the_interval_holds_eight_in_ten_months_to_come() -> None:
    rng = np.random.default_rng(7)
    held = 0
    for _ in range(300):
        days = rng.gamma(2.0, 50.0, size=58)
        estimate = next_month(days[:28], days_per_month=30)
        held += estimate.p10 <= days[28:].sum() <= estimate.p90
    # Wilson 99 % of 300 trials at 0.8 is about ±0.06; four blocks of a week are few.
    assert 0.70 <= held / 300 <= 0.88


WEEK = [9.0, 8.0, 10.0, 7.0, 6.0, 0.0, 0.0]


@pytest.mark.parametrize("days", [21, 28, 33])
def test_equal_weeks_leave_nothing_to_doubt(days: int) -> None:
    # The odd days of a longer month fall on days that the calendar tells.
    estimate = next_month(np.resize(WEEK, days), days_per_month=730 / 24)
    assert estimate.p10 == pytest.approx(estimate.p50)
    assert estimate.p90 == pytest.approx(estimate.p50)


def test_the_interval_of_a_working_week_holds_four_weeks_to_come_four_times_in_five() -> None:
    rng = np.random.default_rng(11)
    working = np.arange(56) % 7 < 5
    held = 0
    for _ in range(400):
        days = np.where(working, rng.normal(10.0, 1.0, 56), 2.0)
        estimate = next_month(days[:28], days_per_month=730 / 24)
        held += estimate.p10 <= days[28:].mean() * 730 / 24 <= estimate.p90
    assert 0.74 <= held / 400 <= 0.86


def test_where_no_day_loses_no_month_does() -> None:
    # Three hung jobs in one week of four: perhaps none in the next ones, and never a loss.
    rare = np.zeros(28)
    rare[[3, 4, 5]] = 10.0
    estimate = next_month(rare, days_per_month=28)
    assert estimate.p10 == 0.0
    assert estimate.p50 == pytest.approx(30.0)
    rare[20] = -1.0
    assert next_month(rare, days_per_month=28).p10 < 0.0


def test_calibration_of_a_replay_that_is_a_tenth_short() -> None:
    bill, replay = np.asarray([10.0, 20.0]), np.asarray([9.0, 18.0])
    calibration = calibrate(bill, replay, basis=Basis.EFFECTIVE)
    assert calibration is not None
    assert calibration.k == pytest.approx(10 / 9)
    assert calibration.nmbe == pytest.approx(0.1)
    assert calibration.cv_rmse == pytest.approx(np.sqrt(2.5) / 15)


def test_no_bill_is_no_calibration() -> None:
    assert calibrate(np.zeros(5), np.ones(5), basis=Basis.EFFECTIVE) is None


@pytest.mark.parametrize(
    ("p10", "days", "samples", "logs", "expected"),
    [
        (80, 28, 30, True, Level.HIGH),
        (80, 28, 30, False, Level.MEDIUM),
        (60, 28, 30, True, Level.MEDIUM),
        (80, 27, 30, True, Level.MEDIUM),
        (80, 28, 9, True, Level.LOW),
        (-1, 28, 30, True, Level.LOW),
    ],
)
def test_grades(p10: float, days: float, samples: int, logs: bool, expected: Level) -> None:  # noqa: FBT001
    estimate = Estimate(p10=p10, p50=100, p90=120)
    assert grade(estimate, days=days, samples=samples, logs_agree=logs) is expected
