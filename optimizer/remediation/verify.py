"""Did the money come? Old settings replayed on the activity since, against the bill (methods §9).

Activity is observed, not assumed, so a busier or quieter month changes nothing: what is left
between `k × replay of the old settings` and the bill is what the new settings did. `k`, the
physics and the day-by-day errors of the replay are frozen when a plan is applied.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import date
from itertools import pairwise
from typing import Any

import numpy as np

from optimizer.analysis.assemble import Bill, Estate
from optimizer.analysis.case import Case
from optimizer.analysis.clusters import ClusterCase
from optimizer.analysis.confidence import Floats, block_means
from optimizer.analysis.joint import DAYS_PER_MONTH
from optimizer.analysis.replay import Physics
from optimizer.model import Claim, Estimate, Json
from optimizer.remediation.outcomes import AppliedChange, ClaimReport, Measured, Verification
from optimizer.units import seconds_from_iso

MIN_MEASURED_DAYS = 7
"""Fewer billed days say nothing yet."""

MIN_VERIFIED_DAYS = 28
MAX_VERIFIED_NMBE = 0.05
MAX_VERIFIED_CV_RMSE = 0.20

_CONFIDENCE = (0.05, 0.95)
_SEED = 28


@dataclass(frozen=True, slots=True, kw_only=True)
class Baseline:
    """What was known of one compute when its change was applied."""

    k: float
    nmbe: float
    cv_rmse: float
    billed_hours: tuple[float, ...]
    """Of each day before, as far as billed."""
    replayed_hours: tuple[float, ...]
    """Of the same days under the settings of those days."""
    settings: Mapping[str, Any]
    physics: Mapping[str, float] | None
    """Of a cluster."""


def freeze(estate: Estate) -> dict[str, Json]:
    """Return the baseline of every compute whose bill is known, as JSON by resource id."""
    frozen = {key: _baseline(case, estate.bill) for key, case in estate.cases.items()}
    return {key: asdict(baseline) for key, baseline in frozen.items() if baseline is not None}


def _baseline(case: Case[Any], bill: Bill) -> Baseline | None:
    if case.calibration is None:
        return None
    replayed = case.as_was()
    billed = _billed_hours(case, bill)
    both = ~np.isnan(billed) & ~np.isnan(replayed)
    return Baseline(
        k=case.calibration.k,
        nmbe=case.calibration.nmbe,
        cv_rmse=case.calibration.cv_rmse,
        billed_hours=tuple(np.round(billed[both], 6).tolist()),
        replayed_hours=tuple(np.round(replayed[both], 6).tolist()),
        settings=asdict(case.settings),
        physics=asdict(case.physics) if isinstance(case, ClusterCase) else None,
    )


def _billed_hours(case: Case[Any], bill: Bill) -> Floats:
    """Return the billed hours of each day of the window; from money where no hours are billed."""
    hours = bill.daily(case.resource.resource_id, case.window, hours=True)
    if np.nansum(hours) > 0:
        return hours
    return bill.daily(case.resource.resource_id, case.window, hours=False) / case.rate.per_hour


def verify(
    estate: Estate, applied: Sequence[tuple[AppliedChange, Json]], *, currency: str
) -> Verification:
    """Return how far each applied finding has come on the claims ladder.

    Args:
        estate: built over a window that reaches from before the changes to the newest bill.
        applied: every change the ledger knows with the baselines of its run.
        currency: of the bill.
    """
    by_resource: dict[str, list[tuple[AppliedChange, Json]]] = defaultdict(list)
    for change, baselines in applied:
        by_resource[change.resource_id].append((change, baselines))
    claims: list[ClaimReport] = []
    for resource_id, changes in by_resource.items():
        claims.extend(_claims(estate, resource_id, changes))
    standing = [claim for claim in claims if claim.measured_per_month is not None]
    return Verification(
        currency=currency,
        claims=tuple(sorted(claims, key=lambda claim: (claim.applied_utc, claim.finding_id))),
        promised_per_month=_promised([change.promised_per_month for change, _ in applied]),
        measured_per_month=_measured(
            [claim.measured_per_month for claim in standing if claim.measured_per_month]
        ),
    )


def _claims(
    estate: Estate, resource_id: str, changes: list[tuple[AppliedChange, Json]]
) -> list[ClaimReport]:
    last = [change for change, _ in changes if change.ended_utc is None]
    reports = [
        _report(change, Claim.APPLIED, None, f"It was rolled back on {change.ended_utc:%Y-%m-%d}.")
        for change, _ in changes
        if change.ended_utc is not None
    ]
    if not last:
        return reports
    case = estate.cases.get(resource_id)
    frozen = _frozen(changes[-1][1], resource_id)
    if case is None or frozen is None:
        why = (
            estate.unassessable.get(resource_id, "It was not seen in the last collection.")
            if case is None
            else "The bill did not tell this compute's cost when the change was made."
        )
        return reports + [_report(change, Claim.APPLIED, None, why) for change in last]
    return reports + _measure(case, estate.bill, last, frozen)


def _frozen(baselines: Json, resource_id: str) -> Baseline | None:
    known = baselines.get(resource_id) if isinstance(baselines, dict) else None
    if known is None:
        return None
    # What was a tuple came back from the ledger as a list.
    settings = {name: _frozen_value(value) for name, value in known["settings"].items()}
    return Baseline(**(known | {"settings": settings}))


def _frozen_value(value: Any) -> Any:
    return tuple(map(_frozen_value, value)) if isinstance(value, list) else value


def _measure(
    case: Case[Any],
    bill: Bill,
    changes: list[AppliedChange],
    frozen: Baseline,
) -> list[ClaimReport]:
    since = max(min(change.applied_utc for change in changes).date(), case.window.start_utc.date())
    after = _days(case, since, bill.end)
    days = after.stop - after.start
    if days < MIN_MEASURED_DAYS:
        why = f"{max(days, 0)} billed days since; {MIN_MEASURED_DAYS} are needed to measure."
        return [_report(change, Claim.APPLIED, None, why) for change in changes]
    if isinstance(case, ClusterCase) and frozen.physics is not None:
        case = replace(case, physics=Physics(**frozen.physics))

    steps = _chain(case, changes, frozen)
    hours = [case.hours(settings)[after] for settings in steps]
    billed = _billed_hours(case, bill)[after]
    rate = _rate_since(case, bill, after)
    old, new = frozen.k * hours[0].sum(), frozen.k * hours[-1].sum()
    per_month = rate * DAYS_PER_MONTH / days
    mid = float(old - billed.sum()) * per_month
    # What the replay of today's settings misses the bill by, it may miss by for the old ones too.
    missed = float(abs(new - billed.sum())) * per_month
    below, above = _ratio_spread(frozen, days)
    raw = float(hours[0].sum()) * per_month
    total = Measured(
        low=mid - float(np.hypot(below * raw, missed)),
        mid=mid,
        high=mid + float(np.hypot(above * raw, missed)),
    )
    parts = [before.sum() - then.sum() for before, then in pairwise(hours)]
    shares = _shares(parts)
    level, why = _level(total, days, frozen)
    return [
        _report(change, level, _scaled(total, share), why)
        for change, share in zip(changes, shares, strict=True)
    ]


def _days(case: Case[Any], since: date, until: date) -> slice:
    first = case.window.start_utc.date()
    end = min(until, case.window.end_utc.date())
    start = max(0, (since - first).days)
    return slice(start, max(start, (end - first).days))


def _chain(case: Case[Any], changes: Sequence[AppliedChange], frozen: Baseline) -> list[Any]:
    """Return the old settings and those after each change."""
    today: Any = case.settings
    settings: list[Any] = [replace(today, **frozen.settings)]
    for change in changes:
        settings.append(replace(settings[-1], **_FIELDS[change.setting](change.after)))
    return settings


def _int(value: Json) -> int:
    return int(str(value))


_FIELDS: Mapping[str, Any] = {
    "properties.properties.scaleSettings.minNodeCount": lambda value: {"min_nodes": _int(value)},
    "properties.properties.scaleSettings.maxNodeCount": lambda value: {"max_nodes": _int(value)},
    "properties.properties.scaleSettings.nodeIdleTimeBeforeScaleDown": lambda value: {
        "idle_seconds": seconds_from_iso(value)
    },
    "properties.properties.idleTimeBeforeShutdown": lambda value: {
        "idle_shutdown_minutes": seconds_from_iso(value) // 60
    },
    "sku.capacity": lambda value: {"instances": _int(value)},
}
"""What each setting we change is in the settings of a case."""


def _rate_since(case: Case[Any], bill: Bill, after: slice) -> float:
    """Return what an hour has cost since, so that a change of price is no saving."""
    resource_id = case.resource.resource_id
    cost = float(np.nansum(bill.daily(resource_id, case.window, hours=False)[after]))
    hours = float(np.nansum(bill.daily(resource_id, case.window, hours=True)[after]))
    return cost / hours if hours >= 1 else case.rate.per_hour


def _ratio_spread(frozen: Baseline, days: int) -> tuple[float, float]:
    """Return by how much bill / replay of such a time may lie below and above `k`.

    Day blocks of the time before are drawn twice, for the k that was measured and for the one of
    the days since; the days' weights are their replayed hours.
    """
    billed, replayed = np.asarray(frozen.billed_hours), np.asarray(frozen.replayed_hours)
    mean = replayed.mean()
    error = (billed - frozen.k * replayed) / mean
    rng = np.random.default_rng(_SEED)
    spread = block_means(error, days, rng) - block_means(error, error.size, rng)
    low, high = np.quantile(spread, _CONFIDENCE)
    return max(0.0, -float(low)), max(0.0, float(high))


def _shares(parts: Sequence[float]) -> list[float]:
    """Split one compute's measured saving by what each change replays to."""
    total = sum(parts)
    return [float(part / total) if total else 1 / len(parts) for part in parts]


def _scaled(total: Measured, share: float) -> Measured:
    low, high = sorted((total.low * share, total.high * share))
    return Measured(low=low, mid=total.mid * share, high=high)


def _level(total: Measured, days: int, frozen: Baseline) -> tuple[Claim, str]:
    if total.low <= 0:
        return Claim.MEASURED, f"The interval over {days} billed days does not exclude nothing."
    if days < MIN_VERIFIED_DAYS:
        return (
            Claim.MEASURED,
            f"{days} billed days since; {MIN_VERIFIED_DAYS} are needed to call it verified.",
        )
    if abs(frozen.nmbe) > MAX_VERIFIED_NMBE or frozen.cv_rmse > MAX_VERIFIED_CV_RMSE:
        return (
            Claim.MEASURED,
            (
                f"The replay missed the bill by {frozen.nmbe:+.1%} with a daily scatter of "
                f"{frozen.cv_rmse:.0%} before the change; verified needs "
                f"{MAX_VERIFIED_NMBE:.0%} and {MAX_VERIFIED_CV_RMSE:.0%}."
            ),
        )
    return Claim.VERIFIED, f"{days} billed days since, and the interval excludes nothing saved."


def _report(
    change: AppliedChange, level: Claim, measured: Measured | None, why: str
) -> ClaimReport:
    return ClaimReport(
        finding_id=change.finding_id,
        resource_id=change.resource_id,
        applied_utc=change.applied_utc,
        level=level,
        promised_per_month=change.promised_per_month,
        measured_per_month=measured,
        why=why,
    )


def _promised(parts: Sequence[Estimate]) -> Estimate:
    """Add up promises; their spreads are taken as independent."""
    p50 = sum(part.p50 for part in parts)
    below = float(np.linalg.norm([part.p50 - part.p10 for part in parts]))
    above = float(np.linalg.norm([part.p90 - part.p50 for part in parts]))
    return Estimate(p10=p50 - below, p50=p50, p90=p50 + above)


def _measured(parts: Sequence[Measured]) -> Measured | None:
    """Add up what was measured; the errors of different computes are taken as independent."""
    if not parts:
        return None
    mid = sum(part.mid for part in parts)
    below = float(np.linalg.norm([part.mid - part.low for part in parts]))
    above = float(np.linalg.norm([part.high - part.mid for part in parts]))
    return Measured(low=mid - below, mid=mid, high=mid + above)
