"""What schedules and idle shutdown together would have cost an instance."""

from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
import pytest

from optimizer.analysis.features import Gaps, InstanceFeatures
from optimizer.analysis.instances import Habits, habits_of, stop_minutes
from optimizer.model import InstanceSettings, StopTime, Window
from tests.analysis.builders import instance, minutes_of

WEEKDAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday")
USED_TILL_NOON = minutes_of([(0, 480), (1, 240), (0, 720)])  # from 08:00 to 12:00, never stopped


def test_a_schedule_follows_the_clock_of_its_place_through_summer_time() -> None:
    window = Window(
        start_utc=datetime(2026, 10, 24, tzinfo=UTC), end_utc=datetime(2026, 10, 27, tzinfo=UTC)
    )
    every_day = (*WEEKDAYS, "Saturday", "Sunday")
    stop = StopTime(days=every_day, hour=20, time_zone="Europe/Berlin")
    # 18:00 UTC until the clocks go back on 25 October, 19:00 from then on.
    assert stop_minutes((stop,), window).tolist() == [1080, 1440 + 1140, 2880 + 1140]
    assert stop_minutes((replace(stop, days=("Monday",)),), window).tolist() == [2880 + 1140]


def test_a_scheduled_stop_ends_a_pause_whatever_kernels_are_open() -> None:
    # 1 June 2026 is a Monday. Stopped at 18:00, six hours after the last use, on five days a week.
    case = instance(USED_TILL_NOON * 14, habits=Habits(blocked=10**9))
    after = InstanceSettings(idle_shutdown_minutes=60, stops=(StopTime(days=WEEKDAYS, hour=18),))
    hours = case.hours(after)
    assert hours[0] == pytest.approx(8 + 4 + 6)
    # Tuesday's first hours are saved, then its user starts it for three minutes.
    assert hours[1] == pytest.approx(4 + 6 + 0.05)
    assert hours[5] == pytest.approx(4 + 12 + 0.05)  # Saturday: nothing stops it
    assert case.restarts(after) == pytest.approx(10)  # all ten stops are followed by use


def test_a_pause_that_was_open_when_the_window_began_is_as_old_as_that_of_a_week_later() -> None:
    case = instance(USED_TILL_NOON * 14)
    # It lasted since noon of Sunday, so that a shutdown after an hour, or a stop at six, had ended
    # it before midnight: Monday costs what every day does.
    for after in (
        InstanceSettings(idle_shutdown_minutes=60),
        InstanceSettings(
            idle_shutdown_minutes=None,
            stops=(StopTime(days=(*WEEKDAYS, "Saturday", "Sunday"), hour=18),),
        ),
    ):
        hours = case.hours(after)
        assert hours == pytest.approx(np.full(14, hours[1]))
    # Thirteen hours are longer than it had lasted: the last of them is paid on Monday.
    long = case.hours(InstanceSettings(idle_shutdown_minutes=13 * 60))
    assert long[0] == pytest.approx(1 + 0.05 + 4 + 12)
    assert long[1] == pytest.approx(1 + 0.05 + 4 + 12)
    # Of less than a week nothing tells: it is taken to have begun with the window.
    few = instance(USED_TILL_NOON * 5).hours(InstanceSettings(idle_shutdown_minutes=60))
    assert few[0] == pytest.approx(1 + 0.05 + 4 + 1)


def test_idle_shutdown_and_schedule_save_what_either_would() -> None:
    case = instance(USED_TILL_NOON * 14)
    shut = InstanceSettings(idle_shutdown_minutes=60)
    both = replace(shut, stops=(StopTime(days=WEEKDAYS, hour=18),))
    # A shutdown after an hour always comes before six o'clock.
    assert case.hours(both) == pytest.approx(case.hours(shut))
    assert case.restarts(both) == pytest.approx(case.restarts(shut))


def test_who_starts_it_again_waits_as_long_as_starts_take_here() -> None:
    slow = replace(instance(USED_TILL_NOON * 14), start_seconds=600.0)
    shut = InstanceSettings(idle_shutdown_minutes=60)
    felt = slow.effects(shut, slow.settings)
    # Fourteen pauses end in use: that before the first day's, and thirteen nights.
    restarts = 14 * 730 / (14 * 24)
    assert felt.extra_restarts_per_month == pytest.approx(restarts)
    assert felt.extra_waiting_minutes_per_month == pytest.approx(restarts * 10)
    # An hour is paid after use, then nothing until ten minutes before the next.
    assert slow.hours(shut)[1] == pytest.approx(4 + 1 + 1 / 6)


def test_what_a_shutdown_did_to_a_pause_was_seen_and_is_no_question_of_habits() -> None:
    case = instance(USED_TILL_NOON * 14, idle_shutdown_minutes=60, habits=Habits(shut=10**9))
    # It is set, and yet the instance never stopped: kernels are open, here at least.
    assert case.hours(case.settings) == pytest.approx(np.full(14, 24.0))
    assert case.saving(InstanceSettings(idle_shutdown_minutes=30)).daily.sum() == pytest.approx(0)


def with_pauses(*on_minutes: int) -> InstanceFeatures:
    """An instance with an idle shutdown of an hour, and how long each ten-hour pause stayed on."""
    case = instance(USED_TILL_NOON * 14, idle_shutdown_minutes=60)
    count = len(on_minutes)
    gaps = Gaps(
        start=np.arange(count) * 1440,
        minutes=np.full(count, 600),
        resumed=np.ones(count, np.bool_),
        on_minutes=np.array(on_minutes),
    )
    return replace(case.features, gaps=gaps)


def test_a_shutdown_that_never_comes_says_nothing_of_the_habits_of_others() -> None:
    now_and_then = with_pauses(60, 75, 60, 600, 60, 60)
    broken = with_pauses(600, 600, 600, 600, 600)
    assert habits_of([now_and_then]) == Habits(shut=5, blocked=1, delay_minutes=3.0)
    assert habits_of([now_and_then, broken]) == habits_of([now_and_then])
    # Four of four may be chance.
    assert habits_of([with_pauses(600, 600, 600, 600)]).blocked == 4
