"""Instances: when they run, under the user, the schedule and Azure's own idle rule. Hours."""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from optimizer.emulator.instances import Instance, InstanceSettings, Session
from optimizer.emulator.physics import Physics
from optimizer.emulator.schedules import read_schedules
from optimizer.errors import EstateError

HOUR = 3600
AT_ONCE = Physics(start_seconds=0)
MONDAY_S = int(datetime(2026, 1, 5, tzinfo=UTC).timestamp())


def session(start: float, end: float, via: str = "jupyter", **columns: Any) -> Session:
    plain = Session(
        index=0,
        user="ana",
        start_s=MONDAY_S + round(start * HOUR),
        end_s=MONDAY_S + round(end * HOUR),
        via=via,
        keeps_kernel_open=False,
        user_stops=False,
        cpu_pct=40.0,
        gpu_pct=0.0,
        memory_pct=30.0,
    )
    return replace(plain, **columns)


def instance(
    sessions: Iterable[Session] = (),
    *,
    idle_hours: float | None = 1,
    physics: Physics = AT_ONCE,
    running: bool = False,
    **settings: Any,
) -> Instance:
    idle_seconds = None if idle_hours is None else round(idle_hours * HOUR)
    return Instance(
        "ci",
        InstanceSettings(idle_seconds=idle_seconds, **settings),
        [replace(each, index=index) for index, each in enumerate(sessions)],
        running=running,
        physics=physics,
        start_s=MONDAY_S,
    )


def on(of: Instance, until: float = 100) -> list[tuple[float, float]]:
    of.run_until(MONDAY_S + round(until * HOUR))
    return [((start - MONDAY_S) / HOUR, (end - MONDAY_S) / HOUR) for start, end in of.on_spans()]


def did(of: Instance) -> list[tuple[float, str, str]]:
    return [((one.at_s - MONDAY_S) / HOUR, one.name, one.trigger) for one in of.operations]


@pytest.mark.parametrize(
    ("work", "stops_at"),
    [
        (session(9, 12), 13),
        (session(9, 12, keeps_kernel_open=True), 100),
        (session(9, 12, "vscode"), 12 + 3 + 1),
        (session(9, 12, "app"), 100),
        (session(9, 9.5, "ssh"), 10),
    ],
    ids=["jupyter", "open kernel", "vscode", "app", "ssh"],
)
def test_azures_idle_rule(work: Session, stops_at: float) -> None:
    assert on(instance([work])) == [(9, stops_at)]


def test_who_works_over_ssh_is_shut_down_and_starts_again() -> None:
    over_ssh = instance([session(9, 11.5, "ssh")])
    assert on(over_ssh) == [(9, 10), (10, 11), (11, 12)]
    assert did(over_ssh)[:3] == [
        (9, "Start", "User"),
        (10, "Stop", "IdleShutdown"),
        (10, "Start", "User"),
    ]


def test_with_ten_minutes_left_it_is_not_worth_starting_again() -> None:
    over_ssh = instance([session(9, 10 + 1 / 6, "ssh")])
    assert on(over_ssh) == [(9, 10)]
    assert over_ssh.sessions_played().end_s.tolist() == [MONDAY_S + 10 * HOUR]


def test_custom_services_keep_it_from_ever_being_idle() -> None:
    assert on(instance([session(9, 10)], has_custom_services=True)) == [(9, 100)]


def test_without_an_idle_time_it_runs_on() -> None:
    assert on(instance([session(9, 10)], idle_hours=None)) == [(9, 100)]


def test_a_new_session_holds_the_same_start() -> None:
    assert on(instance([session(9, 10), session(10.5, 12)])) == [(9, 13)]


def test_a_session_that_begins_as_the_idle_time_runs_out_keeps_it_on() -> None:
    assert on(instance([session(9, 10), session(11, 12)])) == [(9, 13)]


def test_a_user_stops_it_at_the_end_of_the_last_open_session_only() -> None:
    work = [session(9, 11, user_stops=True), session(10, 12, user_stops=True)]
    stopped = instance(work, idle_hours=None)
    assert on(stopped) == [(9, 12)]
    assert did(stopped)[-1] == (12, "Stop", "User")


def test_it_is_on_from_its_start_and_usable_when_it_is_up() -> None:
    slow = instance([session(9, 10)], physics=Physics(start_seconds=600))
    assert on(slow, until=9.1) == [(9, 9.1)]
    assert slow.state == "Starting"
    assert on(slow, until=9.5) == [(9, 9.5)]
    assert slow.state == "Running"
    assert slow.sessions_played().start_s.tolist() == [MONDAY_S + 9 * HOUR + 600]


def test_a_start_lasts_until_it_can_be_worked_on_or_is_stopped_before() -> None:
    slow = instance([session(9, 10)], physics=Physics(start_seconds=600))
    slow.run_until(MONDAY_S + 12 * HOUR)
    assert [(one.name, one.seconds) for one in slow.operations] == [("Start", 600), ("Stop", 0)]
    slow.start("ana")
    slow.run_until(slow.now_s + 240)
    slow.stop("ana")
    assert [(one.name, one.seconds) for one in slow.operations[2:]] == [("Start", 240), ("Stop", 0)]


def test_a_session_shorter_than_the_start_is_never_played() -> None:
    slow = instance([session(9, 9.1)], physics=Physics(start_seconds=600))
    on(slow)
    assert slow.on_spans() == [(MONDAY_S + 9 * HOUR, MONDAY_S + 10 * HOUR + 600)]
    assert slow.sessions_played().start_s.tolist() == []


def test_one_that_was_on_at_the_beginning_is_idle_since_then() -> None:
    assert on(instance(running=True)) == [(0, 1)]


def test_another_idle_time_starts_the_idle_clock_afresh() -> None:
    changed = instance([session(9, 10)], idle_hours=3)
    on(changed, until=11.5)
    changed.configure(InstanceSettings(idle_seconds=HOUR))
    assert on(changed) == [(9, 12.5)]


def test_the_same_idle_time_again_changes_nothing() -> None:
    changed = instance([session(9, 10)], idle_hours=3)
    on(changed, until=11.5)
    changed.configure(InstanceSettings(idle_seconds=3 * HOUR))
    assert on(changed) == [(9, 13)]


def test_start_and_stop_by_hand() -> None:
    manual = instance(idle_hours=None)
    on(manual, until=2)
    manual.start("ben")
    manual.start("ben")
    on(manual, until=5)
    manual.stop("ben")
    assert on(manual) == [(2, 5)]
    assert did(manual) == [(2, "Start", "User"), (5, "Stop", "User")]


def test_a_deleted_one_bills_no_more_and_nobody_comes_back() -> None:
    gone = instance([session(9, 12), session(30, 31)])
    on(gone, until=10)
    gone.delete()
    assert on(gone) == [(9, 10)]
    assert gone.state == "Stopped"


# -- schedules -----------------------------------------------------------------------------------


def cron(action: str, expression: str, zone: str = "UTC", **more: Any) -> Mapping[str, Any]:
    trigger = {"expression": expression, "timeZone": zone} | more
    return {"action": action, "triggerType": "Cron", "status": "Enabled", "cron": trigger}


def recurring(action: str, **recurrence: Any) -> Mapping[str, Any]:
    return {"action": action, "triggerType": "Recurrence", "recurrence": recurrence}


def fires(document: Mapping[str, Any], count: int = 3) -> list[str]:
    [schedule] = read_schedules({"schedules": {"computeStartStop": [document]}})
    moments, at_s = [], MONDAY_S
    for _ in range(count):
        found = schedule.next_s(at_s)
        assert found is not None
        at_s = found
        moments.append(f"{datetime.fromtimestamp(at_s, UTC):%m-%d %H:%M}")
    return moments


@pytest.mark.parametrize(
    ("document", "expected"),
    [
        (cron("Stop", "0 18 * * *"), ["01-05 18:00", "01-06 18:00", "01-07 18:00"]),
        (cron("Stop", "30 7 * * 1-5"), ["01-05 07:30", "01-06 07:30", "01-07 07:30"]),
        (cron("Stop", "0 0 * * 0,6"), ["01-10 00:00", "01-11 00:00", "01-17 00:00"]),
        (cron("Stop", "0 */12 1 * *"), ["02-01 00:00", "02-01 12:00", "03-01 00:00"]),
        (cron("Stop", "0 0 13 * 5"), ["01-09 00:00", "01-13 00:00", "01-16 00:00"]),
        (
            cron("Stop", "0 18 * * *", "Pacific Standard Time"),
            ["01-05 02:00", "01-06 02:00", "01-07 02:00"],
        ),
        (
            cron("Stop", "0 18 * * *", startTime="2026-01-20T12:00:00"),
            ["01-20 18:00", "01-21 18:00", "01-22 18:00"],
        ),
        (
            recurring("Stop", frequency="Day", interval=2, startTime="2026-01-06T20:00:00"),
            ["01-06 20:00", "01-08 20:00", "01-10 20:00"],
        ),
        (
            recurring(
                "stop",
                frequency="week",
                interval=1,
                schedule={"weekDays": ["Monday", "Friday"], "hours": [19], "minutes": [0]},
            ),
            ["01-05 19:00", "01-09 19:00", "01-12 19:00"],
        ),
        (
            recurring("Stop", frequency="Month", startTime="2026-01-15T06:30:00"),
            ["01-15 06:30", "02-15 06:30", "03-15 06:30"],
        ),
    ],
)
def test_when_a_schedule_fires(document: Mapping[str, Any], expected: list[str]) -> None:
    assert fires(document) == expected


def test_a_schedule_keeps_the_clock_of_its_place_through_summer_time() -> None:
    berlin = cron("Stop", "0 18 28-30 3 *", "W. Europe Standard Time")
    assert fires(berlin) == ["03-28 17:00", "03-29 16:00", "03-30 16:00"]


def test_a_disabled_schedule_is_none() -> None:
    disabled = {**cron("Stop", "0 18 * * *"), "status": "Disabled"}
    assert read_schedules({"schedules": {"computeStartStop": [disabled]}}) == ()


@pytest.mark.parametrize(
    ("document", "word"),
    [
        (cron("Stop", "0 18 * *"), "five fields"),
        (cron("Stop", "0 25 * * *"), "within 0 and 23"),
        (cron("Stop", "x 18 * * *"), "no cron field"),
        (cron("Restart", "0 18 * * *"), "Start or Stop"),
        (cron("Stop", "0 18 * * *", "Middle Earth Time"), "time zone"),
        (cron("Stop", "0 18 * * *", startTime="soon"), "starts at 'soon'"),
        (recurring("Stop", frequency="Minute"), "Day, Week and Month"),
        ({"action": "Stop"}, "neither cron nor recurrence"),
    ],
)
def test_a_schedule_that_cannot_be_played_is_refused(
    document: Mapping[str, Any], word: str
) -> None:
    with pytest.raises(EstateError, match=word):
        fires(document)


def test_a_schedule_starts_and_stops_it() -> None:
    schedules = read_schedules(
        {
            "schedules": {
                "computeStartStop": [cron("Start", "0 8 * * *"), cron("Stop", "0 18 * * *")]
            }
        }
    )
    scheduled = instance(idle_hours=None, schedules=schedules)
    assert on(scheduled, until=50) == [(8, 18), (32, 42)]
    assert did(scheduled)[:2] == [(8, "Start", "Schedule"), (18, "Stop", "Schedule")]


def test_who_is_at_work_when_a_schedule_stops_it_starts_it_again() -> None:
    schedules = read_schedules({"schedules": {"computeStartStop": [cron("Stop", "0 18 * * *")]}})
    late = instance([session(17, 20, user_stops=True)], idle_hours=None, schedules=schedules)
    assert on(late) == [(17, 18), (18, 20)]
    assert did(late)[1:3] == [(18, "Stop", "Schedule"), (18, "Start", "User")]
