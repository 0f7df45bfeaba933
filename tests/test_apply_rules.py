"""What a team asks of a run: a second person, its hours, and how much happens at once."""

from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from threading import Barrier, BrokenBarrierError, Lock
from typing import Any

import pytest

from optimizer.config import load_settings
from optimizer.errors import ForbiddenError, NotEndedError, PlanError, UnreachableError
from optimizer.maintenance import Calendar, parse_window
from optimizer.model import Json
from optimizer.remediation.approvals import approve
from optimizer.remediation.history import applied_changes, runs
from optimizer.remediation.outcomes import Run, Status
from optimizer.store.ledger import Ledger
from tests.changes import (
    DOCUMENTS,
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
from tests.estates import cluster

SIX = tuple(cluster(VISION, f"gpu-{letter}", minimum=1) for letter in "abcdef")
PLAN_OF_SIX = plan_of([finding(of, MIN_NODES, 0) for of in SIX], documents=SIX)


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    return new_ledger(tmp_path)


@pytest.fixture
def door() -> MemoryDoor:
    return MemoryDoor()


def statuses(run: Run) -> list[Status]:
    return [outcome.status for outcome in run.outcomes]


# Approval


def agree(ledger: Ledger, who: str, *, hours: float = 72, **plan: Any) -> None:
    approve(plan_of(**plan), ledger, who=who, at_utc=NOW_UTC, hours=hours, comment="")


def refusal(door: MemoryDoor, ledger: Ledger, *, who: str = "ana") -> str:
    with pytest.raises(PlanError) as refused:
        apply_here(plan_of(), door, ledger, who=who, approval_required=True)
    assert door.writes == []
    assert runs(ledger) == ()
    return str(refused.value)


def test_a_plan_that_nobody_approved_is_refused(door: MemoryDoor, ledger: Ledger) -> None:
    assert refusal(door, ledger) == (
        f"The plan {plan_of().id} needs a second person to approve it: ask somebody else to run "
        "`optimizer approve` on it."
    )


@pytest.mark.parametrize("spelled", ["ana", "ANA"])
def test_nobody_is_their_own_second_person(door: MemoryDoor, ledger: Ledger, spelled: str) -> None:
    agree(ledger, spelled)
    assert refusal(door, ledger) == (
        f"The plan {plan_of().id} needs a second person to approve it, and so far only ana did, "
        "who applies it: ask somebody else to run `optimizer approve` on it."
    )


def test_an_approval_runs_out(door: MemoryDoor, ledger: Ledger) -> None:
    agree(ledger, "ben", hours=1 / 3600)  # the door's clock is a second on when it is first asked
    assert refusal(door, ledger) == (
        f"The approval of the plan {plan_of().id} by ben expired on 2026-01-26 00:00 UTC: ask for "
        "a new one with `optimizer approve`."
    )


def test_an_approval_binds_to_the_plan_as_it_is(door: MemoryDoor, ledger: Ledger) -> None:
    agree(ledger, "ben", made_at_utc=NOW_UTC - timedelta(days=1))
    assert "needs a second person" in refusal(door, ledger)


def test_an_edited_plan_cannot_be_approved(ledger: Ledger) -> None:
    edited = plan_of().model_copy(update={"scenario": "maximum"})
    with pytest.raises(PlanError, match="was edited by hand"):
        approve(edited, ledger, who="ben", at_utc=NOW_UTC, hours=1, comment="")
    assert ledger.approvals(edited.digest) == ()


def test_a_second_persons_word_is_enough(door: MemoryDoor, ledger: Ledger) -> None:
    agree(ledger, "ana")
    agree(ledger, "ben")
    run = apply_here(plan_of(), door, ledger, approval_required=True)
    assert statuses(run) == [Status.DONE] * 3


def test_an_approval_is_asked_for_where_the_team_says_so() -> None:
    assert not load_settings({}).apply.require_approval
    assert load_settings({"OPTIMIZER_REQUIRE_APPROVAL": "true"}).apply.require_approval
    assert load_settings({"OPTIMIZER_USER": "ben@contoso.com"}).who == "ben@contoso.com"


# Maintenance windows; the door's clock says Monday 2026-01-26, a second later each time


def test_what_lies_outside_its_window_waits_and_the_same_command_carries_on(
    door: MemoryDoor, ledger: Ledger
) -> None:
    closed = Calendar(windows=(parse_window("Sat 00:00-06:00"),))
    first = apply_here(plan_of(), door, ledger, calendar=closed)
    assert statuses(first) == [Status.SKIPPED] * 3
    assert first.outcomes[0].detail == (
        "Outside the maintenance window: the next opens on Sat 2026-01-31 00:00 UTC, when the same "
        "command carries on."
    )
    assert (door.writes, applied_changes(ledger)) == ([], ())
    second = apply_here(
        plan_of(), door, ledger, calendar=Calendar(windows=(parse_window("Mon 00:00-01:00"),))
    )
    assert statuses(second) == [Status.DONE] * 3


def test_a_window_that_closes_during_a_run_ends_it_between_two_steps(ledger: Ledger) -> None:
    class Slow(MemoryDoor):
        def patch(self, resource_id: str, body: Json) -> dict[str, Any]:
            self._now_utc += timedelta(minutes=40)
            return super().patch(resource_id, body)

    calendar = Calendar(windows=(parse_window("Mon 00:00-01:00"),))
    run = apply_here(PLAN_OF_SIX, Slow(SIX), ledger, known=SIX, calendar=calendar)
    assert statuses(run) == [Status.DONE] * 2 + [Status.SKIPPED] * 4
    assert {outcome.at_utc.hour for outcome in run.outcomes[:2]} == {0, 1}


def test_a_rollback_waits_for_no_window(door: MemoryDoor, ledger: Ledger) -> None:
    run = apply_here(plan_of(), door, ledger)
    assert statuses(roll_back_here(run.id, door, ledger)) == [Status.DONE] * 3


# What Azure does not end


class Undecided(MemoryDoor):
    """Its PATCHes do not end in time, and take effect when `decide` is called."""

    def __init__(self) -> None:
        super().__init__()
        self._left: list[Callable[[], object]] = []
        self.patience = "The change of gpu-kept has not ended after 30 min."
        self.busy: set[str] = set()

    def patch(self, resource_id: str, body: Json) -> dict[str, Any]:
        self._left.append(lambda: MemoryDoor.patch(self, resource_id, body))
        self.busy.add(resource_id)
        raise NotEndedError(self.patience)

    def settled(self, resource_id: str) -> dict[str, Any]:
        if resource_id in self.busy:
            raise NotEndedError(self.patience)
        return super().settled(resource_id)

    def decide(self, *, for_us: bool = True) -> None:
        self.busy.clear()
        for write in self._left if for_us else []:
            write()


def test_what_has_not_ended_is_pending_and_the_rest_goes_on(ledger: Ledger) -> None:
    door = Undecided()
    run = apply_here(plan_of(), door, ledger)
    assert statuses(run) == [Status.PENDING, Status.PENDING, Status.DONE]
    assert run.outcomes[0].detail == door.patience
    assert run.ended_utc is None
    assert [change.resource_id for change in applied_changes(ledger)] == [
        plan_of().steps[2].resource_id
    ]


def test_nothing_more_is_asked_of_a_resource_that_has_not_ended(ledger: Ledger) -> None:
    door = Undecided()
    both = (finding(KEPT, MIN_NODES, 0), finding(KEPT, IDLE_TIME, "PT5M"))
    run = apply_here(plan_of(both), door, ledger)
    assert statuses(run) == [Status.PENDING, Status.SKIPPED]
    assert run.outcomes[1].detail == ("A change of the same resource before it has not ended yet.")


def test_the_same_command_looks_again_and_writes_nothing_twice(ledger: Ledger) -> None:
    door = Undecided()
    first = apply_here(plan_of(), door, ledger)
    again = apply_here(plan_of(), door, ledger)
    assert (again.id, statuses(again)) == (first.id, statuses(first))
    door.decide()
    last = apply_here(plan_of(), door, ledger)
    assert (last.id, statuses(last)) == (first.id, [Status.DONE] * 3)
    assert last.ended_utc is not None
    assert len(door.writes) == 3
    roll_back_here(first.id, MemoryDoor(), ledger)
    assert [row.after for row in ledger.steps()][-1] == 2


def test_another_plan_closes_what_has_not_ended_and_says_so(ledger: Ledger) -> None:
    door = Undecided()
    apply_here(plan_of(THREE[:1]), door, ledger)
    apply_here(plan_of(THREE[2:]), door, ledger)
    _, old = runs(ledger)
    assert [(o.status, o.detail) for o in old.outcomes] == [(Status.FAILED, door.patience)]
    assert old.ended_utc is not None


def test_what_was_begun_is_looked_after_even_outside_its_window(ledger: Ledger) -> None:
    door = Undecided()
    apply_here(plan_of(THREE[:2]), door, ledger)
    door.busy.clear()
    door.set_by_hand(KEPT, MIN_NODES, 0)
    closed = Calendar(windows=(parse_window("Sat 00:00-06:00"),))
    run = apply_here(plan_of(THREE[:2]), door, ledger, calendar=closed)
    assert statuses(run) == [Status.DONE, Status.SKIPPED]
    assert door.setting(SLOW, IDLE_TIME) == "PT2H"


# At once


class Busy(MemoryDoor):
    """Counts how many writes are under way at once, of all resources and of one."""

    def __init__(self, *args: Any, expected: int) -> None:
        super().__init__(*args)
        self._meeting = Barrier(expected)
        self._lock = Lock()
        self._inside: list[str] = []
        self.most = 0
        self.overlapped = False

    def patch(self, resource_id: str, body: Json) -> dict[str, Any]:
        with self._lock:
            self.overlapped |= resource_id in self._inside
            self._inside.append(resource_id)
            self.most = max(self.most, len(self._inside))
        with suppress(BrokenBarrierError):  # fewer met than were expected: `most` tells
            self._meeting.wait(timeout=5)
        with self._lock:
            self._inside.remove(resource_id)
            return super().patch(resource_id, body)


def test_resources_are_changed_at_once_up_to_the_limit(ledger: Ledger) -> None:
    door = Busy(SIX, expected=3)
    run = apply_here(PLAN_OF_SIX, door, ledger, known=SIX, parallel=3)
    assert statuses(run) == [Status.DONE] * 6
    assert door.most == 3
    assert {door.setting(of, MIN_NODES) for of in SIX} == {0}


def test_the_steps_of_one_resource_follow_one_another_in_their_order(ledger: Ledger) -> None:
    both = [
        one for of in SIX[:2] for one in (finding(of, MIN_NODES, 0), finding(of, IDLE_TIME, "PT5M"))
    ]
    door = Busy(SIX[:2], expected=2)
    plan = plan_of(both, documents=SIX[:2])
    run = apply_here(plan, door, ledger, known=SIX[:2], parallel=4)
    assert statuses(run) == [Status.DONE] * 4
    assert not door.overlapped
    for of in SIX[:2]:
        mine = [row.setting for row in ledger.steps(run.id) if row.resource_id == of["id"].lower()]
        assert mine == [MIN_NODES, MIN_NODES, IDLE_TIME, IDLE_TIME]  # intent and outcome of each
        assert (door.setting(of, MIN_NODES), door.setting(of, IDLE_TIME)) == (0, "PT5M")


def test_failures_of_several_at_once_still_end_a_run(ledger: Ledger) -> None:
    many = tuple(cluster(VISION, f"gpu-{number:02}", minimum=1) for number in range(20))
    door = MemoryDoor(many)
    for of in many:
        door.refuse[f"patch {of['name']}"] = ForbiddenError("No.")
    plan = plan_of([finding(of, MIN_NODES, 0) for of in many], documents=many)
    run = apply_here(plan, door, ledger, known=many, parallel=4)
    failed = statuses(run).count(Status.FAILED)
    assert 3 <= failed <= 6  # three, and what the other three had begun
    assert statuses(run).count(Status.SKIPPED) == 20 - failed
    assert run.ended_utc is not None


def test_a_lost_connection_begins_nothing_new_and_keeps_what_ended(ledger: Ledger) -> None:
    door = MemoryDoor(SIX)
    door.refuse["patch gpu-a"] = UnreachableError("localhost:1 does not answer.")
    with pytest.raises(UnreachableError, match="the same command carries on with it"):
        apply_here(PLAN_OF_SIX, door, ledger, known=SIX, parallel=2)
    (left,) = runs(ledger)
    assert left.ended_utc is None
    written = len(door.writes)
    assert statuses(left) == [Status.DONE] * written
    door.refuse.clear()
    whole = apply_here(PLAN_OF_SIX, door, ledger, known=SIX, parallel=2)
    assert (whole.id, sorted(statuses(whole))) == (left.id, [Status.DONE] * 6)
    assert len(door.writes) == 6


def test_ctrl_c_lets_what_is_under_way_end_and_begins_nothing_new(ledger: Ledger) -> None:
    door = MemoryDoor(SIX)

    def press(_: object) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        apply_here(PLAN_OF_SIX, door, ledger, known=SIX, on_outcome=press)
    (left,) = runs(ledger)
    assert (left.ended_utc, statuses(left)) == (None, [Status.DONE])
    run = apply_here(PLAN_OF_SIX, door, ledger, known=SIX, parallel=4)
    assert (run.id, len(door.writes)) == (left.id, 6)


def test_the_outcomes_of_a_plan_do_not_depend_on_how_much_is_done_at_once(tmp_path: Path) -> None:
    def ended(parallel: int) -> list[tuple[str, str, str]]:
        door = MemoryDoor()
        door.set_by_hand(SLOW, IDLE_TIME, "PT3H")
        ledger = new_ledger(tmp_path / str(parallel))
        run = apply_here(plan_of(), door, ledger, known=DOCUMENTS, parallel=parallel)
        return sorted((o.step_id, o.status, o.detail) for o in run.outcomes)

    assert ended(1) == ended(4)
