from pathlib import Path
from typing import Any

import pytest

from optimizer.errors import ForbiddenError, PlanError, UnreachableError
from optimizer.model import Json
from optimizer.remediation.history import applied_changes, runs
from optimizer.remediation.outcomes import Run, Status
from optimizer.store.ledger import Ledger
from tests.changes import (
    FORGOTTEN,
    IDLE_SHUTDOWN,
    IDLE_TIME,
    KEPT,
    MIN_NODES,
    SLOW,
    THREE,
    MemoryDoor,
    apply_here,
    new_ledger,
    plan_of,
    roll_back_here,
)


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    return new_ledger(tmp_path)


@pytest.fixture
def door() -> MemoryDoor:
    return MemoryDoor()


def ends(run: Run) -> list[tuple[str, Status]]:
    return [(o.resource_id.rpartition("/")[2], o.status) for o in run.outcomes]


def settings(door: MemoryDoor) -> list[Json]:
    wanted = ((KEPT, MIN_NODES), (SLOW, IDLE_TIME), (FORGOTTEN, IDLE_SHUTDOWN))
    return [door.setting(of, setting) for of, setting in wanted]


def test_everything_is_put_back_last_change_first(door: MemoryDoor, ledger: Ledger) -> None:
    run = apply_here(plan_of(), door, ledger)
    back = roll_back_here(run.id, door, ledger)
    assert ends(back) == [
        ("ci-forgotten", Status.DONE),
        ("cpu-slow", Status.DONE),
        ("gpu-kept", Status.DONE),
    ]
    assert settings(door) == [2, "PT2H", None]
    assert (back.kind, back.who, back.plan_id) == ("rollback", "ben", run.plan_id)


def test_the_value_put_back_is_spelled_as_azure_had_it(door: MemoryDoor, ledger: Ledger) -> None:
    door.set_by_hand(SLOW, IDLE_TIME, "PT7200S")
    roll_back_here(apply_here(plan_of(), door, ledger).id, door, ledger)
    assert door.setting(SLOW, IDLE_TIME) == "PT7200S"


def test_idle_shutdown_is_unset_by_the_action_that_set_it(door: MemoryDoor, ledger: Ledger) -> None:
    run = apply_here(plan_of(THREE[2:]), door, ledger)
    roll_back_here(run.id, door, ledger)
    assert door.writes[-1] == ("post", "ci-forgotten", {"idleTimeBeforeShutdown": None})


def test_an_idle_shutdown_that_azure_keeps_is_told(door: MemoryDoor, ledger: Ledger) -> None:
    run = apply_here(plan_of(THREE[2:]), door, ledger)
    door.deaf = True
    (outcome,) = roll_back_here(run.id, door, ledger).outcomes
    assert outcome.status is Status.FAILED
    assert outcome.detail == "Azure accepted the change, yet the setting is PT60M."


def test_what_somebody_changed_after_the_apply_is_left_alone(
    door: MemoryDoor, ledger: Ledger
) -> None:
    run = apply_here(plan_of(), door, ledger)
    door.set_by_hand(KEPT, MIN_NODES, 1)
    back = roll_back_here(run.id, door, ledger)
    assert back.outcomes[2].status is Status.DRIFTED
    assert back.outcomes[2].detail == (
        "It is 1 now, not 0: somebody changed it since, so it is left alone."
    )
    assert settings(door) == [1, "PT2H", None]


def test_what_somebody_put_back_already_is_unchanged(door: MemoryDoor, ledger: Ledger) -> None:
    run = apply_here(plan_of(), door, ledger)
    door.set_by_hand(KEPT, MIN_NODES, 2)
    assert ends(roll_back_here(run.id, door, ledger))[2] == ("gpu-kept", Status.UNCHANGED)


def test_what_the_apply_did_not_change_stays(door: MemoryDoor, ledger: Ledger) -> None:
    door.set_by_hand(KEPT, MIN_NODES, 0)
    door.set_by_hand(SLOW, IDLE_TIME, "PT1H")
    run = apply_here(plan_of(), door, ledger)
    back = roll_back_here(run.id, door, ledger)
    assert [(o.status, o.detail) for o in back.outcomes[1:]] == [
        (Status.UNCHANGED, f"The run {run.id} did not change it.")
    ] * 2
    assert settings(door) == [0, "PT1H", None]


def test_the_history_tells_both_newest_first(door: MemoryDoor, ledger: Ledger) -> None:
    run = apply_here(plan_of(), door, ledger)
    back = roll_back_here(run.id, door, ledger)
    assert runs(ledger) == (back, run)


def test_a_change_that_was_put_back_says_when(door: MemoryDoor, ledger: Ledger) -> None:
    run = apply_here(plan_of(), door, ledger)
    assert {change.ended_utc for change in applied_changes(ledger)} == {None}
    back = roll_back_here(run.id, door, ledger)
    ended = [change.ended_utc for change in applied_changes(ledger)]
    assert ended == [outcome.at_utc for outcome in reversed(back.outcomes)]


def test_an_unknown_run_is_refused_with_the_latest_ids(door: MemoryDoor, ledger: Ledger) -> None:
    first = apply_here(plan_of(THREE[:1]), door, ledger)
    second = apply_here(plan_of(THREE[1:]), door, ledger)
    with pytest.raises(PlanError) as refused:
        roll_back_here("apply-1", door, ledger)
    assert str(refused.value) == (
        f"No apply is called apply-1: the latest are {second.id}, {first.id}."
    )


def test_where_nothing_was_applied_there_is_nothing_to_roll_back(
    door: MemoryDoor, ledger: Ledger
) -> None:
    with pytest.raises(PlanError) as refused:
        roll_back_here("apply-1", door, ledger)
    assert str(refused.value) == "No apply is called apply-1: nothing was applied yet."


def test_a_second_rollback_is_refused(door: MemoryDoor, ledger: Ledger) -> None:
    run = apply_here(plan_of(), door, ledger)
    back = roll_back_here(run.id, door, ledger)
    again = apply_here(plan_of(), door, ledger)
    with pytest.raises(PlanError) as refused:
        roll_back_here(run.id, door, ledger)
    assert str(refused.value) == (
        f"The run {run.id} was rolled back on 2026-01-26 as run {back.id}: nothing is left to undo."
    )
    assert settings(door) == [0, "PT10M", "PT60M"]
    assert ends(roll_back_here(again.id, door, ledger)) == ends(back)


def test_what_failed_to_go_back_can_be_tried_again(door: MemoryDoor, ledger: Ledger) -> None:
    run = apply_here(plan_of(), door, ledger)
    door.refuse["patch gpu-kept"] = ForbiddenError("No.")
    first = roll_back_here(run.id, door, ledger)
    assert ends(first)[2] == ("gpu-kept", Status.FAILED)
    door.refuse.clear()
    second = roll_back_here(run.id, door, ledger)
    assert ends(second)[2] == ("gpu-kept", Status.DONE)
    assert second.outcomes[0].detail == f"The run {first.id} put it back."
    assert settings(door) == [2, "PT2H", None]


def test_an_interrupted_rollback_is_carried_on(door: MemoryDoor, ledger: Ledger) -> None:
    run = apply_here(plan_of(), door, ledger)
    door.refuse["patch cpu-slow"] = UnreachableError("localhost:1 does not answer.")
    with pytest.raises(UnreachableError, match="the same command carries on with it"):
        roll_back_here(run.id, door, ledger)
    door.refuse.clear()
    back = roll_back_here(run.id, door, ledger)
    assert [status for _, status in ends(back)] == [Status.DONE] * 3
    assert [r.kind for r in runs(ledger)] == ["rollback", "apply"]
    assert settings(door) == [2, "PT2H", None]


def test_an_interrupted_apply_can_be_rolled_back(door: MemoryDoor, ledger: Ledger) -> None:
    door.refuse["patch cpu-slow"] = UnreachableError("localhost:1 does not answer.")
    with pytest.raises(UnreachableError):
        apply_here(plan_of(), door, ledger)
    door.refuse.clear()
    back = roll_back_here(runs(ledger)[0].id, door, ledger)
    assert ends(back) == [("cpu-slow", Status.UNCHANGED), ("gpu-kept", Status.DONE)]
    assert settings(door) == [2, "PT2H", None]
    assert all(run.ended_utc for run in runs(ledger))


def test_an_apply_ends_an_interrupted_rollback(door: MemoryDoor, ledger: Ledger) -> None:
    run = apply_here(plan_of(), door, ledger)
    door.refuse["patch cpu-slow"] = UnreachableError("localhost:1 does not answer.")
    with pytest.raises(UnreachableError):
        roll_back_here(run.id, door, ledger)
    door.refuse.clear()
    again = apply_here(plan_of(), door, ledger)
    assert [status for _, status in ends(again)] == [
        *(Status.UNCHANGED, Status.UNCHANGED),
        Status.DONE,
    ]
    assert settings(door) == [0, "PT10M", "PT60M"]


def test_an_apply_sees_a_write_that_an_interrupted_rollback_left_open(ledger: Ledger) -> None:
    class LostAnswer(MemoryDoor):
        lost = False

        def patch(self, resource_id: str, body: Json) -> dict[str, Any]:
            document = super().patch(resource_id, body)
            if self.lost:
                raise UnreachableError("localhost:1 does not answer.")
            return document

    door = LostAnswer()
    run = apply_here(plan_of(THREE[:1]), door, ledger)
    door.lost = True
    with pytest.raises(UnreachableError):
        roll_back_here(run.id, door, ledger)
    door.lost = False
    again = apply_here(plan_of(THREE[:1]), door, ledger)
    assert ends(again) == [("gpu-kept", Status.DONE)]
    assert [change.ended_utc is None for change in applied_changes(ledger)] == [False, True]
