"""What reservations cover, hour by hour: what is not used within its hour is lost.

A reservation covers machines of its region and scope: of its family, in the ratio of their cores,
where its size is flexible. Azure Machine Learning gets nothing of one whose size is not, and none
covers low priority. The narrower scope goes first. Which of several machines an hour is given to,
Azure does not say: here each gets its share. Source: Azure's "Understand Azure reservations
discount" and "Virtual machine size flexibility".
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from optimizer.emulator import skus
from optimizer.emulator.billing import Meter, held_seconds
from optimizer.emulator.estate import Estate, Reservation
from optimizer.emulator.records import Floats, Ints
from optimizer.units import SECONDS_PER_HOUR


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Claim:
    """Machines of one compute that a reservation may cover."""

    compute_id: str
    region: str
    sku: str
    hours: Floats
    """Machine-hours in each hour."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Settled:
    """How reservations were used between each two neighbouring edges."""

    edges_s: Ints
    """Whole hours; the last one ends now if it is not over."""
    share: Floats
    """Of a claim's machine-hours, what a reservation covers: by reservation, claim and hour."""
    reserved: Floats
    """Machine-hours of the reserved size, by reservation and hour."""
    used: Floats
    """The same, of those that covered something."""

    @property
    def unused(self) -> Floats:
        """Machine-hours that are paid for and lost, by reservation and hour."""
        return self.reserved - self.used


def hour_edges(start_s: int, end_s: int, *, now_s: int) -> Ints:
    """Return the edges of all hours that a stretch touches; none lies after now.

    >>> hour_edges(1800, 9000, now_s=9900).tolist()
    [0, 3600, 7200, 9900]
    """
    first = start_s // SECONDS_PER_HOUR * SECONDS_PER_HOUR
    inside = np.arange(first, end_s, SECONDS_PER_HOUR, dtype=np.int64)
    return np.append(inside, min(int(inside[-1]) + SECONDS_PER_HOUR, now_s))


def settle(estate: Estate, claims: Sequence[Claim], edges_s: Ints) -> Settled:
    """Use reservations up, hour by hour.

    Two machines are reserved; in an hour one was used for an hour and one for half of it: 1.5 are
    covered and 0.5 is lost. In the next three were used: 2 are covered, two thirds of each.
    """
    reservations = estate.billing.reservations
    hours = len(edges_s) - 1
    left = np.array([claim.hours for claim in claims]).reshape(len(claims), hours)
    whole = left.copy()
    reserved = np.array([_reserved(each, edges_s) for each in reservations])
    used = np.zeros_like(reserved)
    covered = np.zeros((len(reservations), len(claims), hours))
    for place in sorted(range(len(reservations)), key=lambda at: _width(reservations[at])):
        ratios = np.array([_ratio(estate, reservations[place], claim) for claim in claims])
        units = (left * ratios[:, None]).sum(axis=0)
        part = np.minimum(1.0, _over(reserved[place], units))
        covered[place] = left * part * (ratios > 0)[:, None]
        used[place] = units * part
        left = left - covered[place]
    return Settled(edges_s=edges_s, share=_over(covered, whole[None]), reserved=reserved, used=used)


def unit_ratio(estate: Estate, reservation: Reservation, region: str, sku: str) -> float:
    """Return how many hours of the reserved size an hour of another one takes; 0: not covered.

    Azure's table of ratios follows the number of cores within a family.
    """
    if not reservation.is_flexible or region.lower() != reservation.region.lower():
        return 0.0
    if skus.family(sku) != skus.family(reservation.sku):
        return 0.0
    cores = estate.price(region, sku).vcpus
    of_one = estate.price(region, reservation.sku).vcpus
    return cores / of_one if cores and of_one else float(sku.lower() == reservation.sku.lower())


def covered_hours(settled: Settled, claim: int, meter: Meter, edges_s: Ints) -> Floats:
    """Return the machine-hours of a claim that each reservation covers between some edges.

    Shape: reservations × stretches. The edges lie within those of `settled`, on its hours or not.
    """
    fine_s = np.union1d(edges_s, settled.edges_s)
    until_s = int(settled.edges_s[-1])
    held = held_seconds(meter.at_s, meter.level, until_s=until_s, edges_s=fine_s)
    return _summed(settled, settled.share[:, claim] / SECONDS_PER_HOUR, held, fine_s, edges_s)


def unused_hours(settled: Settled, edges_s: Ints) -> Floats:
    """Return the machine-hours of each reservation that are lost between some edges.

    Shape: reservations × stretches, as those of `covered_hours`.
    """
    fine_s = np.union1d(edges_s, settled.edges_s)
    per_second = settled.unused / np.diff(settled.edges_s)
    return _summed(settled, per_second, np.diff(fine_s), fine_s, edges_s)


def _summed(
    settled: Settled, hourly: Floats, seconds: Floats | Ints, fine_s: Ints, edges_s: Ints
) -> Floats:
    """Return the sum of seconds × what holds in their hour, between each two edges."""
    hour = np.searchsorted(settled.edges_s, fine_s[:-1], side="right") - 1
    so_far = np.cumsum(hourly[:, hour] * seconds, axis=1)
    total = np.concatenate((np.zeros((len(hourly), 1)), so_far), axis=1)
    return np.diff(total[:, np.searchsorted(fine_s, edges_s)], axis=1)


def _ratio(estate: Estate, reservation: Reservation, claim: Claim) -> float:
    scope = reservation.scope
    if scope is not None and not claim.compute_id.lower().startswith(f"{scope.lower()}/"):
        return 0.0
    return unit_ratio(estate, reservation, claim.region, claim.sku)


def _reserved(reservation: Reservation, edges_s: Ints) -> Floats:
    """Return the machine-hours that are reserved in each hour."""
    start_s = int(reservation.start_utc.timestamp())
    end_s = start_s + reservation.term_hours * SECONDS_PER_HOUR
    within = np.diff(np.clip(edges_s, start_s, end_s)).astype(np.float64)
    return reservation.quantity * within / SECONDS_PER_HOUR


def _width(reservation: Reservation) -> int:
    """Return a number that is smaller for a narrower scope: group, subscription, shared."""
    return -len((reservation.scope or "").split("/"))


def _over(part: Floats, whole: Floats) -> Floats:
    """Return part ÷ whole, and 0 where there is no whole."""
    return np.divide(part, whole, out=np.zeros_like(part), where=whole > 0)
