"""From tables to findings: ask the detectors, price, rank and explain what they propose."""

import hashlib
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import date, datetime, timedelta
from typing import Any, TypeAlias

from optimizer.analysis.anomalies import AnomalyRules, anomalies, parts_of
from optimizer.analysis.assemble import Bill, Estate, build
from optimizer.analysis.case import Assumptions, Case
from optimizer.analysis.confidence import MAX_NMBE, grade
from optimizer.analysis.detectors import CannotAssessError, Detector, Proposal
from optimizer.analysis.features import Frames
from optimizer.analysis.forecast import month_end
from optimizer.analysis.joint import Joint, Move, estimate, overlaid
from optimizer.analysis.pools import pools_of
from optimizer.analysis.rates import Rate
from optimizer.analysis.result import Analysis
from optimizer.catalogue import Catalogue
from optimizer.errors import PriceNotFoundError
from optimizer.model import (
    Change,
    Estimate,
    Finding,
    Kind,
    Level,
    NotAssessed,
    Resource,
)
from optimizer.units import HOURS_PER_MONTH

IGNORE_TAG = "optimizer:ignore"

_LEVELS = tuple(Level)
_COMPUTES = frozenset(Kind) - {Kind.POOL}
_WHOLE_DAYS = AnomalyRules(incomplete_days=0)
"""The days of an estate's bill are whole: `build` left the others out."""
_NOTHING = "It saves nothing by itself: what it may cost stands in the evidence."
_AFTER_OTHERS = "Saves this much once the other changes of this resource are made."


@dataclass(frozen=True, slots=True, kw_only=True)
class Exclusions:
    """What the customer does not want to hear of, beside the tag `optimizer:ignore`."""

    configured: Collection[str] = ()
    """`detector`, `resource name` or `detector:resource name`."""
    snoozed: Mapping[str, str] = field(default_factory=dict)
    """Why, by finding id."""


def find(
    frames: Frames,
    detectors: Collection[Detector[Any]],
    *,
    assumptions: Assumptions,
    billed_through: datetime,
    snapshot: Catalogue,
    exclusions: Exclusions | None = None,
) -> Analysis:
    """Return everything the detectors find in the tables of one window.

    Args:
        frames: the tables.
        detectors: those to ask.
        assumptions: see `config.AnalysisSettings`.
        billed_through: costs of days that end later are incomplete.
        snapshot: list prices for what the tables say nothing of.
        exclusions: what not to report.
    """
    estate = build(frames, billed_through=billed_through, snapshot=snapshot)
    return judge(estate, detectors, assumptions=assumptions, exclusions=exclusions or Exclusions())


def judge(
    estate: Estate,
    detectors: Collection[Detector[Any]],
    *,
    assumptions: Assumptions,
    exclusions: Exclusions,
) -> Analysis:
    """Ask every detector about every case and put the answers together."""
    asked = _Asked(detectors=detectors, assumptions=assumptions, exclusions=exclusions)
    asked.about(estate)
    if any(Kind.POOL in detector.kinds for detector in detectors):
        # Commitments are judged last, on what every other finding leaves (methods §6).
        estate = _with_pools(estate, asked.chosen(estate.cases))
        asked.about(estate, kinds={Kind.POOL})
    found, silent = asked.found, asked.silent
    found.sort(key=lambda item: (-_p50(item.finding), item.finding.id))
    joint = Joint(cases=estate.cases, moves=tuple(item.move for item in found))
    together = joint.together([item.finding.id for item in found])
    daily_spend = _daily_spend(estate.bill)
    return Analysis(
        currency=estate.bill.currency,
        window=estate.window,
        findings=tuple(item.finding for item in found),
        not_assessed=tuple(silent),
        spend_per_month=estate.bill.monthly(estate.bill.lines) or 0.0,
        saving_per_month=together.total,
        by_detector=together.by_detector,
        resources=estate.resources,
        rate_savings=estate.bill.rate_savings,
        calibrations={
            resource_id: case.calibration
            for resource_id, case in estate.cases.items()
            if case.calibration is not None
        },
        daily_spend=daily_spend,
        month_end=month_end(daily_spend),
        anomalies=anomalies(
            daily_spend,
            through=estate.bill.end,
            parts=parts_of(
                (line.day, line.component, line.resource_id or line.workspace_id, line.cost)
                for line in estate.bill.lines
            ),
            rules=_WHOLE_DAYS,
        ),
        formulas={item.finding.id: item.formula for item in found},
        sensitivity={item.finding.id: item.sensitivity for item in found},
        series={
            item.finding.id: estate.cases[item.finding.resource_id].series(item.after)
            for item in found
        },
        joint=joint,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Asked:
    """The questions put so far, and their answers."""

    detectors: Collection[Detector[Any]]
    assumptions: Assumptions
    exclusions: Exclusions
    found: list["_Found"] = field(default_factory=list)
    silent: list[NotAssessed] = field(default_factory=list)

    def about(self, estate: Estate, *, kinds: Collection[Kind] = _COMPUTES) -> None:
        """Ask every detector about every case of these kinds."""
        for resource_id, resource in estate.resources.items():
            if resource.kind not in kinds:
                continue
            proposals = self._proposals(estate, resource)
            final = [each for each in proposals if each[1].stands_alone][:1] or proposals
            for detector, proposal in proposals:
                if (detector, proposal) not in final:
                    winner = final[0][0].name
                    reason = f"Nothing else is worth changing once {winner} is carried out."
                    self._say(resource_id, detector.name, reason)
            if final:
                for item in _priced(estate.cases[resource_id], final, self.assumptions):
                    self._keep(item)

    def chosen(self, cases: Mapping[str, Case[Any]]) -> dict[str, Any]:
        """Return the settings of every resource once all that was found is carried out."""
        settings: dict[str, Any] = {}
        for item in self.found:
            resource_id = item.move.resource_id
            before = settings.get(resource_id, cases[resource_id].settings)
            settings[resource_id] = overlaid(before, item.move.overlay)
        return settings

    def _proposals(self, estate: Estate, resource: Resource) -> list["_Proposed"]:
        proposals: list[_Proposed] = []
        for detector in self.detectors:
            if resource.kind not in detector.kinds:
                continue
            try:
                _refuse(estate, resource, detector, self.exclusions)
                case = estate.cases[resource.resource_id]
                proposal = detector.propose(case, self.assumptions)
                _refuse_second(proposal, proposals)
            except (CannotAssessError, PriceNotFoundError) as reason:
                self._say(resource.resource_id, detector.name, str(reason))
                continue
            if proposal is not None:
                proposals.append((detector, proposal))
        return proposals

    def _keep(self, item: "_Found") -> None:
        why = self.exclusions.snoozed.get(item.finding.id)
        if why is None:
            self.found.append(item)
        else:
            self._say(item.finding.resource_id, item.finding.detector, why)

    def _say(self, resource_id: str, detector: str, reason: str) -> None:
        self.silent.append(NotAssessed(resource_id=resource_id, detector=detector, reason=reason))


def _with_pools(estate: Estate, chosen: Mapping[str, Any]) -> Estate:
    """Return the estate with its pools of commitments, as the chosen settings leave them."""
    bill = estate.bill
    pools = pools_of(list(estate.cases.values()), chosen, bill.lines, estate.rates, bill.window)
    return replace(
        estate,
        resources={**estate.resources, **pools.resources},
        cases={**estate.cases, **pools.cases},
        unassessable={**estate.unassessable, **pools.unassessable},
    )


_Proposed: TypeAlias = tuple[Detector[Any], Proposal]


def _refuse_second(proposal: Proposal | None, earlier: Iterable[_Proposed]) -> None:
    """Raise CannotAssessError where another finding changes the same setting already."""
    for other, taken in earlier:
        if proposal is not None and proposal.overlay.keys() & taken.overlay.keys():
            raise CannotAssessError(
                f"The finding of {other.name} changes the same setting; it is asked again once "
                "that is done."
            )


def _p50(finding: Finding) -> float:
    return finding.saving_per_month.p50 if finding.saving_per_month else 0.0


def _daily_spend(bill: Bill) -> dict[date, float]:
    spend: dict[date, float] = {
        bill.start + timedelta(days=offset): 0.0 for offset in range(bill.days)
    }
    for line in bill.lines:
        spend[line.day] += line.cost
    return spend


def _refuse(
    estate: Estate, resource: Resource, detector: Detector[Any], exclusions: Exclusions
) -> None:
    """Raise CannotAssessError where the question must not or cannot be asked."""
    tag = resource.tags.get(IGNORE_TAG)
    ignored = {part.strip() for part in (tag or "").split(",")}
    if tag is not None and ignored & {"", "all", "true", detector.name, *detector.also_ignored_as}:
        raise CannotAssessError(f"Excluded by its tag {IGNORE_TAG}.")
    names = {detector.name, resource.name, f"{detector.name}:{resource.name}"}
    if names & set(exclusions.configured):
        raise CannotAssessError("Excluded by the setting analysis.ignore.")
    if resource.resource_id in estate.unassessable:
        raise CannotAssessError(estate.unassessable[resource.resource_id])
    case = estate.cases[resource.resource_id]
    days = case.window.days - case.unknown_hours / 24
    if days < detector.min_observed_days:
        raise CannotAssessError(
            f"Only {days:.0f} days were observed; {detector.min_observed_days:.0f} are needed."
        )
    if case.calibration and abs(case.calibration.nmbe) > MAX_NMBE:
        raise CannotAssessError(
            f"The replay of today's settings misses the bill by {case.calibration.nmbe:+.0%} "
            f"(limit {MAX_NMBE:.0%}), so it says nothing about other settings."
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Found:
    finding: Finding
    move: Move
    after: Any
    """The settings once it is changed."""
    formula: str
    sensitivity: tuple[str, ...]


def _priced(case: Case[Any], proposals: list[_Proposed], assumptions: Assumptions) -> list[_Found]:
    """Price each proposal alone and after the others of its resource; drop what is too little."""
    every: dict[str, Any] = {}
    for _, proposal in proposals:
        every |= proposal.overlay
    least = max(
        assumptions.min_saving_per_month,
        assumptions.min_saving_share * (case.spend_per_month or 0.0),
    )
    found = []
    for detector, proposal in proposals:
        after: Any = overlaid(case.settings, proposal.overlay)
        saving = estimate(case.saving(after))
        others = overlaid(
            case.settings, {k: v for k, v in every.items() if k not in proposal.overlay}
        )
        last = estimate(case.saving(overlaid(case.settings, every), others))
        # Two changes of one cluster can need each other: nodes no longer kept still idle for as
        # long as a long idle time holds them.
        if proposal.exposure or (saving.p50 >= least and not detector.beside_others):
            found.append(_found(case, detector, proposal, saving, case.settings))
        elif last.p50 >= least and (last.p10 > 0 or not detector.beside_others):
            found.append(_found(case, detector, proposal, last, others))
    return found


def _found(
    case: Case[Any],
    detector: Detector[Any],
    proposal: Proposal,
    saving: Estimate,
    before: Any,
) -> _Found:
    resource = case.resource
    after = overlaid(before, proposal.overlay)
    key = f"{resource.resource_id}|{detector.name}|{proposal.setting}"
    finding_id = hashlib.sha256(key.encode()).hexdigest()[:12]
    notes = () if before == case.settings else (_AFTER_OTHERS,)
    confidence = grade(
        saving,
        days=case.window.days - case.unknown_hours / 24,
        samples=case.samples,
        logs_agree=case.from_logs and case.calibration is not None,
    )
    finding = Finding(
        id=finding_id,
        detector=detector.name,
        resource_id=resource.resource_id,
        workspace=resource.workspace_id.rpartition("/")[2],
        kind=resource.kind,
        owner=resource.owner,
        tags=resource.tags,
        title=proposal.title,
        why=proposal.why,
        evidence={
            "observed_days": case.window.days,
            "unknown_hours": round(case.unknown_hours, 1),
            "rate_per_hour": round(case.rate.per_hour, 6),
            **_listed_on(case.rate),
            "calibration_k": round(case.calibration.k, 4) if case.calibration else None,
            "calibration_nmbe": round(case.calibration.nmbe, 4) if case.calibration else None,
            "calibration_cv_rmse": (
                round(case.calibration.cv_rmse, 4) if case.calibration else None
            ),
            "saving_over_window": round(saving.p50 * case.window.hours / HOURS_PER_MONTH, 2),
            **proposal.evidence,
        },
        change=Change(
            resource_id=resource.resource_id,
            setting=proposal.setting,
            before=proposal.before,
            after=proposal.after,
            how=proposal.how,
        ),
        saving_per_month=saving,
        basis=case.rate.basis,
        spend_per_month=case.spend_per_month,
        effects=case.effects(after, before),
        confidence=min(confidence, proposal.confidence, key=_LEVELS.index),
        risk=proposal.risk,
        effort=proposal.effort,
        pillar_notes=(*notes, *proposal.pillar_notes),
        source=detector.source,
    )
    return _Found(
        finding=finding,
        move=Move(
            finding_id=finding_id,
            detector=detector.name,
            resource_id=resource.resource_id,
            order=detector.order,
            overlay=proposal.overlay,
        ),
        after=after,
        formula=_NOTHING if proposal.exposure else case.formula(after, before, saving),
        sensitivity=proposal.sensitivity,
    )


def _listed_on(rate: Rate) -> dict[str, str]:
    """Return how old the list price is that a rate rests on; nothing where it rests on the bill."""
    return {"list_price_date": rate.listed_on.isoformat()} if rate.listed_on else {}
