"""Any choice of findings made into a scenario: totals by joint replay, and what is not in it."""

from collections.abc import Callable, Collection, Mapping
from collections.abc import Set as AbstractSet
from typing import TypeAlias

from optimizer.analysis.result import Analysis, JointReplay
from optimizer.errors import NoDataError
from optimizer.model import Effort, Estimate, Finding
from optimizer.scenarios import LeftOut, Scenario, ScenarioStep
from optimizer.scenarios.limits import EFFORT_POINTS

Why: TypeAlias = Callable[[Finding, Estimate | None], str]
"""Says why a finding is left out, given what it would add."""


def replay_of(analysis: Analysis) -> JointReplay:
    """Return what totals any choice of an analysis's findings.

    Raises:
        NoDataError: the analysis was put together by hand.
    """
    if analysis.joint is None:
        raise NoDataError("This analysis holds no replay; run `optimizer collect` first.")
    return analysis.joint


def totalled(
    analysis: Analysis,
    name: str,
    finding_ids: Collection[str],
    why: Why | None,
    *,
    effort_points: Mapping[Effort, float] = EFFORT_POINTS,
) -> Scenario:
    """Return a choice with its totals, and for every other finding what it would add.

    Without `why` the others are not looked at: for a point of a front.

    Raises:
        NoDataError: the analysis was put together by hand.
    """
    joint = replay_of(analysis)
    finding_ids = frozenset(finding_ids)
    by_id = {finding.id: finding for finding in analysis.findings}
    together = joint.together(finding_ids)
    others = [f for f in analysis.findings if why and f.id not in together.marginal]
    added = joint.would_add(finding_ids, [finding.id for finding in others])
    return Scenario(
        name=name,
        steps=tuple(
            ScenarioStep(finding=by_id[finding_id], marginal=marginal)
            for finding_id, marginal in together.marginal.items()
        ),
        total=together.total,
        left_out=tuple(
            LeftOut(
                finding=finding,
                why=why(finding, added.get(finding.id)) if why else "",
                would_add_per_month=added.get(finding.id),
                no_figure=("" if finding.id in added else _no_figure(joint, finding, finding_ids)),
            )
            for finding in others
        ),
        by_owner=together.by_owner,
        felt=together.felt,
        effort_points=sum(effort_points[by_id[key].effort] for key in together.marginal),
    )


def _no_figure(joint: JointReplay, finding: Finding, finding_ids: AbstractSet[str]) -> str:
    if other := joint.excludes(finding.id, finding_ids):
        return f"it cannot be followed beside {other}"
    return "no price is known of what it would change to"
