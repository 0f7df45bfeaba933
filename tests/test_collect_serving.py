"""Endpoints, and what stands around the computes, collected from a running estate."""

import json
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from optimizer.azure.connect import connect
from optimizer.azure.monitor import MetricSeries
from optimizer.collectors.collect import CollectReport, collect
from optimizer.collectors.requests import request_rows
from optimizer.config import AnalysisSettings, AzureSettings
from optimizer.store.lake import Lake
from optimizer.store.tables import COSTS, REQUESTS, RESOURCES, SAMPLES
from tests.conftest import Emulator
from tests.estates import (
    GPU_SKU,
    START_UTC,
    Arm,
    autoscale,
    cluster,
    deployment,
    diagnostics,
    endpoint,
    quota,
    requests,
    scale_rule,
    workspace,
    write_estate,
)

DAYS = 3
HOUR = timedelta(hours=1)
WS, BARE = workspace("ws"), workspace("bare")
EP = endpoint(WS, "ep", traffic={"blue": 100})
BLUE = deployment(EP, "blue", instances=2, concurrency=2)
GREEN = deployment(EP, "green", sku=GPU_SKU)
SCALED = autoscale(
    GREEN,
    scale_rule("GreaterThan", 70, "Increase", metric="GpuUtilizationPercentage"),
    scale_rule("LessThan", 20, "Decrease", metric="GpuUtilizationPercentage"),
    maximum=3,
)


def nightly() -> Arm:
    return {
        "id": f"{WS['id']}/schedules/nightly",
        "name": "nightly",
        "type": "Microsoft.MachineLearningServices/workspaces/schedules",
        "properties": {
            "isEnabled": False,
            "trigger": {"triggerType": "Cron", "expression": "0 2 * * *", "timeZone": "UTC"},
            "action": {
                "actionType": "CreateJob",
                "jobDefinition": {"jobType": "Command", "computeId": f"{WS['id']}/computes/C"},
            },
        },
    }


def theirs() -> list[Arm]:
    attached = cluster(WS, "arc")
    attached["properties"] |= {
        "computeType": "Kubernetes",
        "resourceId": "/subscriptions/x/connectedClusters/arc",
        "properties": {"namespace": "azureml"},
    }
    pods = deployment(endpoint(WS, "ep-arc"), "pods", sku="defaultInstanceType")
    pods["properties"]["endpointComputeType"] = "Kubernetes"
    return [attached, endpoint(WS, "ep-arc"), pods]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    by_day = [
        row
        for day in range(DAYS + 1)
        for on, minutes, per_minute in ((BLUE, 480, 240), (GREEN, 120, 108))
        for row in requests(
            on, START_UTC + timedelta(days=day, hours=9), minutes, per_minute, service_ms=500
        )
    ]
    return write_estate(
        tmp_path_factory.mktemp("estates") / "serving",
        resources=[
            WS,
            BARE,
            diagnostics(WS),
            cluster(WS, "c"),
            EP,
            BLUE,
            GREEN,
            SCALED,
            nightly(),
            quota(WS, "Standard DSv2 Family", 40),
            *theirs(),
        ],
        requests=by_day,
        days=DAYS,
        physics={"deployment_start_seconds": 120, "deployment_cpu_at_rest": 1.0},
    )


@pytest.fixture(scope="module")
def served(emulator: Callable[[Path], Emulator], folder: Path) -> Emulator:
    return emulator(folder)


def run(azure: Emulator, lake: Lake, **analysis: Any) -> CollectReport:
    settings = AzureSettings(endpoint=azure.url, ca_file=azure.ca_file, credential="emulator")
    return collect(
        connect(settings),
        lake,
        lookback_days=DAYS,
        subscriptions=(),
        analysis=AnalysisSettings(**analysis),
        progress=lambda *_: None,
    )


@pytest.fixture(scope="module")
def collected(
    served: Emulator, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Lake, CollectReport, dict[str, int]]:
    lake = Lake(tmp_path_factory.mktemp("collected") / "lake")
    report = run(served, lake)
    return lake, report, served.requests()["by_request"]


@pytest.fixture
def lake(collected: tuple[Lake, CollectReport, Any]) -> Lake:
    return collected[0]


@pytest.fixture
def troubled(served: Emulator) -> Iterator[Emulator]:
    yield served
    served.heal()


def of(frame: pd.DataFrame, which: Arm) -> pd.DataFrame:
    found: pd.DataFrame = frame[frame["resource_id"] == which["id"].lower()]
    return found


def settings(lake: Lake, which: Arm) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(of(lake.read(RESOURCES), which)["settings"].iloc[-1])
    return found


# -- inventory -----------------------------------------------------------------------------------


def test_deployments_are_listed_with_their_rules(lake: Lake) -> None:
    blue, green = settings(lake, BLUE), settings(lake, GREEN)
    assert (blue["instances"], blue["traffic_percent"], blue["autoscale"]) == (2, 100, None)
    assert (green["autoscale"]["min"], green["autoscale"]["max"]) == (1, 3)
    assert len(green["autoscale"]["profiles"][0]["rules"]) == 2


def test_what_is_billed_elsewhere_is_listed_and_left_alone(lake: Lake) -> None:
    pods = theirs()[2]
    row = of(lake.read(RESOURCES), pods)
    assert row["sku"].isna().all()
    assert settings(lake, pods)["managed"] is False
    assert of(lake.read(REQUESTS), pods).empty
    (attached,) = settings(lake, WS)["attached_computes"]
    assert (attached["name"], attached["type"]) == ("arc", "Kubernetes")


def test_a_workspace_says_where_its_logs_go_and_when_jobs_start(lake: Lake) -> None:
    found = settings(lake, WS)
    assert list(found["log_categories"]) == ["allLogs"]
    (schedule,) = found["job_schedules"]
    assert (schedule["enabled"], schedule["compute_id"]) == (
        False,
        f"{WS['id']}/computes/c".lower(),
    )
    assert settings(lake, BARE)["log_categories"] == {}


def test_quotas_and_sizes_bound_what_a_cluster_may_grow_to(lake: Lake) -> None:
    found = settings(lake, WS)
    (own,) = (each for each in found["quotas"] if each["of"] == "workspaces")
    assert (own["name"], own["limit"]) == ("Standard DSv2 Family Cluster Dedicated vCPUs", 40)
    size = found["sizes"]["Standard_DS3_v2"]
    assert (size["family"], size["vcpus"]) == ("standardDSv2Family", 4)
    assert found["sizes_offered"]["Standard_DS3_v2"] is True  # as low priority too
    assert not any(each["of"] == "workspaces" for each in settings(lake, BARE)["quotas"] or [])


def test_no_list_is_asked_for_more_than_once(
    collected: tuple[Lake, CollectReport, dict[str, int]],
) -> None:
    by_request = collected[2]
    asked = {name.rpartition("/")[2]: count for name, count in by_request.items()}
    assert asked["computes"] == asked["onlineEndpoints"] == asked["diagnosticSettings"] == 2
    assert asked["deployments"] == 2  # one for each endpoint
    assert asked["autoscaleSettings"] == asked["usages"] == asked["vmSizes"] == 1
    assert "{deployment}" not in asked


def test_what_is_forbidden_is_unknown_and_said(troubled: Emulator, tmp_path: Path) -> None:
    for path in ("autoscaleSettings", "diagnosticSettings", "/schedules", "/usages"):
        troubled.fault(status=403, path_contains=path)
    lake = Lake(tmp_path / "lake")
    report = run(troubled, lake)
    lacking = {problem.permission for problem in report.problems if problem.permission}
    assert len(lacking) == 4
    found = settings(lake, WS)
    assert (found["log_categories"], found["job_schedules"], found["quotas"]) == (None,) * 3
    assert "autoscale" not in settings(lake, BLUE)
    assert len(of(lake.read(REQUESTS), BLUE)) == DAYS * 1440


# -- requests ------------------------------------------------------------------------------------


def test_requests_by_the_minute(lake: Lake) -> None:
    frame = of(lake.read(REQUESTS), BLUE)
    assert len(frame) == DAYS * 1440
    busy = frame[frame["requests_per_minute"] > 0]
    assert len(busy) == DAYS * 480
    assert set(busy["requests_per_minute"]) == {240}
    assert busy["latency_p95_ms"].to_numpy() == pytest.approx(811.63, abs=0.01)
    idle = frame[frame["requests_per_minute"] == 0]
    assert idle["latency_p95_ms"].isna().all()  # nobody waited, so nothing was measured
    assert (frame["instances"] == 2).all()


def test_instances_follow_the_load(lake: Lake) -> None:
    frame = of(lake.read(REQUESTS), GREEN).set_index("minute_utc")["instances"]
    assert frame.loc[START_UTC + 8 * HOUR] == 1
    assert frame.loc[START_UTC + 9.5 * HOUR] == 2  # 0.9 busy places on 1, 0.45 on 2
    assert frame.loc[START_UTC + 12 * HOUR] == 1


def test_deployments_are_sampled_by_instance(lake: Lake) -> None:
    blue = of(lake.read(SAMPLES), BLUE)
    assert set(blue["node_id"]) == {"blue-0", "blue-1"}
    assert set(blue["grain_minutes"]) == {5}
    assert len(blue) == DAYS * 288 * 2
    assert blue["busy"].sum() == DAYS * 96 * 2
    assert blue.loc[blue["busy"], "cpu_avg"].mean() == pytest.approx(505, rel=0.02)
    assert blue["gpu_avg"].isna().all()
    green = of(lake.read(SAMPLES), GREEN)
    assert green["gpu_max"].notna().all()
    assert green["gpu_max"].max() > 450


def test_the_costs_of_a_deployment_are_found_by_its_tags(lake: Lake, served: Emulator) -> None:
    bill = served.bill(START_UTC, served.now_utc)["by_resource"]
    costs = lake.read(COSTS)
    for which in (BLUE, GREEN):
        mine = of(costs, which)
        assert set(mine["attribution"]) == {"tag"}
        assert mine["billed_cost"].sum() == pytest.approx(bill[which["id"]], abs=0.01)


@pytest.mark.parametrize("tags", [{}, {"compute": "c"}])
def test_without_cost_details_the_query_tells_deployments_from_the_rest(
    emulator: Callable[[Path], Emulator], tmp_path: Path, tags: dict[str, str]
) -> None:
    machines = cluster(WS, "c", minimum=1, tags=tags)
    folder = write_estate(
        tmp_path / "queried",
        resources=[WS, machines, EP, BLUE, GREEN],
        days=DAYS,
        telemetry={"cost_details": False},
    )
    azure, lake = emulator(folder), Lake(tmp_path / "lake")
    run(azure, lake)
    bill = azure.bill(START_UTC, azure.now_utc)
    costs = lake.read(COSTS)
    assert costs["billed_cost"].sum() == pytest.approx(bill["total"], abs=0.01)
    for which in (BLUE, GREEN, *([machines] if tags else [])):
        mine = of(costs, which)
        mine = mine[mine["component"] == "vm"]
        assert set(mine["attribution"]) == {"tag"}
        vm, extras = mine["billed_cost"].sum(), 1 if which is machines else 0.01
        assert vm == pytest.approx(bill["by_resource"][which["id"]], abs=extras)
    rest = of(costs, WS)
    left = rest.loc[rest["component"] == "vm", "billed_cost"].sum()
    assert left == pytest.approx(0 if tags else DAYS * 24 * 0.25, abs=0.01)


def test_a_later_collection_brings_what_came_since(
    emulator: Callable[[Path], Emulator], folder: Path, tmp_path: Path
) -> None:
    azure, lake = emulator(folder), Lake(tmp_path / "lake")
    run(azure, lake)
    azure.advance(12)
    report = run(azure, lake)
    frame = of(lake.read(REQUESTS), BLUE)
    assert frame["minute_utc"].is_unique
    assert len(frame) == DAYS * 1440 + 720
    assert report.rows["requests"] < 2 * 800


@pytest.mark.parametrize(("taken_for_none", "silent"), [(False, 0), (True, DAYS * 960)])
def test_silence_is_unknown_unless_it_is_said_to_be_none(
    emulator: Callable[[Path], Emulator],
    folder: Path,
    tmp_path: Path,
    *,
    taken_for_none: bool,
    silent: int,
) -> None:
    for file in folder.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    estate = json.loads((folder / "estate.json").read_text())
    estate["telemetry"]["zero_requests"] = False
    (tmp_path / "estate.json").write_text(json.dumps(estate))
    lake = Lake(tmp_path / "lake")
    run(emulator(tmp_path), lake, silent_deployments_are_idle=taken_for_none)
    told = of(lake.read(REQUESTS), BLUE)["requests_per_minute"]
    assert len(told) == DAYS * 1440
    assert (told == 0).sum() == silent
    assert told.isna().sum() == DAYS * 960 - silent


# -- rows from series ----------------------------------------------------------------------------


def series(metric: str, *values: float | None, **dimensions: str) -> MetricSeries:
    start = np.datetime64("2026-01-05T00:00:00", "s")
    numbers = np.array(values, np.float64)
    return MetricSeries(
        resource_id="/d",
        metric=metric,
        dimensions=dimensions,
        times=start + np.arange(len(values)) * np.timedelta64(60, "s"),
        average=numbers,
        maximum=numbers,
    )


@pytest.mark.parametrize(
    "each",
    [
        [(1, 1, None), (1, 1, 1)],  # each instance tells that it is there
        [(2, 2, None), (2, 2, 1)],  # each tells how many there are
        [(2, 2, 1)],  # one series tells it for all
    ],
)
def test_the_number_of_instances_however_it_is_told(each: list[tuple[float | None, ...]]) -> None:
    told = [
        series("DeploymentCapacity", *values, instanceid=str(number))
        for number, values in enumerate(each)
    ]
    assert request_rows(told)["instances"].to_pylist() == [2, 2, 1]


def test_requests_of_all_response_codes_add_up() -> None:
    told = [
        series("RequestsPerMinute", 10, None, None, envoy_response_code="200"),
        series("RequestsPerMinute", 2, 3, None, envoy_response_code="429"),
    ]
    rows = request_rows([*told, series("RequestLatency_P95", None, 80, 90)])
    assert rows["requests_per_minute"].to_pylist() == [12, 3, None]
    assert rows["latency_p95_ms"].to_pylist() == [None, 80, 90]
    assert rows["instances"].null_count == 3
