"""Analyses and verifications made from code, for tests of what is said about them."""

from collections.abc import Sequence
from datetime import UTC, date, datetime
from typing import Any

from optimizer.analysis.result import Analysis, Calibration
from optimizer.model import Basis, Claim, Estimate, Finding, NotAssessed
from optimizer.remediation.outcomes import (
    ClaimReport,
    Measured,
    Outcome,
    Parts,
    Report,
    Run,
    Status,
    Verification,
)
from tests.changes import KEPT, MIN_NODES, THREE, WINDOW

APPLIED_UTC = datetime(2026, 1, 10, 8, tzinfo=UTC)
PROMISED = Estimate(p10=90, p50=100, p90=110)
PARTS = Parts(volume=20.004, policy=-95.0, price=-1.0)
REPORT = Report(
    name="28 days",
    start=date(2026, 1, 14),
    end=date(2026, 2, 11),
    days=28,
    next_on=date(2026, 4, 10),
)
NO_CLAIMS = Verification(
    currency="",
    claims=(),
    promised_per_month=Estimate(p10=0, p50=0, p90=0),
    measured_per_month=None,
)


def analysis_of(findings: Sequence[Finding] = THREE, **fields: Any) -> Analysis:
    """Return an analysis of 1,000 USD a month in which these findings save 250 together."""
    plain: dict[str, Any] = {
        "currency": "USD",
        "window": WINDOW,
        "findings": tuple(findings),
        "not_assessed": (
            NotAssessed(resource_id="/a", detector="slow_scale_down", reason="no metrics"),
            NotAssessed(resource_id="/b", detector="slow_scale_down", reason="no metrics"),
        ),
        "spend_per_month": 1000.0,
        "saving_per_month": Estimate(p10=200, p50=250, p90=301.239),
        "by_detector": {
            "min_nodes_kept": Estimate(p10=100, p50=150.004, p90=200),
            "no_idle_shutdown": Estimate(p10=60, p50=99.996, p90=101),
        },
        "resources": {},
        "calibrations": {
            KEPT["id"].lower(): Calibration(
                k=1.02, nmbe=0.0196, cv_rmse=0.05, days=26, basis=Basis.EFFECTIVE
            )
        },
        "daily_spend": {date(2026, 1, day): 10.0 * day for day in range(5, 25)},
        "formulas": {THREE[0].id: "1.02 × (500 − 400) = 102"},
        "sensitivity": {THREE[0].id: ("Below 20 a month nothing is said.",)},
    }
    return Analysis(**plain | fields)


def claim_of(level: Claim, measured: Measured | None = None, **fields: Any) -> ClaimReport:
    """Return a claim that promised 100 a month."""
    return ClaimReport(
        finding_id="f1",
        resource_id=KEPT["id"].lower(),
        applied_utc=APPLIED_UTC,
        level=level,
        promised_per_month=PROMISED,
        measured_per_month=measured,
        why="28 days were billed.",
        **fields,
    )


def verification_of(
    *claims: ClaimReport, measured: Measured | None = None, **fields: Any
) -> Verification:
    """Return a verification of these claims."""
    return Verification(
        currency="USD",
        claims=claims,
        promised_per_month=PROMISED,
        measured_per_month=measured,
        **fields,
    )


def outcome_of(status: Status, detail: str = "") -> Outcome:
    """Return how one step ended."""
    return Outcome(
        step_id="step-1",
        resource_id=KEPT["id"].lower(),
        setting=MIN_NODES,
        before=2,
        after=0,
        status=status,
        detail=detail,
        at_utc=APPLIED_UTC,
    )


def run_of(*outcomes: Outcome, ended: bool = True) -> Run:
    """Return an apply with these outcomes."""
    return Run(
        id="apply-20260110-3f9c2a",
        kind="apply",
        plan_id="plan-1",
        scenario="balanced",
        who="ana",
        started_utc=APPLIED_UTC,
        ended_utc=APPLIED_UTC if ended else None,
        outcomes=outcomes,
    )
