"""The solver alone: known answers, and every small problem against brute force."""

from itertools import product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from optimizer.scenarios.limits import Budget
from optimizer.scenarios.solver import (
    EXACT,
    TAKES,
    TIE,
    InfeasibleError,
    Option,
    Shortfall,
    choose,
    linear_bound,
    undominated,
)

MANY = settings(max_examples=100)

KNOWN = tuple(
    Option(
        # 0 and 2 are two ways to change one resource, so they exclude each other.
        resource_id="both" if index in {0, 2} else str(index),
        finding_ids=(str(index),),
        saving=saving,
        effort_points=effort,
    )
    for index, (saving, effort) in enumerate([(900, 3), (700, 2), (1200, 5), (400, 1), (350, 1)])
)


def test_the_known_answer_of_methods_6() -> None:
    choice = choose(KNOWN, Budget(effort_points=6))
    assert choice.options == (0, 1, 3)
    assert choice.saving == pytest.approx(2000)
    assert choice.bound == pytest.approx(2000, abs=2 * TIE)
    # In part: 400, 350 and 700 take four points, and two thirds of 900 the other two.
    assert linear_bound(KNOWN, Budget(effort_points=6)) == pytest.approx(2050, abs=2 * TIE)


@st.composite
def options(draw: st.DrawFn) -> list[Option]:
    """Up to nine options of up to five resources."""
    amount = st.integers(0, 40).map(float)
    return [
        Option(
            resource_id=f"r{draw(st.integers(0, 4))}",
            finding_ids=tuple(f"{index}-{part}" for part in range(draw(st.integers(1, 3)))),
            saving=draw(st.integers(-100, 1000).map(float)),
            waiting_minutes=draw(st.none() | st.integers(-20, 40).map(float)),
            restarts=draw(amount),
            effort_points=draw(amount),
            high_risks=draw(st.integers(0, 1)),
            team=draw(st.sampled_from(["ana", "ben"])),
        )
        for index in range(draw(st.integers(1, 9)))
    ]


limits = st.none() | st.integers(0, 80).map(float)
counts = st.none() | st.integers(0, 6)
budgets = st.builds(
    Budget,
    waiting_minutes=limits,
    restarts=limits,
    effort_points=limits,
    high_risks=counts,
    changes=counts,
    least_saving=st.none() | st.integers(0, 300).map(float),
)


def keeps(chosen: list[Option], budget: Budget) -> bool:
    for name in TAKES:
        most = getattr(budget, name)
        taken = [getattr(option, name) for option in chosen]
        if most is not None and (None in taken or sum(taken) > most):
            return False
    return budget.least_saving is None or sum(o.saving for o in chosen) >= budget.least_saving


def brute_force(every: list[Option], budget: Budget, teams: dict[str, Budget]) -> float | None:
    """Return the most that any choice within the limits saves; None: there is none."""
    by_resource: dict[str, list[Option | None]] = {}
    for option in every:
        by_resource.setdefault(option.resource_id, [None]).append(option)
    savings = []
    for picked in product(*by_resource.values()):
        chosen = [option for option in picked if option is not None]
        mine = {team: [o for o in chosen if o.team == team] for team in teams}
        if keeps(chosen, budget) and all(keeps(mine[team], teams[team]) for team in teams):
            savings.append(sum(option.saving for option in chosen))
    return max(savings, default=None)


@MANY
@given(options(), budgets, st.dictionaries(st.sampled_from(["ana", "ben"]), budgets))
def test_the_solver_finds_what_brute_force_finds(
    every: list[Option], budget: Budget, teams: dict[str, Budget]
) -> None:
    most = brute_force(every, budget, teams)
    if most is None:
        with pytest.raises(InfeasibleError, match="No choice keeps all limits"):
            choose(every, budget, teams=teams)
        return
    choice = choose(every, budget, teams=teams)
    chosen = [every[index] for index in choice.options]
    assert keeps(chosen, budget)
    assert len({option.resource_id for option in chosen}) == len(chosen)
    assert choice.saving == pytest.approx(sum(option.saving for option in chosen))
    assert choice.saving == pytest.approx(most, abs=2 * TIE)
    assert choice.bound >= most - 2 * TIE
    assert linear_bound(every, budget, teams=teams) >= most - 2 * TIE


@MANY
@given(options(), budgets, st.dictionaries(st.sampled_from(["ana", "ben"]), budgets))
def test_what_is_dominated_is_not_missed(
    every: list[Option], budget: Budget, teams: dict[str, Budget]
) -> None:
    # A team is the owner of a resource, so all options of one have the same.
    every = [o for o in every if o.team == ("ana" if o.resource_id in {"r0", "r1"} else "ben")]
    kept = undominated(every, [budget, *teams.values()])
    assert set(kept) <= set(every)
    assert brute_force(kept, budget, teams) == brute_force(every, budget, teams)


@MANY
@given(options(), budgets, st.dictionaries(st.sampled_from(["ana", "ben"]), budgets))
def test_settling_what_could_hardly_be_otherwise_loses_nothing(
    every: list[Option], budget: Budget, teams: dict[str, Budget]
) -> None:
    try:
        exact = choose(every, budget, teams=teams)
    except InfeasibleError:
        with pytest.raises(InfeasibleError):
            choose(every, budget, teams=teams, large=2, close=EXACT)
        return
    settled = choose(every, budget, teams=teams, large=2, close=EXACT)
    assert settled.saving == pytest.approx(exact.saving, abs=2 * TIE)


@MANY
@given(options())
def test_a_known_shortfall_is_taken_off_only_beside_what_it_was_seen_with(
    every: list[Option],
) -> None:
    pool = len(every)
    every = [*every, Option(resource_id="pool", finding_ids=("p",), saving=500.0)]
    seen = {every[i].resource_id: i for i in choose(every, Budget()).options if i != pool}
    beside = {o.resource_id: seen.get(o.resource_id) for o in every[:pool]}
    again = choose(
        every, Budget(), shortfalls=[Shortfall(option=pool, amount=400.0, beside=beside)]
    )
    now = {every[i].resource_id: i for i in again.options if i != pool}
    lost = 400.0 if now == seen and pool in again.options else 0.0
    assert again.saving == pytest.approx(
        sum(every[i].saving for i in again.options) - lost, abs=2 * TIE
    )
    # What is taken instead costs less than the shortfall that it avoids.
    assert again.saving >= choose(every, Budget()).saving - 400.0 - 2 * TIE


def test_of_two_choices_that_save_the_same_the_smaller_is_taken() -> None:
    two = [
        Option(resource_id="a", finding_ids=("1", "2"), saving=100.0, waiting_minutes=0.0),
        Option(resource_id="a", finding_ids=("1",), saving=100.0, waiting_minutes=0.0),
        Option(resource_id="b", finding_ids=("3",), saving=0.0),
    ]
    assert choose(two, Budget()).options == (1,)
