import json
import math
from dataclasses import replace

import pytest

from optimizer.model import Claim, Effects, Estimate
from optimizer.remediation.outcomes import Measured, Status
from optimizer.report.documents import (
    explanation_document,
    findings_document,
    history_document,
    run_document,
    verification_document,
)
from tests.changes import THREE, WINDOW
from tests.reports import (
    NO_CLAIMS,
    PARTS,
    REPORT,
    analysis_of,
    claim_of,
    outcome_of,
    run_of,
    verification_of,
)


def test_findings_have_the_keys_of_the_contract() -> None:
    document = findings_document(analysis_of())
    assert list(document) == [
        *("schema", "currency", "window", "totals", "findings", "not_assessed", "gone")
    ]
    assert list(document["totals"]) == ["spend_per_month", "saving_per_month", "by_detector"]
    assert list(document["findings"][0]) == [
        *("id", "detector", "resource_id", "workspace", "kind", "owner", "tags", "title", "why"),
        *("evidence", "change", "saving_per_month", "basis", "spend_per_month", "effects"),
        *("confidence", "risk", "effort", "pillar_notes", "source", "claim"),
    ]
    assert list(document["findings"][0]["change"]) == [
        *("resource_id", "setting", "before", "after", "how")
    ]
    assert list(document["findings"][0]["effects"]) == [
        *("extra_waiting_minutes_per_month", "extra_restarts_per_month", "runtime_stretch")
    ]
    assert document["not_assessed"][0] == {
        "resource_id": "/a",
        "detector": "slow_scale_down",
        "reason": "no metrics",
    }


def test_schema_and_window_are_said() -> None:
    document = findings_document(analysis_of())
    assert document["schema"] == 1
    assert document["window"] == {
        "start_utc": "2026-01-05T00:00:00Z",
        "end_utc": "2026-01-26T00:00:00Z",
    }
    assert WINDOW.days == 21


def test_the_waterfall_telescopes_to_the_total_in_cents() -> None:
    totals = findings_document(analysis_of())["totals"]
    parts = [part["p50"] for part in totals["by_detector"].values()]
    assert parts == [150.0, 100.0]
    assert sum(parts) == totals["saving_per_month"]["p50"]
    assert totals["saving_per_month"]["p90"] == 301.24


def test_what_is_no_number_is_null() -> None:
    strange = replace(
        THREE[0],
        saving_per_month=None,
        spend_per_month=math.nan,
        evidence={"idle_hours": math.inf, "nodes": 2, "share": 0.123456},
        effects=Effects(
            extra_waiting_minutes_per_month=None, extra_restarts_per_month=1.5, runtime_stretch=None
        ),
    )
    (document,) = findings_document(analysis_of([strange]))["findings"]
    assert document["saving_per_month"] is None
    assert document["spend_per_month"] is None
    assert document["evidence"] == {"idle_hours": None, "nodes": 2, "share": 0.1235}
    assert document["effects"]["extra_waiting_minutes_per_month"] is None
    assert json.loads(json.dumps(document, allow_nan=False)) == document


def test_an_explanation_holds_formula_sensitivity_and_calibration() -> None:
    document = explanation_document(analysis_of(), THREE[0])
    assert document["formula"] == "1.02 × (500 − 400) = 102"
    assert document["sensitivity"] == ["Below 20 a month nothing is said."]
    assert document["calibration"] == {
        "k": 1.02,
        "nmbe": 0.0196,
        "cv_rmse": 0.05,
        "days": 26,
        "basis": "effective",
    }
    assert explanation_document(analysis_of(), THREE[1])["calibration"] is None


def test_a_verification_has_the_keys_of_the_contract() -> None:
    measured = Measured(low=80.123, mid=95, high=105)
    claim = claim_of(Claim.MEASURED, measured, parts_per_month=PARTS, report=REPORT)
    document = verification_document(
        verification_of(claim, measured=measured, parts_per_month=PARTS)
    )
    assert document == {
        "claims": [
            {
                "finding_id": "f1",
                "resource_id": claim_of(Claim.APPLIED).resource_id,
                "applied_utc": "2026-01-10T08:00:00Z",
                "level": "Measured",
                "promised_per_month": {"p10": 90.0, "p50": 100.0, "p90": 110.0},
                "measured_per_month": {"low": 80.12, "mid": 95.0, "high": 105.0},
                "why": "28 days were billed.",
                "shortfall": None,
                "parts_per_month": {"volume": 20.0, "policy": -95.0, "price": -1.0},
                "volume_per_month": None,
                "report": {
                    "name": "28 days",
                    "start": "2026-01-14",
                    "end": "2026-02-11",
                    "days": 28,
                    "next_on": "2026-04-10",
                },
            }
        ],
        "totals": {
            "currency": "USD",
            "promised_per_month": {"p10": 90.0, "p50": 100.0, "p90": 110.0},
            "measured_per_month": {"low": 80.12, "mid": 95.0, "high": 105.0},
            "parts_per_month": {"volume": 20.0, "policy": -95.0, "price": -1.0},
            "measured_per_year": {"mid": 1140.0, "is_run_rate": True},
        },
        "suggested_events": [],
    }


def test_what_was_not_measured_is_null() -> None:
    document = verification_document(verification_of(claim_of(Claim.APPLIED)))
    assert document["claims"][0]["measured_per_month"] is None
    assert verification_document(NO_CLAIMS)["totals"]["currency"] is None


def test_a_run_tells_how_each_step_ended() -> None:
    document = run_document(run_of(outcome_of(Status.DRIFTED, "now 1"), ended=False))
    assert document["ended_utc"] is None
    assert document["outcomes"][0]["status"] == "drifted"
    assert document["outcomes"][0]["at_utc"] == "2026-01-10T08:00:00Z"
    assert history_document([run_of()])["runs"][0]["id"] == "apply-20260110-3f9c2a"


@pytest.mark.parametrize("amount", [0.005, 12.345, 1e6 / 3])
def test_any_split_of_a_total_keeps_its_cents(amount: float) -> None:
    part = Estimate(p10=0, p50=amount / 7, p90=amount)
    names = [f"detector_{n}" for n in range(7)]
    document = findings_document(
        analysis_of(
            by_detector=dict.fromkeys(names, part),
            saving_per_month=Estimate(p10=0, p50=amount, p90=amount),
        )
    )
    parts = document["totals"]["by_detector"].values()
    assert sum(p["p50"] for p in parts) == pytest.approx(
        document["totals"]["saving_per_month"]["p50"], abs=1e-9
    )
