"""Autoscale settings of deployments: limits and rules as Azure spells them, put into a document.

Source: Microsoft.Insights/autoscaleSettings, api-version 2022-10-01.
"""

from collections.abc import Iterator, Mapping
from copy import deepcopy
from typing import Any

from optimizer.collectors.autoscale import summary
from optimizer.model import AutoscaleRules, Json
from optimizer.remediation.documents import same

_LOOKS_BACK = "PT5M"
_METRIC = "CpuUtilizationPercentage"
_LIMITS = {"out": "scale_out_above_percent", "in": "scale_in_below_percent"}
_NAME = "optimizer"
_WAYS = {
    ("Increase", "GreaterThan"): "out",
    ("Increase", "GreaterThanOrEqual"): "out",
    ("Decrease", "LessThan"): "in",
    ("Decrease", "LessThanOrEqual"): "in",
}


def profile_of(deployment_id: str, wanted: Mapping[str, Any]) -> dict[str, Any]:
    """Return limits and a pair of rules on CPU as Azure has them in a profile.

    `wanted` is what a finding says (`optimizer.analysis.serving.said`): `minimum`, `maximum`, and
    for each direction its limit in percent, by how many it goes and its cooldown in minutes.
    """
    least, most = str(wanted["minimum"]), str(wanted["maximum"])
    return {
        # `default` is where metrics are missing and fewer run: then as few as are allowed.
        "capacity": {"minimum": least, "maximum": most, "default": least},
        "rules": [_rule(deployment_id, wanted, way) for way in ("out", "in")],
    }


def replayable(setting: Mapping[str, Any] | None) -> AutoscaleRules | None:
    """Return a setting, as collected, as rules that a replay knows; None where it is of others.

    Those are one profile for all times and on CPU at most one rule out and one in, which go the
    way they should. Without a rule of its own it never goes that way.

    >>> up = {"metric": "CpuUtilizationPercentage", "aggregation": "Average", "threshold": 70.0,
    ...     "operator": "GreaterThan", "direction": "Increase", "type": "ChangeCount", "value": 2,
    ...     "cooldown_minutes": 60}
    >>> profile = {"min": 2, "max": 6, "recurrence": None, "fixed_date": None, "rules": [up]}
    >>> rules = replayable({"enabled": True, "profiles": [profile]})
    >>> rules.least, rules.most, rules.out_above, rules.out_by, rules.in_by
    (2, 6, 0.7, 2, 0)
    >>> replayable({"enabled": True, "profiles": [profile | {"rules": [up, up]}]}) is None
    True
    """
    profiles = (setting or {}).get("profiles") or []
    if len(profiles) != 1 or not (setting or {}).get("enabled", True):
        return None
    (profile,) = profiles
    if profile.get("recurrence") or profile.get("fixed_date"):
        return None
    known: dict[str, Any] = {"out_by": 0, "in_by": 0}
    ways: list[str] = []
    for rule in profile["rules"]:
        way = _WAYS.get((rule["direction"], rule["operator"]))
        is_mean = (rule["metric"], rule["aggregation"]) == (_METRIC, "Average")
        if way is None or not is_mean or rule["type"] != "ChangeCount":
            return None
        ways.append(way)
        known |= {
            ("out_above" if way == "out" else "in_below"): float(rule["threshold"]) / 100,
            f"{way}_by": rule["value"],
            f"{way}_cooldown_minutes": rule["cooldown_minutes"],
        }
    told = [profile["min"], profile["max"], *known.values()]
    if not ways or len(ways) != len(set(ways)) or any(value is None for value in told):
        return None
    return AutoscaleRules(least=profile["min"], most=profile["max"], **known)


def new_setting(deployment: Mapping[str, Any], profile: Mapping[str, Any]) -> tuple[str, Json]:
    """Return the id and the document of an autoscale setting that a deployment is to get."""
    parts = deployment["id"].split("/")
    name = f"{_NAME}-{parts[8]}-{parts[10]}-{parts[12]}"
    group = "/".join(parts[:5])
    return (
        f"{group}/providers/Microsoft.Insights/autoscaleSettings/{name}",
        {
            "location": deployment["location"],
            "properties": {
                "enabled": True,
                "targetResourceUri": deployment["id"],
                "profiles": [{"name": "always", **profile}],
            },
        },
    )


def with_profile(setting: Mapping[str, Any], profile: Mapping[str, Any]) -> dict[str, Any]:
    """Return a setting with other rules wherever it has rules, and other limits at usual times.

    Profiles without rules fix a number for some hours; they and all limits but those of the profile
    without a time stay as they are.
    """
    changed = deepcopy(dict(setting))
    profiles = changed["properties"]["profiles"]
    for each in profiles:
        if each.get("rules"):
            each["rules"] = deepcopy(profile["rules"])
    usual = profiles[_usual(profiles)]
    usual["capacity"] = dict(profile["capacity"])
    return changed


def carries(setting: Mapping[str, Any], profile: Mapping[str, Any]) -> bool:
    """Say whether a setting is enabled and has these limits and rules already."""
    properties = setting["properties"]
    if not properties.get("enabled", True) or not properties.get("profiles"):
        return False
    if not any(each.get("rules") for each in properties["profiles"]):
        return False
    return same(_said(setting), _said(with_profile(setting, profile)))


def by_hand(setting_id: str, deployment_id: str, wanted: Mapping[str, Any]) -> Iterator[list[str]]:
    """Yield the `az` commands that give an existing setting other rules, one after another."""
    parts = setting_id.split("/")
    here = [
        *("--subscription", parts[2], "--resource-group", parts[4]),
        *("--autoscale-name", parts[8]),
    ]
    rule = ["az", "monitor", "autoscale", "rule"]
    yield [*rule, "delete", *here, "--index", "*"]
    for way, sign in (("out", ">"), ("in", "<")):
        yield [
            *(*rule, "create", *here, "--resource", deployment_id),
            *("--scale", way, str(wanted[f"scale_{way}_by"])),
            *("--condition", f"{_METRIC} {sign} {wanted[_LIMITS[way]]} avg 5m"),
            *("--cooldown", str(wanted[f"scale_{way}_cooldown_minutes"])),
        ]
    yield [
        *("az", "monitor", "autoscale", "update", *here[:4], "--name", parts[8]),
        *("--min-count", str(wanted["minimum"]), "--max-count", str(wanted["maximum"])),
    ]


def _rule(deployment_id: str, wanted: Mapping[str, Any], way: str) -> dict[str, Any]:
    """Return one rule; `way` is `out` or `in`."""
    return {
        "metricTrigger": {
            "metricName": _METRIC,
            "metricResourceUri": deployment_id,
            "timeGrain": "PT1M",
            "statistic": "Average",
            "timeWindow": _LOOKS_BACK,
            "timeAggregation": "Average",
            "operator": "GreaterThan" if way == "out" else "LessThan",
            "threshold": wanted[_LIMITS[way]],
        },
        "scaleAction": {
            "direction": "Increase" if way == "out" else "Decrease",
            "type": "ChangeCount",
            "value": str(wanted[f"scale_{way}_by"]),
            "cooldown": f"PT{wanted[f'scale_{way}_cooldown_minutes']}M",
        },
    }


def _usual(profiles: list[dict[str, Any]]) -> int:
    """Return which profile holds where no other has a time; the first where all have one."""
    timed = [bool(p.get("recurrence") or p.get("fixedDate")) for p in profiles]
    return timed.index(False) if False in timed else 0


def _said(setting: Mapping[str, Any]) -> Json:
    said: Json = summary(setting)["profiles"]
    return said
