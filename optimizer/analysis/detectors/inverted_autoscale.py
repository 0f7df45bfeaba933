"""Autoscale settings that never take an instance away, or add one when load falls."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from optimizer.analysis.case import Assumptions
from optimizer.analysis.deployments import DeploymentCase, autoscale_of, demand_of
from optimizer.analysis.detectors import GUIDE, CannotAssessError, Detector, Proposal
from optimizer.analysis.guards import in_production
from optimizer.analysis.serving import faults_of, said
from optimizer.model import AutoscaleRules, How, Kind, Level, Source


@dataclass(frozen=True, kw_only=True)
class InvertedAutoscale(Detector[DeploymentCase]):
    """Fires where rules go the wrong way or only up, so that instances stay at the maximum."""

    source = Source(title="Optimize compute scaling: autoscale online endpoints", url=GUIDE)
    remedy_words = "PUT Microsoft.Insights/autoscaleSettings"
    kinds: ClassVar = (Kind.DEPLOYMENT,)
    order: ClassVar = 47

    production_instances: int = 2

    def propose(self, case: DeploymentCase, assumptions: Assumptions) -> Proposal | None:  # noqa: ARG002
        """Propose the same limits with rules that go both ways, priced by their replay."""
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
        demand_of(case)
        low, high = setting.get("min"), setting.get("max")
        if low is None or high is None:
            raise CannotAssessError("Its autoscale setting has no minimum or no maximum.")
        least = int(str(low))
        if in_production(case.resource):
            least = max(least, self.production_instances)
        most = int(str(high))
        after = AutoscaleRules(least=least, most=most)
        what = (
            f"the rule {faults.inverted[0]} goes the wrong way"
            if faults.inverted
            else "it scales out and never in"
        )
        return Proposal(
            setting="autoscaleSettings.rules",
            before=[dict(rule) for rule in rules],
            after=said(after),
            how=How.PATCH,
            overlay={"autoscale": after},
            title=f"The autoscale of {case.resource.name} does not scale in",
            why=f"Between {least} and {most} instances, {what}.",
            evidence={
                "inverted_rules": "; ".join(faults.inverted) or None,
                "scales_in": "no" if faults.one_sided else "the wrong way",
            },
            risk=Level.MEDIUM,
            confidence=Level.MEDIUM,
        )
