from dataclasses import replace

import numpy as np
import pytest

from optimizer.analysis.clusters import (
    DEFAULT_START_SECONDS,
    ClusterCase,
    evictions_of,
    fit_physics,
    usual_start,
)
from optimizer.analysis.confidence import last_place
from optimizer.analysis.joint import estimate
from optimizer.analysis.replay import paid_by
from optimizer.analysis.starting import Starts, starts_of, together
from optimizer.analysis.waiting import cold_starts
from optimizer.analysis.work import anonymous
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


def test_a_job_of_three_nodes_waits_once() -> None:
    # One job of three nodes a day; all three come up within the same four minutes.
    day = [3.0] * 60 + [0.0] * 1380
    case = builders.cluster(day * DAYS, idle_minutes=2, start_minutes=4)
    warm = replace(case.settings, min_nodes=3)
    effects = case.effects(case.settings, warm)
    months = DAYS * 24 / 730
    assert effects.extra_restarts_per_month == pytest.approx(3 * DAYS / months)
    assert effects.extra_waiting_minutes_per_month == pytest.approx(4 * DAYS / months)
    preparing = np.tile(np.repeat([0.0, 3.0], [1436, 4]), DAYS)
    seen = replace(case.features, preparing=preparing)
    assert fit_physics(seen, case.levels, None).wait_seconds == pytest.approx(240)


def test_a_cluster_that_never_started_a_node_is_told_by_others() -> None:
    seen, kept = case_of(idle_minutes=2), builders.cluster([1.0] * 1440 * DAYS, min_nodes=1)
    clusters = [(case.features, case.levels) for case in (seen, kept)]
    assert usual_start(clusters) == pytest.approx(240, rel=0.01)
    assert usual_start(clusters[1:]) == DEFAULT_START_SECONDS
    told = fit_physics(*clusters[1], None, usual_seconds=200.0)
    assert told.wait_seconds == pytest.approx(200)


def test_a_job_waits_for_the_slowest_of_its_nodes() -> None:
    # Single nodes took two, three and four minutes, equally often: of two drawn from these the
    # slower takes (1·2 + 3·3 + 5·4) ÷ 9 minutes on average.
    one_by_one = np.zeros(1440)
    for at, minutes in ((10, 2), (40, 3), (70, 4)):
        one_by_one[at : at + minutes] = 1.0
    seen = starts_of(one_by_one)
    assert (seen.nodes.tolist(), seen.seconds.tolist()) == ([1, 1, 1], [120, 180, 240])
    assert (seen.wait(1), seen.wait(2)) == pytest.approx((180, 60 * 31 / 9))
    # Three at once, of which the last came after five minutes: seen once against thrice alone.
    three = np.zeros(1440)
    three[:5] = [3.0, 3.0, 2.5, 1.0, 1.0]
    both = together([seen, starts_of(three)])
    assert (both.nodes.tolist(), both.seconds[-1]) == ([1, 1, 1, 3], 300)
    assert both.wait(3) == pytest.approx(60 * (1 * 2 + 7 * 3 + 19 * 4) / 27)
    assert starts_of(three).wait(3) == 300
    assert starts_of(np.full(1440, np.nan)).seconds.size == 0


def test_where_none_of_its_nodes_is_kept_a_job_of_three_waits_for_three() -> None:
    # A minimum keeps its three nodes, so that it never started any; another cluster's single ones
    # took three minutes or five.
    day = [3.0] * 60 + [0.0] * 1380
    case = builders.cluster(day * DAYS, min_nodes=3)
    usual = Starts(nodes=np.ones(10, np.int64), seconds=np.repeat([180.0, 300.0], 5))
    fitted = fit_physics(case.features, case.levels, None, usual_seconds=240.0, usual=usual)
    # All three take three minutes in one case of eight.
    assert fitted.wait_seconds == pytest.approx(180 / 8 + 300 * 7 / 8)


def test_smaller_nodes_in_place_of_one_are_waited_for_until_the_last() -> None:
    # An hour on one node a day, or half an hour on two; single nodes took three minutes or five,
    # so that of two the slower takes three in one case of four.
    day = [1.0] * 60 + [0.0] * 1380
    start = np.arange(DAYS) * 86_400
    runs = anonymous(start, start + 3_600, np.ones(DAYS, np.int64))
    case = replace(
        builders.cluster(day * DAYS, start_minutes=4, runs=runs),
        estate_starts=Starts(nodes=np.ones(10, np.int64), seconds=np.repeat([180.0, 300.0], 5)),
    )
    effects = case.effects(replace(case.settings, spread=2), case.settings)
    months = DAYS * 24 / 730
    assert effects.extra_restarts_per_month == pytest.approx(DAYS / months)
    assert effects.extra_waiting_minutes_per_month == pytest.approx(DAYS * (4.5 - 4) / months)


def test_work_that_waits_ends_later_and_shortens_the_pause_behind_it() -> None:
    # Pauses of twelve minutes on a node that a minimum keeps. Let go after ten, with a start of
    # four: the second job waits and ends four minutes later, so that eight are left before the
    # third, which finds the node still there; the fourth comes after twelve again.
    day = ([1.0] * 10 + [0.0] * 12) * 3 + [1.0] * 10
    case = builders.cluster(
        day + [0.0] * (1440 - len(day)), min_nodes=1, idle_minutes=10, start_minutes=4
    )
    after = replace(case.settings, min_nodes=0)
    assert (cold_starts(case.levels, after) // 60).tolist() == [22, 44, 66]
    moved = cold_starts(case.levels, after, was=case.settings, wait_seconds=240.0)
    assert (moved // 60).tolist() == [22, 66]
    effects = case.effects(after, case.settings)
    assert effects.extra_restarts_per_month == pytest.approx(2 * 730 / 24)
    assert effects.extra_waiting_minutes_per_month == pytest.approx(2 * 4 * 730 / 24)


def test_beside_other_work_what_waits_shortens_no_pause() -> None:
    # The same work beside a run of the whole day: the node that a late job frees is any of two.
    day = ([1.0] * 10 + [0.0] * 12) * 3 + [1.0] * 10
    both = [1.0 + nodes for nodes in day + [0.0] * (1440 - len(day))]
    start = np.array([0, *(np.arange(4) * 22 * 60)])
    runs = anonymous(start, np.array([86_400, *(start[1:] + 600)]), np.ones(5, np.int64))
    case = builders.cluster(both, min_nodes=2, idle_minutes=10, start_minutes=4, runs=runs)
    after = replace(case.settings, min_nodes=1)
    assert (cold_starts(case.levels, after) // 60).tolist() == [22, 44, 66]
    effects = case.effects(after, case.settings)
    assert effects.extra_restarts_per_month == pytest.approx(3 * 730 / 24)


def test_a_pause_that_was_seen_holds_the_waiting_of_the_job_that_ended_it() -> None:
    # Sixteen minutes each, of which the last four were a start. Kept for fourteen, the node is
    # there for the second job, which so ends four minutes sooner than it did: the third comes
    # sixteen after it and waits as before, and the fourth comes after twelve again.
    day = ([1.0] * 10 + [0.0] * 16) * 3 + [1.0] * 10
    case = builders.cluster(day + [0.0] * (1440 - len(day)), idle_minutes=10, start_minutes=4)
    first, *between = cold_starts(case.levels, case.settings) // 60
    assert (first, between) == (0, [26, 52, 78])
    longer = replace(case.settings, idle_seconds=14 * 60)
    assert case.effects(longer, case.settings).extra_restarts_per_month == pytest.approx(
        -2 * 730 / 24
    )


def test_each_start_is_waited_for_as_long_as_starts_took_here() -> None:
    # Twelve starts a day took four minutes each.
    case = case_of(idle_minutes=2)
    never = replace(case.settings, idle_seconds=2 * 3600)
    felt = case.effects(never, case.settings)
    months, starts = DAYS * 24 / 730, 12 * DAYS
    # The first of all comes to a cluster without a node, whatever its idle time.
    assert felt.extra_restarts_per_month == pytest.approx((1 - starts) / months)
    assert felt.extra_waiting_minutes_per_month == pytest.approx(4 * (1 - starts) / months)
    # What leaves the minimum and the idle time alone changes nothing of it.
    fewer = case.effects(replace(case.settings, max_nodes=2), case.settings)
    assert fewer.extra_waiting_minutes_per_month == 0


def test_each_trial_of_a_sweep_waits_for_its_own_node() -> None:
    # Three trials a day, begun at once on a node each; single nodes took three minutes or five. In
    # the place of each, two smaller nodes: of six, trials get the second, the fourth and the sixth.
    day = [3.0] * 60 + [0.0] * 1380
    start = np.repeat(np.arange(DAYS) * 86_400, 3)
    trials = anonymous(start, start + 3_600, np.ones(3 * DAYS, np.int64))
    case = replace(
        builders.cluster(day * DAYS, start_minutes=4, idle_minutes=2, runs=trials),
        estate_starts=Starts(nodes=np.ones(10, np.int64), seconds=np.repeat([180.0, 300.0], 5)),
    )
    warm = replace(case.settings, min_nodes=3)
    months = DAYS * 24 / 730
    felt = case.effects(case.settings, warm)
    assert felt.extra_waiting_minutes_per_month == pytest.approx(3 * 4 * DAYS / months)
    # Binomial: of six nodes at least two, four and six take three minutes.
    quick = [1 - 7 / 64, 22 / 64, 1 / 64]
    waits = sum(5 - 2 * share for share in quick)
    felt = case.effects(replace(case.settings, spread=2), case.settings)
    assert felt.extra_waiting_minutes_per_month == pytest.approx((waits - 3 * 4) * DAYS / months)


def test_starts_that_overlap_tell_no_wait() -> None:
    # Two nodes at once, the second of them a minute later; then one that another joins in between.
    coming = np.array([0, 0.5, 2, 2, 1, 0, 0, 1, 1, 1, 2, 1, 0, 1, 1, 0.5], dtype=float)
    seen = starts_of(coming)
    assert seen.nodes.tolist() == [2, 1]
    assert seen.seconds.tolist() == [210, 150]


def test_a_job_that_waits_for_others_of_its_nodes_came_sooner_than_it_began() -> None:
    # A minimum of one. Every day one node works until 01:00, and at 01:06 two begin, of which one
    # had to come: the job was there at 01:02 already. Without the minimum the first job waits as
    # well and ends at 01:04, so its node stays for the second, though its pause lasted six minutes.
    day = [1.0] * 60 + [0.0] * 6 + [2.0] * 60 + [0.0] * (1440 - 126)
    case = builders.cluster(day * DAYS, min_nodes=1, idle_minutes=2, start_minutes=4)
    felt = case.effects(replace(case.settings, min_nodes=0), case.settings)
    # One more start a day, that of the first job; the node of the first day was there.
    assert felt.extra_restarts_per_month == pytest.approx((DAYS - 1) / DAYS * 730 / 24)


def test_a_place_stays_empty_for_a_while_after_an_eviction() -> None:
    low = builders.cluster([1.0] * 1440 * DAYS, vm_priority="low_priority")
    preempted = np.zeros(1440 * DAYS)
    preempted[100:110] = preempted[5000:5010] = 1.0
    rate = evictions_of([replace(low.features, preempted=preempted)])
    assert (rate.evictions, rate.away_seconds) == (2, 600)
    # What was never seen adds nothing to the waiting for a start.
    batch = builders.cluster(([1.0] * 60 + [0.0] * 60) * 12 * DAYS, start_minutes=4)
    cheap = replace(batch.settings, vm_priority="low_priority")
    waits = []
    for seen in (rate, replace(rate, away_seconds=0.0)):
        effects = replace(batch, evictions=seen).effects(cheap, batch.settings)
        waits.append(effects.extra_waiting_minutes_per_month or 0.0)
    evictions = effects.extra_restarts_per_month
    assert evictions is not None
    assert waits[0] - waits[1] == pytest.approx(10 * rate.mean * 12 * 730 / 24)


def test_what_an_abandoned_compute_costs_is_as_sure_as_its_bill() -> None:
    # 0.90 a day for disk, address and load balancer, each told to 1e-4: ±1.5e-4 a day.
    case = builders.instance([-1] * 1440 * 35)
    case = replace(case, standing_per_day=0.9, standing_error_per_day=1.5e-4)
    found = estimate(case.saving(replace(case.settings, deleted=True)))
    month = 730 / 24
    assert found.p50 == pytest.approx(0.9 * month)
    assert (found.p50 - found.p10, found.p90 - found.p50) == pytest.approx((1.5e-4 * month,) * 2)


def test_the_last_place_of_a_bill_is_read_off_its_lines() -> None:
    assert last_place([0.6123, 0.12, 0.33]) == pytest.approx(1e-4)
    assert last_place([12.0, 7.0]) == 1.0
    assert last_place([1 / 3, 0.5]) == 0.0
    assert last_place([]) == 0.0
