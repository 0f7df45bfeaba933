"""Node-hours of runs that failed: reported, and claimed by nobody."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from optimizer.analysis.case import Assumptions
from optimizer.analysis.clusters import ClusterCase
from optimizer.analysis.detectors import GUIDE, CannotAssessError, Detector, Proposal
from optimizer.model import Effort, How, Kind, Source

FAILED = ("failed", "notresponding")


@dataclass(frozen=True, kw_only=True)
class FailedWork(Detector[ClusterCase]):
    """Fires where failed runs took a fair share of node-hours: no saving is claimed for mending."""

    source = Source(title="Monitor jobs and end those that fail", url=GUIDE)
    remedy_words = "look at why runs fail"
    kinds: ClassVar = (Kind.CLUSTER,)
    order: ClassVar = 86

    min_runs: int = 10
    min_share: float = 0.05
    """Of the node-hours of all runs."""

    def propose(self, case: ClusterCase, assumptions: Assumptions) -> Proposal | None:
        """Report what failed runs cost."""
        runs = case.features.runs
        if not case.levels.busy_seconds:
            return None
        if not runs.start.size:
            raise CannotAssessError("Its jobs could not be read.")
        if runs.start.size < self.min_runs:
            raise CannotAssessError(
                f"Only {runs.start.size} runs were seen; {self.min_runs} are needed."
            )
        failed = np.isin(np.char.lower(runs.status), FAILED)
        hours, total = float(runs.node_hours[failed].sum()), float(runs.node_hours.sum())
        cost = case.window.per_month(hours * case.rate.per_hour * case.k)
        if hours < self.min_share * total or cost < assumptions.min_saving_per_month:
            return None
        worst = max(
            np.unique(runs.experiment[failed]),
            key=lambda name: float(runs.node_hours[failed & (runs.experiment == name)].sum()),
        )
        return Proposal(
            setting="jobs",
            before=None,
            after=None,
            how=How.ADVICE,
            overlay={},
            title=f"Failed runs on {case.resource.name} cost {cost:,.0f} a month",
            why=(
                f"{int(failed.sum())} of {failed.size} runs failed after {hours:,.0f} node-hours, "
                f"{hours / total:.0%} of all; most of them in {worst or 'no experiment'}."
            ),
            evidence={
                "failed_runs": int(failed.sum()),
                "failed_node_hours": round(hours, 1),
                "failed_cost_per_month": round(cost, 2),
                "failed_share": round(hours / total, 3),
            },
            effort=Effort.CODE_CHANGE,
            exposure=True,
        )
