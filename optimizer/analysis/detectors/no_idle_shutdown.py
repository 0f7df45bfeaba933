"""Compute instances that nobody uses and nothing stops."""

from dataclasses import dataclass
from typing import ClassVar

from optimizer.analysis.case import Assumptions
from optimizer.analysis.detectors import GUIDE, CannotAssessError, Detector, Proposal
from optimizer.analysis.instances import IDLE_SHUTDOWN_MINUTES, InstanceCase
from optimizer.model import How, InstanceSettings, Kind, Source
from optimizer.units import HOURS_PER_MONTH, iso_from_seconds


@dataclass(frozen=True, kw_only=True)
class NoIdleShutdown(Detector[InstanceCase]):
    """Fires where an instance without idle shutdown ran through pauses that one would have cut."""

    source = Source(title="Enable idle shutdown for compute instances", url=GUIDE)
    remedy_words = "POST updateIdleShutdownSetting"
    kinds: ClassVar = (Kind.INSTANCE,)
    order: ClassVar = 20

    choices_minutes: tuple[int, ...] = IDLE_SHUTDOWN_MINUTES
    """Proposed settings; Azure takes 15 minutes to 3 days."""

    def propose(self, case: InstanceCase, assumptions: Assumptions) -> Proposal | None:
        """Propose an idle shutdown where Azure's own idle rule would see the pauses."""
        if case.settings.idle_shutdown_minutes is not None:
            return None
        seen_by_azure(case)
        minutes = case.best_minutes(assumptions, self.choices_minutes)
        after = InstanceSettings(idle_shutdown_minutes=minutes)
        features, habits = case.features, case.habits
        running = float(features.on.sum()) / 60
        cut = case.idle_hours_beyond(minutes)
        share = habits.blocked_share(0.5)
        few, many = (
            habits.blocked_share_of(case.pauses_beyond(minutes), quantile)
            for quantile in (0.1, 0.9)
        )
        per_month = HOURS_PER_MONTH / case.window.hours
        return Proposal(
            setting="properties.properties.idleTimeBeforeShutdown",
            before=None,
            after=iso_from_seconds(minutes * 60),
            how=How.ACTION,
            overlay={"idle_shutdown_minutes": minutes},
            title=f"{case.resource.name} has no idle shutdown",
            why=(
                f"It ran {running:,.0f} hours in {case.window.days:.0f} days, "
                f"{cut:,.0f} of them more than {minutes} min after its last use."
            ),
            evidence={
                "running_hours": round(running, 1),
                "idle_hours_cut": round(cut, 1),
                "idle_gaps": case.samples,
                "restarts_per_month": round(case.restarts(after) * per_month, 1),
                "open_kernel_share_assumed": round(share, 2),
                "shutdowns_seen_on_other_instances": habits.shut,
                "shutdowns_that_never_came": habits.blocked,
            },
            pillar_notes=(
                (
                    "Operational excellence: Azure does not stop an instance with an open kernel, "
                    "terminal, VS Code connection or running job, so no running work is lost."
                ),
            ),
            sensitivity=(
                (
                    f"{share:.0%} of the pauses are taken to be held open by a forgotten kernel, "
                    f"which no API tells; P10 and P90 take {many:.0%} and {few:.0%}."
                ),
            ),
        )


def seen_by_azure(case: InstanceCase) -> None:
    """Refuse instances whose use Azure's idle rule cannot tell (methods §2.1).

    Raises:
        CannotAssessError: it says what stands in the way and what fits instead.
    """
    settings = case.resource.settings
    if settings.get("ssh_public_access"):
        raise CannotAssessError(
            "SSH is open and Azure's idle rule does not see SSH sessions, so a shutdown could stop "
            "work that is running; a stop schedule fits instead."
        )
    if settings.get("custom_applications"):
        raise CannotAssessError(
            "A custom application runs on it, which Azure never takes for idle; a stop schedule "
            "fits instead."
        )
