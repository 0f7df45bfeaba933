"""VM sizes and what they list at: what Azure told, and below it a dated snapshot of our own.

The snapshot comes with the product, so that a size has a price where the price list cannot be
reached. `python -m benchmarks.price_snapshot` wrote it.
"""

import csv
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import date
from functools import cache
from importlib.resources import files
from typing import Self, TypeAlias

PriceKey: TypeAlias = tuple[str, str, str, str]
"""Region, size in lower case, offer and term, as in the table `prices`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    """What a virtual machine of one size has."""

    sku: str
    """As Azure spells it."""
    vcpus: int
    memory_gib: float
    gpus: float
    """Devices; less than 1 where machines share one."""
    gpu_model: str | None
    gpu_memory_gib: float | None
    """Of each device, as far as the machine sees it."""

    @property
    def family(self) -> str:
        """Its name without the number of cores."""
        return vm_family(self.sku)

    @property
    def generation(self) -> int:
        """The version in its name; 1 where none is named."""
        version = re.search(r"_v(\d+)$", self.sku)
        return int(version[1]) if version else 1


@dataclass(frozen=True, slots=True, kw_only=True)
class ListPrice:
    """What an hour of a node listed at, and when."""

    per_hour: float
    as_of: date


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Catalogue:
    """Sizes by name in lower case, and list prices in one currency."""

    currency: str
    sizes: Mapping[str, Size]
    prices: Mapping[PriceKey, ListPrice]

    @property
    def listed_between(self) -> tuple[date, date]:
        """The days of the oldest and of the newest price."""
        days = {price.as_of for price in self.prices.values()}
        return min(days), max(days)

    def size(self, sku: str) -> Size | None:
        """Return what a size has, or None where we do not know it."""
        return self.sizes.get(sku.lower())

    def price(self, region: str, sku: str, offer: str = "payg", term: str = "") -> ListPrice | None:
        """Return a list price, or None where it is not known or not sold."""
        return self.prices.get((region, sku.lower(), offer, term))

    def sold_in(self, region: str, *, family: str | None = None) -> tuple[Size, ...]:
        """Return the sizes that a region sells by the hour, of a family or of all, cheapest first.

        Only sizes of which we know what they have.
        """
        priced = [
            (price.per_hour, size.sku, size)
            for size in self.sizes.values()
            if family in {None, size.family} and (price := self.price(region, size.sku))
        ]
        return tuple(size for _, _, size in sorted(priced, key=lambda each: each[:2]))

    def overlaid(self, prices: Mapping[PriceKey, ListPrice], *, currency: str) -> Self:
        """Return a catalogue in `currency` of `prices`, and of ours for all they do not speak of.

        Whoever asked Azure for a size in a region was told all its offers: ours serve for others
        only. No price is converted: where ours are in another currency, none of them serves.
        """
        told = {(region, sku) for region, sku, _, _ in prices}
        ours = {key: price for key, price in self.prices.items() if key[:2] not in told}
        return replace(
            self,
            currency=currency,
            prices={**(ours if currency == self.currency else {}), **prices},
        )


def vm_family(sku: str) -> str:
    """Return the family of a VM size: its name in lower case without the number of cores.

    >>> vm_family("Standard_NC24ads_A100_v4"), vm_family("STANDARD_DS3_v2")
    ('ncads_a100_v4', 'ds_v2')
    """
    return re.sub(r"^([a-z]+)\d+(-\d+)?", r"\1", sku.lower().removeprefix("standard_"))


@cache
def snapshot() -> Catalogue:
    """Return the sizes and list prices that come with the product, in US dollars."""
    (currency,) = {row["currency"] for row in _rows("list_prices.csv")}
    return Catalogue(
        currency=currency,
        sizes={row["sku"].lower(): _size(row) for row in _rows("sizes.csv")},
        prices={
            (row["region"], row["sku"].lower(), row["offer"], row["term"]): ListPrice(
                per_hour=float(row["price_per_hour"]), as_of=date.fromisoformat(row["as_of"])
            )
            for row in _rows("list_prices.csv")
        },
    )


def _size(row: Mapping[str, str]) -> Size:
    return Size(
        sku=row["sku"],
        vcpus=int(row["vcpus"]),
        memory_gib=float(row["memory_gib"]),
        gpus=float(row["gpus"]),
        gpu_model=row["gpu_model"] or None,
        gpu_memory_gib=float(row["gpu_memory_gib"]) if row["gpu_memory_gib"] else None,
    )


def _rows(name: str) -> Iterator[dict[str, str]]:
    text = (files(__package__) / name).read_text(encoding="utf-8")
    yield from csv.DictReader(text.splitlines())
