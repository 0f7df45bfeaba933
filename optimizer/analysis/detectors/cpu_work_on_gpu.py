"""Work that never touches the GPUs it pays for."""

from dataclasses import dataclass
from typing import ClassVar

from optimizer.analysis import resize, sizing
from optimizer.analysis.case import Assumptions
from optimizer.analysis.detectors import GUIDE, CannotAssessError, Detector, Proposal
from optimizer.model import Kind, Source


@dataclass(frozen=True, kw_only=True)
class CpuWorkOnGpu(Detector[resize.Machines]):
    """Fires where no GPU computed in any sample and a machine without one costs less."""

    source = Source(title="Optimize compute resources: CPU or GPU", url=GUIDE)
    remedy_words = "recreate with a size without GPUs"
    kinds: ClassVar = (Kind.CLUSTER, Kind.INSTANCE)
    order: ClassVar = 50

    idle_gpu_share: float = 0.01
    """The most that any sample may show (methods §3.3)."""

    def propose(self, case: resize.Machines, assumptions: Assumptions) -> Proposal | None:  # noqa: ARG002
        """Propose the cheapest size without GPUs on which the work still fits."""
        size = case.size(case.resource.sku or "")
        if size is not None and not size.gpus:
            return None
        it = resize.seen(case)
        if it.use.gpu is None:
            raise CannotAssessError("Azure told no use of its GPUs, which is not idleness.")
        if it.use.gpu.peak > self.idle_gpu_share:
            return None
        held = it.use.gpu_memory.peak * (it.size.gpu_memory_gib or 0) if it.use.gpu_memory else 0.0
        if held > sizing.CONTEXT_GIB:
            raise CannotAssessError(
                f"Its GPUs never computed, yet {held:.1f} GiB of their memory were taken: look at "
                "what loads a model there first."
            )
        choices = it.choices(it.sizes(lambda other: not other.gpus))
        if not choices:
            raise CannotAssessError(
                "Its GPUs never computed, yet no size without GPUs that Azure offers there is "
                "known to do its work."
            )
        if choices[0].cost_ratio >= sizing.MAX_COST_RATIO:
            return None
        best = choices[0]
        return resize.proposal(
            it,
            best,
            title=f"{case.resource.name} does CPU work on {it.size.gpu_model or 'GPU'} machines",
            why=(
                f"None of its {it.size.gpus:g} GPUs a machine was above {self.idle_gpu_share:.0%} "
                f"in {it.use.minutes / 60:,.0f} observed machine-hours; {best.size.sku} does the "
                f"same work at {best.cost_ratio:.0%} of the cost."
            ),
            evidence={"gpu_memory_peak_gib": round(held, 2)},
        )
