"""The benchmark of planted waste: the same seed is the same estate, and scores add up by hand."""

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest

from benchmarks.estate_files import Traffic, write_estate
from benchmarks.planted import Judged, Missed, Row, score_of, scores_of, wilson
from benchmarks.planted_commitments import Commitments, Reserved, Unused, unused_costs
from benchmarks.planted_estate import Faults, planted
from benchmarks.planted_maker import SEEN_DAYS, START_UTC, Need
from benchmarks.planted_pools import Families, saved
from benchmarks.truth import THROWS, Player, alone, changed, exposed, mended
from optimizer.analysis.detectors import load_detectors
from optimizer.emulator import arm
from optimizer.units import utc

ROW = Row(
    seed=1,
    resource="a",
    detector="min_nodes_kept",
    planted=True,
    decoy=False,
    said=90.0,
    true=100.0,
    promised_per_month=(80.0, 110.0),
    true_to_come_per_month=105.0,
)
UP_TO_TWO = {"minimum": 1, "maximum": 2}
OF_THEIR_OWN = {"uncovered_steady_use": Families, "underused_commitment": Reserved}
"""What is bought for months, and what was, have estates of their own."""


def rows_of(traffic: Traffic) -> tuple[str, float]:
    return traffic.resource_id, float(traffic.per_minute.sum())


def test_a_seed_is_an_estate() -> None:
    one, same = planted(5), planted(5)
    assert one.plants == same.plants
    assert (one.estate.jobs, one.estate.resources) == (same.estate.jobs, same.estate.resources)
    assert [*map(rows_of, one.estate.traffic)] == [*map(rows_of, same.estate.traffic)]
    assert one.estate.jobs != planted(6).estate.jobs


def test_every_detector_has_a_fault_of_its_own_and_decoys_are_there() -> None:
    plants = planted(5).plants
    named = {detector for plant in plants for detector in (*plant.detectors, *plant.exposes)}
    assert named == {detector.name for detector in load_detectors()} - OF_THEIR_OWN.keys()
    assert sum(not plant.detectors and not plant.exposes for plant in plants) > len(plants) / 3
    assert len({plant.resource_id for plant in plants}) == len(plants)


@pytest.mark.parametrize(("detector", "of"), OF_THEIR_OWN.items())
def test_what_has_an_estate_of_its_own_is_planted_there_among_decoys(
    detector: str, of: type[Families | Reserved]
) -> None:
    plants = of(5).planted().plants
    assert {(*plant.detectors, *plant.exposes) for plant in plants} == {(detector,), ()}
    assert all(plant.why for plant in plants if not plant.detectors and not plant.exposes)


def test_scores_by_hand() -> None:
    unplanned = replace(ROW, planted=False, said=50.0, true=30.0)  # the bill confirms too little
    confirmed = replace(ROW, planted=False, said=10.0, true=9.0, true_to_come_per_month=1.0)
    lost = Missed(seed=1, resource="b", detectors=("min_nodes_kept",), true=91.0)
    scores = score_of([ROW, unplanned, confirmed], [lost])
    assert (scores["findings"], scores["right"], scores["missed"]) == (3, 2, 1)
    assert (scores["precision"], scores["recall"]) == (0.6667, 0.5)
    assert scores["precision_dollars"] == round(100 / 150, 4)
    assert scores["recall_dollars"] == round(109 / 200, 4)
    assert scores["bias"] == round((100 - 109) / 109, 4)
    assert scores["coverage"] == 0.5


def test_a_promise_without_width_is_no_interval() -> None:
    exact = replace(ROW, promised_per_month=(8.0, 8.0), true_to_come_per_month=8.004)
    missed = replace(exact, true_to_come_per_month=8.02)
    wide = replace(ROW, promised_per_month=(6.0, 8.0), true_to_come_per_month=9.0)
    scores = score_of([exact, exact, missed, wide], [])
    assert (scores["coverage"], scores["certain"], scores["certain_held"]) == (0.0, 3, 0.6667)


def test_a_finding_on_a_decoy_is_never_right() -> None:
    assert not replace(ROW, planted=False, decoy=True).right
    assert not replace(ROW, planted=False, decoy=True, said=0.0, true=0.0, exposed=True).right


def test_what_is_felt_is_scored_where_there_is_enough_of_it() -> None:
    rows = [
        replace(ROW, restarts=(22.0, 20.0), waiting_minutes=(8.0, 4.0), stretch=(1.0, 1.2, 1.1)),
        replace(ROW, restarts=(20.0, 20.0), waiting_minutes=(90.0, 100.0), stretch=(1.0, 1.0, 1.1)),
    ]
    scores = score_of(rows, [])
    assert scores["restarts_error_p90"] == pytest.approx(0.09)
    assert scores["waiting_error_p90"] == pytest.approx(0.1)
    assert scores["stretch_held"] == 0.5


def test_little_said_or_little_true_is_held_against_ten() -> None:
    def waiting(*pairs: tuple[float, float]) -> float | None:
        rows = [replace(ROW, waiting_minutes=pair) for pair in pairs]
        score: float | None = score_of(rows, [])["waiting_error_p90"]
        return score

    assert waiting((9.0, 2.0)) is None
    assert waiting((30.0, 0.0)) == 3.0
    assert waiting((12.0, 11.0)) == pytest.approx(1 / 11, abs=1e-4)
    assert waiting((-10.0, 2.0)) == 1.2


def test_evictions_are_held_against_their_sum_over_all_throws() -> None:
    batch = replace(ROW, detector="dedicated_batch")
    rows = [
        replace(batch, restarts_expected=(1.0, 0.0), waiting_expected=(12.0, 0.0)),
        replace(batch, restarts_expected=(3.0, 5.0), waiting_expected=(36.0, 50.0)),
    ]
    scores = score_of(rows, [])
    assert scores["restarts_expected_error_p90"] is None
    # Of 32 in eight throws, Poisson's central 95 % are 22 to 44. Twelve minutes each were ten.
    assert (scores["evictions"], scores["evictions_held"]) == ([4.0, 5.0], True)
    assert scores["waiting_each_error"] == 0.2
    many = [replace(batch, restarts_expected=(4.0, 5.6), waiting_expected=(1.0, 1.0))]
    assert not score_of(many, [])["evictions_held"]


def test_what_is_expected_is_the_mean_of_plays_under_other_dice(tmp_path: Path) -> None:
    made = planted(7)
    key = next(p.resource_id for p in made.plants if "dedicated_batch" in p.detectors)
    now = utc(made.estate.manifest["now_utc"])
    player = Player(tmp_path, (now - timedelta(days=28), now))
    before = player.throws(made.estate, key)
    assert len(before) == THROWS
    assert len({felt.starts for felt in before}) == 1, "dedicated nodes are never taken away"
    assert len({felt.waiting_minutes for felt in before}) == THROWS, "allocation is chance"
    low = player.throws(mended(made.estate, {key: {"vmPriority": "LowPriority"}}), key)
    assert sum(felt.starts for felt in low) > sum(felt.starts for felt in before)


def test_wilsons_bound_and_regret_by_hand() -> None:
    # methods §10
    assert wilson(47, 50) == pytest.approx(0.859, abs=1e-3)
    assert wilson(18, 20) == pytest.approx(0.738, abs=1e-3)
    assert wilson(0, 0) is None
    lost = Missed(seed=1, resource="b", detectors=("min_nodes_kept",), true=25.0)
    assert Judged(rows=(), missed=(lost,), joint=(70.0, 75.0)).regret == 0.25


def test_what_a_reservation_saves_by_hand() -> None:
    # methods §5.6: 30 h of 0, 20 of 1, 30 of 2, 20 of 3 at α = 0.63
    demand = np.repeat([0.0, 1.0, 2.0, 3.0], [30, 20, 30, 20])
    assert [round(saved(demand, q, 1.0, 0.63), 6) for q in (0, 1, 2, 3)] == [0, 7, -6, -49]


def test_what_goes_unused_is_planted_in_some_reservations_and_not_in_others(tmp_path: Path) -> None:
    reserved = Reserved(5).planted()
    start, now = START_UTC, START_UTC + timedelta(days=SEEN_DAYS)
    world = Player(tmp_path, (start, now)).world(reserved.estate)
    edges = [round(moment.timestamp()) for moment in (start, now)]
    settled = world.settled(*edges)
    used = dict(
        zip(
            (each.id.lower() for each in world.estate.billing.reservations),
            (settled.used.sum(axis=1) / settled.reserved.sum(axis=1)).tolist(),
            strict=True,
        )
    )
    young = next(key for key in used if key.endswith("young"))
    assert used.pop(young) < 0.8
    planted = {plant.resource_id for plant in reserved.plants if plant.exposes}
    assert {key for key, share in used.items() if share < 0.8} == planted
    # What is lost is what is paid less what is used: an hour of each at the price of a year.
    lost = unused_costs(world, start, now)
    for place, each in enumerate(world.estate.billing.reservations):
        hours = settled.unused[place].sum()
        price = world.estate.reserved_per_hour(each)
        assert lost.get(each.id.lower(), 0.0) == pytest.approx(hours * price)


def test_what_is_said_of_commitments_is_scored() -> None:
    one = Unused(
        resource="too-large",
        planted=True,
        said=95.0,
        true=100.0,
        promised_per_month=(80.0, 110.0),
        true_to_come_per_month=120.0,
    )
    wrong = replace(one, resource="well-used", planted=False, said=5.0, true=0.0)
    missed = (("by-day", 50.0),)
    each = Commitments(found=(one, wrong), missed=missed, unsaid={})
    assert each.false == (wrong,)
    score = scores_of([], [], [each])["underused_commitment"]
    assert (score["precision"], score["recall"], score["decoys"]) == (0.5, 0.5, 1)
    assert score["recall_dollars"] == round(100 / 150, 4)
    assert (score["bias"], score["coverage"]) == (-0.05, 0.0)


def made(fault: Callable[[Faults], Callable[[str], None]]) -> tuple[Faults, str]:
    """An estate with one fault, and the resource that has it."""
    faults = Faults(5)
    fault(faults)("it")
    return faults, faults.plants[-1].resource_id


@pytest.mark.parametrize(
    ("fault", "detector", "change"),
    [
        (lambda f: f.unasked, "idle_deployment", {"after": "deleted"}),
        (lambda f: f.too_many, "oversized_deployment", {"setting": "sku.capacity", "after": 3}),
        (
            lambda f: f.never_scales_in,
            "inverted_autoscale",
            {"after": {"minimum": 1, "maximum": 2}},
        ),
        (
            lambda f: f.starved,
            "undersized_sku",
            {"setting": "x.vmSize", "after": "Standard_D8s_v5"},
        ),
    ],
)
def test_a_change_is_played_and_costs_less(
    fault: Callable[[Faults], Callable[[str], None]],
    detector: str,
    change: dict[str, object],
    tmp_path: Path,
) -> None:
    faults, key = made(fault)
    estate = faults.made().estate
    play = Player(tmp_path, (START_UTC, START_UTC + timedelta(days=14)))
    before = play(estate)
    finding = {"resource_id": key, "detector": detector, "change": {"setting": "", **change}}
    after = play(changed(estate, finding), key)
    assert after.seen.get(key, 0.0) < before.seen[key]
    assert play(alone(estate, key)).seen == before.seen


def test_pieces_on_more_and_smaller_nodes_are_the_same_work(tmp_path: Path) -> None:
    faults, key = made(lambda f: f.large_nodes_for_trials)
    estate = faults.made().estate
    spread = changed(
        estate,
        {
            "resource_id": key,
            "detector": "serial_training",
            "change": {"setting": "vmSize", "after": "Standard_D8s_v5"},
            "evidence": {"nodes_for_one": 2},
        },
    )
    play = Player(tmp_path, (START_UTC, START_UTC + timedelta(days=14)))
    felt = [play(each).felt[key] for each in (estate, spread)]
    need = estate.jobs[0].cpu_cores_needed
    assert 2 * felt[1].run_hours / felt[0].run_hours == pytest.approx(need / 8, rel=1e-3)


def test_a_maximum_is_open_ended_by_what_was_ever_at_work(tmp_path: Path) -> None:
    faults, key = made(lambda f: f.far_maximum)
    estate = faults.made().estate
    felt = Player(tmp_path, (START_UTC, START_UTC + timedelta(days=14)))(estate).felt[key]
    documents = [each for each in estate.resources if arm.key(each["id"]) == key]
    assert felt.most_nodes in {1, 2}
    assert exposed("open_ended_maximum", felt, documents)
    close = mended(estate, {key: {"maxNodeCount": felt.most_nodes + 1}})
    documents = [each for each in close.resources if arm.key(each["id"]) == key]
    assert not exposed("open_ended_maximum", felt, documents)


def test_failures_are_a_share_of_node_hours(tmp_path: Path) -> None:
    faults = Faults(5)
    cluster = faults.cluster("it", "Standard_D8ds_v5")
    for hour, fails in ((1, False), (5, False), (9, False), (13, True)):
        at = START_UTC + timedelta(hours=hour)
        faults.job(cluster, at, 3600, Need(cpu=7, memory_gib=20), fails=fails)
    play = Player(tmp_path, (START_UTC, START_UTC + timedelta(days=14)))
    felt = play(faults.made().estate).felt[arm.key(cluster["id"])]
    assert felt.failed_share == pytest.approx(0.25)
    assert felt.run_hours == pytest.approx(4)
    # Each job meets no node: it waits for one, and the one before it is long gone.
    assert felt.starts == 4
    assert felt.waiting_minutes == pytest.approx(4 * 4, rel=0.6)


def test_an_estate_is_written_with_what_is_asked(tmp_path: Path) -> None:
    faults, key = made(lambda f: f.too_many)
    write_estate(tmp_path, faults.made().estate)
    assert (tmp_path / "requests.parquet").exists()
    assert arm.key(faults.traffic[0].resource_id) == key
