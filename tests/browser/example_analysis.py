"""A small analysis by hand, so that pictures and pages are tested without an estate."""

from datetime import UTC, date, datetime, timedelta

import numpy as np

from optimizer.analysis.result import Analysis, Series
from optimizer.model import (
    Basis,
    Change,
    Claim,
    Effects,
    Effort,
    Estimate,
    Finding,
    How,
    Kind,
    Level,
    NotAssessed,
    Resource,
    Source,
    Window,
)

START_UTC = datetime(2026, 10, 26, tzinfo=UTC)
WINDOW = Window(start_utc=START_UTC, end_utc=START_UTC + timedelta(days=28))
STEPS_PER_DAY = 144
WORKSPACE_ID = (
    "/subscriptions/c0470500-0000-4000-8000-000000000001/resourcegroups/rg-vision/providers"
    "/microsoft.machinelearningservices/workspaces/vision"
)
CLUSTER_ID = f"{WORKSPACE_ID}/computes/train-gpu"
HOSTILE_OWNER = "<b>x</b> [l](http://x.test) :smile: $a$ _o_ :red[r] :material/home:"


def working_days(*, minimum: int, peak: int) -> Series:
    """Return four weeks of `peak` nodes at work from 8 to 16 h UTC on weekdays."""
    times = np.datetime64("2026-10-26T00:00:00", "s") + np.arange(
        28 * STEPS_PER_DAY
    ) * np.timedelta64(600, "s")
    step = np.arange(times.size)
    hour, day = step % STEPS_PER_DAY / 6, step // STEPS_PER_DAY
    needed = np.where((hour >= 8) & (hour < 16) & (day % 7 < 5), float(peak), 0.0)
    held = np.where((hour >= 8) & (hour < 18) & (day % 7 < 5), float(peak), 0.0)
    return Series(
        times_utc=times,
        needed=needed,
        on_now=np.maximum(held, minimum),
        on_changed=needed,
    )


def finding(finding_id: str = "f-1", **changed: object) -> Finding:
    """Return a finding about the cluster `train-gpu`, with some of its fields changed."""
    fields = {
        "id": finding_id,
        "detector": "min_nodes_kept",
        "resource_id": CLUSTER_ID,
        "workspace": "vision",
        "kind": Kind.CLUSTER,
        "owner": HOSTILE_OWNER,
        "tags": {"team": HOSTILE_OWNER},
        "title": "train-gpu keeps 2 nodes while nothing runs",
        "why": "2 nodes stay on through 520 h a month in which nothing runs.",
        "evidence": {"idle_node_hours_per_month": 1040.0, "cold_starts_per_month": 22},
        "change": Change(
            resource_id=CLUSTER_ID,
            setting="properties.properties.scaleSettings.minNodeCount",
            before=2,
            after=0,
            how=How.PATCH,
        ),
        "saving_per_month": Estimate(p10=3100.0, p50=3345.2, p90=3600.0),
        "basis": Basis.EFFECTIVE,
        "spend_per_month": 5200.0,
        "effects": Effects(
            extra_waiting_minutes_per_month=88.0,
            extra_restarts_per_month=0.0,
            runtime_stretch=1.0,
        ),
        "confidence": Level.HIGH,
        "risk": Level.LOW,
        "effort": Effort.ONE_CLICK,
        "pillar_notes": ("Performance: the first job of a morning waits for its node.",),
        "source": Source(
            title="Optimize compute scaling",
            url="https://learn.microsoft.com/azure/well-architected/service-guides/azure-machine-learning",
        ),
        "claim": Claim.ESTIMATED,
    }
    return Finding(**(fields | changed))  # type: ignore[arg-type]  # a test's shorthand


def example_analysis() -> Analysis:
    """Return one cluster's finding, one about the same cluster with no price, and one gap."""
    slow = Change(
        resource_id=CLUSTER_ID,
        setting="properties.properties.scaleSettings.nodeIdleTimeBeforeScaleDown",
        before="PT2H",
        after="PT10M",
        how=How.PATCH,
    )
    return Analysis(
        currency="EUR",
        window=WINDOW,
        findings=(
            finding(),
            finding(
                "f-2",
                detector="slow_scale_down",
                title="train-gpu waits 2 h before it lets go of a node",
                owner=None,
                change=slow,
                saving_per_month=None,
                spend_per_month=None,
                risk=Level.MEDIUM,
            ),
        ),
        not_assessed=(
            NotAssessed(
                resource_id=f"{WORKSPACE_ID}/computes/quiet",
                detector="no_idle_shutdown",
                reason="No CPU metric was found for it in the window.",
            ),
        ),
        spend_per_month=8000.0,
        saving_per_month=Estimate(p10=3100.0, p50=3345.2, p90=3600.0),
        by_detector={
            "min_nodes_kept": Estimate(p10=2900.0, p50=3000.0, p90=3200.0),
            "slow_scale_down": Estimate(p10=200.0, p50=345.2, p90=400.0),
        },
        resources={
            CLUSTER_ID: Resource(
                resource_id=CLUSTER_ID,
                kind=Kind.CLUSTER,
                name="train-gpu",
                workspace_id=WORKSPACE_ID,
                region="westeurope",
                sku="Standard_NC6s_v3",
                vm_priority="dedicated",
                state="Succeeded",
                created_utc=START_UTC,
                owner=HOSTILE_OWNER,
            )
        },
        daily_spend={date(2026, 10, 26) + timedelta(days=d): 250.0 + d for d in range(27)},
        formulas={"f-1": "saving = (node-hours paid now − with the change) × rate"},
        sensitivity={"f-1": ("A job that must start at once needs a warm node.",)},
        series={
            "f-1": working_days(minimum=2, peak=6),
            "f-2": working_days(minimum=0, peak=6),
        },
    )
