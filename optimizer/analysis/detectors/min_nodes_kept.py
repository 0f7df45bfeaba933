"""Nodes that a cluster keeps although nothing runs on them."""

from dataclasses import dataclass
from typing import ClassVar

from optimizer.analysis.case import Assumptions
from optimizer.analysis.clusters import ClusterCase
from optimizer.analysis.detectors import GUIDE, CannotAssessError, Detector, Proposal, about
from optimizer.model import How, Kind, Source

WARM_NODES_TAG = "optimizer:warm-nodes"


@dataclass(frozen=True, kw_only=True)
class MinNodesKept(Detector[ClusterCase]):
    """Fires where fewer kept nodes would have cost less, cold starts included."""

    source = Source(title="Optimize compute scaling: let clusters scale to zero", url=GUIDE)
    remedy_words = "PATCH scaleSettings.minNodeCount"
    kinds: ClassVar = (Kind.CLUSTER,)
    order: ClassVar = 30

    def propose(self, case: ClusterCase, assumptions: Assumptions) -> Proposal | None:
        """Propose the cheapest minimum, down to the warm pool that a tag may demand."""
        now = case.settings
        best = case.best(assumptions, warm_nodes=warm_nodes(case))
        if best.min_nodes >= now.min_nodes:
            return None
        levels = case.levels
        kept = levels.level <= now.min_nodes
        spare = max(0, now.min_nodes - levels.peak) * levels.seconds
        idle_hours = (int(levels.length[kept].sum()) + spare) / 3600
        kept_hours = now.min_nodes * case.window.hours
        name = case.resource.name
        return Proposal(
            setting="properties.properties.scaleSettings.minNodeCount",
            before=now.min_nodes,
            after=best.min_nodes,
            how=How.PATCH,
            overlay={"min_nodes": best.min_nodes},
            title=f"{name} keeps {now.min_nodes} node{'s' * (now.min_nodes > 1)} running",
            why=(
                f"The {now.min_nodes} kept node{'s' * (now.min_nodes > 1)} idled "
                f"{idle_hours:,.0f} of {kept_hours:,.0f} hours in {case.window.days:.0f} days."
            ),
            evidence={
                "kept_nodes": now.min_nodes,
                "kept_node_hours": round(kept_hours, 1),
                "idle_kept_node_hours": round(idle_hours, 1),
                "peak_nodes": levels.peak,
            },
            pillar_notes=(
                (
                    "Performance efficiency: the first job after a quiet spell waits "
                    f"{about(case.physics.wait_seconds)} for its nodes; tag the cluster "
                    f"{WARM_NODES_TAG}=N to keep N of them."
                ),
            ),
        )


def warm_nodes(case: ClusterCase) -> int:
    """Return the warm pool that the cluster's tag demands; 0 without one.

    Raises:
        CannotAssessError: the tag holds no number.
    """
    text = case.resource.tags.get(WARM_NODES_TAG, "0").strip()
    if not text.isdecimal():
        raise CannotAssessError(f"The tag {WARM_NODES_TAG} holds {text!r}, which is no number.")
    return int(text)
