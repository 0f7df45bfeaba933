"""What everything costs, exact to the second.

A charge is a level (nodes, disks, addresses) held over time, so its quantity between two moments
is the difference of a cumulative sum: no rounding, and days always add up to the whole.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Any, Literal

import numpy as np

from optimizer.emulator import arm
from optimizer.emulator.clusters import Cluster
from optimizer.emulator.deployments import Deployment
from optimizer.emulator.estate import Rate, Reservation
from optimizer.emulator.instances import Instance
from optimizer.emulator.physics import Physics
from optimizer.emulator.records import Charge, Floats, Ints
from optimizer.units import HOURS_PER_MONTH, SECONDS_PER_HOUR

SECONDS_PER_DAY = 24 * SECONDS_PER_HOUR

_DUST_HOURS = 1e-9
"""What taking covered hours from all of them leaves of nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Meter:
    """Something that is paid for as long as it is held."""

    component: str
    name: str
    unit: str
    seconds_per_unit: float
    list_per_unit: float
    at_s: Ints
    level: Ints
    """How much is held from `at_s[i]` to `at_s[i + 1]`; the last one until the meter's end."""


def day_edges(start_s: int, end_s: int) -> Ints:
    """Return a stretch's ends with every UTC midnight between them."""
    first_midnight_s = (start_s // SECONDS_PER_DAY + 1) * SECONDS_PER_DAY
    midnights = np.arange(first_midnight_s, end_s, SECONDS_PER_DAY, dtype=np.int64)
    return np.concatenate(([start_s], midnights, [end_s])).astype(np.int64)


def held_seconds(at_s: Ints, level: Ints, *, until_s: int, edges_s: Ints) -> Floats:
    """Return the integral of a step function between each two neighbouring edges.

    >>> held_seconds(np.array([0, 10]), np.array([1, 3]), until_s=20, edges_s=np.array([5, 15, 99]))
    array([20., 15.])
    """
    moments = np.append(at_s, max(until_s, int(at_s[-1])))
    total = np.concatenate(([0], np.cumsum(level * np.diff(moments))))
    return np.diff(np.interp(edges_s, moments, total))


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Covered:
    """What a reservation covers of one compute's machines, on each stretch."""

    reservation_id: str
    per_hour: float
    """What a covered machine-hour costs: its part of the reservation."""
    hours: Floats


def charges(
    document: arm.Document,
    meters: Sequence[Meter],
    *,
    edges_s: Ints,
    until_s: int,
    discount: float,
    covered: Sequence[Covered] = (),
) -> Iterator[Charge]:
    """Yield what a compute cost between each two neighbouring edges, none of it zero.

    What a reservation covers of its machines is a charge of its own, at the reservation's rate.
    """
    days = days_of(edges_s)
    workspace_id = arm.workspace_id(document["id"])
    for meter in meters:
        held = held_seconds(meter.at_s, meter.level, until_s=until_s, edges_s=edges_s)
        parts = [each for each in covered if meter.component == "vm"]
        rest = held / meter.seconds_per_unit - sum(part.hours for part in parts)
        by_the_hour = meter.list_per_unit * (1 - discount)
        every: list[tuple[Floats, float, str | None]] = [(rest, by_the_hour, None)]
        every += [(part.hours, part.per_hour, part.reservation_id) for part in parts]
        for quantities, per_unit, reservation_id in every:
            for day, quantity in zip(days, quantities.tolist(), strict=True):
                if not quantity or (parts and abs(quantity) < _DUST_HOURS):
                    continue
                yield Charge(
                    day=day,
                    workspace_id=workspace_id,
                    compute_id=document["id"],
                    compute_name=document["name"],
                    region=arm.region(document),
                    vm_size=arm.vm_size(document),
                    priority="LowPriority" if arm.is_low_priority(document) else "Dedicated",
                    component=meter.component,
                    meter=meter.name,
                    quantity=quantity,
                    unit=meter.unit,
                    list_cost=quantity * meter.list_per_unit,
                    contracted_cost=quantity * by_the_hour,
                    cost=quantity * per_unit,
                    reservation_id=reservation_id,
                )


def unused_charges(
    reservation: Reservation, per_hour: float, hours: Floats, edges_s: Ints
) -> Iterator[Charge]:
    """Yield what a reservation cost for the hours that nothing used, between some edges."""
    for day, quantity in zip(days_of(edges_s), hours.tolist(), strict=True):
        if quantity > _DUST_HOURS:
            yield _of_reservation(reservation, day, quantity, per_hour, "UnusedReservation")


def purchase(reservation: Reservation, per_hour: float) -> Charge:
    """Return what a reservation cost on the day it was bought: all of it, at once."""
    hours = float(reservation.quantity * reservation.term_hours)
    day = reservation.start_utc.astimezone(UTC).date()
    return _of_reservation(reservation, day, hours, per_hour, "Purchase")


def _of_reservation(
    reservation: Reservation,
    day: date,
    hours: float,
    per_hour: float,
    charge_type: Literal["UnusedReservation", "Purchase"],
) -> Charge:
    cost = hours * per_hour
    return Charge(
        day=day,
        workspace_id=f"/subscriptions/{reservation.subscription}",
        compute_id=reservation.id,
        compute_name="",
        region=reservation.region,
        vm_size=reservation.sku,
        priority="Dedicated",
        component="vm",
        meter=reservation.sku,
        quantity=hours,
        unit="1 Hour",
        list_cost=cost,
        contracted_cost=cost,
        cost=cost,
        reservation_id=reservation.id,
        charge_type=charge_type,
    )


def days_of(edges_s: Ints) -> list[date]:
    """Return the UTC day on which each stretch begins."""
    return [datetime.fromtimestamp(second, UTC).date() for second in edges_s[:-1].tolist()]


def cluster_meters(cluster: Cluster, rate: Rate, physics: Physics) -> list[Meter]:
    """Return what a cluster pays for: its nodes but for preempted ones, and load balancers."""
    counts = cluster.node_counts()
    nodes = counts.active + counts.idle
    if physics.preparing_billed:
        nodes = nodes + counts.preparing
    if physics.leaving_billed:
        nodes = nodes + counts.leaving
    meters = [_vm(rate, counts.at_s, nodes)]
    if per_balancer := physics.cluster_nodes_per_load_balancer:
        meters.append(_load_balancer(physics, counts.at_s, -(-nodes // per_balancer)))
    return meters


def instance_meters(
    instance: Instance, rate: Rate, physics: Physics, *, born_s: int, died_s: int
) -> list[Meter]:
    """Return what an instance pays for: its VM while on, the rest from birth to death."""
    waits = 0 if physics.starting_billed else physics.start_seconds
    spans = [(min(start_s + waits, end_s), end_s) for start_s, end_s in instance.on_spans()]
    at_s = np.array([born_s, *(second for span in spans for second in span)], dtype=np.int64)
    on = np.array([0] + [1, 0] * len(spans), dtype=np.int64)
    life_s, one = np.array([born_s, died_s], dtype=np.int64), np.array([1, 0], dtype=np.int64)
    return [
        _vm(rate, at_s, on),
        Meter(
            component="disk",
            name="P10 LRS Disk",
            unit="1/Month",
            seconds_per_unit=HOURS_PER_MONTH * SECONDS_PER_HOUR,
            list_per_unit=physics.instance_disk_per_month,
            at_s=life_s,
            level=one,
        ),
        Meter(
            component="ip",
            name="Standard IPv4 Static Public IP",
            unit="1 Hour",
            seconds_per_unit=SECONDS_PER_HOUR,
            list_per_unit=physics.public_ip_per_hour,
            at_s=life_s,
            level=one,
        ),
        _load_balancer(physics, life_s, one),
    ]


def deployment_meters(deployment: Deployment, rate: Rate) -> list[Meter]:
    """Return what a deployment pays for: its instances."""
    at_s, level = np.array(deployment.steps, dtype=np.int64).T
    return [_vm(rate, at_s, level)]


def meter_name(rate: Rate) -> str:
    """Return the meter of a VM size, as the price list names it.

    >>> meter_name(Rate(sku="Standard_NC6s_v3", is_low_priority=True, per_hour=0.6))
    'NC6s v3 Low Priority'
    """
    size = rate.sku.removeprefix("Standard_").replace("_", " ")
    return f"{size} Low Priority" if rate.is_low_priority else size


def bill(charged: Sequence[Charge], currency: str) -> dict[str, Any]:
    """Return the sum of charges, as a whole and for each compute.

    Reservations are amortised: the hours they cover are their computes', the unused their own.
    """
    by_resource: dict[str, float] = {}
    for charge in charged:
        by_resource[charge.compute_id] = by_resource.get(charge.compute_id, 0.0) + charge.cost
    return {"currency": currency, "total": sum(by_resource.values()), "by_resource": by_resource}


def _vm(rate: Rate, at_s: Ints, level: Ints) -> Meter:
    return Meter(
        component="vm",
        name=meter_name(rate),
        unit="1 Hour",
        seconds_per_unit=SECONDS_PER_HOUR,
        list_per_unit=rate.per_hour,
        at_s=at_s,
        level=level,
    )


def _load_balancer(physics: Physics, at_s: Ints, level: Ints) -> Meter:
    return Meter(
        component="load_balancer",
        name="Standard Included LB Rules and Outbound Rules",
        unit="1 Hour",
        seconds_per_unit=SECONDS_PER_HOUR,
        list_per_unit=physics.load_balancer_per_day / 24,
        at_s=at_s,
        level=level,
    )
