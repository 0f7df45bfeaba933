"""The replay against hand-worked answers, an independent simulation and its own properties."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from optimizer.analysis.replay import (
    Floats,
    Ints,
    Levels,
    Physics,
    covered,
    cut_into_levels,
    paid_by,
    replay,
    sweep,
)
from optimizer.model import ClusterSettings

MINUTE = 60


def policy(min_nodes: int, idle_minutes: float) -> ClusterSettings:
    return ClusterSettings(
        min_nodes=min_nodes, max_nodes=100, idle_seconds=round(idle_minutes * MINUTE)
    )


def physics(
    start_minutes: float = 0.0, leaving_minutes: float = 0.0, late_share: float = 0.0
) -> Physics:
    return Physics(
        start_seconds=start_minutes * MINUTE,
        leaving_seconds=leaving_minutes * MINUTE,
        wait_seconds=0.0,
        late_share=late_share,
    )


def node_minutes(levels: Levels, minimum: int, idle_minutes: float, costs: Physics) -> float:
    outcome = replay(levels, policy(minimum, idle_minutes), costs)
    seconds = levels.busy_seconds + outcome.idle_seconds + outcome.starts * outcome.paid_per_start
    return seconds / MINUTE


def demand_with_gaps(gaps_minutes: list[int]) -> Floats:
    """One busy minute before, between and after the gaps."""
    return np.concatenate([[1.0], *([0.0] * gap + [1.0] for gap in gaps_minutes)])


GAPS = [1, 2, 3, 20, 30, 100]


@pytest.mark.parametrize(("idle", "total"), [(0, 60), (3, 45), (10, 66), (100, 156)])
def test_methods_1_7_1_totals(idle: int, total: int) -> None:
    levels = cut_into_levels(demand_with_gaps(GAPS), on_at_start=1)
    assert node_minutes(levels, 0, idle, physics(10)) - levels.busy_seconds / 60 == total


def test_methods_1_7_1_pareto_front() -> None:
    levels = cut_into_levels(demand_with_gaps(GAPS), on_at_start=1)
    idle = [minutes * MINUTE for minutes in (0, 1, 2, 3, 20, 30, 100)]
    curve = sweep(levels, min_nodes=[0], idle_seconds=idle, physics=physics())
    front = list(
        zip(curve.paid_idle_seconds[0] // MINUTE, curve.starts[0], strict=True),
    )
    assert front == [(0, 6), (6, 5), (11, 4), (15, 3), (66, 2), (86, 1), (156, 0)]


def test_methods_1_7_2_two_point_gaps() -> None:
    gaps = [3] * 60 + [100] * 40
    levels = cut_into_levels(demand_with_gaps(gaps), on_at_start=1)
    curve = sweep(levels, min_nodes=[0], idle_seconds=[0, 180], physics=physics())
    cost = (curve.paid_idle_seconds[0] / MINUTE + 10 * curve.starts[0]) / len(gaps)
    # 0.6 × 3 + 0.4 × (3 + 10) at τ = 3; a restart for every gap at τ = 0.
    assert cost.tolist() == pytest.approx([10.0, 7.0])


def levels_of(gaps_seconds: Ints) -> Levels:
    """Gaps of one level with no work between them."""
    ends = gaps_seconds.cumsum()
    every = np.ones(gaps_seconds.size, dtype=np.bool_)
    return Levels(
        seconds=int(ends[-1]),
        peak=1,
        demand=np.zeros(1, dtype=np.int64),
        level=every.astype(np.int64),
        start=ends - gaps_seconds,
        length=gaps_seconds,
        warm=every,
        closed=every,
    )


@pytest.mark.parametrize(("mean", "best"), [(20, 0), (5, 60)])
def test_methods_1_7_3_exponential_gaps_are_bang_bang(mean: float, best: int) -> None:
    # Quantiles of the distribution stand for a sample, so that nothing is left to chance.
    count = 4000
    seconds = -mean * MINUTE * np.log(1 - (np.arange(count) + 0.5) / count)
    candidates = np.asarray([0, 5, 10, 20, 60])
    curve = sweep(
        levels_of(np.rint(seconds).astype(np.int64)),
        min_nodes=[0],
        idle_seconds=(candidates * MINUTE).tolist(),
        physics=physics(10),
    )
    cost = curve.node_seconds(0, physics(10))[0] / MINUTE / count
    kept = np.exp(-candidates / mean)
    assert cost == pytest.approx(mean * (1 - kept) + 10 * kept, rel=0.01)
    assert candidates[np.argmin(cost)] == best


@pytest.mark.parametrize(
    ("minimum", "idle", "dollars", "starts"),
    [
        (0, 2, 92.50, 50),
        (0, 15, 125.00, 50),
        (0, 60, 237.50, 50),
        (0, 90, 300.25, 1),
        (1, 2, 300.00, 0),
    ],
)
def test_methods_1_7_4_fifty_jobs(minimum: int, idle: int, dollars: float, starts: int) -> None:
    levels = cut_into_levels(np.tile([1.0] * 30 + [0.0] * 90, 50))
    assert node_minutes(levels, minimum, idle, physics(5)) * 3 / 60 == pytest.approx(dollars)
    assert replay(levels, policy(minimum, idle), physics(5)).starts == starts


@given(st.lists(st.integers(1, 500), min_size=1, max_size=60), st.integers(1, 120))
def test_methods_1_7_5_idle_time_of_one_restart_is_2_competitive(
    gaps: list[int], restart: int
) -> None:
    levels = cut_into_levels(demand_with_gaps(gaps), on_at_start=1)
    online = node_minutes(levels, 0, restart, physics(restart)) - levels.busy_seconds / 60
    offline = sum(min(gap, restart) for gap in gaps)
    assert online <= 2 * offline


@given(st.lists(st.integers(1, 500), min_size=1, max_size=60), st.integers(1, 120))
def test_methods_1_7_5_random_idle_time_expects_e_over_e_minus_1(
    gaps: list[int], restart: int
) -> None:
    # Density e^(t/β) / (β(e−1)) on [0, β], integrated exactly by its quantiles.
    steps = 20_000
    quantiles = restart * np.log1p((np.arange(steps) + 0.5) / steps * (np.e - 1))
    gap = np.asarray(gaps, dtype=float)[:, None]
    expected = float(np.where(gap > quantiles, quantiles + restart, gap).mean(axis=1).sum())
    offline = float(np.minimum(gaps, restart).sum())
    assert expected == pytest.approx(np.e / (np.e - 1) * offline, rel=2e-3)


def simulate(demand: list[int], minimum: int, idle_minutes: int) -> tuple[int, int]:
    """Play a cluster minute by minute: paid node-minutes and cold starts. No levels, no gaps."""
    idle_for: list[int] = [0] * minimum  # most recently idled last
    paid = starts = running = 0
    for needed in demand:
        idle_for.extend([0] * max(0, running - needed))
        for _ in range(max(0, needed - running)):
            if idle_for:
                idle_for.pop()
            else:
                starts += 1
        running = needed
        while len(idle_for) + running > minimum and idle_for and idle_for[0] >= idle_minutes:
            idle_for.pop(0)
        paid += running + len(idle_for)
        idle_for = [age + 1 for age in idle_for]
    return paid, starts


demands = st.lists(st.tuples(st.integers(0, 5), st.integers(1, 40)), min_size=1, max_size=25).map(
    lambda runs: [nodes for nodes, minutes in runs for _ in range(minutes)]
)


@given(demands, st.integers(0, 6), st.integers(0, 60))
def test_agrees_with_a_minute_simulation(
    demand: list[int], minimum: int, idle_minutes: int
) -> None:
    levels = cut_into_levels(np.asarray(demand, dtype=float))
    outcome = replay(levels, policy(minimum, idle_minutes), physics())
    paid = (levels.busy_seconds + outcome.idle_seconds) // MINUTE
    assert (paid, outcome.starts) == simulate(demand, minimum, idle_minutes)


@given(demands, st.integers(0, 5), st.integers(0, 3))
def test_sweep_is_replay_for_every_candidate(
    demand: list[int], on_at_start: int, leaving: int
) -> None:
    levels = cut_into_levels(np.asarray(demand, dtype=float), on_at_start=on_at_start)
    costs = physics(5, leaving, 0.25)
    idle = [0, 60, 300, 600, 1800]
    curve = sweep(levels, min_nodes=range(8), idle_seconds=idle, physics=costs)
    paid = curve.node_seconds(levels.busy_seconds, costs) / MINUTE
    for row in range(8):
        for column, seconds in enumerate(idle):
            one = replay(levels, policy(row, seconds / MINUTE), costs)
            assert curve.paid_idle_seconds[row, column] == one.idle_seconds
            assert curve.starts[row, column] == one.starts
            whole = node_minutes(levels, row, seconds / MINUTE, costs)
            assert paid[row, column] == pytest.approx(whole)


@given(demands, st.integers(0, 4), st.integers(0, 60))
def test_property_4_paid_is_at_least_the_work(demand: list[int], minimum: int, idle: int) -> None:
    levels = cut_into_levels(np.asarray(demand, dtype=float))
    assert node_minutes(levels, minimum, idle, physics()) >= sum(demand)


@given(demands)
def test_property_5_free_restarts_cost_grows_with_idle_time_and_min_nodes(
    demand: list[int],
) -> None:
    levels = cut_into_levels(np.asarray(demand, dtype=float))
    curve = sweep(levels, min_nodes=range(7), idle_seconds=range(0, 3600, 300), physics=physics())
    assert (np.diff(curve.paid_idle_seconds, axis=0) >= 0).all()
    assert (np.diff(curve.paid_idle_seconds, axis=1) >= 0).all()


@given(demands)
def test_property_6_restarts_fall_with_idle_time_and_min_nodes(demand: list[int]) -> None:
    levels = cut_into_levels(np.asarray(demand, dtype=float))
    curve = sweep(levels, min_nodes=range(7), idle_seconds=range(0, 3600, 300), physics=physics())
    assert (np.diff(curve.starts, axis=0) <= 0).all()
    assert (np.diff(curve.starts, axis=1) <= 0).all()


@given(demands, st.integers(0, 4), st.integers(0, 40))
def test_days_add_up_to_the_whole(demand: list[int], minimum: int, idle: int) -> None:
    levels = cut_into_levels(np.asarray(demand, dtype=float))
    costs = physics(4, 2)
    edges = np.unique(np.append(np.arange(0, levels.seconds, 1200), levels.seconds))
    parts = paid_by(levels, replay(levels, policy(minimum, idle), costs), edges)
    assert parts.sum() / MINUTE == pytest.approx(node_minutes(levels, minimum, idle, costs))


def test_covered_splits_a_stretch_at_the_edges() -> None:
    edges = np.asarray([0, 100, 200, 300])
    start, length = np.asarray([50, 120]), np.asarray([100, 30])
    assert covered(start, length, np.asarray([1, 2]), edges).tolist() == [50, 110, 0]


def test_a_partly_busy_minute_gives_its_rest_to_the_right_gap() -> None:
    # 30 s of work at the end of minute 1, a full minute 2, 15 s of minute 3.
    levels = cut_into_levels(np.asarray([0, 0.5, 1.0, 0.25, 0]))
    assert levels.start.tolist() == [0, 195]
    assert levels.length.tolist() == [90, 105]


@settings(max_examples=30)
@given(demands, st.integers(0, 4), st.integers(1, 60))
def test_nodes_are_always_enough(demand: list[int], minimum: int, idle: int) -> None:
    levels = cut_into_levels(np.asarray(demand, dtype=float))
    outcome = replay(levels, policy(minimum, idle), physics())
    edges = np.arange(0, levels.seconds + 60, 60)
    on = paid_by(levels, outcome, edges) / MINUTE
    assert (on >= np.asarray(demand)).all()
    assert (on >= minimum).all()


def gaps_by_second(busy: list[int], on_at_start: int) -> list[tuple[int, int, int, bool, bool]]:
    """Return level, start, length, warm and closed of each gap, second by second and level."""
    found = []
    for level in range(1, -(-max(busy) // MINUTE) + 1):
        here = [min(max(b - (level - 1) * MINUTE, 0), MINUTE) for b in busy]
        works = []
        for b, before in zip(here, [0, *here], strict=False):
            idle = [False] * (MINUTE - b)
            works += [True] * b + idle if before else idle + [True] * b
        bounds = [0, *(s for s in range(len(works)) if works[s]), len(works)]
        for i, (start, end) in enumerate(pairwise(bounds)):
            opens, warm = start + (i > 0), i > 0 or level <= on_at_start
            if end > opens or not warm:
                found.append((level, opens, end - opens, warm, i < len(bounds) - 2))
    return found


@given(st.lists(st.sampled_from([0, 0, 1, 30, 59, 60, 60, 61, 90, 120, 179, 180]), max_size=12))
@pytest.mark.parametrize("on_at_start", [0, 2])
def test_levels_are_those_of_every_second(on_at_start: int, busy: list[int]) -> None:
    levels = cut_into_levels(np.asarray(busy, dtype=float) / MINUTE, on_at_start=on_at_start)
    columns = levels.level, levels.start, levels.length, levels.warm, levels.closed
    assert list(zip(*(c.tolist() for c in columns), strict=True)) == gaps_by_second(
        busy or [0], on_at_start
    )
    assert levels.demand.tolist() == busy
