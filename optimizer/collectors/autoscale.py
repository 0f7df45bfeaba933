"""Autoscale settings: what they say, in numbers, by the resource that they scale."""

from collections.abc import Iterable, Mapping
from typing import Any

from optimizer.azure.connect import Connection
from optimizer.units import seconds_from_iso

AUTOSCALE_API = "2022-10-01"
"""What azure-mgmt-monitor 7.0.0 asks for."""

Document = Mapping[str, Any]


def autoscale_by_target(connection: Connection, subscription: str) -> dict[str, dict[str, Any]]:
    """Return the summary of every autoscale setting of a subscription, by the id it scales.

    Azure lets a resource have one. Ids are in lower case.

    Raises:
        AzureError: the settings cannot be read.
    """
    path = f"/subscriptions/{subscription}/providers/Microsoft.Insights/autoscaleSettings"
    return by_target(connection.arm.list(path, api_version=AUTOSCALE_API))


def by_target(documents: Iterable[Document]) -> dict[str, dict[str, Any]]:
    """Return the summary of each autoscale setting by the id, in lower case, of what it scales."""
    return {
        str(document["properties"].get("targetResourceUri", "")).lower(): summary(document)
        for document in documents
    }


def summary(document: Document) -> dict[str, Any]:
    """Return what an autoscale setting says: limits, rules and times, lengths in minutes.

    `min`, `max` and `default` are those of the profile without a time, of the first one where all
    have one; every profile has its own.
    """
    properties = document["properties"]
    profiles = [_profile(profile) for profile in properties.get("profiles") or []]
    always = [p for p in profiles if not p["recurrence"] and not p["fixed_date"]] or profiles
    first: Mapping[str, Any] = always[0] if always else {}
    return {
        "id": document["id"],
        "enabled": properties.get("enabled", True),
        **{name: first.get(name) for name in ("min", "max", "default")},
        "profiles": profiles,
    }


def _profile(profile: Document) -> dict[str, Any]:
    capacity = profile.get("capacity") or {}
    return {
        "name": profile.get("name"),
        "min": _whole(capacity.get("minimum")),
        "max": _whole(capacity.get("maximum")),
        "default": _whole(capacity.get("default")),
        "recurrence": (profile.get("recurrence") or {}).get("schedule"),
        "fixed_date": profile.get("fixedDate"),
        "rules": [_rule(rule) for rule in profile.get("rules") or []],
    }


def _rule(rule: Document) -> dict[str, Any]:
    trigger, action = rule.get("metricTrigger") or {}, rule.get("scaleAction") or {}
    return {
        "metric": trigger.get("metricName"),
        "operator": trigger.get("operator"),
        "threshold": trigger.get("threshold"),
        "aggregation": trigger.get("timeAggregation"),
        "statistic": trigger.get("statistic"),
        "window_minutes": _minutes(trigger.get("timeWindow")),
        "direction": action.get("direction"),
        "type": action.get("type"),
        "value": _whole(action.get("value")),
        "cooldown_minutes": _minutes(action.get("cooldown")),
    }


def _whole(text: Any) -> int | None:
    """Return a count, which Azure writes as text."""
    return None if text is None else int(text)


def _minutes(duration: str | None) -> float | None:
    return seconds_from_iso(duration) / 60 if duration else None
