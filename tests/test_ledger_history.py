"""That the ledger's history cannot be changed without a trace, nor lost by many writing at once."""

import sqlite3
import subprocess
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa

from optimizer.errors import LedgerError
from optimizer.remediation.history import applied_with_baselines, runs
from optimizer.store.ledger import INTENDED, Ledger, Snooze, StepRow
from optimizer.units import iso_utc
from tests.changes import NOW_UTC, THREE, MemoryDoor, apply_here, new_ledger, plan_of
from tests.ledgers import RUN, STEP, meddle

WRITERS, STEPS = 4, 12


@pytest.fixture
def written(ledger_url: str) -> Ledger:
    """Return a ledger of seven entries: plan, run, baseline, two of a step, a snooze, the end."""
    ledger = Ledger(ledger_url)
    ledger.start_run(RUN, plan={"id": "plan-1"}, baseline={"k": 1.01})
    ledger.add_step(STEP)
    ledger.add_step(replace(STEP, status="done"))
    snooze = Snooze(finding_id="f1", author="ben", reason="launch", until_utc=NOW_UTC)
    ledger.snooze(snooze, NOW_UTC)
    ledger.end_run("apply-1", NOW_UTC + timedelta(minutes=5), who="cleo")
    return ledger


def test_everything_is_an_entry_with_who_and_when(written: Ledger, ledger_url: str) -> None:
    found = written.check()
    assert (found.entries, found.head, found.misfit) == (7, written.head(), None)
    engine = sa.create_engine(
        ledger_url.replace("postgresql:", "postgresql+psycopg:"), poolclass=sa.NullPool
    )
    with engine.connect() as connection:
        rows = connection.execute(
            sa.text("SELECT number, kind, subject, who, at_utc FROM ledger_entries ORDER BY number")
        )
        now, end = iso_utc(NOW_UTC), iso_utc(NOW_UTC + timedelta(minutes=5))
        assert [tuple(row) for row in rows] == [
            (1, "plan", "d1", "ana", now),
            (2, "run", "apply-1", "ana", now),
            (3, "baseline", "apply-1", "ana", now),
            (4, "step", "apply-1", "ana", now),
            (5, "step", "apply-1", "ana", now),
            (6, "snooze", "f1", "ben", now),
            (7, "end", "apply-1", "cleo", end),
        ]


def test_the_head_changes_with_every_entry_and_with_nothing_else(written: Ledger) -> None:
    before = written.head()
    assert (written.runs(), written.head()) == (written.runs(), before)
    written.add_step(STEP)
    assert written.head() != before
    assert written.check(noted_head=before).misfit is None


PUT = "UPDATE ledger_entries SET {} WHERE number = {}"


@pytest.mark.parametrize(
    ("statements", "misfit"),
    [
        ([PUT.format("document = replace(document, 'minNode', 'maxNode')", 4)], "entry 4 is not"),
        ([PUT.format("who = 'eve'", 2)], "entry 2 is not"),
        ([PUT.format("at_utc = '2020-01-01T00:00:00Z'", 7)], "entry 7 is not"),
        ([PUT.format("hash = 'x'", 7)], "entry 7 is not"),
        (["DELETE FROM ledger_entries WHERE number = 1"], "entry 1 is missing"),
        (["DELETE FROM ledger_entries WHERE number = 5"], "entry 5 is missing"),
        (
            [
                PUT.format("number = 99", 4),
                PUT.format("number = 4", 5),
                PUT.format("number = 5", 99),
            ],
            "entry 4 is not as it was written in this place",
        ),
        (
            [
                "DELETE FROM ledger_entries WHERE number = 5",
                PUT.format("number = 5", 6),
                PUT.format("number = 6", 7),
            ],
            "entry 5 is not",
        ),
        (
            [
                """INSERT INTO ledger_entries
                SELECT 8, kind, subject, who, at_utc, document, hash
                FROM ledger_entries WHERE number = 7"""
            ],
            "entry 8 is not",
        ),
    ],
)
def test_whatever_is_meddled_with_is_named(
    written: Ledger, ledger_url: str, statements: Sequence[str], misfit: str
) -> None:
    meddle(ledger_url, *statements)
    found = written.check()
    assert (found.misfit or "").startswith(misfit)
    assert found.entries == int(misfit.split()[1]) - 1


def test_a_tail_that_was_cut_off_is_told_by_a_head_kept_elsewhere(
    written: Ledger, ledger_url: str
) -> None:
    noted = written.head()
    meddle(ledger_url, "DELETE FROM ledger_entries WHERE number > 4")
    assert written.check().misfit is None
    found = written.check(noted_head=noted)
    assert (found.entries, (found.misfit or "")[:22]) == (4, "no entry has the hash ")


def test_what_is_no_text_fits_nowhere(tmp_path: Path) -> None:
    ledger = new_ledger(tmp_path)
    ledger.start_run(RUN, plan={}, baseline=None)
    meddle(f"sqlite:///{tmp_path / 'ledger.sqlite'}", PUT.format("document = x'00'", 2))
    assert ledger.check().misfit == "entry 2 is not as it was written in this place"
    with pytest.raises(LedgerError, match=r"^Entry 2 of the ledger .* cannot be understood"):
        ledger.runs()


@pytest.mark.parametrize("document", ["{", "null", "{}", '{"until_utc": "never"}', "[]"])
def test_an_entry_that_nobody_understands_is_one_sentence(
    written: Ledger, ledger_url: str, document: str
) -> None:
    meddle(ledger_url, PUT.format(f"document = '{document}'", 5).replace(":", "\\:"))
    with pytest.raises(LedgerError) as refused:
        written.steps()
    sentence = str(refused.value)
    assert sentence.startswith("Entry 5 of the ledger ")
    assert sentence.endswith(
        "cannot be understood: `optimizer history --check` tells whether it was changed."
    )


def start_writer(url: str, name: str, stack: ExitStack) -> subprocess.Popen[str]:
    """Start a process that writes to a ledger as soon as it is given a line."""
    command = [sys.executable, "-m", "tests.ledger_driver", url, name, str(STEPS)]
    return stack.enter_context(
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    )


def release(writer: subprocess.Popen[str]) -> None:
    assert writer.stdin
    writer.stdin.write("go\n")
    writer.stdin.flush()


def heard(writer: subprocess.Popen[str]) -> str:
    assert writer.stdout
    return writer.stdout.readline().strip()


def test_processes_that_write_at_once_lose_nothing_and_make_one_chain(ledger_url: str) -> None:
    names = [f"apply-{number}" for number in range(WRITERS)]
    with ExitStack() as stack:
        writers = [start_writer(ledger_url, name, stack) for name in names]
        assert [heard(writer) for writer in writers] == ["ready"] * WRITERS
        for writer in writers:
            release(writer)
        assert [writer.wait() for writer in writers] == [0] * WRITERS
    ledger = Ledger(ledger_url)
    assert {run.id: (run.who, run.ended_utc) for run in ledger.runs()} == {
        name: (name, NOW_UTC) for name in names
    }
    for name in names:
        assert [row.step_id for row in ledger.steps(name)] == [str(n) for n in range(STEPS)]
    assert len(ledger.snoozes(NOW_UTC - timedelta(days=1))) == WRITERS * STEPS
    assert ledger.baselines() == {name: name for name in names}
    found = ledger.check()
    # One plan for all, and for each run its beginning, its baseline and its end.
    assert (found.misfit, found.entries) == (None, 1 + WRITERS * (3 + 2 * STEPS))


def test_what_a_killed_writer_said_is_kept_is_there_and_the_chain_fits(ledger_url: str) -> None:
    with ExitStack() as stack:
        killed = start_writer(ledger_url, "apply-1", stack)
        other = start_writer(ledger_url, "apply-2", stack)
        assert (heard(killed), heard(other)) == ("ready", "ready")
        release(killed)
        release(other)
        assert [heard(killed) for _ in range(3)] == ["0", "1", "2"]
        killed.kill()
        assert other.wait() == 0
    ledger = Ledger(ledger_url)
    assert len(ledger.steps("apply-1")) >= 3
    assert [run.ended_utc is None for run in sorted(ledger.runs(), key=lambda run: run.id)] == [
        True,
        False,
    ]
    assert ledger.check().misfit is None


VERSION_1 = """
CREATE TABLE plans (digest TEXT NOT NULL, document JSON NOT NULL, PRIMARY KEY (digest));
CREATE TABLE runs (
    id TEXT NOT NULL, kind TEXT NOT NULL, plan_id TEXT NOT NULL, plan_digest TEXT NOT NULL,
    undoes TEXT, scenario TEXT NOT NULL, who TEXT NOT NULL, started_utc TEXT NOT NULL,
    ended_utc TEXT, PRIMARY KEY (id), FOREIGN KEY(plan_digest) REFERENCES plans (digest),
    FOREIGN KEY(undoes) REFERENCES runs (id));
CREATE TABLE steps (
    "row" INTEGER NOT NULL, run_id TEXT NOT NULL, step_id TEXT NOT NULL, resource_id TEXT NOT NULL,
    setting TEXT NOT NULL, "before" JSON, "after" JSON, how TEXT NOT NULL, inverse JSON,
    status TEXT NOT NULL, detail TEXT NOT NULL, who TEXT NOT NULL, at_utc TEXT NOT NULL,
    PRIMARY KEY ("row"), FOREIGN KEY(run_id) REFERENCES runs (id));
CREATE TABLE baselines (
    run_id TEXT NOT NULL, document JSON NOT NULL, PRIMARY KEY (run_id),
    FOREIGN KEY(run_id) REFERENCES runs (id));
CREATE TABLE snoozes (
    "row" INTEGER NOT NULL, finding_id TEXT NOT NULL, author TEXT NOT NULL, reason TEXT NOT NULL,
    until_utc TEXT NOT NULL, PRIMARY KEY ("row"));
CREATE INDEX ix_steps_run_id ON steps (run_id);
INSERT INTO plans VALUES ('d1', '{"id": "plan-1"}');
INSERT INTO runs VALUES
    ('apply-1', 'apply', 'plan-1', 'd1', NULL, 'balanced', 'ana',
     '2026-01-26T00:00:00Z', '2026-01-26T00:05:00Z'),
    ('rollback-1', 'rollback', 'plan-1', 'd1', 'apply-1', 'balanced', 'ben',
     '2026-01-27T00:00:00Z', NULL);
INSERT INTO baselines VALUES ('apply-1', '{"k": 1.01}'), ('rollback-1', 'null');
INSERT INTO steps VALUES
    (1, 'apply-1', 's1', '/r', 'minNodeCount', '2', '0', 'patch', '{"value": 2}', 'intended', '',
     'ana', '2026-01-26T00:01:00Z'),
    (2, 'apply-1', 's1', '/r', 'minNodeCount', '2', '0', 'patch', '{"value": 2}', 'done', '',
     'ana', '2026-01-26T00:02:00Z'),
    (3, 'rollback-1', 's1', '/r', 'idle', 'null', '"PT10M \\u00e9"', 'patch', NULL, 'failed',
     'Azure refused it.', 'ben', '2026-01-27T00:01:00Z');
INSERT INTO snoozes VALUES
    (1, 'f1', 'ana', 'launch', '2026-02-01T00:00:00Z'),
    (2, 'f1', 'ben', 'the launch is late', '2026-03-01T00:00:00Z');
PRAGMA user_version = 1;
"""


@pytest.fixture
def version_1(tmp_path: Path) -> Path:
    path = tmp_path / "ledger.sqlite"
    with sqlite3.connect(path) as old:
        old.executescript(VERSION_1)
    old.close()
    return path


def test_a_ledger_of_version_1_is_taken_over_without_loss(version_1: Path) -> None:
    ledger = new_ledger(version_1.parent)
    apply_1, rollback_1 = ledger.runs()
    assert apply_1 == replace(RUN, ended_utc=NOW_UTC.replace(minute=5), started_utc=NOW_UTC)
    assert rollback_1 == replace(
        RUN,
        id="rollback-1",
        kind="rollback",
        undoes="apply-1",
        who="ben",
        started_utc=NOW_UTC + timedelta(days=1),
    )
    done = StepRow(
        run_id="apply-1",
        step_id="s1",
        resource_id="/r",
        setting="minNodeCount",
        before=2,
        after=0,
        how="patch",
        inverse={"value": 2},
        status="done",
        detail="",
        who="ana",
        at_utc=NOW_UTC + timedelta(minutes=2),
    )
    assert ledger.steps() == (
        replace(done, status=INTENDED, at_utc=NOW_UTC + timedelta(minutes=1)),
        done,
        replace(
            done,
            run_id="rollback-1",
            setting="idle",
            before=None,
            after="PT10M é",
            inverse=None,
            status="failed",
            detail="Azure refused it.",
            who="ben",
            at_utc=NOW_UTC + timedelta(days=1, minutes=1),
        ),
    )
    assert ledger.plans() == {"d1": {"id": "plan-1"}}
    assert ledger.baselines() == {"apply-1": {"k": 1.01}, "rollback-1": None}
    (snooze,) = ledger.snoozes(NOW_UTC)
    assert (snooze.author, snooze.reason) == ("ben", "the launch is late")
    # A plan, two runs with their baselines, three rows of steps, one end and two snoozes.
    assert (ledger.check().misfit, ledger.check().entries) == (None, 11)


def test_a_ledger_is_taken_over_once_and_goes_on(version_1: Path) -> None:
    head = new_ledger(version_1.parent).head()
    assert new_ledger(version_1.parent).head() == head
    ledger = new_ledger(version_1.parent)
    ledger.end_run("rollback-1", NOW_UTC, who="ben")
    assert (ledger.check(noted_head=head).misfit, ledger.check().entries) == (None, 12)
    with sqlite3.connect(version_1) as now:
        tables = now.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()
    now.close()
    assert tables == [("ledger_entries",)]


def test_a_takeover_that_is_cut_short_leaves_version_1_as_it_was(version_1: Path) -> None:
    with sqlite3.connect(version_1) as old:
        old.execute("UPDATE baselines SET document = '{' WHERE run_id = 'rollback-1'")
    old.close()
    with pytest.raises(LedgerError, match="cannot be understood"):
        new_ledger(version_1.parent).runs()
    with sqlite3.connect(version_1) as old:
        assert old.execute("PRAGMA user_version").fetchone() == (1,)
        assert old.execute("SELECT count(*) FROM steps").fetchone() == (3,)
        assert old.execute(
            "SELECT count(*) FROM sqlite_master WHERE name = 'ledger_entries'"
        ).fetchone() == (0,)
    old.close()


def test_reading_asks_the_database_no_more_often_for_a_long_history(ledger_url: str) -> None:
    ledger = Ledger(ledger_url)

    def questions() -> int:
        asked: list[str] = []

        def note(_connection: object, _cursor: object, statement: str, *_rest: object) -> None:
            asked.append(statement)

        sa.event.listen(ledger._database.engine, "before_cursor_execute", note)
        assert runs(ledger)
        assert applied_with_baselines(ledger)
        sa.event.remove(ledger._database.engine, "before_cursor_execute", note)
        return len(asked)

    apply_here(plan_of(THREE[:1]), MemoryDoor(), ledger)
    few = questions()
    for number in range(2, 5):
        apply_here(plan_of(THREE[:number] if number < 4 else THREE[1:]), MemoryDoor(), ledger)
    assert questions() == few
