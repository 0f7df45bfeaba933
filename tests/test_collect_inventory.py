from typing import Any

import pytest

from optimizer.collectors.autoscale import by_target
from optimizer.collectors.inventory import (
    compute_resource,
    deployment_resource,
    managed,
    workspace_resource,
)
from optimizer.collectors.workspaces import logged_to
from optimizer.model import Kind, Resource
from tests.estates import (
    autoscale,
    cluster,
    deployment,
    diagnostics,
    endpoint,
    instance,
    scale_profile,
    scale_rule,
    workspace,
)

HOME = workspace_resource(workspace())


def read(document: dict[str, Any], **spelling: str) -> Resource:
    found = compute_resource(document, HOME, spelling)
    assert found
    return found


def changed(document: dict[str, Any], **properties: Any) -> dict[str, Any]:
    document["properties"]["properties"] |= properties
    return document


def test_ids_are_lower_case_and_the_document_is_kept_as_sent() -> None:
    document = workspace("WS-Vision")
    found = workspace_resource(document)
    assert found.resource_id == document["id"].lower()
    assert found.arm["id"] == document["id"]


@pytest.mark.parametrize(
    ("idle", "seconds"), [("PT120S", 120), ("PT2H", 7200), ("P1D", 86400), (None, 120)]
)
def test_idle_times_are_compared_as_seconds(idle: str | None, seconds: int) -> None:
    scale = {"minNodeCount": 1, "maxNodeCount": 3, "nodeIdleTimeBeforeScaleDown": idle}
    found = read(changed(cluster(workspace()), scaleSettings=scale))
    assert found.settings == {"min_nodes": 1, "max_nodes": 3, "idle_seconds": seconds}


@pytest.mark.parametrize(("idle", "minutes"), [("PT1H", 60), ("PT45M", 45), (None, None)])
def test_no_idle_shutdown_is_none(idle: str | None, minutes: int | None) -> None:
    found = read(instance(workspace(), idle_shutdown=idle))
    assert found.settings["idle_shutdown_minutes"] == minutes


def test_what_keeps_an_instance_awake_is_a_setting() -> None:
    schedule = {"action": "Stop", "status": "Enabled"}
    document = changed(
        instance(workspace(), schedules=[schedule]),
        sshSettings={"sshPublicAccess": "Enabled"},
        customServices=[{"name": "rstudio"}],
    )
    assert read(document).settings == {
        "idle_shutdown_minutes": None,
        "ssh_public_access": True,
        "custom_applications": ["rstudio"],
        "schedules": [schedule],
    }


@pytest.mark.parametrize(
    ("sent", "priority"), [("LowPriority", "low_priority"), ("Dedicated", "dedicated")]
)
def test_priorities_have_one_spelling(sent: str, priority: str) -> None:
    assert read(cluster(workspace(), priority=sent)).vm_priority == priority


@pytest.mark.parametrize(
    ("tags", "owner"),
    [
        ({"Owner": "ana"}, "ana"),
        ({"createdBy": "ben"}, "ben"),
        ({"owner": "", "contact": "cleo"}, "cleo"),
        ({"team": "vision"}, None),
    ],
)
def test_tags_name_the_owner(tags: dict[str, str], owner: str | None) -> None:
    assert read(cluster(workspace(), tags=tags)).owner == owner


def test_an_instance_belongs_to_who_made_it() -> None:
    assert read(instance(workspace())).owner == "Ana"


def test_attached_computes_are_passed_over() -> None:
    document = cluster(workspace())
    document["properties"]["computeType"] = "Kubernetes"
    assert compute_resource(document, HOME, {}) is None


def test_a_deployment_pays_for_its_instances() -> None:
    document = deployment(endpoint(workspace(), "e"), sku="STANDARD_DS3_V2", instances=3)
    spelling = {"standard_ds3_v2": "Standard_DS3_v2"}
    found = deployment_resource(document, HOME, spelling, {"blue": 40, "green": 60})
    assert (found.kind, found.sku, found.vm_priority) == (
        Kind.DEPLOYMENT,
        "Standard_DS3_v2",
        "dedicated",
    )
    assert found.settings == {
        "managed": True,
        "endpoint": "e",
        "instances": 3,
        "scale_type": "Default",
        "min_instances": None,
        "max_instances": None,
        "traffic_percent": 40,
        "max_concurrent_requests_per_instance": 1,
        "request_timeout_ms": 5000,
        "max_queue_wait_ms": 500,
    }


def test_a_deployment_on_kubernetes_has_no_size_that_could_be_priced() -> None:
    document = deployment(endpoint(workspace()), sku="defaultInstanceType")
    document["properties"] |= {
        "endpointComputeType": "Kubernetes",
        "scaleSettings": {"scaleType": "TargetUtilization", "minInstances": 1, "maxInstances": 4},
    }
    found = deployment_resource(document, HOME, {})
    assert (found.sku, found.vm_priority, found.settings["managed"]) == (None, None, False)
    assert (found.settings["min_instances"], found.settings["max_instances"]) == (1, 4)
    assert managed([found]) == ()


def test_an_autoscale_setting_in_numbers() -> None:
    blue = deployment(endpoint(workspace()))
    week = {"timeZone": "UTC", "days": ["Monday"], "hours": [8], "minutes": [0]}
    day = scale_profile("day", 2, 6, recurrence={"frequency": "Week", "schedule": week})
    rule = scale_rule("GreaterThan", 70, "Increase", by=2, cooldown="PT1H")
    found = by_target([autoscale(blue, rule, more=[day])])[blue["id"].lower()]
    assert (found["min"], found["max"], found["default"], found["enabled"]) == (1, 5, 1, True)
    assert [p["name"] for p in found["profiles"]] == ["day", "always"]
    assert found["profiles"][0]["recurrence"] == week
    assert found["profiles"][1]["rules"] == [
        {
            "metric": "CpuUtilizationPercentage",
            "operator": "GreaterThan",
            "threshold": 70,
            "aggregation": "Average",
            "statistic": "Average",
            "window_minutes": 5,
            "direction": "Increase",
            "type": "ChangeCount",
            "value": 2,
            "cooldown_minutes": 60,
        }
    ]


def test_only_logs_that_can_be_asked_for_count() -> None:
    everything = diagnostics(workspace())
    to_storage = diagnostics(workspace())
    to_storage["properties"] = {"logs": [{"category": "AmlComputeJobEvent", "enabled": True}]}
    off = diagnostics(workspace())
    off["properties"]["logs"] = [{"category": "AmlComputeClusterEvent", "enabled": False}]
    assert logged_to([to_storage, off]) == {}
    (target,) = logged_to([everything])["allLogs"]
    assert target.endswith("/workspaces/logs")
