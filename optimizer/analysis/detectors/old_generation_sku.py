"""Machines of an old generation whose successor costs less."""

from dataclasses import dataclass
from typing import ClassVar

from optimizer.analysis import resize, sizing
from optimizer.analysis.case import Assumptions
from optimizer.analysis.detectors import GUIDE, Detector, Proposal
from optimizer.catalogue import Size
from optimizer.model import Kind, Source


@dataclass(frozen=True, kw_only=True)
class OldGenerationSku(Detector[resize.Machines]):
    """Fires where a newer generation of at least the same size costs less."""

    source = Source(title="Optimize compute resources: newer generations", url=GUIDE)
    remedy_words = "recreate with a newer generation"
    kinds: ClassVar = (Kind.CLUSTER, Kind.INSTANCE)
    order: ClassVar = 53

    def propose(self, case: resize.Machines, assumptions: Assumptions) -> Proposal | None:  # noqa: ARG002
        """Propose the cheapest newer size of the same kind with as much of everything."""
        it = resize.seen(case)

        def newer(other: Size) -> bool:
            same = (other.gpus, other.gpu_model) == (it.size.gpus, it.size.gpu_model)
            kind = other.family[0] == it.size.family[0] and other.generation > it.size.generation
            enough = other.vcpus >= it.size.vcpus and other.memory_gib >= it.size.memory_gib
            return same and kind and enough

        choices = it.choices(it.sizes(newer))
        if not choices or choices[0].cost_ratio >= sizing.MAX_COST_RATIO:
            return None
        best = choices[0]
        return resize.proposal(
            it,
            best,
            title=f"{case.resource.name} runs on an old generation",
            why=(
                f"{best.size.sku} has {best.size.vcpus} CPUs and {best.size.memory_gib:g} GiB like "
                f"{it.size.sku} or more, and costs {best.cost_ratio:.0%} as much."
            ),
            evidence={
                "generation_now": it.size.generation,
                "generation_proposed": best.size.generation,
            },
        )
