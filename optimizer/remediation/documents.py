"""Settings inside ARM documents: read one, compare two, say the smallest body that writes one."""

from collections.abc import Collection, Mapping
from datetime import timedelta
from typing import Any

from optimizer.errors import ConfigError
from optimizer.model import Json
from optimizer.units import seconds_from_iso


def value_at(document: Mapping[str, Any], setting: str) -> Json:
    """Return what stands at a dotted path; None where nothing does.

    >>> value_at({"properties": {"minNodeCount": 2}}, "properties.minNodeCount")
    2
    """
    name, _, rest = setting.partition(".")
    value: Json = document.get(name)
    if not rest:
        return value
    return value_at(value, rest) if isinstance(value, Mapping) else None


def with_value(document: Mapping[str, Any], setting: str, value: Json) -> dict[str, Any]:
    """Return a copy with `value` at a dotted path and everything else as it was.

    >>> with_value({"a": {"b": 1, "c": 2}}, "a.b", None)
    {'a': {'b': None, 'c': 2}}
    """
    name, _, rest = setting.partition(".")
    if not rest:
        return {**document, name: value}
    return {**document, name: with_value(document.get(name) or {}, rest, value)}


def patch_body(document: Mapping[str, Any], setting: str, value: Json) -> dict[str, Any]:
    """Return the group that holds the setting, whole, with the one value changed.

    Azure's PATCH of a cluster requires `maxNodeCount` whatever else is meant, and does not say
    that it keeps what is left out.

    >>> patch_body({"kind": "x", "scale": {"max": 4, "min": 2}}, "scale.min", 0)
    {'scale': {'max': 4, 'min': 0}}
    """
    group = setting.rpartition(".")[0]
    siblings = value_at(document, group) or {}
    return with_value(with_value({}, group, siblings), setting, value)


def writable(document: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a PUT may carry of a compute or an autoscale setting that Azure sent.

    What only the service writes is left out; all else is kept, known to us or not, since a PUT
    takes away what it does not carry.

    >>> writable({"id": "/c", "tags": {"a": "b"}, "properties": {"createdOn": "2026-01-05"}})
    {'tags': {'a': 'b'}, 'properties': {}}
    """
    kept = without(document, _ENVELOPE)
    properties = without(document["properties"], _OUTER)
    if isinstance(inner := properties.get("properties"), Mapping):
        properties["properties"] = _inner(inner)
    if identity := document.get("identity"):
        kept["identity"] = _identity(identity)
    if tags := document.get("tags"):
        kept["tags"] = {name: value for name, value in tags.items() if value is not None}
    return {**kept, "properties": properties}


def without(document: Mapping[str, Any], names: Collection[str]) -> dict[str, Any]:
    """Return a copy that lacks some names."""
    return {name: value for name, value in document.items() if name not in names}


_ENVELOPE = frozenset({"id", "name", "type", "systemData", "etag"})
_OUTER = frozenset(
    {"createdOn", "isAttachedCompute", "modifiedOn", "provisioningErrors", "provisioningState"}
)
_INNER = frozenset(
    {
        *("allocationState", "allocationStateTransitionTime", "applications"),
        *("connectivityEndpoints", "containers", "createdBy", "currentNodeCount", "dataDisks"),
        *("dataMounts", "errors", "lastOperation", "nodeStateCounts", "osImageMetadata", "state"),
        *("targetNodeCount", "versions"),
    }
)
"""Marked read-only in the schema of 2025-12-01, of clusters and of instances."""


def _inner(properties: Mapping[str, Any]) -> dict[str, Any]:
    kept = without(properties, _INNER)
    if ssh := kept.get("sshSettings"):
        kept["sshSettings"] = without(ssh, ("adminUserName", "sshPort"))
    if planned := (kept.get("schedules") or {}).get("computeStartStop"):
        lean = [without(schedule, ("id", "provisioningStatus")) for schedule in planned]
        kept["schedules"] = {**kept["schedules"], "computeStartStop": lean}
    return kept


def _identity(identity: Mapping[str, Any]) -> dict[str, Any]:
    """Return an identity as a client says it: which, without what Azure knows of them."""
    kept = without(identity, ("principalId", "tenantId"))
    if assigned := kept.get("userAssignedIdentities"):
        kept["userAssignedIdentities"] = {resource_id: {} for resource_id in assigned}
    return kept


def same(one: Json, other: Json) -> bool:
    """Say whether two values mean the same to Azure, however they are spelled.

    >>> same("PT2H", "PT7200S"), same("Dedicated", "dedicated"), same(None, 0)
    (True, True, False)
    >>> same([{"vmSize": "STANDARD_D2"}], [{"vmSize": "Standard_D2"}])
    True
    """
    return bool(_meaning(one) == _meaning(other))


def _meaning(value: Json) -> Any:
    if isinstance(value, dict):
        return {name: _meaning(each) for name, each in value.items()}
    if isinstance(value, list):
        return [_meaning(each) for each in value]
    if not isinstance(value, str):
        return value
    try:
        return timedelta(seconds=seconds_from_iso(value))
    except ConfigError:
        return value.casefold()  # Azure compares its ids and its words without case
