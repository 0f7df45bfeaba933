"""Azure Monitor metrics, read with the SDKs, against numbers worked out from the tiny estate."""

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
from azure.core.exceptions import HttpResponseError

from optimizer.emulator.estate import load_estate
from optimizer.emulator.telemetry import Minutes, measured, metrics
from optimizer.emulator.wire import epoch
from optimizer.emulator.world import World
from tests.conftest import Emulator
from tests.emulator.schemas import validate
from tests.emulator.sdk import NAMESPACE, WORKSPACE_ID, Sdk
from tests.estates import START_UTC, SUBSCRIPTION, cluster, instance, workspace, write_estate

MINUTE, HOUR = timedelta(minutes=1), timedelta(hours=1)
NOON = START_UTC + timedelta(hours=12)


def test_a_minute_of_nodes_is_weighted_by_time(sdk: Sdk) -> None:
    first, second, third = sdk.node_metric("Active Nodes", NOON, 0.05, grain=MINUTE)
    assert (first.average, first.minimum, first.maximum) == (1.0, 0.0, 2.0)  # 2 nodes for 30 s
    assert (second.average, second.minimum, second.maximum) == (2.0, 2.0, 2.0)
    assert (third.average, third.maximum) == (0.0, 0.0)  # they ended on the minute


def test_an_hour_of_nodes_is_the_mean_of_its_minutes(sdk: Sdk) -> None:
    (active,) = sdk.node_metric("Active Nodes", NOON, 1, grain=HOUR)
    (idle,) = sdk.node_metric("Idle Nodes", NOON, 1, grain=HOUR)
    assert active.average == pytest.approx(2 * 90 / 3600)
    assert idle.average == pytest.approx(2 * 600 / 3600)
    assert (idle.count, idle.total) == (60, pytest.approx(20.0))


def test_total_nodes_and_cores_add_up(sdk: Sdk) -> None:
    (total,) = sdk.node_metric("Total Nodes", NOON, 1, grain=HOUR)
    (cores,) = sdk.node_metric("Total Cores", NOON, 1, grain=HOUR)
    assert total.average == pytest.approx(2 * 690 / 3600)
    assert cores.average == pytest.approx(6 * 2 * 690 / 3600)


def test_there_is_no_metric_of_preparing_nodes(sdk: Sdk) -> None:
    with pytest.raises(HttpResponseError, match="Failed to find metric configuration"):
        sdk.node_metric("Preparing Nodes", NOON, 1, grain=HOUR)


def test_nothing_is_told_of_the_future(sdk: Sdk, tiny: Emulator) -> None:
    before, after = sdk.node_metric("Idle Nodes", tiny.now_utc - HOUR, 2, grain=HOUR)
    assert (before.average, after.average) == (0.0, None)


def test_use_is_split_by_node_and_ends_with_the_job(sdk: Sdk) -> None:
    answer = sdk.monitor().metrics.list(
        WORKSPACE_ID,
        timespan="2026-01-05T08:00:00Z/2026-01-05T11:00:00Z",
        interval="PT1H",
        metricnames="GpuUtilizationPercentage",
        aggregation="Average,Maximum,Count",
        filter="ComputeName eq 'GPU' and InstanceId eq '*' and DeviceId eq '*'",
        metricnamespace=NAMESPACE,
    )
    (series,) = answer.value[0].timeseries
    before, during, after = series.data
    names = {value.name.value: value.value for value in series.metadatavalues}
    assert (names["computename"], names["deviceid"]) == ("gpu", "0")
    assert (before.average, after.average) == (None, None)
    assert during.average == pytest.approx(50.0, abs=1.0)
    assert 50.0 < during.maximum <= 100.0
    assert during.count == 60


def test_an_instance_shows_its_session_and_nothing_once_stopped(sdk: Sdk) -> None:
    (result,) = sdk.metrics().query_resources(
        resource_ids=[WORKSPACE_ID],
        metric_namespace=NAMESPACE,
        metric_names=["CpuUtilizationPercentage"],
        timespan=(START_UTC + 9 * HOUR, START_UTC + 12 * HOUR),
        granularity=HOUR,
        aggregations=["Average"],
        filter="ComputeName eq 'ci'",
    )
    averages = [point.average for point in result.metrics[0].timeseries[0].data]
    assert averages[:2] == pytest.approx([40.0, 40.0], abs=1.0)
    assert averages[2] is None


def test_more_than_ten_series_need_top(
    emulator: Callable[[Path], Emulator], tmp_path_factory: pytest.TempPathFactory
) -> None:
    ws = workspace("ws")
    folder = tmp_path_factory.mktemp("estates") / "wide"
    write_estate(folder, resources=[ws, *(cluster(ws, f"c{i:02d}") for i in range(12))], days=1)
    wide = emulator(folder)
    path = (
        f"{WORKSPACE_ID}/providers/Microsoft.Insights/metrics?api-version=2024-02-01"
        "&metricnames=Idle%20Nodes&interval=PT1H&$filter=ClusterName%20eq%20'*'"
    )
    assert len(wide.call("GET", path)["value"][0]["timeseries"]) == 10
    assert len(wide.call("GET", f"{path}&top=50")["value"][0]["timeseries"]) == 12


def test_lost_minutes_are_the_same_ones_every_time(tmp_path: Path) -> None:
    ws = workspace("ws")
    resources = [ws, cluster(ws, "c", minimum=1)]
    folder = write_estate(
        tmp_path / "lossy", resources=resources, days=2, telemetry={"missing_fraction": 0.2}
    )
    seen = [_minutes_seen(folder) for _ in range(2)]
    assert seen[0] == seen[1]
    assert len(seen[0]) == pytest.approx(0.8 * 2880, abs=70)  # ±3 standard deviations


def _minutes_seen(folder: Path) -> list[int]:
    world = World(load_estate(folder))
    window = Minutes(epoch(START_UTC) // 60, epoch(world.now_utc) // 60)
    samples = measured(metrics()["idle nodes"], world, WORKSPACE_ID, window, None)
    return [int(minute) for minute in samples.minute]


def test_an_instance_may_be_without_metrics(tmp_path: Path) -> None:
    ws = workspace("ws")
    folder = write_estate(
        tmp_path / "dark",
        resources=[ws, instance(ws, "ci")],
        telemetry={"instance_metrics": False},
    )
    window = Minutes(epoch(START_UTC) // 60, epoch(START_UTC) // 60 + 1440)
    metric = metrics()["cpuutilizationpercentage"]
    assert not measured(metric, World(load_estate(folder)), WORKSPACE_ID, window, None).labels


@pytest.mark.parametrize(
    ("query", "says"),
    [
        ("metricnames=Idle%20Nodes&interval=PT2M", "time grain"),
        ("metricnames=Idle%20Nodes&$filter=InstanceId%20eq%20'*'", "dimension"),
        ("metricnames=Idle%20Nodes&$filter=ClusterName%20is%20'a'", "not valid"),
        ("metricnames=Idle%20Nodes&timespan=2026-01-05T00:00:00Z", "timespan"),
        ("metricnames=Idle%20Nodes&aggregation=Median", "aggregation"),
    ],
)
def test_a_wrong_question_is_refused(tiny: Emulator, query: str, says: str) -> None:
    path = f"{WORKSPACE_ID}/providers/Microsoft.Insights/metrics?api-version=2024-02-01&{query}"
    status, error = tiny.refusal("GET", path)
    assert status == 400
    assert says in error["message"]


def test_a_month_of_minutes_may_have_gaps(tiny: Emulator) -> None:
    query = "interval=PT30M&timespan=2026-01-05T08:00:00Z/2026-01-05T12:30:00Z"
    path = f"{WORKSPACE_ID}/providers/Microsoft.Insights/metrics?api-version=2024-02-01&{query}"
    gpu = "metricnames=GpuUtilizationPercentage&aggregation=count&$filter=ComputeName%20eq%20'gpu'"
    points = tiny.call("GET", f"{path}&{gpu}")["value"][0]["timeseries"][0]["data"]
    assert [point.get("count") for point in points] == [
        *(None, None),  # from 08:00
        *(30, 30),  # the first job
        *(None, None, None, None),
        4,  # the second job touches two minutes of two nodes
    ]


@pytest.mark.parametrize("batch", [True, False])
def test_answers_have_the_shape_of_the_service(tiny: Emulator, batch: bool) -> None:  # noqa: FBT001
    query = "api-version=2024-02-01&metricnames=Idle%20Nodes&interval=PT1H"
    if batch:
        path = f"/subscriptions/{SUBSCRIPTION}/metrics:getBatch?{query}&metricnamespace={NAMESPACE}"
        answer = tiny.call("POST", path, {"resourceids": [WORKSPACE_ID.lower()]})
        validate(answer, "MetricResultsResponse", "derived-metricsbatch-2024-02-01.json")
    else:
        path = f"{WORKSPACE_ID}/providers/Microsoft.Insights/metrics?{query}"
        validate(tiny.call("GET", path), "Response", "derived-insights-metrics-2024-02-01.json")


def test_definitions_name_the_dimensions(sdk: Sdk) -> None:
    found = {each.name.value: each for each in sdk.monitor().metric_definitions.list(WORKSPACE_ID)}
    idle, gpu = found["Idle Nodes"], found["GpuMemoryUtilizationPercentage"]
    assert [dimension.value for dimension in idle.dimensions] == ["Scenario", "ClusterName"]
    assert "DeviceId" in [dimension.value for dimension in gpu.dimensions]
    assert idle.metric_availabilities[0].retention == timedelta(days=93)
