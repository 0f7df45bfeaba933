"""Apply and rollback through the real door, to the emulator, and across `kill -9`."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from optimizer.azure.access import Access
from optimizer.azure.arm import IDLE_SHUTDOWN_API, Arm
from optimizer.config import AzureSettings
from optimizer.errors import UnauthorizedError
from optimizer.model import Json
from optimizer.remediation.documents import patch_body, value_at
from optimizer.remediation.history import applied_changes, runs
from optimizer.remediation.outcomes import Status
from optimizer.remediation.plan import dump
from optimizer.store.ledger import Ledger
from tests.changes import (
    DOCUMENTS,
    FORGOTTEN,
    IDLE_SHUTDOWN,
    IDLE_TIME,
    KEPT,
    MIN_NODES,
    SLOW,
    THREE,
    VISION,
    apply_here,
    finding,
    new_ledger,
    plan_of,
    roll_back_here,
)
from tests.conftest import ROOT, Emulator, running
from tests.estates import write_estate

WASTEFUL = [2, "PT2H", None]
TIDY = [0, "PT10M", "PT60M"]
STATE = {
    "allocationState",
    "allocationStateTransitionTime",
    "currentNodeCount",
    "nodeStateCounts",
    "targetNodeCount",
}
"""What Azure tells of a cluster at work; nobody sets it."""


@pytest.fixture(scope="module")
def emulator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Emulator]:
    folder = tmp_path_factory.mktemp("estates") / "three"
    with running(write_estate(folder, resources=[VISION, *DOCUMENTS])) as emulator:
        yield emulator


@pytest.fixture
def arm(emulator: Emulator) -> Iterator[Arm]:
    settings = AzureSettings(endpoint=emulator.url, ca_file=emulator.ca_file, credential="emulator")
    arm = Arm(Access(settings))
    yield arm
    emulator.heal()
    for of, setting, value in ((KEPT, MIN_NODES, 2), (SLOW, IDLE_TIME, "PT2H")):
        arm.patch(of["id"], patch_body(arm.get(of["id"]), setting, value))
    action = "updateIdleShutdownSetting"
    body: Json = {"idleTimeBeforeShutdown": None}
    arm.post(FORGOTTEN["id"], action, body, api_version=IDLE_SHUTDOWN_API)


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    return new_ledger(tmp_path)


def settings(arm: Arm) -> list[Json]:
    wanted = ((KEPT, MIN_NODES), (SLOW, IDLE_TIME), (FORGOTTEN, IDLE_SHUTDOWN))
    return [value_at(arm.get(of["id"]), setting) for of, setting in wanted]


def writes(emulator: Emulator) -> dict[str, int]:
    """Return how many writes of each kind the emulator has seen."""
    seen = emulator.requests()["by_request"].items()
    counts = {"PATCH": 0, "POST": 0, "PUT": 0}
    for request, count in seen:
        method, _, path = request.partition(" ")
        if method in counts and "/emulator/" not in path:
            counts[method] += count
    return counts


def apply_and_die(emulator: Emulator, folder: Path, moment: str, number: int) -> None:
    dump(plan_of(), folder / "plan.json")
    program = [sys.executable, "-m", "tests.apply_driver", str(folder / "plan.json")]
    ended = subprocess.run(
        [*program, f"sqlite:///{folder / 'ledger.sqlite'}", moment, str(number)],
        cwd=ROOT,
        env=os.environ | emulator.environment,
        check=False,
    )
    assert ended.returncode == -signal.SIGKILL


@pytest.mark.parametrize(
    ("moment", "number", "kept_before"),
    [
        ("meant", 2, 1),
        ("sent", 1, 0),
        ("sent", 3, 2),
        ("told", 1, 1),
        ("told", 3, 3),
    ],
)
def test_after_a_kill_apply_carries_on_as_if_nothing_had_happened(
    emulator: Emulator, arm: Arm, tmp_path: Path, moment: str, number: int, kept_before: int
) -> None:
    before = writes(emulator)
    apply_and_die(emulator, tmp_path, moment, number)
    ledger = new_ledger(tmp_path)
    (killed,) = runs(ledger)
    assert (killed.ended_utc, len(killed.outcomes)) == (None, kept_before)

    run = apply_here(plan_of(), arm, ledger)

    assert settings(arm) == TIDY
    assert run.id == killed.id
    assert run.ended_utc is not None
    assert [outcome.status for outcome in run.outcomes] == [Status.DONE] * 3
    assert len(applied_changes(ledger)) == 3
    made = {method: count - before[method] for method, count in writes(emulator).items()}
    assert made == {"PATCH": 2, "POST": 1, "PUT": 0}


def test_killed_at_any_moment_it_carries_on_as_if_nothing_had_happened(tmp_path: Path) -> None:
    """Sixty kills of the plan of a larger estate: `python -m benchmarks.crash`."""
    estate = write_estate(tmp_path / "estate", resources=[VISION, *DOCUMENTS], days=1)
    dump(plan_of((*THREE, finding(KEPT, IDLE_TIME, "PT5M"))), tmp_path / "plan.json")
    program = [sys.executable, "-m", "benchmarks.crash", str(estate), "--points", "12"]
    ended = subprocess.run(
        [*program, "--plan", str(tmp_path / "plan.json"), "--out", str(tmp_path / "crash.json")],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert "12 kills in a plan of 4 steps, 0 left something wrong." in ended.stdout, (
        ended.stdout + ended.stderr
    )


def test_what_was_killed_can_be_rolled_back(emulator: Emulator, arm: Arm, tmp_path: Path) -> None:
    apply_and_die(emulator, tmp_path, "sent", 2)
    ledger = new_ledger(tmp_path)
    back = roll_back_here(runs(ledger)[0].id, arm, ledger)
    assert [outcome.status for outcome in back.outcomes] == [Status.DONE] * 2
    assert settings(arm) == WASTEFUL


def test_apply_and_rollback_leave_the_estate_as_it_was(arm: Arm, ledger: Ledger) -> None:
    run = apply_here(plan_of(), arm, ledger)
    assert settings(arm) == TIDY
    back = roll_back_here(run.id, arm, ledger)
    assert [outcome.status for outcome in back.outcomes] == [Status.DONE] * 3
    assert settings(arm) == WASTEFUL


def test_nothing_else_of_a_compute_is_touched(arm: Arm, ledger: Ledger) -> None:
    before = [arm.get(of["id"]) for of in DOCUMENTS]
    apply_here(plan_of(), arm, ledger)
    after = [arm.get(of["id"]) for of in DOCUMENTS]
    for old, new in zip(before, after, strict=True):
        was, now = (document["properties"]["properties"] for document in (old, new))
        changed = {name for name in was | now if was.get(name) != now.get(name)}
        assert changed - STATE <= {"scaleSettings", "idleTimeBeforeShutdown"}


def test_the_dates_are_those_of_the_service(emulator: Emulator, arm: Arm, ledger: Ledger) -> None:
    run = apply_here(plan_of(), arm, ledger)
    assert {outcome.at_utc for outcome in run.outcomes} == {emulator.now_utc}


def test_a_missing_permission_fails_one_step_and_is_named(
    emulator: Emulator, arm: Arm, ledger: Ledger
) -> None:
    emulator.fault(status=403, method="PATCH", path_contains="gpu-kept")
    run = apply_here(plan_of(), arm, ledger)
    assert [outcome.status for outcome in run.outcomes] == [
        Status.FAILED,
        Status.DONE,
        Status.DONE,
    ]
    permission = "microsoft.machinelearningservices/workspaces/computes/write"
    assert f"may not perform action '{permission}'" in run.outcomes[0].detail


def test_an_operation_that_fails_is_a_failed_step(
    emulator: Emulator, arm: Arm, ledger: Ledger
) -> None:
    emulator.fault(fail_lro=True, path_contains="gpu-kept")
    run = apply_here(plan_of(), arm, ledger)
    assert run.outcomes[0].status is Status.FAILED
    assert run.outcomes[0].detail == (
        f"Azure started the change of {KEPT['id'].lower()} but it failed: The operation failed."
    )


def test_a_slow_operation_is_waited_for(emulator: Emulator, arm: Arm, ledger: Ledger) -> None:
    emulator.fault(delay_lro=1, path_contains="gpu-kept", times=1)
    run = apply_here(plan_of(), arm, ledger)
    assert run.outcomes[0].status is Status.DONE


def test_a_refused_token_interrupts_and_the_same_command_carries_on(
    emulator: Emulator, arm: Arm, ledger: Ledger
) -> None:
    emulator.fault(status=401, method="PATCH", path_contains="cpu-slow")
    with pytest.raises(UnauthorizedError, match="the same command carries on with it"):
        apply_here(plan_of(), arm, ledger)
    emulator.heal()
    run = apply_here(plan_of(), arm, ledger)
    assert [outcome.status for outcome in run.outcomes] == [Status.DONE] * 3
    assert len(runs(ledger)) == 1
