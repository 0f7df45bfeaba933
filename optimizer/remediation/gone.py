"""Why a finding is no longer there: what people did is asked before what moved by itself."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import fields
from typing import Any

from optimizer.analysis.assemble import Estate
from optimizer.analysis.case import CannotAssessError
from optimizer.analysis.joint import DAYS_PER_MONTH, overlaid
from optimizer.analysis.result import Analysis
from optimizer.errors import PriceNotFoundError
from optimizer.model import Gone, Json
from optimizer.remediation.documents import same, value_at
from optimizer.remediation.outcomes import AppliedChange
from optimizer.remediation.overlays import overlay_of, setting_key
from optimizer.store.memory import Remembered

EXCLUDED = ("Excluded by", "Snoozed until")
"""How the reasons of an exclusion begin."""


def gone(
    known: Mapping[str, Remembered],
    analysis: Analysis,
    estate: Estate,
    applied: Sequence[AppliedChange],
) -> tuple[Gone, ...]:
    """Return each finding that was known and is not there now, with why.

    Args:
        known: the findings of before, by id.
        analysis: everything that was found now.
        estate: what it was found in.
        applied: the changes that runs of ours made.
    """
    there = {finding.id for finding in analysis.findings}
    asking = _Asking(analysis, estate, applied)
    return tuple(
        Gone(
            finding_id=each.finding_id,
            detector=each.detector,
            resource_id=each.resource_id,
            title=each.title,
            why=asking.why(each),
        )
        for finding_id, each in known.items()
        if finding_id not in there
    )


class _Asking:
    """The question why, put to one analysis."""

    def __init__(
        self, analysis: Analysis, estate: Estate, applied: Iterable[AppliedChange]
    ) -> None:
        """Sort what the answers rest on."""
        self._currency = analysis.currency
        self._estate = estate
        self._silent = {(s.resource_id, s.detector): s.reason for s in analysis.not_assessed}
        self._applied = {
            (change.resource_id.lower(), change.setting): change
            for change in applied
            if change.ended_utc is None
        }

    def why(self, known: Remembered) -> str:
        """Return the first reason that holds."""
        reasons: tuple[Callable[[Remembered], str | None], ...] = (
            self._was_applied,
            self._resource_gone,
            self._was_excluded,
            self._set_elsewhere,
            self._not_assessed,
        )
        for reason in reasons:
            if said := reason(known):
                return said
        return self._no_longer_true(known)

    def _was_applied(self, known: Remembered) -> str | None:
        change = self._applied.get((known.resource_id.lower(), known.setting))
        return None if change is None else f"Applied on {change.applied_utc:%F} by {change.run_id}."

    def _resource_gone(self, known: Remembered) -> str | None:
        there = known.resource_id in self._estate.resources
        return None if there else "The resource is no longer there."

    def _was_excluded(self, known: Remembered) -> str | None:
        reason = self._silent.get((known.resource_id, known.detector), "")
        return reason if reason.startswith(EXCLUDED) else None

    def _set_elsewhere(self, known: Remembered) -> str | None:
        document = self._estate.resources[known.resource_id].arm
        now = value_at(document, known.setting)
        known_to_arm = known.setting.partition(".")[0] in document
        if not known_to_arm or same(now, known.before) or (not now and not known.before):
            return None
        return (
            f"{setting_key(known.setting)} was changed outside of this program, from "
            f"{_said(known.before)} to {_said(now)}."
        )

    def _not_assessed(self, known: Remembered) -> str | None:
        reason = self._silent.get((known.resource_id, known.detector))
        return None if reason is None else f"Not assessed any more: {reason}"

    def _no_longer_true(self, known: Remembered) -> str:
        moved = [
            f"{name} {before:,.0f} {self._currency} a month then and is {now:,.0f} now"
            for name, before, now in (
                ("the same change saved", known.saving_per_month, self._saving(known)),
                ("its compute cost", known.spend_per_month, self._spend(known)),
            )
            if before is not None and now is not None and round(before) != round(now)
        ]
        evidence = "; ".join(moved) or "what its detector asks for is no longer seen"
        return f"No longer true: {evidence}."

    def _saving(self, known: Remembered) -> float | None:
        """Return what the same change would save now; None where no replay tells."""
        case = self._estate.cases.get(known.resource_id)
        overlay = overlay_of(known.setting, known.after)
        if case is None or overlay is None:
            return None
        settings: Any = case.settings
        if not overlay.keys() <= {field.name for field in fields(settings)}:
            return None
        try:
            saving = case.saving(overlaid(settings, overlay))
        except (CannotAssessError, PriceNotFoundError):
            return None
        return float(saving.daily.mean()) * DAYS_PER_MONTH

    def _spend(self, known: Remembered) -> float | None:
        case = self._estate.cases.get(known.resource_id)
        return None if case is None else case.spend_per_month


def _said(value: Json) -> str:
    return "not set" if value is None else str(value)
