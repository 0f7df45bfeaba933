"""Puts back what an apply changed, in reverse order and with the same care."""

from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from typing import Any

from optimizer.errors import PlanError
from optimizer.model import How
from optimizer.remediation.apply import Rules, carry_out, close_interrupted
from optimizer.remediation.history import Record, records, undone
from optimizer.remediation.outcomes import Outcome, Run, Status
from optimizer.remediation.requirements import RESOURCE
from optimizer.remediation.writes import Door, Move
from optimizer.store.ledger import Ledger, RunRow, StepRow, new_run_id

_NAMED_IN_ERRORS = 5


def rollback(
    run_id: str,
    *,
    door: Door,
    ledger: Ledger,
    who: str,
    on_outcome: Callable[[Outcome], None],
    parallel: int = 1,
) -> Run:
    """Write back the values that an apply found, last change first.

    A setting that somebody changed after the apply is left alone (drifted); a step that the apply
    did not change stays so (unchanged). An interrupted apply is ended first, an interrupted
    rollback is carried on under its own id. It asks for no approval and waits for no maintenance
    window: what it puts back stood before, and whoever needs it needs it now.

    Raises:
        PlanError: there is no such apply, or it was rolled back already.
        UnreachableError: Azure gave no answer; run again to carry on.
        UnauthorizedError: the token was refused; run again to carry on.
        LedgerError: the ledger cannot be written, or somebody else is at work.
    """
    with ledger.hold():
        _find(run_id, records(ledger))
        begun = _interrupted(run_id, records(ledger))
        close_interrupted(door, ledger, who, keep=begun)
        every = records(ledger)
        target = _find(run_id, every)
        earlier = undone(run_id, [record for record in every if record.run != begun])
        _check_something_left(target, earlier, every)
        run = begun or _begin(target.run, door.now_utc(), ledger, who)
        moves = [_inverse(row, earlier) for row in reversed(list(target.steps.values()))]
        return carry_out(
            moves,
            run,
            door=door,
            ledger=ledger,
            who=who,
            on_outcome=on_outcome,
            rules=Rules(parallel=parallel),
        )


def _find(run_id: str, every: Iterable[Record]) -> Record:
    applies = [record for record in every if record.run.kind == "apply"]
    for record in applies:
        if record.run.id == run_id:
            return record
    latest = [record.run.id for record in reversed(applies)][:_NAMED_IN_ERRORS]
    there_are = f"the latest are {', '.join(latest)}" if latest else "nothing was applied yet"
    raise PlanError(f"No apply is called {run_id}: {there_are}.")


def _interrupted(run_id: str, every: Iterable[Record]) -> RunRow | None:
    runs = (record.run for record in every if record.run.undoes == run_id)
    return next((run for run in runs if run.ended_utc is None), None)


def _check_something_left(
    target: Record, earlier: Mapping[str, StepRow], every: Iterable[Record]
) -> None:
    changed = {row.step_id for row in target.changed() if row.setting != RESOURCE}
    left = changed - earlier.keys()
    ended = [r.run for r in every if r.run.undoes == target.run.id and r.run.ended_utc]
    if ended and not left:
        raise PlanError(
            f"The run {target.run.id} was rolled back on {ended[-1].ended_utc:%Y-%m-%d} as run "
            f"{ended[-1].id}: nothing is left to undo."
        )


def _inverse(row: StepRow, earlier: Mapping[str, StepRow]) -> Move:
    kept: Any = row.inverse or {"value": row.before}
    needless = _needless(row, earlier)
    return Move(
        step_id=row.step_id,
        resource_id=row.resource_id,
        setting=row.setting,
        before=row.after,
        after=kept["value"],
        how=How(row.how),
        put={**kept.get("put", {}), **kept.get("back", {})},
        needless=needless,
        withheld=_DELETED if row.setting == RESOURCE and needless is None else None,
    )


_DELETED = "It was deleted, and nothing brings it back; the ledger holds its last document."


def _needless(row: StepRow, earlier: Mapping[str, StepRow]) -> str | None:
    if row.status != Status.DONE:
        return f"The run {row.run_id} did not change it."
    if row.step_id in earlier:
        return f"The run {earlier[row.step_id].run_id} put it back."
    return None


def _begin(target: RunRow, now_utc: datetime, ledger: Ledger, who: str) -> RunRow:
    run = RunRow(
        id=new_run_id("rollback", target.plan_digest, now_utc, len(ledger.runs())),
        kind="rollback",
        plan_id=target.plan_id,
        plan_digest=target.plan_digest,
        undoes=target.id,
        scenario=target.scenario,
        who=who,
        started_utc=now_utc,
        ended_utc=None,
    )
    ledger.start_run(run, plan=ledger.plan(target.plan_digest), baseline=None)
    return run
