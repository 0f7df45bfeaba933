"""Every recorded and documented payload of Azure goes through the code that reads its kind.

A payload without a reader fails by its name: it gets one here, or a reason why nobody reads it.
"""

import csv
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import orjson
import pytest

from optimizer.azure.access import CostRetryAfter, refusal
from optimizer.azure.costs import rows_of
from optimizer.azure.monitor import MetricQuestion, parse_batch
from optimizer.collectors.costs import query_row
from optimizer.collectors.events import job_row
from optimizer.collectors.exports import Metric, read_export
from optimizer.collectors.inventory import compute_resource, deployment_resource, workspace_resource
from optimizer.collectors.prices import price_rows
from optimizer.collectors.workspaces import quotas_of
from optimizer.model import Kind, Resource, Window
from tests.contract.operations import COMPUTE, COSTS, OPERATIONS
from tests.contract.playback import Recording, playing, recordings
from tests.emulator.schemas import wrongs
from tests.estates import deployment
from tests.recorded import SHARED, recorded

EXAMPLES = SHARED / "azure" / "examples"
DEMO = (
    "/subscriptions/00000000-0000-0000-0000-000000000000/resourcegroups/rg"
    "/providers/microsoft.machinelearningservices/workspaces"
)
CASSETTES = SHARED / "data" / "billing" / "aml_api_cassettes"
PAYLOADS = sorted(
    str(file.relative_to(SHARED))
    for pattern in ("rec-*", "spec-*", "doc-*")
    for file in EXAMPLES.glob(f"{pattern}.json")
) + sorted(str(file.relative_to(SHARED)) for file in CASSETTES.glob("*.json"))

Reader = Callable[[Any, Path], None]

NOT_READ: Mapping[str, str] = {
    "rec-advisor-recommendations": "Advisor has no recommendation for Azure ML (facts §8).",
    "rec-costmanagement-exports": "Exports are read as files, by `import cost`; none is listed.",
    "rec-costmanagement-export-runhistory": "The same.",
    "spec-compute-listNodes": "Nodes are counted from their states; single ones are not asked for.",
    "spec-compute-resize": "A size is changed by making the compute anew (facts §4.1).",
    "spec-compute-put-ComputeInstanceWithSchedules": "Instances are not made, only read.",
    "spec-quotas-list": "Usages tell the limit too, and how much of it is used.",
    "spec-cm-benefitRecommendations": "Of commitments their use is read, not Azure's advice.",
}


def workspaces_and_computes(found: Any, _: Path) -> None:
    computes_of([each["response"]["body"] for each in found])


def computes_of(bodies: list[Any]) -> None:
    home = workspace_resource(bodies[0]["value"][0])
    assert (home.name, home.region, home.state) == ("vvmlwrkspc", "eastus", "Succeeded")
    assert f"{home.created_utc:%F %T}" == "2022-08-31 08:12:07"
    compute = read(bodies[1]["value"][0], home, {"standard_d1_v2": "Standard_D1_v2"})
    assert (compute.kind, compute.sku, compute.vm_priority) == (
        Kind.CLUSTER,
        "Standard_D1_v2",
        "low_priority",
    )
    assert compute.workspace_id == home.resource_id
    assert compute.settings == {"min_nodes": 0, "max_nodes": 2, "idle_seconds": 120}


def jobs(found: Any, _: Path) -> None:
    jobs_of([each["response"]["body"] for each in found])


def jobs_of(bodies: list[Any]) -> None:
    (document,) = bodies[1]["value"]
    row = job_row(document)
    assert row["job_id"].endswith("/workspaces/cctest-mlws/jobs/cctest-sweep-job")
    assert (row["kind"], row["status"], row["has_early_termination"]) == ("sweep", None, False)


def endpoints(found: Any, _: Path) -> None:
    endpoints_of([each["response"]["body"] for each in found])


def endpoints_of(bodies: list[Any]) -> None:
    (of,) = bodies[1]["value"]
    home = workspace_resource(bodies[0]["value"][0])
    settings = deployment_resource(deployment(of), home, {}).settings
    assert (of["kind"], settings["endpoint"]) == ("Managed", "cctest-online-endpoint")
    assert settings["traffic_percent"] is None


def core_usages(found: Any, _: Path) -> None:
    home = replace(home_of("eastus"), resource_id=f"{DEMO}/demo_workspace1")
    quotas = quotas_of(home, found["responses"]["200"]["body"]["value"])
    assert [each["of"] for each in quotas] == [
        "totalCores",
        "dedicatedCores",
        "vmFamily",
        "workspaces",
        "lowPriorityCores",
        "vmFamily",
    ]
    assert (quotas[3]["used"], quotas[3]["limit"]) == (2, 24)
    # A family's low-priority cores have no limit of their own.
    assert (quotas[5]["used"], quotas[5]["limit"]) == (18, None)
    other = replace(home, resource_id=f"{DEMO}/another")
    assert len(quotas_of(other, found["responses"]["200"]["body"]["value"])) == 5


def cost_by_resource(found: Any, _: Path) -> None:
    cost_by_resource_of(found[0]["response"]["body"])


def cost_by_resource_of(body: Any) -> None:
    (row,) = rows_of(body["properties"])
    assert (row["PreTaxCost"], row["Currency"]) == (0.16403, "USD")
    assert query_row(row, {}) is None  # a virtual machine is no use of Azure ML


def cost_by_group(found: Any, _: Path) -> None:
    cost_by_group_of(found[0]["response"]["body"])


def cost_by_group_of(body: Any) -> None:
    cost = {row["ResourceGroupName"]: row["PreTaxCost"] for row in rows_of(body["properties"])}
    assert cost[""] == 1.852214  # what belongs to no group
    assert cost["anzolochteststrage"] == 6e-05


def cost_pages(found: Any, folder: Path) -> None:
    scope = "/providers/Microsoft.Billing/billingAccounts/70664866"
    first = found["responses"]["200"]["body"]
    rows = first["properties"]["rows"]
    last = {"properties": first["properties"] | {"nextLink": None, "rows": rows[:1]}}
    path = "/providers/Microsoft.CostManagement/query"
    asked = found["parameters"]["parameters"]
    assert wrongs(asked, "QueryDefinition", COSTS, sent=True) == []
    with playing(
        folder,
        Recording(method="POST", path=path, body=first),
        Recording(method="POST", path=path, body=last),
    ) as azure:
        told = list(azure.costs.query(scope, asked))
    assert [row["ResourceGroup"] for row in told] == [
        "JapanUnifia-Trial",
        "RVIIOT-TRIAL",
        "VSTSHOL-1595322048000",
        "JapanUnifia-Trial",
    ]


def cost_details(found: Any, folder: Path) -> None:
    path = "/costDetailsOperationResults/00000000-0000-0000-0000-000000000000"
    accepted = found["responses"]["202"]["headers"] | {"Retry-After": "0"}
    with playing(
        folder,
        Recording(method="POST", path="/generateCostDetailsReport", status=202, headers=accepted),
        Recording(method="GET", path=path, body=found["responses"]["200"]["body"]),
    ) as azure:
        days = date(2020, 3, 1), date(2020, 3, 15)
        links = azure.costs.report("/subscriptions/0", *days, metric="ActualCost")
    assert [link.partition("?")[0].rpartition("/")[0] for link in links] == [
        "https://ccmreportstorageeastus.blob.core.windows.net/armreports/00000"
    ]


def rate_limits(found: Any, _: Path) -> None:
    for name in found["429"]["headers-seen"]:
        headers = {name: "17", "x-ms-ratelimit-microsoft.costmanagement-qpu-consumed": "2"}
        answer = SimpleNamespace(status_code=429, headers=headers)
        CostRetryAfter().on_response(None, SimpleNamespace(http_response=answer))
        assert headers["Retry-After"] == "17"
    told = str(refusal(429, orjson.dumps(found["429"]["body"]), "the costs"))
    assert "Azure is throttling the costs (429): Too many requests. Please retry." in told


def lines_of_instances(found: Any, folder: Path) -> None:
    file = folder / "lines.csv"
    with file.open("w", newline="", encoding="utf-8") as text:
        writer = csv.DictWriter(text, list(found[0]))
        writer.writeheader()
        writer.writerows(found)
    rows = read_export(file, metric=Metric.AMORTIZED).kept
    assert {row["compute_name"] for row in rows} == {"azurepc", "samutrej1"}
    components = sorted(row["component"] for row in rows)
    assert components == ["bandwidth", "bandwidth", "disk", "ip", "load_balancer"]
    assert sum(row["effective_cost"] for row in rows) == pytest.approx(0.03006758)


def metrics_of_one(found: Any, folder: Path) -> None:
    machine = found[0]["request"]["uri"].partition("azure.com")[2].partition("/providers/micro")[0]
    day = Window(
        start_utc=datetime(2019, 5, 1, tzinfo=UTC), end_utc=datetime(2019, 5, 2, tzinfo=UTC)
    )
    question = MetricQuestion(
        metrics=["Percentage CPU"], filter="", window=day, grain=timedelta(hours=1)
    )
    with playing(folder, *recordings(found)) as azure:
        (one,) = azure.monitor.metrics("southcentralus", [machine], question)
    assert (one.metric, one.dimensions, one.resource_id) == ("Percentage CPU", {}, machine.lower())
    assert one.times.tolist() == [datetime(2019, 5, 1, 23, 59)]  # noqa: DTZ001
    assert one.average.tolist() == [3.1704730617608408]
    assert np.isnan(one.maximum).all()


def metrics_in_bulk(found: Any, _: Path) -> None:
    (one,) = parse_batch(orjson.dumps(found["response"]))
    assert one.dimensions == {"apiname": "EntityGroupTransaction"}
    assert one.resource_id.endswith("/storageaccounts/testaccount")
    assert one.maximum.tolist() == [10976, 10980]
    assert one.times[1] == np.datetime64("2023-04-21T12:00:00")


def resource_graph(found: Any, _: Path) -> None:
    data = found[0]["response"]["body"]["data"]
    names = [column["name"] for column in data["columns"]]
    machine = workspace_resource(dict(zip(names, data["rows"][0], strict=True)))
    assert (machine.name, machine.region, machine.state) == (
        "cctestvm",
        "southcentralus",
        "Succeeded",
    )
    assert machine.tags["testtag"] == "testvalue"


def list_prices(found: Any, _: Path) -> None:
    rows = price_rows(found["fullItems"], as_of=datetime(2026, 7, 1, tzinfo=UTC))
    prices = {(row["offer"], row["term"]): row["price_per_hour"] for row in rows}
    assert prices["payg", ""] == 0.673
    assert prices["reservation", "1y"] == pytest.approx(3478 / 8760)


def cluster(found: Any, _: Path) -> None:
    compute = read(found["responses"]["200"]["body"])
    assert (compute.kind, compute.state, compute.sku) == (Kind.CLUSTER, "Resizing", "STANDARD_NC6")
    assert compute.settings == {"min_nodes": 0, "max_nodes": 1, "idle_seconds": 300}


def instance(found: Any, _: Path) -> None:
    compute = read(found["responses"]["200"]["body"])
    assert (compute.kind, compute.state, compute.owner) == (
        Kind.INSTANCE,
        "Running",
        "foobar@microsoft.com",
    )
    assert compute.settings["ssh_public_access"] is True
    assert compute.settings["idle_shutdown_minutes"] is None


def patched(found: Any, _: Path) -> None:
    sent, said = found["parameters"]["parameters"], found["responses"]["200"]["body"]
    assert wrongs(sent, "ClusterUpdateParameters", COMPUTE, sent=True) == []
    scale = sent["properties"]["properties"]["scaleSettings"]
    assert scale == {"maxNodeCount": 4, "minNodeCount": 4, "nodeIdleTimeBeforeScaleDown": "PT5M"}
    # While it is being changed, Azure tells nothing of a cluster's own properties.
    assert (read(said).kind, read(said).sku, read(said).settings["max_nodes"]) == (
        Kind.CLUSTER,
        None,
        None,
    )


def put(found: Any, _: Path) -> None:
    assert wrongs(found["parameters"]["parameters"], "ComputeResource", COMPUTE, sent=True) == []
    compute = read(found["responses"]["200"]["body"])
    assert compute.settings["idle_seconds"] == 300
    assert found["responses"]["201"]["headers"].keys() == {"Azure-AsyncOperation"}


def idle_shutdown(found: Any, folder: Path) -> None:
    body = found["parameters"]["parameters"]
    assert body == {"idleTimeBeforeShutdown": "PT120M"}
    assert "body" not in found["responses"]["200"]
    with playing(folder, Recording(method="POST", path="/c/updateIdleShutdownSetting")) as azure:
        said = azure.arm.post("/c", "updateIdleShutdownSetting", body, api_version="v")
    assert said is None


def sizes(found: Any, folder: Path) -> None:
    body = found["responses"]["200"]["body"]
    with playing(folder, Recording(method="GET", path="/vmSizes", body=body)) as azure:
        first, *_ = azure.arm.list("/locations/eastus/vmSizes")
    assert (first["name"], first["vCPUs"], first["memoryGB"]) == ("Standard_DS1_v2", 1, 3.5)


def only_workspaces(bodies: list[Any]) -> None:
    found = {workspace_resource(each).name for each in bodies[0]["value"]}
    assert "mlvvtest" in found


def of_cassette(read_bodies: Callable[[list[Any]], None]) -> Reader:
    """Return a reader of a conversation as the cassettes keep it."""

    def reads(found: Any, _: Path) -> None:
        read_bodies([each["response"]["body"]["data"] for each in found["interactions"]])

    return reads


READERS: Mapping[str, Reader] = {
    "rec-aml-workspaces-and-computes-2020-08-01": workspaces_and_computes,
    "rec-aml-jobs": jobs,
    "rec-aml-online-endpoints": endpoints,
    "rec-costmanagement-query-resource": cost_by_resource,
    "rec-costmanagement-query-resourcegroup": cost_by_group,
    "rec-costmanagement-ratelimit-headers": rate_limits,
    "rec-ea-amortizedcost-azureml-rows": lines_of_instances,
    "rec-insights-metrics": metrics_of_one,
    "rec-resourcegraph-resources": resource_graph,
    "rec-retail-prices-one-sku-13-rows": list_prices,
    "spec-cm-costDetailsOperationResults": cost_details,
    "spec-cm-query-grouping": cost_pages,
    "spec-compute-get-AmlCompute": cluster,
    "spec-compute-get-ComputeInstance": instance,
    "spec-compute-patch": patched,
    "spec-compute-put-AmlCompute": put,
    "spec-compute-updateIdleShutdownSetting": idle_shutdown,
    "spec-usages-list": core_usages,
    "spec-vmSizes-list": sizes,
    "doc-metrics-getBatch": metrics_in_bulk,
    "CostFilterTest.test_cost_resource": of_cassette(lambda b: cost_by_resource_of(b[-1])),
    "CostFilterTest.test_cost_resource_group": of_cassette(lambda b: cost_by_group_of(b[-1])),
    "MachineLearningJobTest.machine-learning-jobs": of_cassette(jobs_of),
    "MachineLearningOnlineEndpointTest.machine-learning-online-endpoints": of_cassette(
        endpoints_of
    ),
    "MachineLearningWorkspaceComputeInstancesFilterTest.test_additional_attributes": of_cassette(
        computes_of
    ),
    "MachineLearningWorkspaceComputeInstancesFilterTest.test_query": of_cassette(computes_of),
    "MachineLearningWorkspaceTest.test_machine_learning_workspace_policy_run": of_cassette(
        only_workspaces
    ),
}


def read(
    document: Any, home: Resource | None = None, spelling: Mapping[str, str] | None = None
) -> Resource:
    """Return the compute of a document."""
    found = compute_resource(document, home or home_of("eastus"), spelling or {})
    assert found
    return found


def home_of(region: str) -> Resource:
    """Return a workspace that says nothing of itself."""
    return workspace_resource({"id": "/w", "name": "w", "location": region})


@pytest.mark.parametrize("payload", PAYLOADS)
def test_every_payload_is_read_or_the_reason_is_known(payload: str, tmp_path: Path) -> None:
    name = Path(payload).stem
    assert (name in READERS) != (name in NOT_READ), f"{payload}: give it a reader, or a reason"
    if name in READERS:
        READERS[name](recorded(payload), tmp_path)


@pytest.mark.skipif(not PAYLOADS, reason="the recorded payloads are not at hand")
def test_nothing_is_listed_that_is_not_there() -> None:
    assert {*READERS, *NOT_READ} == {Path(payload).stem for payload in PAYLOADS}


@pytest.mark.parametrize(
    ("payload", "model"),
    [
        ("spec-compute-get-AmlCompute", "ComputeResource"),
        ("spec-compute-get-ComputeInstance", "ComputeResource"),
        ("spec-compute-patch", "ComputeResource"),
        ("spec-compute-put-AmlCompute", "ComputeResource"),
        ("spec-compute-put-ComputeInstanceWithSchedules", "ComputeResource"),
        ("spec-vmSizes-list", "VirtualMachineSizeListResult"),
    ],
)
def test_the_check_of_the_emulator_takes_azures_own_answers(payload: str, model: str) -> None:
    found = recorded(f"azure/examples/{payload}.json")
    bodies = [each["body"] for each in found["responses"].values() if "body" in each]
    assert bodies
    for body in bodies:
        assert wrongs(body, model, COMPUTE) == []
    assert any(operation.answered == model for operation in OPERATIONS)


@pytest.mark.parametrize("payload", ["spec-cm-costDetailsOperationResults"])
def test_the_check_takes_azures_own_answers_on_costs(payload: str) -> None:
    found = recorded(f"azure/examples/{payload}.json")["responses"]["200"]["body"]
    assert wrongs(found, "CostDetailsOperationResults", COSTS) == []
