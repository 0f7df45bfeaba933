"""Methods §4: known answers."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from optimizer.analysis.preemption import (
    EvictionRate,
    best_checkpoint_interval,
    expected_hours,
    expected_hours_with_checkpoints,
    longest_that_pays,
    stretch,
)


@pytest.mark.parametrize(("between_hours", "minutes"), [(24, 116.69), (6, 56.71), (0.25, 9.14)])
def test_dalys_published_optimum(between_hours: float, minutes: float) -> None:
    found = best_checkpoint_interval(between_hours * 60, dump=5)
    assert found == pytest.approx(minutes, abs=0.02)


def test_expected_time_with_and_without_checkpoints() -> None:
    with_them = expected_hours_with_checkpoints(600, 600, every=60, dump=2, restart=10)
    assert with_them == pytest.approx(664.1, abs=0.1)
    without = expected_hours(np.array([300.0]), 600.0, 10.0)
    assert without[0] == pytest.approx(395.7, abs=0.1)


def test_expected_time_is_that_of_a_simulation() -> None:
    rng = np.random.default_rng(4)
    work, between, restart = 300.0, 600.0, 10.0
    total = 0.0
    for _ in range(20_000):
        while (until := rng.exponential(between)) < work:
            total += until + restart
        total += work
    # The formula counts the restart before the first run as well as after each eviction.
    assert total / 20_000 == pytest.approx(395.0, rel=0.01)


@pytest.mark.parametrize(("discount", "x"), [(0.8, 2.66), (0.6, 1.62), (0.4, 0.95)])
def test_how_long_work_without_checkpoints_pays(discount: float, x: float) -> None:
    assert longest_that_pays(discount) == pytest.approx(x, abs=0.005)


@pytest.mark.parametrize(
    ("hourly", "minutes", "longer", "unsaved"),
    [(0.05, 67, 1.07, 1.25), (0.10, 46, 1.11, 1.60), (0.20, 31, 1.18, 2.88)],
)
def test_the_table_of_eviction_rates(
    hourly: float, minutes: float, longer: float, unsaved: float
) -> None:
    between = 60 / -np.log(1 - hourly)
    best = best_checkpoint_interval(between, dump=2)
    assert best == pytest.approx(minutes, abs=1)
    took = expected_hours_with_checkpoints(480, between, every=best, dump=2, restart=10)
    assert took / 480 == pytest.approx(longer, abs=0.01)
    without = expected_hours(np.array([480.0]), between, 10.0)
    assert without[0] / 480 == pytest.approx(unsaved, rel=0.02)


def test_three_evictions_in_200_node_hours() -> None:
    rate = EvictionRate(evictions=3, hours=200)
    assert rate.mean == pytest.approx(0.0179, abs=1e-4)
    assert rate.quantile(0.05) == pytest.approx(0.0061, abs=1e-4)
    assert rate.quantile(0.95) == pytest.approx(0.0346, abs=1e-4)


@given(st.floats(0.1, 20), st.integers(1, 16), st.floats(0.001, 0.02))
def test_a_gang_is_evicted_as_often_as_its_nodes_together(
    work: float, nodes: int, rate: float
) -> None:
    gang = stretch(np.array([work]), np.array([float(nodes)]), rate, restart=0.1)
    alone = stretch(np.array([work]), np.array([1.0]), rate * nodes, restart=0.1)
    assert gang == pytest.approx(alone)
    assert gang >= 1.0


@given(st.floats(0.1, 20))
def test_machines_that_are_never_taken_take_no_longer(work: float) -> None:
    one = np.array([1.0])
    assert stretch(np.array([work]), one, 0.0, restart=0.1) == 1.0
    assert stretch(np.array([work]), one, 1e-9, restart=0.1) == pytest.approx(1.0, abs=1e-6)
