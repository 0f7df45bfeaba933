"""Machines with more CPU and memory than their work needs."""

from dataclasses import dataclass
from typing import ClassVar

from optimizer.analysis import resize, sizing
from optimizer.analysis.case import Assumptions
from optimizer.analysis.detectors import GUIDE, Detector, Proposal
from optimizer.catalogue import Size
from optimizer.model import Kind, Source


@dataclass(frozen=True, kw_only=True)
class OversizedSku(Detector[resize.Machines]):
    """Fires where a smaller machine finishes the same work for less, at its slowest."""

    source = Source(title="Optimize compute resources: the right size", url=GUIDE)
    remedy_words = "recreate with a smaller size"
    kinds: ClassVar = (Kind.CLUSTER, Kind.INSTANCE)
    order: ClassVar = 52

    def propose(self, case: resize.Machines, assumptions: Assumptions) -> Proposal | None:  # noqa: ARG002
        """Propose the cheapest smaller size with the same GPUs."""
        it = resize.seen(case)

        def smaller(other: Size) -> bool:
            same = (other.gpus, other.gpu_model) == (it.size.gpus, it.size.gpu_model)
            less = other.vcpus < it.size.vcpus or other.memory_gib < it.size.memory_gib
            return same and less and other.vcpus <= it.size.vcpus

        choices = it.choices(it.sizes(smaller))
        if not choices or choices[0].cost_ratio >= sizing.MAX_COST_RATIO:
            return None
        best = choices[0]
        cpu = it.use.cpu.quantile(0.95) if it.use.cpu else 0.0
        memory = f"{it.use.memory.peak:.0%}" if it.use.memory else "unknown"
        return resize.proposal(
            it,
            best,
            title=f"{case.resource.name} is larger than its work",
            why=(
                f"95 % of its samples stayed below {cpu:.0%} of {it.size.vcpus} CPUs and memory "
                f"peaked at {memory}; {best.size.sku} does the same work at {best.cost_ratio:.0%} "
                "of the cost."
            ),
            evidence={},
        )
