"""What was found, in rows and in words."""

from collections.abc import Iterable, Iterator, Mapping
from typing import TypedDict

from optimizer.analysis.anomalies import Anomaly
from optimizer.analysis.forecast import MonthEnd
from optimizer.analysis.result import Analysis, Calibration
from optimizer.model import Basis, Change, Effects, Effort, Finding, Gone, NotAssessed
from optimizer.report.words import (
    count,
    day,
    few,
    interval,
    money,
    money_range,
    printable,
    resource_name,
    saves_nothing,
    setting_name,
    setting_value,
    share,
)
from optimizer.units import duration

UNOWNED = "unowned"

_BASES = {
    Basis.EFFECTIVE: "your own effective rates",
    Basis.LIST: "list prices, as your own rates are not known",
    Basis.LIST_TIMES_DISCOUNT: "list prices times your measured discount",
}
_EFFORTS = {
    Effort.ONE_CLICK: "one click",
    Effort.RECREATE: "recreate",
    Effort.CODE_CHANGE: "code change",
    Effort.PURCHASE: "purchase",
}
_INDENT = "  "
_UNMEASURED = "not known"


class FindingRow(TypedDict):
    """One line of a table of findings; money is per month in the billing currency."""

    id: str
    title: str
    detector: str
    resource: str
    workspace: str
    owner: str
    saving_p10: float | None
    saving_p50: float | None
    saving_p90: float | None
    spend: float | None
    change: str
    confidence: str
    risk: str
    effort: str
    claim: str


def finding_rows(findings: Iterable[Finding]) -> list[FindingRow]:
    """Return one row for each finding, in their order."""
    return [_row(finding) for finding in findings]


def owner_words(owner: str | None) -> str:
    """Return who owns a resource; nobody is said, not left out.

    >>> owner_words(None)
    'unowned'
    """
    return UNOWNED if owner is None else printable(owner)


def change_words(change: Change) -> str:
    """Return a change on one line."""
    return (
        f"{setting_name(change.setting)}: "
        f"{setting_value(change.before)} → {setting_value(change.after)}"
    )


_METHODS = {
    "flat7": "the level of the last week",
    "flat28": "the level of the last four weeks",
    "damped_drift": "a damped drift",
    "holt_winters": "Holt-Winters",
    "median": "the median of three methods",
}


def month_end_words(ended: MonthEnd, currency: str) -> str:
    """Return what the month under way will cost, how sure that is and how it was told."""
    missed = "too short a history to judge it"
    if ended.wape is not None:
        missed = f"{ended.wape:.0%} off on its own history"
    return (
        f"{interval(ended.total.p10, ended.total.p90)} {currency} at 80 %; by "
        f"{_METHODS[ended.method]}, {missed}"
    )


def anomaly_words(odd: Anomaly, currency: str) -> str:
    """Return what is usual on that weekday, and what moved the day most."""
    usual = f"{money(odd.expected, currency)} is usual on that weekday"
    if not odd.parts:
        return usual
    most = odd.parts[0]
    sign = "+" if most.change > 0 else "−"
    return (
        f"{usual}; most of it {resource_name(most.resource_id)} ({most.component}), "
        f"{sign}{money(abs(most.change), currency)}"
    )


def totals_text(analysis: Analysis) -> str:
    """Return what is spent, what was found and how the parts make the total."""
    currency, saving = analysis.currency, analysis.saving_per_month
    lines = [
        f"Spend   {money(analysis.spend_per_month, currency)} a month of 730 h",
        f"Saving  {money_range(saving, currency)} a month, {_together(analysis)}",
    ]
    width = max(map(len, analysis.by_detector), default=0)
    lines += [
        f"{_INDENT}{name:<{width}}  {money(part.p50, currency)}"
        for name, part in analysis.by_detector.items()
    ]
    lines.append(
        f"{day(analysis.window.start_utc)} to {day(analysis.window.end_utc)}; "
        "in brackets the 80 % interval, P10 to P90."
    )
    return "\n".join(lines)


def not_assessed_text(items: Iterable[NotAssessed]) -> str:
    """Return what could not be judged and why, the commonest reason first; empty if nothing."""
    names: dict[tuple[str, str], list[str]] = {}
    for item in items:
        names.setdefault((item.detector, item.reason), []).append(resource_name(item.resource_id))
    lines = [
        f"{_INDENT}{detector}, {few(alike)}: {printable(reason)}"
        for (detector, reason), alike in sorted(names.items(), key=lambda kv: -len(kv[1]))
    ]
    return "\n".join(["Not assessed, so neither waste nor proof of none:", *lines]) if lines else ""


def gone_lines(items: Iterable[Gone]) -> Iterator[str]:
    """Yield each finding that is no longer there, with why."""
    for item in items:
        yield f"{printable(item.title)} ({item.finding_id}): {printable(item.why)}"


def gone_text(items: Iterable[Gone]) -> str:
    """Return which findings are no longer there and why; empty if none has gone."""
    lines = [f"{_INDENT}{line}" for line in gone_lines(items)]
    return "\n".join(["No longer there:", *lines]) if lines else ""


def explain_text(analysis: Analysis, finding: Finding) -> str:
    """Return why a finding is one, how its saving comes about and what would change it."""
    sections = {
        "Change": [change_words(finding.change)],
        "Saving": list(_saving_lines(analysis, finding)),
        "How it comes about": analysis.formulas.get(finding.id, "").splitlines(),
        "Calibration": list(_calibration_lines(analysis.calibrations.get(finding.resource_id))),
        "Evidence": list(_evidence_lines(finding.evidence)),
        "What people and jobs would feel": list(effect_lines(finding.effects)),
        "What would change the answer": list(analysis.sensitivity.get(finding.id, ())),
        "Mind": list(finding.pillar_notes),
        "Source": [finding.source.title, finding.source.url],
    }
    head = [
        f"{printable(finding.title)}  [{finding.id}]",
        printable(finding.why),
        finding.resource_id,
        " · ".join(_grades(finding)),
    ]
    return "\n".join([*head, *_sections(sections)])


def effect_lines(effects: Effects) -> Iterator[str]:
    """Yield what a change costs people and jobs; what is not known is said to be."""
    waiting, restarts = effects.extra_waiting_minutes_per_month, effects.extra_restarts_per_month
    yield f"Extra waiting: {_UNMEASURED if waiting is None else _a_month(duration(60 * waiting))}"
    yield f"Extra restarts: {_UNMEASURED if restarts is None else _a_month(f'{restarts:,.0f}')}"
    if effects.runtime_stretch not in (None, 1.0):
        yield f"Running time: {effects.runtime_stretch:.2f} times today's"


def _row(finding: Finding) -> FindingRow:
    saving = finding.saving_per_month
    return FindingRow(
        id=finding.id,
        title=printable(finding.title),
        detector=finding.detector,
        resource=resource_name(finding.resource_id),
        workspace=printable(finding.workspace),
        owner=owner_words(finding.owner),
        saving_p10=None if saving is None else saving.p10,
        saving_p50=None if saving is None else saving.p50,
        saving_p90=None if saving is None else saving.p90,
        spend=finding.spend_per_month,
        change=change_words(finding.change),
        confidence=finding.confidence.value,
        risk=finding.risk.value,
        effort=_EFFORTS[finding.effort],
        claim=finding.claim.value,
    )


def _saving_lines(analysis: Analysis, finding: Finding) -> Iterator[str]:
    saving, currency = finding.saving_per_month, analysis.currency
    if saving is None:
        yield "Unknown: no price is known for this resource."
        return
    if saves_nothing(saving):
        yield "None is claimed."
        return
    of_spend = ""
    if finding.spend_per_month is not None:
        of_spend = f" of {money(finding.spend_per_month, currency)} spent"
    yield f"{money(saving.p50, currency)} a month{of_spend}, at {_BASES[finding.basis]}."
    yield f"80 % interval {interval(saving.p10, saving.p90)} {currency} (P10 to P90)."


def _calibration_lines(calibration: Calibration | None) -> Iterator[str]:
    if calibration is None:
        return
    yield (
        f"Replay of today's settings against {count(calibration.days, 'billed day')}: "
        f"NMBE {100 * calibration.nmbe:+.1f} %, CV(RMSE) {100 * calibration.cv_rmse:.1f} %; "
        f"savings are scaled by k = {calibration.k:.3f}."
    )


def _evidence_lines(evidence: Mapping[str, float | int | str | None]) -> Iterator[str]:
    width = max(map(len, evidence), default=0)
    for name, value in evidence.items():
        yield f"{name.replace('_', ' '):<{width}}  {_evidence_value(value)}"


def _evidence_value(value: float | str | None) -> str:
    if value is None:
        return "not observed"
    if isinstance(value, str):
        return printable(value)
    return f"{round(value, 2 if abs(value) >= 1 else 4):,}"


def _grades(finding: Finding) -> Iterator[str]:
    yield f"owner {owner_words(finding.owner)}"
    yield f"confidence {finding.confidence}"
    yield f"risk {finding.risk}"
    yield f"effort {_EFFORTS[finding.effort]}"
    yield f"claim {finding.claim}"


def _together(analysis: Analysis) -> str:
    part = share(analysis.saving_per_month.p50, analysis.spend_per_month)
    return f"{part} of spend, all changes replayed together"


def _a_month(amount: str) -> str:
    return f"{amount} a month"


def _sections(sections: Mapping[str, list[str]]) -> Iterator[str]:
    for title, lines in sections.items():
        if lines:
            yield ""
            yield title
            yield from (f"{_INDENT}{line}" for line in lines)
