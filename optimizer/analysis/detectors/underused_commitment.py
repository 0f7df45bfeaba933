"""Reservations and savings plans that are paid for and not used."""

from dataclasses import dataclass
from typing import ClassVar

from optimizer.analysis.bought import CommitmentCase
from optimizer.analysis.case import Assumptions
from optimizer.analysis.detectors import GUIDE, Detector, Proposal
from optimizer.model import Effort, How, Kind, Level, Source


@dataclass(frozen=True, kw_only=True)
class UnderusedCommitment(Detector[CommitmentCase]):
    """Fires where much of a commitment goes unused: exposure, as it is owed for its whole term."""

    source = Source(title="Buy reserved instances for steady use", url=GUIDE)
    remedy_words = "wider scope, other computes, or no renewal"
    kinds: ClassVar = (Kind.COMMITMENT,)
    order: ClassVar = 91

    full_use: float = 0.8
    """Share from which on a commitment counts as used: the FinOps Foundation's waterline."""

    def propose(self, case: CommitmentCase, assumptions: Assumptions) -> Proposal | None:
        """Report what goes unused; nothing is claimed, as it can hardly be given back."""
        unused = case.unused_per_month
        if case.utilisation >= self.full_use or unused.p50 < assumptions.min_saving_per_month:
            return None
        name = case.resource.name
        return Proposal(
            setting="properties.appliedScopeType",
            before=None,
            after="Shared",
            how=How.ADVICE,
            overlay={},
            title=f"The {name} is used to {case.utilisation:.0%}",
            why=(
                f"Of about {case.machines:,.1f} machines committed to, {1 - case.utilisation:.0%} "
                f"of the hours went unused: at least {unused.p50:,.2f} a month."
            ),
            evidence={
                "utilisation": round(case.utilisation, 3),
                "machines_committed_at_least": round(case.machines, 2),
                "unused_cost_per_month_at_least": round(unused.p50, 2),
                "unused_cost_per_month_p10": round(unused.p10, 2),
                "unused_cost_per_month_p90": round(unused.p90, 2),
                "advice": (
                    "Share its scope and keep instance size flexibility on, move dedicated "
                    "computes of its family under it, and buy less when it ends."
                ),
            },
            effort=Effort.PURCHASE,
            confidence=Level.MEDIUM,
            pillar_notes=(
                (
                    "Changes that use fewer hours of what it covers save nothing before it ends: "
                    "it is paid for whether used or not."
                ),
            ),
            exposure=True,
        )
