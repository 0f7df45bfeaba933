from datetime import UTC, datetime, timedelta
from typing import Any

import pandas as pd
import pytest

from optimizer.collectors.inventory import compute_resource, workspace_resource
from optimizer.collectors.runs import RUNNING, STARTED_AGAIN, open_since, run_rows
from optimizer.model import Resource
from optimizer.units import iso_utc
from tests.estates import cluster, workspace

NINE = datetime(2026, 1, 5, 9, tzinfo=UTC)
HOUR = timedelta(hours=1)


def gpu() -> Resource:
    found = compute_resource(cluster(workspace(), "gpu"), workspace_resource(workspace()), {})
    assert found
    return found


def event(hours: float, state: str, node: str | None = None, **rest: Any) -> dict[str, Any]:
    return {
        "TimeGenerated": iso_utc(NINE + hours * HOUR),
        "JobId": "train",
        "ClusterName": "GPU",
        "NodeId": node,
        "EventType": f"Job{state}",
        "ExecutionState": state,
    } | rest


def rows(*events: dict[str, Any]) -> list[tuple[Any, ...]]:
    frame = run_rows(events, [gpu()])
    if frame.empty:
        return []
    frame = frame.sort_values(["started_utc", "node_id"])
    hours = [
        None if pd.isna(moment) else (moment - NINE) / HOUR
        for column in ("started_utc", "ended_utc")
        for moment in frame[column]
    ]
    starts, ends = hours[: len(frame)], hours[len(frame) :]
    states = [None if pd.isna(state) else state for state in frame["state"]]
    return list(zip(frame["node_id"], starts, ends, states, strict=True))


def test_a_run_ends_on_all_its_nodes_with_its_job() -> None:
    events = [
        event(0, "Queued"),
        event(0.1, "Running", "a"),
        event(0.1, "Running", "b"),
        event(2, "Failed"),
    ]
    assert rows(*reversed(events)) == [("a", 0.1, 2, "Failed"), ("b", 0.1, 2, "Failed")]


def test_a_node_may_be_done_before_the_others() -> None:
    events = [event(0, "Running", "a"), event(0, "Running", "b"), event(1, "Completed", "a")]
    assert rows(*events) == [("a", 0, 1, "Completed"), ("b", 0, None, RUNNING)]


def test_an_end_that_no_event_tells_is_unknown() -> None:
    events = [event(0, "Running", "a"), event(3, "Running", "b"), event(4, "Completed")]
    assert rows(*events) == [("a", 0, None, None), ("b", 3, 4, "Completed")]
    frame = run_rows(events, [gpu()])
    assert frame["reason"].tolist() == [STARTED_AGAIN, "JobCompleted"]


def test_back_on_its_node_it_had_left_it_by_then() -> None:
    events = [event(0, "Running", "a"), event(3, "Running", "a"), event(4, "Completed")]
    assert rows(*events) == [("a", 0, 3, None), ("a", 3, 4, "Completed")]


def test_news_of_a_run_that_goes_on_are_no_second_run() -> None:
    events = [event(0, "Running", "a"), event(0.01, "Running", "a", EventType="Ready")]
    assert rows(*events) == [("a", 0, None, RUNNING)]


@pytest.mark.parametrize("other", [{"ClusterName": "cpu"}, {"JobId": None}, {"NodeId": None}])
def test_what_cannot_be_placed_is_left_out(other: dict[str, Any]) -> None:
    assert rows(event(0, "Running", "a") | other) == []


def test_what_was_open_is_read_again() -> None:
    frame = pd.DataFrame(
        {
            "resource_id": ["/ws/computes/a", "/ws/computes/a", "/ws2/computes/a"],
            "started_utc": [NINE, NINE + HOUR, NINE - HOUR],
            "state": ["Completed", RUNNING, RUNNING],
        }
    )
    assert open_since(frame, "/ws") == NINE + HOUR
    assert open_since(frame, "/ws3") is None
