"""Online deployments that nobody asks anything."""

from dataclasses import dataclass
from datetime import timedelta
from typing import ClassVar

from optimizer.analysis.case import Assumptions
from optimizer.analysis.deployments import DeploymentCase
from optimizer.analysis.detectors import GUIDE, CannotAssessError, Detector, Proposal
from optimizer.analysis.guards import stands_by
from optimizer.model import How, Kind, Level, Source


@dataclass(frozen=True, kw_only=True)
class IdleDeployment(Detector[DeploymentCase]):
    """Fires where a deployment ran for weeks and was told not to have had a single request."""

    source = Source(title="Monitor use and delete what is unused", url=GUIDE)
    remedy_words = "delete the deployment"
    kinds: ClassVar = (Kind.DEPLOYMENT,)
    order: ClassVar = 44

    min_observed_days: float = 21.0
    """A request a month is what some batch callers send."""
    min_told_share: float = 0.9
    """Of minutes, of which the number of requests is known: silence is not zero."""
    young_days: float = 30.0
    """A deployment so young may not have been announced yet."""

    def propose(self, case: DeploymentCase, assumptions: Assumptions) -> Proposal | None:  # noqa: ARG002
        """Propose to delete it, unless it stands by for another one."""
        if case.used_minutes:
            return None
        resource = case.resource
        told = case.told_share
        if told < self.min_told_share:
            raise CannotAssessError(
                f"Azure told the number of requests for {told:.0%} of its minutes only, and "
                "silence may be none or a gap: see analysis.silent_deployments_are_idle."
            )
        if stands_by(resource):
            raise CannotAssessError(
                "It had no request, but its tags say that it stands by for a disaster."
            )
        created = resource.created_utc
        if created and case.window.end_utc - created < timedelta(days=self.young_days):
            raise CannotAssessError(
                f"It had no request, but is younger than {self.young_days:.0f} days."
            )
        hours = float(case.hours(case.settings).sum())
        traffic = resource.settings.get("traffic_percent")
        return Proposal(
            setting="resource",
            before="present",
            after="deleted",
            how=How.ACTION,
            overlay={"deleted": True},
            title=f"{resource.name} serves nobody",
            why=(
                f"It had no request in {case.window.days:.0f} days and was paid for {hours:,.0f} "
                "instance-hours."
            ),
            evidence={
                "instance_hours": round(hours, 1),
                "minutes_told_share": round(told, 3),
                "traffic_percent": traffic,
            },
            risk=Level.MEDIUM,
            pillar_notes=(
                (
                    "Reliability: it gets no traffic and may be kept to roll back to; keep it "
                    "until the other one has proved itself."
                    if traffic == 0
                    else "Reliability: a caller that asks once a quarter would find nothing."
                ),
            ),
            stands_alone=True,
        )
