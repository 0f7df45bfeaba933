"""What an hour of each compute costs this customer, and whose the workspace's spend is."""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import date

from optimizer.analysis.features import CostLine
from optimizer.model import Attribution, Basis, Resource

MIN_BILLED_HOURS = 1.0
"""Below it, rounding of the bill outweighs the rate it would tell."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rate:
    """The price of a node-hour in the billing currency."""

    per_hour: float
    basis: Basis


def list_rate(resource: Resource, prices: Mapping[tuple[str, str, str], float]) -> float | None:
    """Return the list price of a compute's node-hour, or None where it is not known."""
    offer = "low_priority" if resource.vm_priority == "low_priority" else "payg"
    return prices.get((resource.region, (resource.sku or "").lower(), offer))


def attribute(
    lines: Iterable[CostLine], weights: Mapping[tuple[str, date], Mapping[str, float]]
) -> list[CostLine]:
    """Share out the virtual machine spend that the bill leaves with a workspace.

    Exact and tagged lines pass through. The rest of a workspace's day is split by `weights`
    (node-hours × list rate of each compute, by workspace and day; design §4), and its shares sum
    to the line to the last digit. Where nothing ran, or the component is no virtual machine, the
    line stays with the workspace.
    """
    shared: list[CostLine] = []
    for line in lines:
        owners = weights.get((line.workspace_id, line.day), {})
        if line.attribution is not None or line.component != "vm" or not owners:
            shared.append(line)
            continue
        shared.extend(_shares(line, owners))
    return shared


def _shares(line: CostLine, owners: Mapping[str, float]) -> list[CostLine]:
    total = sum(owners.values())
    rest, shares = line.cost, []
    for number, (resource_id, weight) in enumerate(sorted(owners.items()), start=1):
        part = rest if number == len(owners) else line.cost * weight / total
        rest -= part
        shares.append(
            replace(
                line,
                resource_id=resource_id,
                cost=part,
                list_cost=None,
                hours=None,
                attribution=Attribution.ESTIMATED,
            )
        )
    return shares


def rates(
    resources: Mapping[str, Resource],
    lines: Iterable[CostLine],
    prices: Mapping[tuple[str, str, str], float],
    estimated_hours: Mapping[str, float],
) -> dict[str, Rate]:
    """Return the rate of each compute whose price can be told.

    In this order: its own bill (hours are billed and attributed); list × what this customer pays
    of list for the computes whose bill is known, of the same workspace where there are any; list.

    Args:
        resources: the computes.
        lines: attributed costs of whole billed days.
        prices: list prices, see `features.list_prices`.
        estimated_hours: node-hours seen in those days, of computes whose bill is an estimate.
    """
    spend: dict[str, float] = defaultdict(float)
    hours: dict[str, float] = defaultdict(float)
    for line in lines:
        if line.resource_id is None or line.component != "vm":
            continue
        spend[line.resource_id] += line.cost
        hours[line.resource_id] += line.hours or 0.0

    known: dict[str, Rate] = {}
    paid: dict[str, float] = defaultdict(float)
    listed: dict[str, float] = defaultdict(float)
    for resource_id, resource in resources.items():
        of_list = list_rate(resource, prices)
        seen = hours[resource_id]
        if seen >= MIN_BILLED_HOURS:
            known[resource_id] = Rate(per_hour=spend[resource_id] / seen, basis=Basis.EFFECTIVE)
        else:
            seen = estimated_hours.get(resource_id, 0.0)
        if of_list is not None and seen >= MIN_BILLED_HOURS:
            for scope in (resource.workspace_id, ""):
                paid[scope] += spend[resource_id]
                listed[scope] += seen * of_list

    for resource_id, resource in resources.items():
        of_list = list_rate(resource, prices)
        if resource_id in known or of_list is None:
            continue
        scope = resource.workspace_id if listed[resource.workspace_id] > 0 else ""
        if listed[scope] > 0:
            share = paid[scope] / listed[scope]
            known[resource_id] = Rate(per_hour=of_list * share, basis=Basis.LIST_TIMES_DISCOUNT)
        else:
            known[resource_id] = Rate(per_hour=of_list, basis=Basis.LIST)
    return known
