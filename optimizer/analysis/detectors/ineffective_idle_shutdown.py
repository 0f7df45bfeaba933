"""Compute instances with an idle shutdown that does not come."""

from dataclasses import dataclass
from typing import ClassVar

from optimizer.analysis.case import Assumptions
from optimizer.analysis.detectors import GUIDE, CannotAssessError, Detector, Proposal
from optimizer.analysis.instances import InstanceCase
from optimizer.model import Effort, How, Kind, Level, Source
from optimizer.units import duration, iso_from_seconds


@dataclass(frozen=True, kw_only=True)
class IneffectiveIdleShutdown(Detector[InstanceCase]):
    """Fires where an instance stayed on unused for hours beyond its idle shutdown."""

    source = Source(title="Enable idle shutdown for compute instances", url=GUIDE)
    remedy_words = "end what keeps it awake, or grant its identity the role"
    kinds: ClassVar = (Kind.INSTANCE,)
    order: ClassVar = 22

    min_blocked_pauses: int = 3
    """Fewer may be a session somebody sat before."""
    grace_minutes: float = 240.0
    """Beyond the setting: Azure ends a forgotten VS Code connection after three hours (§2.1)."""

    def propose(self, case: InstanceCase, assumptions: Assumptions) -> Proposal | None:  # noqa: ARG002
        """Propose to find what keeps it awake, priced as if nothing had."""
        limit = case.settings.idle_shutdown_minutes
        if limit is None:
            return None
        gaps = case.features.gaps
        blocked = gaps.on_minutes > limit + self.grace_minutes
        pauses = int(blocked.sum())
        if pauses < self.min_blocked_pauses:
            return None
        if case.resource.settings.get("custom_applications"):
            raise CannotAssessError(
                "A custom application runs on it, which Azure never takes for idle; a stop "
                "schedule fits instead."
            )
        if case.resource.settings.get("ssh_public_access"):
            raise CannotAssessError(
                "SSH is open and its sessions are not told, so its pauses may be work; a stop "
                "schedule fits instead."
            )
        idle_hours = float((gaps.on_minutes[blocked] - limit).sum()) / 60
        iso = iso_from_seconds(limit * 60)
        return Proposal(
            setting="properties.properties.idleTimeBeforeShutdown",
            before=iso,
            after=iso,
            how=How.ADVICE,
            overlay={"rule_works": True},
            title=f"The idle shutdown of {case.resource.name} does not come",
            why=(
                f"It is set to {duration(limit * 60)}, and {pauses} pauses in "
                f"{case.window.days:.0f} days went on for {idle_hours:,.0f} hours more."
            ),
            evidence={
                "pauses_it_slept_through": pauses,
                "idle_hours_beyond_the_setting": round(idle_hours, 1),
                "idle_shutdown_minutes": limit,
                "likely_cause": (
                    "an open kernel or terminal, or a managed identity without the role "
                    "Contributor on the workspace"
                ),
            },
            effort=Effort.CODE_CHANGE,
            confidence=Level.MEDIUM,
            pillar_notes=(
                (
                    "Security: an identity needs no more than the right to stop this instance; "
                    "grant it on the workspace alone."
                ),
            ),
            sensitivity=(
                (
                    "Nothing tells what kept it awake; close kernels and terminals first, then "
                    "look at the role of its identity."
                ),
            ),
        )
