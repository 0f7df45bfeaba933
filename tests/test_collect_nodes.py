from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pytest

from optimizer.collectors.inventory import compute_resource, workspace_resource
from optimizer.collectors.nodes import minutes_from_log, node_log, step_means
from optimizer.model import Resource, Window
from optimizer.units import iso_utc
from tests.estates import cluster, workspace

NINE = datetime(2026, 1, 5, 9, tzinfo=UTC)
WINDOW = Window(start_utc=NINE, end_utc=NINE + timedelta(minutes=4))


def named(name: str) -> Resource:
    found = compute_resource(cluster(workspace(), name), workspace_resource(workspace()), {})
    assert found
    return found


def event(second: float, **counts: Any) -> dict[str, Any]:
    """Return a row of AmlComputeClusterEvent; Azure holds the preempted count as text."""
    states = ("Running", "Idle", "Preparing", "Leaving", "Unusable")
    return {
        "TimeGenerated": iso_utc(NINE + timedelta(seconds=second)),
        "ClusterName": "GPU",
        "PreemptedNodeCount": "0",
        **{f"{state}NodeCount": 0 for state in states},
        **{f"{state}NodeCount": count for state, count in counts.items()},
    }


def test_a_state_counts_by_its_share_of_the_minute() -> None:
    events = [event(-60, Idle=2), event(15, Running=2), event(75, Running=2, Preparing=1)]
    frame = minutes_from_log(node_log(events), [named("gpu")], WINDOW)
    assert frame["idle"].tolist() == pytest.approx([0.5, 0, 0, 0])
    assert frame["active"].tolist() == pytest.approx([1.5, 2, 2, 2])
    assert frame["preparing"].tolist() == pytest.approx([0, 0.75, 1, 1])
    assert frame["total"].tolist() == pytest.approx([2, 2.75, 3, 3])


def test_before_the_first_event_nothing_is_known() -> None:
    frame = minutes_from_log(node_log([event(90, Idle=1)]), [named("gpu")], WINDOW)
    assert frame["minute_utc"].tolist() == [NINE + timedelta(minutes=m) for m in (2, 3)]


def test_of_events_at_one_moment_the_last_one_holds() -> None:
    events = [event(-1, Idle=9), event(0, Idle=5), event(0, Idle=1)]
    frame = minutes_from_log(node_log(events), [named("gpu")], WINDOW)
    assert frame["idle"].tolist() == [1, 1, 1, 1]


def test_text_is_a_count_too() -> None:
    events = [event(-1) | {"PreemptedNodeCount": "3"}]
    assert (
        minutes_from_log(node_log(events), [named("gpu")], WINDOW)["preempted"].tolist() == [3] * 4
    )


def test_another_clusters_events_are_not_its_own() -> None:
    assert minutes_from_log(node_log([event(-1, Idle=1)]), [named("cpu")], WINDOW).empty


def test_means_equal_a_count_of_every_second() -> None:
    random = np.random.default_rng(3)
    at = np.sort(random.choice(np.arange(1, 3600), 50, replace=False))
    values = random.integers(0, 9, (50, 2)).astype(float)
    edges = np.arange(0, 3601, 60)
    by_second = values[np.searchsorted(at, np.arange(3600), side="right") - 1]
    by_second[: at[0]] = np.nan
    expected = by_second.reshape(60, 60, 2).mean(axis=1)
    np.testing.assert_allclose(step_means(at, values, edges), expected)
