"""The benchmark of the solver measures choices that keep their limits."""

from benchmarks.solver import estate, greedy, limits_of, measured
from optimizer.scenarios.solver import CLOSE, TAKES


def test_an_estate_has_every_combination_and_the_same_seed_the_same_estate() -> None:
    options = estate(40, seed=3)
    assert {key for option in options for key in option.finding_ids} == {
        str(index) for index in range(40)
    }
    assert options == estate(40, seed=3)


def test_what_is_taken_greedily_keeps_all_limits() -> None:
    options = estate(200, seed=2)
    budget, teams = limits_of(options)
    taken = greedy(options, budget, teams)
    assert len({option.resource_id for option in taken}) == len(taken)
    for name in TAKES:
        most = getattr(budget, name)
        assert sum(getattr(option, name) for option in taken) <= most + 1e-9


def test_the_solver_is_no_worse_than_greed_and_close_to_its_bound() -> None:
    figures = measured(800, seed=1)
    assert figures["saving_over_greedy"] >= 1
    assert 0 <= figures["gap_to_proved_bound"] <= CLOSE
    assert figures["gap_to_linear_bound"] >= 0
