"""Which way open questions turned out, from what was collected and from a running estate."""

from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from optimizer.azure.connect import connect
from optimizer.azure.doctor import NOT_SEEN, check
from optimizer.collectors.unverified import turned_out
from optimizer.config import AzureSettings
from optimizer.store.lake import Lake
from optimizer.store.tables import (
    COSTS,
    INSTANCE_EVENTS,
    INTERVALS,
    JOBS,
    REQUESTS,
    RESOURCES,
    Table,
)
from tests.conftest import Emulator
from tests.estates import START_UTC, SUBSCRIPTION

CI, GPU, BLUE = "/ws/computes/ci", "/ws/computes/gpu", "/ws/onlineendpoints/ep/deployments/blue"
AT = pd.Timestamp(START_UTC)
DAY = pd.Timedelta(days=1)


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    lake = Lake(tmp_path / "lake")
    kinds = {CI: "instance", GPU: "cluster", BLUE: "deployment"}
    rows = [
        {"resource_id": resource_id, "kind": kind, "collected_at_utc": AT}
        for resource_id, kind in kinds.items()
    ]
    lake.write(RESOURCES, pd.DataFrame(rows))
    return lake


def said(lake: Lake, name: str, *rows: tuple[Table, dict[str, Any]]) -> str | None:
    for table, row in rows:
        lake.write(table, pd.DataFrame([row]))
    (found,) = (each for each in turned_out(lake) if each.name == name)
    assert found.ok is (None if found.detail == NOT_SEEN else True)
    return None if found.detail == NOT_SEEN else found.detail


def cost(resource_id: str, **columns: Any) -> tuple[Table, dict[str, Any]]:
    row = {"resource_id": resource_id, "charge_date": AT, "component": "vm"}
    return COSTS, row | columns


MEASURED = (INTERVALS, {"resource_id": CI, "node_id": "ci", "start_utc": AT, "end_utc": AT})
STARTED = (INSTANCE_EVENTS, {"resource_id": CI, "at_utc": AT, "operation": "Start"})
A_JOB = (JOBS, {"job_id": "/ws/jobs/a", "resource_id": CI})


def asked(**columns: Any) -> tuple[Table, dict[str, Any]]:
    return REQUESTS, {"resource_id": BLUE, "minute_utc": AT, "instances": 1.0} | columns


@pytest.mark.parametrize(
    ("name", "rows", "word"),
    [
        ("Use of instances without a job", [], None),
        ("Use of instances without a job", [MEASURED], "idle time is seen"),
        ("Use of instances without a job", [MEASURED, A_JOB], None),
        ("Use of instances without a job", [STARTED], "not measured"),
        ("Clusters in the bill", [cost(GPU, attribution="exact")], "exact"),
        ("Clusters in the bill", [cost(CI, attribution="exact")], "no cluster"),
        ("Clusters in the bill", [cost("/ws")], "No cost has a PoolName"),
        ("Clusters in the bill", [cost("/ws", component="disk")], None),
        ("Deployments in the bill", [cost(BLUE)], "azuremldeployment"),
        ("Deployments in the bill", [cost("/ws")], "stays with the workspace"),
        ("Minutes without requests", [asked()], "silent_deployments_are_idle"),
        ("Minutes without requests", [asked(requests_per_minute=0.0)], "told as 0"),
        ("Minutes without requests", [asked(requests_per_minute=3.0)], None),
        ("Commitments in the bill", [cost(GPU, pricing_model="OnDemand")], None),
        ("Commitments in the bill", [cost(GPU, pricing_model="Reservation")], "reservations"),
        ("Commitments in the bill", [cost(GPU, pricing_model="Savings Plan")], "savings plans"),
    ],
)
def test_what_was_collected_answers(
    lake: Lake, name: str, rows: list[tuple[Table, dict[str, Any]]], word: str | None
) -> None:
    found = said(lake, name, *rows)
    assert (found is None) if word is None else (found is not None and word in found)


def test_only_the_latest_days_count(lake: Lake) -> None:
    old = cost(GPU, attribution="exact", charge_date=AT - 30 * DAY)
    assert "No cost" in str(said(lake, "Clusters in the bill", old, cost("/ws")))


def test_nothing_collected_is_not_seen_yet(tmp_path: Path) -> None:
    assert {each.detail for each in turned_out(Lake(tmp_path / "empty"))} == {NOT_SEEN}


def test_a_running_estate_answers(small: Emulator) -> None:
    settings = AzureSettings(endpoint=small.url, ca_file=small.ca_file, credential="emulator")
    details = {each.name: each.detail for each in check(connect(settings), [SUBSCRIPTION])}
    assert "a number, such as 202601" in details[f"Days of costs of {SUBSCRIPTION}"]
    assert "lists no computes" in details[f"Resource Graph of {SUBSCRIPTION}"]
    assert details[f"Log of run states of {SUBSCRIPTION}"] == NOT_SEEN
