"""The little KQL that is needed: a table piped through where, project, order, take and summarize.

A query may begin with the union of several such, in brackets, instead of a table.

Whatever else a query holds is refused as Azure refuses a query it cannot read. Names of columns
are compared as written; `=~` and `in~` do not mind the case of values.
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, TypeAlias

from optimizer.emulator.wire import Refusal
from optimizer.errors import ConfigError
from optimizer.units import seconds_from_iso, utc

Row: TypeAlias = Mapping[str, Any]
Test: TypeAlias = Callable[[Row], bool]

_FUZZY = re.compile(r"\bisfuzzy\s*=\s*true\b", re.IGNORECASE)
_UNITS = {"d": "days", "h": "hours", "m": "minutes", "s": "seconds"}
_NAME = r"[A-Za-z_][\w.]*"
_VALUE = r"""datetime\([^)]*\)|ago\([^)]*\)|now\(\)|'[^']*'|"[^"]*"|-?\d+(?:\.\d+)?"""
_COMPARISON = re.compile(rf"^({_NAME})\s*(==|!=|=~|>=|<=|>|<)\s*({_VALUE})$")
_MEMBER = re.compile(rf"^({_NAME})\s+(in~?)\s*\(([^()]*)\)$")
_BETWEEN = re.compile(rf"^({_NAME})\s+between\s*\(\s*({_VALUE})\s*\.\.\s*({_VALUE})\s*\)$")
_LATEST = re.compile(rf"^arg_max\(\s*({_NAME})\s*,\s*\*\s*\)\s+by\s+(.+)$")


class QueryError(ValueError):
    """A query that this KQL does not hold."""


def table_of(query: str) -> str:
    """Return the table that a query begins with."""
    return _steps(query)[0]


def union_of(query: str) -> tuple[list[str], str]:
    """Return the queries that a query unites, each with what is done to it, and what comes after.

    A query without a union is its own only part.

    >>> union_of("union isfuzzy=true (A | take 1), B | project x")
    (['A | take 1', 'B'], '| project x')
    >>> union_of("A | project x")
    (['A | project x'], '')
    """
    first, *after = _steps(query)
    word, _, rest = first.partition(" ")
    if word.lower() != "union":
        return [query], ""
    parts = [part.strip() for part in _outside(_FUZZY.sub("", rest), ",")]
    bare = [part[1:-1] if part.startswith("(") else part for part in parts]
    return bare, " ".join(f"| {step}" for step in after)


def run(query: str, rows: Iterable[Row], now_utc: datetime) -> list[Row]:
    """Return what a query makes of its table's rows.

    Raises:
        QueryError: the query holds something else than is read here.
    """
    found = list(rows)
    for step in _steps(query)[1:]:
        word, _, rest = step.partition(" ")
        found = _step(word.lower(), rest.strip(), found, now_utc)
    return found


def wanted(query: str, name: str) -> frozenset[str] | None:
    """Return the values that a query's first conditions leave of a column; None: all.

    In lower case, as `in~` takes them: rows of others need not be made.

    >>> sorted(wanted("T | where a == 1 and b in~ ('X', 'y') | take 1", "b"))
    ['x', 'y']
    >>> wanted("T | take 1 | where b in~ ('x')", "b") is None
    True
    """
    for step in _steps(query)[1:]:
        word, _, rest = step.partition(" ")
        if word.lower() != "where":
            return None
        for part in _conjuncts(rest):
            if (found := _MEMBER.match(part)) and (found[1], found[2]) == (name, "in~"):
                return frozenset(each.strip().strip("'\"").lower() for each in found[3].split(","))
    return None


def _steps(query: str) -> list[str]:
    lines = (line for line in query.splitlines() if not line.strip().startswith("//"))
    return [step.strip() for step in _outside("\n".join(lines).strip().rstrip(";"), "|")]


def _outside(text: str, sign: str) -> list[str]:
    """Return the parts of a text between signs that stand outside brackets."""
    depth, parts = 0, [""]
    for letter in text:
        depth += (letter == "(") - (letter == ")")
        if letter == sign and not depth:
            parts.append("")
        else:
            parts[-1] += letter
    return parts


def _step(word: str, rest: str, rows: list[Row], now_utc: datetime) -> list[Row]:
    if word == "where":
        tests = [_test(part, now_utc) for part in _conjuncts(rest)]
        return [row for row in rows if all(test(row) for test in tests)]
    if word == "project":
        return _projected(rows, _names(rest))
    if word in {"order", "sort"}:
        return _ordered(rows, rest)
    if word in {"take", "limit"} and rest.isdigit():
        return rows[: int(rest)]
    if word == "summarize" and (latest := _LATEST.match(rest)):
        return _latest(rows, latest[1], _names(latest[2]))
    raise QueryError(f"'{word} {rest}' is not understood")


def _conjuncts(text: str) -> list[str]:
    """Return the parts of a condition that `and` joins, brackets around a whole part taken off."""
    between = re.sub(r"\s+", " ", text)
    parts = re.split(r"\s+and\s+", between, flags=re.IGNORECASE)
    return [part[1:-1] if part.startswith("(") else part for part in map(str.strip, parts)]


def _test(text: str, now_utc: datetime) -> Test:
    if found := _COMPARISON.match(text):
        return _compared(found[1], found[2], _value(found[3], now_utc))
    if found := _BETWEEN.match(text):
        name, low, high = found[1], _value(found[2], now_utc), _value(found[3], now_utc)
        return lambda row: low <= _like(row.get(name), low) <= high
    if found := _MEMBER.match(text):
        name, fold = found[1], found[2] == "in~"
        values = {_folded(_value(part, now_utc), fold=fold) for part in found[3].split(",")}
        return lambda row: _folded(row.get(name), fold=fold) in values
    raise QueryError(f"the condition '{text}' is not understood")


def _compared(name: str, operator: str, value: Any) -> Test:
    tests: Mapping[str, Test] = {
        "==": lambda row: bool(_like(row.get(name), value) == value),
        "!=": lambda row: bool(_like(row.get(name), value) != value),
        "=~": lambda row: str(row.get(name)).lower() == str(value).lower(),
        ">=": lambda row: bool(_like(row.get(name), value) >= value),
        "<=": lambda row: bool(_like(row.get(name), value) <= value),
        ">": lambda row: bool(_like(row.get(name), value) > value),
        "<": lambda row: bool(_like(row.get(name), value) < value),
    }
    return tests[operator]


def _like(found: Any, value: Any) -> Any:
    """Return a column's value as what it is compared with: a moment is kept as text."""
    return utc(found) if isinstance(value, datetime) and isinstance(found, str) else found


def _folded(value: Any, *, fold: bool) -> Any:
    return str(value).lower() if fold else value


def _value(text: str, now_utc: datetime) -> Any:
    text = text.strip()
    if text[:1] in {"'", '"'}:
        return text[1:-1]
    if text == "now()":
        return now_utc
    word, _, inside = text.rstrip(")").partition("(")
    try:
        if word == "datetime":
            return utc(inside.strip("'\""))
        if word == "ago":
            return now_utc - timedelta(**{_UNITS[inside[-1]]: float(inside[:-1])})
        return float(text)
    except (ValueError, KeyError, IndexError) as error:
        raise QueryError(f"'{text}' is not a value") from error


def _names(text: str) -> list[str]:
    names = [name.strip() for name in text.split(",")]
    if wrong := [name for name in names if not re.fullmatch(_NAME, name)]:
        raise QueryError(f"'{wrong[0]}' is not a column")
    return names


def _projected(rows: Sequence[Row], names: Sequence[str]) -> list[Row]:
    return [{name: row.get(name) for name in names} for row in rows]


def _ordered(rows: list[Row], rest: str) -> list[Row]:
    if not rest.lower().startswith("by "):
        raise QueryError(f"'order {rest}' is not understood")
    for key in reversed(rest[3:].split(",")):
        name, _, direction = key.strip().partition(" ")
        rows = sorted(
            rows,
            key=lambda row, name=name: (row.get(name) is not None, row.get(name)),  # type: ignore[misc]
            # Kusto's own order is from the largest down.
            reverse=direction.strip().lower() != "asc",
        )
    return rows


def _latest(rows: Sequence[Row], by: str, groups: Sequence[str]) -> list[Row]:
    latest: dict[tuple[Any, ...], Row] = {}
    for row in rows:
        key = tuple(row.get(name) for name in groups)
        if key not in latest or row[by] > latest[key][by]:
            latest[key] = row
    return list(latest.values())


def timespan(text: str | None, now_utc: datetime) -> tuple[datetime, datetime] | None:
    """Return the period of a Log Analytics `timespan`: a duration up to now, or start/end."""
    if not text:
        return None
    start, slash, end = text.partition("/")
    try:
        if not slash:
            # The SDK writes fractions of a second, which say nothing here.
            length = seconds_from_iso(re.sub(r"\.\d+S$", "S", start))
            return now_utc - timedelta(seconds=length), now_utc
        return utc(start), utc(end)
    except (ValueError, ConfigError) as error:
        raise Refusal(400, "BadArgumentError", f"The timespan '{text}' is not valid.") from error
