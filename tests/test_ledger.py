import os
import sqlite3
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from optimizer.errors import LedgerError
from optimizer.store.ledger import (
    Approval,
    Ledger,
    Snooze,
    new_run_id,
)
from tests.changes import NOW_UTC, new_ledger
from tests.ledgers import RUN, STEP
from tests.postgres import ESCAPED


@pytest.fixture
def ledger(ledger_url: str) -> Ledger:
    return Ledger(ledger_url)


@pytest.fixture
def begun(ledger: Ledger) -> Ledger:
    ledger.start_run(RUN, plan={"id": "plan-1"}, baseline={"k": 1.01})
    return ledger


def test_a_new_ledger_is_empty(ledger: Ledger) -> None:
    assert (ledger.runs(), ledger.steps(), ledger.snoozes(NOW_UTC)) == ((), (), ())
    assert (ledger.plan("d1"), ledger.baseline("apply-1")) == (None, None)


def test_a_run_is_kept_with_its_plan_and_baseline(begun: Ledger) -> None:
    assert begun.runs() == (RUN,)
    assert begun.plan("d1") == {"id": "plan-1"}
    assert begun.baseline("apply-1") == {"k": 1.01}


def test_a_run_that_ended_says_when(begun: Ledger) -> None:
    begun.end_run("apply-1", NOW_UTC + timedelta(minutes=5), who="ben")
    assert begun.runs() == (replace(RUN, ended_utc=NOW_UTC + timedelta(minutes=5)),)


def test_runs_come_oldest_first_and_share_a_plan(begun: Ledger) -> None:
    again = replace(RUN, id="apply-0", started_utc=NOW_UTC - timedelta(days=1))
    begun.start_run(again, plan={"id": "plan-1"}, baseline=None)
    assert [run.id for run in begun.runs()] == ["apply-1", "apply-0"]


def test_rows_of_steps_come_in_the_order_written(begun: Ledger) -> None:
    done = replace(STEP, status="done", at_utc=NOW_UTC + timedelta(seconds=2))
    for row in (STEP, done):
        begun.add_step(row)
    assert begun.steps("apply-1") == (STEP, done)
    assert begun.steps("apply-2") == ()


@pytest.mark.parametrize("value", [None, 0, "PT10M", ["a"], {"a": None}, True])
def test_any_json_value_comes_back_as_it_was(begun: Ledger, value: object) -> None:
    row = replace(STEP, before=value, after=value)  # type: ignore[arg-type]
    begun.add_step(row)
    assert begun.steps() == (row,)


def test_a_step_of_no_run_is_refused(ledger: Ledger) -> None:
    with pytest.raises(LedgerError, match="knows no run apply-1"):
        ledger.add_step(STEP)
    with pytest.raises(LedgerError, match="knows no run apply-1"):
        ledger.end_run("apply-1", NOW_UTC, who="ana")
    assert ledger.head() == ""


def test_a_second_run_of_the_same_name_is_refused(begun: Ledger) -> None:
    with pytest.raises(LedgerError, match="has a run apply-1 already"):
        begun.start_run(RUN, plan={"id": "plan-1"}, baseline=None)
    assert begun.runs() == (RUN,)


def test_a_second_ledger_in_the_same_place_sees_each_row(begun: Ledger, ledger_url: str) -> None:
    begun.add_step(STEP)
    assert Ledger(ledger_url).steps() == (STEP,)


def test_many_may_write_at_once(begun: Ledger, ledger_url: str) -> None:
    def write(number: int) -> None:
        Ledger(ledger_url).add_step(replace(STEP, step_id=f"step-{number}"))

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(write, range(40)))
    assert {row.step_id for row in begun.steps()} == {f"step-{number}" for number in range(40)}


def test_many_may_be_first_at_once(ledger_url: str) -> None:
    def snooze(number: int) -> None:
        Ledger(ledger_url).snooze(
            Snooze(finding_id=f"f{number}", author="ana", reason="", until_utc=NOW_UTC), NOW_UTC
        )

    with ThreadPoolExecutor(16) as threads:
        list(threads.map(snooze, range(16)))
    assert len(Ledger(ledger_url).snoozes(NOW_UTC - timedelta(days=1))) == 16
    assert Ledger(ledger_url).check().entries == 16


def test_a_new_file_that_another_program_is_making_is_waited_for(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    other = sqlite3.connect(path)
    other.execute("BEGIN IMMEDIATE")
    with ThreadPoolExecutor(1) as threads:
        runs = threads.submit(Ledger(f"sqlite:///{path}").runs)
        with pytest.raises(TimeoutError):  # neither an answer nor an error while it is being made
            runs.result(timeout=1)
        other.rollback()
        assert runs.result() == ()
    other.close()


def test_the_latest_snooze_of_a_finding_holds_until_it_ends(ledger: Ledger) -> None:
    week = Snooze(
        finding_id="f1", author="ana", reason="migrating", until_utc=NOW_UTC + timedelta(days=7)
    )
    day = replace(week, author="ben", until_utc=NOW_UTC + timedelta(days=1))
    for snooze in (week, replace(week, finding_id="f2"), day):
        ledger.snooze(snooze, NOW_UTC)
    assert ledger.snoozes(NOW_UTC) == (day, replace(week, finding_id="f2"))
    assert ledger.snoozes(NOW_UTC + timedelta(days=2)) == (replace(week, finding_id="f2"),)


def test_every_approval_of_a_plan_is_told_oldest_first(ledger: Ledger) -> None:
    first = Approval(
        plan_digest="d1",
        plan_id="plan-1",
        who="ben",
        at_utc=NOW_UTC,
        until_utc=NOW_UTC + timedelta(days=7),
        comment="after the release",
    )
    ended = replace(first, who="cleo", until_utc=NOW_UTC - timedelta(days=1), comment="")
    for approval in (first, replace(first, plan_digest="d2"), ended):
        ledger.approve(approval)
    assert ledger.approvals("d1") == (first, ended)
    assert ledger.approvals("d3") == ()


def test_run_ids_can_be_typed_and_differ() -> None:
    ids = {new_run_id("apply", "d1", NOW_UTC, number) for number in range(100)}
    assert len(ids) == 100
    assert all(id_.startswith("apply-20260126-") and len(id_) == 21 for id_ in ids)


def test_only_one_may_hold_it(ledger: Ledger, ledger_url: str) -> None:
    with ledger.hold(), pytest.raises(LedgerError) as refused, Ledger(ledger_url).hold():
        pass
    where = ledger_url.removeprefix("sqlite:///").replace(f"postgres:{ESCAPED}@", "")
    assert str(refused.value) == (
        f"Another apply or rollback is at work on {where}: "
        "wait until it has ended, then run this again."
    )
    with Ledger(ledger_url).hold():
        assert ledger.runs() == ()


def test_who_holds_it_keeps_others_from_nothing_else(ledger: Ledger, ledger_url: str) -> None:
    with ledger.hold():
        Ledger(ledger_url).start_run(RUN, plan={}, baseline=None)
        ledger.add_step(STEP)
    assert (ledger.runs(), ledger.steps()) == ((RUN,), (STEP,))


def test_whoever_dies_lets_go(ledger: Ledger, ledger_url: str) -> None:
    program = (
        "import sys\n"
        "from optimizer.store.ledger import Ledger\n"
        "with Ledger(sys.argv[1]).hold():\n"
        "    print('held', flush=True)\n"
        "    sys.stdin.read()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program, ledger_url],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as holder:
        assert holder.stdout
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(LedgerError, match="is at work on"), ledger.hold():
            pass
        holder.kill()
        holder.wait()
    _hold_soon(ledger)
    assert ledger.runs() == ()


def _hold_soon(ledger: Ledger) -> None:
    """Hold it once; a server needs a moment to see that a client died, and has 30 seconds."""
    give_up = time.monotonic() + 30
    while True:
        try:
            with ledger.hold():
                return
        except LedgerError:
            if time.monotonic() > give_up:
                raise


def test_a_damaged_file_is_one_sentence(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    path.write_bytes(b"this is no database, whatever its name says" * 100)
    with pytest.raises(LedgerError) as refused:
        new_ledger(tmp_path).runs()
    assert str(refused.value) == (
        f"The ledger {path} is damaged: restore it from a backup, or move it away to begin a new "
        "one, which knows nothing of earlier runs."
    )


def test_a_file_of_a_newer_optimizer_is_one_sentence(tmp_path: Path) -> None:
    assert new_ledger(tmp_path).runs() == ()
    path = tmp_path / "ledger.sqlite"
    newer = sqlite3.connect(path)
    newer.execute("PRAGMA user_version = 3")
    newer.close()
    with pytest.raises(LedgerError) as refused:
        new_ledger(tmp_path).runs()
    assert str(refused.value) == (
        f"The ledger {path} was written by a newer optimizer: upgrade this one."
    )


def test_a_locked_file_is_one_sentence(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    begun = new_ledger(tmp_path)
    begun.start_run(RUN, plan={}, baseline=None)
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    hasty = Ledger(f"sqlite:///{path}", busy_seconds=0.1)
    with pytest.raises(LedgerError) as refused:
        hasty.add_step(STEP)
    other.close()
    assert str(refused.value) == (
        f"The ledger {path} is locked by another program: close it and run this again."
    )
    assert begun.steps() == ()


def test_a_folder_that_cannot_be_made_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    path = tmp_path / "file" / "ledger.sqlite"
    with pytest.raises(LedgerError) as refused:
        Ledger(f"sqlite:///{path}").runs()
    assert str(refused.value).startswith(f"The folder of the ledger {path} cannot be made: ")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_file_that_may_not_be_written_is_one_sentence(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    begun = new_ledger(tmp_path)
    begun.start_run(RUN, plan={}, baseline=None)
    path.chmod(0o400)
    with pytest.raises(LedgerError) as refused:
        begun.add_step(STEP)
    assert str(refused.value) == (
        f"The ledger {path} cannot be opened for writing: check its permissions."
    )


def test_a_folder_in_the_place_of_the_file_is_one_sentence(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    path.mkdir()
    with pytest.raises(LedgerError) as refused:
        new_ledger(tmp_path).runs()
    assert str(refused.value) == (
        f"The ledger {path} cannot be opened for writing: check its permissions."
    )


@pytest.mark.parametrize(
    "address",
    [
        *("sqlite://", "sqlite:///:memory:", "mysql://host/ledger", "postgresql://host"),
        "postgresql://ana:p@ss/word@host/ledger",
    ],
)
def test_only_a_file_or_a_database_can_be_a_ledger(address: str) -> None:
    with pytest.raises(LedgerError) as refused:
        Ledger(address)
    assert str(refused.value) == (
        "A ledger is kept in an SQLite file (sqlite:///folder/ledger.sqlite) or in a PostgreSQL "
        "database (postgresql://user:password@host:5432/database), and its address names neither."
    )
