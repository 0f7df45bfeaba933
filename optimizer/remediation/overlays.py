"""What a setting of an ARM document is in the settings that a case replays."""

from collections.abc import Callable, Mapping
from typing import Any

from optimizer.errors import ConfigError
from optimizer.model import AutoscaleRules, Json
from optimizer.units import seconds_from_iso

DELETED = "resource"
"""The `setting` of a finding that wants a whole resource gone."""

UNUSED_SETTINGS = frozenset({DELETED, "state"})
"""Names of what ends a resource or stops it: what it cost while nobody used it is what is saved."""


def setting_key(setting: str) -> str:
    """Return the last name of a setting's path.

    >>> setting_key("properties.properties.vmSize")
    'vmSize'
    """
    return setting.rpartition(".")[2]


def overlay_of(setting: str, value: Json) -> Mapping[str, Any] | None:
    """Return the fields that a setting changes; None where no replay knows it.

    >>> overlay_of("properties.properties.scaleSettings.minNodeCount", 0)
    {'min_nodes': 0}
    >>> overlay_of("properties.properties.idleTimeBeforeShutdown", "PT60M")
    {'idle_shutdown_minutes': 60}
    >>> overlay_of("properties.properties", {"vmSize": "S", "vmPriority": "LowPriority"})
    {'sku': 'S', 'vm_priority': 'low_priority'}
    >>> overlay_of("tags.team", "vision") is None
    True
    """
    read = _FIELDS.get(setting_key(setting))
    try:
        return None if read is None else read(value)
    except (ConfigError, KeyError, TypeError, ValueError, AttributeError):
        return None  # a value that Azure would not take either, or of another version


def why_not_replayed(setting: str, after: Json) -> str | None:
    """Return why no replay tells what a setting saved; None where it does."""
    key = setting_key(setting)
    if key in UNUSED_SETTINGS:
        return None
    if key == "computeStartStop":
        return (
            "A scheduled stop ends a pause as a person's does, so how long it had lasted without "
            "it is not known."
        )
    if overlay_of(setting, after) is None:
        return f"No replay knows the setting {key}."
    return None


def _idle_shutdown(value: Any) -> dict[str, Any]:
    return {"idle_shutdown_minutes": None if value is None else seconds_from_iso(value) // 60}


def _priority(value: Any) -> dict[str, Any]:
    low = value.lower().startswith("low")
    return {"vm_priority": "low_priority" if low else "dedicated"}


def _size_and_priority(value: Any) -> dict[str, Any]:
    return {"sku": str(value["vmSize"]), **_priority(value["vmPriority"])}


def _autoscale(value: Any) -> dict[str, Any]:
    """Read what a finding says of rules (`optimizer.analysis.serving.said`)."""
    known: dict[str, Any] = {}
    for way, limit in (("out", "above"), ("in", "below")):
        said = {
            f"{way}_{limit}": (f"scale_{way}_{limit}_percent", 0.01),
            f"{way}_by": (f"scale_{way}_by", 1),
            f"{way}_cooldown_minutes": (f"scale_{way}_cooldown_minutes", 1),
        }
        known |= {name: value[key] * unit for name, (key, unit) in said.items() if key in value}
    return {
        "autoscale": AutoscaleRules(
            least=int(value["minimum"]), most=int(value["maximum"]), **known
        )
    }


_FIELDS: Mapping[str, Callable[[Any], dict[str, Any]]] = {
    "minNodeCount": lambda value: {"min_nodes": int(value)},
    "maxNodeCount": lambda value: {"max_nodes": int(value)},
    "nodeIdleTimeBeforeScaleDown": lambda value: {"idle_seconds": seconds_from_iso(value)},
    "idleTimeBeforeShutdown": _idle_shutdown,
    "capacity": lambda value: {"instances": int(value)},
    "vmSize": lambda value: {"sku": str(value)},
    "vmPriority": _priority,
    "properties": _size_and_priority,
    "autoscaleSettings": _autoscale,
    "rules": _autoscale,
    DELETED: lambda value: {"deleted": value == "deleted"},
}
"""What each setting that a finding can change is in the settings of a case."""
