"""Clusters that may grow far beyond what they ever needed."""

import math
from dataclasses import dataclass
from typing import ClassVar

from optimizer.analysis.case import Assumptions
from optimizer.analysis.clusters import ClusterCase
from optimizer.analysis.detectors import GUIDE, Detector, Proposal
from optimizer.model import How, Kind, Source
from optimizer.units import HOURS_PER_MONTH


@dataclass(frozen=True, kw_only=True)
class OpenEndedMaximum(Detector[ClusterCase]):
    """Fires where a runaway job could spend far more than any job ever did: exposure, no saving."""

    source = Source(title="Use policies and quotas to limit compute", url=GUIDE)
    remedy_words = "PATCH scaleSettings.maxNodeCount"
    kinds: ClassVar = (Kind.CLUSTER,)
    order: ClassVar = 80

    min_observed_days: float = 21.0
    """Rare large jobs want a longer look than idling does."""
    headroom: float = 1.2
    """Times the peak: the proposed maximum (methods §11)."""
    far_over: float = 2.0
    """Times the proposed maximum from which on today's is called open-ended."""

    def propose(self, case: ClusterCase, assumptions: Assumptions) -> Proposal | None:  # noqa: ARG002
        """Propose the peak and some room, where today's maximum is far over it."""
        now, peak = case.settings, case.levels.peak
        after = max(math.ceil(round(peak * self.headroom, 6)), now.min_nodes, 1)
        if peak == 0 or now.max_nodes < self.far_over * after:
            return None
        exposure = (now.max_nodes - after) * case.rate.per_hour * HOURS_PER_MONTH
        name = case.resource.name
        return Proposal(
            setting="properties.properties.scaleSettings.maxNodeCount",
            before=now.max_nodes,
            after=after,
            how=How.PATCH,
            overlay={"max_nodes": after},
            title=f"{name} may grow to {now.max_nodes} nodes and never needed over {peak}",
            why=(
                f"At most {peak} nodes worked at once in {case.window.days:.0f} days; what it may "
                f"still grow beyond {after} would cost {exposure:,.0f} a month."
            ),
            evidence={
                "peak_nodes": peak,
                "max_nodes": now.max_nodes,
                "exposure_per_month": round(exposure, 2),
                "jobs_that_would_have_waited": 0,
            },
            pillar_notes=(
                (
                    "Performance efficiency: a job that wants more nodes than the maximum waits "
                    "for ever; raise it before such a job."
                ),
            ),
            exposure=True,
        )
