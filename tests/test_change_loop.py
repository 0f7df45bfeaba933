"""What a change is said to have saved against the bill of the same activity under that change.

The emulator plays the estate twice: as it is, where it is collected and judged, and with one
finding's change in place from the first day. Nothing here but the findings knows the analysis.
"""

import copy
import json
from collections.abc import Callable, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from optimizer.analysis.result import Analysis
from optimizer.azure.connect import connect
from optimizer.collectors.autoscale import AUTOSCALE_API
from optimizer.collectors.collect import collect
from optimizer.config import AnalysisSettings, AzureSettings, Settings
from optimizer.emulator.estate import load_estate
from optimizer.emulator.world import World
from optimizer.model import Finding
from optimizer.pipeline import analyse, plan_of
from optimizer.remediation.outcomes import Status
from optimizer.remediation.requirements import VM_PRIORITY, VM_SIZE
from tests.changes import apply_here, new_ledger, roll_back_here
from tests.conftest import Emulator
from tests.estates import (
    START_UTC,
    Arm,
    Row,
    autoscale,
    cluster,
    deployment,
    diagnostics,
    endpoint,
    job,
    price,
    requests,
    scale_rule,
    workspace,
    write_estate,
)
from tests.every_kind import IN_MOTION, connected

DAYS = 28
BESIDE = {VM_SIZE, VM_PRIORITY}
"""Settings that only a new cluster has otherwise."""
V100: dict[str, Any] = {"gpu_memory_gib": 16}
PRICES = (
    price("Standard_D4s_v5", 0.192, vcpus=4, memory_gib=16),
    price("Standard_D16s_v5", 0.768, vcpus=16, memory_gib=64),
    price("Standard_NC6s_v3", 3.06, vcpus=6, memory_gib=112, gpus=1, **V100),
    price("Standard_NC12s_v3", 6.12, vcpus=12, memory_gib=224, gpus=2, **V100),
    price("Standard_NC24s_v3", 12.24, vcpus=24, memory_gib=448, gpus=4, **V100),
)
WS = workspace("ws")
BIG = cluster(WS, "big", sku="Standard_D16s_v5", maximum=9)
PAIR = cluster(WS, "pair", sku="Standard_NC24s_v3", maximum=2)
PREP = cluster(WS, "prep", sku="Standard_NC6s_v3", maximum=2)
SCORE = cluster(WS, "score", sku="Standard_D16s_v5", maximum=6)
CHEAP = cluster(WS, "cheap", sku="Standard_D4s_v5", priority="LowPriority", maximum=6)
HANGS = cluster(WS, "hangs", sku="Standard_NC6s_v3", maximum=3)
EP = endpoint(WS, "ep", traffic={"even": 50, "waves": 50})
EVEN = deployment(EP, "even", sku="Standard_D4s_v5", instances=5, concurrency=4)
WAVES = deployment(EP, "waves", sku="Standard_D4s_v5", instances=5, concurrency=8)
SILENT = deployment(EP, "silent", sku="Standard_D4s_v5", instances=2)
RESOURCES = [WS, diagnostics(WS), BIG, PAIR, PREP, SCORE, CHEAP, HANGS, EP, EVEN, WAVES, SILENT]


def needs(cpu: float, memory: float, gpus: int = 0, **columns: Any) -> dict[str, Any]:
    busy = {"gpu_busy_fraction": 0.6, "gpu_memory_gib_needed": 6.0} if gpus else {}
    idle = {"gpu_busy_fraction": 0.0, "gpu_memory_gib_needed": 0.0}
    return {
        "cpu_cores_needed": cpu,
        "memory_gib_needed": memory,
        "gpus_needed": gpus,
        **(busy or idle),
        **columns,
    }


def jobs() -> list[Row]:
    rows = []
    for day in range(DAYS):
        at = START_UTC + timedelta(days=day)
        rows += [
            job(BIG, at + timedelta(hours=9), run_seconds=9000, nodes=3, **needs(3.0, 8.0)),
            job(PAIR, at + timedelta(hours=8), run_seconds=7200, **needs(8.0, 90.0, 2)),
            job(PREP, at + timedelta(hours=7), run_seconds=10800, **needs(3.0, 9.0)),
            job(
                SCORE,
                at + timedelta(hours=2),
                run_seconds=5400,
                nodes=4,
                **needs(14.0, 50.0, kind="batch"),
            ),
            *(
                job(
                    CHEAP,
                    at + timedelta(hours=hour),
                    run_seconds=7000,
                    nodes=5,
                    **needs(3.5, 12.0, kind="batch", checkpoint_minutes=5.0),
                )
                for hour in (0, 4, 8, 12, 16, 20)
            ),
            job(HANGS, at + timedelta(hours=5), run_seconds=3600, **needs(5.0, 90.0, 1)),
        ]
        if day in {6, 17}:
            hung = needs(5.0, 90.0, 1, fails=True)
            rows.append(job(HANGS, at + timedelta(hours=13), run_seconds=40_000, **hung))
    return rows


def asked() -> list[Row]:
    rows = []
    for day in range(DAYS):
        at = START_UTC + timedelta(days=day)
        for hour in range(24):
            since = at + timedelta(hours=hour)
            rows += requests(EVEN, since, 60, 240 + 20 * (hour % 3), service_ms=300)
            rows += requests(WAVES, since, 60, 2200 if 8 <= hour < 16 else 200, service_ms=400)
    return rows


def write(folder: Path, resources: list[Arm], work: list[Row]) -> Path:
    return write_estate(
        folder,
        resources=resources,
        jobs=work,
        requests=asked(),
        prices=PRICES,
        days=DAYS,
        physics={
            "allocation_seconds_median": 180,
            "leaving_seconds": 60,
            "eviction_per_node_hour": 0.01,
            "deployment_cpu_at_rest": 1.0,
        },
    )


def bill(folder: Path) -> dict[str, float]:
    world = World(load_estate(folder))
    start = round(START_UTC.timestamp())
    costs: dict[str, float] = {}
    for charge in world.charges(start, start + DAYS * 86_400):
        key = charge.compute_id.lower()
        costs[key] = costs.get(key, 0.0) + charge.cost
    return costs


@pytest.fixture(scope="module")
def played(
    emulator: Callable[[Path], Emulator], tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, Emulator]:
    folder = write(tmp_path_factory.mktemp("estates") / "changes", RESOURCES, jobs())
    return folder, emulator(folder)


@pytest.fixture(scope="module")
def found(
    played: tuple[Path, Emulator], tmp_path_factory: pytest.TempPathFactory
) -> tuple[Analysis, dict[str, float]]:
    folder, served = played
    home = tmp_path_factory.mktemp("home")
    azure = AzureSettings(endpoint=served.url, ca_file=served.ca_file, credential="emulator")
    analysis = AnalysisSettings(silent_deployments_are_idle=True, billing_lag_hours=0)
    settings = Settings(home=home, azure=azure, analysis=analysis)
    collect(
        connect(azure),
        _lake(settings),
        lookback_days=DAYS,
        subscriptions=(),
        analysis=analysis,
        progress=lambda *_: None,
    )
    return analyse(settings), bill(folder)


def _lake(settings: Settings) -> Any:
    from optimizer.store.lake import Lake  # noqa: PLC0415 - beside its only use

    return Lake(settings.lake)


def with_vm(of: Arm, field: str) -> Callable[[Finding], list[Arm]]:
    def changed(finding: Finding) -> list[Arm]:
        new = copy.deepcopy(of)
        new["properties"]["properties"][field] = finding.change.after
        return [new if each is of else each for each in RESOURCES]

    return changed


def with_instances(finding: Finding) -> list[Arm]:
    new = copy.deepcopy(EVEN)
    new["sku"]["capacity"] = finding.change.after
    return [new if each is EVEN else each for each in RESOURCES]


def with_autoscale(finding: Finding) -> list[Arm]:
    limits: Any = finding.change.after
    rules = (
        scale_rule("GreaterThan", 70, "Increase", by=2, cooldown="PT1H"),
        scale_rule("LessThan", 30, "Decrease", by=1, cooldown="PT1H"),
    )
    setting = autoscale(WAVES, *rules, minimum=limits["minimum"], maximum=limits["maximum"])
    return [*RESOURCES, setting]


def without(of: Arm) -> Callable[[Finding], list[Arm]]:
    return lambda _: [each for each in RESOURCES if each is not of]


CHANGES: Mapping[str, tuple[Arm, Callable[[Finding], list[Arm]]]] = {
    "oversized_sku": (BIG, with_vm(BIG, "vmSize")),
    "unused_gpus": (PAIR, with_vm(PAIR, "vmSize")),
    "cpu_work_on_gpu": (PREP, with_vm(PREP, "vmSize")),
    "dedicated_batch": (SCORE, with_vm(SCORE, "vmPriority")),
    "oversized_deployment": (EVEN, with_instances),
    "no_autoscale": (WAVES, with_autoscale),
    "idle_deployment": (SILENT, without(SILENT)),
}


def finding_of(analysis: Analysis, detector: str, on: Arm) -> Finding:
    mine = [f for f in analysis.findings if f.resource_id == on["id"].lower()]
    (finding,) = [f for f in mine if f.detector == detector]
    return finding


@pytest.mark.parametrize("detector", CHANGES)
def test_a_saving_is_what_the_bill_of_the_change_says(
    detector: str, found: tuple[Analysis, dict[str, float]], tmp_path: Path
) -> None:
    analysis, before = found
    on, change = CHANGES[detector]
    finding = finding_of(analysis, detector, on)
    after = bill(write(tmp_path / "after", change(finding), jobs()))
    key = on["id"].lower()
    true = before[key] - after.get(key, 0.0)
    said = finding.evidence["saving_over_window"]
    assert isinstance(said, float)
    assert said == pytest.approx(true, rel=0.05)


def test_a_time_limit_saves_what_the_bill_with_it_says(
    found: tuple[Analysis, dict[str, float]], tmp_path: Path
) -> None:
    analysis, before = found
    finding = finding_of(analysis, "job_without_time_limit", HANGS)
    limits: Any = finding.change.after
    minutes = float(limits["train"].removeprefix("PT").removesuffix("M"))
    limited = [
        row | {"run_seconds": min(row["run_seconds"], minutes * 60)}
        if row["resource_id"] == HANGS["id"]
        else row
        for row in jobs()
    ]
    after = bill(write(tmp_path / "after", RESOURCES, limited))
    true = before[HANGS["id"].lower()] - after[HANGS["id"].lower()]
    assert finding.evidence["saving_over_window"] == pytest.approx(true, rel=0.05)


def test_rollback_of_the_maximum_plan_brings_every_setting_back(
    played: tuple[Path, Emulator], found: tuple[Analysis, dict[str, float]], tmp_path: Path
) -> None:
    analysis, _ = found
    plan = plan_of(analysis, scenario="maximum")
    assert {step.detector for step in plan.steps} == {*CHANGES, "open_ended_maximum"}
    assert sum(step.saving_per_month.p50 for step in plan.steps) + sum(
        item.saving_per_month.p50 for item in plan.advice
    ) == pytest.approx(plan.totals.saving_per_month.p50, abs=0.01)
    arm, ledger = connected(played[1]).arm, new_ledger(tmp_path)
    before = settings_of(arm)
    run = apply_here(plan, arm, ledger, known=RESOURCES)
    made = {o.setting for o in run.outcomes if o.status is Status.DONE}
    assert {"sku.capacity", "autoscaleSettings", VM_SIZE, VM_PRIORITY} <= made
    assert settings_of(arm) != before
    back = roll_back_here(run.id, arm, ledger)
    assert {o.status for o in back.outcomes} == {Status.DONE, Status.UNCHANGED}
    assert settings_of(arm) == before
    # No new cluster is left, and each that was made is told by the name of the old one.
    made_beside = {(o.resource_id, o.setting) for o in run.outcomes if o.setting in BESIDE}
    assert {of for of, _ in made_beside} == {of["id"].lower() for of in (BIG, PAIR, PREP, SCORE)}
    assert made_beside == {(o.resource_id, o.setting) for o in back.outcomes if o.setting in BESIDE}


def settings_of(arm: Any) -> str:
    """Return all settings as text; what Azure tells of computes at work is left out."""
    places = ("computes", "onlineEndpoints", "onlineEndpoints/ep/deployments")
    documents = [document for place in places for document in arm.list(f"{WS['id']}/{place}")]
    documents.append(arm.get(WS["id"]))
    group = WS["id"].partition("/providers")[0]
    path = f"{group}/providers/Microsoft.Insights/autoscaleSettings"
    documents += arm.list(path, api_version=AUTOSCALE_API)
    for document in documents:
        document["properties"].pop("modifiedOn", None)
        if "scaleSettings" in (inner := document["properties"].get("properties") or {}):
            document["properties"]["properties"] = {
                name: value for name, value in inner.items() if name not in IN_MOTION
            }
    return json.dumps(documents, sort_keys=True)


def test_nothing_else_is_found_but_what_follows_from_the_same_waste(
    found: tuple[Analysis, dict[str, float]],
) -> None:
    analysis, _ = found
    planted = {on["id"].lower() for on, _ in CHANGES.values()} | {HANGS["id"].lower()}
    others = [f for f in analysis.findings if f.resource_id not in planted]
    assert [(f.detector, f.title) for f in others] == []
