"""What a choice may take: the limits within which the solver looks for the most saving."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from optimizer.model import Effort, Finding, Level

RANK: Mapping[Level, int] = {Level.LOW: 0, Level.MEDIUM: 1, Level.HIGH: 2}

EFFORT_POINTS: Mapping[Effort, float] = {
    Effort.ONE_CLICK: 1,
    Effort.PURCHASE: 4,
    Effort.RECREATE: 8,
    Effort.CODE_CHANGE: 20,
}
"""What following one finding takes of somebody's time, in half hours, as we judge it: reading a
diff and agreeing to it; having a purchase approved; making a compute anew, moving its jobs over and
retiring the old one (half a day); changing a job's code, testing and releasing it (over a day).
Nobody has measured them; give others where your teams know better."""

UNOWNED = "unowned"
"""The team of what nobody owns."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """The most that all findings of a choice, or those of one team, may take. None: no limit."""

    waiting_minutes: float | None = None
    """Extra, a month."""
    restarts: float | None = None
    """Extra, a month."""
    effort_points: float | None = None
    """See `EFFORT_POINTS`."""
    high_risks: int | None = None
    """Findings of high risk."""
    changes: int | None = None
    """Findings followed."""
    least_saving: float | None = None
    """What it must save at least, a month, in the billing currency."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Within what the solver may choose, and what it counts."""

    budget: Budget = field(default_factory=Budget)
    """Of the choice as a whole."""
    max_risk: Level = Level.HIGH
    only_teams: tuple[str, ...] = ()
    """Owners, `unowned` for nobody; all where there are none. Compared without regard to case."""
    each_team: Budget = field(default_factory=Budget)
    """Of every team that `teams` does not name."""
    teams: Mapping[str, Budget] = field(default_factory=dict)
    """By owner in lower case."""
    cautious: bool = False
    """Count each resource's saving at P10, not P50. Not everything goes badly at once, so the P10
    of the choice, which is that of its joint replay, is mostly more than the sum maximised."""
    effort_points: Mapping[Effort, float] = field(default_factory=lambda: dict(EFFORT_POINTS))


def team_of(finding: Finding) -> str:
    """Return the owner whose limits a finding counts against, in lower case."""
    return (finding.owner or UNOWNED).lower()


def limits_words(limits: Limits) -> str:
    """Return limits on one line; empty where there are none.

    >>> limits_words(Limits(budget=Budget(waiting_minutes=600, changes=10), max_risk=Level.LOW))
    'risk up to low, waiting up to 600 min a month, up to 10 changes'
    """
    parts = [] if limits.max_risk is Level.HIGH else [f"risk up to {limits.max_risk}"]
    parts += _budget_words(limits.budget)
    if limits.only_teams:
        parts.append(f"only {', '.join(limits.only_teams)}")
    if each := _budget_words(limits.each_team):
        parts.append(f"each team: {', '.join(each)}")
    for team, budget in limits.teams.items():
        parts.append(f"{team}: {', '.join(_budget_words(budget))}")
    if limits.cautious:
        parts.append("counted at P10")
    return ", ".join(parts)


def _budget_words(budget: Budget) -> list[str]:
    said = {
        "waiting up to {:,.0f} min a month": budget.waiting_minutes,
        "up to {:,.0f} restarts a month": budget.restarts,
        "effort up to {:,.0f} points": budget.effort_points,
        "up to {:,.0f} of high risk": budget.high_risks,
        "up to {:,.0f} changes": budget.changes,
        "saving at least {:,.0f} a month": budget.least_saving,
    }
    return [words.format(value) for words, value in said.items() if value is not None]
