"""What was done to the estate, by whom and how to undo it: one SQLite file, append-only at heart.

A step's rows follow one another: `intended` before the write, then how it ended. The last row is
the truth; an `intended` row without one after it is a write that a crash left open.
"""

import hashlib
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.sqlite import insert as insert_or

from optimizer.errors import LedgerError
from optimizer.model import Json
from optimizer.units import iso_utc, utc

INTENDED = "intended"
"""The status of a row written before Azure is; every other status says how a step ended."""

_SCHEMA_VERSION = 1
_BUSY_SECONDS = 10.0


class _Moment(sa.TypeDecorator[datetime]):
    """An aware moment, kept as the text people read: SQLite has no type for one."""

    impl = sa.Text
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: sa.Dialect) -> str | None:  # noqa: ARG002 - SQLAlchemy's signature
        return None if value is None else iso_utc(value)

    def process_result_value(self, value: str | None, dialect: sa.Dialect) -> datetime | None:  # noqa: ARG002 - SQLAlchemy's signature
        return None if value is None else utc(value)


_SCHEMA = sa.MetaData()

_PLANS = sa.Table(
    "plans",
    _SCHEMA,
    sa.Column("digest", sa.Text, primary_key=True),
    sa.Column("document", sa.JSON, nullable=False),
)

_RUNS = sa.Table(
    "runs",
    _SCHEMA,
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("kind", sa.Text, nullable=False),
    sa.Column("plan_id", sa.Text, nullable=False),
    sa.Column("plan_digest", sa.ForeignKey("plans.digest"), nullable=False),
    sa.Column("undoes", sa.ForeignKey("runs.id")),
    sa.Column("scenario", sa.Text, nullable=False),
    sa.Column("who", sa.Text, nullable=False),
    sa.Column("started_utc", _Moment, nullable=False),
    sa.Column("ended_utc", _Moment),
)

_STEPS = sa.Table(
    "steps",
    _SCHEMA,
    sa.Column("row", sa.Integer, primary_key=True),
    sa.Column("run_id", sa.ForeignKey("runs.id"), nullable=False, index=True),
    sa.Column("step_id", sa.Text, nullable=False),
    sa.Column("resource_id", sa.Text, nullable=False),
    sa.Column("setting", sa.Text, nullable=False),
    sa.Column("before", sa.JSON),
    sa.Column("after", sa.JSON),
    sa.Column("how", sa.Text, nullable=False),
    sa.Column("inverse", sa.JSON),
    sa.Column("status", sa.Text, nullable=False),
    sa.Column("detail", sa.Text, nullable=False),
    sa.Column("who", sa.Text, nullable=False),
    sa.Column("at_utc", _Moment, nullable=False),
)

_BASELINES = sa.Table(
    "baselines",
    _SCHEMA,
    sa.Column("run_id", sa.ForeignKey("runs.id"), primary_key=True),
    sa.Column("document", sa.JSON, nullable=False),
)

_SNOOZES = sa.Table(
    "snoozes",
    _SCHEMA,
    sa.Column("row", sa.Integer, primary_key=True),
    sa.Column("finding_id", sa.Text, nullable=False),
    sa.Column("author", sa.Text, nullable=False),
    sa.Column("reason", sa.Text, nullable=False),
    sa.Column("until_utc", _Moment, nullable=False),
)

_APPROVALS = sa.Table(
    "approvals",
    _SCHEMA,
    sa.Column("row", sa.Integer, primary_key=True),
    sa.Column("plan_digest", sa.Text, nullable=False, index=True),
    sa.Column("plan_id", sa.Text, nullable=False),
    sa.Column("who", sa.Text, nullable=False),
    sa.Column("at_utc", _Moment, nullable=False),
    sa.Column("until_utc", _Moment, nullable=False),
    sa.Column("comment", sa.Text, nullable=False),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class RunRow:
    """One apply or rollback."""

    id: str
    kind: str
    """`apply` or `rollback`."""
    plan_id: str
    plan_digest: str
    undoes: str | None
    """The run that a rollback undoes; None for an apply."""
    scenario: str
    who: str
    started_utc: datetime
    ended_utc: datetime | None
    """None: at work, or interrupted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StepRow:
    """One moment in the life of one step."""

    run_id: str
    step_id: str
    resource_id: str
    setting: str
    before: Json
    after: Json
    how: str
    inverse: Json
    """The value that undoes it as `{"value": …}`, spelled as Azure had it; None: never written."""
    status: str
    """`intended`, or how it ended."""
    detail: str
    who: str
    at_utc: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Snooze:
    """A finding that somebody does not want to hear of for a while."""

    finding_id: str
    author: str
    reason: str
    until_utc: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Approval:
    """A person's word that a plan may be applied, until a moment."""

    plan_digest: str
    plan_id: str
    who: str
    at_utc: datetime
    until_utc: datetime
    comment: str


class Ledger:
    """Reads and appends; made on first use. Command line and app may have it open at once."""

    def __init__(self, url: str, *, busy_seconds: float = _BUSY_SECONDS) -> None:
        """Use the SQLite file that `url` names, such as `sqlite:///.optimizer/ledger.sqlite`.

        Args:
            url: an SQLAlchemy address.
            busy_seconds: how long to wait for somebody else's write.

        Raises:
            LedgerError: `url` names no SQLite file.
        """
        address = sa.make_url(url)
        if address.get_backend_name() != "sqlite" or address.database in (None, "", ":memory:"):
            raise LedgerError(f"The ledger is kept in an SQLite file, and {url} names none.")
        self._path = Path(str(address.database))
        # A connection for each operation: nothing is held open between two pages of the app.
        self._engine = sa.create_engine(
            address, poolclass=sa.NullPool, connect_args={"timeout": busy_seconds}
        )
        sa.event.listen(self._engine, "connect", _prepare_connection)
        self._ready = False

    @contextmanager
    def hold(self) -> Iterator[None]:
        """Let nobody else apply or roll back meanwhile; a process that dies lets go.

        The lock is an SQLite transaction on a file beside the ledger: the system frees it with
        the process that held it, so there is no stale lock to tell from a live one.

        Raises:
            LedgerError: somebody holds it.
        """
        with self._connect():
            pass  # makes the folder, and says so where it cannot
        lock = sqlite3.connect(self._path.with_suffix(".lock"), timeout=0, isolation_level=None)
        try:
            lock.execute("BEGIN EXCLUSIVE")
        except sqlite3.OperationalError as error:
            lock.close()
            raise LedgerError(
                f"Another apply or rollback is at work on {self._path}: "
                "wait until it has ended, then run this again."
            ) from error
        try:
            yield
        finally:
            lock.close()

    def start_run(self, run: RunRow, *, plan: Json, baseline: Json) -> None:
        """Keep a run that begins, with its plan and what `verify` will measure it against."""
        with self._connect() as connection:
            connection.execute(
                insert_or(_PLANS)
                .values(digest=run.plan_digest, document=plan)
                .on_conflict_do_nothing()
            )
            connection.execute(_RUNS.insert().values(_fields(run)))
            connection.execute(_BASELINES.insert().values(run_id=run.id, document=baseline))

    def end_run(self, run_id: str, ended_utc: datetime) -> None:
        """Keep when a run came to its end."""
        with self._connect() as connection:
            connection.execute(
                _RUNS.update().where(_RUNS.c.id == run_id).values(ended_utc=ended_utc)
            )

    def add_step(self, step: StepRow) -> None:
        """Append one row; it is on disk when this returns."""
        with self._connect() as connection:
            connection.execute(_STEPS.insert().values(_fields(step)))

    def runs(self) -> tuple[RunRow, ...]:
        """Return every run, oldest first."""
        with self._connect() as connection:
            rows = connection.execute(sa.select(_RUNS).order_by(sa.text("rowid")))
            return tuple(RunRow(**row) for row in rows.mappings())

    def steps(self, run_id: str | None = None) -> tuple[StepRow, ...]:
        """Return the rows of a run's steps, or of all runs, in the order they were written."""
        columns = [column for column in _STEPS.c if column is not _STEPS.c.row]
        query = sa.select(*columns).order_by(_STEPS.c.row)
        if run_id is not None:
            query = query.where(_STEPS.c.run_id == run_id)
        with self._connect() as connection:
            return tuple(StepRow(**row) for row in connection.execute(query).mappings())

    def plan(self, digest: str) -> Json:
        """Return a plan as it was applied; None if none has this digest."""
        with self._connect() as connection:
            return connection.execute(
                sa.select(_PLANS.c.document).where(_PLANS.c.digest == digest)
            ).scalar()

    def baseline(self, run_id: str) -> Json:
        """Return what was frozen when a run began; None if there is no such run."""
        with self._connect() as connection:
            return connection.execute(
                sa.select(_BASELINES.c.document).where(_BASELINES.c.run_id == run_id)
            ).scalar()

    def snooze(self, snooze: Snooze) -> None:
        """Keep a snooze; a later one for the same finding takes its place."""
        with self._connect() as connection:
            connection.execute(_SNOOZES.insert().values(_fields(snooze)))

    def snoozes(self, at_utc: datetime) -> tuple[Snooze, ...]:
        """Return the snoozes that hold at a moment, one for each finding."""
        columns = [column for column in _SNOOZES.c if column is not _SNOOZES.c.row]
        with self._connect() as connection:
            rows = connection.execute(sa.select(*columns).order_by(_SNOOZES.c.row)).mappings()
            latest = {row["finding_id"]: Snooze(**row) for row in rows}
        return tuple(snooze for snooze in latest.values() if snooze.until_utc > at_utc)

    def approve(self, approval: Approval) -> None:
        """Keep an approval."""
        with self._connect() as connection:
            connection.execute(_APPROVALS.insert().values(_fields(approval)))

    def approvals(self, plan_digest: str) -> tuple[Approval, ...]:
        """Return every approval of a plan, oldest first; the caller judges which still hold."""
        columns = [column for column in _APPROVALS.c if column is not _APPROVALS.c.row]
        query = sa.select(*columns).where(_APPROVALS.c.plan_digest == plan_digest)
        with self._connect() as connection:
            rows = connection.execute(query.order_by(_APPROVALS.c.row)).mappings()
            return tuple(Approval(**row) for row in rows)

    @contextmanager
    def _connect(self) -> Iterator[sa.Connection]:
        """Yield a transaction on a ledger that is there, and speak plainly of what goes wrong."""
        try:
            if not self._ready:
                self._path.parent.mkdir(parents=True, exist_ok=True)
                self._make()
                self._ready = True
            with self._engine.begin() as connection:
                yield connection
        except OSError as error:
            raise LedgerError(
                f"The folder of the ledger {self._path} cannot be made: {error.strerror}."
            ) from error
        except sa.exc.DatabaseError as error:
            raise LedgerError(_sentence(self._path, error)) from error

    def _make(self) -> None:
        with self._engine.begin() as connection:
            # Two programs may find the file missing at once: the second waits here for the first.
            connection.execute(sa.text("BEGIN IMMEDIATE"))
            version = connection.execute(sa.text("PRAGMA user_version")).scalar_one()
            if version > _SCHEMA_VERSION:
                raise LedgerError(
                    f"The ledger {self._path} was written by a newer optimizer: upgrade this one."
                )
            _SCHEMA.create_all(connection)
            connection.execute(sa.text(f"PRAGMA user_version = {_SCHEMA_VERSION}"))


def new_run_id(kind: str, digest: str, started_utc: datetime, runs_before: int) -> str:
    """Return a name for a run that people can type, such as `apply-20260105-3f9c2a`."""
    seed = f"{kind} {digest} {iso_utc(started_utc)} {runs_before}"
    return f"{kind}-{started_utc:%Y%m%d}-{hashlib.sha256(seed.encode()).hexdigest()[:6]}"


def _prepare_connection(connection: sqlite3.Connection, _record: object) -> None:
    # WAL lets the app read while the command line writes; FULL puts an intent on disk before Azure
    # hears of it.
    for pragma in ("journal_mode = WAL", "synchronous = FULL", "foreign_keys = ON"):
        connection.execute(f"PRAGMA {pragma}")


def _fields(row: RunRow | StepRow | Snooze | Approval) -> dict[str, Any]:
    return {name: getattr(row, name) for name in row.__dataclass_fields__}


def _sentence(path: Path, error: sa.exc.DatabaseError) -> str:
    code = getattr(error.orig, "sqlite_errorcode", 0) & 0xFF
    match code:
        case sqlite3.SQLITE_NOTADB | sqlite3.SQLITE_CORRUPT:
            return (
                f"The ledger {path} is damaged: restore it from a backup, or move it away to begin "
                "a new one, which knows nothing of earlier runs."
            )
        case sqlite3.SQLITE_BUSY | sqlite3.SQLITE_LOCKED:
            return f"The ledger {path} is locked by another program: close it and run this again."
        case sqlite3.SQLITE_READONLY | sqlite3.SQLITE_CANTOPEN:
            return f"The ledger {path} cannot be opened for writing: check its permissions."
        case sqlite3.SQLITE_FULL | sqlite3.SQLITE_IOERR:
            return f"The ledger {path} cannot be written: the disk is full or failing."
        case _:
            return f"The ledger {path} cannot be used: {error.orig}."
