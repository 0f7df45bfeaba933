"""What the ledger's rows amount to: runs, what they changed and what of it still stands."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from optimizer.model import Json
from optimizer.remediation.outcomes import AppliedChange, Outcome, Run, Status
from optimizer.remediation.plan import Plan, Step
from optimizer.store.ledger import INTENDED, Ledger, RunRow, StepRow

SETTLED = frozenset({Status.DONE, Status.UNCHANGED})
"""The ends after which the setting stands as wanted."""

OPEN = frozenset({INTENDED, Status.PENDING})
"""Of a write that Azure may have heard of, and whose end nobody has seen."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """A run and the last row of each of its steps, in the order they were first taken up."""

    run: RunRow
    steps: Mapping[str, StepRow]

    def settled(self) -> frozenset[str]:
        """Return the ids of the steps whose setting stands as wanted."""
        return frozenset(id_ for id_, row in self.steps.items() if row.status in SETTLED)

    def changed(self) -> tuple[StepRow, ...]:
        """Return the steps that this run wrote to Azure."""
        return tuple(row for row in self.steps.values() if row.status == Status.DONE)

    def open_writes(self) -> tuple[StepRow, ...]:
        """Return the steps whose write was begun and not seen to end."""
        return tuple(row for row in self.steps.values() if row.status in OPEN)


def records(ledger: Ledger) -> tuple[Record, ...]:
    """Return every run with where its steps stand, oldest first."""
    steps: dict[str, dict[str, StepRow]] = {}
    for row in ledger.steps():
        steps.setdefault(row.run_id, {})[row.step_id] = row
    return tuple(Record(run=run, steps=steps.get(run.id, {})) for run in ledger.runs())


def undone(run_id: str, every: Sequence[Record]) -> dict[str, StepRow]:
    """Return, by step, how the first rollback that put it back did so; `every` oldest first."""
    return {
        step_id: row
        for record in reversed(every)
        if record.run.undoes == run_id
        for step_id, row in record.steps.items()
        if row.status in SETTLED
    }


def runs(ledger: Ledger) -> tuple[Run, ...]:
    """Return every apply and rollback, newest first.

    Raises:
        LedgerError: the ledger cannot be read.
    """
    return tuple(as_run(record) for record in reversed(records(ledger)))


def as_run(record: Record) -> Run:
    """Return a run with how its steps ended; a step left open is not among them."""
    run = record.run
    return Run(
        id=run.id,
        kind=run.kind,
        plan_id=run.plan_id,
        scenario=run.scenario,
        who=run.who,
        started_utc=run.started_utc,
        ended_utc=run.ended_utc,
        outcomes=tuple(as_outcome(row) for row in record.steps.values() if row.status != INTENDED),
    )


def as_outcome(row: StepRow) -> Outcome:
    """Return how a step ended."""
    return Outcome(
        step_id=row.step_id,
        resource_id=row.resource_id,
        setting=row.setting,
        before=row.before,
        after=row.after,
        status=Status(row.status),
        detail=row.detail,
        at_utc=row.at_utc,
    )


def applied_changes(ledger: Ledger) -> tuple[AppliedChange, ...]:
    """Return every setting that a run of ours wrote, oldest first, with when it was put back.

    Where several findings asked for one step, the change bears the id of the first.

    Raises:
        LedgerError: the ledger cannot be read.
    """
    return tuple(change for change, _ in applied_with_baselines(ledger))


def applied_with_baselines(ledger: Ledger) -> tuple[tuple[AppliedChange, Json], ...]:
    """Return every applied change beside what was frozen for `verify` when its run began.

    Raises:
        LedgerError: the ledger cannot be read.
    """
    every, plans, baselines = records(ledger), ledger.plans(), ledger.baselines()
    return tuple(
        (change, baselines.get(record.run.id))
        for record in every
        if record.run.kind == "apply"
        for change in _changes(record, _steps_of(plans, record), undone(record.run.id, every))
    )


def _steps_of(plans: Mapping[str, Json], record: Record) -> Sequence[Step]:
    return Plan.model_validate(plans[record.run.plan_digest]).steps


def _changes(
    record: Record, steps: Sequence[Step], put_back: Mapping[str, StepRow]
) -> Iterator[AppliedChange]:
    planned = {step.id: step for step in steps}
    for row in record.changed():
        step = planned[row.step_id]
        if step.part_of is not None:
            continue  # the step that it completes makes the claim
        yield AppliedChange(
            run_id=record.run.id,
            finding_id=step.finding_ids[0],
            detector=step.detector,
            resource_id=row.resource_id,
            setting=row.setting,
            before=row.before,
            after=row.after,
            how=row.how,
            applied_utc=row.at_utc,
            ended_utc=_moment(put_back.get(row.step_id)),
            promised_per_month=step.saving_per_month,
        )


def _moment(row: StepRow | None) -> datetime | None:
    return None if row is None else row.at_utc
