"""The scenario that saves most within limits, and how the most grows with the waiting allowed."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

from optimizer.analysis.result import Analysis, Combination, Felt, JointReplay
from optimizer.model import Estimate, Finding, Level
from optimizer.scenarios import Scenario
from optimizer.scenarios.limits import RANK, Budget, Limits, limits_words, team_of
from optimizer.scenarios.solver import (
    TAKES,
    TIE,
    Choice,
    InfeasibleError,
    Option,
    Shortfall,
    choose,
    undominated,
)
from optimizer.scenarios.totals import replay_of, totalled

_Amounts: TypeAlias = Mapping[str, float]
"""By the names in `TAKES`."""

_NOTHING: _Amounts = dict.fromkeys(TAKES, 0.0)

BEST = "best"
"""The name of the scenario that the solver chooses."""

FRONT = "front"
"""The name of every point of the front."""
FRONT_POINTS = 12
MOST_ROUNDS = 40
"""So often a choice is tried anew with what its purchases were seen to save beside it."""

_GOOD_ENOUGH = 1e-6
"""Of the saving: a choice this close to its bound is not improved on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Front:
    """The most that can be saved at each amount of extra waiting."""

    scenarios: tuple[Scenario, ...]
    """Least waiting first; each saves more than the one before, and none is beaten at both."""
    not_on_it: tuple[Finding, ...]
    """Findings whose waiting nobody knows, so that they have no place."""


def best(analysis: Analysis, limits: Limits) -> Scenario:
    """Return the scenario that saves most within limits.

    Raises:
        InfeasibleError: a least saving cannot be had within the limits.
        NoDataError: the analysis was put together by hand.
    """
    ruled_out = _ruled_out(analysis, limits)
    return _scenario(analysis, _chosen(analysis, limits, ruled_out), limits, ruled_out)


def front(analysis: Analysis, limits: Limits, *, points: int = FRONT_POINTS) -> Front:
    """Return the Pareto front of saving against extra waiting, within all other limits.

    The solver is asked for the most saving at each of so many limits on waiting (the ε-constraint
    method), closer together where there is little; what it takes is totalled by joint replay.

    Args:
        analysis: what was found.
        limits: a limit on waiting ends the front.
        points: limits tried, the ends among them.

    Raises:
        InfeasibleError: a least saving cannot be had within the limits.
        NoDataError: the analysis was put together by hand.
    """
    joint = replay_of(analysis)
    ruled_out = _ruled_out(analysis, limits)
    unknown = {
        combination.finding_ids[0]
        for combination in joint.combinations([f.id for f in analysis.findings])
        if len(combination.finding_ids) == 1 and combination.felt.waiting_not_known
    }
    ruled_out |= dict.fromkeys(
        unknown - ruled_out.keys(), "how long people would wait is not known"
    )
    widest = _chosen(analysis, limits, ruled_out)
    most = max(0.0, joint.together(widest).felt.extra_waiting_minutes_per_month)
    choices = {frozenset(widest)}
    for step in range(points - 1):
        within = replace(limits.budget, waiting_minutes=most * (step / (points - 1)) ** 2)
        try:
            choices.add(frozenset(_chosen(analysis, replace(limits, budget=within), ruled_out)))
        except InfeasibleError:  # a least saving needs more waiting than this
            continue
    scenarios = [
        totalled(analysis, FRONT, chosen, None, effort_points=limits.effort_points)
        for chosen in choices
    ]
    return Front(
        scenarios=tuple(_not_beaten(scenarios, cautious=limits.cautious)),
        not_on_it=tuple(f for f in analysis.findings if f.id in unknown),
    )


def _ruled_out(analysis: Analysis, limits: Limits) -> dict[str, str]:
    """Return why findings are no choice at all, by id."""
    teams = {team.lower() for team in limits.only_teams}
    reasons = {}
    for finding in analysis.findings:
        if RANK[finding.risk] > RANK[limits.max_risk]:
            reasons[finding.id] = f"risk is {finding.risk}, above the limit of {limits.max_risk}"
        elif teams and team_of(finding) not in teams:
            reasons[finding.id] = "it belongs to another team"
    return reasons


def _chosen(analysis: Analysis, limits: Limits, ruled_out: Collection[str]) -> tuple[str, ...]:
    joint = replay_of(analysis)
    allowed = {f.id: f for f in analysis.findings if f.id not in ruled_out}
    combinations = joint.combinations(list(allowed))
    teams = _team_budgets(limits, {team_of(finding) for finding in allowed.values()})
    options = undominated(
        [_option(combination, allowed, limits) for combination in combinations],
        [limits.budget, *teams.values()],
        keep={name for combination in combinations for name in combination.waits_for},
    )
    if not options:
        return _none(limits, teams)
    taken = _settled(joint, options, limits, teams)
    return tuple(finding_id for index in taken for finding_id in options[index].finding_ids)


def _none(limits: Limits, teams: Mapping[str, Budget]) -> tuple[str, ...]:
    if any((budget.least_saving or 0.0) > 0 for budget in (limits.budget, *teams.values())):
        raise InfeasibleError("Nothing can be chosen within the limits, so nothing can be saved.")
    return ()


def _team_budgets(limits: Limits, teams: Collection[str]) -> dict[str, Budget]:
    budgets = {team: limits.teams.get(team, limits.each_team) for team in teams}
    # A least saving that is asked of a team without any option must not go unnoticed.
    budgets |= limits.teams
    return {team: budget for team, budget in sorted(budgets.items()) if budget != Budget()}


def _option(combination: Combination, findings: Mapping[str, Finding], limits: Limits) -> Option:
    mine = [findings[finding_id] for finding_id in combination.finding_ids]
    felt = combination.felt
    return Option(
        resource_id=combination.resource_id,
        finding_ids=combination.finding_ids,
        saving=_counted(combination.saving, cautious=limits.cautious),
        waiting_minutes=(None if felt.waiting_not_known else felt.extra_waiting_minutes_per_month),
        restarts=felt.extra_restarts_per_month,
        effort_points=sum(limits.effort_points[finding.effort] for finding in mine),
        high_risks=sum(finding.risk is Level.HIGH for finding in mine),
        team=team_of(mine[0]),
        waits_for=combination.waits_for,
    )


def _counted(saving: Estimate, *, cautious: bool) -> float:
    return saving.p10 if cautious else saving.p50


def _settled(
    joint: JointReplay, options: Sequence[Option], limits: Limits, teams: Mapping[str, Budget]
) -> tuple[int, ...]:
    """Return the best options, purchases counted at what they save beside the others.

    A purchase first counts at the most it can save. What it saves beside the options taken is
    replayed, and holds as long as these stay: with that known the choice is made anew, until no
    other could be better. That is exact, as no purchase saves more than its most (Benders' cuts).
    """
    shortfalls: list[Shortfall] = []
    best_so_far: tuple[float, tuple[int, ...]] = (-1.0, ())
    for _ in range(MOST_ROUNDS):
        choice = choose(options, limits.budget, teams=teams, shortfalls=shortfalls)
        missed = list(_shortfalls(joint, options, choice, cautious=limits.cautious))
        known = sum(option.saving for option in (options[index] for index in choice.options))
        saved = known - sum(shortfall.amount for shortfall in missed)
        best_so_far = max(best_so_far, (saved, choice.options), key=lambda each: each[0])
        if best_so_far[0] >= choice.saving - max(TIE, _GOOD_ENOUGH * choice.saving):
            break
        shortfalls += missed
    return best_so_far[1]


def _shortfalls(
    joint: JointReplay, options: Sequence[Option], choice: Choice, *, cautious: bool
) -> Iterator[Shortfall]:
    taken = {options[index].resource_id: index for index in choice.options}
    chosen = [finding_id for index in choice.options for finding_id in options[index].finding_ids]
    for index in choice.options:
        option = options[index]
        if option.waits_for:
            saves = joint.after_others(option.finding_ids, chosen)
            yield Shortfall(
                option=index,
                amount=option.saving - _counted(saves, cautious=cautious),
                beside={name: taken.get(name) for name in option.waits_for},
            )


def _scenario(
    analysis: Analysis,
    chosen: Collection[str],
    limits: Limits,
    ruled_out: Mapping[str, str],
) -> Scenario:
    joint = replay_of(analysis)
    chosen = frozenset(chosen)
    findings = [finding for finding in analysis.findings if finding.id in chosen]
    taken = _Taken(joint, limits, findings)

    def why(finding: Finding, adds: Estimate | None) -> str:
        if finding.id in ruled_out:
            return ruled_out[finding.id]
        if other := joint.excludes(finding.id, chosen):
            return f"{other} saves more, and both cannot be followed"
        if adds is not None and _counted(adds, cautious=limits.cautious) <= TIE:
            return "it adds nothing to the others"
        if over := list(taken.too_much_with(finding)):
            return f"beside the others it would exceed the limit on {' and '.join(over)}"
        return "others save more within the limits"

    words = limits_words(limits)
    return totalled(
        analysis,
        f"{BEST} ({words})" if words else BEST,
        chosen,
        why,
        effort_points=limits.effort_points,
    )


class _Taken:
    """What a choice takes, as a whole and by team, beside what it may."""

    def __init__(self, joint: JointReplay, limits: Limits, chosen: Sequence[Finding]) -> None:
        self._joint, self._limits = joint, limits
        self._by_resource: dict[str, list[Finding]] = {}
        for finding in chosen:
            self._by_resource.setdefault(finding.resource_id, []).append(finding)
        self._whole = _NOTHING
        self._teams: dict[str, _Amounts] = {}
        for mine in self._by_resource.values():
            team, amounts = team_of(mine[0]), self._amounts(mine)
            self._whole = _plus(self._whole, amounts)
            self._teams[team] = _plus(self._teams.get(team, _NOTHING), amounts)

    def too_much_with(self, finding: Finding) -> Iterator[str]:
        """Yield what following one more finding would take too much of."""
        before = self._by_resource.get(finding.resource_id, [])
        more = _plus(self._amounts([*before, finding]), self._amounts(before), sign=-1)
        team, limits = team_of(finding), self._limits
        for words, budget, taken in (
            ("", limits.budget, self._whole),
            (
                " of its team",
                limits.teams.get(team, limits.each_team),
                self._teams.get(team, _NOTHING),
            ),
        ):
            for name in TAKES:
                most = getattr(budget, name)
                if most is not None and more[name] > 0 and taken[name] + more[name] > most:
                    yield name.removesuffix("_minutes").replace("_", " ") + words

    def _amounts(self, findings: Sequence[Finding]) -> _Amounts:
        """Return what findings of one resource take together."""
        if not findings:
            return _NOTHING
        replayed = self._joint.combinations([finding.id for finding in findings])
        felt = next((c.felt for c in replayed if len(c.finding_ids) == len(findings)), Felt())
        return {
            "waiting_minutes": felt.extra_waiting_minutes_per_month,
            "restarts": felt.extra_restarts_per_month,
            "effort_points": sum(self._limits.effort_points[f.effort] for f in findings),
            "high_risks": sum(finding.risk is Level.HIGH for finding in findings),
            "changes": len(findings),
        }


def _plus(one: _Amounts, other: _Amounts, *, sign: int = 1) -> _Amounts:
    return {name: one[name] + sign * other[name] for name in TAKES}


def _not_beaten(scenarios: Sequence[Scenario], *, cautious: bool) -> Iterator[Scenario]:
    """Yield the scenarios that save more than every one of less waiting."""
    most = -float("inf")
    for scenario in sorted(
        scenarios,
        key=lambda s: (
            s.felt.extra_waiting_minutes_per_month,
            -_counted(s.total, cautious=cautious),
        ),
    ):
        saving = _counted(scenario.total, cautious=cautious)
        if saving > most + TIE:
            most = saving
            yield scenario
