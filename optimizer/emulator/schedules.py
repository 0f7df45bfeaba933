"""Start and stop schedules of compute instances, as `schedules.computeStartStop` spells them."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from optimizer.errors import EstateError

_HORIZON_DAYS = 5 * 366
"""Beyond this a schedule is taken never to fire: 29 February comes at least this often."""

_WEEKDAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")

# Azure names zones as Windows does; these are the common ones, others are given by IANA name.
_IANA_ZONES = {
    "utc": "UTC",
    "gmt standard time": "Europe/London",
    "w. europe standard time": "Europe/Berlin",
    "central europe standard time": "Europe/Budapest",
    "central european standard time": "Europe/Warsaw",
    "romance standard time": "Europe/Paris",
    "e. europe standard time": "Europe/Chisinau",
    "fle standard time": "Europe/Kiev",
    "gtb standard time": "Europe/Bucharest",
    "turkey standard time": "Europe/Istanbul",
    "israel standard time": "Asia/Jerusalem",
    "south africa standard time": "Africa/Johannesburg",
    "arabian standard time": "Asia/Dubai",
    "india standard time": "Asia/Kolkata",
    "singapore standard time": "Asia/Singapore",
    "china standard time": "Asia/Shanghai",
    "korea standard time": "Asia/Seoul",
    "tokyo standard time": "Asia/Tokyo",
    "aus eastern standard time": "Australia/Sydney",
    "new zealand standard time": "Pacific/Auckland",
    "eastern standard time": "America/New_York",
    "central standard time": "America/Chicago",
    "mountain standard time": "America/Denver",
    "us mountain standard time": "America/Phoenix",
    "pacific standard time": "America/Los_Angeles",
    "e. south america standard time": "America/Sao_Paulo",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """When an instance is started or stopped by the clock of a place."""

    action: str
    """Start or Stop."""
    zone: ZoneInfo
    times: tuple[time, ...]
    """Of each day that `falls_on` accepts, in order."""
    falls_on: Callable[[date], bool]
    not_before_utc: datetime

    def next_s(self, after_s: int) -> int | None:
        """Return the first second after `after_s` at which it fires; None = never again."""
        after_utc = max(datetime.fromtimestamp(after_s, UTC), self.not_before_utc - _SECOND)
        first_day = after_utc.astimezone(self.zone).date()
        for day in (first_day + timedelta(days=n) for n in range(_HORIZON_DAYS)):
            if self.falls_on(day):
                for at in self.times:
                    fires_utc = datetime.combine(day, at, self.zone).astimezone(UTC)
                    if fires_utc > after_utc:
                        return int(fires_utc.timestamp())
        return None


_SECOND = timedelta(seconds=1)


def read_schedules(settings: Mapping[str, Any]) -> tuple[Schedule, ...]:
    """Return the enabled schedules of an instance's `properties.properties`.

    Raises:
        EstateError: a schedule is spelt in a way that the emulator does not play.
    """
    documents = (settings.get("schedules") or {}).get("computeStartStop") or []
    return tuple(
        _read(document) for document in documents if document.get("status", "Enabled") == "Enabled"
    )


def _read(document: Mapping[str, Any]) -> Schedule:
    action = str(document.get("action", "")).capitalize()
    if action not in ("Start", "Stop"):
        raise EstateError(
            f"a schedule has the action {document.get('action')!r}; use Start or Stop"
        )
    if document.get("cron"):
        return _read_cron(action, document["cron"])
    if document.get("recurrence"):
        return _read_recurrence(action, document["recurrence"])
    raise EstateError("a schedule has neither cron nor recurrence; give it one of them")


def _read_cron(action: str, cron: Mapping[str, Any]) -> Schedule:
    expression = str(cron.get("expression", ""))
    fields = expression.split()
    if len(fields) != len(_CRON_LIMITS):
        raise EstateError(
            f"the cron expression {expression!r} needs five fields, as in 0 18 * * 1-5"
        )
    minutes, hours, month_days, months, week_days = (
        _cron_values(field, low, high)
        for field, (low, high) in zip(fields, _CRON_LIMITS, strict=True)
    )
    days_of_week = {value % 7 for value in week_days}
    any_month_day, any_week_day = fields[2].startswith("*"), fields[4].startswith("*")

    def falls_on(day: date) -> bool:
        by_month_day = day.day in month_days
        by_week_day = day.isoweekday() % 7 in days_of_week
        # Cron's own rule: where both are restricted, either is enough.
        either = by_month_day or by_week_day
        both = by_month_day and by_week_day
        return day.month in months and (both if any_month_day or any_week_day else either)

    zone = read_zone(cron)
    return Schedule(
        action=action,
        zone=zone,
        times=_times(hours, minutes),
        falls_on=falls_on,
        not_before_utc=_start(cron, zone),
    )


_CRON_LIMITS = ((0, 59), (0, 23), (1, 31), (1, 12), (0, 7))


def _cron_values(field: str, low: int, high: int) -> set[int]:
    """Return what `*`, `*/n`, `a`, `a-b`, `a-b/n` and lists of them stand for."""
    values: set[int] = set()
    for part in field.split(","):
        span, _, step = part.partition("/")
        first, dash, last = span.partition("-")
        try:
            if span == "*":
                bounds = (low, high)
            else:
                bounds = (int(first), int(last) if dash else high if step else int(first))
            values.update(range(bounds[0], bounds[1] + 1, int(step or 1)))
        except ValueError as error:
            raise EstateError(f"{field!r} is no cron field; use numbers, *, -, / and ,") from error
    if not values or min(values) < low or max(values) > high:
        raise EstateError(f"the cron field {field!r} must stay within {low} and {high}")
    return values


def _read_recurrence(action: str, recurrence: Mapping[str, Any]) -> Schedule:
    zone = read_zone(recurrence)
    start_utc = _start(recurrence, zone)
    start = start_utc.astimezone(zone)
    pattern = recurrence.get("schedule") or {}
    return Schedule(
        action=action,
        zone=zone,
        times=_times(
            pattern.get("hours") or [start.hour], pattern.get("minutes") or [start.minute]
        ),
        falls_on=_recurring_days(recurrence, pattern, start.date()),
        not_before_utc=start_utc,
    )


def _recurring_days(
    recurrence: Mapping[str, Any], pattern: Mapping[str, Any], start: date
) -> Callable[[date], bool]:
    interval = int(recurrence.get("interval") or 1)
    week_days = {str(name)[:3].lower() for name in pattern.get("weekDays") or []}
    month_days = set(pattern.get("monthDays") or [])
    match str(recurrence.get("frequency", "")).lower():
        case "day":
            return lambda day: (
                (day - start).days % interval == 0
                and (not week_days or _WEEKDAYS[day.weekday()] in week_days)
            )
        case "week":
            monday = start - timedelta(days=start.weekday())
            days = week_days or {_WEEKDAYS[start.weekday()]}
            return lambda day: (
                (day - monday).days // 7 % interval == 0 and _WEEKDAYS[day.weekday()] in days
            )
        case "month":
            return lambda day: (
                ((day.year - start.year) * 12 + day.month - start.month) % interval == 0
                and day.day in (month_days or {start.day})
            )
        case other:
            raise EstateError(
                f"a schedule recurs every {other!r}; the emulator plays Day, Week and Month"
            )


def _times(hours: Iterable[int], minutes: Iterable[int]) -> tuple[time, ...]:
    return tuple(sorted(time(int(hour), int(minute)) for hour in hours for minute in set(minutes)))


def read_zone(trigger: Mapping[str, Any]) -> ZoneInfo:
    """Return the `timeZone` of a trigger, by its Windows or IANA name; UTC where it has none.

    Raises:
        EstateError: there is no such zone.
    """
    name = str(trigger.get("timeZone") or "UTC")
    try:
        return ZoneInfo(_IANA_ZONES.get(name.lower(), name))
    except (ZoneInfoNotFoundError, ValueError) as error:
        raise EstateError(
            f"a schedule names the time zone {name!r}, which the emulator does not know; "
            "use an IANA name such as Europe/Paris"
        ) from error


def _start(trigger: Mapping[str, Any], zone: ZoneInfo) -> datetime:
    """Return when a trigger comes into force; without `startTime` it always was."""
    text = trigger.get("startTime")
    if not text:
        return datetime(1970, 1, 1, tzinfo=UTC)
    try:
        start = datetime.fromisoformat(str(text))
    except ValueError as error:
        raise EstateError(
            f"a schedule starts at {text!r}; write it as 2026-01-31T18:00:00"
        ) from error
    return (start if start.tzinfo else start.replace(tzinfo=zone)).astimezone(UTC)
