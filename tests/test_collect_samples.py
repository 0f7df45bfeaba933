from collections.abc import Callable, Iterator, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pyarrow as pa
import pytest

from optimizer.azure import monitor
from optimizer.azure.connect import Connection, connect
from optimizer.azure.monitor import SERIES_LIMIT, MetricSeries, parse_batch
from optimizer.collectors.inventory import collect_inventory, compute_resource, workspace_resource
from optimizer.collectors.samples import (
    Expected,
    Pace,
    Refused,
    collect_samples,
    questions_for,
    sample_rows,
)
from optimizer.config import AnalysisSettings, AzureSettings
from optimizer.errors import TruncatedError
from optimizer.model import Kind, Resource, Window
from optimizer.store.tables import SAMPLES
from tests.conftest import Emulator
from tests.estates import GPU_SKU, START_UTC, cluster, instance, job, workspace, write_estate

MINUTE = timedelta(minutes=1)
DAY = Window(start_utc=START_UTC, end_utc=START_UTC + timedelta(days=1))
HOME = workspace()
NAN = float("nan")
IN_ORDER = [(name, "ascending") for name in ("resource_id", "node_id", "device_id", "minute_utc")]


def resource(document: dict[str, Any], home: dict[str, Any] = HOME) -> Resource:
    found = compute_resource(document, workspace_resource(home), {})
    assert found
    return found


def settings_of(estate: Emulator) -> AzureSettings:
    return AzureSettings(endpoint=estate.url, ca_file=estate.ca_file, credential="emulator")


CI = resource(instance(HOME, "ci-ana"))
GPU = resource(cluster(HOME, "gpu", sku=GPU_SKU))


def series(compute: Resource, metric: str, *values: float, device: str = "") -> MetricSeries:
    start = np.datetime64("2026-01-05T09:00", "s")
    labels = {"computename": compute.name.upper(), "instanceid": "n1"}
    return MetricSeries(
        resource_id=compute.workspace_id,
        metric=metric,
        dimensions=labels | ({"deviceid": device} if device else {}),
        times=start + np.arange(len(values)) * np.timedelta64(60, "s"),
        average=np.array(values) / 2,
        maximum=np.array(values),
    )


def rows(*parts: MetricSeries, **analysis: float) -> list[dict[str, Any]]:
    computes = {(c.workspace_id, c.name): c for c in (CI, GPU)}
    found: list[dict[str, Any]] = sample_rows(
        parts, computes, MINUTE, AnalysisSettings(**analysis)
    ).to_pylist()
    return found


def test_percent_becomes_per_mille_and_what_is_missing_is_no_row() -> None:
    found = rows(
        series(CI, "CpuUtilizationPercentage", 12.34, NAN, 100.2),
        series(CI, "CpuMemoryUtilizationPercentage", NAN, NAN, 50),
    )
    assert [row["minute_utc"].minute for row in found] == [0, 2]
    assert [row["cpu_max"] for row in found] == [123, 1000]
    assert [row["cpu_avg"] for row in found] == [62, 501]
    assert [row["memory_max"] for row in found] == [None, 500]


def test_an_instance_is_busy_above_the_threshold() -> None:
    cpu = series(CI, "CpuUtilizationPercentage", 5.0, 5.1, 5.1)
    assert [row["busy"] for row in rows(cpu)] == [False, True, True]
    assert [row["busy"] for row in rows(cpu, idle_cpu_percent=4.0)] == [True, True, True]


def test_a_lone_small_peak_is_an_agent_and_a_tall_one_is_work() -> None:
    cpu = series(CI, "CpuUtilizationPercentage", 2.0, 9.9, 2.0, 10.1, 2.0)
    assert [row["busy"] for row in rows(cpu)] == [False, False, False, True, False]


def test_memory_alone_does_not_tell_whether_it_is_busy() -> None:
    memory = series(CI, "CpuMemoryUtilizationPercentage", 90)
    assert [row["busy"] for row in rows(memory)] == [None]


def test_a_run_makes_a_node_busy_however_little_it_uses() -> None:
    gpu = series(GPU, "GpuUtilizationPercentage", 0, NAN, device="3")
    (row,) = rows(gpu)
    assert (row["busy"], row["device_id"], row["gpu_max"], row["cpu_max"]) == (
        True,
        "3",
        0,
        None,
    )


def test_series_of_strangers_are_passed_over() -> None:
    stranger = resource(instance(HOME, "ci-gone"))
    assert rows(series(stranger, "CpuUtilizationPercentage", 50)) == []


def test_metrics_with_holes_of_their_own_meet_at_the_same_minutes() -> None:
    cpu = series(CI, "CpuUtilizationPercentage", 10, 20, 30)
    memory = series(CI, "CpuMemoryUtilizationPercentage", 1)
    assert [(r["cpu_max"], r["memory_max"]) for r in rows(cpu, memory)] == [
        (100, 10),
        (200, None),
        (300, None),
    ]


def test_gpus_are_asked_of_those_that_have_some() -> None:
    asked = list(questions_for([CI, GPU], DAY, Expected()))
    assert [(q.question.metrics[0], q.question.filter) for q in asked] == [
        ("CpuUtilizationPercentage", "ComputeName eq 'ci-ana' and InstanceId eq '*'"),
        ("CpuUtilizationPercentage", "ComputeName eq 'gpu' and InstanceId eq '*'"),
        (
            "GpuUtilizationPercentage",
            "ComputeName eq 'gpu' and InstanceId eq '*' and DeviceId eq '*'",
        ),
    ]


def test_one_question_holds_one_region_and_fifty_workspaces() -> None:
    homes = [workspace(f"ws-{n}", region="eastus" if n < 60 else "westeurope") for n in range(61)]
    computes = [resource(instance(home, "ci"), home) for home in homes]
    asked = list(questions_for(computes, DAY, Expected()))
    assert {region for q in asked for region in [q.region]} == {"eastus", "westeurope"}
    assert max(len(q.workspace_ids) for q in asked) <= 50
    assert sum(len(q.workspace_ids) for q in asked) == 61


def pace_of(*computes: Resource, **expected: dict[str, Any]) -> Pace:
    (asked, *_) = questions_for(computes, DAY, Expected(**expected))
    return asked.pace


def test_no_answer_grows_too_long() -> None:
    many = [resource(instance(HOME, f"ci-{n:02}")) for n in range(40)]
    hours = pace_of(*many).longest() / timedelta(hours=1)
    assert 49e6 < hours * 60 * 40 * 2 * 80 <= 50e6


def test_what_was_seen_decides_how_much_is_asked_next() -> None:
    month = timedelta(days=28)
    pace = pace_of(*[resource(instance(HOME, f"ci-{n:02}")) for n in range(40)])
    first = pace.next(month)
    one = series(CI, "CpuUtilizationPercentage", *[50.0] * round(first / MINUTE))
    half = pace.seen([one] * 40, first)  # of 40 × 2 series
    assert half.longest() == pytest.approx(2 * first, abs=timedelta(hours=2))
    assert half.next(month) == month / 3  # evenly, in whole hours: 9 days and 8 hours
    assert pace.seen([], first).longest() == 4 * first  # one quiet answer is not for ever


def test_where_nodes_come_and_go_empty_points_grow_with_the_square() -> None:
    nodes = {GPU.resource_id: 100.0}
    days = pace_of(GPU, nodes=nodes).longest() / timedelta(days=1)
    empty, filled = 37 * (100 * days) * 2 * (288 * days), 43 * (100 * days) * 2 * 288
    assert 0.97 * 50e6 < empty + filled <= 50e6
    assert pace_of(GPU, nodes={GPU.resource_id: 4000.0}).longest() < timedelta(days=1.2)


def test_large_clusters_are_asked_by_the_hour_and_never_with_too_many_series() -> None:
    large = [resource(cluster(HOME, f"gpu-{n}", sku=GPU_SKU, maximum=300)) for n in range(3)]
    asked = [
        q
        for q in questions_for([GPU, *large], DAY, Expected())
        if "GpuUtil" in q.question.metrics[0]
    ]
    assert {(q.question.filter.count("gpu-"), q.question.grain) for q in asked} == {
        (0, timedelta(minutes=5)),
        (2, timedelta(hours=1)),
        (1, timedelta(hours=1)),
    }


def answer(points: list[dict[str, Any]], *, number: int = 1) -> bytes:
    one = {"metadatavalues": [], "data": points}
    metric = {"id": "m", "name": {"value": "X"}, "timeseries": [one] * number}
    return orjson.dumps({"values": [{"resourceid": "/R", "value": [metric]}]})


def test_times_off_the_grid_are_read_one_by_one() -> None:
    stamps = ["2026-01-01T00:00:00Z", "2026-01-01T00:01:00Z", "2026-01-01T00:05:00Z"]
    (one,) = parse_batch(answer([{"timeStamp": stamp} for stamp in stamps]))
    assert one.times.tolist() == [datetime(2026, 1, 1, 0, m) for m in (0, 1, 5)]  # noqa: DTZ001
    assert np.isnan(one.average).all()


def test_a_full_answer_may_have_been_cut_and_is_an_error() -> None:
    with pytest.raises(TruncatedError, match="than the 5000 that one answer holds"):
        list(parse_batch(answer([], number=SERIES_LIMIT)))


def collected(
    door: Connection, computes: Sequence[Resource]
) -> tuple[pa.Table, dict[str, Refused]]:
    kept: list[pa.Table] = [SAMPLES.schema.empty_table()]
    refused = collect_samples(door, computes, DAY, AnalysisSettings(), kept.append)
    return pa.concat_tables(kept), refused


@pytest.fixture(scope="module")
def busy(
    emulator: Callable[[Path], Emulator], tmp_path_factory: pytest.TempPathFactory
) -> AzureSettings:
    """Return a way to an estate whose only cluster gets a new node every two hours of a day."""
    on = cluster(HOME, "churning")
    jobs = [
        job(on, START_UTC + timedelta(hours=2 * n, minutes=10), run_seconds=1800) for n in range(12)
    ]
    folder = tmp_path_factory.mktemp("churning")
    return settings_of(emulator(write_estate(folder, resources=[HOME, on], jobs=jobs, days=1)))


def test_what_azure_cut_short_is_asked_for_in_halves(
    busy: AzureSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    door = connect(busy)
    computes = collect_inventory(door, ()).of_kind(Kind.CLUSTER)
    whole, _ = collected(door, computes)
    assert len(set(whole["node_id"].to_pylist())) == 12
    monkeypatch.setattr(monitor, "SERIES_LIMIT", 3)
    halves, refused = collected(door, computes)
    assert refused == {}
    assert halves.sort_by(IN_ORDER).equals(whole.sort_by(IN_ORDER))


def test_more_than_azure_tells_of_one_hour_is_told_of_its_workspace(
    busy: AzureSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    door = connect(busy)
    computes = collect_inventory(door, ()).of_kind(Kind.CLUSTER)
    monkeypatch.setattr(monitor, "SERIES_LIMIT", 1)
    rows, refused = collected(door, computes)
    assert rows.num_rows == 0
    assert "than the 1 that one answer holds" in str(refused[computes[0].workspace_id].error)


@pytest.fixture(scope="module")
def played(emulator: Callable[[Path], Emulator], small_estate: Path) -> Emulator:
    """Return an emulator of the small estate that only this module troubles."""
    return emulator(small_estate)


@pytest.fixture
def troubled(played: Emulator) -> Iterator[Emulator]:
    yield played
    played.heal()


@pytest.mark.parametrize("status", [403, 404])
def test_without_the_batch_each_workspace_is_asked(troubled: Emulator, status: int) -> None:
    door = connect(settings_of(troubled))
    computes = collect_inventory(door, ()).of_kind(Kind.CLUSTER, Kind.INSTANCE)
    batch, _ = collected(door, computes)
    troubled.fault(status=status, path_contains="metrics:getBatch")
    single, refused = collected(door, computes)
    assert single.num_rows > 1000
    assert refused == {}
    assert single.sort_by(IN_ORDER).equals(batch.sort_by(IN_ORDER))
