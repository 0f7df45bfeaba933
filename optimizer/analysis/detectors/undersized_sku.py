"""Machines whose CPUs hold back work that a larger one would finish for less."""

from dataclasses import dataclass
from typing import ClassVar

from optimizer.analysis import resize, sizing
from optimizer.analysis.case import Assumptions
from optimizer.analysis.clusters import ClusterCase
from optimizer.analysis.detectors import GUIDE, Detector, Proposal
from optimizer.catalogue import Size
from optimizer.model import Kind, Level, Source


@dataclass(frozen=True, kw_only=True)
class UndersizedSku(Detector[ClusterCase]):
    """Fires where pegged CPUs make each finished job dearer than a larger size likely would."""

    source = Source(title="Optimize compute resources: the right size", url=GUIDE)
    remedy_words = "trial run on a larger size, then recreate"
    kinds: ClassVar = (Kind.CLUSTER,)
    order: ClassVar = 54

    min_pegged_share: float = 0.5
    """Of observed minutes, in which CPUs were in full use."""

    def propose(self, case: ClusterCase, assumptions: Assumptions) -> Proposal | None:  # noqa: ARG002
        """Propose a trial on the larger size that would likely finish the work for least."""
        it = resize.seen(case)
        assert it.use.cpu is not None  # noqa: S101 - `seen` refuses others
        if it.use.cpu.quantile(1 - self.min_pegged_share) < sizing.PEGGED:
            return None

        def larger(other: Size) -> bool:
            same = (other.gpus, other.gpu_model) == (it.size.gpus, it.size.gpu_model)
            return same and other.vcpus > it.size.vcpus and other.memory_gib >= it.size.memory_gib

        choices = it.choices(it.sizes(larger))
        best = min(choices, key=lambda each: each.likely_ratio, default=None)
        if best is None or best.likely_ratio >= sizing.MAX_COST_RATIO:
            return None
        return resize.proposal(
            it,
            best,
            title=f"{case.resource.name} is too small for its work",
            why=(
                f"Its {it.size.vcpus} CPUs were in full use in at least "
                f"{self.min_pegged_share:.0%} of {it.use.minutes / 60:,.0f} machine-hours; on "
                f"{best.size.sku} a finished job likely costs {best.likely_ratio:.0%} as much."
            ),
            evidence={"cost_ratio_likely": round(best.likely_ratio, 3)},
            confidence=Level.LOW,
        )
