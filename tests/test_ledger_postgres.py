"""What only a ledger on a PostgreSQL server can meet."""

import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import psycopg
import pytest
from pydantic import SecretStr

from optimizer.errors import LedgerError
from optimizer.store.ledger import Ledger
from tests.changes import new_ledger
from tests.ledgers import RUN, STEP, meddle
from tests.postgres import ESCAPED, PASSWORD, Postgres, free_port

END_WHOEVER_HOLDS_A_LOCK = """
SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory'
AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"""


@pytest.fixture
def url(postgres: Postgres) -> str:
    return postgres.new_database()


def name_of(url: str) -> str:
    """Return a ledger's name as people see it."""
    return url.replace(f"postgres:{ESCAPED}@", "")


def refusal(url: str) -> str:
    """Return why a ledger cannot be read."""
    with pytest.raises(LedgerError) as refused:
        Ledger(url, busy_seconds=2).head()
    return str(refused.value)


@pytest.fixture
def clerk(postgres: Postgres, url: str) -> Iterator[str]:
    """Return the address for somebody who may do nothing yet with a ledger that was made."""
    assert Ledger(url).head() == ""
    database = url.rpartition("/")[2]
    role = f"clerk_of_{database}"
    postgres.run(database, f"CREATE ROLE {role} LOGIN PASSWORD '{PASSWORD}'")
    yield postgres.url(database, user=role)
    postgres.run(database, f"DROP OWNED BY {role}")
    postgres.run(database, f"DROP ROLE {role}")


def role_of(url: str) -> str:
    return url.removeprefix("postgresql://").partition(":")[0]


def test_a_wrong_password_is_one_sentence_and_is_not_repeated(postgres: Postgres, url: str) -> None:
    sentence = refusal(postgres.url(url.rpartition("/")[2], password="wrong"))  # noqa: S106
    assert sentence == (
        f"The ledger {name_of(url)} cannot be reached: password authentication failed for user "
        '"postgres"; check OPTIMIZER_LEDGER_URL and the server.'
    )


def test_a_server_that_does_not_answer_is_one_sentence() -> None:
    where = f"127.0.0.1:{free_port()}/ledger"
    sentence = refusal(f"postgresql://ana:secret@{where}")
    assert sentence == (
        f"The ledger postgresql://{where} cannot be reached: Connection refused; "
        "check OPTIMIZER_LEDGER_URL and the server."
    )


def test_a_database_that_is_not_there_is_one_sentence(postgres: Postgres) -> None:
    url = postgres.url("nowhere")
    assert refusal(url) == (
        f'The ledger {name_of(url)} cannot be reached: database "nowhere" does not exist; '
        "check OPTIMIZER_LEDGER_URL and the server."
    )


@pytest.mark.parametrize(
    "url",
    ["postgresql://ana:secret@host:port/ledger", "no address", "postgresql://ana:s@e:c/r@h/l"],
)
def test_an_address_that_cannot_be_understood_is_not_repeated(url: str) -> None:
    with pytest.raises(LedgerError) as refused:
        Ledger(url)
    assert str(refused.value) == (
        "The address of the ledger cannot be understood: it looks like "
        "postgresql://user:password@host:5432/database, with %40 for an @ in the password."
    )


def test_a_driver_that_is_not_installed_is_one_sentence() -> None:
    program = (
        "import sys\n"
        "sys.modules['psycopg'] = None\n"
        "from optimizer.errors import LedgerError\n"
        "from optimizer.store.ledger import Ledger\n"
        "try:\n"
        "    Ledger('postgresql://ana:secret@host/ledger')\n"
        "except LedgerError as error:\n"
        "    print(error)\n"
    )
    said = subprocess.run(
        [sys.executable, "-c", program], check=True, capture_output=True, text=True
    )
    assert said.stdout == "A ledger in PostgreSQL needs its driver: install optimizer[postgres].\n"


@pytest.mark.parametrize("scheme", ["postgres", "postgresql", "postgresql+psycopg"])
def test_every_usual_spelling_of_the_address_is_understood(url: str, scheme: str) -> None:
    ledger = Ledger(SecretStr(url.replace("postgresql", scheme, 1)))
    ledger.start_run(RUN, plan={}, baseline=None)
    assert Ledger(url).runs() == (RUN,)


def test_whoever_may_only_read_and_insert_can_keep_the_ledger(
    postgres: Postgres, url: str, clerk: str
) -> None:
    database = url.rpartition("/")[2]
    postgres.run(database, f"GRANT SELECT, INSERT ON ledger_entries TO {role_of(clerk)}")
    ledger = Ledger(clerk)
    with ledger.hold():
        ledger.start_run(RUN, plan={}, baseline=None)
        ledger.add_step(STEP)
    assert (ledger.steps(), ledger.check().entries) == ((STEP,), 4)
    with pytest.raises(Exception, match="permission denied"):
        meddle(clerk, "DELETE FROM ledger_entries")


def test_whoever_may_only_read_can_check_and_is_told_what_writing_needs(
    postgres: Postgres, url: str, clerk: str
) -> None:
    assert "permission denied for table ledger_entries" in refusal(clerk)
    database = url.rpartition("/")[2]
    postgres.run(database, f"GRANT SELECT ON ledger_entries TO {role_of(clerk)}")
    ledger = Ledger(clerk)
    assert ledger.check().misfit is None
    with pytest.raises(LedgerError) as refused:
        ledger.start_run(RUN, plan={}, baseline=None)
    assert str(refused.value) == (
        f"The ledger {name_of(url)} does not let its user do this: permission denied for table "
        "ledger_entries; grant SELECT and INSERT on ledger_entries, and CREATE on the schema to "
        "make it."
    )


def test_a_table_of_something_else_is_left_alone(postgres: Postgres, url: str) -> None:
    database = url.rpartition("/")[2]
    postgres.run(database, "CREATE TABLE ledger_entries (amount int)")
    assert refusal(url) == (
        f"The database {name_of(url)} has a table ledger_entries of something else: "
        "give the ledger a database of its own."
    )


def test_a_ledger_of_a_newer_optimizer_is_one_sentence(url: str) -> None:
    assert Ledger(url).head() == ""
    meddle(url, "COMMENT ON TABLE ledger_entries IS 'optimizer ledger, version 3'")
    assert refusal(url) == (
        f"The ledger {name_of(url)} was written by a newer optimizer: upgrade this one."
    )


@contextmanager
def session(postgres: Postgres, url: str) -> Iterator[psycopg.Connection]:
    """Open a transaction of the administrator on the ledger's database."""
    with psycopg.connect(
        host="127.0.0.1",
        port=postgres.port,
        user="postgres",
        password=PASSWORD,
        dbname=url.rpartition("/")[2],
    ) as connection:
        yield connection


def test_a_table_that_somebody_locked_is_one_sentence(postgres: Postgres, url: str) -> None:
    ledger = Ledger(url, busy_seconds=0.2)
    ledger.start_run(RUN, plan={}, baseline=None)
    with session(postgres, url) as other:
        other.execute("LOCK TABLE ledger_entries IN ACCESS EXCLUSIVE MODE")
        for act in (lambda: ledger.add_step(STEP), ledger.runs):
            with pytest.raises(LedgerError) as refused:
                act()
            assert str(refused.value) == (
                f"The ledger {name_of(url)} is locked by another program: close it and run this "
                "again."
            )
    assert ledger.steps() == ()


def test_whoever_lost_the_session_that_held_it_writes_no_more(postgres: Postgres, url: str) -> None:
    ledger = Ledger(url)
    ledger.start_run(RUN, plan={}, baseline=None)
    with ledger.hold():
        ledger.add_step(STEP)
        postgres.run(url.rpartition("/")[2], END_WHOEVER_HOLDS_A_LOCK)
        with pytest.raises(LedgerError, match="terminating connection"):
            ledger.add_step(STEP)
        with Ledger(url).hold():  # somebody else is at work by now
            pass
    assert ledger.steps() == (STEP,)
    with ledger.hold():
        ledger.add_step(STEP)


def test_the_rows_of_an_sqlite_ledger_can_be_copied_as_they_are(
    postgres: Postgres, url: str, tmp_path: Path
) -> None:
    old, new = new_ledger(tmp_path), Ledger(url)
    old.start_run(RUN, plan={"name": "é\0"}, baseline=None)
    old.add_step(STEP)
    assert new.head() == ""
    with (
        closing(sqlite3.connect(tmp_path / "ledger.sqlite")) as source,
        session(postgres, url) as target,
    ):
        for row in source.execute("SELECT * FROM ledger_entries"):
            target.execute("INSERT INTO ledger_entries VALUES (%s, %s, %s, %s, %s, %s, %s)", row)
    assert (new.check(), new.head()) == (old.check(), old.head())
    assert (new.runs(), new.steps(), new.plans()) == ((RUN,), (STEP,), {"d1": {"name": "é\0"}})


def test_two_ledgers_in_one_database_do_not_wait_for_one_another(
    postgres: Postgres, url: str
) -> None:
    database = url.rpartition("/")[2]
    postgres.run(database, "CREATE SCHEMA other")
    other = Ledger(f"{url}?options=-csearch_path%3Dother")
    with Ledger(url).hold(), other.hold():
        other.start_run(RUN, plan={}, baseline=None)
    assert (Ledger(url).runs(), other.runs()) == ((), (RUN,))
