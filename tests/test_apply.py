from pathlib import Path
from typing import Any

import pytest

from optimizer.errors import (
    AzureError,
    ForbiddenError,
    LedgerError,
    NotFoundError,
    OperationFailedError,
    PlanError,
    UnauthorizedError,
    UnreachableError,
)
from optimizer.model import Json
from optimizer.remediation.history import applied_changes, applied_with_baselines, runs
from optimizer.remediation.outcomes import Outcome, Run, Status
from optimizer.store.ledger import INTENDED, Ledger
from tests.changes import (
    DOCUMENTS,
    FORGOTTEN,
    IDLE_SHUTDOWN,
    IDLE_TIME,
    KEPT,
    MIN_NODES,
    NOW_UTC,
    SLOW,
    THREE,
    VISION,
    MemoryDoor,
    apply_here,
    finding,
    new_ledger,
    plan_of,
    roll_back_here,
)
from tests.estates import OTHER_SUBSCRIPTION, cluster, workspace

FIVE = tuple(cluster(VISION, f"gpu-{letter}", minimum=1) for letter in "abcde")


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    return new_ledger(tmp_path)


@pytest.fixture
def door() -> MemoryDoor:
    return MemoryDoor()


def statuses(run: Run) -> list[Status]:
    return [outcome.status for outcome in run.outcomes]


def settings(door: MemoryDoor) -> list[Json]:
    wanted = ((KEPT, MIN_NODES), (SLOW, IDLE_TIME), (FORGOTTEN, IDLE_SHUTDOWN))
    return [door.setting(of, setting) for of, setting in wanted]


def test_every_change_of_a_plan_is_made(door: MemoryDoor, ledger: Ledger) -> None:
    run = apply_here(plan_of(), door, ledger)
    assert statuses(run) == [Status.DONE] * 3
    assert settings(door) == [0, "PT10M", "PT60M"]
    assert (run.kind, run.scenario, run.who, run.plan_id) == (
        *("apply", "balanced", "ana"),
        plan_of().id,
    )
    assert run.ended_utc is not None


def test_a_cluster_is_patched_with_its_whole_scale_settings(
    door: MemoryDoor, ledger: Ledger
) -> None:
    apply_here(plan_of(THREE[:1]), door, ledger)
    scale = {"minNodeCount": 0, "maxNodeCount": 6, "nodeIdleTimeBeforeScaleDown": "PT120S"}
    assert door.writes == [
        ("patch", "gpu-kept", {"properties": {"properties": {"scaleSettings": scale}}})
    ]


def test_an_instance_is_set_by_the_action(door: MemoryDoor, ledger: Ledger) -> None:
    apply_here(plan_of(THREE[2:]), door, ledger)
    assert door.writes == [("post", "ci-forgotten", {"idleTimeBeforeShutdown": "PT60M"})]


def test_two_settings_of_one_cluster_do_not_undo_each_other(
    door: MemoryDoor, ledger: Ledger
) -> None:
    both = (finding(KEPT, MIN_NODES, 0), finding(KEPT, IDLE_TIME, "PT5M"))
    apply_here(plan_of(both), door, ledger)
    assert (door.setting(KEPT, MIN_NODES), door.setting(KEPT, IDLE_TIME)) == (0, "PT5M")


def test_outcomes_are_told_one_by_one_when_the_ledger_holds_them(
    door: MemoryDoor, ledger: Ledger
) -> None:
    told: list[Outcome] = []

    def tell(outcome: Outcome) -> None:
        told.append(outcome)
        assert runs(ledger)[0].outcomes == tuple(told)

    assert apply_here(plan_of(), door, ledger, on_outcome=tell).outcomes == tuple(told)


def test_what_somebody_changed_since_is_left_alone(door: MemoryDoor, ledger: Ledger) -> None:
    door.set_by_hand(KEPT, MIN_NODES, 3)
    run = apply_here(plan_of(), door, ledger)
    assert statuses(run) == [Status.DRIFTED, Status.DONE, Status.DONE]
    assert run.outcomes[0].detail == (
        "It is 3 now, not 2: somebody changed it since, so it is left alone."
    )
    assert door.setting(KEPT, MIN_NODES) == 3


def test_what_stands_already_is_unchanged(door: MemoryDoor, ledger: Ledger) -> None:
    door.set_by_hand(SLOW, IDLE_TIME, "PT600S")
    run = apply_here(plan_of(), door, ledger)
    assert statuses(run) == [Status.DONE, Status.UNCHANGED, Status.DONE]
    assert run.outcomes[1].detail == "It is PT600S already."
    assert [change.resource_id for change in applied_changes(ledger)] == [
        KEPT["id"].lower(),
        FORGOTTEN["id"].lower(),
    ]


def test_one_length_spelled_in_two_ways_is_no_drift(door: MemoryDoor, ledger: Ledger) -> None:
    door.set_by_hand(SLOW, IDLE_TIME, "PT7200S")
    assert statuses(apply_here(plan_of(), door, ledger)) == [Status.DONE] * 3


@pytest.mark.parametrize(
    ("verb", "error"),
    [
        ("get", NotFoundError("Azure has no gpu-kept (ResourceNotFound): Gone.")),
        ("patch", ForbiddenError("This account may not perform action 'x/write' on gpu-kept.")),
        ("patch", AzureError("Azure answered 409 for gpu-kept (ScopeLocked): It is locked.")),
        ("patch", OperationFailedError("Azure started the change of gpu-kept but it failed: Q.")),
    ],
)
def test_what_azure_refuses_is_a_failed_step_and_the_rest_goes_on(
    door: MemoryDoor, ledger: Ledger, verb: str, error: Exception
) -> None:
    door.refuse[f"{verb} gpu-kept"] = error
    run = apply_here(plan_of(), door, ledger)
    assert statuses(run) == [Status.FAILED, Status.DONE, Status.DONE]
    assert run.outcomes[0].detail == str(error)
    assert settings(door) == [2, "PT10M", "PT60M"]


def test_a_write_that_azure_takes_and_forgets_is_a_failure(
    door: MemoryDoor, ledger: Ledger
) -> None:
    door.deaf = True
    run = apply_here(plan_of(THREE[:1]), door, ledger)
    assert statuses(run) == [Status.FAILED]
    assert run.outcomes[0].detail == "Azure accepted the change, yet the setting is 2."


def test_an_operation_reported_as_failed_may_have_taken_effect(ledger: Ledger) -> None:
    class Misreporting(MemoryDoor):
        def patch(self, resource_id: str, body: Json) -> dict[str, Any]:
            super().patch(resource_id, body)
            raise OperationFailedError("The operation timed out.")

    run = apply_here(plan_of(THREE[:1]), Misreporting(), ledger)
    assert [(o.status, o.detail) for o in run.outcomes] == [
        (Status.DONE, "The operation timed out.")
    ]


def test_three_failures_end_a_run(ledger: Ledger) -> None:
    door = MemoryDoor(FIVE)
    for of in FIVE:
        door.refuse[f"patch {of['name']}"] = ForbiddenError("No.")
    plan = plan_of([finding(of, MIN_NODES, 0) for of in FIVE], documents=FIVE)
    run = apply_here(plan, door, ledger, known=FIVE)
    assert statuses(run) == [Status.FAILED] * 3 + [Status.SKIPPED] * 2
    assert run.outcomes[4].detail == "3 steps before it failed."
    assert run.ended_utc is not None


def test_a_plan_that_was_applied_is_refused(door: MemoryDoor, ledger: Ledger) -> None:
    run = apply_here(plan_of(), door, ledger)
    with pytest.raises(PlanError) as refused:
        apply_here(plan_of(), door, ledger)
    assert str(refused.value) == (
        f"The plan {plan_of().id} was applied on 2026-01-26 as run {run.id}: "
        "make a new plan with `optimizer plan`."
    )
    assert len(runs(ledger)) == 1


def test_a_plan_that_failed_in_part_may_be_applied_again(door: MemoryDoor, ledger: Ledger) -> None:
    door.refuse["patch gpu-kept"] = ForbiddenError("No.")
    apply_here(plan_of(), door, ledger)
    door.refuse.clear()
    again = apply_here(plan_of(), door, ledger)
    assert statuses(again) == [Status.DONE, Status.UNCHANGED, Status.UNCHANGED]
    with pytest.raises(PlanError, match=f"as run {again.id}"):
        apply_here(plan_of(), door, ledger)


def test_a_plan_that_was_rolled_back_may_be_applied_again(door: MemoryDoor, ledger: Ledger) -> None:
    first = apply_here(plan_of(), door, ledger)
    roll_back_here(first.id, door, ledger)
    second = apply_here(plan_of(), door, ledger)
    assert statuses(second) == [Status.DONE] * 3
    assert second.id != first.id


def test_an_edited_plan_is_refused(door: MemoryDoor, ledger: Ledger) -> None:
    edited = plan_of().model_copy(update={"scenario": "maximum"})
    with pytest.raises(PlanError) as refused:
        apply_here(edited, door, ledger)
    assert str(refused.value) == (
        f"The plan {edited.id} was edited by hand: make a new plan with `optimizer plan`."
    )
    assert door.writes == []


def test_a_plan_of_another_subscription_is_refused(door: MemoryDoor, ledger: Ledger) -> None:
    elsewhere = cluster(workspace(subscription=OTHER_SUBSCRIPTION), "gpu-kept", minimum=2)
    plan = plan_of([finding(elsewhere, MIN_NODES, 0)], documents=[elsewhere])
    with pytest.raises(PlanError) as refused:
        apply_here(plan, door, ledger)
    assert str(refused.value) == (
        f"The plan {plan.id} is of another estate: it speaks of subscription "
        f"{OTHER_SUBSCRIPTION}, of which nothing was collected here."
    )


def test_a_plan_of_computes_that_are_not_here_is_refused(door: MemoryDoor, ledger: Ledger) -> None:
    with pytest.raises(PlanError) as refused:
        apply_here(plan_of(), door, ledger, known=[KEPT, SLOW])
    assert str(refused.value) == (
        f"The plan {plan_of().id} is of another estate or out of date: "
        f"{FORGOTTEN['id'].lower()} was not there when last collected, so make a new plan with "
        "`optimizer plan`."
    )
    assert door.writes == []


def test_the_fuse_names_the_option_that_passes_it(door: MemoryDoor, ledger: Ledger) -> None:
    with pytest.raises(PlanError) as refused:
        apply_here(plan_of(), door, ledger, max_steps=2)
    assert str(refused.value) == (
        f"The plan {plan_of().id} has 3 steps and one run makes at most 2: "
        "say --max-steps 3 if you mean it."
    )
    assert statuses(apply_here(plan_of(), door, ledger, max_steps=3)) == [Status.DONE] * 3


def test_two_cannot_apply_at_once(door: MemoryDoor, ledger: Ledger, tmp_path: Path) -> None:
    def meanwhile(_: Outcome) -> None:
        with pytest.raises(LedgerError, match="Another apply or rollback is at work on"):
            apply_here(plan_of(THREE[:1]), MemoryDoor(), new_ledger(tmp_path))

    apply_here(plan_of(), door, ledger, on_outcome=meanwhile)
    assert len(runs(ledger)) == 1


@pytest.mark.parametrize("error", [UnreachableError, UnauthorizedError])
def test_a_lost_connection_interrupts_the_run_and_the_same_command_carries_on(
    door: MemoryDoor, ledger: Ledger, error: type[AzureError]
) -> None:
    door.refuse["patch cpu-slow"] = error("localhost:1 does not answer.")
    with pytest.raises(error) as interrupted:
        apply_here(plan_of(), door, ledger)
    (run,) = runs(ledger)
    assert (run.ended_utc, statuses(run)) == (None, [Status.DONE])
    assert str(interrupted.value) == (
        f"localhost:1 does not answer; the run {run.id} is interrupted and the same command "
        "carries on with it."
    )
    door.refuse.clear()
    whole = apply_here(plan_of(), door, ledger)
    assert (whole.id, statuses(whole)) == (run.id, [Status.DONE] * 3)
    assert [(verb, name) for verb, name, _ in door.writes] == [
        *(("patch", "gpu-kept"), ("patch", "cpu-slow")),
        ("post", "ci-forgotten"),
    ]


def test_nothing_is_kept_where_azure_cannot_be_reached_at_all(ledger: Ledger) -> None:
    class Away(MemoryDoor):
        def now_utc(self) -> Any:
            raise UnreachableError("localhost:1 does not answer.")

    with pytest.raises(UnreachableError, match=r"^localhost:1 does not answer\.$"):
        apply_here(plan_of(), Away(), ledger)
    assert runs(ledger) == ()


class LostAnswer(MemoryDoor):
    """Every PATCH arrives, and the connection is lost before its answer."""

    def patch(self, resource_id: str, body: Json) -> dict[str, Any]:
        super().patch(resource_id, body)
        raise UnreachableError("localhost:1 does not answer.")


def test_a_write_whose_answer_was_lost_is_found_and_counted_as_ours(ledger: Ledger) -> None:
    door = LostAnswer()
    with pytest.raises(UnreachableError):
        apply_here(plan_of(THREE[:1]), door, ledger)
    assert ledger.steps()[-1].status == INTENDED
    run = apply_here(plan_of(THREE[:1]), door, ledger)
    assert [(o.status, o.detail) for o in run.outcomes] == [
        (Status.DONE, "Written before an interruption, and found to stand.")
    ]
    assert len(door.writes) == 1
    roll_back_here(run.id, MemoryDoor(), ledger)
    assert ledger.steps()[-1].after == 2


@pytest.mark.parametrize(
    ("by_hand", "status", "detail"),
    [
        (0, "done", "Written before an interruption, and found to stand."),
        (2, "failed", "Interrupted before it took effect."),
    ],
)
def test_another_plan_ends_an_interrupted_run_and_says_how_its_last_write_ended(
    ledger: Ledger, by_hand: int, status: str, detail: str
) -> None:
    door = LostAnswer()
    with pytest.raises(UnreachableError):
        apply_here(plan_of(), door, ledger)
    door.set_by_hand(KEPT, MIN_NODES, by_hand)
    apply_here(plan_of(THREE[2:]), door, ledger)
    new, old = runs(ledger)
    assert old.ended_utc is not None
    assert [(o.status, o.detail) for o in old.outcomes] == [(status, detail)]
    assert statuses(new) == [Status.DONE]


def test_an_interrupted_write_to_a_compute_that_is_gone_is_a_failure(ledger: Ledger) -> None:
    door = LostAnswer()
    with pytest.raises(UnreachableError):
        apply_here(plan_of(), door, ledger)
    door.refuse["get gpu-kept"] = NotFoundError("Azure has no gpu-kept.")
    apply_here(plan_of(THREE[2:]), door, ledger)
    (outcome,) = runs(ledger)[1].outcomes
    assert outcome.detail == "Interrupted, and not seen since: Azure has no gpu-kept."


def test_the_ledger_holds_intent_before_outcome_with_the_inverse(
    door: MemoryDoor, ledger: Ledger
) -> None:
    door.set_by_hand(SLOW, IDLE_TIME, "PT7200S")
    run = apply_here(plan_of(THREE[1:2]), door, ledger)
    intent, done = ledger.steps(run.id)
    assert (intent.status, done.status) == (INTENDED, "done")
    assert intent.inverse == done.inverse == {"value": "PT7200S"}
    assert (done.before, done.after, done.who) == ("PT2H", "PT10M", "ana")


def test_what_was_applied_is_told_with_its_promise_and_baseline(
    door: MemoryDoor, ledger: Ledger
) -> None:
    apply_here(plan_of(), door, ledger)
    (change, baseline), *_ = applied_with_baselines(ledger)
    assert baseline == {"k": 1.0}
    assert (change.finding_id, change.detector) == (THREE[0].id, "min_nodes_kept")
    assert (change.before, change.after, change.ended_utc) == (2, 0, None)
    assert change.promised_per_month.p50 == 100
    assert change.applied_utc > NOW_UTC


def test_a_plan_without_steps_changes_nothing(door: MemoryDoor, ledger: Ledger) -> None:
    run = apply_here(plan_of(()), door, ledger, known=DOCUMENTS)
    assert (run.outcomes, door.writes) == ((), [])
