"""What people are to write where only they can follow a finding: YAML of jobs, and orders.

The names are those of the YAML schemas of the `ml` extension of `az` (v2).
"""

import json
from collections.abc import Iterator, Mapping
from typing import Any

from optimizer.model import Finding, How, Kind, Resource
from optimizer.remediation.requirements import SCHEDULES, VM_SIZE
from optimizer.units import seconds_from_iso


def by_hand(finding: Finding, resource: Resource | None) -> str:
    """Return the text to add or to order by; empty where the finding's sentence says it all."""
    return "\n".join(_lines(finding, resource))


def _lines(finding: Finding, resource: Resource | None) -> Iterator[str]:
    change = finding.change
    after: Any = change.after
    match change.setting:
        case "limits.timeout":
            for experiment, limit in after.items():
                yield f"# jobs of {_text(experiment)}"
                yield "limits:"
                yield f"  timeout: {seconds_from_iso(limit)}"
        case "earlyTermination":
            yield "early_termination:"
            yield "  type: median_stopping"
            yield f"  delay_evaluation: {after['delayEvaluation']}"
            yield f"  evaluation_interval: {after['evaluationInterval']}"
        case _ if change.setting == SCHEDULES:
            yield from _schedules(after)
        case _ if change.setting == VM_SIZE and resource and resource.kind is Kind.INSTANCE:
            yield "$schema: https://azuremlschemas.azureedge.net/latest/computeInstance.schema.json"
            yield f"name: <another name than {resource.name}>"
            yield "type: computeinstance"
            yield f"size: {_text(after)}"
        case _ if change.how is How.PURCHASE and isinstance(after, Mapping):
            for name, value in after.items():
                yield f"{name}: {_text(value)}"
        case _:
            yield from (str(v) for name, v in finding.evidence.items() if name.endswith("_yaml"))


def _schedules(documents: list[Mapping[str, Any]]) -> Iterator[str]:
    yield "schedules:"
    yield "  compute_start_stop:"
    for each in documents:
        cron = each.get("cron")
        yield f"    - action: {str(each.get('action')).lower()}"
        yield f"      state: {str(each.get('status', 'Enabled')).lower()}"
        if cron is None:
            yield "      # its trigger stays as it is"
            continue
        yield "      trigger:"
        yield "        type: cron"
        yield f"        expression: {_text(cron.get('expression'))}"
        yield f"        time_zone: {_text(cron.get('timeZone', 'UTC'))}"


def _text(value: Any) -> str:
    """Return a value as YAML has it; JSON is YAML, whatever a name may hold."""
    return json.dumps(value, ensure_ascii=False)
