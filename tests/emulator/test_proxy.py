"""A client that was made for Azure, and told of nothing but a proxy and an authority."""

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
import requests
from azure.mgmt.monitor import MonitorManagementClient

import benchmarks.closed_loop
import benchmarks.real_client
from optimizer.azure.connect import connect
from optimizer.config import AzureSettings
from optimizer.emulator import dates
from optimizer.emulator.estate import load_estate
from tests.conftest import ROOT, Emulator, running
from tests.emulator.sdk import Credential
from tests.estates import START_UTC, SUBSCRIPTION, workspace
from tests.recorded import recorded

AZURE = "https://management.azure.com"
WORKSPACES = f"/subscriptions/{SUBSCRIPTION}/providers/Microsoft.MachineLearningServices/workspaces"
WORKSPACE_ID = workspace()["id"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Client:
    """Somebody with a token who knows Azure's own addresses."""

    emulator: Emulator

    def __call__(self, method: str, path: str, body: Any = None, **query: str) -> dict[str, Any]:
        address = path if path.startswith("https:") else f"{AZURE}{path}?{urlencode(query)}"
        answer = requests.request(
            method, address, json=body, headers={"Authorization": "Bearer any"}, timeout=60
        )
        answer.raise_for_status()
        found: dict[str, Any] = answer.json()
        return found


@pytest.fixture(scope="module")
def client(small_estate: Path) -> Iterator[Client]:
    """Return a client whose surroundings the recipe in docs/other-clients.md has set up."""
    with (
        running(small_estate, "--proxy", "--today") as emulator,
        pytest.MonkeyPatch.context() as patch,
    ):
        assert emulator.proxy
        patch.setenv("HTTPS_PROXY", emulator.proxy)
        patch.setenv("REQUESTS_CA_BUNDLE", str(emulator.ca_file))
        patch.setenv("NO_PROXY", "localhost")
        for name in ("no_proxy", "https_proxy"):
            patch.delenv(name, raising=False)
        yield Client(emulator=emulator)


def version(api: str) -> dict[str, str]:
    return {"api-version": api}


def test_workspaces_and_computes_are_listed_as_cloud_custodian_asks(client: Client) -> None:
    found = client("GET", WORKSPACES, **version("2023-04-01"))["value"]
    assert [each["name"] for each in found] == ["ws-vision"]
    computes = client("GET", f"{WORKSPACE_ID}/computes", **version("2023-04-01"))["value"]
    assert {each["name"] for each in computes} >= {"gpu-kept", "ci-forgotten"}


def test_metrics_are_answered_in_the_shape_of_their_old_version(client: Client) -> None:
    now = datetime.now(UTC)
    answer = client(
        "GET",
        f"{WORKSPACE_ID}/providers/microsoft.insights/metrics",
        timespan=f"{now - timedelta(days=7):%Y-%m-%d %H:%M:%S}/{now:%Y-%m-%d %H:%M:%S}",
        interval="PT1H",
        metricnames="Idle Nodes",
        aggregation="average",
        **{"$filter": "ClusterName eq '*'"},
        **version("2018-01-01"),
    )
    series = {
        each["metadatavalues"][0]["value"]: [point.get("average") for point in each["data"]]
        for each in answer["value"][0]["timeseries"]
    }
    assert max(value or 0 for value in series["gpu-kept"]) == 2
    example = recorded("azure/examples/rec-insights-metrics.json")[0]["response"]["body"]
    assert set(answer) >= set(example)
    assert set(answer["value"][0]) >= set(example["value"][0])


def test_costs_are_answered_in_the_shape_of_their_old_version(client: Client) -> None:
    body = {
        "type": "ActualCost",
        "timeframe": "Custom",
        "timePeriod": {
            "from": f"{datetime.now(UTC) - timedelta(days=7):%Y-%m-%dT00:00:00.000Z}",
            "to": f"{datetime.now(UTC):%Y-%m-%dT00:00:00.000Z}",
        },
        "dataset": {
            "aggregation": {"totalCost": {"name": "PreTaxCost", "function": "Sum"}},
            "grouping": [{"type": "Dimension", "name": "ResourceId"}],
            "filter": {
                "dimensions": {
                    "name": "ResourceType",
                    "operator": "In",
                    "values": ["Microsoft.MachineLearningServices/workspaces"],
                }
            },
        },
    }
    path = f"/subscriptions/{SUBSCRIPTION}/providers/Microsoft.CostManagement/query"
    properties = client("POST", path, body, **version("2019-11-01"))["properties"]
    example = recorded("azure/examples/rec-costmanagement-query-resource.json")
    columns = example[0]["response"]["body"]["properties"]["columns"]
    assert properties["columns"] == columns
    (row,) = properties["rows"]
    assert row[0] > 1000
    assert row[1:] == [WORKSPACE_ID.lower(), "USD"]


def test_the_versions_that_were_sent_are_counted(client: Client) -> None:
    client("GET", WORKSPACES, **version("2023-04-01"))
    template = WORKSPACES.replace(SUBSCRIPTION, "{subscription}")
    assert client.emulator.requests()["by_version"][f"2023-04-01 GET {template}"]


def test_links_lead_where_the_client_came_from(client: Client) -> None:
    place = f"/subscriptions/{SUBSCRIPTION}/providers/Microsoft.CostManagement"
    day = f"{datetime.now(UTC) - timedelta(days=2):%Y-%m-%d}"
    answer = requests.post(
        f"{AZURE}{place}/generateCostDetailsReport?api-version=2025-03-01",
        json={"metric": "ActualCost", "timePeriod": {"start": day, "end": day}},
        headers={"Authorization": "Bearer any"},
        timeout=60,
    )
    link = answer.headers["Location"]
    assert link.startswith(f"{AZURE}{place}/costDetailsOperationResults/")
    assert client("GET", link)["manifest"]["blobs"][0]["blobLink"].startswith(f"{AZURE}/blob/")


def test_an_sdk_and_the_product_need_no_endpoint(client: Client) -> None:
    monitor = MonitorManagementClient(Credential("any"), SUBSCRIPTION)
    assert "Idle Nodes" in {
        each.name.value for each in monitor.metric_definitions.list(WORKSPACE_ID)
    }
    settings = AzureSettings(credential="emulator", ca_file=client.emulator.ca_file)
    door = connect(settings)
    assert [each["subscriptionId"] for each in door.arm.list("/subscriptions")]
    prices = "serviceName eq 'Virtual Machines' and armRegionName eq 'eastus'"
    assert list(door.prices.items(prices, currency="USD"))


@pytest.mark.usefixtures("client")
@pytest.mark.parametrize("host", ["login.microsoftonline.com", "management.azure.com:8443"])
def test_nothing_leaves_this_machine(host: str) -> None:
    with pytest.raises(requests.exceptions.ProxyError, match="403"):
        requests.get(f"https://{host}/", timeout=60)


@pytest.mark.usefixtures("client")
def test_only_tunnels_are_made() -> None:
    proxies = {"http": os.environ["HTTPS_PROXY"]}
    answer = requests.get("http://management.azure.com/", proxies=proxies, timeout=60)
    assert answer.status_code == 403


def test_it_ends_while_a_tunnel_is_open(small_estate: Path) -> None:
    with running(small_estate, "--proxy") as emulator, requests.Session() as session:
        assert emulator.proxy
        session.proxies = {"https": emulator.proxy}
        session.verify = str(emulator.ca_file)
        address = f"{AZURE}/subscriptions?api-version=2022-12-01"
        assert session.get(address, headers={"Authorization": "Bearer any"}, timeout=60).ok
        emulator.process.terminate()
        assert emulator.process.wait(timeout=30) == 0


def test_without_being_asked_there_is_no_proxy(small: Emulator) -> None:
    assert small.proxy is None


@pytest.mark.parametrize("days", [-400, -7, -1, 0, 1, 6, 7, 8, 300])
def test_an_estate_moves_by_whole_weeks_and_ends_now(small_estate: Path, days: int) -> None:
    estate = load_estate(small_estate)
    now = estate.now_utc + timedelta(days=days, hours=3)
    moved = dates.at(estate, now)
    by = moved.history_start_utc - estate.history_start_utc
    assert by % timedelta(weeks=1) == timedelta()
    # Less than a week of what had passed is to come.
    assert moved.now_utc == now
    assert timedelta() <= estate.now_utc + by - now < timedelta(weeks=1)
    for before, after in ((estate.jobs, moved.jobs), (estate.sessions, moved.sessions)):
        assert after.schema == before.schema
        column = next(name for name in before.column_names if name.endswith("_utc"))
        assert after[column][0].as_py() - before[column][0].as_py() == by


def test_today_is_the_clock_of_this_machine(client: Client) -> None:
    assert abs(client.emulator.now_utc - datetime.now(UTC)) < timedelta(minutes=5)


def test_the_recipe_names_what_the_benchmark_installs_and_sets() -> None:
    recipe = (ROOT / "docs" / "other-clients.md").read_text(encoding="utf-8")
    azure = benchmarks.closed_loop.Emulator("u", "ca", START_UTC, ("s",), "p")
    said = set(re.findall(r"export (\w+)=", recipe))
    assert said == benchmarks.real_client.variables(azure).keys()
    assert " ".join(benchmarks.real_client.CLIENT) in recipe
    assert str(benchmarks.real_client.POLICIES.relative_to(ROOT)) in recipe
