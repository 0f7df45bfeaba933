"""Online deployments that run for their peak all day."""

from dataclasses import dataclass
from typing import ClassVar

from optimizer.analysis.case import Assumptions
from optimizer.analysis.deployments import (
    DeploymentCase,
    autoscale_of,
    demand_of,
    instances_now,
)
from optimizer.analysis.detectors import GUIDE, Detector, Proposal
from optimizer.analysis.guards import in_production
from optimizer.analysis.serving import Limits, autoscaled, in_time, late_share, said
from optimizer.model import AutoscaleRules, How, Kind, Level, Source


@dataclass(frozen=True, kw_only=True)
class NoAutoscale(Detector[DeploymentCase]):
    """Fires where rules on CPU would have run fewer instances than any fixed number, in time."""

    source = Source(title="Optimize compute scaling: autoscale online endpoints", url=GUIDE)
    remedy_words = "PUT Microsoft.Insights/autoscaleSettings"
    kinds: ClassVar = (Kind.DEPLOYMENT,)
    order: ClassVar = 46
    beside_others: ClassVar = True

    max_late_share: float = 0.01
    """Of five minutes with requests, in which waiting may be over its limit."""
    production_instances: int = 2

    def propose(self, case: DeploymentCase, assumptions: Assumptions) -> Proposal | None:  # noqa: ARG002
        """Propose Microsoft's sample rules with the lowest minimum that keeps requests in time."""
        if autoscale_of(case) is not None or not case.used_minutes:
            return None
        most = instances_now(case)
        least = self.production_instances if in_production(case.resource) else 1
        if most <= least:
            return None
        demand, asked = demand_of(case), case.features.requests_per_minute
        lowest = AutoscaleRules(least=least, most=most)
        rules = in_time(asked, demand, lowest, max_late_share=self.max_late_share)
        if rules is None or rules.least == most:
            return None
        late = late_share(asked, autoscaled(asked, demand, rules), demand, Limits())
        counts = autoscaled(asked, demand, rules)
        return Proposal(
            setting="autoscaleSettings",
            before=None,
            after=said(rules),
            how=How.PATCH,
            overlay={"autoscale": rules},
            title=f"{case.resource.name} runs {most} instances at any hour",
            why=(
                f"Rules on CPU would have run {float(counts.mean()):.1f} instances on average, "
                f"{rules.least} to {int(counts.max())}, with waiting over its limit in {late:.1%} "
                "of five minutes."
            ),
            evidence={
                "instances_now": most,
                "instances_mean_with_autoscale": round(float(counts.mean()), 2),
                "late_share": round(late, 4),
                "cpu_per_request_a_minute": round(demand.cpu_per_request or 0.0, 6),
            },
            risk=Level.MEDIUM,
            pillar_notes=(
                (
                    "Performance efficiency: a new instance takes minutes to start; a rise within "
                    "them is served by those that are there."
                ),
            ),
        )
