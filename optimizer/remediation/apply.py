"""The one module that writes to Azure: each setting read, compared, written, read back and kept.

Before a write the ledger holds the intent, after it the outcome with its inverse. So whatever
happens between two lines of this file, the same command carries on, and nothing is done that the
ledger does not tell.
"""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from threading import Event, Lock
from typing import TypeVar

from optimizer.errors import (
    AzureError,
    NotEndedError,
    PlanError,
    UnauthorizedError,
    UnreachableError,
)
from optimizer.maintenance import Calendar
from optimizer.model import How, Json
from optimizer.remediation.approvals import check_approved
from optimizer.remediation.documents import same
from optimizer.remediation.history import (
    OPEN,
    SETTLED,
    Record,
    as_outcome,
    as_run,
    records,
    undone,
)
from optimizer.remediation.outcomes import Outcome, Run, Status
from optimizer.remediation.plan import MAKE_A_NEW_PLAN, Plan, subscription_of
from optimizer.remediation.writes import Door, Move, Seen, write_of
from optimizer.store.ledger import INTENDED, Ledger, RunRow, StepRow, new_run_id

MAX_STEPS = 25
"""More in one run need a word from whoever applies it: a fuse, not a limit."""

MAX_FAILURES = 3
"""After so many a run ends: what refuses three times is seldom about one resource."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """What is asked of a run, beside the plan."""

    max_steps: int = MAX_STEPS
    """The fuse."""
    approval_required: bool = False
    """Whether somebody else than who applies must have approved the plan."""
    calendar: Calendar = field(default_factory=Calendar)
    """When changes may be made, by the service's clock."""
    parallel: int = 1
    """Resources that are changed at once."""


T = TypeVar("T")


def apply(  # noqa: PLR0913 - what a run needs to know
    plan: Plan,
    *,
    door: Door,
    ledger: Ledger,
    who: str,
    known_resources: Collection[str],
    baseline: Json,
    on_outcome: Callable[[Outcome], None],
    rules: Rules,
    confirmed: Collection[str] = (),
) -> Run:
    """Make the changes of a plan that still fit what is there.

    A setting that somebody changed since is left alone (drifted), one that already stands as
    wanted too (unchanged). After `MAX_FAILURES` failures the rest is skipped, and so is what lies
    outside its maintenance window. What Azure does not end in time is pending, and leaves the run
    open. A run that was interrupted or left open is carried on under its own id.

    Args:
        plan: what to do.
        door: the way to Azure.
        ledger: where every intent and outcome is kept.
        who: the person or pipeline that answers for it.
        known_resources: the lower-case ids in the inventory last collected.
        baseline: what `verify` will need, frozen now.
        on_outcome: called with each outcome once the ledger holds it.
        rules: fuse, approval, maintenance windows and how much is done at once.
        confirmed: the ids of the steps that may destroy something.

    Raises:
        PlanError: the plan was edited, is of another estate, is applied already, is longer than
            the fuse, or lacks the approval that is required; or what is confirmed is no such step
            of it.
        UnreachableError: Azure gave no answer; run again to carry on.
        UnauthorizedError: the token was refused; run again to carry on.
        LedgerError: the ledger cannot be written, or somebody else is at work.
    """
    plan.check_seal()
    _check_estate(plan, known_resources)
    _check_fuse(plan, rules.max_steps)
    _check_confirmed(plan, confirmed)
    if rules.approval_required:
        check_approved(plan, ledger, who=who, at_utc=door.now_utc())
    with ledger.hold():
        begun = _interrupted(plan, records(ledger))
        close_interrupted(door, ledger, who, keep=begun)
        _check_not_applied(plan, records(ledger))
        run = begun or _begin(plan, door.now_utc(), ledger, who, baseline)
        return carry_out(
            _moves(plan, confirmed),
            run,
            door=door,
            ledger=ledger,
            who=who,
            on_outcome=on_outcome,
            rules=rules,
        )


def carry_out(
    moves: Iterable[Move],
    run: RunRow,
    *,
    door: Door,
    ledger: Ledger,
    who: str,
    on_outcome: Callable[[Outcome], None],
    rules: Rules,
) -> Run:
    """Make the moves of a run that are not settled yet, and end it. Whoever calls holds the ledger.

    The moves of one resource follow one another in their order; as many resources are changed at
    once as `rules` allow, and `on_outcome` is called by one thread at a time. A run with a move
    that Azure has not ended stays open. Ctrl-C begins nothing new and waits for what is under way.

    Raises:
        UnreachableError: Azure gave no answer; run again to carry on.
        UnauthorizedError: the token was refused; run again to carry on.
    """
    crew = _Crew(
        hand=_Hand(run_id=run.id, door=door, ledger=ledger, who=who),
        last={row.step_id: row for row in ledger.steps(run.id)},
        calendar=rules.calendar,
        on_outcome=on_outcome,
    )
    with _interruption_explained(run):
        with ThreadPoolExecutor(rules.parallel) as threads:
            walks = [threads.submit(crew.walk, lane) for lane in _lanes(moves)]
            try:
                for walk in as_completed(walks):
                    walk.result()
            finally:
                crew.called_off.set()
        if not _record(ledger, run).open_writes():
            ledger.end_run(run.id, door.now_utc(), who=who)
    return as_run(_record(ledger, run))


def _lanes(moves: Iterable[Move]) -> list[list[Move]]:
    """Return the moves by resource: what is of one lane is made in its order.

    A move that builds on others stands in their lane, behind them.
    """
    lanes: list[list[Move]] = []
    of_resource: dict[str, list[Move]] = {}
    of_step: dict[str, list[Move]] = {}
    for move in moves:
        before = [of_step[step_id] for step_id in move.needs if step_id in of_step]
        lane = of_resource.get(move.resource_id.lower()) or (before[0] if before else [])
        if not lane:
            lanes.append(lane)
        lane.append(move)
        of_resource[move.resource_id.lower()] = of_step[move.step_id] = lane
    return lanes


def _record(ledger: Ledger, run: RunRow) -> Record:
    return next(record for record in records(ledger) if record.run.id == run.id)


def close_interrupted(door: Door, ledger: Ledger, who: str, *, keep: RunRow | None) -> None:
    """End every run that was interrupted except `keep`, once it is known how its writes ended.

    A write that Azure still has not ended counts as failed, and its row says so.

    Raises:
        UnreachableError: Azure gave no answer.
        UnauthorizedError: the token was refused.
    """
    for record in records(ledger):
        if record.run.ended_utc is None and record.run != keep:
            hand = _Hand(run_id=record.run.id, door=door, ledger=ledger, who=who)
            for row in record.open_writes():
                hand.close(_move_of(row), row)
            ledger.end_run(record.run.id, door.now_utc(), who=who)


def say(value: Json) -> str:
    """Return a setting's value as people read it.

    >>> say(None), say("PT10M")
    ('not set', 'PT10M')
    """
    return "not set" if value is None else str(value)


@dataclass(slots=True, kw_only=True)
class _Crew:
    """What the threads of one run share."""

    hand: "_Hand"
    last: Mapping[str, StepRow]
    """The last row of each step from before an interruption."""
    calendar: Calendar
    on_outcome: Callable[[Outcome], None]
    called_off: Event = field(default_factory=Event)
    """Set once nothing new is to be begun."""
    failures: int = 0
    stuck: set[str] = field(default_factory=set)
    """Resources with a change that Azure has not ended: another would only be refused."""
    _telling: Lock = field(default_factory=Lock)

    def walk(self, moves: Iterable[Move]) -> None:
        """Make the moves of one resource that are not settled yet, one after another."""
        with ExitStack() as on_error:
            on_error.callback(self.called_off.set)
            for move in moves:
                row = self.last.get(move.step_id)
                if row is not None and row.status in SETTLED:
                    continue
                if self.called_off.is_set():
                    break
                outcome = self._take(move, row)
                with self._telling:
                    self.failures += outcome.status is Status.FAILED
                    self.on_outcome(outcome)
            on_error.pop_all()

    def _take(self, move: Move, row: StepRow | None) -> Outcome:
        begun = row if row is not None and row.status in OPEN else None
        why_not = None if move.needless or move.withheld else self._why_not(move)
        try:
            if begun:
                self.hand.wait_for_end(move)
            if why_not is None:
                return self.hand.make(move, row)
            if begun:  # what was begun is looked after, whatever forbids to begin it now
                return self.hand.look(move, begun, Status.SKIPPED, why_not)
            return self.hand.end(move, Status.SKIPPED, why_not)
        except NotEndedError as error:
            self.stuck.add(move.resource_id)
            return self.hand.leave_open(move, error)

    def _why_not(self, move: Move) -> str | None:
        if self.failures >= MAX_FAILURES:
            return f"{self.failures} steps before it failed."
        if move.resource_id in self.stuck:
            return "A change of the same resource before it has not ended yet."
        if self.calendar.always:
            return None
        return self.calendar.why_closed(move.resource_id, self.hand.door.now_utc())


@dataclass(frozen=True, slots=True, kw_only=True)
class _Hand:
    """Makes one move at a time, and keeps each in the ledger."""

    run_id: str
    door: Door
    ledger: Ledger
    who: str

    def make(self, move: Move, last: StepRow | None) -> Outcome:
        """Make a move if it still fits; `last` is its row from before an interruption."""
        if refrained := self._refrained(move):
            return self.end(move, *refrained)
        seen = _answer(lambda: write_of(move).see(move, self.door))
        if isinstance(seen, AzureError):
            return self.end(move, Status.FAILED, str(seen))
        if same(seen.value, move.after):
            if last is not None and last.status in OPEN:
                return self.end(move, Status.DONE, _told(move, _FOUND_WRITTEN), last.inverse)
            return self.end(move, Status.UNCHANGED, f"It is {say(seen.value)} already.")
        if not same(seen.value, move.before):
            return self.end(move, Status.DRIFTED, _drift(move, seen))
        return self._write(move, seen)

    def look(self, move: Move, begun: StepRow, otherwise: Status, detail: str) -> Outcome:
        """Keep how a write that was left open ended; `otherwise` where it took no effect."""
        seen = _answer(lambda: write_of(move).see(move, self.door))
        if isinstance(seen, AzureError):
            return self.end(move, Status.FAILED, f"Interrupted, and not seen since: {seen}")
        if same(seen.value, move.after):
            return self.end(move, Status.DONE, _told(move, _FOUND_WRITTEN), begun.inverse)
        return self.end(move, otherwise, detail)

    def close(self, move: Move, begun: StepRow) -> None:
        """Keep how a write that was left open ended, for nobody will look again."""
        try:
            self.wait_for_end(move)
        except NotEndedError as error:
            self.end(move, Status.FAILED, str(error))
        else:
            self.look(move, begun, Status.FAILED, "Interrupted before it took effect.")

    def wait_for_end(self, move: Move) -> None:
        """Return once nothing is under way on what a move changes; what is not there never is.

        Raises:
            NotEndedError: something still is.
        """
        _answer(lambda: self.door.settled(write_of(move).written(move)))

    def leave_open(self, move: Move, error: NotEndedError) -> Outcome:
        """Keep that Azure has not ended a write, with what undoes it if it still takes effect."""
        rows = (row for row in self.ledger.steps(self.run_id) if row.step_id == move.step_id)
        inverse = [row.inverse for row in rows if row.status in OPEN][-1]
        return self.end(move, Status.PENDING, str(error), inverse)

    def end(self, move: Move, status: Status, detail: str, inverse: Json = None) -> Outcome:
        """Keep how a move ended."""
        return as_outcome(self._keep(move, status, detail, inverse))

    def _write(self, move: Move, seen: Seen) -> Outcome:
        kind = write_of(move)
        inverse: Json = kind.inverse(move, seen)
        self._keep(move, INTENDED, "", inverse)
        refusal = _answer(lambda: kind.make(move, seen, self.door))
        # What Azure says afterwards counts: an operation reported as failed may have taken effect.
        found = _answer(lambda: kind.see(move, self.door))
        if isinstance(found, AzureError):
            return self.end(move, Status.FAILED, str(refusal or found), inverse)
        if same(found.value, move.after):
            return self.end(move, Status.DONE, _told(move, str(refusal or "")), inverse)
        silent = f"Azure accepted the change, yet the setting is {say(found.value)}."
        return self.end(move, Status.FAILED, str(refusal or silent), inverse)

    def _refrained(self, move: Move) -> tuple[Status, str] | None:
        """Return how a move ends that is not even tried, and why; None: it is."""
        if move.needless:
            return Status.UNCHANGED, move.needless
        if move.withheld:
            return Status.WITHHELD, move.withheld
        missing = self._missing(move) if move.needs else ""
        return (Status.SKIPPED, missing) if missing else None

    def _missing(self, move: Move) -> str:
        """Say which step that a move builds on does not stand; empty where all do."""
        last = {row.step_id: row for row in self.ledger.steps(self.run_id)}
        for step_id in move.needs:
            row = last.get(step_id)
            if row is None or row.status not in SETTLED:
                return f"It builds on {step_id}, which was not made."
        return ""

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
    """Return what Azure answers or why it refuses; a lost connection is no step's failure.

    Nor is a change that has not ended: nobody knows yet what becomes of it.
    """
    try:
        return ask()
    except (UnreachableError, UnauthorizedError, NotEndedError):
        raise
    except AzureError as error:
        return error


def _told(move: Move, detail: str) -> str:
    """Return what is to be known of a move that stands."""
    return " ".join(words for words in (detail, write_of(move).told(move)) if words)


def _drift(move: Move, seen: Seen) -> str:
    if seen.why:
        return f"Since it was planned, {seen.why}, so it is left alone."
    return (
        f"It is {say(seen.value)} now, not {say(move.before)}: somebody changed it since, "
        "so it is left alone."
    )


def _moves(plan: Plan, confirmed: Collection[str]) -> list[Move]:
    return [
        Move(
            step_id=step.id,
            resource_id=step.resource_id,
            setting=step.setting,
            before=step.before,
            after=step.after,
            how=step.how,
            put=step.put,
            needs=step.needs,
            withheld=_unconfirmed(step.id)
            if step.destructive and step.id not in confirmed
            else None,
        )
        for step in plan.steps
    ]


def _unconfirmed(step_id: str) -> str:
    return f"Nothing brings it back, so it takes its own word: --confirm-delete {step_id}."


def _move_of(row: StepRow) -> Move:
    return Move(
        step_id=row.step_id,
        resource_id=row.resource_id,
        setting=row.setting,
        before=row.before,
        after=row.after,
        how=How(row.how),
        put=row.inverse.get("put", {}) if isinstance(row.inverse, dict) else {},
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


def _check_confirmed(plan: Plan, confirmed: Collection[str]) -> None:
    destructive = {step.id for step in plan.steps if step.destructive}
    if unknown := sorted(set(confirmed) - destructive):
        raise PlanError(f"The plan {plan.id} has no step {unknown[0]} that deletes something.")


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
