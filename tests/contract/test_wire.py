"""Every request that is sent, and every answer of the emulator, held to the schemas of Azure."""

import io
import json
from collections.abc import Iterator, Mapping
from contextlib import redirect_stdout
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from azure.mgmt.monitor.models import AutoscaleSettingResource

from optimizer import cli
from optimizer.azure.arm import IDLE_SHUTDOWN_API
from optimizer.remediation.documents import same
from tests.changes import apply_here, new_ledger, roll_back_here
from tests.conftest import running
from tests.contract.operations import OUTSIDE, Outside, check, known
from tests.contract.recorder import Exchange, exchanges
from tests.emulator.sdk import Sdk
from tests.estates import (
    START_UTC,
    autoscale,
    commitment,
    deployment,
    endpoint,
    quota,
    requests,
    scale_rule,
    workspace,
    write_small_estate,
)
from tests.every_kind import EVERY, EVERYTHING, connected, plan_for
from tests.every_kind import write as write_every_kind
from tests.recorded import recorded

API = "2025-12-01"
GROUP = "/subscriptions/s/resourceGroups/g"
WORKSPACE_ID = f"{GROUP}/providers/Microsoft.MachineLearningServices/workspaces/ws-vision"
ACCOUNT = "123456"
CLUSTER_ID = f"{WORKSPACE_ID}/computes/gpu-kept"


@pytest.fixture(scope="module")
def product(tmp_path_factory: pytest.TempPathFactory) -> list[Exchange]:
    """Return what is said while the product does its whole job, and undoes it."""
    folder = tmp_path_factory.mktemp("product")
    file = folder / "exchanges"
    vision = workspace("ws-vision")
    serving = endpoint(vision, traffic={"blue": 100})
    blue = deployment(serving)
    estate = write_small_estate(
        folder / "estate",
        more=[
            *(serving, blue, autoscale(blue, scale_rule("GreaterThan", 70, "Increase"))),
            quota(vision, "standardDSv2Family", 48),
            commitment(ACCOUNT, 97.5),
        ],
        requests=requests(blue, START_UTC + timedelta(days=20), 60, 30.0),
    )
    with (
        running(estate, file, program="tests.contract.recorder") as emulator,
        pytest.MonkeyPatch.context() as patch,
    ):
        for name, value in (emulator.environment | {"OPTIMIZER_HOME": str(folder)}).items():
            patch.setenv(name, value)
        (folder / "optimizer.toml").write_text(f'[azure]\nbilling_account = "{ACCOUNT}"\n')
        patch.chdir(folder)
        plan = folder / "plan.json"
        _optimizer("doctor", "--json")
        _optimizer("collect", "--days", "14", "--json")
        _optimizer("plan", "--out", str(plan), "--json")
        run = _optimizer("apply", str(plan), "--yes", "--json")
        _optimizer("verify", "--json")
        _optimizer("rollback", run["id"], "--json")
        emulator.advance(24)
        _optimizer("collect", "--days", "14", "--json")
    return _of_azure(file)


@pytest.fixture(scope="module")
def entities(tmp_path_factory: pytest.TempPathFactory) -> list[Exchange]:
    """Return what the SDKs say where somebody uses their own methods."""
    folder = tmp_path_factory.mktemp("entities")
    file = folder / "exchanges"
    estate = write_small_estate(folder / "estate")
    with running(estate, file, program="tests.contract.recorder") as emulator:
        sdk = Sdk(emulator)
        ml = sdk.ml("ws-vision")
        assert [each.name for each in ml.workspaces.list(scope="subscription")] == ["ws-vision"]
        assert len(list(ml.compute.list())) == 4
        cluster = ml.compute.get("gpu-kept")
        # With settings of a network that name no subnet, the SDK fails before it sends anything.
        cluster.network_settings = None
        cluster.min_instances = 0
        ml.compute.begin_create_or_update(cluster).result()
        ml.compute.begin_stop("ci-forgotten").result()
        ml.compute.begin_start("ci-forgotten").result()
        ml.compute.begin_delete("ci-guarded").result()
        for listed in (ml.compute.list_sizes(), ml.compute.list_usage(), ml.jobs.list()):
            assert list(listed)
        ml.compute.list_nodes("gpu-kept")
        list(ml.online_endpoints.list())
        list(ml.schedules.list())
        uri = cluster.id.rpartition("/computes/")[0]
        monitor = sdk.monitor()
        assert list(monitor.metric_definitions.list(uri))
        assert monitor.metrics.list(
            uri, metricnames="Idle Nodes,Active Nodes", interval="PT1H"
        ).value
        sdk.logs().query_resource(
            uri, "AmlComputeClusterEvent | take 1", timespan=timedelta(days=7)
        )
    return _of_azure(file)


@pytest.fixture(scope="module")
def changes(tmp_path_factory: pytest.TempPathFactory) -> list[Exchange]:
    """Return what is said while changes of every kind are made and put back."""
    folder = tmp_path_factory.mktemp("changes")
    file = folder / "exchanges"
    estate = write_every_kind(folder / "estate")
    with running(estate, file, program="tests.contract.recorder") as emulator:
        connection, ledger = connected(emulator), new_ledger(folder)
        plan = plan_for(connection, *EVERY)
        confirmed = [step.id for step in plan.steps if step.destructive]
        run = apply_here(plan, connection.arm, ledger, known=EVERYTHING, confirmed=confirmed)
        roll_back_here(run.id, connection.arm, ledger)
    return _of_azure(file)


def _optimizer(*arguments: str) -> Any:
    with redirect_stdout(io.StringIO()) as printed, pytest.raises(SystemExit) as ended:
        cli.main(list(arguments))
    assert not ended.value.code, arguments
    return json.loads(printed.getvalue())


def _of_azure(file: Path) -> list[Exchange]:
    return [each for each in exchanges(file) if not each.path.startswith("/emulator/")]


def test_whatever_the_product_says_and_hears_is_as_azure_has_it(product: list[Exchange]) -> None:
    assert list(check(product)) == []


def test_whatever_the_sdks_say_and_hear_is_as_azure_has_it(entities: list[Exchange]) -> None:
    assert list(check(entities)) == []


def test_whatever_a_change_says_and_hears_is_as_azure_has_it(changes: list[Exchange]) -> None:
    assert list(check(changes)) == []


def test_every_kind_of_write_was_seen(changes: list[Exchange]) -> None:
    seen = {(each.method, each.path.rpartition("/")[2]) for each in changes}
    assert seen >= {
        ("PATCH", "gpu-big"),
        ("PUT", "gpu-big"),
        ("PUT", "gpu-big-ds3-v2-lp"),
        ("DELETE", "gpu-big-ds3-v2-lp"),
        ("PUT", "ci-planned"),
        ("POST", "stop"),
        ("POST", "start"),
        ("PATCH", "wide"),
        ("PUT", "optimizer-ws-every-ep-waves"),
        ("DELETE", "optimizer-ws-every-ep-waves"),
        ("PUT", "scale-stuck"),
        ("DELETE", "ci-left"),
        ("DELETE", "silent"),
    }
    scaling = [e for e in changes if e.method == "PUT" and "/autoscaleSettings/" in e.path]
    for each in scaling:
        assert same(AutoscaleSettingResource.deserialize(each.body).serialize(), each.body)


def test_the_product_was_seen_at_all_its_work(product: list[Exchange]) -> None:
    seen = {(each.method, each.path.rpartition("/")[2]) for each in product}
    assert seen >= {
        ("GET", "subscriptions"),
        ("POST", "resources"),
        ("GET", "computes"),
        ("GET", "jobs"),
        ("GET", "schedules"),
        ("GET", "deployments"),
        ("GET", "autoscaleSettings"),
        ("GET", "diagnosticSettings"),
        ("GET", "usages"),
        ("GET", "benefitUtilizationSummaries"),
        ("POST", "query"),
        ("POST", "metrics:getBatch"),
        ("GET", "values"),
        ("POST", "generateCostDetailsReport"),
        ("GET", "prices"),
        ("PATCH", "gpu-kept"),
        ("POST", "updateIdleShutdownSetting"),
    }


def test_list_prices_have_no_name_that_azure_has_not(product: list[Exchange]) -> None:
    example = recorded("azure/examples/rec-retail-prices-one-sku-13-rows.json")
    known_names = {name for row in example["fullItems"] for name in row}
    pages = [each.answer["Items"] for each in product if each.path == "/api/retail/prices"]
    assert {name for page in pages for row in page for name in row} <= known_names


# The check itself must be able to fail.


def request(method: str = "GET", path: str = CLUSTER_ID, **fields: Any) -> Exchange:
    """Return a request that is right, and its answer, but for `fields`."""
    plain: dict[str, Any] = {
        "method": method,
        "address": f"{path}?api-version={API}",
        "path": path,
        "query": [("api-version", API)],
        "body": None,
        "status": 200,
        "links": [],
        "answer": compute(),
    }
    return Exchange(**(plain | fields))


def compute(**properties: Any) -> dict[str, Any]:
    """Return a cluster as Azure answers it, but for `properties`."""
    plain: dict[str, Any] = {
        "vmSize": "STANDARD_D2",
        "scaleSettings": {
            "maxNodeCount": 4,
            "minNodeCount": 0,
            "nodeIdleTimeBeforeScaleDown": "PT2M",
        },
    }
    return {
        "id": CLUSTER_ID,
        "name": "gpu-kept",
        "properties": {"computeType": "AmlCompute", "properties": plain | properties},
    }


def patch(scale: Mapping[str, Any]) -> Exchange:
    body = {"properties": {"properties": {"scaleSettings": dict(scale)}}}
    return request("PATCH", body=body)


def page(**fields: Any) -> Exchange:
    return request(path=f"{WORKSPACE_ID}/computes", answer={"value": [], **fields})


def test_a_request_and_an_answer_that_are_right_have_nothing_wrong() -> None:
    assert list(check([request(), patch({"maxNodeCount": 4, "minNodeCount": 0}), page()])) == []


@pytest.mark.parametrize(
    ("exchange", "says"),
    [
        (request(path="/a/path/of/nobody"), "is in no schema"),
        (request("DELETE", f"{WORKSPACE_ID}"), "is in no schema"),
        (request(query=[]), "has no api-version"),
        (request(query=[("api-version", "2019-01-01")]), "has the api-version 2019-01-01"),
        (request(query=[("api-version", API), ("expand", "all")]), "query parameter expand"),
        (request("POST", f"{CLUSTER_ID}/start", body={"now": True}), "takes none"),
        (patch({"minNodeCount": 0}), "'maxNodeCount' is a required property"),
        (patch({"maxNodeCount": 4, "minNodes": 0}), "'minNodes' was unexpected"),
        (patch({"maxNodeCount": "4"}), "'4' is not of type 'integer'"),
        (patch({"maxNodeCount": 4, "nodeIdleTimeBeforeScaleDown": "5m"}), "does not match"),
        (
            request("PUT", body=compute(allocationState="Steady")),
            "'allocationState' was unexpected",
        ),
        (request(answer=compute(idle="PT2M")), "'idle' was unexpected"),
        (request(answer=compute(allocationState="Sleeping")), "'Sleeping' is not one of"),
        (request(answer=compute(currentNodeCount="2")), "'2' is not of type 'integer'"),
        (page(skipToken="x"), "a page has skipToken"),
        (request(status=404, answer={"code": "NotFound"}), "has not Azure's shape"),
        (request("POST", f"{GROUP}/providers/Microsoft.Insights/metrics"), "is in no schema"),
        (
            request("POST", "/subscriptions/s/metrics:getBatch", body={"resourceids": []}),
            "lacks the query parameter metricnames",
        ),
        (
            request("POST", "/v1/workspaces/w/query", query=[], body={"kql": ""}, answer={}),
            "body has an unknown name kql",
        ),
        (
            request(
                "POST",
                f"{CLUSTER_ID}/updateIdleShutdownSetting",
                query=[("api-version", IDLE_SHUTDOWN_API)],
                body={"idleTime": "PT30M"},
                answer=None,
            ),
            "body has an unknown name idleTime",
        ),
    ],
)
def test_whatever_is_wrong_is_told(exchange: Exchange, says: str) -> None:
    found = list(check([exchange]))
    assert any(says in wrong for wrong in found), found
    assert {wrong.partition(": ")[0] for wrong in found} == {f"{exchange.method} {exchange.path}"}


def test_a_link_of_azure_may_carry_what_we_may_not_send() -> None:
    link = f"https://azure{WORKSPACE_ID}/computes?api-version={API}&%24skip=20&page=b"
    query = [("api-version", API), ("$skip", "20"), ("page", "b")]
    second = replace(page(), query=query, address=link.removeprefix("https://azure"))
    assert list(check([page(nextLink=link), second])) == []
    (wrong,) = check([second])
    assert "unknown query parameter page" in wrong


def test_what_is_in_no_schema_is_listed_with_the_reason_once() -> None:
    assert all(each.why for each in OUTSIDE)
    for each in _one_of_each():
        assert isinstance(known(each), Outside)


def _one_of_each() -> Iterator[Exchange]:
    subscription, insights = "/subscriptions/s", "/providers/Microsoft.Insights"
    place = f"{subscription}/providers/Microsoft.MachineLearningServices/locations/eastus"
    for path in (
        "/subscriptions",
        f"{place}/computeOperationsStatus/1",
        f"{subscription}{insights}/eventtypes/management/values",
        f"{WORKSPACE_ID}{insights}/diagnosticSettings",
        f"{GROUP}{insights}/autoscaleSettings",
        "/api/retail/prices",
        "/blob/costdetails/1/part0.csv",
    ):
        yield request(path=path)
    yield request("POST", f"{CLUSTER_ID}/updateIdleShutdownSetting")
    for method in ("GET", "PUT", "DELETE"):
        yield request(method, f"{GROUP}{insights}/autoscaleSettings/scale")
