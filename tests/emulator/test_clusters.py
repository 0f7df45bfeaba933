"""Clusters against histories worked out by hand and against independent arithmetic."""

from collections.abc import Iterable
from dataclasses import replace
from typing import Literal

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from optimizer.emulator.clusters import Cluster, ClusterJob, JobState, NodeState, Scale
from optimizer.emulator.physics import Physics, allocation_seconds, eviction_seconds

MINUTE = 60
HOUR = 3600
SEED = 7
AT_ONCE = Physics(allocation_seconds_median=0, leaving_seconds=0)


def job(submit_minute: float, run_minutes: float, nodes: int = 1) -> ClusterJob:
    return ClusterJob(
        index=0,
        submit_s=round(submit_minute * MINUTE),
        run_seconds=round(run_minutes * MINUTE),
        nodes=nodes,
        checkpoint_seconds=None,
        fails=False,
    )


def cluster(
    jobs: Iterable[ClusterJob] = (),
    *,
    minimum: int = 0,
    maximum: int = 10,
    idle_minutes: float = 2,
    physics: Physics = AT_ONCE,
    low_priority: bool = False,
) -> Cluster:
    return Cluster(
        "cpu",
        Scale(min_nodes=minimum, max_nodes=maximum, idle_seconds=round(idle_minutes * MINUTE)),
        [replace(each, index=index) for index, each in enumerate(jobs)],
        low_priority=low_priority,
        physics=physics,
        seed=SEED,
        start_s=0,
    )


def played(jobs: Iterable[ClusterJob], *, until_minute: float = 1000, **kwargs: object) -> Cluster:
    made = cluster(jobs, **kwargs)  # type: ignore[arg-type]  # the keywords of `cluster`
    made.run_until(round(until_minute * MINUTE))
    return made


def starts(of: Cluster) -> list[float | None]:
    return [None if state.started_s is None else state.started_s / MINUTE for state in of.jobs()]


def node_seconds(of: Cluster) -> int:
    counts = of.node_counts()
    nodes = counts.active + counts.idle + counts.preparing + counts.leaving
    return int(nodes @ np.diff(np.append(counts.at_s, of.now_s)))


def node_minutes(of: Cluster) -> float:
    return node_seconds(of) / MINUTE


def history(of: Cluster, state: str) -> list[tuple[float, int]]:
    counts = of.node_counts()
    values = getattr(counts, state).tolist()
    steps = zip((counts.at_s / MINUTE).tolist(), values, strict=True)
    merged: list[tuple[float, int]] = []
    for at, value in steps:
        if not merged or merged[-1][1] != value:
            merged.append((at, value))
    return merged


def test_a_node_comes_up_works_idles_leaves_and_is_gone() -> None:
    physics = Physics(allocation_seconds_median=300, allocation_seconds_sigma=0, leaving_seconds=60)
    one = played([job(10, 30)], physics=physics)
    assert history(one, "preparing") == [(0, 0), (10, 1), (15, 0)]
    assert history(one, "active") == [(0, 0), (15, 1), (45, 0)]
    assert history(one, "idle") == [(0, 0), (45, 1), (47, 0)]
    assert history(one, "leaving") == [(0, 0), (47, 1), (48, 0)]
    assert node_minutes(one) == 5 + 30 + 2 + 1


def test_a_job_that_needs_several_nodes_waits_for_all_of_them() -> None:
    assert starts(played([job(0, 60), job(10, 5, nodes=2)], maximum=2)) == [0, 60]


def test_a_small_job_does_not_overtake_the_head_of_the_queue() -> None:
    jobs = [job(0, 60), job(10, 5, nodes=2), job(11, 5)]
    assert starts(played(jobs, maximum=2)) == [0, 60, 65]


def test_jobs_queue_at_the_maximum() -> None:
    three = played([job(0, 30), job(1, 30), job(2, 30)], maximum=1)
    assert starts(three) == [0, 30, 60]
    assert node_minutes(three) == 90 + 2


def test_a_freed_node_goes_to_the_head_of_the_queue() -> None:
    physics = Physics(allocation_seconds_median=600, allocation_seconds_sigma=0, leaving_seconds=0)
    two = played([job(0, 5), job(11, 5)], physics=physics)
    assert starts(two) == [10, 15]
    assert history(two, "preparing")[-2:] == [(11, 1), (21, 0)]  # it came up for nothing


def test_an_idle_node_wanted_by_the_queue_does_not_leave() -> None:
    physics = Physics(allocation_seconds_median=600, allocation_seconds_sigma=0, leaving_seconds=0)
    two = played([job(0, 5), job(16, 5, nodes=2)], physics=physics, idle_minutes=4)
    assert starts(two) == [10, 26]  # idle since 15, it waits for its mate, which needs 10 minutes


def test_a_job_arriving_as_a_node_would_leave_gets_it() -> None:
    assert node_minutes(played([job(0, 10), job(12, 10)])) == 10 + 2 + 10 + 2


@pytest.mark.parametrize(("choice", "as_job"), [("lifo", 1), ("fifo", 0)])
def test_which_idle_node_takes_the_next_job_is_a_setting(
    choice: Literal["lifo", "fifo"], as_job: int
) -> None:
    jobs = [job(0, 10), job(0, 11), job(12, 1)]
    nodes = played(jobs, physics=replace(AT_ONCE, node_choice=choice)).occupancy().node_id
    assert nodes[2] == nodes[as_job]


def test_the_minimum_is_there_from_the_first_second_and_never_leaves() -> None:
    kept = played([job(5, 10)], minimum=2, idle_minutes=1)
    assert starts(kept) == [5]
    assert node_minutes(kept) == 2 * 1000


def test_raising_the_minimum_allocates() -> None:
    made = played([], until_minute=60)
    made.configure(replace(made.scale, min_nodes=3))
    made.run_until(100 * MINUTE)
    assert history(made, "idle") == [(0, 0), (60, 3)]


def test_lowering_the_minimum_lets_nodes_idle_for_long_go_at_once() -> None:
    made = played([job(50, 5)], minimum=2, idle_minutes=10, until_minute=60)
    made.configure(replace(made.scale, min_nodes=0))
    assert made.nodes_in(NodeState.IDLE) == 1  # the one that worked until 55
    made.run_until(100 * MINUTE)
    assert history(made, "idle")[-2:] == [(60, 1), (65, 0)]


def test_a_shorter_idle_time_counts_from_when_a_node_became_idle() -> None:
    made = played([job(0, 10)], idle_minutes=120, until_minute=40)
    made.configure(replace(made.scale, idle_seconds=20 * MINUTE))
    assert made.current_nodes == 0
    assert node_minutes(made) == 40


def test_settings_are_part_of_the_history() -> None:
    made = played([], until_minute=60)
    made.configure(Scale(min_nodes=1, max_nodes=5, idle_seconds=90))
    counts = made.node_counts()
    assert counts.at_s.tolist() == [0, 3600]
    assert counts.min_nodes.tolist() == [0, 1]
    assert counts.max_nodes.tolist() == [10, 5]
    assert counts.idle_seconds.tolist() == [120, 90]


def test_a_maximum_below_what_runs_only_stops_growth() -> None:
    made = played([job(0, 60, nodes=4), job(10, 60)], maximum=4, until_minute=20)
    made.configure(replace(made.scale, max_nodes=1))
    made.run_until(1000 * MINUTE)
    assert starts(made) == [0, 60]
    assert made.node_counts().active.max() == 4


def test_allocation_takes_what_the_dice_say() -> None:
    physics = Physics(allocation_seconds_median=300, allocation_seconds_sigma=0.5)
    one = played([job(0, 10)], physics=physics)
    assert one.jobs()[0].started_s == allocation_seconds(physics, SEED, "cpu", "allocation", 0)


EVICTED = Physics(
    allocation_seconds_median=0,
    leaving_seconds=0,
    eviction_per_node_hour=0.5,
    preempted_seconds=600,
)


def lifetime(ordinal: int) -> int:
    seconds = eviction_seconds(EVICTED, SEED, "cpu", "eviction", ordinal)
    assert seconds is not None
    return seconds


@pytest.mark.parametrize("checkpoint", [None, 600, 3600])
def test_an_evicted_job_goes_on_from_its_last_checkpoint(checkpoint: int | None) -> None:
    long = replace(job(0, 180), checkpoint_seconds=checkpoint)
    [state] = played([long], physics=EVICTED, low_priority=True, until_minute=60_000).jobs()
    now, done, attempt = 0, 0, 0
    while done + lifetime(attempt) < 180 * MINUTE:
        reached = done + lifetime(attempt)
        done = reached // checkpoint * checkpoint if checkpoint else 0
        now, attempt = now + lifetime(attempt) + 600, attempt + 1
    assert attempt > 0
    assert (state.restarts, state.ended_s) == (attempt, now + 180 * MINUTE - done)
    assert state.status == "Completed"


def test_an_eviction_frees_the_other_nodes_of_the_job() -> None:
    both = played([job(0, 100_000, nodes=2)], physics=EVICTED, low_priority=True, until_minute=0)
    first = min(lifetime(0), lifetime(1))
    both.run_until(first)
    assert both.nodes_in(NodeState.PREEMPTED) == 1
    assert both.nodes_in(NodeState.IDLE) == 1
    assert both.jobs()[0].status == "Queued"


def test_dedicated_nodes_are_never_evicted() -> None:
    [state] = played([job(0, 6000)], physics=EVICTED, until_minute=7000).jobs()
    assert (state.restarts, state.ended_s) == (0, 6000 * MINUTE)


def test_evictions_come_at_the_given_rate() -> None:
    hours = [lifetime(ordinal) / HOUR for ordinal in range(4000)]
    assert np.mean(hours) == pytest.approx(2.0, rel=0.05)


def test_a_failing_job_ends_failed() -> None:
    [state] = played([replace(job(0, 10), fails=True)]).jobs()
    assert (state.status, state.ended_s) == ("Failed", 600)


def test_deleting_cancels_what_has_not_ended_and_bills_no_more() -> None:
    made = played([job(0, 10), job(15, 60), job(16, 60)], maximum=1, until_minute=30)
    made.delete()
    made.run_until(1000 * MINUTE)
    assert [state.status for state in made.jobs()] == ["Completed", "Canceled", "Canceled"]
    assert node_minutes(made) == 10 + 2 + 15


def test_occupancy_names_a_node_once_for_as_long_as_it_lives() -> None:
    made = played([job(0, 10), job(11, 10), job(60, 10)])
    spans = made.occupancy()
    first, second, third = spans.node_id.tolist()
    assert first == second != third
    assert first.startswith("tvmps_")
    assert list(zip(spans.start_s.tolist(), spans.end_s.tolist(), strict=True)) == [
        (0, 600),
        (660, 1260),
        (3600, 4200),
    ]


# -- properties ----------------------------------------------------------------------------------

JOBS = st.lists(
    st.builds(
        job,
        st.integers(0, 600),
        st.integers(1, 120),
        st.integers(1, 4),
    ),
    max_size=25,
).map(lambda jobs: sorted(jobs, key=lambda each: each.submit_s))
UNHURRIED = Physics(eviction_per_node_hour=0.3)
END_S = 60_000


@settings(max_examples=60)
@given(JOBS, st.integers(0, 3), st.integers(0, 60))
def test_node_time_is_that_of_levels_filled_last_in_first_out(
    jobs: list[ClusterJob], minimum: int, idle_minutes: int
) -> None:
    made = cluster(jobs, minimum=minimum, maximum=1000, idle_minutes=idle_minutes)
    made.run_until(END_S)
    assert node_seconds(made) == _by_levels(jobs, minimum, idle_minutes * MINUTE)


def _by_levels(jobs: list[ClusterJob], minimum: int, idle_s: int) -> int:
    """Add up each level by itself: level k is needed while at least k nodes are busy."""
    busy = np.zeros(END_S // MINUTE, dtype=np.int64)
    for each in jobs:
        first = each.submit_s // MINUTE
        busy[first : first + each.run_seconds // MINUTE] += each.nodes
    total = minimum * END_S
    for level in range(minimum + 1, int(busy.max()) + 1):
        needed = np.flatnonzero(busy >= level)
        gaps_s = (np.diff(needed) - 1) * MINUTE
        total += len(needed) * MINUTE + int(np.minimum(gaps_s, idle_s).sum()) + idle_s
    return total


@settings(max_examples=40)
@given(JOBS, st.integers(0, 3), st.lists(st.integers(0, END_S), max_size=8))
def test_playing_in_pieces_is_playing_at_once(
    jobs: list[ClusterJob], minimum: int, stops: list[int]
) -> None:
    whole, pieces = (
        cluster(jobs, minimum=minimum, maximum=6, physics=UNHURRIED, low_priority=True)
        for _ in range(2)
    )
    whole.run_until(END_S)
    for stop in [*sorted(stops), END_S]:
        pieces.run_until(stop)
    assert _told(pieces) == _told(whole)


def _told(of: Cluster) -> tuple[list[float], list[tuple[str, int | None, int]], list[int]]:
    counts = of.node_counts()
    outcomes = [(state.status, state.ended_s, state.restarts) for state in of.jobs()]
    return counts.at_s.tolist(), outcomes, counts.active.tolist()


@settings(max_examples=40)
@given(JOBS, st.integers(0, 3))
def test_what_holds_on_every_cluster(jobs: list[ClusterJob], minimum: int) -> None:
    made = cluster(jobs, minimum=minimum, maximum=6, physics=UNHURRIED, low_priority=True)
    made.run_until(END_S)
    counts, spans = made.node_counts(), made.occupancy()
    total = counts.active + counts.idle + counts.preparing + counts.leaving + counts.preempted
    assert (np.diff(counts.at_s) > 0).all()
    assert total.max(initial=0) <= 6
    assert min(counts.active.min(), counts.idle.min(), counts.preparing.min()) >= 0
    for at_s, active in zip(counts.at_s, counts.active, strict=True):
        assert active == np.count_nonzero((spans.start_s <= at_s) & (at_s < spans.end_s))
    assert all(_worked_enough(state) for state in made.jobs())


def _worked_enough(state: JobState) -> bool:
    if state.ended_s is None or state.started_s is None:
        return True
    return state.ended_s - state.started_s >= state.job.run_seconds
