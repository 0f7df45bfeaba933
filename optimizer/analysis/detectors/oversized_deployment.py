"""Online deployments with more instances than their busiest minutes need."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from optimizer.analysis.case import Assumptions
from optimizer.analysis.deployments import (
    DeploymentCase,
    autoscale_of,
    demand_of,
    instances_now,
)
from optimizer.analysis.detectors import GUIDE, CannotAssessError, Detector, Proposal
from optimizer.analysis.guards import in_production
from optimizer.analysis.queueing import p95_wait
from optimizer.analysis.serving import Demand, Limits, cpu_of, smallest_count, told
from optimizer.model import How, Kind, Level, Source


@dataclass(frozen=True, kw_only=True)
class OversizedDeployment(Detector[DeploymentCase]):
    """Fires where fewer instances keep waiting and CPU low in the busiest five minutes too."""

    source = Source(title="Optimize compute resources: instances of deployments", url=GUIDE)
    remedy_words = "PATCH sku.capacity"
    kinds: ClassVar = (Kind.DEPLOYMENT,)
    order: ClassVar = 45

    max_cpu_p95: float = 0.4
    """Share of CPUs in 95 % of five minutes (methods §12)."""
    max_wait_share: float = 0.5
    """P95 of waiting in the busiest five minutes ÷ time of a request itself."""
    min_told_share: float = 0.5
    """Of minutes, of which the number of requests is known: nights may be silent, days may not."""
    production_instances: int = 2
    """The least where customers depend on it."""

    def propose(self, case: DeploymentCase, assumptions: Assumptions) -> Proposal | None:  # noqa: ARG002
        """Propose the fewest instances that keep both limits, where their number is fixed."""
        if autoscale_of(case) is not None or not case.used_minutes:
            return None
        now = instances_now(case)
        least = self.production_instances if in_production(case.resource) else 1
        if now <= least:
            return None
        demand = demand_of(case)
        if (share := case.told_share) < self.min_told_share:
            raise CannotAssessError(
                f"Azure told the number of requests for {share:.0%} of its minutes only: what was "
                "not told may be the busiest of them."
            )
        limits = Limits(max_cpu_p95=self.max_cpu_p95, max_wait_share=self.max_wait_share)
        asked = case.features.requests_per_minute
        after = smallest_count(asked, demand, limits, most=now, least=least)
        if after == now:
            return None
        busiest = float(told(asked).max())
        cpu = cpu_of(told(asked), demand, after)
        return Proposal(
            setting="sku.capacity",
            before=now,
            after=after,
            how=How.PATCH,
            overlay={"instances": after},
            title=f"{case.resource.name} has {now} instances and needs {after}",
            why=(
                f"In its busiest five minutes it was asked {busiest:,.0f} times a minute; {after} "
                f"instance{'s' * (after > 1)} answer that with CPUs at "
                f"{float(np.quantile(cpu, 0.95)) if cpu is not None else 0:.0%} in 95 % of time."
            ),
            evidence={
                "busiest_requests_per_minute": round(busiest, 1),
                "service_seconds": round(demand.service_seconds, 4),
                "requests_at_once_per_instance": demand.servers_per_instance,
                "wait_p95_ms_now": self._wait_ms(demand, busiest, now),
                "wait_p95_ms_after": self._wait_ms(demand, busiest, after),
                "cpu_p95_after": round(float(np.quantile(cpu, 0.95)), 3)
                if cpu is not None
                else None,
            },
            risk=Level.MEDIUM,
            pillar_notes=(
                (
                    "Reliability: "
                    + (
                        "two instances are kept, as its tags speak of production."
                        if after >= self.production_instances and least > 1
                        else "one instance has no other to stand in; tag the deployment "
                        "production to keep two."
                    )
                ),
            ),
            sensitivity=(
                "It holds for the busiest five minutes that were seen; a campaign to come is not.",
            ),
        )

    @staticmethod
    def _wait_ms(demand: Demand, busiest: float, count: int) -> float | None:
        """Return P95 of waiting in the busiest five minutes; None where it has no end."""
        load = np.array([busiest / 60 * demand.service_seconds])
        wait = p95_wait(count * demand.servers_per_instance, load, demand.service_seconds)[0]
        return round(float(wait) * 1000, 1) if np.isfinite(wait) else None
