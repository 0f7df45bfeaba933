"""Endpoints, deployments, autoscale settings and quotas, driven by the real SDKs."""

from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from azure.core.exceptions import HttpResponseError
from azure.core.rest import HttpRequest

from optimizer.emulator.telemetry_deployments import DEPLOYMENTS
from tests.conftest import Emulator
from tests.emulator.schemas import validate
from tests.emulator.sdk import WORKSPACE_ID, Sdk
from tests.estates import (
    START_UTC,
    SUBSCRIPTION,
    Arm,
    autoscale,
    cluster,
    deployment,
    endpoint,
    quota,
    requests,
    scale_rule,
    workspace,
    write_estate,
)

pytestmark = pytest.mark.filterwarnings("ignore::marshmallow.warnings.Marshmallow4Warning")

API = "api-version=2025-12-01"
MINUTE, HOUR = timedelta(minutes=1), timedelta(hours=1)
JOBS = "derived-machinelearningservices-workspaces-onlinedeployments-jobs-2025-12-01.json"
COMPUTE = "derived-machinelearningservices-compute-2025-12-01.json"

WS = workspace("ws")
EP = endpoint(WS, "ep", traffic={"blue": 90, "green": 10})
BLUE = deployment(EP, "blue", instances=2, concurrency=2, tags={"owner": "ana"})
GREEN = deployment(EP, "green")
SCALED = autoscale(GREEN, scale_rule("GreaterThan", 70, "Increase"), minimum=1, maximum=4)
PATH = f"{WORKSPACE_ID}/onlineEndpoints/ep/deployments"


def theirs() -> list[Arm]:
    """Return an attached Kubernetes cluster, its endpoint and a deployment on it."""
    attached = cluster(WS, "arc")
    attached["properties"] |= {
        "computeType": "Kubernetes",
        "resourceId": f"/subscriptions/{SUBSCRIPTION}/resourceGroups/rg-ml/providers"
        "/Microsoft.Kubernetes/connectedClusters/arc",
        "properties": {"namespace": "azureml", "defaultInstanceType": "defaultInstanceType"},
    }
    on_arc = endpoint(WS, "ep-arc")
    on_arc["kind"], on_arc["properties"]["compute"] = "K8S", attached["id"]
    pods = deployment(on_arc, "pods", sku="defaultInstanceType")
    pods["properties"]["endpointComputeType"] = "Kubernetes"
    return [attached, on_arc, pods]


@pytest.fixture(scope="module")
def served(
    emulator: Callable[[Path], Emulator], tmp_path_factory: pytest.TempPathFactory
) -> Emulator:
    subscription = {"id": f"/subscriptions/{SUBSCRIPTION}"}
    asked = requests(BLUE, START_UTC, 60, 240, service_ms=500)  # two of the four places
    return emulator(
        write_estate(
            tmp_path_factory.mktemp("estates") / "served",
            resources=[
                WS,
                EP,
                BLUE,
                GREEN,
                SCALED,
                cluster(WS, "c", minimum=1),
                cluster(WS, "low", minimum=2, priority="LowPriority"),
                quota(subscription, "Standard DSv2 Family", 100),
                quota(WS, "Standard DSv2 Family", 40),
                *theirs(),
            ],
            requests=asked,
            days=1,
            physics={"deployment_cpu_at_rest": 0.0},
        )
    )


@pytest.fixture(scope="module")
def ml(served: Emulator) -> Any:
    return Sdk(served).ml()


def test_azure_ai_ml_reads_endpoints_and_deployments(ml: Any) -> None:
    endpoints = {each.name: each for each in ml.online_endpoints.list()}
    assert set(endpoints) == {"ep", "ep-arc"}
    assert endpoints["ep"].traffic == {"blue": 90, "green": 10}
    blue = ml.online_deployments.get("blue", "ep")
    assert (blue.instance_type, blue.instance_count) == ("Standard_DS3_v2", 2)
    assert blue.request_settings.request_timeout_ms == 5000
    assert {each.name for each in ml.online_deployments.list("ep")} == {"blue", "green"}


def test_documents_are_what_the_schema_allows(served: Emulator) -> None:
    for path in (f"{PATH}/blue", f"{WORKSPACE_ID}/onlineEndpoints/ep"):
        document = served.call("GET", f"{path}?{API}")
        kind = "OnlineDeployment" if "/deployments/" in path else "OnlineEndpoint"
        validate(document, kind, JOBS)
    validate(document["properties"], "OnlineEndpointProperties", JOBS)


def test_an_attached_cluster_is_listed_with_the_rest(served: Emulator) -> None:
    listed = served.call("GET", f"{WORKSPACE_ID}/computes?{API}")["value"]
    kinds = {each["name"]: each["properties"]["computeType"] for each in listed}
    assert kinds == {"c": "AmlCompute", "low": "AmlCompute", "arc": "Kubernetes"}


# -- metrics -------------------------------------------------------------------------------------


def query(served: Emulator, *names: str, ids: list[str], **options: Any) -> Any:
    return (
        Sdk(served)
        .metrics()
        .query_resources(
            resource_ids=ids,
            metric_namespace=DEPLOYMENTS,
            metric_names=names,
            timespan=(START_UTC, START_UTC + 2 * HOUR),
            granularity=HOUR,
            aggregations=["Average", "Maximum"],
            **options,
        )
    )


def test_deployments_are_measured_in_batches(served: Emulator) -> None:
    results = query(
        served,
        "CpuUtilizationPercentage",
        "DeploymentCapacity",
        ids=[BLUE["id"], GREEN["id"]],
        filter="instanceId eq '*'",
        max_results=100,
    )
    shown = {
        (metric.id.split("/")[12], metric.name): [
            (series.metadata_values["instanceid"], [point.average for point in series.data])
            for series in metric.timeseries
        ]
        for result in results
        for metric in result.metrics
    }
    assert [name for name, _ in shown["blue", "DeploymentCapacity"]] == ["blue-0", "blue-1"]
    assert shown["green", "DeploymentCapacity"] == [("green-0", [1, 1])]
    for _, (first, second) in shown["blue", "CpuUtilizationPercentage"]:
        assert (first, second) == (pytest.approx(50, rel=0.02), 0)


def test_requests_and_latency(served: Emulator) -> None:
    (result,) = query(
        served, "RequestsPerMinute", "RequestLatency_P95", ids=[BLUE["id"]], max_results=10
    )
    told = {m.name: [p.average for p in m.timeseries[0].data] for m in result.metrics}
    assert told["RequestsPerMinute"] == [240, 0]
    # a = 2 on c = 4: C = 4/23, s = 500 ms, P95 = 500 + ln(C/0.05)/2 · 500.
    assert told["RequestLatency_P95"] == [pytest.approx(811.63, abs=0.01), None]


def test_one_deployment_has_definitions_and_units(served: Emulator) -> None:
    found = {
        each.name.value: each for each in Sdk(served).monitor().metric_definitions.list(BLUE["id"])
    }
    assert (found["CpuUtilizationPercentage"].unit, found["RequestLatency_P50"].unit) == (
        "Percent",
        "MilliSeconds",
    )
    assert [d.value for d in found["DeploymentCapacity"].dimensions] == ["instanceId", "State"]


def test_one_batch_has_resources_of_one_type(served: Emulator) -> None:
    with pytest.raises(HttpResponseError, match="is not of type"):
        query(served, "RequestsPerMinute", ids=[BLUE["id"], WORKSPACE_ID])


def test_kubernetes_deployments_are_not_measured(served: Emulator) -> None:
    with pytest.raises(HttpResponseError, match="has no metrics here"):
        query(
            served,
            "RequestsPerMinute",
            ids=[f"{WORKSPACE_ID}/onlineEndpoints/ep-arc/deployments/pods"],
        )


# -- writes --------------------------------------------------------------------------------------


@pytest.fixture
def fresh(emulator: Callable[[Path], Emulator], tmp_path: Path) -> Emulator:
    resources = [WS, EP, BLUE, GREEN, SCALED]
    return emulator(write_estate(tmp_path / "fresh", resources=resources, days=1))


@pytest.fixture
def slow(served: Emulator) -> Iterator[Emulator]:
    served.fault(method="PATCH", delay_lro=1)
    yield served
    served.heal()


def capacity(emulator: Emulator, name: str) -> int:
    return int(emulator.call("GET", f"{PATH}/{name}?{API}")["sku"]["capacity"])


def test_a_capacity_is_patched_by_the_vendored_client(fresh: Emulator) -> None:
    ml = Sdk(fresh).ml()
    body = {"sku": {"name": "Default", "capacity": 4}}
    before = fresh.advance(0)
    poller = ml.online_deployments._online_deployment.begin_update(
        "rg-ml", "ws", "ep", "blue", body, polling_interval=0
    )
    poller.wait()
    assert capacity(fresh, "blue") == 4
    bill = fresh.bill(before, fresh.advance(2))["by_resource"]
    assert bill[BLUE["id"]] == pytest.approx(4 * 2 * 0.25)


def test_while_a_patch_is_under_way_the_deployment_says_so(slow: Emulator) -> None:
    state = slow.call("PATCH", f"{PATH}/green?{API}", {"sku": {"name": "Default", "capacity": 2}})
    assert state["properties"]["provisioningState"] == "Updating"
    shown = slow.call("GET", f"{PATH}/green?{API}")
    assert shown["properties"]["provisioningState"] == "Updating"


@pytest.mark.parametrize("sku", [{}, {"capacity": 0}, {"capacity": "3"}])
def test_a_capacity_is_a_count(served: Emulator, sku: Arm) -> None:
    assert served.refusal("PATCH", f"{PATH}/blue?{API}", {"sku": sku})[0] == 400


def test_a_deployment_is_put_and_deleted(fresh: Emulator) -> None:
    new = deployment(EP, "red", instances=3)
    fresh.call("PUT", f"{PATH}/red?{API}", {k: new[k] for k in ("location", "sku", "properties")})
    assert capacity(fresh, "red") == 3
    fresh.call("DELETE", f"{PATH}/red?{API}")
    assert fresh.refusal("GET", f"{PATH}/red?{API}")[0] == 404


def test_autoscale_settings_by_the_sdk(fresh: Emulator) -> None:
    settings = Sdk(fresh).monitor().autoscale_settings
    (found,) = settings.list_by_subscription()
    assert found.target_resource_uri == GREEN["id"]
    assert found.profiles[0].rules[0].metric_trigger.time_window == 5 * MINUTE
    found.profiles[0].capacity.minimum = found.profiles[0].capacity.default = "3"
    settings.create_or_update("rg-ml", found.name, found)
    assert [each.name for each in settings.list_by_resource_group("rg-ml")] == [found.name]
    fresh.advance(0.1)
    assert capacity(fresh, "green") == 3
    settings.delete("rg-ml", found.name)
    assert list(settings.list_by_subscription()) == []
    with pytest.raises(HttpResponseError):
        settings.get("rg-ml", found.name)


# -- quotas and usages ---------------------------------------------------------------------------


def located(served: Emulator, what: str) -> dict[tuple[str, str], Arm]:
    path = f"/subscriptions/{SUBSCRIPTION}/providers/Microsoft.MachineLearningServices/locations"
    listed = served.call("GET", f"{path}/eastus/{what}?{API}")["value"]
    for each in listed:
        validate(each, "Usage" if what == "usages" else "ResourceQuota", COMPUTE)
    return {(each["type"].split("/", 1)[1], each["name"]["value"]): each for each in listed}


def test_usages_are_told_by_subscription_family_workspace_and_cluster(served: Emulator) -> None:
    found = located(served, "usages")
    told = {key: (each["currentValue"], each["limit"]) for key, each in found.items()}
    dedicated = "Standard DSv2 Family Cluster Dedicated vCPUs"
    assert told["vmFamily/usages", dedicated] == (4, 100)
    assert told["workspaces/usages", dedicated] == (4, 40)
    assert told["workspaces/computes/usages", dedicated] == (4, -1)
    low = "Standard DSv2 Family Cluster LowPriority vCPUs"
    assert told["vmFamily/usages", low] == (8, -1)
    assert told["lowPriorityCores/usages", "Total Cluster LowPriority Regional vCPUs"][0] == 8
    assert told["totalCores/usages", "Clusters"][0] == 2


def test_quotas_are_those_of_the_estate(served: Emulator) -> None:
    found = located(served, "quotas")
    name = "Standard DSv2 Family Cluster Dedicated vCPUs"
    assert found["vmFamily/quotas", name]["limit"] == 100
    assert found["workspaces/quotas", name]["limit"] == 40
    ids = {each["id"].split("/quotas/")[0] for each in found.values()}
    assert ids == {f"/subscriptions/{SUBSCRIPTION}", WORKSPACE_ID}


def test_the_sdk_lists_usages(ml: Any) -> None:
    assert len(list(ml.compute.list_usage(location="eastus"))) > 3


# -- costs ---------------------------------------------------------------------------------------


def test_tags_tell_the_deployment_of_a_cost(served: Emulator) -> None:
    end = START_UTC + 24 * HOUR
    body = {
        "type": "ActualCost",
        "timeframe": "Custom",
        "timePeriod": {"from": START_UTC.isoformat(), "to": end.isoformat()},
        "dataset": {
            "granularity": "None",
            "aggregation": {"cost": {"name": "Cost", "function": "Sum"}},
            "grouping": [{"type": "TagKey", "name": "azuremldeployment"}],
        },
    }
    client = Sdk(served).costs()
    url = f"/subscriptions/{SUBSCRIPTION}/providers/Microsoft.CostManagement/query"
    answer = client.send_request(
        HttpRequest("POST", f"{served.url}{url}?api-version=2025-03-01", json=body)
    )
    billed = {row[2]: row[0] for row in answer.json()["properties"]["rows"]}
    assert billed["blue"] == pytest.approx(2 * 24 * 0.25)
    assert set(billed) == {"blue", "green", ""}
