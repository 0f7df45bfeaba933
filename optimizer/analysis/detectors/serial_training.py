"""Independent pieces of work, done one after another on nodes larger than a piece can use."""

from dataclasses import dataclass, replace
from math import ceil
from typing import ClassVar

import numpy as np

from optimizer.analysis import resize, sizing
from optimizer.analysis.case import Assumptions
from optimizer.analysis.clusters import ClusterCase
from optimizer.analysis.detectors import GUIDE, Detector, Proposal
from optimizer.analysis.sizing import Choice
from optimizer.catalogue import Size
from optimizer.model import Effort, How, Kind, Level, Source

INDEPENDENT = ("batch", "sweep")
"""Kinds of runs whose pieces (mini-batches, trials) do not wait for each other."""


@dataclass(frozen=True, kw_only=True)
class SerialTraining(Detector[ClusterCase]):
    """Fires where several smaller nodes at once finish independent work as soon and for less.

    On nodes of the same size more at once never saves. It saves where k smaller ones cost less for
    what the work really uses: k·p′·T′ < p·T (methods §11).
    """

    source = Source(title="Parallelize training on smaller instances", url=GUIDE)
    remedy_words = "smaller nodes, several at once, in the job's YAML"
    kinds: ClassVar = (Kind.CLUSTER,)
    order: ClassVar = 55

    max_nodes_for_one: int = 8
    """Smaller nodes that may stand in for one; what more of them would wait for is not known."""

    def propose(self, case: ClusterCase, assumptions: Assumptions) -> Proposal | None:  # noqa: ARG002
        """Propose the size that costs least for the same work; of equal ones the fewest nodes."""
        kinds = case.features.runs.kind
        if not kinds.size or not np.isin(kinds, INDEPENDENT).all():
            return None
        it = resize.seen(case)
        if it.size.gpus:
            return None

        def smaller(other: Size) -> bool:
            return not other.gpus and other.vcpus < it.size.vcpus

        # What one smaller node does nearly as soon is a question of size alone: oversized_sku.
        choices = [
            choice
            for choice in it.choices(it.sizes(smaller), max_stretch=self.max_nodes_for_one)
            if choice.stretch.worst > sizing.MAX_STRETCH
            and choice.cost_ratio < sizing.MAX_COST_RATIO
        ]
        if not choices:
            return None
        best = min(choices, key=lambda each: (round(each.cost_ratio, 3), each.stretch.worst))
        return self._proposal(it, best)

    def _proposal(self, it: resize.Seen, best: Choice) -> Proposal:
        nodes, name = ceil(best.stretch.worst), it.case.resource.name
        pays_up_to = it.case.rate.per_hour / best.rate_per_hour
        sized = resize.proposal(
            it,
            best,
            title=f"{name} does independent work on nodes larger than it uses",
            why=(
                f"All its {it.runs} runs are batches or trials, whose pieces do not wait for each "
                f"other; {nodes} {best.size.sku} in place of one {it.size.sku} finish as soon at "
                f"{best.cost_ratio:.0%} of the cost."
            ),
            evidence={
                "nodes_for_one": nodes,
                "batch_yaml": f"resources: {{instance_count: {nodes}}}",
                "sweep_yaml": f"limits: {{max_concurrent_trials: <today's × {nodes}>}}",
            },
            confidence=Level.MEDIUM,
        )
        return replace(
            sized,
            how=How.ADVICE,
            effort=Effort.CODE_CHANGE,
            overlay={"sku": best.size.sku, "spread": nodes},
            pillar_notes=(
                *sized.pillar_notes,
                (
                    f"Performance: each piece takes up to {best.stretch.worst:.2f} times as long; "
                    f"the maximum node count and the quota must allow {nodes} nodes for one."
                ),
            ),
            sensitivity=(
                (
                    f"A piece takes {best.stretch.likely:.2f} to {best.stretch.worst:.2f} times as "
                    f"long on the smaller node; it pays up to {pays_up_to:.2f} times."
                ),
            ),
        )
