"""Rules of other tools on machines small enough to work them out by hand."""

from typing import Any

import numpy as np
import pandas as pd
import pytest

from benchmarks.peers import advisor, krr, optscale
from benchmarks.peers.__main__ import Said, scores
from benchmarks.peers.machines import Advice, Machine, advice_of
from tests.analysis.builders import rates

DAYS = 14


def machine(cpu: float, *, memory: float = 0.5, sku: str = "Standard_D8s_v5") -> Machine:
    """A machine on around the clock at one level of use: 720 h for 288 at 0.40."""
    catalogue = rates().catalogue
    size = catalogue.size(sku)
    assert size is not None
    per_mille = round(cpu * 1000)
    rows = [
        {
            "resource_id": "it",
            "node_id": "n",
            "day": day,
            "minutes": 1440,
            "busy_minutes": 1440,
            "cpu_histogram": [{"rise": per_mille, "minutes": 1440}],
            "memory_histogram": [{"rise": round(memory * 1000), "minutes": 1440}],
            "gpu_histogram": None,
            "gpu_memory_histogram": None,
            "cpu_sum": per_mille * 1440,
            "cpu_hour_sums": np.full(24, per_mille * 60),
            "gpus_seen": None,
            "gpus_used": None,
        }
        for day in pd.date_range("2026-06-01", periods=DAYS, tz="UTC")
    ]
    return Machine(
        resource_id="it",
        interactive=True,
        size=size,
        region="westeurope",
        catalogue=catalogue,
        cost_per_month=288.0,
        hours_per_month=720.0,
        node_days=pd.DataFrame(rows),
        end=pd.Timestamp("2026-06-15", tz="UTC"),
    )


def said(peer: Any, it: Machine) -> dict[str, float | None]:
    return {advice.rule: advice.saving_per_month for advice in advice_of([it], peer.RULES)}


def test_one_idle_node_is_reported_three_times() -> None:
    # 1 % of 8 CPUs: deleted, switched off around the clock, and shrunk to D2_v3 at 0.10.
    assert said(optscale, machine(0.01)) == {
        "delete": pytest.approx(288.0),
        "schedule": pytest.approx(288.0),
        "resize": pytest.approx(288.0 * (1 - 0.10 / 0.40)),
    }


def test_a_gpu_trainer_with_idle_cpus_is_to_be_deleted() -> None:
    assert "delete" in said(optscale, machine(0.03, sku="Standard_NC6s_v3"))


def test_advisor_keeps_cpu_and_memory_below_its_targets() -> None:
    # 15 % of 8 is 1.2 CPUs, 40 % of 4 are 1.6; 8 of 32 GiB are within 60 % of 16.
    it = machine(0.15, memory=0.25)
    assert said(advisor, it) == {"resize": pytest.approx((0.40 - 0.10) * 720)}
    assert said(advisor, machine(0.35, memory=0.7)) == {}
    assert "shut down" in said(advisor, machine(0.01, memory=0.9))


def test_krr_reckons_no_money() -> None:
    assert said(krr, machine(0.2, memory=0.2)) == {"resize": None}
    assert said(krr, machine(0.9, memory=0.9)) == {}


def test_scores_by_hand() -> None:
    def advice(name: str, saving: float) -> Advice:
        return Advice(rule="r", resource_id=name, saving_per_month=saving)

    row = scores(
        "x",
        [
            Said(
                advice={"x": [advice("a", 60.0), advice("a", 60.0), advice("g", 30.0)]},
                wasteful=frozenset("ab"),
                gpu_busy=frozenset("g"),
                achievable_per_month=100.0,
            )
        ],
    )
    assert row == {
        "flagged": 2,
        "precision": 0.5,
        "recall": 0.5,
        "reported_by_achievable": 1.5,
        "gpu_busy_flagged": 1,
    }
