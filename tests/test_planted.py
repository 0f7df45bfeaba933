"""The benchmark of planted waste: the same seed is the same estate, and scores add up by hand."""

from dataclasses import replace

from benchmarks.planted import Missed, Row, score_of
from benchmarks.planted_estate import planted

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
    memory_violated=False,
)


def test_a_seed_is_an_estate() -> None:
    assert planted(5) == planted(5)
    assert planted(5).estate.jobs != planted(6).estate.jobs


def test_decoys_and_faults_are_both_there() -> None:
    plants = planted(5).plants
    assert {bool(plant.detectors) for plant in plants} == {True, False}
    assert len({plant.resource_id for plant in plants}) == len(plants)


def testscore_of_by_hand() -> None:
    unplanned = replace(ROW, planted=False, said=50.0, true=30.0)  # the bill confirms too little
    confirmed = replace(ROW, planted=False, said=10.0, true=9.0, true_to_come_per_month=1.0)
    lost = Missed(seed=1, resource="b", detectors=("min_nodes_kept",), true=91.0)
    scores = score_of([ROW, unplanned, confirmed], [lost])
    assert (scores["findings"], scores["right"], scores["missed"]) == (3, 2, 1)
    assert scores["precision_dollars"] == round(100 / 150, 4)
    assert scores["recall_dollars"] == round(109 / 200, 4)
    assert scores["bias"] == round((100 - 109) / 109, 4)
    assert scores["coverage"] == 0.5


def test_a_finding_on_a_decoy_is_never_right() -> None:
    assert not replace(ROW, planted=False, decoy=True).right
