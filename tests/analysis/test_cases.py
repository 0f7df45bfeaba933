from dataclasses import replace

import numpy as np
import pytest

from optimizer.analysis.clusters import ClusterCase, fit_physics
from optimizer.analysis.replay import paid_by
from tests.analysis import builders

DAYS = 14
A_DAY_OF_JOBS = ([1.0] * 10 + [0.0] * 110) * 12
"""Twelve jobs of ten minutes, each 110 minutes after the one before."""


def case_of(idle_minutes: float) -> ClusterCase:
    case = builders.cluster(A_DAY_OF_JOBS * DAYS, idle_minutes=idle_minutes)
    preparing = np.tile(np.repeat([0.0, 1.0], [116, 4]), 12 * DAYS)
    return replace(case, features=replace(case.features, preparing=preparing))


@pytest.mark.parametrize("late", [0.0, 0.1, 0.5])
def test_nodes_that_came_too_late_are_told_from_what_a_start_costs(late: float) -> None:
    case = case_of(idle_minutes=60)
    truth = replace(case.physics, start_seconds=480.0, wait_seconds=240.0, late_share=late)
    edges = np.arange(DAYS + 1) * 86_400
    billed = paid_by(case.levels, replace(case, physics=truth).outcome(case.settings), edges) / 3600
    fitted = fit_physics(case.features, case.levels, billed)
    assert fitted.wait_seconds == pytest.approx(240, rel=0.01)
    assert fitted.start_seconds == pytest.approx(480, rel=0.05)
    assert fitted.late_share == pytest.approx(late, abs=0.1)
    # What the bill says is met, but for the prior's five starts a day against twelve.
    paid = paid_by(case.levels, replace(case, physics=fitted).outcome(case.settings), edges) / 3600
    assert paid.sum() == pytest.approx(billed.sum(), rel=0.04)


def test_a_late_node_idles_for_less_under_a_shorter_idle_time() -> None:
    case = case_of(idle_minutes=60)
    physics = replace(case.physics, late_share=0.5)
    late = replace(case, physics=physics)
    settings = (case.settings, replace(case.settings, idle_seconds=300))
    extra = [late.outcome(each).paid_per_start - physics.start_seconds for each in settings]
    assert extra == [1800, 150]
