"""What was done to the estate, by whom and how to undo it: entries in a chain, never changed.

A step's rows follow one another: `intended` before the write, then how it ended. The last row is
the truth; an `intended` row without one after it is a write that a crash left open. In the same way
the end of a run, an approval and a snooze are entries of their own; whatever is asked of the ledger
is derived from them. Where they are kept is for `databases` to know, how they hold one another for
`chain`.
"""

import hashlib
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields, replace
from datetime import datetime
from enum import StrEnum
from typing import Any, TypeVar

import sqlalchemy as sa
from pydantic import SecretStr

from optimizer.errors import LedgerError
from optimizer.model import Json
from optimizer.store import version_1
from optimizer.store.chain import Checked, Entry, canonical, check
from optimizer.store.databases import TABLE, Database, database
from optimizer.units import iso_utc, utc

INTENDED = "intended"
"""The status of a row written before Azure is; every other status says how a step ended."""

T = TypeVar("T")

_VERSION = 2
_BUSY_SECONDS = 10.0
_ROWS_AT_A_TIME = 1000


class _Kind(StrEnum):
    """What an entry tells, and what its subject is."""

    PLAN = "plan"
    """Of a digest: the plan as it was applied."""
    RUN = "run"
    """Of a run: it begins."""
    BASELINE = "baseline"
    """Of a run: what `verify` will measure it against."""
    STEP = "step"
    """Of a run: one moment in the life of one of its steps."""
    END = "end"
    """Of a run: it came to its end."""
    APPROVAL = "approval"
    """Of a plan's digest."""
    SNOOZE = "snooze"
    """Of a finding."""


_SCHEMA = sa.MetaData()

_ENTRIES = sa.Table(
    TABLE,
    _SCHEMA,
    # As a key, the number lets no two entries follow the same one, whatever the locks do.
    sa.Column("number", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("kind", sa.Text, nullable=False),
    sa.Column("subject", sa.Text, nullable=False),
    sa.Column("who", sa.Text, nullable=False),
    sa.Column("at_utc", sa.Text),
    sa.Column("document", sa.Text, nullable=False),
    sa.Column("hash", sa.Text, nullable=False),
    sa.Index(f"{TABLE}_by_subject", "kind", "subject"),
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

    def __init__(self, url: str | SecretStr, *, busy_seconds: float = _BUSY_SECONDS) -> None:
        """Use the SQLite file or the PostgreSQL database that `url` names.

        Args:
            url: an SQLAlchemy address, such as `sqlite:///.optimizer/ledger.sqlite` or
                `postgresql://ana:secret@host/optimizer`. Its password is told to nobody.
            busy_seconds: how long to wait for somebody else's write, or for the server.

        Raises:
            LedgerError: `url` names neither, or the driver is not installed.
        """
        address = url.get_secret_value() if isinstance(url, SecretStr) else url
        self._database: Database = database(address, busy_seconds)
        self._ready = False

    @contextmanager
    def hold(self) -> Iterator[None]:
        """Let nobody else apply or roll back meanwhile; a process that dies lets go.

        Raises:
            LedgerError: somebody holds it.
        """
        with self._connect():
            pass  # makes the ledger, and says so where it cannot
        with self._spoken_plainly(), self._database.hold() as alone:
            if not alone:
                raise LedgerError(
                    f"Another apply or rollback is at work on {self._database.name}: "
                    "wait until it has ended, then run this again."
                )
            yield

    def start_run(self, run: RunRow, *, plan: Json, baseline: Json) -> None:
        """Keep a run that begins, with its plan and what `verify` will measure it against.

        Raises:
            LedgerError: there is a run of this name.
        """
        rest = _rest(run, "id", "who", "started_utc", "ended_utc")
        with self._write() as pen:
            if pen.knows(_Kind.RUN, run.id):
                raise LedgerError(f"The ledger {self._database.name} has a run {run.id} already.")
            if not pen.knows(_Kind.PLAN, run.plan_digest):
                pen.write(_Kind.PLAN, run.plan_digest, run.who, run.started_utc, plan)
            pen.write(_Kind.RUN, run.id, run.who, run.started_utc, rest)
            pen.write(_Kind.BASELINE, run.id, run.who, run.started_utc, baseline)

    def end_run(self, run_id: str, ended_utc: datetime, *, who: str) -> None:
        """Keep when a run came to its end, and who saw to that.

        Raises:
            LedgerError: there is no such run.
        """
        with self._write() as pen:
            self._check_run(pen, run_id)
            pen.write(_Kind.END, run_id, who, ended_utc, None)

    def add_step(self, step: StepRow) -> None:
        """Append one row; it is on disk when this returns.

        Raises:
            LedgerError: there is no such run.
        """
        with self._write() as pen:
            self._check_run(pen, step.run_id)
            rest = _rest(step, "run_id", "who", "at_utc")
            pen.write(_Kind.STEP, step.run_id, step.who, step.at_utc, rest)

    def runs(self) -> tuple[RunRow, ...]:
        """Return every run, oldest first."""
        told = list(self._read(_run_or_end, _Kind.RUN, _Kind.END))
        ended = {each.run_id: each.at_utc for each in told if isinstance(each, _End)}
        return tuple(
            replace(run, ended_utc=ended.get(run.id)) for run in told if isinstance(run, RunRow)
        )

    def steps(self, run_id: str | None = None) -> tuple[StepRow, ...]:
        """Return the rows of a run's steps, or of all runs, in the order they were written."""
        return tuple(self._read(_step, _Kind.STEP, subject=run_id))

    def plan(self, digest: str) -> Json:
        """Return a plan as it was applied; None if none has this digest."""
        return self._document(_Kind.PLAN, digest)

    def baseline(self, run_id: str) -> Json:
        """Return what was frozen when a run began; None if there is no such run."""
        return self._document(_Kind.BASELINE, run_id)

    def plans(self) -> dict[str, Json]:
        """Return every plan that was applied, by its digest."""
        return dict(self._read(_by_subject, _Kind.PLAN))

    def baselines(self) -> dict[str, Json]:
        """Return what was frozen when each run began, by the run's id."""
        return dict(self._read(_by_subject, _Kind.BASELINE))

    def snooze(self, snooze: Snooze, at_utc: datetime) -> None:
        """Keep a snooze and when it was given; a later one of the finding takes its place."""
        with self._write() as pen:
            rest = {"reason": snooze.reason, "until_utc": iso_utc(snooze.until_utc)}
            pen.write(_Kind.SNOOZE, snooze.finding_id, snooze.author, at_utc, rest)

    def snoozes(self, at_utc: datetime) -> tuple[Snooze, ...]:
        """Return the snoozes that hold at a moment, one for each finding."""
        latest = {snooze.finding_id: snooze for snooze in self._read(_snooze, _Kind.SNOOZE)}
        return tuple(snooze for snooze in latest.values() if snooze.until_utc > at_utc)

    def approve(self, approval: Approval) -> None:
        """Keep an approval."""
        with self._write() as pen:
            rest = _rest(approval, "plan_digest", "who", "at_utc")
            pen.write(_Kind.APPROVAL, approval.plan_digest, approval.who, approval.at_utc, rest)

    def approvals(self, plan_digest: str) -> tuple[Approval, ...]:
        """Return every approval of a plan, oldest first; the caller judges which still hold."""
        return tuple(self._read(_approval, _Kind.APPROVAL, subject=plan_digest))

    def head(self) -> str:
        """Return the hash of the newest entry, which stands for all before it; empty: none yet."""
        with self._connect() as connection:
            last = _last(connection)
        return "" if last is None else last.hash

    def check(self, *, noted_head: str = "") -> Checked:
        """Follow the chain from its first entry to the first that does not fit.

        Args:
            noted_head: what `head` said once, kept elsewhere; it must still be in the chain.

        Raises:
            LedgerError: the ledger cannot be read.
        """
        query = sa.select(_ENTRIES).order_by(_ENTRIES.c.number)
        with self._connect() as connection, _entries(connection, query) as entries:
            return check(entries, noted_head=noted_head)

    def _check_run(self, pen: "_Pen", run_id: str) -> None:
        if not pen.knows(_Kind.RUN, run_id):
            raise LedgerError(f"The ledger {self._database.name} knows no run {run_id}.")

    def _document(self, kind: _Kind, subject: str) -> Json:
        return dict(self._read(_by_subject, kind, subject=subject)).get(subject)

    def _read(
        self, understand: Callable[[Entry, Any], T], *kinds: _Kind, subject: str | None = None
    ) -> Iterator[T]:
        """Yield what the entries of some kinds tell, oldest first."""
        query = sa.select(_ENTRIES).where(_ENTRIES.c.kind.in_(kinds)).order_by(_ENTRIES.c.number)
        if subject is not None:
            query = query.where(_ENTRIES.c.subject == subject)
        with self._connect() as connection, _entries(connection, query) as entries:
            for entry in entries:
                try:
                    told = understand(entry, json.loads(entry.document))
                except (ValueError, TypeError, AttributeError) as error:
                    raise LedgerError(
                        f"Entry {entry.number} of the ledger {self._database.name} cannot be "
                        "understood: `optimizer history --check` tells whether it was changed."
                    ) from error
                yield told

    @contextmanager
    def _write(self) -> Iterator["_Pen"]:
        """Yield a pen in a transaction of its own; nobody else writes meanwhile."""
        with self._connect() as connection:
            self._database.let_nobody_else_write(connection)
            yield _Pen(connection)

    @contextmanager
    def _connect(self) -> Iterator[sa.Connection]:
        """Yield a transaction on a ledger that is there, and speak plainly of what goes wrong."""
        with self._spoken_plainly():
            if not self._ready:
                self._database.prepare()
                self._make()
                self._ready = True
            with self._database.engine.begin() as connection:
                yield connection

    @contextmanager
    def _spoken_plainly(self) -> Iterator[None]:
        try:
            yield
        except sa.exc.DBAPIError as error:
            raise LedgerError(self._database.sentence(error)) from error

    def _make(self) -> None:
        # Looking first spares whoever only reads the lock of the writers, and the right to write.
        with self._database.engine.begin() as connection:
            if self._version(connection) == _VERSION:
                return
        with self._database.engine.begin() as connection:
            # Two programs may find it missing at once: the second waits here for the first.
            self._database.let_nobody_else_write(connection)
            version = self._version(connection)
            if version < _VERSION:
                _SCHEMA.create_all(connection)
                if version == 1:
                    self._take_over(connection)
                self._database.set_version(connection, _VERSION)

    def _take_over(self, connection: sa.Connection) -> None:
        pen = _Pen(connection)
        try:
            for kind, subject, who, at_utc, document in version_1.facts(connection):
                pen.write(kind, subject, who, at_utc, document)
        except ValueError as error:
            raise LedgerError(
                f"The ledger {self._database.name}, of an earlier version, cannot be understood: "
                "restore it from a backup."
            ) from error
        version_1.drop(connection)

    def _version(self, connection: sa.Connection) -> int:
        version = self._database.version(connection)
        if version > _VERSION:
            raise LedgerError(
                f"The ledger {self._database.name} was written by a newer optimizer: "
                "upgrade this one."
            )
        return version


class _Pen:
    """Appends to the chain, in a transaction that nobody else writes beside."""

    def __init__(self, connection: sa.Connection) -> None:
        self._connection = connection
        self._last = _last(connection)

    def knows(self, kind: _Kind, subject: str) -> bool:
        """Tell whether there is such an entry."""
        query = sa.select(_ENTRIES.c.number).where(
            _ENTRIES.c.kind == kind, _ENTRIES.c.subject == subject
        )
        return self._connection.execute(query.limit(1)).first() is not None

    def write(
        self, kind: str, subject: str, who: str, at_utc: datetime | str | None, document: Json
    ) -> None:
        """Append one entry."""
        entry = Entry.after(
            self._last,
            kind=str(kind),
            subject=subject,
            who=who,
            at_utc=iso_utc(at_utc) if isinstance(at_utc, datetime) else at_utc,
            document=canonical(document),
        )
        values = {field.name: getattr(entry, field.name) for field in fields(entry)}
        self._connection.execute(_ENTRIES.insert().values(values))
        self._last = entry


def new_run_id(kind: str, digest: str, started_utc: datetime, runs_before: int) -> str:
    """Return a name for a run that people can type, such as `apply-20260105-3f9c2a`."""
    seed = f"{kind} {digest} {iso_utc(started_utc)} {runs_before}"
    return f"{kind}-{started_utc:%Y%m%d}-{hashlib.sha256(seed.encode()).hexdigest()[:6]}"


@contextmanager
def _entries(connection: sa.Connection, query: sa.Select[Any]) -> Iterator[Iterator[Entry]]:
    """Yield what a query finds, some rows at a time."""
    with connection.execute(query, execution_options={"yield_per": _ROWS_AT_A_TIME}) as rows:
        yield (Entry(**row) for row in rows.mappings())


def _last(connection: sa.Connection) -> Entry | None:
    query = sa.select(_ENTRIES).order_by(_ENTRIES.c.number.desc()).limit(1)
    row = connection.execute(query).mappings().first()
    return None if row is None else Entry(**row)


@dataclass(frozen=True, slots=True, kw_only=True)
class _End:
    run_id: str
    at_utc: datetime


def _run_or_end(entry: Entry, document: dict[str, Any]) -> RunRow | _End:
    if entry.kind == _Kind.END:
        return _End(run_id=entry.subject, at_utc=_moment(entry))
    return RunRow(
        id=entry.subject,
        who=entry.who,
        started_utc=_moment(entry),
        ended_utc=None,
        **_values(document),
    )


def _by_subject(entry: Entry, document: Json) -> tuple[str, Json]:
    return entry.subject, document


def _step(entry: Entry, document: dict[str, Any]) -> StepRow:
    at_utc = _moment(entry)
    return StepRow(run_id=entry.subject, who=entry.who, at_utc=at_utc, **_values(document))


def _approval(entry: Entry, document: dict[str, Any]) -> Approval:
    at_utc = _moment(entry)
    return Approval(plan_digest=entry.subject, who=entry.who, at_utc=at_utc, **_values(document))


def _snooze(entry: Entry, document: dict[str, Any]) -> Snooze:
    return Snooze(finding_id=entry.subject, author=entry.who, **_values(document))


def _rest(row: RunRow | StepRow | Approval, *in_columns: str) -> dict[str, Json]:
    """Return what of a row the columns of its entry do not hold; moments as text."""
    values = {f.name: getattr(row, f.name) for f in fields(row) if f.name not in in_columns}
    return {
        name: iso_utc(value) if isinstance(value, datetime) else value
        for name, value in values.items()
    }


def _values(document: dict[str, Any]) -> dict[str, Any]:
    return {name: utc(v) if name.endswith("_utc") else v for name, v in document.items()}


def _moment(entry: Entry) -> datetime:
    return utc(entry.at_utc or "")
