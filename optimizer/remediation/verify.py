"""Did the money come? Old settings replayed on the activity since, against the bill (methods §9).

Activity is observed, not assumed, so a busier or quieter month changes nothing: what is left
between `k × replay of the old settings` and the bill is what the new settings did. `k`, the
physics and the day-by-day errors of the replay are frozen when a plan is applied.

The days until things have settled count for neither side. Then there is one report on 28 days and
a last one on 84, so that nobody looks until a figure pleases.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from typing import Any

import numpy as np

from optimizer.analysis.assemble import MIN_CALIBRATION_DAYS, Estate
from optimizer.analysis.case import CannotAssessError, Case
from optimizer.model import Claim, Estimate, How, Json, Kind, Resource
from optimizer.remediation.accounts import Account, Billing, replayed, unused
from optimizer.remediation.baseline import (
    MAX_UNKNOWN_MINUTES,
    Baseline,
    baseline_since,
    thaw,
    unknown_minutes,
)
from optimizer.remediation.beside import REPLACES
from optimizer.remediation.causes import (
    MAX_VERIFIED_CV_RMSE,
    MAX_VERIFIED_NMBE,
    Signs,
    Standing,
    cause,
)
from optimizer.remediation.drift import Spread, beyond_chance, untouched
from optimizer.remediation.events import Event, lasting_since
from optimizer.remediation.outcomes import (
    FINAL_DAYS,
    AppliedChange,
    ClaimReport,
    Measured,
    Report,
    Verification,
    parts_of_all,
)
from optimizer.remediation.overlays import UNUSED_SETTINGS, setting_key, why_not_replayed
from optimizer.remediation.standing import State, state_of
from optimizer.remediation.suggestions import suggested_events

MIN_MEASURED_DAYS = 7
"""Fewer billed days say nothing yet."""

SETTLE_DAYS = 3
"""After a change: nodes that were there drain, people notice (methods §9)."""

REPORT_DAYS = 28
"""The first report, and the fewest days that verify a saving."""


def verify(
    estate: Estate,
    applied: Sequence[tuple[AppliedChange, Json]],
    *,
    currency: str,
    events: Sequence[Event] = (),
) -> Verification:
    """Return how far each applied finding has come on the claims ladder.

    Args:
        estate: built over a window that reaches from before the changes to the newest bill.
        applied: every change the ledger knows with the baselines of its run.
        currency: of the bill.
        events: outside routine, dated by the customer.
    """
    measuring = _Measuring(estate, events)
    taken = [measuring.taken(group) for group in _groups(applied)]
    measured = [each for _, each in taken if each is not None]
    strays = _strays(estate, measured, changed={c.resource_id.lower() for c, _ in applied})
    claims = [claim for silent, _ in taken for claim in silent]
    claims += [claim for each in measured for claim in _claims(each, strays)]
    parts = [claim.parts_per_month for claim in claims if claim.parts_per_month]
    frozen = {c.resource_id.lower(): thaw(known, c.resource_id) for c, known in applied}
    return Verification(
        currency=currency,
        claims=tuple(
            sorted(claims, key=lambda c: (c.shortfall is None, c.applied_utc, c.finding_id))
        ),
        promised_per_month=_promised([change.promised_per_month for change, _ in applied]),
        measured_per_month=_measured(claims),
        parts_per_month=parts_of_all(parts) if parts else None,
        suggested_events=suggested_events(estate, frozen, events),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Group:
    """What one run changed of one compute: measured together, then shared out."""

    resource_id: str
    changes: tuple[AppliedChange, ...]
    frozen: Baseline | None
    until: date | None
    """When the next run changed it again, excluded; None: none did."""

    @property
    def settled(self) -> date:
        """The first day that counts."""
        # A part that was put back made days of a third kind.
        moments = [
            moment for c in self.changes for moment in (c.applied_utc, c.ended_utc) if moment
        ]
        at = max(moments).astimezone(UTC) + timedelta(days=SETTLE_DAYS)
        return at.date() + timedelta(days=bool(at.time() != datetime.min.time()))


def _groups(applied: Sequence[tuple[AppliedChange, Json]]) -> Iterator[_Group]:
    """Yield what each run changed of each compute, so that no two changes overlap."""
    by_resource: dict[str, dict[str, list[tuple[AppliedChange, Json]]]] = defaultdict(dict)
    for change, known in applied:
        runs = by_resource[change.resource_id.lower()]
        runs.setdefault(change.run_id, []).append((change, known))
    for resource_id, runs in by_resource.items():
        ordered = sorted(runs.values(), key=lambda run: run[0][0].applied_utc)
        for run, following in zip(ordered, [*ordered[1:], None], strict=True):
            yield _Group(
                resource_id=resource_id,
                changes=tuple(change for change, _ in run),
                frozen=thaw(run[0][1], resource_id),
                until=following[0][0].applied_utc.date() if following else None,
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Taken:
    """The measurement of a group."""

    group: _Group
    """With only the changes that are measured."""
    states: tuple[State, ...]
    alone: bool
    """No change that cannot be told apart falls into the same days."""
    report: Report
    days: tuple[date, ...]
    frozen: Baseline
    account: Account


class _Measuring:
    """One verification: what its questions share."""

    def __init__(self, estate: Estate, events: Sequence[Event]) -> None:
        """Begin with what is known."""
        self._estate = estate
        self._events = events
        self._billing = Billing(estate.bill)

    def taken(self, group: _Group) -> tuple[list[ClaimReport], _Taken | None]:
        """Return the claims that cannot be measured, and the measurement of the others."""
        silent: list[ClaimReport] = []
        asked: list[AppliedChange] = []
        for change in group.changes:
            if change.ended_utc is not None:
                silent.append(_unmeasured(change, f"It was rolled back on {change.ended_utc:%F}."))
            elif why := why_not_replayed(change.setting, change.after):
                silent.append(_unmeasured(change, why))
            else:
                asked.append(change)
        if not asked:
            return silent, None
        states = tuple(state_of(change, self._estate) for change in asked)
        alone = len(asked) == len(group.changes)
        try:
            return silent, self._measured(replace(group, changes=tuple(asked)), states, alone=alone)
        except CannotAssessError as why:
            silent += [
                _unmeasured(change, str(why), shortfall=_lost(change, state))
                for change, state in zip(asked, states, strict=True)
            ]
            return silent, None

    def _measured(self, group: _Group, states: tuple[State, ...], *, alone: bool) -> _Taken:
        stands = all(state.standing is Standing.STANDS for state in states)
        resource = self._estate.resources.get(group.resource_id)
        events = [event for event in self._events if resource and event.touches(resource)]
        report, days = self._report(group, events, stands=stands)
        frozen = self._frozen(group, events, days)
        return _Taken(
            group=group,
            states=states,
            alone=alone and stands,
            report=report,
            days=tuple(days),
            frozen=frozen,
            account=self._account(group, frozen, days),
        )

    def _report(
        self, group: _Group, events: Sequence[Event], *, stands: bool
    ) -> tuple[Report, list[date]]:
        """Return the report that a group has come to, and the days that count for it.

        Raises:
            CannotAssessError: they are too few.
        """
        bill = self._estate.bill
        end = min(bill.end, group.until or bill.end)
        start = max(group.settled, bill.start)
        every = [start + timedelta(days=n) for n in range(max(0, (end - start).days))]
        unseen = self._unseen(group.resource_id)
        days = [
            day
            for day in every
            if day not in unseen and not any(event.holds(day) for event in events)
        ]
        if len(days) < MIN_MEASURED_DAYS:
            raise CannotAssessError(
                f"{len(days)} billed days since it settled on {group.settled}; "
                f"{MIN_MEASURED_DAYS} are needed to measure."
                if group.until is None
                else f"It was changed again on {group.until}, {len(days)} days after it settled."
            )
        counted = len(days)
        reached = max((n for n in (REPORT_DAYS, FINAL_DAYS) if n <= counted), default=None)
        name = f"{reached} days" if reached else "interim"
        if not stands:
            # What is lost since it was changed back belongs to the figure.
            reached, name = None, "to date"
        following = next((n for n in (REPORT_DAYS, FINAL_DAYS) if n > counted), None)
        lag = self._estate.window.end_utc.date() - bill.end
        days = days[:reached]
        return (
            Report(
                name=name,
                start=days[0],
                end=days[-1] + timedelta(days=1),
                days=len(days),
                next_on=(
                    bill.end + timedelta(days=following - counted) + lag
                    if following and group.until is None
                    else None
                ),
            ),
            days,
        )

    def _unseen(self, resource_id: str) -> set[date]:
        """Return the days of whose activity too little is known."""
        case = self._estate.cases.get(resource_id)
        if case is None:
            return set()
        first = case.window.start_utc.date()
        little = np.flatnonzero(unknown_minutes(case) > MAX_UNKNOWN_MINUTES)
        return {first + timedelta(days=int(number)) for number in little}

    def _frozen(self, group: _Group, events: Sequence[Event], days: Sequence[date]) -> Baseline:
        """Return the baseline as dated events leave it.

        Raises:
            CannotAssessError: there is none, or too little is left.
        """
        frozen = group.frozen
        if frozen is None:
            raise CannotAssessError(
                "The bill did not tell this compute's cost when the change was made."
            )
        since = lasting_since(events, before=days[-1] + timedelta(days=1))
        case = self._estate.cases.get(group.resource_id)
        if since is not None and since > frozen.dates[-1] and case is not None:
            return baseline_since(frozen, case, self._estate.bill, since=since)
        kept = frozen.within(
            day
            for day in frozen.dates
            if not any(event.holds(day) for event in events) and (since is None or day >= since)
        )
        if len(kept.days) < MIN_CALIBRATION_DAYS:
            raise CannotAssessError(
                f"Its baseline has {len(kept.days)} days outside of dated events; "
                f"{MIN_CALIBRATION_DAYS} are needed."
            )
        return kept

    def _account(self, group: _Group, frozen: Baseline, days: Sequence[date]) -> Account:
        if all(setting_key(change.setting) in UNUSED_SETTINGS for change in group.changes):
            return unused(group.resource_id, group.changes, frozen, days, billing=self._billing)
        case = self._estate.cases.get(group.resource_id)
        if case is None:
            raise CannotAssessError(
                self._estate.unassessable.get(
                    group.resource_id, "It was not seen in the last collection."
                )
            )
        return replayed(
            case,
            self._replacement(case.resource, group.changes),
            group.changes,
            frozen,
            days,
            billing=self._billing,
        )

    def _replacement(self, old: Resource, changes: Sequence[AppliedChange]) -> Case[Any] | None:
        """Return the case of the cluster that was made beside an old one; None: none was made."""
        if all(change.how != How.RECREATE for change in changes):
            return None
        for resource_id, resource in self._estate.resources.items():
            replaces = resource.tags.get(REPLACES, "").lower()
            names = {old.resource_id.lower(), old.name.lower()}
            if resource.workspace_id == old.workspace_id and replaces in names:
                case = self._estate.cases.get(resource_id)
                if case is None:
                    raise CannotAssessError(
                        f"Of {resource.name}, which replaces it, nothing was seen yet."
                    )
                return case
        raise CannotAssessError(
            f"No cluster with the tag {REPLACES}={old.name} was seen in the last collection."
        )


def _strays(
    estate: Estate, measured: Sequence[_Taken], *, changed: set[str]
) -> Mapping[tuple[Kind, bool], Spread]:
    """Return by how much calibrations stray, by kind and whether settings replay as before.

    Where they do, what the replay of other settings misses is beside the point.
    """
    strays = [each.account.stray for each in measured if each.account.stray is not None]
    if measured:
        longest = max(measured, key=lambda each: len(each.days))
        before, since = longest.frozen.dates, longest.days
        strays += untouched(estate, changed=changed, before=before, since=since)
    return {
        (kind, same): beyond_chance(
            [s for s in strays if s.kind is kind and (s.as_calibrated or not same)]
        )
        for kind in Kind
        for same in (True, False)
    }


def _claims(taken: _Taken, strays: Mapping[tuple[Kind, bool], Spread]) -> list[ClaimReport]:
    account = taken.account
    if account.stray is not None:
        account = account.widened(strays[account.stray.kind, account.stray.as_calibrated])
    level, why = _level(account.saved(1.0), taken.report, taken.frozen, alone=taken.alone)
    return [
        _claim(
            change,
            state,
            share,
            level=level,
            why=why,
            report=taken.report,
            of=(account, taken.frozen),
        )
        for change, state, share in zip(
            taken.group.changes, taken.states, account.weights, strict=True
        )
    ]


def _claim(
    change: AppliedChange,
    state: State,
    share: float,
    *,
    level: Claim,
    why: str,
    report: Report,
    of: tuple[Account, Baseline],
) -> ClaimReport:
    account, frozen = of
    measured = account.saved(share)
    short = measured.high < change.promised_per_month.p10 or state.standing is not Standing.STANDS
    return ClaimReport(
        finding_id=change.finding_id,
        resource_id=change.resource_id,
        applied_utc=change.applied_utc,
        level=level,
        promised_per_month=change.promised_per_month,
        measured_per_month=measured,
        why=why,
        parts_per_month=account.parts(share),
        volume_per_month=account.moved(share),
        report=report,
        shortfall=cause(_signs(change, state, report, account, frozen)) if short else None,
    )


def _signs(
    change: AppliedChange,
    state: State,
    report: Report | None = None,
    account: Account | None = None,
    frozen: Baseline | None = None,
) -> Signs:
    return Signs(
        standing=state.standing,
        setting=setting_key(change.setting),
        now="not set" if state.now is None else str(state.now),
        seen_on=None if state.seen_utc is None else state.seen_utc.astimezone(UTC).date(),
        seen_by=state.seen_by,
        days=report.days if report else 0,
        needed_days=REPORT_DAYS,
        nmbe=frozen.nmbe if frozen else None,
        cv_rmse=frozen.cv_rmse if frozen else None,
        volume=account.volume if account else None,
        price=account.price if account else None,
    )


def _lost(change: AppliedChange, state: State) -> str | None:
    """Return why a saving that cannot be measured will not come; None where it still may."""
    stands = state.standing is Standing.STANDS
    return None if stands else cause(_signs(change, state))


def _level(total: Measured, report: Report, frozen: Baseline, *, alone: bool) -> tuple[Claim, str]:
    days = report.days
    if total.low <= 0:
        return Claim.MEASURED, f"The interval over {days} billed days does not exclude nothing."
    if days < REPORT_DAYS:
        return (
            Claim.MEASURED,
            f"{days} billed days since it settled; {REPORT_DAYS} are needed to call it verified.",
        )
    if not alone:
        return Claim.MEASURED, "Another change of this compute falls into the same days."
    nmbe, scatter = frozen.nmbe or 0.0, frozen.cv_rmse or 0.0
    if abs(nmbe) > MAX_VERIFIED_NMBE or scatter > MAX_VERIFIED_CV_RMSE:
        return (
            Claim.MEASURED,
            (
                f"The replay missed the bill by {nmbe:+.1%} with a daily scatter of {scatter:.0%} "
                f"before the change; verified needs {MAX_VERIFIED_NMBE:.0%} and "
                f"{MAX_VERIFIED_CV_RMSE:.0%}."
            ),
        )
    return Claim.VERIFIED, f"{days} billed days since, and the interval excludes nothing saved."


def _unmeasured(change: AppliedChange, why: str, *, shortfall: str | None = None) -> ClaimReport:
    return ClaimReport(
        finding_id=change.finding_id,
        resource_id=change.resource_id,
        applied_utc=change.applied_utc,
        level=Claim.APPLIED,
        promised_per_month=change.promised_per_month,
        measured_per_month=None,
        why=why,
        shortfall=shortfall,
    )


def _promised(parts: Sequence[Estimate]) -> Estimate:
    """Add up promises; their spreads are taken as independent."""
    p50 = sum(part.p50 for part in parts)
    below = float(np.linalg.norm([part.p50 - part.p10 for part in parts]))
    above = float(np.linalg.norm([part.p90 - part.p50 for part in parts]))
    return Estimate(p10=p50 - below, p50=p50, p90=p50 + above)


def _measured(claims: Sequence[ClaimReport]) -> Measured | None:
    """Add up what was measured: claims of one compute share its error, computes have their own."""
    by_resource: dict[str, list[Measured]] = defaultdict(list)
    for claim in claims:
        if claim.measured_per_month is not None:
            by_resource[claim.resource_id.lower()].append(claim.measured_per_month)
    if not by_resource:
        return None
    parts = [
        [sum(end) for end in zip(*((m.low, m.mid, m.high) for m in each), strict=True)]
        for each in by_resource.values()
    ]
    mid = sum(part[1] for part in parts)
    below = float(np.linalg.norm([part[1] - part[0] for part in parts]))
    above = float(np.linalg.norm([part[2] - part[1] for part in parts]))
    return Measured(low=mid - below, mid=mid, high=mid + above)
