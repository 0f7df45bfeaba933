"""Small estates with findings that overlap, need each other, or wait for each other."""

from dataclasses import replace
from typing import Any

from optimizer.analysis.result import Analysis
from tests.analysis.builders import cluster, instance, judged, rates


def named(case: Any, name: str, owner: str | None = None) -> Any:
    """Return the case as one of another resource, with an owner."""
    old = case.features.resource
    resource = replace(old, resource_id=f"{old.resource_id}-{name}", name=name, owner=owner)
    return replace(case, features=replace(case.features, resource=resource))


def small_estate() -> Analysis:
    """Return two clusters with two overlapping findings each, and two instances."""
    bursts = ([3.0] * 60 + [0.0] * 200) * 5 + [3.0] * 60 + [0.0] * 80
    office = [0.0] * 480 + ([1.0] * 30 + [0.0] * 30) * 8 + [0.0] * 480
    left_on = [0] * 480 + ([1] * 60 + [0] * 60) * 4 + [0] * 480
    return judged(
        named(cluster(bursts * 28, min_nodes=2, idle_minutes=120), "bursts", "ana"),
        named(cluster(office * 28, min_nodes=1, idle_minutes=60, rate=1.0), "office", "ben"),
        named(instance(left_on * 28, rate=2.0), "left-on", "ana"),
        named(instance(left_on[::-1] * 28, rate=0.5), "other", None),
    )


def estate_with_a_pool() -> Analysis:
    """Return computes that a reservation could cover in part, some of which should shrink."""
    nights = [0.0] * 700 + [4.0] * 740
    return judged(
        named(cluster([0.0] * 1440 * 3 + nights * 57, min_nodes=4, rate=0.10), "kept", "ana"),
        named(cluster([2.0] * 1440 * 60, rate=0.10), "steady", "ben"),
        named(
            cluster(([1.0] * 240 + [0.0] * 480) * 2 * 60, idle_minutes=240, rate=0.10), "slow", "cy"
        ),
        paying=rates(),
    )
