"""What the detectors of sizes share: which sizes fit a compute, and how a change is proposed."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TypeAlias

from optimizer.analysis import sizing
from optimizer.analysis.case import CannotAssessError
from optimizer.analysis.clusters import ClusterCase
from optimizer.analysis.detectors import Proposal
from optimizer.analysis.instances import InstanceCase
from optimizer.analysis.sizing import SAME, Choice, Stretch
from optimizer.analysis.use import Use
from optimizer.catalogue import Size
from optimizer.model import Effort, How, Kind, Level

Machines: TypeAlias = ClusterCase | InstanceCase

MIN_RUNS = 10
"""Fewer runs, or days of an instance's use, say little of the next one (methods §3.3)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """A compute whose size and use are both known."""

    case: Machines
    size: Size
    use: Use

    @property
    def runs(self) -> int:
        """Runs of a cluster; days of use of an instance."""
        if isinstance(self.case, ClusterCase):
            return self.case.features.runs.start.size or self.use.machine_days
        return self.use.days

    def sizes(self, wanted: Callable[[Size], bool]) -> list[Size]:
        """Return the sizes that are offered there, that stand in for its own and that fit."""
        rates = self.case.rates
        if rates is None:
            return []
        return [
            size
            for size in rates.catalogue.sold_in(self.case.resource.region)
            if size.sku.lower() != self.size.sku.lower()
            and (self.case.offered is None or size.sku in self.case.offered)
            and wanted(size)
            and sizing.similar(self.size, size)
            and sizing.memory_fits(self.use, self.size, size)
        ]

    def choices(
        self, sizes: Iterable[Size], *, max_stretch: float = sizing.MAX_STRETCH
    ) -> list[Choice]:
        """Return what each size would cost against its own, cheapest for the same work first."""
        return sizing.choices_among(
            sizes,
            now_per_hour=self.case.rate.per_hour,
            rate=self._rate,
            stretch_to=self._stretch,
            max_stretch=max_stretch,
        )

    def _rate(self, size: Size) -> float | None:
        rates, resource = self.case.rates, self.case.resource
        offer = "low_priority" if resource.vm_priority == "low_priority" else "payg"
        found = rates and rates.of_size(
            resource.region, size.sku, offer=offer, workspace_id=resource.workspace_id
        )
        return found.per_hour if found else None

    def _stretch(self, size: Size) -> Stretch | None:
        """Return how much longer work takes; people at an instance must not notice at all."""
        if isinstance(self.case, ClusterCase):
            return sizing.stretch(self.use, self.size, size)
        return SAME if sizing.comfortable(self.use, self.size, size) else None


def seen(case: Machines) -> Seen:
    """Return what is known of a compute's size and use.

    Raises:
        CannotAssessError: one of them is not known, or too little of its use was seen.
    """
    size = case.size(case.resource.sku or "")
    if size is None:
        raise CannotAssessError(f"What a machine of {case.resource.sku} has is not known.")
    if case.use is None or case.use.cpu is None:
        raise CannotAssessError("Azure told no use of its CPUs.")
    found = Seen(case=case, size=size, use=case.use)
    if found.runs < MIN_RUNS:
        what = "runs" if isinstance(case, ClusterCase) else "days of use"
        raise CannotAssessError(f"Only {found.runs} {what} were seen; {MIN_RUNS} are needed.")
    return found


def proposal(
    it: Seen,
    choice: Choice,
    *,
    title: str,
    why: str,
    evidence: Mapping[str, float | int | str | None],
    confidence: Level = Level.HIGH,
) -> Proposal:
    """Return the proposal to do the same work on another size."""
    use, now, then = it.use, it.size, choice.size
    instance = it.case.resource.kind is Kind.INSTANCE
    return Proposal(
        setting="properties.properties.vmSize",
        before=now.sku,
        after=then.sku,
        how=How.RECREATE,
        overlay={"sku": then.sku},
        title=title,
        why=why,
        evidence={
            "vcpus_now": now.vcpus,
            "vcpus_proposed": then.vcpus,
            "memory_gib_now": now.memory_gib,
            "memory_gib_proposed": then.memory_gib,
            "gpus_now": now.gpus,
            "gpus_proposed": then.gpus,
            "cpu_p95_of_maxima": round(use.cpu.quantile(0.95), 3) if use.cpu else None,
            "memory_peak": round(use.memory.peak, 3) if use.memory else None,
            "gpu_peak": round(use.gpu.peak, 3) if use.gpu else None,
            "rate_per_hour_proposed": round(choice.rate_per_hour, 6),
            "cost_ratio_at_worst": round(choice.cost_ratio, 3),
            "runtime_stretch_at_best": round(choice.stretch.best, 3),
            "runtime_stretch_at_worst": round(choice.stretch.worst, 3),
            ("days_of_use" if instance else "runs"): it.runs,
            **evidence,
        },
        effort=Effort.RECREATE,
        risk=Level.MEDIUM,
        confidence=confidence,
        pillar_notes=(
            (
                "Operational excellence: the size of a compute cannot be changed; a new one is "
                + (
                    "made beside it, and files on the disk of the old one stay there."
                    if instance
                    else "made beside it with the same identity and network, and jobs must name it."
                )
            ),
        ),
        sensitivity=(
            (
                f"Work may take {choice.stretch.best:.2f} to {choice.stretch.worst:.2f} times as "
                f"long; it pays up to {it.case.rate.per_hour / choice.rate_per_hour:.2f} times."
            ),
        ),
    )
