"""The one module that writes to Azure: each setting read, compared, written, read back and kept.

Before a write the ledger holds the intent, after it the outcome with its inverse. So whatever
happens between two lines of this file, the same command carries on, and nothing is done that the
ledger does not tell.
"""

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol, TypeVar

from optimizer.azure.arm import IDLE_SHUTDOWN_API
from optimizer.errors import AzureError, PlanError, UnauthorizedError, UnreachableError
from optimizer.model import How, Json
from optimizer.remediation.documents import patch_body, same, value_at
from optimizer.remediation.history import SETTLED, Record, as_outcome, as_run, records, undone
from optimizer.remediation.outcomes import Outcome, Run, Status
from optimizer.remediation.plan import MAKE_A_NEW_PLAN, Plan, subscription_of
from optimizer.remediation.requirements import IDLE_SHUTDOWN_ACTION
from optimizer.store.ledger import INTENDED, Ledger, RunRow, StepRow, new_run_id

MAX_STEPS = 25
"""More in one run need a word from whoever applies it: a fuse, not a limit."""

MAX_FAILURES = 3
"""After so many a run ends: what refuses three times is seldom about one resource."""

T = TypeVar("T")


class Door(Protocol):
    """What writing to Azure needs; `optimizer.azure.arm.Arm` provides it."""

    def now_utc(self) -> datetime:
        """Return the service's time."""

    def get(self, resource_id: str) -> dict[str, Any]:
        """Return one ARM document."""

    def patch(self, resource_id: str, body: Json) -> dict[str, Any]:
        """Merge a partial document into a resource and wait until that is done."""

    def post(self, resource_id: str, action: str, body: Json | None, *, api_version: str) -> Json:
        """Run an action of a resource and wait until that is done."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Move:
    """One setting to bring from one value to another; apply and rollback are made of these."""

    step_id: str
    resource_id: str
    setting: str
    before: Json
    after: Json
    how: How
    needless: str | None = None
    """Why nothing is to be done; None: what Azure says decides."""


def apply(
    plan: Plan,
    *,
    door: Door,
    ledger: Ledger,
    who: str,
    known_resources: Collection[str],
    baseline: Json,
    on_outcome: Callable[[Outcome], None],
    max_steps: int = MAX_STEPS,
) -> Run:
    """Make the changes of a plan that still fit what is there, one after another.

    A setting that somebody changed since is left alone (drifted), one that already stands as
    wanted too (unchanged). After `MAX_FAILURES` failures the rest is skipped. A run that was
    interrupted is carried on under its own id.

    Args:
        plan: what to do.
        door: the way to Azure.
        ledger: where every intent and outcome is kept.
        who: the person or pipeline that answers for it.
        known_resources: the lower-case ids in the inventory last collected.
        baseline: what `verify` will need, frozen now.
        on_outcome: called with each outcome once the ledger holds it.
        max_steps: the fuse.

    Raises:
        PlanError: the plan was edited, is of another estate, is applied already, or is longer
            than the fuse.
        UnreachableError: Azure gave no answer; run again to carry on.
        UnauthorizedError: the token was refused; run again to carry on.
        LedgerError: the ledger cannot be written, or somebody else is at work.
    """
    plan.check_seal()
    _check_estate(plan, known_resources)
    _check_fuse(plan, max_steps)
    with ledger.hold():
        begun = _interrupted(plan, records(ledger))
        close_interrupted(door, ledger, who, keep=begun)
        _check_not_applied(plan, records(ledger))
        run = begun or _begin(plan, door.now_utc(), ledger, who, baseline)
        return carry_out(
            _moves(plan), run, door=door, ledger=ledger, who=who, on_outcome=on_outcome
        )


def carry_out(
    moves: Iterable[Move],
    run: RunRow,
    *,
    door: Door,
    ledger: Ledger,
    who: str,
    on_outcome: Callable[[Outcome], None],
) -> Run:
    """Make the moves of a run that are not settled yet, and end it. Whoever calls holds the ledger.

    Raises:
        UnreachableError: Azure gave no answer; run again to carry on.
        UnauthorizedError: the token was refused; run again to carry on.
    """
    hand = _Hand(run_id=run.id, door=door, ledger=ledger, who=who)
    last = {row.step_id: row for row in ledger.steps(run.id)}
    failures = 0
    with _interruption_explained(run):
        for move in moves:
            row = last.get(move.step_id)
            if row is not None and row.status in SETTLED:
                continue
            if failures >= MAX_FAILURES:
                outcome = hand.end(move, Status.SKIPPED, f"{failures} steps before it failed.")
            else:
                outcome = hand.make(move, row)
            failures += outcome.status is Status.FAILED
            on_outcome(outcome)
        ledger.end_run(run.id, door.now_utc(), who=who)
    return as_run(next(record for record in records(ledger) if record.run.id == run.id))


def close_interrupted(door: Door, ledger: Ledger, who: str, *, keep: RunRow | None) -> None:
    """End every run that was interrupted except `keep`, once it is known how its last write ended.

    Raises:
        UnreachableError: Azure gave no answer.
        UnauthorizedError: the token was refused.
    """
    for record in records(ledger):
        if record.run.ended_utc is None and record.run != keep:
            hand = _Hand(run_id=record.run.id, door=door, ledger=ledger, who=who)
            if intent := record.open_intent():
                hand.look(intent)
            ledger.end_run(record.run.id, door.now_utc(), who=who)


def say(value: Json) -> str:
    """Return a setting's value as people read it.

    >>> say(None), say("PT10M")
    ('not set', 'PT10M')
    """
    return "not set" if value is None else str(value)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Hand:
    """Makes one move at a time, and keeps each in the ledger."""

    run_id: str
    door: Door
    ledger: Ledger
    who: str

    def make(self, move: Move, last: StepRow | None) -> Outcome:
        """Make a move if it still fits; `last` is its row from before an interruption."""
        if move.needless:
            return self.end(move, Status.UNCHANGED, move.needless)
        document = _answer(lambda: self.door.get(move.resource_id))
        if isinstance(document, AzureError):
            return self.end(move, Status.FAILED, str(document))
        current = value_at(document, move.setting)
        if same(current, move.after):
            if last is not None and last.status == INTENDED:
                return self.end(move, Status.DONE, _FOUND_WRITTEN, last.inverse)
            return self.end(move, Status.UNCHANGED, f"It is {say(current)} already.")
        if not same(current, move.before):
            return self.end(
                move,
                Status.DRIFTED,
                f"It is {say(current)} now, not {say(move.before)}: somebody changed it since, "
                "so it is left alone.",
            )
        return self._write(move, document, {"value": current})

    def look(self, intent: StepRow) -> None:
        """Keep how the write that an interruption left open ended."""
        move = _move_of(intent)
        document = _answer(lambda: self.door.get(move.resource_id))
        if isinstance(document, AzureError):
            self.end(move, Status.FAILED, f"Interrupted, and not seen since: {document}")
        elif same(value_at(document, move.setting), move.after):
            self.end(move, Status.DONE, _FOUND_WRITTEN, intent.inverse)
        else:
            self.end(move, Status.FAILED, "Interrupted before it took effect.")

    def end(self, move: Move, status: Status, detail: str, inverse: Json = None) -> Outcome:
        """Keep how a move ended."""
        return as_outcome(self._keep(move, status, detail, inverse))

    def _write(self, move: Move, document: dict[str, Any], inverse: Json) -> Outcome:
        self._keep(move, INTENDED, "", inverse)
        refusal = _answer(lambda: _write(self.door, move, document))
        # What Azure says afterwards counts: an operation reported as failed may have taken effect.
        found = _answer(lambda: self.door.get(move.resource_id))
        if isinstance(found, AzureError):
            return self.end(move, Status.FAILED, str(refusal or found), inverse)
        current = value_at(found, move.setting)
        if same(current, move.after):
            return self.end(move, Status.DONE, str(refusal or ""), inverse)
        silent = f"Azure accepted the change, yet the setting is {say(current)}."
        return self.end(move, Status.FAILED, str(refusal or silent), inverse)

    def _keep(self, move: Move, status: str, detail: str, inverse: Json) -> StepRow:
        row = StepRow(
            run_id=self.run_id,
            step_id=move.step_id,
            resource_id=move.resource_id,
            setting=move.setting,
            before=move.before,
            after=move.after,
            how=move.how,
            inverse=inverse,
            status=status,
            detail=detail,
            who=self.who,
            at_utc=self.door.now_utc(),
        )
        self.ledger.add_step(row)
        return row


@contextmanager
def _interruption_explained(run: RunRow) -> Iterator[None]:
    try:
        yield
    except (UnreachableError, UnauthorizedError) as error:
        raise type(error)(
            f"{str(error).rstrip('.')}; the run {run.id} is interrupted and the same command "
            "carries on with it."
        ) from error


_FOUND_WRITTEN = "Written before an interruption, and found to stand."


def _answer(ask: Callable[[], T]) -> T | AzureError:
    """Return what Azure answers or why it refuses; a lost connection is no step's failure."""
    try:
        return ask()
    except (UnreachableError, UnauthorizedError):
        raise
    except AzureError as error:
        return error


def _write(door: Door, move: Move, document: dict[str, Any]) -> None:
    match move.how:
        case How.PATCH:
            door.patch(move.resource_id, patch_body(document, move.setting, move.after))
        case How.ACTION:
            # Nothing says that it takes null, which a rollback sends; reading back tells. The other
            # way, a PUT of the whole instance, "will overwrite a compute if it exists. This is a
            # nonrecoverable operation" in Azure's words, and somebody's work is on that disk.
            door.post(
                move.resource_id,
                IDLE_SHUTDOWN_ACTION,
                {move.setting.rpartition(".")[2]: move.after},
                api_version=IDLE_SHUTDOWN_API,
            )
        case _:
            raise PlanError(f"{move.setting} of {move.resource_id} is not ours to change.")


def _moves(plan: Plan) -> list[Move]:
    return [
        Move(
            step_id=step.id,
            resource_id=step.resource_id,
            setting=step.setting,
            before=step.before,
            after=step.after,
            how=step.how,
        )
        for step in plan.steps
    ]


def _move_of(row: StepRow) -> Move:
    return Move(
        step_id=row.step_id,
        resource_id=row.resource_id,
        setting=row.setting,
        before=row.before,
        after=row.after,
        how=How(row.how),
    )


def _begin(plan: Plan, now_utc: datetime, ledger: Ledger, who: str, baseline: Json) -> RunRow:
    run = RunRow(
        id=new_run_id("apply", plan.digest, now_utc, len(ledger.runs())),
        kind="apply",
        plan_id=plan.id,
        plan_digest=plan.digest,
        undoes=None,
        scenario=plan.scenario,
        who=who,
        started_utc=now_utc,
        ended_utc=None,
    )
    ledger.start_run(run, plan=plan.document(), baseline=baseline)
    return run


def _interrupted(plan: Plan, every: Iterable[Record]) -> RunRow | None:
    runs = (record.run for record in every)
    mine = (run for run in runs if run.kind == "apply" and run.plan_digest == plan.digest)
    return next((run for run in mine if run.ended_utc is None), None)


def _check_estate(plan: Plan, known_resources: Collection[str]) -> None:
    ours = {subscription_of(resource_id) for resource_id in known_resources}
    if strange := sorted(set(plan.estate) - ours):
        raise PlanError(
            f"The plan {plan.id} is of another estate: it speaks of subscription {strange[0]}, "
            "of which nothing was collected here."
        )
    for step in plan.steps:
        if step.resource_id.lower() not in known_resources:
            raise PlanError(
                f"The plan {plan.id} is of another estate or out of date: {step.resource_id} was "
                f"not there when last collected, so {MAKE_A_NEW_PLAN}."
            )


def _check_fuse(plan: Plan, max_steps: int) -> None:
    if len(plan.steps) > max_steps:
        raise PlanError(
            f"The plan {plan.id} has {len(plan.steps)} steps and one run makes at most "
            f"{max_steps}: say --max-steps {len(plan.steps)} if you mean it."
        )


def _check_not_applied(plan: Plan, every: Sequence[Record]) -> None:
    steps = {step.id for step in plan.steps}
    for record in every:
        run = record.run
        if run.kind != "apply" or run.plan_digest != plan.digest or run.ended_utc is None:
            continue
        put_back = undone(run.id, every).keys() & {row.step_id for row in record.changed()}
        if steps <= record.settled() and not put_back:
            raise PlanError(
                f"The plan {plan.id} was applied on {run.ended_utc:%Y-%m-%d} as run {run.id}: "
                f"{MAKE_A_NEW_PLAN}."
            )
