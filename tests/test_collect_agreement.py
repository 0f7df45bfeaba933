from datetime import timedelta
from typing import Any

import numpy as np
import pandas as pd
import pytest

from optimizer.azure.monitor import MetricSeries
from optimizer.collectors.agreement import compared, instance_disagreements, node_hours
from optimizer.collectors.inventory import compute_resource, workspace_resource
from optimizer.model import Resource, Window
from tests.estates import START_UTC, cluster, instance, workspace

HOUR = timedelta(hours=1)
WINDOW = Window(start_utc=START_UTC, end_utc=START_UTC + 24 * HOUR)
GPU, CI = cluster(workspace(), "gpu"), instance(workspace(), "ci")


def named(document: dict[str, Any]) -> Resource:
    found = compute_resource(document, workspace_resource(workspace()), {})
    assert found
    return found


def logged(active: float, hours: float = 24) -> pd.DataFrame:
    minutes = pd.date_range(START_UTC, periods=round(hours * 60), freq="min")
    return pd.DataFrame(
        {"resource_id": GPU["id"].lower(), "minute_utc": minutes, "active": active, "idle": 0.0}
    )


def told(state: str, values: list[float], name: str = "GPU") -> MetricSeries:
    start = np.datetime64(START_UTC.replace(tzinfo=None), "s")
    return MetricSeries(
        resource_id=workspace()["id"].lower(),
        metric=f"{state} Nodes",
        dimensions={"clustername": name},
        times=start + np.arange(len(values)) * np.timedelta64(3600, "s"),
        average=np.array(values),
        maximum=np.array(values),
    )


@pytest.mark.parametrize(
    ("measured", "problems"),
    [
        ([2.0] * 24, 0),
        ([2.0] * 23 + [0.0], 0),  # 2 of 48 node-hours
        ([2.0] * 21 + [0.0] * 3, 1),  # 6 of 48
        ([4.0] * 12 + [0.0] * 12, 1),  # the same sum, and never agreed
        ([np.nan] * 24, 0),  # what was not measured does not disagree
        ([2.0] * 12 + [np.nan] * 12, 0),
    ],
)
def test_node_hours_are_compared_hour_by_hour(measured: list[float], problems: int) -> None:
    found = list(
        compared([told("Active", measured)], [named(GPU)], node_hours(logged(2.0), WINDOW), WINDOW)
    )
    assert len(found) == problems
    assert all(problem.scope == GPU["id"].lower() for problem in found)


def test_a_little_is_not_worth_a_word() -> None:
    few = [told("Active", [0.0] * 24)]
    assert not list(
        compared(few, [named(GPU)], node_hours(logged(0.04), WINDOW), WINDOW)
    )  # 0.96 node-hours


def test_hours_that_the_window_cuts_do_not_count() -> None:
    cut = Window(start_utc=START_UTC, end_utc=START_UTC + 2.5 * HOUR)
    series = [told("Active", [2.0, 2.0, 2.0 / 2])]
    assert not list(compared(series, [named(GPU)], node_hours(logged(2.0, hours=2.5), cut), cut))


def test_another_cluster_is_another_matter() -> None:
    series = [told("Active", [9.0] * 24, name="other")]
    assert not list(compared(series, [named(GPU)], node_hours(logged(2.0), WINDOW), WINDOW))


def frame(rows: list[dict[str, Any]]) -> pd.DataFrame:
    return pd.DataFrame([{"resource_id": CI["id"].lower(), **row} for row in rows])


def operation(hour: float, name: str, status: str = "Succeeded") -> dict[str, Any]:
    return {"at_utc": START_UTC + hour * HOUR, "operation": name, "status": status}


def seen(first: float, last: float) -> dict[str, Any]:
    return {"start_utc": START_UTC + first * HOUR, "end_utc": START_UTC + last * HOUR}


@pytest.mark.parametrize(
    ("events", "observed", "problems"),
    [
        ([operation(9, "Start"), operation(17, "Stop")], [seen(9, 17)], 0),
        ([operation(9, "Start"), operation(17, "Stop")], [seen(9, 18)], 1),
        ([operation(9, "Start"), operation(17, "Stop")], [seen(2, 3)], 0),  # before the first event
        ([operation(17, "Stop", "Failed")], [seen(9, 24)], 0),
        ([operation(17, "Stop"), operation(17, "Start")], [seen(9, 24)], 0),  # at once back on
        ([operation(12, "Stop"), operation(13, "Start")], [seen(9, 24)], 1),
        ([operation(17, "Stop")], [seen(9, 17.2)], 0),  # twelve minutes
    ],
)
def test_an_instance_is_not_used_while_it_is_stopped(
    events: list[dict[str, Any]], observed: list[dict[str, Any]], problems: int
) -> None:
    found = instance_disagreements([named(CI)], frame(events), frame(observed), WINDOW)
    assert len(list(found)) == problems
