"""What an import of costs read, kept and set aside, in words and as a document."""

from collections import defaultdict
from collections.abc import Iterator, Mapping
from typing import Any

import pandas as pd

from optimizer.collectors.exports import SetAside
from optimizer.collectors.imports import ImportReport
from optimizer.report.documents import SCHEMA
from optimizer.report.words import count, printable
from optimizer.units import iso_utc


def imported_text(report: ImportReport) -> str:
    """Return each file with its rows, what was set aside and why, and what each workspace has."""
    return "\n".join(_lines(report))


def imported_document(report: ImportReport) -> dict[str, Any]:
    """Return each file with its rows, what was set aside and why, and what each workspace has."""
    return {
        "schema": SCHEMA,
        "files": [
            {
                "file": str(export.file),
                "layout": export.layout,
                "first_day": export.days[0].isoformat() if export.days else None,
                "last_day": export.days[1].isoformat() if export.days else None,
                "rows": export.rows,
                "kept_rows": export.kept_rows,
                "set_aside": [
                    {
                        "reason": aside.reason,
                        "currency": aside.currency,
                        "rows": aside.rows,
                        "billed_cost": aside.billed_cost,
                        "effective_cost": aside.effective_cost,
                    }
                    for aside in export.set_aside
                ],
            }
            for export in report.exports
        ],
        "same_content": [str(file) for file in report.same],
        "replaced": {
            subscription: {"start_utc": iso_utc(w.start_utc), "end_utc": iso_utc(w.end_utc)}
            for subscription, w in report.windows.items()
        },
        "workspaces": [
            {"workspace_id": workspace_id, **amounts}
            for workspace_id, amounts in _workspaces(report).items()
        ],
    }


def _lines(report: ImportReport) -> Iterator[str]:
    for export in report.exports:
        yield (
            f"{printable(str(export.file))}: {export.layout}, "
            + (f"{export.days[0]} to {export.days[1]}, " if export.days else "")
            + count(export.rows, "row")
        )
        yield f"  {export.kept_rows:>12,}  kept: Azure Machine Learning"
        yield from (f"  {a.rows:>12,}  set aside: {a.reason}{_amount(a)}" for a in export.set_aside)
    for file in report.same:
        yield f"{printable(str(file))}: left out, another file has the same content"
    if not report.windows:
        yield "No cost of an Azure Machine Learning workspace is in there; nothing was imported."
    for workspace_id, amounts in _workspaces(report).items():
        shown = ", ".join(
            f"{name} {value:,.2f} {amounts['currency']}"
            for name, value in (
                ("billed", amounts["billed_cost"]),
                ("effective", amounts["effective_cost"]),
            )
            if value is not None
        )
        yield (
            f"{printable(workspace_id.rpartition('/')[2])}: {shown}; "
            f"{amounts['named_share']:.0%} of it names a compute"
        )


def _amount(aside: SetAside) -> str:
    shown = aside.billed_cost if aside.billed_cost is not None else aside.effective_cost
    if shown is None or aside.currency is None:
        return ", amount unknown"
    return f", {shown:,.2f} {aside.currency}"


def _workspaces(report: ImportReport) -> Mapping[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = defaultdict(dict)
    for workspace_id, rows in report.costs.groupby("workspace_id", sort=True):
        told = rows["billed_cost"] if rows["billed_cost"].notna().any() else rows["effective_cost"]
        named = told[rows["attribution"].notna()].abs().sum()
        found[str(workspace_id)] = {
            "currency": str(rows["currency"].iloc[0]),
            "billed_cost": _sum(rows["billed_cost"]),
            "effective_cost": _sum(rows["effective_cost"]),
            "named_share": float(named / told.abs().sum()) if told.abs().sum() else 0.0,
        }
    return found


def _sum(amounts: pd.Series) -> float | None:
    """Return what a column adds up to; None where no row knows."""
    known = amounts.dropna()
    return float(known.sum()) if len(known) else None
