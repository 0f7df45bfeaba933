from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from optimizer.azure.connect import Connection, connect
from optimizer.collectors.costs import (
    collect_costs,
    distinct_tag,
    query_row,
    spend_by_category,
    spend_within,
)
from optimizer.collectors.inventory import collect_inventory, compute_resource, workspace_resource
from optimizer.config import AzureSettings
from optimizer.errors import NotFoundError
from optimizer.model import Kind, Resource, Window
from tests.conftest import Emulator
from tests.estates import (
    START_UTC,
    SUBSCRIPTION,
    cluster,
    diagnostics,
    instance,
    job,
    workspace,
    write_estate,
)

HOME = workspace()
SCOPE = HOME["id"].lower()


def door_to(emulator: Emulator) -> Connection:
    return connect(
        AzureSettings(endpoint=emulator.url, ca_file=emulator.ca_file, credential="emulator")
    )


def resource(document: dict[str, Any]) -> Resource:
    found = compute_resource(document, workspace_resource(HOME), {})
    assert found
    return found


def test_a_tag_must_tell_the_computes_apart() -> None:
    same = [resource(cluster(HOME, n, tags={"team": "a", "owner": n})) for n in ("one", "two")]
    assert distinct_tag(same) == "owner"
    assert distinct_tag([*same, resource(cluster(HOME, "three", tags={"team": "a"}))]) is None


def test_a_query_row_is_tagged_or_stays_the_workspaces() -> None:
    ana = resource(instance(HOME, "ci-ana"))
    plain = {"ResourceId": SCOPE, "UsageDate": 20260131, "Cost": 1.5, "Currency": "EUR"}
    tagged = query_row(plain | {"TagKey": "owner", "TagValue": "Ana"}, {(SCOPE, "ana"): ana})
    bare = query_row(plain | {"MeterCategory": "Load Balancer"}, {})
    assert tagged
    assert bare
    assert (tagged["resource_id"], tagged["attribution"]) == (ana.resource_id, "tag")
    assert (bare["resource_id"], bare["attribution"]) == (SCOPE, None)
    assert bare["component"] == "load_balancer"


def test_a_filter_of_one_condition_stands_alone() -> None:
    month = date(2026, 1, 1), date(2026, 1, 31)
    assert "filter" not in spend_by_category(*month)["dataset"]
    assert spend_within("Storage", *month, tag=None)["dataset"]["filter"].keys() == {"dimensions"}


@pytest.fixture(scope="module")
def without_details(
    emulator: Callable[[Path], Emulator], tmp_path_factory: pytest.TempPathFactory
) -> Emulator:
    """Return an estate whose offer has no cost details, over the end of a month."""
    computes = [cluster(HOME, name, tags={"owner": name}) for name in ("one", "two")]
    jobs = [job(computes[i % 2], START_UTC.replace(day=6 + i), run_seconds=7200) for i in range(20)]
    return emulator(
        write_estate(
            tmp_path_factory.mktemp("offers") / "query",
            resources=[HOME, diagnostics(HOME), *computes, instance(HOME, tags={"owner": "ana"})],
            jobs=jobs,
            days=35,
            telemetry={"cost_details": False},
        )
    )


def queried(azure: Emulator) -> tuple[pd.DataFrame, list[str]]:
    door = door_to(azure)
    computes = collect_inventory(door, ()).of_kind(Kind.CLUSTER, Kind.INSTANCE)
    window = Window(start_utc=START_UTC, end_utc=azure.now_utc)
    frame, problems = collect_costs(door, SUBSCRIPTION, computes, window)
    return frame, [problem.what for problem in problems]


def test_without_details_tags_tell_and_the_sum_is_the_bill(without_details: Emulator) -> None:
    frame, problems = queried(without_details)
    bill = without_details.bill(START_UTC, without_details.now_utc)
    assert frame["billed_cost"].sum() == pytest.approx(bill["total"], abs=0.01)
    assert {"vm", "disk"} <= set(frame["component"])
    assert set(frame["attribution"]) == {"tag"}
    for resource_id, cost in bill["by_resource"].items():
        mine = frame[frame["resource_id"] == resource_id.lower()]
        assert mine["billed_cost"].sum() == pytest.approx(cost, abs=0.01)
    assert "does not support the Cost Details API" in problems[0]


def test_cost_managements_own_way_to_ask_for_patience_is_heard(
    without_details: Emulator,
) -> None:
    patience = {"x-ms-ratelimit-microsoft.costmanagement-qpu-retry-after": "1"}
    without_details.fault(
        status=429, path_contains="CostManagement/query", times=1, headers=patience
    )
    assert len(queried(without_details)[0])


def test_the_link_of_a_file_is_never_told(without_details: Emulator, tmp_path: Path) -> None:
    link = f"{without_details.url}/blob/costdetails/none/part0.csv?sig=secret"
    with (tmp_path / "x").open("wb") as file, pytest.raises(NotFoundError) as caught:
        door_to(without_details).costs.download(link, file)
    assert "sig" not in str(caught.value)
    assert "secret" not in str(caught.value)
