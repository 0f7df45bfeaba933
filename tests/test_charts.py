"""What the pictures show, as numbers."""

from dataclasses import replace
from datetime import UTC, date, datetime

import numpy as np
import pytest

from optimizer.analysis.result import Felt, Series
from optimizer.app import charts
from optimizer.model import Claim, Estimate
from optimizer.remediation.outcomes import ClaimReport, Measured
from optimizer.scenarios import Scenario
from tests.browser.example_analysis import example_analysis, working_days

MONDAY = date(2026, 10, 26)


def claim(resource: str, measured: Measured | None) -> ClaimReport:
    return ClaimReport(
        finding_id="f-1",
        resource_id=f"/subscriptions/s/computes/{resource}",
        applied_utc=datetime(2026, 11, 1, tzinfo=UTC),
        level=Claim.APPLIED,
        promised_per_month=Estimate(p10=90.0, p50=100.0, p90=130.0),
        measured_per_month=measured,
        why="",
    )


def test_waterfall_ends_at_what_remains() -> None:
    found = example_analysis()
    nothing = {"failed_work": Estimate(p10=0.0, p50=0.0, p90=0.0)}
    (bars,) = charts.waterfall(found.spend_per_month, {**found.by_detector, **nothing}, "EUR").data
    assert bars.x == pytest.approx((8000.0, -3000.0, -345.2, 4654.8))
    assert bars.measure == ("relative", "relative", "relative", "total")


def test_daily_spend_has_a_bar_for_each_day() -> None:
    found = example_analysis()
    (bars,) = charts.daily_spend(found.daily_spend, "EUR").data
    assert (len(bars.x), bars.x[0], sum(bars.y)) == (27, MONDAY, sum(range(250, 277)))


def test_idle_is_what_is_paid_and_not_needed() -> None:
    series = working_days(minimum=2, peak=6)
    needed, idle, paid, changed = charts.nodes_over_time(series, MONDAY, 1, "Nodes").data
    assert len(paid.x) == 144
    assert (needed.y + idle.y == paid.y).all()
    # 6 nodes for the 2 h that the idle time holds them, 2 for the 14 h outside
    assert idle.y.sum() / 6 == 6 * 2 + 2 * 14
    assert changed.y.sum() / 6 == 6 * 8


def test_a_long_span_shows_the_highest_of_each_hour() -> None:
    series = working_days(minimum=0, peak=6)
    series.needed[1] = 9.0
    needed, *_ = charts.nodes_over_time(series, MONDAY, 28, "Nodes").data
    assert len(needed.y) == 28 * 24
    assert needed.y[0] == 9.0


def test_what_nobody_observed_is_shaded_not_idle() -> None:
    series = working_days(minimum=2, peak=6)
    series.needed[6:12] = np.nan  # from 1 to 2 h
    figure = charts.nodes_over_time(series, MONDAY, 1, "Nodes")
    idle = figure.data[1].y
    (shade,) = figure.layout.shapes
    assert (idle[5], idle[6], idle[11], idle[12]) == (2.0, 0.0, 0.0, 2.0)
    assert (shade.x0, shade.x1) == (series.times_utc[6], series.times_utc[12])


def test_the_day_that_changes_most_comes_first() -> None:
    series = working_days(minimum=2, peak=6)
    # A weekend day saves 2 × 24 h, a working day 2 × 14 + 6 × 2
    assert charts.most_changed_day(series, 1) == date(2026, 10, 31)
    assert charts.most_changed_day(series, 7) == MONDAY


def test_a_series_shorter_than_the_span_begins_at_its_first_day() -> None:
    whole = working_days(minimum=2, peak=6)
    one_day = Series(
        times_utc=whole.times_utc[:144],
        needed=whole.needed[:144],
        on_now=whole.on_now[:144],
        on_changed=whole.on_changed[:144],
    )
    assert charts.most_changed_day(one_day, 7) == MONDAY


def test_only_measured_claims_are_drawn_each_with_its_intervals() -> None:
    measured = claim("b<i>", Measured(low=80.0, mid=95.0, high=120.0))
    promise, bill = charts.promised_and_measured([claim("a", None), measured], "EUR").data
    assert promise.y == bill.y == ("1. b&lt;i&gt;",)
    assert (promise.x, promise.error_x.array, promise.error_x.arrayminus) == (
        (100.0,),
        (30.0,),
        (10.0,),
    )
    assert (bill.x, bill.error_x.array, bill.error_x.arrayminus) == ((95.0,), (25.0,), (15.0,))


def test_two_claims_about_one_resource_keep_their_own_rows() -> None:
    claims = [claim("a", Measured(low=1.0, mid=2.0, high=3.0))] * 2
    promise, _ = charts.promised_and_measured(
        [claims[0], replace(claims[1], finding_id="f-2")], "EUR"
    ).data
    assert promise.y == ("1. a", "2. a")


def test_scenarios_stand_beside_the_front_of_saving_against_waiting() -> None:
    front = [choice(waiting, saving) for waiting, saving in ((0.0, 10.0), (60.0, 90.0))]
    line, mark = charts.saving_against_waiting(front, {"Balanced": choice(70, 80)}, "EUR").data
    assert (line.x, line.y, line.line.shape) == ((0.0, 60.0), (10.0, 90.0), "hv")
    assert (line.error_y.arrayminus, line.error_y.array) == ((5.0, 5.0), (7.0, 7.0))
    assert (mark.name, mark.x, mark.y) == ("Balanced", (70,), (80,))


def choice(waiting: float, saving: float) -> Scenario:
    return Scenario(
        name="front",
        steps=(),
        total=Estimate(p10=saving - 5, p50=saving, p90=saving + 7),
        left_out=(),
        felt=Felt(extra_waiting_minutes_per_month=waiting),
    )
