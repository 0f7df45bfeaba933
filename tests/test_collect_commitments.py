import json
from collections.abc import Callable
from pathlib import Path

import pytest

from optimizer.azure.connect import connect
from optimizer.collectors.collect import CollectReport, collect
from optimizer.collectors.commitments import commitment_rows
from optimizer.config import AnalysisSettings, AzureSettings
from optimizer.store.lake import Lake
from optimizer.store.tables import COMMITMENTS, COSTS
from tests.conftest import Emulator
from tests.emulator.schemas import validate
from tests.estates import (
    CPU_SKU,
    cluster,
    commitment,
    reservation,
    workspace,
    write_estate,
)


@pytest.fixture(scope="module")
def azure(
    emulator: Callable[[Path], Emulator], tmp_path_factory: pytest.TempPathFactory
) -> Emulator:
    ws = workspace("ws")
    resources = [
        ws,
        cluster(ws),
        commitment("12345", 62.5),
        commitment("12345", 100, kind="IncludedQuantity"),
        commitment("another", 10),
    ]
    return emulator(
        write_estate(tmp_path_factory.mktemp("estates") / "plans", resources=resources, days=150)
    )


def run(
    azure: Emulator, lake: Lake, account: str | None, *, lookback_days: int = 2
) -> CollectReport:
    settings = AzureSettings(
        endpoint=azure.url,
        ca_file=azure.ca_file,
        credential="emulator",
        billing_account=account,
    )
    return collect(
        connect(settings),
        lake,
        lookback_days=lookback_days,
        subscriptions=(),
        analysis=AnalysisSettings(),
        progress=lambda *_: None,
    )


def test_the_use_of_a_savings_plan_is_known(azure: Emulator, tmp_path: Path) -> None:
    lake = Lake(tmp_path / "lake")
    run(azure, lake, "12345")
    (found,) = lake.read(COMMITMENTS).to_dict("records")
    assert (found["sku"], found["utilisation"]) == ("Compute_Savings_Plan", 0.625)
    assert "/savingsplans/" in found["id"]


def test_without_a_billing_account_nothing_is_asked(azure: Emulator, tmp_path: Path) -> None:
    lake = Lake(tmp_path / "lake")
    assert "commitments" not in run(azure, lake, None).rows
    assert lake.read(COMMITMENTS).empty


def test_an_account_that_cannot_be_read_is_a_problem(azure: Emulator, tmp_path: Path) -> None:
    report = run(azure, Lake(tmp_path / "lake"), "nobody")
    assert any(problem.scope == "billing account nobody" for problem in report.problems)
    assert report.rows["resources"] == 2


def test_answers_are_what_the_schema_allows_and_come_in_pages(azure: Emulator) -> None:
    path = (
        "/providers/Microsoft.Billing/billingAccounts/12345/providers"
        "/Microsoft.CostManagement/benefitUtilizationSummaries?api-version=2025-03-01"
        "&grainParameter=Daily&filter=properties/usageDate%20ge%202026-01-05"
        "%20and%20properties/usageDate%20le%202026-05-05"
    )
    answer = azure.call("GET", path)
    assert len(answer["value"]) == 100
    validate(
        answer["value"][0],
        "SavingsPlanUtilizationSummary",
        "derived-costmanagement-2025-03-01.json",
    )
    assert "skiptoken" in answer["nextLink"]


def test_a_reservation_is_known_by_its_use_and_by_what_it_covers(
    emulator: Callable[[Path], Emulator], tmp_path: Path
) -> None:
    # Of four machines reserved at 0.15 one works around the clock, so 3 × 0.15 × 730 go unused.
    ws = workspace("ws")
    reserved = emulator(
        write_estate(
            tmp_path / "reserved",
            resources=[ws, cluster(ws, minimum=1, maximum=1)],
            billing={"reservations": [reservation(quantity=4)]},
            days=21,
        )
    )
    lake = Lake(tmp_path / "lake")
    run(reserved, lake, "12345", lookback_days=20)
    (found,) = lake.read(COMMITMENTS).to_dict("records")
    assert (found["sku"], found["utilisation"]) == (CPU_SKU, 0.25)
    assert set(json.loads(found["by_day"]).values()) == {0.25}
    costs = lake.read(COSTS)
    machines = costs[costs["component"] == "vm"]
    assert set(machines["pricing_model"]) == {"Reservation"}
    assert machines["billed_cost"].sum() == 0
    assert machines["effective_cost"].sum() == pytest.approx(machines["quantity"].sum() * 0.15)
    assert machines["contracted_cost"].sum() == pytest.approx(machines["quantity"].sum() * 0.25)


def summary(
    use: float | None, kind: str = "SavingsPlan", day: str = "2026-01-05"
) -> dict[str, object]:
    told = {"avgUtilizationPercentage": use, "usageDate": f"{day}T00:00:00Z"}
    return {"kind": kind, "properties": {"benefitId": "/Plan", **told}}


def test_days_without_a_figure_do_not_count() -> None:
    days = ("2026-01-05", "2026-01-06", "2026-01-07")
    told = [summary(use, day=day) for use, day in zip((50, None, 100), days, strict=True)]
    (found,) = commitment_rows(told).to_dict("records")
    assert (found["id"], found["utilisation"]) == ("/plan", 0.75)
    assert json.loads(found["by_day"]) == {"2026-01-05": 0.5, "2026-01-07": 1.0}
    (unknown,) = commitment_rows([summary(None)]).to_dict("records")
    assert (unknown["utilisation"], unknown["by_day"]) == (None, None)
