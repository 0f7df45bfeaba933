"""The ledger as version 1 kept it, in five tables of an SQLite file, read once and for all."""

import json
from collections.abc import Iterator
from typing import Any, TypeAlias

import sqlalchemy as sa

from optimizer.model import Json

Fact: TypeAlias = tuple[str, str, str, str | None, Json]
"""Kind, subject, who, when and the rest of an entry to be."""

_TABLES = ("steps", "baselines", "snoozes", "runs", "plans")


def facts(connection: sa.Connection) -> Iterator[Fact]:
    """Yield everything that is kept, in an order in which it can be read back as it was.

    Who ended a run was not kept: whoever began it stands for them. When somebody snoozed was not
    kept either.
    """
    runs = _rows(connection, "SELECT * FROM runs ORDER BY rowid")
    plans = {r["digest"]: r["document"] for r in _rows(connection, "SELECT * FROM plans")}
    baselines = {r["run_id"]: r["document"] for r in _rows(connection, "SELECT * FROM baselines")}
    for run in runs:
        who, began = run["who"], run["started_utc"]
        if plan := plans.pop(run["plan_digest"], None):
            yield "plan", run["plan_digest"], who, began, _json(plan)
        yield "run", run["id"], who, began, _picked(run, _OF_A_RUN)
        if run["id"] in baselines:
            yield "baseline", run["id"], who, began, _json(baselines[run["id"]])
    for step in _rows(connection, "SELECT * FROM steps ORDER BY row"):
        values = {name: _json(step[name]) for name in _JSON_OF_A_STEP}
        rest = _picked(step, _TEXT_OF_A_STEP) | values
        yield "step", step["run_id"], step["who"], step["at_utc"], rest
    for run in runs:
        if run["ended_utc"] is not None:
            yield "end", run["id"], run["who"], run["ended_utc"], None
    for snooze in _rows(connection, "SELECT * FROM snoozes ORDER BY row"):
        rest = _picked(snooze, ("reason", "until_utc"))
        yield "snooze", snooze["finding_id"], snooze["author"], None, rest


def drop(connection: sa.Connection) -> None:
    """Take the tables away, once their facts are entries."""
    for table in _TABLES:
        connection.execute(sa.text(f"DROP TABLE {table}"))


_OF_A_RUN = ("kind", "plan_id", "plan_digest", "undoes", "scenario")
_TEXT_OF_A_STEP = ("step_id", "resource_id", "setting", "how", "status", "detail")
_JSON_OF_A_STEP = ("before", "after", "inverse")


def _rows(connection: sa.Connection, query: str) -> list[dict[str, Any]]:
    return [dict(row) for row in connection.execute(sa.text(query)).mappings()]


def _json(kept: str | float | None) -> Json:
    # To SQLite a column of type JSON is numeric: what looked like a number became one.
    return json.loads(kept) if isinstance(kept, str) else kept


def _picked(row: dict[str, Any], names: tuple[str, ...]) -> dict[str, Any]:
    return {name: row[name] for name in names}
