"""JSON documents, as `--json` prints them: their keys are a contract."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from optimizer.analysis.result import Analysis, Calibration
from optimizer.model import Estimate, Finding, NotAssessed
from optimizer.remediation.outcomes import (
    ClaimReport,
    Measured,
    Outcome,
    Parts,
    Report,
    Run,
    Verification,
)
from optimizer.scenarios import LeftOut, Scenario
from optimizer.scenarios.compare import Comparison
from optimizer.store.chain import Checked
from optimizer.store.ledger import Approval
from optimizer.units import iso_utc, round_money

SCHEMA = 1


def findings_document(analysis: Analysis) -> dict[str, Any]:
    """Return an analysis; money is to the cent, and what is not known is None."""
    return {
        "schema": SCHEMA,
        "currency": analysis.currency,
        "window": {
            "start_utc": iso_utc(analysis.window.start_utc),
            "end_utc": iso_utc(analysis.window.end_utc),
        },
        "totals": {
            "spend_per_month": cents(analysis.spend_per_month),
            "saving_per_month": estimate_document(analysis.saving_per_month),
            "by_detector": waterfall(analysis.by_detector),
        },
        "findings": [finding_document(finding) for finding in analysis.findings],
        "not_assessed": [_not_assessed_document(item) for item in analysis.not_assessed],
        "gone": [asdict(item) for item in analysis.gone],
    }


def finding_document(finding: Finding) -> dict[str, Any]:
    """Return one finding."""
    return {
        "id": finding.id,
        "detector": finding.detector,
        "resource_id": finding.resource_id,
        "workspace": finding.workspace,
        "kind": finding.kind.value,
        "owner": finding.owner,
        "tags": dict(finding.tags),
        "title": finding.title,
        "why": finding.why,
        "evidence": {name: _number(value) for name, value in finding.evidence.items()},
        "change": {
            "resource_id": finding.change.resource_id,
            "setting": finding.change.setting,
            "before": finding.change.before,
            "after": finding.change.after,
            "how": finding.change.how.value,
        },
        "saving_per_month": _known(finding.saving_per_month),
        "basis": finding.basis.value,
        "spend_per_month": cents(finding.spend_per_month),
        "effects": {
            "extra_waiting_minutes_per_month": _number(
                finding.effects.extra_waiting_minutes_per_month
            ),
            "extra_restarts_per_month": _number(finding.effects.extra_restarts_per_month),
            "runtime_stretch": _number(finding.effects.runtime_stretch),
        },
        "confidence": finding.confidence.value,
        "risk": finding.risk.value,
        "effort": finding.effort.value,
        "pillar_notes": list(finding.pillar_notes),
        "source": {"title": finding.source.title, "url": finding.source.url},
        "claim": finding.claim.value,
    }


def explanation_document(analysis: Analysis, finding: Finding) -> dict[str, Any]:
    """Return a finding with what it rests on and what would change it."""
    calibration = analysis.calibrations.get(finding.resource_id)
    return {
        "schema": SCHEMA,
        "currency": analysis.currency,
        "finding": finding_document(finding),
        "formula": analysis.formulas.get(finding.id),
        "sensitivity": list(analysis.sensitivity.get(finding.id, ())),
        "calibration": None if calibration is None else _calibration_document(calibration),
    }


def comparison_document(analysis: Analysis, compared: Comparison) -> dict[str, Any]:
    """Return scenarios side by side: the presets, the best within the limits, and the front."""
    return {
        "schema": SCHEMA,
        "currency": analysis.currency,
        "window": {
            "start_utc": iso_utc(analysis.window.start_utc),
            "end_utc": iso_utc(analysis.window.end_utc),
        },
        "scenarios": [
            {
                **_scenario_document(scenario),
                "not_included": [_left_out_document(left) for left in scenario.left_out],
            }
            for scenario in (*compared.presets, compared.best)
        ],
        "front": [_scenario_document(scenario) for scenario in compared.front.scenarios],
        "front_without": [finding.id for finding in compared.front.not_on_it],
    }


def _scenario_document(scenario: Scenario) -> dict[str, Any]:
    felt = scenario.felt
    return {
        "name": scenario.name,
        "findings": list(scenario.finding_ids),
        "changes": len(scenario.steps),
        "saving_per_month": estimate_document(scenario.total),
        "extra_waiting_minutes_per_month": _number(felt.extra_waiting_minutes_per_month),
        "waiting_not_known_of_resources": felt.waiting_not_known,
        "extra_restarts_per_month": _number(felt.extra_restarts_per_month),
        "risks": {level.value: number for level, number in scenario.risks.items()},
        "effort_points": scenario.effort_points,
        "teams": [
            {"owner": owner, "saving_per_month": estimate_document(share)}
            for owner, share in scenario.by_owner.items()
        ],
    }


def _left_out_document(left: LeftOut) -> dict[str, Any]:
    return {
        "finding": left.finding.id,
        "resource_id": left.finding.resource_id,
        "why": left.why,
        "would_add_per_month": _known(left.would_add_per_month),
        "would_add_note": left.no_figure,
    }


def verification_document(verification: Verification) -> dict[str, Any]:
    """Return how far every claim has come."""
    return {
        "claims": [_claim_document(claim) for claim in verification.claims],
        "totals": {
            "currency": verification.currency or None,
            "promised_per_month": estimate_document(verification.promised_per_month),
            "measured_per_month": _measured_document(verification.measured_per_month),
            "parts_per_month": _parts_document(verification.parts_per_month),
            "measured_per_year": _per_year_document(verification),
        },
        "suggested_events": list(verification.suggested_events),
    }


def history_document(runs: Sequence[Run]) -> dict[str, Any]:
    """Return every apply and rollback, oldest first."""
    return {"schema": SCHEMA, "runs": [run_document(run) for run in runs]}


def checked_document(checked: Checked) -> dict[str, Any]:
    """Return what a look along a ledger's chain found."""
    return {
        "schema": SCHEMA,
        "fits": checked.misfit is None,
        "entries": checked.entries,
        "head": checked.head,
        "misfit": checked.misfit,
    }


def run_document(run: Run) -> dict[str, Any]:
    """Return one apply or rollback."""
    return {
        "id": run.id,
        "kind": run.kind,
        "plan_id": run.plan_id,
        "scenario": run.scenario,
        "who": run.who,
        "started_utc": iso_utc(run.started_utc),
        "ended_utc": None if run.ended_utc is None else iso_utc(run.ended_utc),
        "outcomes": [_outcome_document(outcome) for outcome in run.outcomes],
    }


def approval_document(approval: Approval) -> dict[str, Any]:
    """Return a person's word on a plan."""
    return {
        "schema": SCHEMA,
        "plan_id": approval.plan_id,
        "plan_digest": approval.plan_digest,
        "who": approval.who,
        "at_utc": iso_utc(approval.at_utc),
        "until_utc": iso_utc(approval.until_utc),
        "comment": approval.comment,
    }


def estimate_document(estimate: Estimate) -> dict[str, float | None]:
    """Return an estimate to the cent."""
    return {"p10": cents(estimate.p10), "p50": cents(estimate.p50), "p90": cents(estimate.p90)}


def waterfall(by_detector: Mapping[str, Estimate]) -> dict[str, dict[str, float | None]]:
    """Return each detector's part to the cent; the parts still sum to the total's cents at p50.

    Each bar is rounded where it ends, not by its length, so that no cent is lost between them.

    >>> third = Estimate(p10=0, p50=1 / 3, p90=1)
    >>> [part["p50"] for part in waterfall({"a": third, "b": third, "c": third}).values()]
    [0.33, 0.34, 0.33]
    """
    parts = _telescoped([estimate.p50 for estimate in by_detector.values()])
    return {
        name: estimate_document(estimate) | {"p50": part}
        for (name, estimate), part in zip(by_detector.items(), parts, strict=True)
    }


def cents(amount: float | None) -> float | None:
    """Return money to the cent; what is no number is not known.

    >>> cents(1.125), cents(float("nan")), cents(None)
    (1.13, None, None)
    """
    return None if amount is None or not math.isfinite(amount) else round_money(amount)


def _telescoped(amounts: list[float]) -> Iterator[float]:
    end, before = 0.0, 0.0
    for amount in amounts:
        end += amount
        after = round_money(end)
        yield round_money(after - before)
        before = after


def _number(value: float | str | None) -> float | int | str | None:
    """Return a figure of evidence short enough to read; what is no number is not known."""
    if not isinstance(value, float):
        return value
    return round(value, 4) if math.isfinite(value) else None


def _known(estimate: Estimate | None) -> dict[str, float | None] | None:
    return None if estimate is None else estimate_document(estimate)


def _not_assessed_document(item: NotAssessed) -> dict[str, str]:
    return {"resource_id": item.resource_id, "detector": item.detector, "reason": item.reason}


def _calibration_document(calibration: Calibration) -> dict[str, Any]:
    return {
        "k": _number(calibration.k),
        "nmbe": _number(calibration.nmbe),
        "cv_rmse": _number(calibration.cv_rmse),
        "days": calibration.days,
        "basis": calibration.basis.value,
    }


def _claim_document(claim: ClaimReport) -> dict[str, Any]:
    return {
        "finding_id": claim.finding_id,
        "resource_id": claim.resource_id,
        "applied_utc": iso_utc(claim.applied_utc),
        "level": claim.level.value,
        "promised_per_month": estimate_document(claim.promised_per_month),
        "measured_per_month": _measured_document(claim.measured_per_month),
        "why": claim.why,
        "shortfall": claim.shortfall,
        "parts_per_month": _parts_document(claim.parts_per_month),
        "volume_per_month": _measured_document(claim.volume_per_month),
        "report": None if claim.report is None else _report_document(claim.report),
    }


def _parts_document(parts: Parts | None) -> dict[str, float] | None:
    """Return what changed a bill; the parts sum to its change to the cent."""
    return None if parts is None else asdict(parts.to_cents())


def _report_document(report: Report) -> dict[str, Any]:
    return {
        "name": report.name,
        "start": report.start.isoformat(),
        "end": report.end.isoformat(),
        "days": report.days,
        "next_on": None if report.next_on is None else report.next_on.isoformat(),
    }


def _per_year_document(verification: Verification) -> dict[str, Any] | None:
    measured = verification.measured_per_month
    if measured is None:
        return None
    return {"mid": cents(12 * measured.mid), "is_run_rate": verification.is_run_rate}


def _measured_document(measured: Measured | None) -> dict[str, float | None] | None:
    if measured is None:
        return None
    return {"low": cents(measured.low), "mid": cents(measured.mid), "high": cents(measured.high)}


def _outcome_document(outcome: Outcome) -> dict[str, Any]:
    return {
        "step_id": outcome.step_id,
        "resource_id": outcome.resource_id,
        "setting": outcome.setting,
        "before": outcome.before,
        "after": outcome.after,
        "status": outcome.status.value,
        "detail": outcome.detail,
        "at_utc": iso_utc(outcome.at_utc),
    }
