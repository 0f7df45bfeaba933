"""What the weekly mail says, as one view-model that HTML and plain text only lay out."""

from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta

from optimizer.analysis.anomalies import Anomaly
from optimizer.analysis.result import Analysis
from optimizer.model import Claim, Finding, Gone, How, Kind, NotAssessed, Problem
from optimizer.remediation.outcomes import Verification
from optimizer.report.changes import measured_words, parts_words, per_year_words
from optimizer.report.findings import (
    anomaly_words,
    gone_lines,
    month_end_words,
    owner_words,
)
from optimizer.report.words import (
    count,
    day,
    interval,
    money,
    money_range,
    printable,
    resource_name,
    share,
)
from optimizer.store.ledger import Snooze

TOP = 5
"""More findings than this are counted, not shown: a mail is read in a minute."""

EXPIRES_WITHIN = timedelta(days=7)

_DAYS_A_WEEK = 7


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """One number of the overview."""

    label: str
    value: str
    note: str


@dataclass(frozen=True, slots=True, kw_only=True)
class MailFinding:
    """One finding and the command that follows it."""

    title: str
    why: str
    saving: str
    owner: str
    is_new: bool
    command: str


@dataclass(frozen=True, slots=True, kw_only=True)
class WeeklyView:
    """Everything the mail says, in words."""

    subject: str
    period: str
    figures: tuple[Figure, ...]
    top: tuple[MailFinding, ...]
    more: str
    """How many findings are not shown; empty if all are."""
    new: tuple[str, ...] | None
    """Found since the last mail; None: no mail was sent before."""
    gone: tuple[str, ...]
    """Findings that are no longer there, and why."""
    short: tuple[str, ...]
    """Savings that did not come as promised."""
    not_assessed: tuple[str, ...]
    expiring: tuple[str, ...]
    unseen: tuple[str, ...]
    """What collection could not see."""
    app_url: str | None


def weekly_view(
    analysis: Analysis,
    verification: Verification,
    *,
    at_utc: datetime,
    snoozes: Sequence[Snooze] = (),
    problems: Sequence[Problem] = (),
    mailed_before: Collection[str] | None = None,
    app_url: str | None = None,
) -> WeeklyView:
    """Return the mail of this week.

    `mailed_before` holds the ids of the findings of the last mail; None: there was none.
    """
    findings = analysis.findings
    new_ids = frozenset[str]() if mailed_before is None else _ids(findings) - set(mailed_before)
    new = [finding for finding in findings if finding.id in new_ids]
    return WeeklyView(
        subject=_subject(analysis, verification),
        period=f"{day(analysis.window.start_utc)} to {day(analysis.window.end_utc)}",
        figures=tuple(_figures(analysis, verification)),
        top=tuple(_mail_finding(f, analysis.currency, new_ids) for f in findings[:TOP]),
        more=count(len(findings) - TOP, "more finding") if len(findings) > TOP else "",
        new=None if mailed_before is None else tuple(_line(f, analysis.currency) for f in new),
        gone=tuple(gone_lines(_untold(analysis.gone, mailed_before))),
        short=tuple(_short(verification)),
        not_assessed=tuple(_not_assessed(analysis.not_assessed)),
        expiring=tuple(_expiring(snoozes, at_utc)),
        unseen=tuple(_unseen(problems)),
        app_url=app_url,
    )


def follow_command(finding: Finding) -> str:
    """Return the command to run next: the change where we can make it, else the explanation."""
    by_us = finding.change.how in (How.PATCH, How.ACTION)
    if by_us or (finding.change.how is How.RECREATE and finding.kind is Kind.CLUSTER):
        plan = f"optimizer plan --finding {finding.id} --out plan.json"
        return f"{plan} && optimizer apply plan.json"
    return f"optimizer explain {finding.id}"


def last_week(daily_spend: Mapping[date, float]) -> tuple[date, float] | None:
    """Return the last billed day and the spend of the week that ends on it; None: no bill yet.

    >>> last_week({date(2026, 3, d): 1.0 for d in range(1, 11)})
    (datetime.date(2026, 3, 10), 7.0)
    """
    if not daily_spend:
        return None
    last = max(daily_spend)
    first = last - timedelta(days=_DAYS_A_WEEK - 1)
    return last, sum(amount for on, amount in daily_spend.items() if on >= first)


def _ids(findings: Sequence[Finding]) -> frozenset[str]:
    return frozenset(finding.id for finding in findings)


def _subject(analysis: Analysis, verification: Verification) -> str:
    currency, measured = analysis.currency, verification.measured_per_month
    if not analysis.findings:
        found = "nothing to save"
    else:
        found = f"{money(analysis.saving_per_month.p50, currency)} a month to save"
    came = "" if measured is None else f", {money(measured.mid, currency)} measured"
    return f"Azure Machine Learning: {found}{came}"


def _figures(analysis: Analysis, verification: Verification) -> Iterator[Figure]:
    currency, saving = analysis.currency, analysis.saving_per_month
    measured = verification.measured_per_month
    if week := last_week(analysis.daily_spend):
        last, amount = week
        yield Figure(
            label="Spent in 7 days",
            value=money(amount, currency),
            note=f"to {last:%Y-%m-%d}, the last day billed in full",
        )
    yield Figure(
        label="Spend a month",
        value=money(analysis.spend_per_month, currency),
        note="a month of 730 h",
    )
    if ended := analysis.month_end:
        yield Figure(
            label="Expected this month",
            value=money(ended.total.p50, currency),
            note=month_end_words(ended, currency),
        )
    for odd in _lately(analysis):
        yield Figure(
            label=f"Out of the ordinary: {odd.day:%A, %Y-%m-%d}",
            value=money(odd.actual, currency),
            note=anomaly_words(odd, currency),
        )
    yield Figure(
        label="Saving found, a month",
        value=money(saving.p50, currency),
        note=f"80 % interval {interval(saving.p10, saving.p90)}; "
        f"{share(saving.p50, analysis.spend_per_month)} of spend, nothing counted twice",
    )
    yield Figure(
        label="Saving measured, a month",
        value="not yet" if measured is None else money(measured.mid, currency),
        note="; ".join(_came_of(verification)),
    )
    if parts := verification.parts_per_month:
        yield Figure(
            label="Bill of what was changed, a month",
            value=money(parts.to_cents().change, currency),
            note=parts_words(parts, currency),
        )


def _lately(analysis: Analysis) -> Iterator[Anomaly]:
    """Yield the last anomaly, if it is of the week that the mail speaks of."""
    if week := last_week(analysis.daily_spend):
        last, _ = week
        recent = [odd for odd in analysis.anomalies if (last - odd.day).days < _DAYS_A_WEEK]
        yield from recent[-1:]


def _came_of(verification: Verification) -> Iterator[str]:
    if measured := verification.measured_per_month:
        yield f"90 % interval {interval(measured.low, measured.high)}"
    if year := per_year_words(verification):
        yield year
    levels = Counter(claim.level for claim in verification.claims)
    if not levels:
        yield "nothing was applied yet"
        return
    yield f"promised {money(verification.promised_per_month.p50, verification.currency)}"
    yield ", ".join(f"{levels[level]} {level.lower()}" for level in Claim if levels[level])


def _mail_finding(finding: Finding, currency: str, new_ids: Collection[str]) -> MailFinding:
    return MailFinding(
        title=printable(finding.title),
        why=printable(finding.why),
        saving=f"{money_range(finding.saving_per_month, currency)} a month",
        owner=owner_words(finding.owner),
        is_new=finding.id in new_ids,
        command=follow_command(finding),
    )


def _untold(items: Sequence[Gone], mailed: Collection[str] | None) -> list[Gone]:
    """Return what has gone of what a mail told; where there was none, nothing was told."""
    return [item for item in items if mailed is not None and item.finding_id in mailed]


def _line(finding: Finding, currency: str) -> str:
    saving = money_range(finding.saving_per_month, currency)
    return f"{printable(finding.title)}: {saving} a month"


def _short(verification: Verification) -> Iterator[str]:
    for claim in verification.claims:
        if claim.shortfall is not None:
            promised = money_range(claim.promised_per_month, verification.currency)
            measured = measured_words(claim.measured_per_month, verification.currency)
            name, why = resource_name(claim.resource_id), printable(claim.shortfall)
            yield f"{name}: promised {promised} a month, measured {measured}. {why}"


def _not_assessed(items: Sequence[NotAssessed]) -> Iterator[str]:
    for (detector, reason), number in Counter((i.detector, i.reason) for i in items).most_common():
        yield f"{count(number, 'resource')} for {detector}: {printable(reason)}"


def _expiring(snoozes: Sequence[Snooze], at_utc: datetime) -> Iterator[str]:
    for snooze in sorted(snoozes, key=lambda s: s.until_utc):
        if at_utc <= snooze.until_utc <= at_utc + EXPIRES_WITHIN:
            who, why = printable(snooze.author), printable(snooze.reason)
            yield f"{snooze.finding_id} until {day(snooze.until_utc)}, by {who}: {why}"


def _unseen(problems: Sequence[Problem]) -> Iterator[str]:
    for problem in problems:
        need = f" (needs {problem.permission})" if problem.permission else ""
        yield f"{printable(problem.scope)}: {printable(problem.what)}{need}"
