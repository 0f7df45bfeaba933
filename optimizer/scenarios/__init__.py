"""Choices among findings, each totalled by one joint replay."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

from optimizer.analysis.result import Felt
from optimizer.model import Estimate, Finding, Level


@dataclass(frozen=True, slots=True, kw_only=True)
class ScenarioStep:
    """One finding of a scenario and what it adds to the steps before it."""

    finding: Finding
    marginal: Estimate


@dataclass(frozen=True, slots=True, kw_only=True)
class LeftOut:
    """A finding that the scenario does not hold, and why."""

    finding: Finding
    why: str
    would_add_per_month: Estimate | None = None
    """The joint replay with it less that without it; None: `no_figure` says why."""
    no_figure: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """A set of findings and what they save together."""

    name: str
    steps: tuple[ScenarioStep, ...]
    total: Estimate
    """By joint replay; the marginals sum to it at p50."""
    left_out: tuple[LeftOut, ...]
    """Every other finding; of a point of a front, none is told."""
    by_owner: Mapping[str | None, Estimate] = field(default_factory=dict)
    """Each owner's share of the total; None: of what nobody owns."""
    felt: Felt = field(default_factory=Felt)
    """What people and jobs feel of all changes together."""
    effort_points: float = 0.0
    """See `limits.EFFORT_POINTS`."""

    @property
    def finding_ids(self) -> tuple[str, ...]:
        """The findings that it holds, in the order of the waterfall."""
        return tuple(step.finding.id for step in self.steps)

    @property
    def risks(self) -> Mapping[Level, int]:
        """How many findings it holds of each risk."""
        counted = Counter(step.finding.risk for step in self.steps)
        return {level: counted[level] for level in Level}
