"""Where a ledger can be kept: an SQLite file or a PostgreSQL database, and how the two differ."""

import sqlite3
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from pathlib import Path
from threading import Lock
from typing import Protocol

import sqlalchemy as sa
from sqlalchemy.engine.interfaces import DBAPIConnection

from optimizer.errors import LedgerError

TABLE = "ledger_entries"


class Database(Protocol):
    """What a ledger asks of the place where it is kept."""

    name: str
    """For people: the file, or the address without user and password."""
    engine: sa.Engine

    def prepare(self) -> None:
        """Make what must be there before the first connection."""

    def version(self, connection: sa.Connection) -> int:
        """Return the version of the ledger that is kept here; 0: none yet."""

    def set_version(self, connection: sa.Connection, version: int) -> None:
        """Keep the version of the ledger that was made."""

    def let_nobody_else_write(self, connection: sa.Connection) -> None:
        """Wait until no other transaction writes, and keep them waiting until this one ends."""

    def hold(self) -> AbstractContextManager[bool]:
        """Hold what one process only can hold until it lets go or dies; False: somebody does."""

    def sentence(self, error: sa.exc.DBAPIError) -> str:
        """Return what went wrong and the way out."""


def database(url: str, busy_seconds: float) -> Database:
    """Return the place that an SQLAlchemy address names; nothing is opened yet.

    Raises:
        LedgerError: it names neither an SQLite file nor a PostgreSQL database, or the driver is
            not installed. The address, which may hold a password, is not part of the sentence.
    """
    try:
        address = sa.make_url(url)
    except (sa.exc.ArgumentError, ValueError):  # a port that is no number is a ValueError
        raise LedgerError(
            "The address of the ledger cannot be understood: it looks like "
            "postgresql://user:password@host:5432/database, with %40 for an @ in the password."
        ) from None
    kind = address.get_backend_name()
    if kind == "sqlite" and address.database not in {None, "", ":memory:"}:
        return SqliteFile(address, busy_seconds)
    # An unescaped @ in the password would put its end where the database's name belongs.
    if kind in {"postgres", "postgresql"} and address.database and "@" not in address.database:
        return PostgresDatabase(address, busy_seconds)
    raise LedgerError(
        "A ledger is kept in an SQLite file (sqlite:///folder/ledger.sqlite) or in a PostgreSQL "
        "database (postgresql://user:password@host:5432/database), and its address names neither."
    )


class SqliteFile:
    """A file on this machine. Writers wait for one another at the file itself."""

    def __init__(self, address: sa.URL, busy_seconds: float) -> None:
        """Name the file; it is made on first use."""
        self._path = Path(str(address.database))
        self.name = str(self._path)
        # A connection for each operation: nothing is held open between two pages of the app.
        self.engine = sa.create_engine(
            address, poolclass=sa.NullPool, connect_args={"timeout": busy_seconds}
        )
        sa.event.listen(self.engine, "connect", _prepare_connection)

    def prepare(self) -> None:
        """Make the folder."""
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise LedgerError(
                f"The folder of the ledger {self.name} cannot be made: {error.strerror}."
            ) from error

    def version(self, connection: sa.Connection) -> int:
        """Return what the file itself says of its version."""
        return int(connection.execute(sa.text("PRAGMA user_version")).scalar_one())

    def set_version(self, connection: sa.Connection, version: int) -> None:
        """Write it into the head of the file, where earlier versions of the product look too."""
        connection.execute(sa.text(f"PRAGMA user_version = {version}"))

    def let_nobody_else_write(self, connection: sa.Connection) -> None:
        """Begin as a writer, not as a reader who may become one."""
        connection.execute(sa.text("BEGIN IMMEDIATE"))

    @contextmanager
    def hold(self) -> Iterator[bool]:
        """Hold a transaction on a file beside the ledger.

        The system frees it with the process that held it, so there is no stale lock to tell from
        a live one.
        """
        lock = sqlite3.connect(self._path.with_suffix(".lock"), timeout=0, isolation_level=None)
        try:
            lock.execute("BEGIN EXCLUSIVE")
        except sqlite3.OperationalError:
            lock.close()
            yield False
            return
        try:
            yield True
        finally:
            lock.close()

    def sentence(self, error: sa.exc.DBAPIError) -> str:
        """Return what an error code of SQLite means for the file."""
        code = getattr(error.orig, "sqlite_errorcode", 0) & 0xFF
        match code:
            case sqlite3.SQLITE_NOTADB | sqlite3.SQLITE_CORRUPT:
                return (
                    f"The ledger {self.name} is damaged: restore it from a backup, or move it away "
                    "to begin a new one, which knows nothing of earlier runs."
                )
            case sqlite3.SQLITE_BUSY | sqlite3.SQLITE_LOCKED:
                return (
                    f"The ledger {self.name} is locked by another program: close it and run this "
                    "again."
                )
            case sqlite3.SQLITE_READONLY | sqlite3.SQLITE_CANTOPEN:
                return (
                    f"The ledger {self.name} cannot be opened for writing: check its permissions."
                )
            case sqlite3.SQLITE_FULL | sqlite3.SQLITE_IOERR:
                return f"The ledger {self.name} cannot be written: the disk is full or failing."
            case _:
                return f"The ledger {self.name} cannot be used: {error.orig}."


def _prepare_connection(connection: sqlite3.Connection, _record: object) -> None:
    # An intent is on disk before Azure hears of it.
    connection.execute("PRAGMA synchronous = FULL")
    # The app reads while the command line writes. SQLite does not wait for another program that
    # turns the same new file to WAL at this moment; at the begin of a write it does.
    for _ in range(_OTHERS_THAT_MAKE_IT):
        try:
            connection.execute(_WRITE_AHEAD)
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY:
                raise
            connection.execute("BEGIN IMMEDIATE")
            connection.execute("ROLLBACK")
        else:
            return
    connection.execute(_WRITE_AHEAD)


_WRITE_AHEAD = "PRAGMA journal_mode = WAL"
_OTHERS_THAT_MAKE_IT = 8


class PostgresDatabase:
    """A table in a database that several machines may share. Writers wait at advisory locks.

    Locks of tables would need rights to change rows; so a role that may only read and insert can
    keep the ledger.
    """

    _WRITING, _HOLDING = 0x6F70_7401, 0x6F70_7402
    """First halves of advisory locks; the second is the table, as a database may have several."""
    _LOCKED, _NOT_ALLOWED, _READ_ONLY, _FULL = "55P03", "42501", "25006", "53100"
    """Codes of PostgreSQL's appendix A."""

    def __init__(self, address: sa.URL, busy_seconds: float) -> None:
        """Name the database; it must be there, its table is made on first use."""
        port = f":{address.port}" if address.port else ""
        self.name = f"postgresql://{address.host or ''}{port}/{address.database}"
        self._session: sa.Connection | None = None
        self._session_in_use = Lock()
        try:
            # Each statement sees what was committed before it, whatever the server's default.
            self.engine = sa.create_engine(
                address.set(drivername="postgresql+psycopg"),
                poolclass=sa.NullPool,
                isolation_level="READ COMMITTED",
                connect_args={"connect_timeout": max(2, round(busy_seconds))},
            )
        except ImportError:
            raise LedgerError(
                "A ledger in PostgreSQL needs its driver: install optimizer[postgres]."
            ) from None
        patience_ms = max(1, round(busy_seconds * 1000))
        sa.event.listen(self.engine, "connect", partial(_set_patience, patience_ms))

    def prepare(self) -> None:
        """Leave the database to whoever runs the server."""

    def version(self, connection: sa.Connection) -> int:
        """Return what the comment on the table says."""
        table, comment = connection.execute(
            sa.text("SELECT to_regclass(:table), obj_description(to_regclass(:table), 'pg_class')"),
            {"table": TABLE},
        ).one()
        if table is None:
            return 0
        words, _, version = (comment or "").rpartition(" ")
        if words != _COMMENT or not version.isdecimal():
            raise LedgerError(
                f"The database {self.name} has a table {TABLE} of something else: "
                "give the ledger a database of its own."
            )
        return int(version)

    def set_version(self, connection: sa.Connection, version: int) -> None:
        """Write it into the comment on the table."""
        connection.execute(sa.text(f"COMMENT ON TABLE {TABLE} IS '{_COMMENT} {version}'"))

    def let_nobody_else_write(self, connection: sa.Connection) -> None:
        """Take the lock of writers until the transaction ends.

        Raises:
            sqlalchemy.exc.DBAPIError: also where `hold` had a session and the server ended it:
                somebody else may hold the ledger by now.
        """
        with self._session_in_use:
            if self._session is not None:
                self._session.execute(sa.text("SELECT 1"))
        connection.execute(_lock("pg_advisory_xact_lock", self._WRITING))

    @contextmanager
    def hold(self) -> Iterator[bool]:
        """Hold an advisory lock of a session; the server frees it when the session ends."""
        with self.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as session:
            # A machine that lost its power closes no session: the server asks after it.
            for setting in ("idle = 30", "interval = 10", "count = 3"):
                session.execute(sa.text(f"SET tcp_keepalives_{setting}"))
            if not session.execute(_lock("pg_try_advisory_lock", self._HOLDING)).scalar_one():
                yield False
                return
            self._session = session
            try:
                yield True
            finally:
                self._session = None

    def sentence(self, error: sa.exc.DBAPIError) -> str:
        """Return what PostgreSQL said, and the way out where its code tells one."""
        match getattr(error.orig, "sqlstate", None):
            case None:
                return (
                    f"The ledger {self.name} cannot be reached: {_reason(error)}; check "
                    "OPTIMIZER_LEDGER_URL and the server."
                )
            case self._LOCKED:
                return (
                    f"The ledger {self.name} is locked by another program: close it and run this "
                    "again."
                )
            case self._NOT_ALLOWED | self._READ_ONLY:
                return (
                    f"The ledger {self.name} does not let its user do this: {_reason(error)}; "
                    f"grant SELECT and INSERT on {TABLE}, and CREATE on the schema to make it."
                )
            case self._FULL:
                return f"The ledger {self.name} cannot be written: the server's disk is full."
            case _:
                return f"The ledger {self.name} cannot be used: {_reason(error)}."


def _set_patience(patience_ms: int, connection: DBAPIConnection, _record: object) -> None:
    cursor = connection.cursor()
    cursor.execute(f"SET lock_timeout = {patience_ms}")
    cursor.close()
    connection.commit()


_COMMENT = "optimizer ledger, version"


def _lock(function: str, what: int) -> sa.TextClause:
    return sa.text(f"SELECT {function}({what}, coalesce(to_regclass('{TABLE}')::oid::int, 0))")


def _reason(error: sa.exc.DBAPIError) -> str:
    """Return the heart of what was said: no hints, no addresses that were tried in vain."""
    primary = getattr(getattr(error.orig, "diag", None), "message_primary", None)
    if primary is not None:
        return str(primary)
    said = [line for line in str(error.orig).splitlines() if line and not line[0].isspace()]
    last = said[-1] if said else "no reason was given"
    for before in ("FATAL: ", "failed: "):
        last = last.rpartition(before)[2]
    return last.strip().rstrip(".")
