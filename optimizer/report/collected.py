"""What a collection brought and what the doctor found, in words and as documents."""

from collections.abc import Iterable, Iterator
from typing import Any

from optimizer.azure.doctor import Check
from optimizer.collectors.collect import CollectReport
from optimizer.report.documents import SCHEMA
from optimizer.report.words import count, day, printable
from optimizer.units import iso_utc

_MARKS = {True: "✓", False: "✗", None: "?"}


def collected_text(report: CollectReport) -> str:
    """Return what was written and what could not be seen, with the permission it needs."""
    window, subscriptions = report.window, count(len(report.subscriptions), "subscription")
    return "\n".join(
        [
            f"{day(window.start_utc)} to {day(window.end_utc)}, {subscriptions}:",
            *(f"  {rows:>12,}  {table}" for table, rows in report.rows.items()),
            *_problem_lines(report),
        ]
    )


def collected_document(report: CollectReport) -> dict[str, Any]:
    """Return what was written and what could not be seen."""
    return {
        "schema": SCHEMA,
        "window": {
            "start_utc": iso_utc(report.window.start_utc),
            "end_utc": iso_utc(report.window.end_utc),
        },
        "subscriptions": list(report.subscriptions),
        "rows": dict(report.rows),
        "problems": [
            {"scope": problem.scope, "what": problem.what, "permission": problem.permission}
            for problem in report.problems
        ],
    }


def checks_text(checks: Iterable[Check]) -> str:
    """Return each check with its mark: ✓ fine, ✗ not, ? could not be told."""
    return "\n".join(
        f"{_MARKS[check.ok]} {check.name}: {printable(check.detail)}" for check in checks
    )


def checks_document(checks: Iterable[Check]) -> dict[str, Any]:
    """Return each check; `ok` is null where it could not be told."""
    return {
        "schema": SCHEMA,
        "checks": [
            {"name": check.name, "ok": check.ok, "detail": check.detail} for check in checks
        ],
    }


def _problem_lines(report: CollectReport) -> Iterator[str]:
    if report.problems:
        yield "Could not be seen:"
    for problem in report.problems:
        need = f" Needs {problem.permission}." if problem.permission else ""
        yield f"  {printable(problem.scope)}: {printable(problem.what)}{need}"
