"""When changes may be made: maintenance windows by the clock of whoever has to live with them."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo, available_timezones

from optimizer.errors import ConfigError
from optimizer.units import MINUTES_PER_DAY, floor_to_minute

DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
MAINTENANCE_TAG = "optimizer:maintenance"
"""Of a workspace: windows of its own, separated by `;`, instead of the configured ones."""

_SHAPE = re.compile(r"(\S+) +(\d\d):(\d\d)-(\d\d):(\d\d)(?: +(\S+))?", re.ASCII)
_LOOK_AHEAD_DAYS = 15
"""A window of one weekday whose hour the change to summer time leaves out opens a week later."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MaintenanceWindow:
    """Some weekdays, from one time of the day to another.

    It is open whenever a clock on the wall of its zone reads so. An hour that the clock shows twice
    belongs to it twice, one that is left out not at all.
    """

    days: frozenset[int]
    """On which it opens; Monday is 0."""
    start_minute: int
    """Of the day."""
    end_minute: int
    """Of the same day, from 1440 on of the next; the window is over at it."""
    zone: str = "UTC"
    """The IANA name of the time zone."""

    def __str__(self) -> str:
        """Return it as `parse_window` reads it."""
        days = ",".join(DAYS[day] for day in sorted(self.days))
        named = "daily" if len(self.days) == len(DAYS) else days
        return f"{named} {_clock(self.start_minute)}-{_clock(self.end_minute)} {self.zone}"

    def is_open(self, at_utc: datetime) -> bool:
        """Say whether a moment lies inside."""
        local = at_utc.astimezone(ZoneInfo(self.zone))
        minute = 60 * local.hour + local.minute
        today, yesterday = local.weekday(), (local.weekday() - 1) % len(DAYS)
        return (today in self.days and self.start_minute <= minute < self.end_minute) or (
            yesterday in self.days and minute + MINUTES_PER_DAY < self.end_minute
        )

    def opens(self, after_utc: datetime) -> datetime:
        """Return the first whole minute after a moment that lies inside, in UTC.

        Every minute is asked, so that this and `is_open` cannot disagree where clocks change.
        """
        first = floor_to_minute(after_utc) + timedelta(minutes=1)
        minutes = (first + timedelta(minutes=n) for n in range(_LOOK_AHEAD_DAYS * MINUTES_PER_DAY))
        return next(minute for minute in minutes if self.is_open(minute))


def parse_window(text: str) -> MaintenanceWindow:
    """Return the window that a person wrote as days, hours and a time zone (UTC where none is).

    Days are `daily`, a day, a range that may pass the weekend, or several with commas. An end that
    is not after the start lies on the next day.

    Raises:
        ConfigError: it is not written so, or there is no such time zone.

    >>> str(parse_window("Fri-Sun 22:00-04:00 Europe/Berlin"))
    'Fri,Sat,Sun 22:00-04:00 Europe/Berlin'
    """
    found = _SHAPE.fullmatch(text.strip())
    if not found:
        raise ConfigError(
            f"{text!r} is no maintenance window such as 'Sat-Sun 00:00-06:00 Europe/Berlin'"
        )
    zone = found[6] or "UTC"
    if zone not in available_timezones():
        raise ConfigError(f"{text!r} names a time zone that the IANA database does not have")
    start = _minute(found[2], found[3], text)
    end = _minute(found[4], found[5], text)
    return MaintenanceWindow(
        days=_days(found[1], text),
        start_minute=start % MINUTES_PER_DAY,
        end_minute=end if end > start else end + MINUTES_PER_DAY,
        zone=zone,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Calendar:
    """Which windows hold where. Without any, changes may be made at all times."""

    windows: tuple[MaintenanceWindow, ...] = ()
    tags: Mapping[str, str] = field(default_factory=dict)
    """The tag of each workspace that has one, by its id in lower case."""

    @property
    def always(self) -> bool:
        """Whether changes may be made everywhere at all times."""
        return not self.windows and not self.tags

    def why_closed(self, resource_id: str, at_utc: datetime) -> str | None:
        """Return why nothing may be changed there now, and when it may; None where it may."""
        workspace_id = "/".join(resource_id.lower().split("/")[:9])
        windows: Sequence[MaintenanceWindow] = self.windows
        if workspace_id in self.tags:
            try:
                windows = [parse_window(text) for text in self.tags[workspace_id].split(";")]
            except ConfigError as error:
                return f"Its workspace's tag {MAINTENANCE_TAG} cannot be followed: {error}."
        if not windows or any(window.is_open(at_utc) for window in windows):
            return None
        opens, window = min(((each.opens(at_utc), each) for each in windows), key=lambda it: it[0])
        local = opens.astimezone(ZoneInfo(window.zone))
        return (
            f"Outside the maintenance window: the next opens on {DAYS[local.weekday()]} "
            f"{local:%Y-%m-%d %H:%M} {window.zone}, when the same command carries on."
        )


def _minute(hours: str, minutes: str, text: str) -> int:
    minute = 60 * int(hours) + int(minutes)
    if int(minutes) >= 60 or minute > MINUTES_PER_DAY:  # noqa: PLR2004 - minutes of an hour
        raise ConfigError(f"{text!r} holds {hours}:{minutes}, which is no time of the day")
    return minute


def _days(text: str, whole: str) -> frozenset[int]:
    if text.lower() == "daily":
        return frozenset(range(len(DAYS)))
    days: set[int] = set()
    for part in text.split(","):
        first, _, last = part.partition("-")
        start, end = _day(first, whole), _day(last or first, whole)
        days |= {(start + n) % len(DAYS) for n in range((end - start) % len(DAYS) + 1)}
    return frozenset(days)


def _day(name: str, whole: str) -> int:
    if name.capitalize() not in DAYS:
        raise ConfigError(f"{whole!r} holds {name!r}, which is none of {', '.join(DAYS)}")
    return DAYS.index(name.capitalize())


def _clock(minute: int) -> str:
    """Return a minute of the day as a clock shows it; midnight at a window's end is 24:00."""
    of_day = minute if minute <= MINUTES_PER_DAY else minute - MINUTES_PER_DAY
    return f"{of_day // 60:02}:{of_day % 60:02}"
