"""Stopping rules over curves that are known; stop times worked out by hand."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from optimizer.analysis.early_termination import (
    Bandit,
    MedianStopping,
    Policy,
    Sweep,
    Trial,
    Truncation,
    most_aggressive,
    replay,
)


def trial(*metric: float, start: float = 0, every: float = 10, nodes: int = 1) -> Trial:
    """A value every ten minutes; it ends with its last."""
    minutes = (start + every * np.arange(1, len(metric) + 1)).astype(np.float64)
    return Trial(
        minutes=minutes, metric=np.array(metric), end_minutes=float(minutes[-1]), nodes=nodes
    )


def sweep(*trials: Trial, maximize: bool = True) -> Sweep:
    return Sweep(trials=trials, maximize=maximize)


@pytest.mark.parametrize(("value", "stopped"), [(0.66, 1), (0.67, 0)])
def test_a_slack_factor_of_a_fifth_asks_for_two_thirds_of_eight_tenths(
    value: float, stopped: int
) -> None:
    found = replay(sweep(trial(0.8, 0.9), trial(value, value)), Bandit(slack_factor=0.2))
    # In the second interval 0.9 / 1.2 = 0.75 is asked for, too late to save anything.
    assert found.node_minutes == 10.0 * stopped


@pytest.mark.parametrize(("value", "minutes"), [(0.59, 10.0), (0.61, 0.0)])
def test_a_slack_amount_is_taken_off(value: float, minutes: float) -> None:
    both = sweep(trial(0.8, 0.8), trial(value, value))
    assert replay(both, Bandit(slack_amount=0.2)).node_minutes == minutes


@pytest.mark.parametrize(("value", "minutes"), [(0.97, 10.0), (0.95, 0.0)])
def test_of_a_loss_less_is_better(value: float, minutes: float) -> None:
    both = sweep(trial(0.8, 0.8), trial(value, value), maximize=False)
    assert replay(both, Bandit(slack_factor=0.2)).node_minutes == minutes


def test_a_factor_of_what_is_not_above_zero_stops_nothing() -> None:
    both = sweep(trial(-0.1, -0.1), trial(-5.0, -5.0))
    assert replay(both, Bandit(slack_factor=0.2)).stopped == 0


def test_two_trials_stopped_at_the_time_worked_out_by_hand() -> None:
    # The second at its best against the median of (running mean of first, of itself):
    # 10 min: .1 < (.5 + .1)/2; so it stops at once, and 30 of its 40 min on 3 nodes are saved.
    both = sweep(trial(0.5, 0.6, 0.7, 0.8), trial(0.1, 0.2, 0.3, 0.4, nodes=3))
    assert replay(both, MedianStopping()).node_minutes == 90.0
    # Not before the third value: 10 of 40 min are left.
    assert replay(both, MedianStopping(delay_evaluation=3)).node_minutes == 30.0
    # Every other value, and from the third on: the fourth, with which it ends.
    late = replay(both, MedianStopping(evaluation_interval=2, delay_evaluation=3))
    assert (late.stopped, late.node_minutes) == (1, 0.0)


def test_a_fifth_of_five_trials_is_one_and_of_four_none() -> None:
    trials = [trial(value, value) for value in (0.1, 0.2, 0.3, 0.4, 0.5)]
    policy = Truncation(truncation_percentage=20, evaluation_interval=1)
    assert replay(sweep(*trials), policy).node_minutes == 10.0
    assert replay(sweep(*trials[1:]), policy).stopped == 0


def test_what_comes_later_stops_nobody() -> None:
    early = trial(0.1, 0.1)
    assert replay(sweep(early, trial(0.9, 0.9)), Bandit(slack_factor=0.2)).stopped == 1
    assert replay(sweep(early, trial(0.9, 0.9, start=60)), Bandit(slack_factor=0.2)).stopped == 0


def test_stopping_the_one_that_would_have_won_is_regretted() -> None:
    slow = sweep(trial(0.5, 0.6), trial(0.1, 0.9))
    found = replay(slow, Bandit(slack_factor=0.2))
    assert found.regret == pytest.approx(0.3)


def test_the_rule_that_saves_most_without_harm_is_taken() -> None:
    careful = Bandit(slack_factor=0.2, delay_evaluation=2)
    bold = Bandit(slack_factor=0.2)
    plain = sweep(trial(0.5, 0.6, 0.9), trial(0.1, 0.2, 0.2))
    late_winner = sweep(trial(0.5, 0.6, 0.7), trial(0.1, 0.6, 0.9))
    assert most_aggressive([plain] * 4, [careful, bold]) is None
    assert most_aggressive([plain] * 5, [careful, bold]) is bold
    assert most_aggressive([plain] * 19 + [late_winner], [careful, bold]) is bold  # 95 %
    assert most_aggressive([plain] * 18 + [late_winner], [careful, bold]) is careful
    assert most_aggressive([sweep(trial(0.5, 0.6))] * 5, [careful, bold]) is None


CURVES = st.lists(
    st.lists(st.floats(0.01, 1.0), min_size=4, max_size=4), min_size=1, max_size=6
).map(lambda curves: sweep(*(trial(*curve) for curve in curves)))
POLICIES: st.SearchStrategy[Policy] = st.one_of(
    st.builds(Bandit, slack_factor=st.floats(0, 1), delay_evaluation=st.integers(0, 4)),
    st.builds(MedianStopping, evaluation_interval=st.integers(1, 4)),
    st.builds(Truncation, truncation_percentage=st.integers(1, 99)),
)


@given(CURVES, POLICIES)
def test_no_more_than_the_whole_is_saved_and_regret_is_a_loss(
    curves: Sweep, policy: Policy
) -> None:
    found = replay(curves, policy)
    assert 0 <= found.node_minutes <= 40 * len(curves.trials)
    assert found.regret >= 0
    assert (found.regret > 0) <= (found.stopped > 0)


@given(CURVES, st.floats(0, 1), st.floats(0, 1))
def test_more_slack_never_stops_more_at_the_first_look(
    curves: Sweep, one: float, other: float
) -> None:
    tight, loose = (
        replay(curves, Bandit(slack_factor=slack, evaluation_interval=4))
        for slack in sorted((one, other))
    )
    assert loose.stopped <= tight.stopped


def test_the_median_is_no_mean() -> None:
    # Means so far are 0.9, 0.1, 0.1 and 0.3: the median is 0.2, the mean 0.35.
    seen = [np.array([value]) for value in (0.9, 0.1, 0.1, 0.3)]
    assert not MedianStopping().stops(seen[3], seen, 1)
    assert MedianStopping().stops(seen[1], seen, 1)
