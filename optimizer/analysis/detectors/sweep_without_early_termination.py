"""Sweeps that train every trial to its end."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from optimizer.analysis.case import Assumptions
from optimizer.analysis.clusters import ClusterCase
from optimizer.analysis.detectors import GUIDE, CannotAssessError, Detector, Proposal
from optimizer.model import Effort, How, Kind, Source


@dataclass(frozen=True, kw_only=True)
class SweepWithoutEarlyTermination(Detector[ClusterCase]):
    """Fires where sweeps have no early termination policy: exposure, as no curve was read."""

    source = Source(title="Set termination policies for hyperparameter sweeps", url=GUIDE)
    remedy_words = "early_termination in the sweep's YAML"
    kinds: ClassVar = (Kind.CLUSTER,)
    order: ClassVar = 85

    min_sweeps: int = 5
    """Fewer tell little of the next one (methods §11)."""

    def propose(self, case: ClusterCase, assumptions: Assumptions) -> Proposal | None:
        """Report what trials of such sweeps cost; what a policy would save is not known."""
        runs = case.features.runs
        trials = runs.unended_sweep != ""
        if not trials.any():
            return None
        sweeps, trials_each = np.unique(runs.unended_sweep[trials], return_counts=True)
        sweeps = sweeps[trials_each > 1]
        if sweeps.size < self.min_sweeps:
            raise CannotAssessError(
                f"Only {sweeps.size} sweeps of several trials were seen; {self.min_sweeps} are "
                "needed."
            )
        hours = float(runs.node_hours[trials].sum())
        cost = case.window.per_month(hours * case.rate.per_hour * case.k)
        if cost < assumptions.min_saving_per_month:
            return None
        return Proposal(
            setting="earlyTermination",
            before=None,
            after={"policyType": "MedianStopping", "evaluationInterval": 1, "delayEvaluation": 5},
            how=How.ADVICE,
            overlay={},
            title=f"Sweeps on {case.resource.name} end no trial early",
            why=(
                f"{int(trials.sum())} trials of {sweeps.size} sweeps ran to their end for "
                f"{hours:,.0f} node-hours, {cost:,.0f} a month, without a policy that stops poor "
                "ones."
            ),
            evidence={
                "sweeps": int(sweeps.size),
                "trials": int(trials.sum()),
                "trial_node_hours": round(hours, 1),
                "sweep_cost_per_month": round(cost, 2),
                "job_yaml": (
                    "early_termination: {type: median_stopping, evaluation_interval: 1, "
                    "delay_evaluation: 5}"
                ),
            },
            effort=Effort.CODE_CHANGE,
            sensitivity=(
                (
                    "What a policy saves is not known without the trials' metric curves; Microsoft "
                    "speaks of 25 to 35 % for median stopping on data of its own."
                ),
            ),
            exposure=True,
        )
