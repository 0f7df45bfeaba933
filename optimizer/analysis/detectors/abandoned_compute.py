"""Clusters and compute instances that nobody has used for a month."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, ClassVar

from optimizer.analysis.case import Assumptions, Case
from optimizer.analysis.detectors import GUIDE, CannotAssessError, Detector, Proposal
from optimizer.analysis.guards import stands_by
from optimizer.model import How, Kind, Level, Resource, Source
from optimizer.units import utc


@dataclass(frozen=True, kw_only=True)
class AbandonedCompute(Detector[Case[Any]]):
    """Fires where nothing ran for thirty days and something is still paid, such as disks."""

    source = Source(title="Monitor use and delete what is unused", url=GUIDE)
    remedy_words = "delete, with its own confirmation"
    kinds: ClassVar = (Kind.CLUSTER, Kind.INSTANCE)
    order: ClassVar = 10

    quiet_days: float = 30.0
    """Work of a month's end comes once in 28 to 31 days (methods §11)."""

    def propose(self, case: Case[Any], assumptions: Assumptions) -> Proposal | None:  # noqa: ARG002
        """Propose to delete what nobody used, unless it is kept for a disaster."""
        resource, days = case.resource, _quiet_days(case)
        if case.used_minutes and days < self.quiet_days:
            return None
        if stands_by(resource):
            raise CannotAssessError(
                "Nobody used it, but its tags say that it stands by for a disaster."
            )
        if days < self.quiet_days:
            raise CannotAssessError(
                f"Nobody used it in {days:.0f} days, and {self.quiet_days:.0f} are needed to call "
                "it abandoned: raise analysis.lookback_days."
            )
        paid = float(case.hours(case.settings)[case.after_use()].sum())
        return Proposal(
            setting="resource",
            before="present",
            after="deleted",
            how=How.ACTION,
            overlay={"deleted": True},
            title=f"{resource.name} is abandoned",
            why=(
                f"Nobody used it in {days:.0f} days, which cost {paid:,.0f} machine-hours and "
                f"{case.standing_per_day:,.2f} a day for disks and addresses."
            ),
            evidence={
                "days_without_use": round(days, 1),
                "paid_hours_since": round(paid, 1),
                "standing_cost_per_day": round(case.standing_per_day, 4),
                "state": resource.state,
            },
            risk=Level.MEDIUM,
            pillar_notes=(
                (
                    "Reliability: files on the disk of an instance go with it; keep what is not in "
                    "the workspace's file share."
                ),
            )
            if resource.kind is Kind.INSTANCE
            else (),
            stands_alone=True,
        )


def _quiet_days(case: Case[Any]) -> float:
    """Return for how long nobody used it: a stop before the window reaches further back."""
    since = case.window.start_utc + timedelta(minutes=case.used_minutes)
    stopped = _stopped_since(case.resource)
    if stopped is not None and not case.used_minutes:
        since = min(since, stopped)
    return (case.window.end_utc - since) / timedelta(days=1)


def _stopped_since(resource: Resource) -> datetime | None:
    """Return when it was last told to stop, where that was the last thing it was told."""
    inner = (resource.arm.get("properties") or {}).get("properties") or {}
    last = inner.get("lastOperation") or {}
    stopped = str(resource.state).lower() == "stopped" and last.get("operationName") == "Stop"
    return utc(str(last["operationTime"])) if stopped and last.get("operationTime") else None
