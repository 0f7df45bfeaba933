"""Inventory and writes, driven by azure-ai-ml and by the requests that Azure documents."""

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from azure.core.exceptions import HttpResponseError, ResourceNotFoundError

from optimizer.units import seconds_from_iso, utc
from tests.conftest import Emulator
from tests.emulator.schemas import validate
from tests.emulator.sdk import WORKSPACE_ID, Sdk
from tests.estates import (
    CPU_SKU,
    START_UTC,
    SUBSCRIPTION,
    cluster,
    instance,
    job,
    workspace,
    write_estate,
)

# azure-ai-ml is imported when first used: while it is, one of its libraries announces what its
# next version drops.
pytestmark = pytest.mark.filterwarnings("ignore::marshmallow.warnings.Marshmallow4Warning")

API = "api-version=2025-12-01"
IDLE_TIME = "nodeIdleTimeBeforeScaleDown"
JOBS_SCHEMA = "derived-machinelearningservices-workspaces-onlinedeployments-jobs-2025-12-01.json"
PREVIEW = "api-version=2025-01-01-preview"


@pytest.fixture(scope="module")
def busy(
    emulator: Callable[[Path], Emulator], tmp_path_factory: pytest.TempPathFactory
) -> Emulator:
    """Return an estate to write to: 21 clusters, an instance, and a job of each kind."""
    ws = workspace("ws")
    clusters = [cluster(ws, f"c{number:02d}", minimum=1) for number in range(21)]
    day = timedelta(days=1)
    jobs = [
        job(clusters[0], START_UTC + number * day, kind=kind, user="ana", experiment=kind)
        for number, kind in enumerate(("command", "sweep", "pipeline", "batch"))
    ]
    bounded: Any = {"kind": "sweep", "experiment": "sweep", "early_termination": "Bandit"}
    jobs.append(job(clusters[1], START_UTC, job_id="bounded", time_limit_minutes=30, **bounded))
    folder = tmp_path_factory.mktemp("estates") / "busy"
    resources = [ws, *clusters, instance(ws, "ci")]
    return emulator(write_estate(folder, resources=resources, jobs=jobs, days=5))


@pytest.fixture(scope="module")
def ml(busy: Emulator) -> Any:
    return Sdk(busy).ml()


def compute(emulator: Emulator, name: str) -> dict[str, Any]:
    found: dict[str, Any] = emulator.call("GET", f"{WORKSPACE_ID}/computes/{name}?{API}")
    settings: dict[str, Any] = found["properties"]["properties"]
    return settings


def entity(name: str, **settings: Any) -> Any:
    from azure.ai.ml.entities import AmlCompute  # noqa: PLC0415

    return AmlCompute(name=name, size=CPU_SKU, **settings)


def scale(minimum: int, maximum: int, idle: str) -> dict[str, Any]:
    settings = {
        "minNodeCount": minimum,
        "maxNodeCount": maximum,
        IDLE_TIME: idle,
    }
    return {"properties": {"properties": {"scaleSettings": settings}}}


def test_workspaces_by_group_and_subscription(ml: Any) -> None:
    assert [each.name for each in ml.workspaces.list()] == ["ws"]
    assert [each.name for each in ml.workspaces.list(scope="subscription")] == ["ws"]


def test_computes_come_in_pages_of_twenty(ml: Any, busy: Emulator) -> None:
    first = busy.call("GET", f"{WORKSPACE_ID}/computes?{API}")
    assert len(first["value"]) == 20
    assert first["nextLink"].startswith(busy.url)
    kinds = [type(each).__name__ for each in ml.compute.list()]
    assert (kinds.count("AmlCompute"), kinds.count("ComputeInstance")) == (21, 1)


def test_nodes_that_are_there_are_counted(busy: Emulator) -> None:
    found = compute(busy, "c05")
    assert found["currentNodeCount"] == 1
    assert found["nodeStateCounts"]["idleNodeCount"] == 1


def test_a_time_limit_ends_a_job_and_stands_in_its_document(busy: Emulator) -> None:
    found = busy.call("GET", f"{WORKSPACE_ID}/jobs/bounded?{API}")["properties"]
    assert (found["status"], found["limits"]["timeout"]) == ("Canceled", "PT30M")
    assert found["earlyTermination"]["policyType"] == "Bandit"
    bag = found["properties"]
    assert utc(bag["EndTimeUtc"]) - utc(bag["StartTimeUtc"]) == timedelta(minutes=30)
    validate(found, "SweepJob", JOBS_SCHEMA)


def test_a_patch_takes_effect_and_ends(ml: Any, busy: Emulator) -> None:
    body = scale(0, 4, "PT5M")
    # The public client has no PATCH; this is the one inside it.
    poller = ml.compute._operation.begin_update("rg-ml", "ws", "c01", body, polling_interval=0)
    assert poller.result().properties.properties.scale_settings.min_node_count == 0
    assert compute(busy, "c01")["scaleSettings"] == {
        "minNodeCount": 0,
        "maxNodeCount": 4,
        IDLE_TIME: "PT5M",
    }


def test_a_full_put_by_the_sdk(ml: Any, busy: Emulator) -> None:
    wanted = entity("c02", min_instances=0, max_instances=4, idle_time_before_scale_down=300)
    assert ml.compute.begin_create_or_update(wanted).result().min_instances == 0
    assert seconds_from_iso(compute(busy, "c02")["scaleSettings"][IDLE_TIME]) == 300


def test_a_put_changes_no_size(busy: Emulator) -> None:
    path = f"{WORKSPACE_ID}/computes/c03?{API}"
    document = busy.call("GET", path)
    document["properties"]["properties"]["vmSize"] = "Standard_NC6s_v3"
    status, error = busy.refusal("PUT", path, document)
    assert (status, "vmSize" in error["message"]) == (400, True)


def test_a_new_compute_and_its_end(ml: Any) -> None:
    made = ml.compute.begin_create_or_update(entity("fresh", max_instances=2))
    assert made.result().max_instances == 2
    ml.compute.begin_delete("fresh").wait()
    with pytest.raises(ResourceNotFoundError):
        ml.compute.get("fresh")


def test_start_and_stop(ml: Any, busy: Emulator) -> None:
    ml.compute.begin_start("ci").wait()
    assert compute(busy, "ci")["state"] == "Running"
    ml.compute.begin_stop("ci").wait()
    assert compute(busy, "ci")["state"] == "Stopped"
    assert compute(busy, "ci")["lastOperation"]["operationTrigger"] == "User"


def test_idle_shutdown_is_set_by_preview_versions_only(busy: Emulator) -> None:
    path = f"{WORKSPACE_ID}/computes/ci/updateIdleShutdownSetting"
    body = {"idleTimeBeforeShutdown": "PT60M"}
    assert busy.refusal("POST", f"{path}?{API}", body)[0] == 404
    assert busy.call("POST", f"{path}?{PREVIEW}", body) == {}
    assert compute(busy, "ci")["idleTimeBeforeShutdown"] == "PT60M"
    too_short = {"idleTimeBeforeShutdown": "PT14M"}
    assert busy.refusal("POST", f"{path}?{PREVIEW}", too_short)[0] == 400


@pytest.mark.parametrize(
    ("name", "body", "says"),
    [
        ("c04", {"properties": {"properties": {"scaleSettings": {"minNodeCount": 0}}}}, "required"),
        ("c04", scale(5, 4, "PT5M"), "between 0 and maxNodeCount"),
        ("c04", scale(0, 4, "5 minutes"), "ISO 8601"),
        ("c04", {"tags": {"a": "b"}}, "scaleSettings only"),
        ("ci", scale(0, 4, "PT5M"), "Only an AmlCompute"),
    ],
)
def test_what_a_patch_refuses(busy: Emulator, name: str, body: object, says: str) -> None:
    status, error = busy.refusal("PATCH", f"{WORKSPACE_ID}/computes/{name}?{API}", body)
    assert status == 400
    assert says in error["message"]


def test_an_operation_can_be_slow(ml: Any, busy: Emulator) -> None:
    busy.fault(path_contains="/computes/c06", delay_lro=1, times=1)
    before = busy.requests()["by_api"]["arm"]
    operation = ml.compute._operation.begin_update("rg-ml", "ws", "c06", scale(0, 4, "PT5M"))
    assert operation.result().properties.provisioning_state == "Succeeded"
    assert busy.requests()["by_api"]["arm"] - before == 4  # PATCH, two polls, GET


def test_an_operation_can_fail_and_changes_nothing(ml: Any, busy: Emulator) -> None:
    busy.fault(path_contains="/computes/c07", fail_lro=True, times=1)
    operation = ml.compute._operation.begin_update("rg-ml", "ws", "c07", scale(0, 9, "PT5M"))
    with pytest.raises(HttpResponseError, match="The operation failed"):
        operation.result()
    assert compute(busy, "c07")["scaleSettings"]["maxNodeCount"] == 4


def test_jobs_of_every_kind_parse(ml: Any) -> None:
    found = {each.experiment_name: each for each in ml.jobs.list()}
    types = {name: each.type for name, each in found.items()}
    assert types == {
        "command": "command",
        "sweep": "sweep",
        "pipeline": "pipeline",
        "batch": "pipeline",
    }
    assert found["command"].creation_context.created_at == START_UTC


def test_a_job_tells_its_times(busy: Emulator) -> None:
    jobs = busy.call("GET", f"{WORKSPACE_ID}/jobs?{API}&jobType=Command")["value"]
    (bag,) = [each["properties"]["properties"] for each in jobs]
    assert bag["StartTimeUtc"] == "2026-01-05T00:00:00Z"
    assert bag["EndTimeUtc"] == "2026-01-05T01:00:00Z"


def test_what_is_empty(ml: Any) -> None:
    assert list(ml.schedules.list()) == []
    assert list(ml.online_endpoints.list()) == []


def test_sizes_and_their_prices(busy: Emulator) -> None:
    path = f"/subscriptions/{SUBSCRIPTION}/providers/Microsoft.MachineLearningServices/locations"
    sizes = {
        each["name"]: each for each in busy.call("GET", f"{path}/eastus/vmSizes?{API}")["value"]
    }
    size = sizes["Standard_NC6s_v3"]
    assert (size["family"], size["vCPUs"], size["gpus"]) == ("standardNCSv3Family", 6, 1)
    assert size["estimatedVMPrices"]["values"][0]["retailPrice"] == 3.0


def test_diagnostic_settings_belong_to_their_workspace(tiny: Emulator, busy: Emulator) -> None:
    path = f"{WORKSPACE_ID}/providers/Microsoft.Insights/diagnosticSettings?{API}"
    assert [each["name"] for each in tiny.call("GET", path)["value"]] == ["all"]
    assert busy.call("GET", path)["value"] == []


@pytest.mark.parametrize(
    ("path", "code"),
    [
        ("/subscriptions/0/resourceGroups", "SubscriptionNotFound"),
        (f"{WORKSPACE_ID}x", "ResourceNotFound"),
        (f"{WORKSPACE_ID}/computes/none", "ResourceNotFound"),
        ("/subscriptions/0/providers/Microsoft.Nothing/at/all", "NotFound"),
    ],
)
def test_what_is_not_there(tiny: Emulator, path: str, code: str) -> None:
    status, error = tiny.refusal("GET", f"{path}?{API}")
    assert (status, error["code"]) == (404, code)


def test_paths_do_not_mind_case(tiny: Emulator) -> None:
    assert tiny.call("GET", f"{WORKSPACE_ID.upper()}/COMPUTES/CI?{API}")["name"] == "ci"


def test_a_request_needs_its_api_version(tiny: Emulator) -> None:
    status, error = tiny.refusal("GET", f"{WORKSPACE_ID}/computes")
    assert (status, error["code"]) == (400, "MissingApiVersionParameter")


@pytest.mark.parametrize(
    ("name", "model"), [("gpu", "AmlComputeProperties"), ("ci", "ComputeInstanceProperties")]
)
def test_documents_have_the_shape_of_the_service(tiny: Emulator, name: str, model: str) -> None:
    file = "derived-machinelearningservices-compute-2025-12-01.json"
    validate(compute(tiny, name), model, file)
