import json
from collections import Counter
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from benchmarks.estate_files import Settings
from optimizer.emulator.estate import load_estate
from sample_data.contoso_life import END, HISTORY_START, NOW
from sample_data.contoso_truth import Bill, play
from sample_data.make_contoso import CLUSTERS, INSTANCES, main

CONTOSO = Path(__file__).parents[1] / "sample_data" / "contoso"
MADE = ("estate.json", "resources.json", "jobs.parquet", "sessions.parquet", "prices.csv")


@pytest.fixture(scope="module")
def truth() -> dict[str, Any]:
    return dict(json.loads((CONTOSO / "truth.json").read_text()))


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("contoso")
    main(["--out", str(out)])
    return out


@pytest.fixture(scope="module")
def as_it_is() -> dict[str, Bill]:
    return play(load_estate(CONTOSO), {})


@pytest.mark.parametrize("name", MADE)
def test_the_script_makes_the_folder_byte_for_byte(made: Path, name: str) -> None:
    assert (made / name).read_bytes() == (CONTOSO / name).read_bytes()


def test_the_folder_is_small() -> None:
    assert sum(path.stat().st_size for path in CONTOSO.iterdir()) < 2_000_000


def test_it_has_what_a_customer_has() -> None:
    documents = json.loads((CONTOSO / "resources.json").read_text())
    kinds = Counter(d["properties"].get("computeType", d["type"]) for d in documents)
    assert kinds == {
        "Microsoft.MachineLearningServices/workspaces": 3,
        "Microsoft.Insights/diagnosticSettings": 2,
        "AmlCompute": 13,
        "ComputeInstance": 30,
    }
    assert len({d["id"].split("/")[2] for d in documents}) == 2


def test_now_is_a_monday_with_four_weeks_on_either_side() -> None:
    assert NOW.isoweekday() == 1
    assert (NOW - HISTORY_START).days == (END - NOW).days == 28


def test_every_compute_has_a_price() -> None:
    prices = pd.read_csv(CONTOSO / "prices.csv")
    sold = set(zip(prices.region, prices.sku, strict=True))
    assert {(c.site.region, c.sku) for c in (*CLUSTERS, *INSTANCES)} == sold


def test_no_node_is_asked_for_more_than_it_has() -> None:
    jobs = pd.read_parquet(CONTOSO / "jobs.parquet")
    prices = pd.read_csv(CONTOSO / "prices.csv").drop_duplicates("sku").set_index("sku")
    machine = prices.loc[jobs.reference_sku].reset_index(drop=True)
    assert (jobs.cpu_cores_needed <= machine.vcpus).all()
    assert (jobs.memory_gib_needed <= machine.memory_gib).all()
    assert (jobs.gpus_needed <= machine.gpus).all()
    assert (jobs.gpu_memory_gib_needed <= machine.gpu_memory_gib).all()


def test_nobody_works_twice_at_once() -> None:
    sessions = pd.read_parquet(CONTOSO / "sessions.parquet")
    for _, own in sessions.sort_values("start_utc").groupby("resource_id"):
        assert (own.start_utc.iloc[1:].to_numpy() >= own.end_utc.iloc[:-1].to_numpy()).all()


def test_the_busy_decoy_never_falls_below_its_minimum() -> None:
    jobs = pd.read_parquet(CONTOSO / "jobs.parquet")
    lanes = jobs[jobs.resource_id.str.endswith("always-busy")]
    ends = lanes.submit_utc + pd.to_timedelta(lanes.run_seconds, unit="s")
    for moment in pd.date_range(HISTORY_START, END, freq="1h", inclusive="neither"):
        assert ((lanes.submit_utc <= moment) & (moment < ends)).sum() >= 3


def test_every_waste_is_worth_finding(truth: dict[str, Any]) -> None:
    # A detector speaks from 20 a month and 3 % of the compute's spend on.
    for waste in truth["planted"]:
        assert waste["saving"]["history"] > max(20, 0.03 * waste["spend"]["history"]), waste


def test_savings_never_exceed_what_is_spent(truth: dict[str, Any]) -> None:
    for waste in truth["planted"]:
        for candidate in waste["grid"]:
            assert candidate["saving"]["history"] < waste["spend"]["history"]
            assert candidate["saving"]["future"] < waste["spend"]["future"]


def test_the_best_answer_is_the_best_of_the_grid(truth: dict[str, Any]) -> None:
    for waste in truth["planted"]:
        best = max(waste["grid"], key=lambda candidate: candidate["saving"]["history"])
        assert waste["saving"] == best["saving"]


def test_all_three_detectors_have_waste_and_decoys_have_none(truth: dict[str, Any]) -> None:
    planted = Counter(waste["detector"] for waste in truth["planted"])
    assert planted == {
        "min_nodes_kept": 4,
        "slow_scale_down": 4,
        "min_nodes_kept+slow_scale_down": 2,
        "no_idle_shutdown": 8,
    }
    wasteful = {waste["resource_id"] for waste in truth["planted"]}
    assert wasteful.isdisjoint(decoy["resource_id"] for decoy in truth["decoys"])


def test_a_saving_in_the_truth_is_the_difference_of_two_bills(
    truth: dict[str, Any], as_it_is: dict[str, Bill]
) -> None:
    waste = next(w for w in truth["planted"] if w["resource_id"].endswith("ci-dana"))
    changed = play(load_estate(CONTOSO), {waste["resource_id"]: {"idle_shutdown": "PT60M"}})
    (hour,) = (c for c in waste["grid"] if "PT60M" in c["after"].values())
    saved = as_it_is[waste["resource_id"]].less(changed[waste["resource_id"]])
    assert saved == hour["saving"]


FORBIDDEN = {"demo-warm", "dr-standby", "ci-cleo", "ci-showcase"}
"""A tag or SSH keeps these as they are; all other decoys have nothing to gain."""


@pytest.mark.parametrize(
    ("for_clusters", "for_instances"),
    [({"min_nodes": 0}, {"idle_shutdown": "PT60M"}), ({"idle_seconds": 120}, {})],
)
def test_decoys_have_nothing_to_gain(
    for_clusters: Settings, for_instances: Settings, as_it_is: dict[str, Bill]
) -> None:
    settings = {c.resource_id: for_clusters for c in CLUSTERS if c.decoy}
    settings |= {i.resource_id: for_instances for i in INSTANCES if i.decoy}
    changed = play(load_estate(CONTOSO), settings)
    gains = {c: as_it_is[c].history - changed[c].history for c in settings}
    assert {c.split("/")[-1] for c, gain in gains.items() if gain > 20} <= FORBIDDEN
