"""Resource Graph, Log Analytics and the activity log, read with the SDKs."""

from datetime import timedelta

import pytest
from azure.core.exceptions import HttpResponseError
from azure.mgmt.resourcegraph.models import QueryRequest, QueryRequestOptions

from tests.conftest import Emulator
from tests.emulator.sdk import WORKSPACE_ID, Sdk
from tests.estates import OTHER_SUBSCRIPTION, START_UTC, SUBSCRIPTION

WEEK = timedelta(days=7)
WORKSPACES = "resources | where type =~ 'Microsoft.MachineLearningServices/Workspaces'"


def graph(sdk: Sdk, query: str, **options: object) -> list[dict[str, object]]:
    request = QueryRequest(query=query, options=QueryRequestOptions(**options))
    found: list[dict[str, object]] = sdk.graph().resources(request).data
    return found


def test_the_graph_finds_workspaces_of_all_subscriptions(small: Emulator) -> None:
    rows = graph(Sdk(small), f"{WORKSPACES} | project name, subscriptionId | order by name asc")
    assert [row["name"] for row in rows] == ["ws-speech", "ws-vision"]


def test_the_graph_narrows_to_a_subscription(small: Emulator) -> None:
    rows = graph(Sdk(small), f"{WORKSPACES} and subscriptionId == '{OTHER_SUBSCRIPTION}'")
    assert [row["name"] for row in rows] == ["ws-speech"]


def test_the_graph_pages_by_token(small: Emulator) -> None:
    client = Sdk(small).graph()
    options = QueryRequestOptions(top=1)
    first = client.resources(QueryRequest(query=WORKSPACES, options=options))
    options.skip_token = first.skip_token
    second = client.resources(QueryRequest(query=WORKSPACES, options=options))
    assert (first.total_records, second.skip_token) == (2, None)
    assert {row["name"] for row in first.data + second.data} == {"ws-vision", "ws-speech"}


@pytest.mark.parametrize("query", ["resources | extend a = 1", "advisorresources | take 1"])
def test_the_graph_refuses_what_it_cannot_read(sdk: Sdk, query: str) -> None:
    with pytest.raises(HttpResponseError, match="invalid"):
        graph(sdk, query)


def test_cluster_events_tell_of_every_change(sdk: Sdk) -> None:
    query = (
        "AmlComputeClusterEvent | where ClusterName == 'gpu' | order by TimeGenerated asc "
        "| project TimeGenerated, RunningNodeCount, IdleNodeCount, PreemptedNodeCount"
    )
    (table,) = sdk.logs().query_resource(WORKSPACE_ID, query, timespan=WEEK).tables
    hours = [
        ((row["TimeGenerated"] - START_UTC) / timedelta(hours=1), row[1], row[2], row[3])
        for row in table.rows
    ]
    assert hours[:4] == [(0, 0, 0, "0"), (9, 1, 0, "0"), (10, 0, 1, "0"), (10 + 1 / 6, 0, 0, "0")]


def test_the_latest_event_of_each_cluster(small: Emulator) -> None:
    query = "AmlComputeClusterEvent | summarize arg_max(TimeGenerated, *) by ClusterName"
    (table,) = Sdk(small).logs().query_workspace("5" * 32, query, timespan=None).tables
    minimum = {row["ClusterName"]: row["MinimumNodeCount"] for row in table.rows}
    # ws-speech has no diagnostic setting, so its cluster is not told of.
    assert minimum == {"gpu-kept": 2, "cpu-slow": 0}


def test_instance_and_job_events(sdk: Sdk) -> None:
    logs = sdk.logs()
    stops = "AmlComputeInstanceEvent | where OperationName in~ ('x') or Level == 'y'"
    with pytest.raises(HttpResponseError, match="could not be parsed"):
        logs.query_resource(WORKSPACE_ID, stops, timespan=WEEK)
    query = "AmlComputeJobEvent | where EventType == 'JobStarted' | project NodeId"
    (table,) = logs.query_resource(WORKSPACE_ID, query, timespan=WEEK).tables
    assert len(table.rows) == 3  # one node for the first job, two for the second


def test_the_timespan_bounds_the_rows(sdk: Sdk) -> None:
    period = (START_UTC + timedelta(hours=9), START_UTC + timedelta(hours=10))
    query = "AmlComputeClusterEvent | project RunningNodeCount"
    (table,) = sdk.logs().query_resource(WORKSPACE_ID, query, timespan=period).tables
    assert [row[0] for row in table.rows] == [1, 0]


def test_without_diagnostics_there_is_no_table(bare: Emulator) -> None:
    with pytest.raises(HttpResponseError, match="BadArgumentError"):
        Sdk(bare).logs().query_resource(WORKSPACE_ID, "AmlComputeClusterEvent", timespan=WEEK)


def test_the_activity_log_tells_who_stopped_what(sdk: Sdk) -> None:
    asked = "eventTimestamp ge '2026-01-05T00:00:00Z' and eventTimestamp le '2026-01-06T00:00:00Z'"
    events = list(sdk.monitor().activity_logs.list(filter=asked))
    assert [
        (event.operation_name.value.split("/", 3)[3], event.event_name.value, event.status.value)
        for event in events
    ] == [
        ("stop/action", "EndRequest", "Succeeded"),
        ("stop/action", "BeginRequest", "Started"),
        ("start/action", "EndRequest", "Succeeded"),
        ("start/action", "BeginRequest", "Started"),
    ]
    assert [event.event_timestamp - START_UTC for event in events] == [
        timedelta(hours=11),
        timedelta(hours=11),
        timedelta(hours=9),
        timedelta(hours=9),
    ]
    assert [event.operation_id == events[0].operation_id for event in events] == [
        True,
        True,
        False,
        False,
    ]
    assert len({event.event_data_id for event in events}) == 4
    assert events[0].caller == "ana@contoso.com"


def test_the_idle_rule_stops_in_nobodys_name(small: Emulator) -> None:
    asked = (
        "eventTimestamp ge '2026-01-05T00:00:00Z' and eventTimestamp le '2026-01-06T00:00:00Z' "
        "and resourceGroupName eq 'rg-ml'"
    )
    events = list(Sdk(small).monitor().activity_logs.list(filter=asked))
    guarded = {e.operation_name.localized_value: e for e in events if "guarded" in e.resource_id}
    assert guarded["Stop"].properties["operationTrigger"] == "IdleShutdown"
    assert "@" not in guarded["Stop"].caller


@pytest.mark.parametrize("asked", ["eventTimestamp ge '2025-09-01T00:00:00Z'", "status eq 'x'"])
def test_the_activity_log_reaches_back_ninety_days(sdk: Sdk, asked: str) -> None:
    with pytest.raises(HttpResponseError):
        list(sdk.monitor().activity_logs.list(filter=asked))


def test_a_union_has_the_columns_of_all_its_parts(sdk: Sdk) -> None:
    query = (
        "union isfuzzy=true (AmlComputeClusterEvent | where ClusterName == 'gpu' "
        "| summarize arg_max(TimeGenerated, *) by ClusterName | project Type, ClusterName), "
        "(AmlComputeJobEvent | where EventType == 'JobStarted' | project Type, NodeId), "
        "NeverFilled | order by Type asc"
    )
    (table,) = sdk.logs().query_resource(WORKSPACE_ID, query, timespan=WEEK).tables
    assert table.columns == ["Type", "ClusterName", "NodeId"]
    kinds = [(row["Type"], row["ClusterName"], row["NodeId"] is None) for row in table.rows]
    assert kinds == [
        ("AmlComputeClusterEvent", "gpu", True),
        *[("AmlComputeJobEvent", None, False)] * 3,
    ]


def test_a_log_analytics_workspace_holds_what_is_sent_there(small: Emulator) -> None:
    logs = Sdk(small).logs()
    query = "AmlComputeClusterEvent | summarize arg_max(TimeGenerated, *) by _ResourceId"
    place = "/providers/Microsoft.OperationalInsights/workspaces/logs"
    (table,) = logs.query_resource(
        f"/subscriptions/{SUBSCRIPTION}/resourceGroups/rg-ml{place}", query, timespan=None
    ).tables
    assert [row["_ResourceId"].endswith("/ws-vision") for row in table.rows] == [True]
    with pytest.raises(HttpResponseError, match="was not found"):
        logs.query_resource(
            f"/subscriptions/{OTHER_SUBSCRIPTION}/resourceGroups/x{place}", query, timespan=None
        )
