"""A deployment with too many instances: found, changed, measured and put back on an estate."""

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest

from optimizer import pipeline
from optimizer.config import AnalysisSettings, AzureSettings, Settings
from optimizer.model import Claim
from optimizer.remediation.outcomes import Outcome, Status
from tests.conftest import Emulator
from tests.estates import (
    START_UTC,
    deployment,
    diagnostics,
    endpoint,
    requests,
    workspace,
    write_estate,
)

DAYS, LATER = 14, 12
WS = workspace("ws")
EP = endpoint(WS, "ep", traffic={"blue": 100})
BLUE = deployment(EP, "blue", instances=4, concurrency=8)
DAY = timedelta(days=1)


@pytest.fixture(scope="module")
def azure(
    emulator: Callable[[Path], Emulator], tmp_path_factory: pytest.TempPathFactory
) -> Emulator:
    rows = [
        row
        for day in range(DAYS + LATER + 1)
        for hour, per_minute in ((0, 120.0), (8, 1200.0), (18, 120.0))
        for row in requests(
            BLUE,
            START_UTC + day * DAY + timedelta(hours=hour),
            {0: 8, 8: 10, 18: 6}[hour] * 60,
            per_minute,
            service_ms=200,
        )
    ]
    return emulator(
        write_estate(
            tmp_path_factory.mktemp("estates") / "loop",
            resources=[WS, diagnostics(WS), EP, BLUE],
            requests=rows,
            days=DAYS,
            physics={"deployment_start_seconds": 0, "deployment_cpu_at_rest": 2.0},
        )
    )


def capacity(azure: Emulator) -> int:
    path = f"{BLUE['id']}?api-version=2025-12-01"
    return int(azure.call("GET", path)["sku"]["capacity"])


def test_what_is_promised_is_what_the_bill_then_shows(azure: Emulator, tmp_path: Path) -> None:
    settings = Settings(
        home=tmp_path,
        azure=AzureSettings(endpoint=azure.url, ca_file=azure.ca_file, credential="emulator"),
        analysis=AnalysisSettings(lookback_days=DAYS, billing_lag_hours=0),
    )
    pipeline.collect(settings, progress=lambda *_: None)
    found = [
        finding
        for finding in pipeline.analyse(settings).findings
        if finding.detector == "oversized_deployment"
    ]
    # 1,200 a minute are half of the CPUs of one instance and a quarter of those of two.
    assert [(f.change.before, f.change.after) for f in found] == [(4, 2)]

    outcomes: list[Outcome] = []
    plan = pipeline.make_plan(settings, finding_ids=[found[0].id])
    run = pipeline.apply(settings, plan, who="ana", on_outcome=outcomes.append)
    assert [outcome.status for outcome in outcomes] == [Status.DONE]
    assert capacity(azure) == 2

    now = azure.advance(24 * LATER)
    pipeline.collect(settings, progress=lambda *_: None)
    (claim,) = pipeline.verify(settings).claims
    bill = azure.bill(now - LATER * DAY, now)["by_resource"][BLUE["id"]]
    saved = 4 * 0.25 * 730 - bill * 730 / (24 * LATER)
    assert claim.level is Claim.MEASURED
    assert claim.measured_per_month is not None
    assert claim.measured_per_month.mid == pytest.approx(saved, rel=0.01)
    assert claim.promised_per_month.p50 == pytest.approx(saved, rel=0.01)

    pipeline.rollback(settings, run.id, who="ana", on_outcome=outcomes.append)
    assert capacity(azure) == 4
