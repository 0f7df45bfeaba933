"""The best scenario and the front on small estates, held against every choice by joint replay."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cache
from itertools import chain, combinations

import pytest

from optimizer.analysis.joint import MOST_TOGETHER, Joint, Move
from optimizer.analysis.result import Analysis, Together
from optimizer.errors import ConfigError
from optimizer.model import Effort, Finding, Level
from optimizer.scenarios.best import best, front
from optimizer.scenarios.limits import Budget, Limits, team_of
from optimizer.scenarios.presets import chosen, preset
from optimizer.scenarios.solver import TIE, InfeasibleError
from optimizer.scenarios.totals import replay_of
from tests.scenarios.estates import estate_with_a_pool, small_estate

Estate = Callable[[], Analysis]

ESTATES = [cache(small_estate), cache(estate_with_a_pool)]
SMALL, POOL = ESTATES
LIMITS = [
    Limits(),
    Limits(budget=Budget(changes=1)),
    Limits(budget=Budget(changes=2)),
    Limits(budget=Budget(changes=3, waiting_minutes=500)),
    Limits(budget=Budget(waiting_minutes=0)),
    Limits(budget=Budget(waiting_minutes=700)),
    Limits(budget=Budget(restarts=60, effort_points=4)),
    Limits(budget=Budget(effort_points=5)),
    Limits(each_team=Budget(changes=1)),
    Limits(teams={"ana": Budget(changes=0)}, budget=Budget(changes=2)),
    Limits(max_risk=Level.LOW),
    Limits(only_teams=("ANA", "unowned")),
]


def joint_of(analysis: Analysis) -> Joint:
    joint = replay_of(analysis)
    assert isinstance(joint, Joint)
    return joint


def every_choice(analysis: Analysis) -> Iterator[tuple[list[Finding], Together]]:
    """Yield every choice of findings that save anything, with its joint replay."""
    joint = replay_of(analysis)
    saving = [f for f in analysis.findings if f.saving_per_month and f.saving_per_month.p50 > 0]
    for picked in chain.from_iterable(
        combinations(saving, size) for size in range(len(saving) + 1)
    ):
        yield list(picked), joint.together([finding.id for finding in picked])


@cache
def replayed(estate: Estate) -> list[tuple[list[Finding], Together]]:
    return list(every_choice(estate()))


def keeps(picked: list[Finding], together: Together, limits: Limits) -> bool:
    budget, felt = limits.budget, together.felt
    sizes: dict[str, int] = {}
    for finding in picked:
        sizes[team_of(finding)] = sizes.get(team_of(finding), 0) + 1
    team_limits = {team: limits.teams.get(team, limits.each_team).changes for team in sizes}
    taken = (
        (budget.changes, len(picked)),
        (budget.waiting_minutes, felt.extra_waiting_minutes_per_month),
        (budget.restarts, felt.extra_restarts_per_month),
        (budget.effort_points, sum(limits.effort_points[f.effort] for f in picked)),
        *((team_limits[team], size) for team, size in sizes.items()),
    )
    only = {team.lower() for team in limits.only_teams}
    return (
        all(most is None or amount <= most + 1e-6 for most, amount in taken)
        and all(not only or team_of(finding) in only for finding in picked)
        and all(finding.risk is Level.LOW or limits.max_risk is Level.HIGH for finding in picked)
    )


@pytest.mark.parametrize("limits", LIMITS, ids=str)
@pytest.mark.parametrize("estate", ESTATES, ids=["small", "pool"])
def test_the_best_scenario_is_the_best_of_all_choices_replayed(
    estate: Estate, limits: Limits
) -> None:
    most = max(
        together.total.p50
        for picked, together in replayed(estate)
        if keeps(picked, together, limits)
    )
    found = best(estate(), limits)
    assert found.total.p50 == pytest.approx(most, abs=2 * TIE)
    together = replay_of(estate()).together(found.finding_ids)
    assert found.total == together.total
    assert keeps([step.finding for step in found.steps], together, limits)


@pytest.mark.parametrize("estate", ESTATES, ids=["small", "pool"])
def test_parts_sum_to_the_whole_and_each_owner_has_a_share(estate: Estate) -> None:
    for _, together in replayed(estate):
        for parts in (together.marginal, together.by_detector, together.by_owner):
            assert sum(part.p50 for part in parts.values()) == pytest.approx(together.total.p50)


@pytest.mark.parametrize("estate", ESTATES, ids=["small", "pool"])
def test_what_another_finding_adds_is_the_replay_with_it_less_that_without(
    estate: Estate,
) -> None:
    totals = {
        frozenset(f.id for f in picked): together.total.p50 for picked, together in replayed(estate)
    }
    joint, seen = replay_of(estate()), 0
    for picked, total in totals.items():
        others = max(totals, key=len) - picked
        added = joint.would_add(picked, others)
        assert added.keys() == others
        for other, adds in added.items():
            assert adds.p50 == pytest.approx(totals[picked | {other}] - total, abs=1e-6)
            assert adds.p10 <= adds.p50 <= adds.p90
            seen += 1
    assert seen >= 12


@pytest.mark.parametrize("estate", ESTATES, ids=["small", "pool"])
def test_the_order_of_findings_does_not_matter(estate: Estate) -> None:
    joint = joint_of(estate())
    turned = Joint(cases=joint.cases, moves=tuple(reversed(joint.moves)))
    ids = [move.finding_id for move in joint.moves]
    assert turned.together(ids[::-1]) == joint.together(ids)
    assert set(turned.combinations(ids)) == set(joint.combinations(ids))


@pytest.mark.parametrize("estate", ESTATES, ids=["small", "pool"])
def test_no_point_of_the_front_is_beaten(estate: Estate) -> None:
    found = front(estate(), Limits())
    points = [(s.felt.extra_waiting_minutes_per_month, s.total.p50) for s in found.scenarios]
    assert found.not_on_it == ()
    assert points == sorted(points)
    assert [saving for _, saving in points] == sorted({saving for _, saving in points})
    assert points[-1][1] == pytest.approx(best(estate(), Limits()).total.p50)
    for waiting, saving in points:
        assert saving == pytest.approx(
            max(
                together.total.p50
                for _, together in replayed(estate)
                if together.felt.extra_waiting_minutes_per_month <= waiting + 1e-6
            ),
            abs=2 * TIE,
        )


def test_a_front_has_several_points_and_ends_at_the_limit_on_waiting() -> None:
    assert len(front(SMALL(), Limits()).scenarios) > 3
    within = front(SMALL(), Limits(budget=Budget(waiting_minutes=500)))
    assert max(s.felt.extra_waiting_minutes_per_month for s in within.scenarios) <= 500


def test_left_out_says_which_limit_it_would_exceed() -> None:
    found = best(SMALL(), Limits(budget=Budget(changes=1)))
    whys = {left.why for left in found.left_out if left.would_add_per_month}
    assert "beside the others it would exceed the limit on changes" in whys
    assert "it adds nothing to the others" in whys
    team = best(SMALL(), Limits(each_team=Budget(changes=1)))
    assert any(left.why.endswith("the limit on changes of its team") for left in team.left_out)


def test_a_least_saving_that_cannot_be_had_is_one_sentence() -> None:
    with pytest.raises(InfeasibleError, match="No choice keeps all limits"):
        best(SMALL(), Limits(budget=Budget(least_saving=1e9)))
    assert issubclass(InfeasibleError, ConfigError)
    # A team that nothing was found for cannot be told apart from one that saves nothing.
    with pytest.raises(InfeasibleError):
        best(SMALL(), Limits(teams={"nobody": Budget(least_saving=1.0)}))


def test_counted_cautiously_it_saves_most_at_p10() -> None:
    careful = best(SMALL(), Limits(cautious=True, budget=Budget(changes=2)))
    pairs = [t.total.p10 for picked, t in replayed(SMALL) if len(picked) <= 2]
    assert careful.total.p10 == pytest.approx(max(pairs), rel=0.01)
    assert "counted at P10" in careful.name


def in_conflict() -> Analysis:
    """Return the small estate where one finding wants another value of a setting, and one to go."""
    analysis = SMALL()
    joint = joint_of(analysis)
    move = next(m for m in joint.moves if m.detector == "min_nodes_kept")
    case = joint.cases[move.resource_id]
    finding = analysis.finding(move.finding_id)
    assert finding is not None
    extra = {
        "one-less": {"min_nodes": case.settings.min_nodes - 1},
        "gone": {"deleted": True},
    }
    return replace(
        analysis,
        findings=(*analysis.findings, *(replace(finding, id=name) for name in extra)),
        joint=Joint(
            cases=joint.cases,
            moves=(
                *joint.moves,
                *(
                    Move(
                        finding_id=name,
                        detector="abandoned_compute" if name == "gone" else "min_nodes_kept",
                        resource_id=move.resource_id,
                        order=move.order,
                        overlay=overlay,
                    )
                    for name, overlay in extra.items()
                ),
            ),
        ),
    )


def test_of_findings_that_exclude_each_other_the_replay_decides() -> None:
    analysis = in_conflict()
    joint = joint_of(analysis)
    moves = {move.finding_id: move for move in joint.moves}
    for scenario in (best(analysis, Limits()), preset(analysis, "maximum")):
        held = [moves[finding_id] for finding_id in scenario.finding_ids]
        assert not any(one.excludes(other) for one, other in combinations(held, 2))
        assert scenario.total.p50 == pytest.approx(best(SMALL(), Limits()).total.p50, abs=2 * TIE)
        left = {each.finding.id: each for each in scenario.left_out}
        for name in ("one-less", "gone"):
            assert left[name].would_add_per_month is None
            assert left[name].no_figure.startswith("it cannot be followed beside ")
            assert left[name].why


def test_picked_by_hand_every_other_finding_says_what_it_would_add() -> None:
    first = SMALL().findings[0]
    scenario = chosen(SMALL(), [first.id])
    assert scenario.finding_ids == (first.id,)
    assert len(scenario.left_out) == len(SMALL().findings) - 1
    assert all(left.would_add_per_month for left in scenario.left_out)
    assert scenario.risks[first.risk] == 1
    assert scenario.effort_points == Limits().effort_points[Effort.ONE_CLICK]


def test_many_findings_of_one_resource_are_tried_in_three_orders() -> None:
    joint = joint_of(SMALL())
    move = next(m for m in joint.moves if m.detector == "min_nodes_kept")
    case = joint.cases[move.resource_id]
    many = Joint(
        cases=joint.cases,
        moves=tuple(
            Move(
                finding_id=f"f{index}",
                detector="d",
                resource_id=move.resource_id,
                order=index,
                overlay={"min_nodes": 0}
                if index % 2
                else {"idle_seconds": case.settings.idle_seconds // 2},
            )
            for index in range(MOST_TOGETHER + 2)
        ),
    )
    ids = [each.finding_id for each in many.moves]
    ways = many.combinations(ids)
    assert {f"f{index}" for index in range(len(ids))} == {
        way.finding_ids[0] for way in ways if len(way.finding_ids) == 1
    }
    assert max(len(way.finding_ids) for way in ways) == len(ids)
    assert len(ways) <= 3 * len(ids) + len(ids)
    few = many.combinations(ids[:MOST_TOGETHER])
    assert len(few) == 2**MOST_TOGETHER - 1
