"""Autoscale settings that never take an instance away, or add one when load falls."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from optimizer.analysis.case import Assumptions
from optimizer.analysis.deployments import DeploymentCase, autoscale_of, demand_of
from optimizer.analysis.detectors import GUIDE, CannotAssessError, Detector, Proposal
from optimizer.analysis.guards import in_production
from optimizer.analysis.serving import Limits, autoscaled, faults_of, in_time, late_share, said
from optimizer.model import AutoscaleRules, How, Kind, Level, Source


@dataclass(frozen=True, kw_only=True)
class InvertedAutoscale(Detector[DeploymentCase]):
    """Fires where rules go the wrong way or only up, so that instances stay at the maximum."""

    source = Source(title="Optimize compute scaling: autoscale online endpoints", url=GUIDE)
    remedy_words = "PUT Microsoft.Insights/autoscaleSettings"
    kinds: ClassVar = (Kind.DEPLOYMENT,)
    order: ClassVar = 47

    max_late_share: float = 0.01
    """Of five minutes with requests, in which waiting may be over its limit."""
    production_instances: int = 2

    def propose(self, case: DeploymentCase, assumptions: Assumptions) -> Proposal | None:  # noqa: ARG002
        """Propose rules that go both ways, from the lowest minimum that keeps requests in time."""
        setting = autoscale_of(case)
        if setting is None or not case.used_minutes:
            return None
        profiles: Any = setting.get("profiles") or []
        rules: list[Mapping[str, Any]] = [
            rule for profile in profiles for rule in profile.get("rules") or []
        ]
        faults = faults_of(rules)
        if not faults.inverted and not faults.one_sided:
            return None
        demand, asked = demand_of(case), case.features.requests_per_minute
        low, high = setting.get("min"), setting.get("max")
        if low is None or high is None:
            raise CannotAssessError("Its autoscale setting has no minimum or no maximum.")
        least = int(str(low))
        if in_production(case.resource):
            least = max(least, self.production_instances)
        lowest = AutoscaleRules(least=least, most=int(str(high)))
        better = in_time(asked, demand, lowest, max_late_share=self.max_late_share)
        if better is None:
            raise CannotAssessError(
                f"Its rules do not scale in, but with up to {lowest.most} instances requests would "
                "have waited too long under any: raise its maximum first."
            )
        what = (
            f"the rule {faults.inverted[0]} goes the wrong way"
            if faults.inverted
            else "it scales out and never in"
        )
        return Proposal(
            setting="autoscaleSettings.rules",
            before=[dict(rule) for rule in rules],
            after=said(better),
            how=How.PATCH,
            overlay={"autoscale": better},
            title=f"The autoscale of {case.resource.name} does not scale in",
            why=f"Between {low} and {high} instances, {what}.",
            evidence={
                "inverted_rules": "; ".join(faults.inverted) or None,
                "scales_in": "no" if faults.one_sided else "the wrong way",
                "late_share": round(
                    late_share(asked, autoscaled(asked, demand, better), demand, Limits()), 4
                ),
            },
            risk=Level.MEDIUM,
            confidence=Level.MEDIUM,
        )
