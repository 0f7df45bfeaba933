"""What an hour of each compute costs this customer, and whose the workspace's spend is."""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import date
from typing import TypeAlias

from optimizer.analysis.features import CostLine
from optimizer.catalogue import Catalogue, ListPrice, vm_family
from optimizer.model import Attribution, Basis, Resource

MIN_BILLED_HOURS = 1.0
"""Below it, rounding of the bill outweighs the rate it would tell."""


_Scope: TypeAlias = tuple[str, ...]
"""What shares a share of list: a family with its offer, a workspace, or everything there is."""

_EVERYWHERE: _Scope = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Rate:
    """The price of a node-hour in the billing currency."""

    per_hour: float
    basis: Basis
    listed_on: date | None = None
    """Day of the list price that it rests on; None: it rests on the bill."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Rates:
    """What this customer pays: for each compute, and for any size whether or not it was bought."""

    catalogue: Catalogue
    known: Mapping[str, Rate]
    """By resource id; a compute of which nothing is known is not there."""
    shares: Mapping[_Scope, float]
    """What was paid ÷ what it lists at."""

    def of_size(
        self, region: str, sku: str, *, offer: str = "payg", workspace_id: str = ""
    ) -> Rate | None:
        """Return the rate of a size that may never have been bought; None where it has no price.

        List × what this customer pays of list for the same family and offer, else in the same
        workspace, else on the whole; list where nothing was ever bought.

        Where 9.00 were paid for 100 hours of a size that lists at 0.10, another of that family that
        lists at 0.20 costs 0.20 × 9.00 / (100 × 0.10) = 0.18 an hour.
        """
        price = self.catalogue.price(region, sku, offer)
        if price is None:
            return None
        return _of_list(price, self.shares, _scopes(sku, offer, workspace_id))

    def committed(self, region: str, sku: str, term: str) -> Rate | None:
        """Return what a reserved hour lists at (`1y`, `3y`), used or not; None where not known."""
        price = self.catalogue.price(region, sku, "reservation", term)
        return _of_list(price, {}, ()) if price else None


def offer_of(resource: Resource) -> str:
    """Return the offer that a compute is bought at by the hour."""
    return "low_priority" if resource.vm_priority == "low_priority" else "payg"


def list_rate(resource: Resource, catalogue: Catalogue) -> ListPrice | None:
    """Return the list price of a compute's node-hour, or None where it is not known."""
    return catalogue.price(resource.region, resource.sku or "", offer_of(resource))


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
                contracted_cost=None,
                hours=None,
                attribution=Attribution.ESTIMATED,
            )
        )
    return shares


def rates(
    resources: Mapping[str, Resource],
    lines: Iterable[CostLine],
    catalogue: Catalogue,
    estimated_hours: Mapping[str, float],
) -> Rates:
    """Return what each compute and each size costs this customer.

    A compute's own bill comes first (hours are billed and attributed). One whose bill is an
    estimate pays list × what its workspace pays of list, as that is how the estimate was made. Any
    other is a size that was never bought, see `Rates.of_size`.

    Args:
        resources: the computes.
        lines: attributed costs of whole billed days.
        catalogue: list prices in the currency of the bill.
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
    paid: dict[_Scope, float] = defaultdict(float)
    listed: dict[_Scope, float] = defaultdict(float)
    for resource_id, resource in resources.items():
        price = list_rate(resource, catalogue)
        scopes = _scopes_of(resource)
        seen = hours[resource_id]
        if seen >= MIN_BILLED_HOURS:
            known[resource_id] = Rate(per_hour=spend[resource_id] / seen, basis=Basis.EFFECTIVE)
        else:
            seen = estimated_hours.get(resource_id, 0.0)
            scopes = scopes[1:]  # an estimate says nothing of its family
        if price is not None and seen >= MIN_BILLED_HOURS:
            for scope in scopes:
                paid[scope] += spend[resource_id]
                listed[scope] += seen * price.per_hour

    shares = {scope: paid[scope] / of_list for scope, of_list in listed.items() if of_list > 0}
    for resource_id, resource in resources.items():
        price = list_rate(resource, catalogue)
        if resource_id in known or price is None:
            continue
        scopes = _scopes_of(resource)
        if estimated_hours.get(resource_id, 0.0) >= MIN_BILLED_HOURS:
            scopes = scopes[1:]
        known[resource_id] = _of_list(price, shares, scopes)
    return Rates(catalogue=catalogue, known=known, shares=shares)


def _scopes(sku: str, offer: str, workspace_id: str) -> tuple[_Scope, ...]:
    """Return whose share of list tells of a size: the nearest first."""
    return (vm_family(sku), offer), (workspace_id,), _EVERYWHERE


def _scopes_of(resource: Resource) -> tuple[_Scope, ...]:
    return _scopes(resource.sku or "", offer_of(resource), resource.workspace_id)


def _of_list(price: ListPrice, shares: Mapping[_Scope, float], scopes: Iterable[_Scope]) -> Rate:
    share = next((shares[scope] for scope in scopes if scope in shares), None)
    return Rate(
        per_hour=price.per_hour * (1.0 if share is None else share),
        basis=Basis.LIST if share is None else Basis.LIST_TIMES_DISCOUNT,
        listed_on=price.as_of,
    )
