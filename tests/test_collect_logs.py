from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from optimizer.azure.connect import Connection, connect
from optimizer.collectors.collect import CollectReport, collect
from optimizer.collectors.inventory import collect_inventory
from optimizer.collectors.logs import Wanted, WorkspaceLog, read_logs
from optimizer.config import AnalysisSettings, AzureSettings
from optimizer.errors import TruncatedError
from optimizer.model import Kind, Window
from optimizer.store.lake import Lake
from optimizer.store.tables import NODE_MINUTES, RUNS, SAMPLES
from tests.conftest import Emulator
from tests.estates import START_UTC, cluster, diagnostics, job, workspace, write_estate

DAYS = 3
HOMES = [workspace(f"ws-{n}") for n in range(3)]
CENTRAL = "OperationalInsights/workspaces/logs"
QUERY = "POST /v1/{resource:path}/query"


@pytest.fixture(scope="module")
def played(
    emulator: Callable[[Path], Emulator], tmp_path_factory: pytest.TempPathFactory
) -> Emulator:
    """Return an estate of three workspaces that send their logs to one place."""
    clusters = [cluster(home, "train") for home in HOMES]
    jobs = [
        job(on, START_UTC + timedelta(days=day, hours=9 + n), run_seconds=1800)
        for n, on in enumerate(clusters)
        for day in range(DAYS)
    ]
    resources = [*HOMES, *map(diagnostics, HOMES), *clusters]
    folder = tmp_path_factory.mktemp("central")
    return emulator(write_estate(folder, resources=resources, jobs=jobs, days=DAYS))


@pytest.fixture
def azure(played: Emulator) -> Iterator[Emulator]:
    yield played
    played.heal()


def door_to(azure: Emulator) -> Connection:
    return connect(AzureSettings(endpoint=azure.url, ca_file=azure.ca_file, credential="emulator"))


def read(door: Connection, azure: Emulator) -> dict[str, WorkspaceLog]:
    inventory = collect_inventory(door, ())
    wanted = [
        Wanted(
            workspace=home,
            clusters=[
                c for c in inventory.of_kind(Kind.CLUSTER) if c.workspace_id == home.resource_id
            ],
            nodes_since_utc=START_UTC + timedelta(days=1),
            runs_since_utc=START_UTC + timedelta(hours=1),
        )
        for home in inventory.of_kind(Kind.WORKSPACE)
    ]
    return read_logs(door, wanted, azure.now_utc)


def gathered(azure: Emulator, lake: Lake) -> CollectReport:
    return collect(
        door_to(azure),
        lake,
        lookback_days=DAYS,
        subscriptions=(),
        analysis=AnalysisSettings(),
        progress=lambda *_: None,
    )


def told(logs: dict[str, WorkspaceLog]) -> dict[str, Any]:
    """Return what logs say in a form that can be compared."""
    found: dict[str, Any] = {}
    for name, log in logs.items():
        steps = {c: (s.at_ms.tolist(), s.nodes.tolist()) for c, s in log.nodes.steps.items()}
        assert isinstance(log.runs, pd.DataFrame)
        found[name] = steps, log.nodes.problems, log.runs.to_dict("records")
    return found


def test_workspaces_that_send_to_one_place_are_one_question(azure: Emulator) -> None:
    before = azure.requests()["by_request"].get(QUERY, 0)
    logs = read(door_to(azure), azure)
    assert azure.requests()["by_request"][QUERY] - before == 1
    assert [len(log.runs) for log in logs.values() if isinstance(log.runs, pd.DataFrame)] == [3] * 3
    # The state before the second day is known, and each has its own.
    firsts = [log.nodes.steps["train"].at_ms[0] for log in logs.values()]
    assert len(set(firsts)) == len(HOMES)
    assert max(firsts) < (START_UTC + timedelta(days=1)).timestamp() * 1000


def test_where_the_place_may_not_be_read_each_workspace_is_asked(azure: Emulator) -> None:
    together = told(read(door_to(azure), azure))
    azure.fault(status=403, path_contains=CENTRAL)
    assert told(read(door_to(azure), azure)) == together


def test_a_place_that_shows_nothing_is_not_believed(
    azure: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    door = door_to(azure)
    whole, logs = told(read(door, azure)), door.monitor.logs

    def without_tables(resource_id: str, kql: str, window: Window) -> list[dict[str, Any]]:
        return [] if CENTRAL.lower() in resource_id.lower() else logs(resource_id, kql, window)

    monkeypatch.setattr(door.monitor, "logs", without_tables)
    assert told(read(door, azure)) == whole


def test_what_was_cut_short_is_asked_for_in_halves(
    azure: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    door = door_to(azure)
    whole, logs, spans = told(read(door, azure)), door.monitor.logs, []

    def short(resource_id: str, kql: str, window: Window) -> list[dict[str, Any]]:
        rows = logs(resource_id, kql, window)
        spans.append(len(rows))
        if len(rows) > 20:
            raise TruncatedError("Log Analytics cut the logs short")
        return rows

    monkeypatch.setattr(door.monitor, "logs", short)
    assert told(read(door, azure)) == whole
    assert len(spans) > 2


def test_a_workspace_without_its_log_is_a_problem_and_the_others_go_on(
    azure: Emulator, tmp_path: Path
) -> None:
    azure.fault(status=403, path_contains=CENTRAL)
    azure.fault(status=403, path_contains="workspaces/ws-1/query")
    report = gathered(azure, lake := Lake(tmp_path))
    (problem,) = report.problems
    assert problem.scope.endswith("/ws-1")
    assert sorted(lake.read(RUNS)["resource_id"].str.split("/").str[8].unique()) == ["ws-0", "ws-2"]
    sources = lake.read(NODE_MINUTES).groupby("resource_id")["source"].unique()
    assert [list(source) for source in sources] == [["log"], ["metric"], ["log"]]


def test_a_workspace_that_refuses_its_metrics_costs_the_others_nothing(
    azure: Emulator, tmp_path: Path
) -> None:
    azure.fault(status=403, path_contains="metrics:getBatch")
    azure.fault(status=403, path_contains="workspaces/ws-1/providers/Microsoft.Insights/metrics")
    report = gathered(azure, lake := Lake(tmp_path))
    scopes = {problem.scope.rpartition("/")[2] for problem in report.problems}
    assert scopes == {"ws-1", "Azure Monitor"}  # log and metrics could not be compared
    read = lake.read(SAMPLES)["resource_id"].str.split("/").str[8].unique()
    assert sorted(read) == ["ws-0", "ws-2"]
    window = report.window
    missing = [lake.missing_from(SAMPLES, home["id"].lower(), window) for home in HOMES]
    assert missing == [window.end_utc, window.start_utc, window.end_utc]
