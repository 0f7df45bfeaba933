"""Amounts, settings and foreign text as every terminal, page and mail says them."""

from collections.abc import Sequence
from datetime import UTC, datetime

from optimizer.analysis.rate_savings import RateSavings
from optimizer.errors import ConfigError
from optimizer.model import Estimate, Json
from optimizer.units import duration, round_money, seconds_from_iso

UNKNOWN = "unknown"

_WHOLE_FROM = 100
_UNPRINTABLE = "\N{REPLACEMENT CHARACTER}"


def money(amount: float | None, currency: str) -> str:
    """Return an amount with its currency: to the cent below 100, whole from there.

    >>> money(1234.5, "USD"), money(12.344, "EUR"), money(-0.001, "EUR"), money(None, "USD")
    ('1,235 USD', '12.34 EUR', '0.00 EUR', 'unknown')
    """
    return UNKNOWN if amount is None else f"{_figure(amount)} {currency}"


def money_range(estimate: Estimate | None, currency: str) -> str:
    """Return an estimate with its 80 % interval.

    >>> money_range(Estimate(p10=90, p50=120, p90=1300), "USD")
    '120 USD (90.00 to 1,300)'
    """
    if estimate is None:
        return UNKNOWN
    return f"{money(estimate.p50, currency)} ({interval(estimate.p10, estimate.p90)})"


def interval(low: float, high: float) -> str:
    """Return two amounts as the ends of an interval, without a currency.

    >>> interval(-3.5, 250.2)
    '-3.50 to 250'
    """
    return f"{_figure(low)} to {_figure(high)}"


def saves_nothing(saving: Estimate) -> bool:
    """Tell whether a finding is exposure alone: nothing is claimed for it, at any percentile."""
    return saving.p10 == saving.p50 == saving.p90 == 0.0


def share(part: float, whole: float) -> str:
    """Return a part as a percentage of the whole.

    >>> share(1, 8), share(1, 0)
    ('12.5 %', 'unknown')
    """
    return UNKNOWN if not whole else f"{100 * part / whole:.1f} %"


def rates_words(savings: RateSavings | None) -> str | None:
    """Say what the rates save against list already; None where the bill does not tell."""
    if savings is None or savings.effective_savings_rate is None:
        return None
    covered = (
        f"; commitments cover {share(savings.coverage, 1)} of committable hours"
        if savings.coverage is not None
        else ""
    )
    return (
        f"Your rates are {share(savings.effective_savings_rate, 1)} below list already (effective "
        f"savings rate, known for {share(savings.known_share, 1)} of spend){covered}."
    )


def setting_value(value: Json) -> str:
    """Return the value of a setting as Azure spells it, and a duration in words beside it.

    >>> setting_value("PT120M"), setting_value(None), setting_value(2), setting_value("Dedicated")
    ('PT120M (2 h)', 'not set', '2', 'Dedicated')
    >>> setting_value({"minimum": 1, "cron": {"expression": "0 18 * * *"}}), setting_value([])
    ('minimum 1, cron (expression 0 18 * * *)', 'none')
    """
    if value is None:
        return "not set"
    if isinstance(value, dict):
        return ", ".join(f"{printable(name)} {_nested(each)}" for name, each in value.items())
    if isinstance(value, list):
        return "; ".join(map(setting_value, value)) or "none"
    if not isinstance(value, str):
        return printable(str(value))
    try:
        return f"{printable(value)} ({duration(seconds_from_iso(value))})"
    except ConfigError:
        return printable(value)


def _nested(value: Json) -> str:
    said = setting_value(value)
    return f"({said})" if isinstance(value, dict | list) else said


def setting_name(path: str) -> str:
    """Return the last part of a setting's path in the ARM document.

    >>> setting_name("properties.properties.scaleSettings.minNodeCount")
    'minNodeCount'
    """
    return path.rpartition(".")[2]


def resource_name(resource_id: str) -> str:
    """Return the last part of an Azure id, or all of what is none.

    >>> resource_name("/subscriptions/1/resourceGroups/rg/providers/a/workspaces/ws")
    'ws'
    """
    return printable(resource_id.rpartition("/")[2] or resource_id)


def day(moment: datetime) -> str:
    """Return the UTC day of a moment.

    >>> day(datetime(2026, 3, 1, 23, tzinfo=UTC))
    '2026-03-01'
    """
    return f"{moment.astimezone(UTC):%Y-%m-%d}"


def minute(moment: datetime) -> str:
    """Return a moment to the UTC minute.

    >>> minute(datetime(2026, 3, 1, 23, 5, 59, tzinfo=UTC))
    '2026-03-01 23:05 UTC'
    """
    return f"{moment.astimezone(UTC):%Y-%m-%d %H:%M} UTC"


def count(number: int, one: str, many: str = "") -> str:
    """Return a number with its noun.

    >>> count(1, "finding"), count(1200, "finding"), count(2, "policy", "policies")
    ('1 finding', '1,200 findings', '2 policies')
    """
    return f"{number:,} {one if number == 1 else many or one + 's'}"


def few(names: Sequence[str], most: int = 3) -> str:
    """Return names, or the first of them and how many more there are.

    >>> few(["a", "b"]), few(["a", "b", "c", "d"])
    ('a, b', 'a, b, c and 1 more')
    """
    rest = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + rest


def printable(text: str) -> str:
    r"""Return foreign text on one line, without characters that could steer a terminal.

    Names and tags are written by whoever owns the resource.

    >>> printable("a\x1b[2Jb\nc")
    'a�[2Jb c'
    """
    return "".join(c if c.isprintable() else " " if c.isspace() else _UNPRINTABLE for c in text)


def _figure(amount: float) -> str:
    rounded = round_money(amount)
    return f"{round_money(amount, 0):,.0f}" if abs(rounded) >= _WHOLE_FROM else f"{rounded:,.2f}"
