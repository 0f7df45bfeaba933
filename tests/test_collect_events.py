from datetime import UTC, datetime
from typing import Any

import pandas as pd
import pytest

from optimizer.collectors.events import event_row, job_row, last_operation_row, over_and_open
from optimizer.collectors.inventory import compute_resource, workspace_resource
from tests.estates import instance, workspace

AT = "2026-01-05T09:00:00.5Z"
PROVIDER = "Microsoft.MachineLearningServices/workspaces/computes"


def event(action: str = "stop/action", status: str = "Succeeded", **rest: Any) -> dict[str, Any]:
    return {
        "operationName": {"value": f"{PROVIDER}/{action}"},
        "status": {"value": status},
        "resourceId": "/Sub/WS/computes/CI",
        "eventTimestamp": AT,
    } | rest


def test_the_end_of_an_operation_is_a_row() -> None:
    assert event_row(event(properties={"operationTrigger": "Schedule"})) == {
        "resource_id": "/sub/ws/computes/ci",
        "at_utc": datetime(2026, 1, 5, 9, tzinfo=UTC),
        "operation": "Stop",
        "trigger": "Schedule",
        "status": "Succeeded",
    }


@pytest.mark.parametrize(
    "other",
    [
        event(status="Started"),
        event(status="Accepted"),
        event(action="listKeys/action"),
        event(operationName={"value": "Microsoft.MachineLearningServices/workspaces/write"}),
    ],
)
def test_other_events_are_passed_over(other: dict[str, Any]) -> None:
    assert event_row(other) is None


def test_the_beginning_of_a_start_is_a_row_too() -> None:
    row = event_row(event("start/action", "Started"))
    assert row
    assert (row["operation"], row["status"]) == ("Start", "Started")
    assert event_row(event("start/action", "Accepted")) is None


def test_who_did_it_may_not_be_told() -> None:
    row = event_row(event("start/action"))
    assert row
    assert (row["operation"], row["trigger"]) == ("Start", None)


def test_the_last_operation_stands_in_the_document() -> None:
    document = instance(workspace())
    last = {
        "operationName": "Stop",
        "operationTime": AT,
        "operationStatus": "Succeeded",
        "operationTrigger": "IdleShutdown",
    }
    document["properties"]["properties"]["lastOperation"] = last
    found = compute_resource(document, workspace_resource(workspace()), {})
    assert found
    row = last_operation_row(found)
    assert row
    assert (row["operation"], row["trigger"]) == ("Stop", "IdleShutdown")


def job(**properties: Any) -> dict[str, Any]:
    return {
        "id": "/Sub/WS/jobs/Child",
        "name": "Child",
        "systemData": {"createdBy": "ana", "createdAt": AT},
        "properties": {"jobType": "Command", "status": "Completed"} | properties,
    }


def test_a_job_is_read_with_its_limits() -> None:
    row = job_row(
        job(
            computeId="/Sub/WS/computes/GPU",
            resources={"instanceCount": 4},
            limits={"timeout": "PT2H"},
            properties={"StartTimeUtc": AT, "azureml.parentRunId": "Parent"},
        )
    )
    assert (row["resource_id"], row["nodes"], row["time_limit_minutes"]) == (
        "/sub/ws/computes/gpu",
        4,
        120,
    )
    assert (row["parent_id"], row["ended_utc"]) == ("/sub/ws/jobs/parent", None)


def test_what_a_job_does_not_say_is_unknown() -> None:
    row = job_row({"id": "/Sub/WS/jobs/x", "properties": {}})
    unknown = {name for name, value in row.items() if value is None}
    assert unknown == set(row) - {"job_id", "kind"}


def test_only_a_sweep_can_end_early() -> None:
    policy = {"policyType": "Bandit"}
    ends = [
        job_row(job(jobType=kind, earlyTermination=policy))["has_early_termination"]
        for kind in ("Sweep", "Command")
    ]
    assert ends == [True, None]


def test_a_sweep_tells_what_its_trials_run_on() -> None:
    row = job_row(
        job(
            jobType="Sweep",
            trial={"resources": {"instanceCount": 2}},
            limits={"jobLimitsType": "Sweep", "timeout": "PT90M", "maxConcurrentTrials": 8},
        )
    )
    assert (row["nodes"], row["time_limit_minutes"], row["kind"]) == (2, 90, "sweep")


def test_jobs_are_over_or_open() -> None:
    ids = ["/ws/jobs/a", "/ws/jobs/b", "/ws2/jobs/c"]
    jobs = pd.DataFrame({"job_id": ids, "status": ["Failed", "Running", "Running"]})
    assert over_and_open(jobs, "/ws") == ({"/ws/jobs/a"}, {"/ws/jobs/b"})
