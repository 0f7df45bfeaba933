"""Batch work that could be interrupted, on machines that never are."""

import re
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from optimizer.analysis.case import Assumptions
from optimizer.analysis.clusters import ClusterCase
from optimizer.analysis.detectors import GUIDE, CannotAssessError, Detector, Proposal
from optimizer.analysis.guards import in_production
from optimizer.analysis.preemption import longest_that_pays
from optimizer.model import Effort, How, Kind, Level, Source

_DEADLINE = re.compile(r"deadline|sla|realtime|real-time|urgent", re.IGNORECASE)

INTERRUPTIBLE = ("batch", "pipeline")
"""Kinds of jobs that something else starts again, so that nobody has to."""


@dataclass(frozen=True, kw_only=True)
class DedicatedBatch(Detector[ClusterCase]):
    """Fires where batch runs would cost less on low-priority nodes even at an unlucky rate."""

    source = Source(title="Use low-priority machines for interruptible batch", url=GUIDE)
    remedy_words = "recreate as low priority"
    kinds: ClassVar = (Kind.CLUSTER,)
    order: ClassVar = 70

    min_runs: int = 10
    min_interruptible_share: float = 0.9
    """Of node-hours, that batch and pipeline jobs took."""
    margin: float = 0.5
    """Of the longest run that would still pay: how long the median one may be (methods §4.3)."""

    def propose(self, case: ClusterCase, assumptions: Assumptions) -> Proposal | None:
        """Propose low priority where it pays at the 95 % upper rate of evictions."""
        resource, runs = case.resource, case.features.runs
        if resource.vm_priority == "low_priority" or not case.levels.busy_seconds:
            return None
        if not runs.start.size:
            raise CannotAssessError(
                "Its jobs could not be read, so whether they may be interrupted is not known."
            )
        batch = np.isin(runs.kind, INTERRUPTIBLE)
        share = float(runs.node_hours[batch].sum() / runs.node_hours.sum())
        if share < self.min_interruptible_share:
            return None
        if runs.start.size < self.min_runs:
            raise CannotAssessError(
                f"Only {runs.start.size} runs were seen; {self.min_runs} are needed."
            )
        self._veto(case, assumptions)
        low = replace(case.settings, vm_priority="low_priority")
        rate = case.rate_of(low)
        discount = 1 - rate.per_hour / case.rate.per_hour
        if discount <= 0:
            return None
        evictions, upper = case.evictions, case.evictions.quantile(0.95)
        hours, nodes = runs.seconds / 3600, runs.nodes
        exposure = float(np.median(hours * nodes)) * upper
        longest = longest_that_pays(discount)
        if exposure >= self.margin * longest:
            raise CannotAssessError(
                f"Its median run would be interrupted {exposure:.1f} times at the upper rate of "
                f"{upper:.3f} evictions an hour, and no API tells whether it keeps checkpoints."
            )
        stretch = case.stretch(low)
        if rate.per_hour * stretch.worst >= case.rate.per_hour:
            return None
        pays_up_to = upper * longest / exposure
        return Proposal(
            setting="properties.properties.vmPriority",
            before="Dedicated",
            after="LowPriority",
            how=How.RECREATE,
            overlay={"vm_priority": "low_priority"},
            title=f"{resource.name} runs interruptible batch on dedicated machines",
            why=(
                f"{share:.0%} of its node-hours are batch and pipeline jobs, of a median "
                f"{float(np.median(hours)):.1f} h; low priority costs {1 - discount:.0%} as much, "
                f"and work would take {stretch.likely:.2f} times as long."
            ),
            evidence={
                "interruptible_share": round(share, 3),
                "median_run_hours": round(float(np.median(hours)), 2),
                "rate_per_hour_low_priority": round(rate.per_hour, 6),
                "evictions_seen": evictions.evictions,
                "low_priority_node_hours_seen": round(evictions.hours, 1),
                "evictions_per_node_hour": round(evictions.mean, 4),
                "evictions_per_node_hour_upper": round(upper, 4),
                "runtime_stretch_at_worst": round(stretch.worst, 3),
            },
            effort=Effort.RECREATE,
            risk=Level.MEDIUM,
            confidence=Level.HIGH if evictions.hours else Level.LOW,
            pillar_notes=(
                (
                    "Reliability: an evicted run starts anew, and where every node of the cluster "
                    "is taken its job is cancelled and must be submitted again."
                ),
            ),
            sensitivity=(
                (
                    f"For its median run it pays up to {pays_up_to:.2f} evictions a node-hour; "
                    + (
                        f"yours are {evictions.mean:.3f}, from {evictions.hours:,.0f} node-hours."
                        if evictions.hours
                        else f"{evictions.mean:.3f} is assumed, as none of yours was seen yet."
                    )
                ),
            ),
        )

    def _veto(self, case: ClusterCase, assumptions: Assumptions) -> None:
        """Refuse what must not be interrupted.

        Raises:
            CannotAssessError: it says why.
        """
        resource = case.resource
        words = " ".join(f"{name} {value}" for name, value in resource.tags.items())
        if _DEADLINE.search(words) or in_production(resource):
            raise CannotAssessError(
                "Its tags speak of a deadline or of production: its work must not be interrupted."
            )
        if assumptions.cluster_interactive_share > 0:
            raise CannotAssessError("People are said to wait for its starts (analysis settings).")
        if case.settings.max_nodes <= 1:
            raise CannotAssessError(
                "It has a single node: where that is taken Azure cancels the job for good."
            )
        if (case.offered or {}).get(resource.sku or "") is False:
            raise CannotAssessError(f"Azure does not offer {resource.sku} as low priority here.")
