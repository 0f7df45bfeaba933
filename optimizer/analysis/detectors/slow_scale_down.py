"""Idle times that do not fit how a cluster is used: too long wastes, too short thrashes."""

from dataclasses import dataclass
from typing import ClassVar

from optimizer.analysis.case import Assumptions
from optimizer.analysis.clusters import MIN_GAPS, ClusterCase
from optimizer.analysis.detectors import GUIDE, Detector, Proposal, about
from optimizer.analysis.detectors.min_nodes_kept import warm_nodes
from optimizer.model import How, Kind, Source
from optimizer.units import duration, iso_from_seconds


@dataclass(frozen=True, kw_only=True)
class SlowScaleDown(Detector[ClusterCase]):
    """Fires where another idle time before scale-down would have cost less."""

    source = Source(title="Optimize compute scaling: set a fitting idle time", url=GUIDE)
    remedy_words = "PATCH scaleSettings.nodeIdleTimeBeforeScaleDown"
    kinds: ClassVar = (Kind.CLUSTER,)
    order: ClassVar = 40

    def propose(self, case: ClusterCase, assumptions: Assumptions) -> Proposal | None:
        """Propose the cheapest idle time of the grid, given the cheapest minimum."""
        now = case.settings
        best = case.best(assumptions, warm_nodes=warm_nodes(case))
        if best.idle_seconds == now.idle_seconds:
            return None
        longer = best.idle_seconds > now.idle_seconds
        starts = (case.outcome(now).starts, case.outcome(best).starts)
        physics = case.physics
        minutes = (now.idle_seconds / 60, best.idle_seconds / 60)
        return Proposal(
            setting="properties.properties.scaleSettings.nodeIdleTimeBeforeScaleDown",
            before=iso_from_seconds(now.idle_seconds),
            after=iso_from_seconds(best.idle_seconds),
            how=How.PATCH,
            overlay={"idle_seconds": best.idle_seconds},
            title=(
                f"{case.resource.name} {'drops nodes too soon' if longer else 'holds idle nodes'}:"
                f" {duration(now.idle_seconds)}"
            ),
            why=(
                f"Nodes wait {duration(now.idle_seconds)} for work before they go; "
                f"{duration(best.idle_seconds)} fits the {case.samples} pauses between jobs better."
            ),
            evidence={
                "idle_gaps": case.samples,
                "idle_minutes_now": minutes[0],
                "idle_minutes_proposed": minutes[1],
                "cold_starts_now": starts[0],
                "cold_starts_proposed": starts[1],
                "cold_start_minutes": round(
                    (physics.start_seconds + physics.leaving_seconds) / 60, 1
                ),
                "chosen_by": "data" if case.samples >= MIN_GAPS else "rule",
            },
            pillar_notes=()
            if longer
            else (
                (
                    "Performance efficiency: jobs that follow a longer pause wait "
                    f"{about(physics.wait_seconds)} for their nodes."
                ),
            ),
            sensitivity=(
                (
                    f"A cold start costs {physics.start_seconds / 60:.1f} paid node-minutes, as "
                    "this cluster's states and bill tell; a dearer one wants a longer time."
                ),
                (
                    f"{assumptions.cluster_interactive_share:.0%} of cold starts are taken to keep "
                    "a person waiting (analysis.cluster_interactive_share)."
                ),
            ),
        )
