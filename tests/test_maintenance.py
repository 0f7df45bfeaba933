from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from optimizer.config import load_settings
from optimizer.errors import ConfigError
from optimizer.maintenance import Calendar, parse_window

BERLIN = "Europe/Berlin"
WORKSPACE = "/subscriptions/s/resourcegroups/g/providers/m/workspaces/w"
COMPUTE = f"{WORKSPACE}/computes/c"


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


@pytest.mark.parametrize(
    ("window", "moment", "is_open"),
    [
        # 2026-01-31 is a Saturday; Berlin is an hour ahead of UTC in winter, two in summer.
        (f"Sat-Sun 00:00-06:00 {BERLIN}", "2026-01-30 22:59", False),
        (f"Sat-Sun 00:00-06:00 {BERLIN}", "2026-01-30 23:00", True),
        (f"Sat-Sun 00:00-06:00 {BERLIN}", "2026-01-31 04:59:59", True),
        (f"Sat-Sun 00:00-06:00 {BERLIN}", "2026-01-31 05:00", False),
        (f"Sat-Sun 00:00-06:00 {BERLIN}", "2026-07-03 22:00", True),
        (f"Sat-Sun 00:00-06:00 {BERLIN}", "2026-07-04 04:00", False),
        # Past midnight it belongs to the day on which it opened.
        ("Fri 22:00-02:00", "2026-01-30 22:00", True),
        ("Fri 22:00-02:00", "2026-01-31 01:59", True),
        ("Fri 22:00-02:00", "2026-01-31 02:00", False),
        ("Fri 22:00-02:00", "2026-01-30 01:00", False),
        ("Sun 22:00-02:00", "2026-02-02 01:00", True),
        ("daily 00:00-24:00", "2026-01-28 23:59", True),
        ("Mon,Wed 12:00-13:00", "2026-01-28 12:30", True),
        ("Mon,Wed 12:00-13:00", "2026-01-27 12:30", False),
        # Clocks go forward from 02:00 to 03:00 on 2026-03-29: half past two never comes.
        (f"Sun 02:00-03:00 {BERLIN}", "2026-03-29 00:59", False),
        (f"Sun 02:00-03:00 {BERLIN}", "2026-03-29 01:00", False),
        (f"Sun 01:00-04:00 {BERLIN}", "2026-03-29 01:59", True),
        (f"Sun 01:00-04:00 {BERLIN}", "2026-03-29 02:00", False),
        # They go back from 03:00 to 02:00 on 2026-10-25: half past two comes twice.
        (f"Sun 02:15-02:45 {BERLIN}", "2026-10-25 00:30", True),
        (f"Sun 02:15-02:45 {BERLIN}", "2026-10-25 01:00", False),
        (f"Sun 02:15-02:45 {BERLIN}", "2026-10-25 01:30", True),
    ],
)
def test_a_window_is_open_by_the_clock_on_the_wall(
    window: str,
    moment: str,
    is_open: bool,  # noqa: FBT001 - pytest's signature
) -> None:
    assert parse_window(window).is_open(at(moment)) is is_open


@pytest.mark.parametrize(
    ("window", "after", "opens"),
    [
        (f"Sat-Sun 00:00-06:00 {BERLIN}", "2026-01-28 12:00:30", "2026-01-30 23:00"),
        (f"Sat-Sun 00:00-06:00 {BERLIN}", "2026-01-31 05:00", "2026-01-31 23:00"),
        (f"Sun 02:00-03:00 {BERLIN}", "2026-03-28 12:00", "2026-04-05 00:00"),
        (f"Sun 02:30-04:00 {BERLIN}", "2026-03-28 12:00", "2026-03-29 01:00"),
        ("Fri 22:00-02:00", "2026-01-30 03:00", "2026-01-30 22:00"),
    ],
)
def test_when_the_next_window_opens(window: str, after: str, opens: str) -> None:
    assert parse_window(window).opens(at(after)) == at(opens)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("weekends", "is no maintenance window such as"),
        ("Sat 0:00-6:00", "is no maintenance window such as"),
        ("Sam 00:00-06:00", "'Sam', which is none of Mon, Tue"),
        ("Sat 00:00-06:60", "holds 06:60, which is no time of the day"),
        ("Sat 00:00-25:00", "holds 25:00, which is no time of the day"),
        ("Sat 00:00-06:00 Europe/Bern", "a time zone that the IANA database does not have"),
    ],
)
def test_what_is_no_window_is_told(text: str, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        parse_window(text)


@given(
    days=st.sets(st.sampled_from(["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"]), min_size=1),
    start=st.integers(0, 1439),
    minutes=st.integers(1, 1440),
    zone=st.sampled_from(["UTC", BERLIN, "America/New_York", "Australia/Lord_Howe"]),
)
def test_a_window_is_read_as_it_is_written(
    days: set[str], start: int, minutes: int, zone: str
) -> None:
    end = (start + minutes) % 1440
    text = f"{','.join(days)} {start // 60:02}:{start % 60:02}-{end // 60:02}:{end % 60:02} {zone}"
    window = parse_window(text)
    assert parse_window(str(window)) == window
    assert window.end_minute - window.start_minute == minutes


def test_without_windows_changes_may_be_made_at_all_times() -> None:
    assert Calendar().why_closed(COMPUTE, at("2026-01-28 12:00")) is None


def test_the_sentence_names_the_first_of_several_windows() -> None:
    calendar = Calendar(
        windows=(parse_window("Mon 00:00-01:00"), parse_window(f"Sat 00:00-06:00 {BERLIN}"))
    )
    assert calendar.why_closed(COMPUTE, at("2026-01-28 12:00")) == (
        "Outside the maintenance window: the next opens on Sat 2026-01-31 00:00 Europe/Berlin, "
        "when the same command carries on."
    )
    assert calendar.why_closed(COMPUTE, at("2026-01-31 01:00")) is None


def test_a_workspaces_own_tag_holds_there_and_nowhere_else() -> None:
    calendar = Calendar(
        windows=(parse_window("Sat 00:00-06:00"),),
        tags={WORKSPACE: "Wed 11:00-13:00; Thu 11:00-13:00"},
    )
    wednesday = at("2026-01-28 12:00")
    assert calendar.why_closed(COMPUTE.upper(), wednesday) is None
    assert "Sat 2026-01-31" in str(calendar.why_closed(COMPUTE.replace("w", "v"), wednesday))


def test_a_tag_that_cannot_be_read_keeps_its_workspace_closed() -> None:
    calendar = Calendar(tags={WORKSPACE: "whenever"})
    assert calendar.why_closed(COMPUTE, at("2026-01-28 12:00")) == (
        "Its workspace's tag optimizer:maintenance cannot be followed: 'whenever' is no "
        "maintenance window such as 'Sat-Sun 00:00-06:00 Europe/Berlin'."
    )


def test_windows_are_settings() -> None:
    both = {"OPTIMIZER_MAINTENANCE": f"Sat 00:00-06:00;Sun 00:00-06:00 {BERLIN}"}
    assert [str(window) for window in load_settings(both).apply.maintenance] == [
        "Sat 00:00-06:00 UTC",
        f"Sun 00:00-06:00 {BERLIN}",
    ]
    with pytest.raises(ConfigError, match=r"apply\.maintenance\.0 cannot be used: .*'whenever'"):
        load_settings({"OPTIMIZER_MAINTENANCE": "whenever"})


def test_a_window_that_opens_is_open_then_and_not_a_minute_before() -> None:
    for zone in (BERLIN, "America/New_York", "Australia/Lord_Howe"):
        window = parse_window(f"daily 02:10-03:20 {zone}")
        moment = at("2026-01-01")
        while moment < at("2027-01-01"):
            opens = window.opens(moment)
            assert window.is_open(opens)
            assert opens == moment + timedelta(minutes=1) or not window.is_open(
                opens - timedelta(minutes=1)
            )
            moment = opens + timedelta(days=9, hours=5)
