"""Estate folders: what is read, and what is refused in one sentence."""

import json
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from optimizer.emulator.estate import Estate, load_estate
from optimizer.emulator.physics import Capacity, Needs, fits, stretch, uniform
from optimizer.errors import EstateError
from tests.estates import (
    CPU_SKU,
    START_UTC,
    cluster,
    instance,
    job,
    price,
    session,
    workspace,
    write_estate,
    write_small_estate,
)

WS = workspace()
CLUSTER = cluster(WS, "cpu", maximum=2)
DESK = instance(WS, "desk")
Edit = Callable[[Path], None]


def estate(folder: Path, **files: Any) -> Estate:
    resources = files.pop("resources", [WS, CLUSTER, DESK])
    return load_estate(write_estate(folder, resources=resources, **files))


def test_everything_of_a_folder_is_read(tmp_path: Path) -> None:
    small = load_estate(write_small_estate(tmp_path))
    assert len(small.resources) == 9
    assert small.jobs.num_rows == 20 * (2 + 4 + 2)
    assert small.sessions.num_rows == 20 * 3
    assert small.requests.num_rows == 0
    assert small.history_start_utc == START_UTC
    assert small.now_utc == START_UTC + timedelta(days=21)
    assert small.price("eastus", CPU_SKU.upper()).list_per_hour == 0.25


def test_activity_and_changes_may_be_absent(tmp_path: Path) -> None:
    folder = write_estate(tmp_path, resources=[WS, CLUSTER])
    for file in ("jobs.parquet", "sessions.parquet"):
        (folder / file).unlink()
    bare = load_estate(folder)
    assert (bare.jobs.num_rows, bare.sessions.num_rows, bare.changes) == (0, 0, ())
    assert "submit_utc" in bare.jobs.column_names


def test_columns_that_a_file_leaves_out_are_null(tmp_path: Path) -> None:
    folder = write_estate(tmp_path, resources=[WS, CLUSTER], jobs=[job(CLUSTER, START_UTC)])
    path = folder / "jobs.parquet"
    pq.write_table(pq.read_table(path).drop_columns(["experiment", "checkpoint_minutes"]), path)
    assert load_estate(folder).jobs["experiment"].to_pylist() == [None]


def test_changes_come_in_order_of_time_with_values_of_their_type(tmp_path: Path) -> None:
    scale = "properties.properties.scaleSettings"
    later = {
        "at_utc": "2026-01-08T00:00:00Z",
        "resource_id": CLUSTER["id"].upper(),
        "path": f"{scale}.nodeIdleTimeBeforeScaleDown",
        "value": "PT2H",
    }
    sooner = later | {
        "at_utc": "2026-01-06T00:00:00+01:00",
        "path": f"{scale}.minNodeCount",
        "value": 1,
    }
    found = estate(tmp_path, changes=[later, sooner]).changes
    assert [change.value for change in found] == [1, "PT2H"]


def rewrite_json(file: str, edit: Callable[[Any], Any]) -> Edit:
    def apply(folder: Path) -> None:
        path = folder / file
        content = json.loads(path.read_text())
        path.write_text(json.dumps(edit(content) or content))

    return apply


def rewrite_table(file: str, edit: Callable[[pa.Table], pa.Table]) -> Edit:
    def apply(folder: Path) -> None:
        pq.write_table(edit(pq.read_table(folder / file)), folder / file)

    return apply


def without_zone(table: pa.Table) -> pa.Table:
    naive = pc.cast(table["submit_utc"], pa.timestamp("us"))
    return table.set_column(table.column_names.index("submit_utc"), "submit_utc", naive)


def remove(file: str) -> Edit:
    return lambda folder: (folder / file).unlink()


def write(file: str, text: str) -> Edit:
    def apply(folder: Path) -> None:
        (folder / file).write_text(text)

    return apply


@pytest.mark.parametrize(
    ("edit", "words"),
    [
        (remove("estate.json"), ["estate.json is missing"]),
        (remove("prices.csv"), ["prices.csv is missing"]),
        (write("estate.json", "{"), ["estate.json", "JSON"]),
        (
            rewrite_json("estate.json", lambda e: e.update(now_utc="2026-01-09T00:00:00")),
            ["estate.json", "now_utc", "timezone"],
        ),
        (
            rewrite_json("estate.json", lambda e: e.update(now_utc="2025-01-09T00:00:00Z")),
            ["now_utc lies before history_start_utc"],
        ),
        (
            rewrite_json("estate.json", lambda e: e["physics"].update(leaving_secs=3)),
            ["estate.json", "physics leaving_secs"],
        ),
        (
            rewrite_json("estate.json", lambda e: e["billing"].update(discount=1.5)),
            ["billing discount", "less than or equal to 1"],
        ),
        (
            rewrite_json("estate.json", lambda e: e.update(currency="EUR")),
            ["prices.csv", "USD", "EUR"],
        ),
        (
            rewrite_json("resources.json", lambda r: r[1].clear()),
            ["resources.json", "entry 2 id"],
        ),
        (rewrite_json("resources.json", lambda r: r + r[1:2]), ["resources.json", "twice"]),
        (
            rewrite_json("resources.json", lambda r: r[1:]),
            ["resources.json", "cpu is in a workspace that is not listed"],
        ),
        (
            write("prices.csv", "region,sku\neastus,Standard_DS3_v2\n"),
            ["prices.csv", "entry 1", "vcpus"],
        ),
        (rewrite_table("jobs.parquet", without_zone), ["jobs.parquet", "submit_utc", "UTC"]),
        (
            rewrite_table("jobs.parquet", lambda t: t.drop_columns(["nodes"])),
            ["jobs.parquet", "'nodes' is missing"],
        ),
        (
            rewrite_table("jobs.parquet", lambda t: t.append_column("nods", t["nodes"])),
            ["jobs.parquet", "'nods'", "it takes job_id"],
        ),
        (
            rewrite_table(
                "jobs.parquet",
                lambda t: t.set_column(3, "run_seconds", pa.array(["long"] * len(t))),
            ),
            ["jobs.parquet", "'run_seconds'"],
        ),
        (rewrite_table("jobs.parquet", lambda t: pa.concat_tables([t, t])), ["job_id", "twice"]),
        (write("jobs.parquet", "PAR1"), ["jobs.parquet is no Parquet file"]),
    ],
)
def test_a_folder_that_cannot_be_played_is_refused_in_a_sentence(
    tmp_path: Path, edit: Edit, words: list[str]
) -> None:
    folder = write_estate(tmp_path, resources=[WS, CLUSTER, DESK], jobs=[job(CLUSTER, START_UTC)])
    edit(folder)
    with pytest.raises(EstateError) as refusal:
        load_estate(folder)
    assert all(word in str(refusal.value) for word in words), refusal.value
    assert "\n" not in str(refusal.value)


def change(**columns: Any) -> dict[str, Any]:
    return {
        "at_utc": "2026-01-08T00:00:00Z",
        "resource_id": CLUSTER["id"],
        "path": "properties.properties.scaleSettings.minNodeCount",
        "value": 1,
    } | columns


DAY = timedelta(days=1)
STRANGER = cluster(WS, "stranger")


@pytest.mark.parametrize(
    ("files", "words"),
    [
        ({"jobs": [job(CLUSTER, START_UTC, nodes=3)]}, ["3 nodes", "cpu has 1 to 2"]),
        ({"jobs": [job(CLUSTER, START_UTC, nodes=0)]}, ["0 nodes"]),
        ({"jobs": [job(CLUSTER, START_UTC, run_seconds=-1)]}, ["run_seconds -1"]),
        ({"jobs": [job(STRANGER, START_UTC)]}, ["computes/stranger is not in resources.json"]),
        ({"jobs": [job(DESK, START_UTC)]}, ["jobs run on clusters"]),
        ({"jobs": [job(CLUSTER, START_UTC - DAY)]}, ["submit_utc", "before history_start_utc"]),
        (
            {"jobs": [job(CLUSTER, START_UTC, reference_sku="Standard_X1")]},
            ["prices.csv has no row for Standard_X1 in eastus"],
        ),
        ({"sessions": [session(CLUSTER, START_UTC, START_UTC + DAY)]}, ["sessions.parquet"]),
        (
            {"sessions": [session(DESK, START_UTC, START_UTC + DAY, via="rdp")]},
            ["via is 'rdp'", "jupyter, vscode, ssh, app"],
        ),
        ({"sessions": [session(DESK, START_UTC + DAY, START_UTC)]}, ["end_utc before start_utc"]),
        ({"changes": [change(path="properties.properties.vmSize")]}, ["vmSize' cannot change"]),
        ({"changes": [change(at_utc="2026-01-08T00:00:00")]}, ["changes.csv", "entry 1 at_utc"]),
        ({"changes": [change(at_utc="2025-01-08T00:00:00Z")]}, ["before history_start_utc"]),
        ({"changes": [change(value=9)]}, ["2026-01-08", "minNodeCount 9 and maxNodeCount 2"]),
        ({"changes": [change(resource_id=STRANGER["id"])]}, ["stranger is not in resources"]),
        (
            {"resources": [WS, cluster(WS, "odd", sku="Standard_X1")]},
            ["odd", "no row for Standard_X1 in eastus"],
        ),
        (
            {
                "resources": [WS, cluster(WS, "low", priority="LowPriority")],
                "prices": [price(CPU_SKU, 1.0, low_priority_per_hour=None)],
            },
            ["low: ", "no low_priority_per_hour for Standard_DS3_v2 in eastus"],
        ),
        ({"resources": [WS, cluster(WS, "odd", idle="2 hours")]}, ["odd", "'2 hours'"]),
        (
            {"resources": [WS, {**cluster(WS, "odd"), "id": "/subscriptions/s/computes/odd"}]},
            ["/subscriptions/s/computes/odd names no workspace"],
        ),
        (
            {"resources": [WS, instance(WS, "odd", idle_shutdown="PT5M")]},
            ["odd", "15 minutes (PT15M) to 3 days"],
        ),
    ],
)
def test_contents_that_contradict_one_another_are_refused(
    tmp_path: Path, files: dict[str, Any], words: list[str]
) -> None:
    with pytest.raises(EstateError) as refusal:
        estate(tmp_path, **files)
    assert all(word in str(refusal.value) for word in words), refusal.value


# -- physics -------------------------------------------------------------------------------------

SMALL = Capacity(vcpus=4, memory_gib=14, gpus=0, gpu_memory_gib=0)
LARGE = Capacity(vcpus=16, memory_gib=56, gpus=0, gpu_memory_gib=0)
ONE_GPU = Capacity(vcpus=6, memory_gib=112, gpus=1, gpu_memory_gib=16)
FOUR_GPUS = Capacity(vcpus=24, memory_gib=448, gpus=4, gpu_memory_gib=64)


@pytest.mark.parametrize(
    ("needs", "reference", "actual", "expected"),
    [
        (Needs(cpu_cores=2), LARGE, SMALL, 1.0),
        (Needs(cpu_cores=8), LARGE, SMALL, 2.0),
        (Needs(cpu_cores=8), SMALL, LARGE, 0.5),
        (Needs(cpu_cores=32), LARGE, SMALL, 4.0),
        (Needs(gpus=4, gpu_busy_fraction=1.0), FOUR_GPUS, ONE_GPU, 4.0),
        (Needs(gpus=4, gpu_busy_fraction=0.5), FOUR_GPUS, ONE_GPU, 2.5),
        (Needs(gpus=1, gpu_busy_fraction=1.0), FOUR_GPUS, ONE_GPU, 1.0),
        (Needs(cpu_cores=24, gpus=4, gpu_busy_fraction=0.5), FOUR_GPUS, ONE_GPU, 4.0),
        (Needs(), SMALL, LARGE, 1.0),
    ],
)
def test_the_tightest_resource_sets_the_pace(
    needs: Needs, reference: Capacity, actual: Capacity, expected: float
) -> None:
    assert stretch(needs, reference, actual) == expected


@pytest.mark.parametrize(
    ("needs", "capacity", "expected"),
    [
        (Needs(memory_gib=14), SMALL, True),
        (Needs(memory_gib=14.1), SMALL, False),
        (Needs(gpus=1), SMALL, False),
        (Needs(gpus=0), SMALL, True),
        (Needs(gpus=1, gpu_memory_gib=20), ONE_GPU, False),
        (Needs(gpus=2), ONE_GPU, True),
    ],
)
def test_memory_and_a_missing_gpu_are_hard_limits(
    needs: Needs, capacity: Capacity, expected: object
) -> None:
    assert fits(needs, capacity) is expected


def test_dice_depend_on_their_key_alone() -> None:
    assert uniform(7, "a", 1) == uniform(7, "a", 1)
    draws = [uniform(7, "a", n) for n in range(10_000)]
    assert sum(draws) / len(draws) == pytest.approx(0.5, abs=0.01)
    assert 0 < min(draws) < max(draws) < 1


def test_moments_keep_their_zone(tmp_path: Path) -> None:
    found = estate(tmp_path, jobs=[job(CLUSTER, START_UTC)]).jobs["submit_utc"].to_pylist()
    assert found == [datetime(2026, 1, 5, tzinfo=START_UTC.tzinfo)]
