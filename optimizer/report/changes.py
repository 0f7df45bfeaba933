"""Plans, runs and what came of them, in words."""

from collections import Counter
from collections.abc import Iterable, Iterator
from datetime import timedelta

from optimizer.model import Claim, How
from optimizer.remediation.outcomes import (
    ClaimReport,
    Measured,
    Outcome,
    Parts,
    Report,
    Run,
    Status,
    Verification,
)
from optimizer.remediation.plan import Advice, NotIncluded, Plan, Step
from optimizer.report.findings import effect_lines
from optimizer.report.words import (
    count,
    day,
    few,
    interval,
    minute,
    money,
    money_range,
    printable,
    resource_name,
    saves_nothing,
    setting_name,
    setting_value,
)
from optimizer.store.chain import Checked
from optimizer.store.ledger import Approval

UNDONE = frozenset({Status.DRIFTED, Status.FAILED, Status.SKIPPED, Status.PENDING})
"""Ends that leave a wanted change unmade."""

_MARKS = {
    Status.DONE: "✓",
    Status.UNCHANGED: "=",
    Status.DRIFTED: "≠",
    Status.FAILED: "✗",
    Status.SKIPPED: "-",
    Status.WITHHELD: "!",
    Status.PENDING: "…",
}
_STATUSES = {
    Status.DONE: "done",
    Status.UNCHANGED: "already as wanted",
    Status.DRIFTED: "changed by someone since the plan, so left alone",
    Status.FAILED: "failed",
    Status.SKIPPED: "not tried",
    Status.WITHHELD: "withheld",
    Status.PENDING: "not ended yet",
}
_LEVELS = {
    Claim.ESTIMATED: "replayed on history",
    Claim.APPLIED: "setting seen changed",
    Claim.MEASURED: "compared with the bill",
    Claim.VERIFIED: "proved on the bill",
}


def plan_text(plan: Plan) -> str:
    """Return everything that applying a plan would do, and what it would not."""
    return "\n".join(
        [
            _plan_head(plan),
            *(line for step in plan.steps for line in ("", *step_lines(step, plan.currency))),
            *_listed("Only people can do this:", _advice_lines(plan.advice, plan.currency)),
            *_listed("Left out:", _left_out_lines(plan.not_included)),
            "",
            plan_total(plan),
        ]
    )


def plan_total(plan: Plan) -> str:
    """Return what a plan comes to, in one line."""
    if not plan.steps and not plan.advice:
        return "Nothing to change."
    saving = money_range(plan.totals.saving_per_month, plan.currency)
    counts = ", ".join(f"{number} {what}" for what, number in _counts(plan).items() if number)
    return f"Plan: {counts}; {saving} a month together."


def step_lines(step: Step, currency: str) -> Iterator[str]:
    """Yield one step as a diff: from what to what, what for, what to mind, and the same by hand."""
    name = setting_name(step.setting)
    yield f"{_mark(step)} {printable(step.title)}"
    yield f"  - {name}: {setting_value(step.before)}"
    yield f"  + {name}: {setting_value(step.after)}"
    if step.how is How.RECREATE:
        yield f"    beside   {resource_name(step.put['resource_id'])}, a new cluster"
    yield f"    saves    {money_range(step.saving_per_month, currency)} a month"
    yield f"    costs    {'; '.join(effect_lines(step.effects)).lower()}"
    for note in (*step.pillar_notes, step.note):
        if note:
            yield f"    mind     {printable(note)}"
    yield f"    undo     {'optimizer rollback' if step.reversible else 'not possible'}"
    if step.destructive:
        yield f"    confirm  optimizer apply … --confirm-delete {step.id}"
    if step.needs:
        yield f"    only if  {' and '.join(step.needs)} stands"
    yield f"    needs    {', '.join(step.requires)}"
    yield f"    by hand  {printable(step.az_cli)}"
    yield f"    id       {step.resource_id} ({step.id})"


def outcome_line(outcome: Outcome) -> str:
    """Return how one step ended."""
    change = f"{setting_value(outcome.before)} → {setting_value(outcome.after)}"
    detail = f": {printable(outcome.detail)}" if outcome.detail else ""
    return (
        f"{_MARKS[outcome.status]} {resource_name(outcome.resource_id)} "
        f"{setting_name(outcome.setting)} {change}  {_STATUSES[outcome.status]}{detail}"
    )


def approval_line(approval: Approval) -> str:
    """Return who agreed to a plan, and until when that holds."""
    comment = f": {printable(approval.comment)}" if approval.comment else ""
    return (
        f"{printable(approval.who)} approved {approval.plan_id} on {minute(approval.at_utc)}, "
        f"until {minute(approval.until_utc)}{comment}"
    )


def run_text(run: Run) -> str:
    """Return how a run ended, counted."""
    statuses = Counter(outcome.status for outcome in run.outcomes)
    ends = ", ".join(f"{statuses[s]} {_STATUSES[s]}" for s in Status if statuses[s])
    return f"{run.kind} {run.id}: {ends or 'nothing to do'}."


def history_text(runs: Iterable[Run]) -> str:
    """Return every run with its steps, newest first."""
    newest_first = sorted(runs, key=lambda run: run.started_utc, reverse=True)
    blocks = ["\n".join(_run_lines(run)) for run in newest_first]
    return "\n\n".join(blocks) or "Nothing was applied yet."


def checked_text(checked: Checked) -> str:
    """Return what a look along a ledger's chain found where all of it fits.

    >>> checked_text(Checked(entries=1, head="3f9c", misfit=None))
    '1 entry of the ledger fits; its head is 3f9c'
    """
    if not checked.entries:
        return "The ledger is empty."
    entries = count(checked.entries, "entry", "entries")
    fit = "fits; its" if checked.entries == 1 else "fit; their"
    return f"{entries} of the ledger {fit} head is {checked.head}"


def misfit_text(checked: Checked) -> str:
    """Return the first entry of a ledger that does not fit, and what to do."""
    return (
        f"The ledger was changed by other hands: {printable(checked.misfit or '')}; "
        "compare it with a backup."
    )


def verification_text(verification: Verification) -> str:
    """Return how far every saving has come from an estimate to a proof, what did not come first."""
    if not verification.claims:
        return "Nothing was applied yet, so there is nothing to verify."
    currency = verification.currency
    short = [claim for claim in verification.claims if claim.shortfall is not None]
    others = [claim for claim in verification.claims if claim.shortfall is None]
    return "\n".join(
        [
            *(("Did not come as promised:", "") if short else ()),
            *(line for claim in short for line in _claim_lines(claim, currency)),
            *(("Other changes:", "") if short and others else ()),
            *(line for claim in others for line in _claim_lines(claim, currency)),
            f"Promised  {money_range(verification.promised_per_month, currency)} a month",
            f"Measured  {measured_words(verification.measured_per_month, currency)}",
            *_year_lines(verification),
            *_parts_lines(verification.parts_per_month, currency),
            "In brackets: of a promise the 80 % interval, of a measurement the 90 % interval.",
            *_listed(
                "May be an event outside routine; where it is, date it under verify.events in "
                "optimizer.toml:",
                (f"* {printable(said)}" for said in verification.suggested_events),
            ),
        ]
    )


def parts_words(parts: Parts, currency: str) -> str:
    """Return what changed a bill; the parts sum to the whole to the cent.

    >>> parts_words(Parts(volume=20, policy=-101.5, price=-3), "USD")
    'activity +20.00, settings -101.50, prices -3.00: -84.50 USD a month'
    """
    parts = parts.to_cents()
    told = (("activity", parts.volume), ("settings", parts.policy), ("prices", parts.price))
    steps = ", ".join(f"{name} {amount:+,.2f}" for name, amount in told)
    return f"{steps}: {parts.change:+,.2f} {currency} a month"


def report_words(report: Report) -> str:
    """Return which days a measurement speaks of, and when the next report is due.

    >>> from datetime import date
    >>> report_words(
    ...     Report(
    ...         name="28 days",
    ...         start=date(2026, 3, 1),
    ...         end=date(2026, 3, 29),
    ...         days=28,
    ...         next_on=date(2026, 5, 26),
    ...     )
    ... )
    'the 28-day report, 2026-03-01 to 2026-03-28; the next one is due on 2026-05-26'
    """
    names = {
        "interim": f"before the first report, {count(report.days, 'day')}",
        "to date": f"all {count(report.days, 'day')} since, as the setting no longer stands",
    }
    name = names.get(report.name, f"the {report.name.replace(' days', '-day')} report")
    last = report.end - timedelta(days=1)
    following = f"; the next one is due on {report.next_on}" if report.next_on else ""
    return f"{name}, {report.start} to {last}{following}"


def per_year_words(verification: Verification) -> str | None:
    """Return what was measured by the year: a run-rate where it rests on less than 84 days."""
    measured = verification.measured_per_month
    if measured is None:
        return None
    year = money(12 * measured.mid, verification.currency)
    return f"run-rate of {year} a year" if verification.is_run_rate else f"{year} a year"


def measured_words(measured: Measured | None, currency: str) -> str:
    """Return a measured saving with its 90 % interval.

    >>> measured_words(Measured(low=90.5, mid=101, high=111), "USD")
    '101 USD (90.50 to 111) a month'
    """
    if measured is None:
        return "not yet"
    return f"{money(measured.mid, currency)} ({interval(measured.low, measured.high)}) a month"


def left_undone(run: Run) -> int:
    """Return how many steps of a run left a wanted change unmade."""
    return sum(outcome.status in UNDONE for outcome in run.outcomes)


def _mark(step: Step) -> str:
    if step.destructive:
        return "-"
    return "+" if step.how is How.RECREATE else "~"


def _counts(plan: Plan) -> dict[str, int]:
    """Return how many of each kind; what completes a new cluster is counted with it."""
    marks = Counter(_mark(step) for step in plan.steps if step.part_of is None)
    return {
        "to change": marks["~"],
        "to create beside": marks["+"],
        "to delete with its own confirmation": marks["-"],
        "for people": len(plan.advice),
    }


def _plan_head(plan: Plan) -> str:
    start, end = day(plan.window.start_utc), day(plan.window.end_utc)
    return f"{plan.id} ({printable(plan.scenario)}), from what was seen {start} to {end}"


def _advice_lines(advice: Iterable[Advice], currency: str) -> Iterator[str]:
    for item in advice:
        saving = f"{money_range(item.saving_per_month, currency)} a month"
        if saves_nothing(item.saving_per_month):
            saving = "no saving is claimed"
        yield f"* {printable(item.title)}, {saving}"
        yield f"    {printable(item.why)}"
        yield from (f"      {printable(line)}" for line in item.by_hand.splitlines())


def _left_out_lines(items: Iterable[NotIncluded]) -> Iterator[str]:
    names: dict[str, list[str]] = {}
    for item in items:
        name = f"{resource_name(item.resource_id)} ({item.finding})"
        names.setdefault(item.why, []).append(name)
    for why, alike in names.items():
        yield f"  {printable(why)}: {few(alike)}"


def _listed(title: str, lines: Iterable[str]) -> list[str]:
    body = list(lines)
    return ["", title, *body] if body else []


def _run_lines(run: Run) -> Iterator[str]:
    yield f"{run.id}  {minute(run.started_utc)}  {run.plan_id} by {printable(run.who)}"
    if run.ended_utc is None:
        yield "  interrupted; the same command carries on"
    yield from (f"  {outcome_line(outcome)}" for outcome in run.outcomes)


def _claim_lines(claim: ClaimReport, currency: str) -> Iterator[str]:
    name, level = resource_name(claim.resource_id), claim.level
    yield f"{name} ({claim.finding_id}), applied {day(claim.applied_utc)}"
    yield f"  {level}: {_LEVELS[level]}. {printable(claim.why)}"
    if claim.shortfall is not None:
        yield f"  likely because: {printable(claim.shortfall)}"
    yield f"  promised  {money_range(claim.promised_per_month, currency)} a month"
    yield f"  measured  {measured_words(claim.measured_per_month, currency)}"
    if claim.report is not None:
        yield f"  report    {report_words(claim.report)}"
    if claim.parts_per_month is not None:
        yield f"  the bill  {parts_words(claim.parts_per_month, currency)}"
    yield ""


def _year_lines(verification: Verification) -> Iterator[str]:
    if words := per_year_words(verification):
        yield f"          {words}"


def _parts_lines(parts: Parts | None, currency: str) -> Iterator[str]:
    if parts is not None:
        yield f"The bill  {parts_words(parts, currency)}"
