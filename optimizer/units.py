"""Conversions that more than one package needs; each is exact or raises."""

import math
from datetime import UTC, datetime, timedelta

import isodate

from optimizer.errors import ConfigError

HOURS_PER_MONTH = 730.0
"""The month of every monthly figure, as Azure's price pages use it."""

SECONDS_PER_HOUR = 3600
MINUTES_PER_DAY = 1440

_UNITS = (("d", 86_400), ("h", 3_600), ("min", 60), ("s", 1))


def seconds_from_iso(duration: str) -> int:
    """Return the whole seconds of an ISO 8601 duration.

    Azure spells one length in several ways, so durations are compared as seconds, never as text.

    Raises:
        ConfigError: it is no ISO 8601 duration, or holds months or years.

    >>> seconds_from_iso("PT1H"), seconds_from_iso("PT120S"), seconds_from_iso("P3D")
    (3600, 120, 259200)
    """
    try:
        parsed = isodate.parse_duration(duration)
    except (isodate.ISO8601Error, TypeError) as error:
        raise ConfigError(f"{duration!r} is not an ISO 8601 duration such as PT30M") from error
    if not isinstance(parsed, timedelta):
        raise ConfigError(f"{duration!r} holds months or years, whose length is not fixed")
    return round(parsed.total_seconds())


def iso_from_seconds(seconds: int) -> str:
    """Return whole seconds as Azure writes them: minutes where they are whole, seconds elsewhere.

    >>> iso_from_seconds(7200), iso_from_seconds(90)
    ('PT120M', 'PT90S')
    """
    minutes, rest = divmod(seconds, 60)
    return f"PT{seconds}S" if rest else f"PT{minutes}M"


def floor_to_minute(moment: datetime) -> datetime:
    """Return the start of the minute that holds `moment`."""
    return moment.replace(second=0, microsecond=0)


def utc(text: str) -> datetime:
    """Return an ISO 8601 moment as an aware UTC datetime; a moment without a zone is UTC.

    >>> utc("2026-01-02T03:04:05Z").isoformat()
    '2026-01-02T03:04:05+00:00'
    """
    moment = datetime.fromisoformat(text)
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)


def iso_utc(moment: datetime) -> str:
    """Return a moment as Azure writes it, to the second.

    >>> iso_utc(utc("2026-01-02T03:04:05+01:00"))
    '2026-01-02T02:04:05Z'
    """
    return f"{moment.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}"


def round_money(amount: float, digits: int = 2) -> float:
    """Return money as it is printed; half goes away from zero, and -0.0 is 0.0."""
    scale = 10.0**digits
    return math.copysign(math.floor(abs(amount) * scale + 0.5) / scale, amount) + 0.0


def duration(seconds: float) -> str:
    """Return a length of time in its two largest units.

    >>> duration(7200), duration(5430), duration(-90), duration(0.2)
    ('2 h', '1 h 30 min', '-1 min 30 s', '0 s')
    """
    rest, parts = round(abs(seconds)), list[str]()
    for unit, length in _UNITS:
        count, rest = divmod(rest, length)
        if count:
            parts.append(f"{count} {unit}")
    return ("-" if seconds < 0 and parts else "") + (" ".join(parts[:2]) or "0 s")
