import json
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import pandas as pd
import pytest

from optimizer.azure.connect import Connection, connect
from optimizer.collectors.collect import CollectReport, collect
from optimizer.config import AnalysisSettings, AzureSettings
from optimizer.errors import ForbiddenError, UnauthorizedError
from optimizer.model import Window
from optimizer.store.lake import Lake
from optimizer.store.tables import (
    COSTS,
    INSTANCE_EVENTS,
    INTERVALS,
    JOBS,
    NODE_DAYS,
    NODE_MINUTES,
    PRICES,
    RESOURCES,
    RUNS,
    SAMPLES,
    TABLES,
)
from tests.conftest import Emulator
from tests.estates import (
    OTHER_SUBSCRIPTION,
    START_UTC,
    SUBSCRIPTION,
    cluster,
    diagnostics,
    job,
    workspace,
    write_estate,
)

WORK_DAYS = 15
"""Of the three weeks that have passed."""


def door_to(emulator: Emulator) -> Connection:
    return connect(
        AzureSettings(endpoint=emulator.url, ca_file=emulator.ca_file, credential="emulator")
    )


def run(
    emulator: Emulator,
    lake: Lake,
    *,
    days: int = 21,
    progress: Callable[[str, int, int | None], None] = lambda *_: None,
) -> CollectReport:
    return collect(
        door_to(emulator),
        lake,
        lookback_days=days,
        subscriptions=(),
        analysis=AnalysisSettings(),
        progress=progress,
    )


def of(frame: pd.DataFrame, name: str) -> pd.DataFrame:
    return frame[frame["resource_id"].str.endswith(f"/{name}")]


@pytest.fixture(scope="module")
def collected(
    small: Emulator, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Lake, CollectReport]:
    lake = Lake(tmp_path_factory.mktemp("collected") / "lake")
    return lake, run(small, lake)


@pytest.fixture
def lake(collected: tuple[Lake, CollectReport]) -> Lake:
    return collected[0]


@pytest.fixture(scope="module")
def played(emulator: Callable[[Path], Emulator], small_estate: Path) -> Emulator:
    """Return an emulator of the small estate that only this module troubles."""
    return emulator(small_estate)


@pytest.fixture
def troubled(played: Emulator) -> Iterator[Emulator]:
    yield played
    played.heal()


@pytest.fixture
def empty(tmp_path: Path) -> Lake:
    return Lake(tmp_path / "lake")


def test_the_report_says_what_was_seen_and_what_was_not(
    collected: tuple[Lake, CollectReport], small: Emulator
) -> None:
    report = collected[1]
    assert report.window == Window(start_utc=START_UTC, end_utc=small.now_utc)
    assert set(report.subscriptions) == {SUBSCRIPTION, OTHER_SUBSCRIPTION}
    assert report.rows["resources"] == 8
    (problem,) = report.problems
    assert "ws-speech keeps no log" in problem.what


def test_the_inventory_is_read_down_to_the_settings(lake: Lake) -> None:
    frame = lake.read(RESOURCES)
    (kept,) = of(frame, "gpu-kept").to_dict("records")
    assert kept["settings"] == '{"idle_seconds":120,"max_nodes":6,"min_nodes":2}'
    assert (kept["sku"], kept["vm_priority"], kept["owner"]) == (
        "Standard_NC6s_v3",
        "dedicated",
        "ana",
    )
    assert frame["kind"].value_counts().to_dict() == {
        "cluster": 3,
        "instance": 3,
        "workspace": 2,
    }


def test_logged_nodes_are_exact(lake: Lake) -> None:
    frame = of(lake.read(NODE_MINUTES), "gpu-kept")
    assert len(frame) == 21 * 1440
    assert set(frame["source"]) == {"log"}
    assert frame["active"].sum() == WORK_DAYS * 240
    assert (frame["total"] == 2).all()


def test_nodes_wait_two_hours_after_each_job(lake: Lake) -> None:
    frame = of(lake.read(NODE_MINUTES), "cpu-slow")
    assert frame["active"].sum() == WORK_DAYS * 4 * 30 * 2
    assert frame["idle"].sum() == pytest.approx(WORK_DAYS * 4 * 120 * 2, abs=2)


def test_without_a_log_the_metrics_tell_all_but_the_start(lake: Lake) -> None:
    frame = of(lake.read(NODE_MINUTES), "cpu-tidy")
    assert set(frame["source"]) == {"metric"}
    assert frame["active"].sum() == pytest.approx(WORK_DAYS * 2 * 60 * 2)
    assert frame["preparing"].isna().all()


def test_a_forgotten_instance_is_idle_but_on(lake: Lake) -> None:
    frame = of(lake.read(SAMPLES), "ci-forgotten")
    minutes_on = 21 * 1440 - 9 * 60
    assert len(frame) == minutes_on
    assert set(frame["grain_minutes"]) == {1}
    assert frame["busy"].sum() == pytest.approx(WORK_DAYS * 3 * 60, rel=0.03)  # rest is noisy
    assert frame["cpu_max"].max() <= 1000


def test_a_cluster_is_sampled_while_a_run_is_on_it_by_device(lake: Lake) -> None:
    frame = of(lake.read(SAMPLES), "gpu-kept")
    cpu, gpu = frame[frame["device_id"] == ""], frame[frame["device_id"] == "0"]
    assert len(cpu) == len(gpu) == WORK_DAYS * 240 / 5
    assert frame["busy"].all()
    assert gpu["cpu_avg"].isna().all()
    assert gpu["gpu_avg"].mean() == pytest.approx(500, rel=0.02)


def test_partials_add_up_to_the_samples(lake: Lake) -> None:
    days = of(lake.read(NODE_DAYS), "ci-forgotten")
    samples = of(lake.read(SAMPLES), "ci-forgotten")
    assert days["minutes"].sum() == len(samples)
    assert days["busy_minutes"].sum() == samples["busy"].sum()
    intervals = of(lake.read(INTERVALS), "ci-forgotten")
    length = (intervals["end_utc"] - intervals["start_utc"]).sum()
    assert length == timedelta(minutes=len(samples))


def test_who_stopped_an_instance_is_known(lake: Lake) -> None:
    events = of(lake.read(INSTANCE_EVENTS), "ci-stopped")
    assert events.groupby("operation").size().to_dict() == {
        "Start": WORK_DAYS,
        "Stop": WORK_DAYS,
    }
    guarded = of(lake.read(INSTANCE_EVENTS), "ci-guarded")
    assert set(guarded.loc[guarded["operation"] == "Stop", "trigger"]) == {"IdleShutdown"}


def test_jobs_have_their_times(lake: Lake) -> None:
    jobs = of(lake.read(JOBS), "gpu-kept")
    assert len(jobs) == WORK_DAYS * 2
    assert ((jobs["ended_utc"] - jobs["started_utc"]) == timedelta(hours=2)).all()


def test_runs_are_known_by_node_where_jobs_are_logged(lake: Lake) -> None:
    runs = of(lake.read(RUNS), "cpu-slow")
    assert len(runs) == WORK_DAYS * 4 * 2
    assert ((runs["ended_utc"] - runs["started_utc"]) == timedelta(minutes=30)).all()
    assert set(runs["state"]) == {"Completed"}
    assert of(lake.read(RUNS), "cpu-tidy").empty  # its workspace keeps no log


def test_a_run_that_goes_on_is_read_until_it_ends(
    emulator: Callable[[Path], Emulator], tmp_path: Path, empty: Lake
) -> None:
    ws = workspace("ws")
    long = cluster(ws, "long")
    start = START_UTC + timedelta(days=1, hours=12)
    folder = write_estate(
        tmp_path / "long",
        resources=[ws, diagnostics(ws), long],
        jobs=[job(long, start, run_seconds=40 * 3600)],
        days=2,
    )
    azure = emulator(folder)
    run(azure, empty, days=2)
    assert empty.read(RUNS)["state"].tolist() == ["Running"]
    azure.advance(48)
    run(azure, empty, days=4)
    (found,) = empty.read(RUNS).to_dict("records")
    assert (found["state"], found["started_utc"]) == ("Completed", start)
    assert found["ended_utc"] - start == timedelta(hours=40)


def test_costs_are_the_bill_to_the_cent_by_compute(lake: Lake, small: Emulator) -> None:
    costs = lake.read(COSTS)
    bill = small.bill(START_UTC, small.now_utc)["by_resource"]
    assert set(costs["attribution"]) == {"exact"}
    assert set(costs["currency"]) == {"USD"}
    for resource_id, amount in bill.items():
        mine = costs[costs["resource_id"] == resource_id.lower()]
        assert mine["billed_cost"].sum() == pytest.approx(amount, abs=0.01)
        assert mine["effective_cost"].sum() == pytest.approx(amount, abs=0.01)


def test_prices_are_those_of_the_sizes_in_use(lake: Lake) -> None:
    prices = lake.read(PRICES).set_index(["sku", "offer", "term"])["price_per_hour"]
    assert prices["Standard_DS3_v2", "payg", ""] == 0.25
    assert prices["Standard_DS3_v2", "low_priority", ""] == 0.05
    assert prices["Standard_NC6s_v3", "reservation", "1y"] == pytest.approx(1.8)
    assert prices["Standard_NC6s_v3", "reservation", "3y"] == pytest.approx(1.2)


def test_collecting_twice_adds_no_row_and_asks_little(
    collected: tuple[Lake, CollectReport], small: Emulator
) -> None:
    lake, _ = collected
    before = {name: len(lake.read(table)) for name, table in TABLES.items()}
    samples = lake.read(SAMPLES)
    asked = small.requests()["by_api"]["metrics_batch"]
    again = run(small, lake)
    assert {name: len(lake.read(table)) for name, table in TABLES.items()} == before
    pd.testing.assert_frame_equal(lake.read(SAMPLES), samples)
    assert again.rows["samples"] < before["samples"] / 100
    assert small.requests()["by_api"]["metrics_batch"] - asked <= asked


def test_a_later_collection_brings_what_came_since(
    emulator: Callable[[Path], Emulator], small_estate: Path, empty: Lake
) -> None:
    azure = emulator(small_estate)
    run(azure, empty, days=3)
    later = azure.advance(36)
    report = run(azure, empty, days=3)
    nodes = of(empty.read(NODE_MINUTES), "gpu-kept")
    assert nodes["minute_utc"].is_unique
    assert len(nodes) == (3 + 1.5) * 1440
    assert report.window.end_utc == later
    assert report.rows["node_minutes"] < 3 * 2 * 1440 * 1.5 + 200
    assert empty.read(RESOURCES)["collected_at_utc"].nunique() == 2
    bill = azure.bill(START_UTC + timedelta(days=18), later)
    assert empty.read(COSTS)["billed_cost"].sum() == pytest.approx(bill["total"], abs=0.01)


def test_a_look_at_changed_settings_never_replaces_the_one_before(
    emulator: Callable[[Path], Emulator], small_estate: Path, empty: Lake
) -> None:
    azure = emulator(small_estate)
    run(azure, empty, days=3)
    door = door_to(azure)
    (slow,) = of(empty.read(RESOURCES), "cpu-slow")["arm"]
    scale = {"minNodeCount": 0, "maxNodeCount": 8, "nodeIdleTimeBeforeScaleDown": "PT5M"}
    door.arm.patch(json.loads(slow)["id"], {"properties": {"properties": {"scaleSettings": scale}}})
    for _ in range(2):  # the service's clock stands still: still one look more, not two
        run(azure, empty, days=3)
        looks = of(empty.read(RESOURCES), "cpu-slow").sort_values("collected_at_utc")
        assert [json.loads(each)["idle_seconds"] for each in looks["settings"]] == [7200, 300]
        assert looks["collected_at_utc"].diff().iloc[-1] == timedelta(seconds=1)


def test_an_interrupted_collection_goes_on_where_it_stopped(
    troubled: Emulator, empty: Lake
) -> None:
    def stop_at_costs(stage: str, _done: int, _total: int | None) -> None:
        if stage == "costs":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(troubled, empty, days=7, progress=stop_at_costs)
    kept = len(empty.read(SAMPLES))
    assert kept
    assert empty.read(RESOURCES).empty
    report = run(troubled, empty, days=7)
    assert report.rows["samples"] < kept / 50
    assert len(empty.read(SAMPLES)) == kept
    assert len(empty.read(RESOURCES)) == 8


def test_a_forbidden_subscription_is_a_problem_that_names_the_permission(
    troubled: Emulator, empty: Lake
) -> None:
    troubled.fault(status=403, path_contains=f"/subscriptions/{OTHER_SUBSCRIPTION}")
    report = run(troubled, empty, days=2)
    (problem,) = report.problems
    assert problem.scope == f"/subscriptions/{OTHER_SUBSCRIPTION}"
    assert problem.permission == "Microsoft.MachineLearningServices/workspaces/computes/read"
    assert report.subscriptions == (SUBSCRIPTION,)
    assert len(of(empty.read(NODE_MINUTES), "gpu-kept")) == 2 * 1440


def test_what_was_forbidden_is_fetched_once_it_is_allowed(troubled: Emulator, empty: Lake) -> None:
    troubled.fault(status=403, path_contains=f"/subscriptions/{OTHER_SUBSCRIPTION}")
    run(troubled, empty, days=2)
    troubled.heal()
    run(troubled, empty, days=2)
    assert len(of(empty.read(NODE_MINUTES), "cpu-tidy")) == 2 * 1440


def test_everything_forbidden_is_an_error(troubled: Emulator, empty: Lake) -> None:
    troubled.fault(status=403, path_contains="/workspaces")
    with pytest.raises(ForbiddenError, match="workspaces/computes/read"):
        run(troubled, empty)


def test_a_permission_that_one_table_lacks_costs_only_that_table(
    troubled: Emulator, empty: Lake
) -> None:
    troubled.fault(status=403, path_contains="CostManagement")
    report = run(troubled, empty, days=2)
    lacking = {problem.permission for problem in report.problems if problem.permission}
    assert lacking == {"Microsoft.CostManagement/generateCostDetailsReport/action"}
    assert empty.read(COSTS).empty
    assert len(empty.read(JOBS))


def test_an_estate_without_computes_gives_no_rows(
    emulator: Callable[[Path], Emulator], tmp_path: Path, empty: Lake
) -> None:
    bare = emulator(write_estate(tmp_path / "bare", resources=[workspace()], days=2))
    report = run(bare, empty, days=2)
    assert report.rows == {"resources": 0}
    assert empty.read(RESOURCES).empty


def test_a_refused_token_ends_it(troubled: Emulator, empty: Lake) -> None:
    troubled.fault(status=401)
    with pytest.raises(UnauthorizedError):
        run(troubled, empty)
