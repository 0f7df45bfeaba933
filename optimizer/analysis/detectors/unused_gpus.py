"""Machines with more GPUs than any run used."""

from dataclasses import dataclass
from typing import ClassVar

from optimizer.analysis import resize, sizing
from optimizer.analysis.case import Assumptions
from optimizer.analysis.detectors import GUIDE, CannotAssessError, Detector, Proposal
from optimizer.model import Kind, Source


@dataclass(frozen=True, kw_only=True)
class UnusedGpus(Detector[resize.Machines]):
    """Fires where fewer GPUs of the same kind would have held every day's work."""

    source = Source(title="Optimize compute resources: the right number of GPUs", url=GUIDE)
    remedy_words = "recreate with fewer GPUs"
    kinds: ClassVar = (Kind.CLUSTER, Kind.INSTANCE)
    order: ClassVar = 51

    def propose(self, case: resize.Machines, assumptions: Assumptions) -> Proposal | None:  # noqa: ARG002
        """Propose the cheapest size of the same GPU that has as many as were ever used at once."""
        size = case.size(case.resource.sku or "")
        if size is not None and size.gpus <= 1:
            return None
        it = resize.seen(case)
        seen, used = it.use.gpus_seen, it.use.gpus_used
        if seen is None or used is None:
            raise CannotAssessError("Azure told no use of its GPUs one by one.")
        if seen < it.size.gpus:
            raise CannotAssessError(
                f"Azure told the use of {seen} of its {it.size.gpus:g} GPUs; what it does not tell "
                "is not idleness."
            )
        if used == 0 or used >= it.size.gpus:
            return None
        choices = it.choices(
            it.sizes(
                lambda other: (
                    other.gpu_model == it.size.gpu_model
                    and (other.gpu_memory_gib or 0) >= (it.size.gpu_memory_gib or 0)
                    and used <= other.gpus < it.size.gpus
                )
            )
        )
        if not choices or choices[0].cost_ratio >= sizing.MAX_COST_RATIO:
            return None
        best = choices[0]
        return resize.proposal(
            it,
            best,
            title=f"{case.resource.name} uses {used} of the {it.size.gpus:g} GPUs of each machine",
            why=(
                f"No machine used more than {used} of its {it.size.gpus:g} GPUs on any day; "
                f"{best.size.sku} does the same work at {best.cost_ratio:.0%} of the cost."
            ),
            evidence={"gpus_used_at_most": used},
        )
