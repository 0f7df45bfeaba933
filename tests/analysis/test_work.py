"""Demand once runs take longer or shorter than they did."""

import numpy as np
import pytest

from optimizer.analysis.replay import cut_into_levels
from optimizer.analysis.work import Runs, anonymous, nodes_by_share, reshaped, spells


def runs(*each: tuple[int, int, int]) -> Runs:
    """Start and end in minutes, and nodes."""
    start, end, nodes = np.array(each).T
    return anonymous(start * 60, end * 60, nodes)


def test_a_stretched_run_ends_later_and_keeps_its_start() -> None:
    work = runs((10, 20, 2))
    demand = np.zeros(60)
    demand[10:20] = 2
    changed = reshaped(demand, work, work.seconds * 1.55)
    assert changed[:10].sum() == 0
    assert changed[10:25].tolist() == [2.0] * 15
    assert changed[25] == pytest.approx(1.0)  # half of the minute
    assert changed[26:].sum() == 0


def test_a_run_that_is_cut_ends_earlier_and_the_others_stay() -> None:
    work = runs((0, 30, 1), (10, 40, 3))
    demand = np.zeros(60)
    demand[:30] += 1
    demand[10:40] += 3
    changed = reshaped(demand, work, np.array([600.0, 1800.0]))
    assert changed.tolist() == [1.0] * 10 + [3.0] * 30 + [0.0] * 20


def test_minutes_that_no_run_explains_stay() -> None:
    work = runs((10, 20, 1))
    changed = reshaped(np.ones(30), work, work.seconds * 0.5)
    assert changed.tolist() == [1.0] * 15 + [0.0] * 5 + [1.0] * 10


def test_what_reaches_past_the_window_is_left_out() -> None:
    work = runs((10, 30, 2))
    demand = np.zeros(30)
    demand[10:] = 2
    assert reshaped(demand, work, work.seconds * 3.0).tolist() == demand.tolist()


def test_busy_spells_stand_for_runs_where_no_job_is_known() -> None:
    demand = np.zeros(60)
    demand[5:15] = 2
    demand[10:30] += 1
    found = spells(cut_into_levels(demand))
    assert sorted(zip(found.start // 60, found.end // 60, strict=True)) == [
        *((5, 15), (5, 30), (10, 15))
    ]
    assert reshaped(demand, found, found.seconds).tolist() == demand.tolist()


def test_runs_whose_nodes_were_not_told_share_what_the_others_leave() -> None:
    demand = np.zeros(60)
    demand[0:30] += 2  # told
    demand[10:40] += 3  # not told
    demand[20:40] += 5  # not told, partly beside the one before
    start, end = (np.array(each) * 60 for each in ([0, 10, 20], [30, 40, 40]))
    nodes = nodes_by_share(demand, start, end, np.array([2.0, np.nan, np.nan]))
    # The second: 3 alone, then half of 8 for twice as long: 3.67. The third: half of 8.
    assert nodes.tolist() == [2, 4, 4]
