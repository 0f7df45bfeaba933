"""Settings inside ARM documents: read one, compare two, say the smallest body that writes one."""

from collections.abc import Mapping
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


def same(one: Json, other: Json) -> bool:
    """Say whether two values mean the same to Azure, however they are spelled.

    >>> same("PT2H", "PT7200S"), same("Dedicated", "dedicated"), same(None, 0)
    (True, True, False)
    """
    return _meaning(one) == _meaning(other)


def _meaning(value: Json) -> Json | timedelta:
    if not isinstance(value, str):
        return value
    try:
        return timedelta(seconds=seconds_from_iso(value))
    except ConfigError:
        return value.casefold()  # Azure compares its ids and its words without case
