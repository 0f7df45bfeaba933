"""What a rule may see of a compute: its size, its bill, and its CPU and memory by day."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from optimizer.analysis.use import BINS, Use, use_of
from optimizer.catalogue import Catalogue, Size, snapshot
from optimizer.store import tables
from optimizer.store.lake import Lake, conform
from optimizer.store.weeks import use_in

Floats = npt.NDArray[np.float64]

HOURS_PER_DAY = 24
MINUTES_PER_HOUR = 60


@dataclass(frozen=True, slots=True, kw_only=True)
class Advice:
    """What a rule says of a compute."""

    rule: str
    resource_id: str
    saving_per_month: float | None
    """None: the tool reckons no money."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Machine:
    """A compute whose use was told on some day."""

    resource_id: str
    interactive: bool
    """A person works at it."""
    size: Size
    region: str
    catalogue: Catalogue
    cost_per_month: float
    """Of its machines, as billed, over 30 days."""
    hours_per_month: float
    node_days: pd.DataFrame
    end: pd.Timestamp
    """Of the days that were seen."""

    def use(self, days: int) -> Use | None:
        """Return its use in the last days; None where none was told."""
        rows = self._last(days)
        return None if rows.empty else use_of(use_in(conform(tables.NODE_DAYS, rows)).iloc[0])

    def mean_by_hour(self, days: int) -> Floats:
        """Return mean CPU by day and hour; NaN where it was off. Shape: days with use × 24."""
        sums = [
            np.asarray(each, dtype=np.float64)
            for each in self._last(days).groupby("day")["cpu_hour_sums"].agg(_summed)
        ]
        nodes = self._last(days).groupby("day")["node_id"].nunique().to_numpy(dtype=np.float64)
        if not sums:
            return np.empty((0, HOURS_PER_DAY))
        means = np.stack(sums) / (MINUTES_PER_HOUR * (BINS - 1)) / nodes[:, None]
        # A machine that is on is never at 0 for an hour.
        shown: Floats = np.where(means > 0, means, np.nan)
        return shown

    def price(self, size: Size) -> float | None:
        """Return what an hour of a size lists at here."""
        listed = self.catalogue.price(self.region, size.sku)
        return listed.per_hour if listed else None

    def cheaper(self) -> Iterator[tuple[float, Size]]:
        """Yield list price and size of every size that lists below its own, cheapest first."""
        own = self.price(self.size)
        for size in self.catalogue.sold_in(self.region):
            price = self.price(size)
            if own is not None and price is not None and price < own:
                yield price, size

    def _last(self, days: int) -> pd.DataFrame:
        return self.node_days[self.node_days["day"] >= self.end - pd.Timedelta(days=days)]


def _summed(each: "pd.Series[Any]") -> Floats:
    total: Floats = np.sum([np.asarray(one, dtype=np.float64) for one in each], axis=0)
    return total


def machines_of(home: Path) -> Iterator[Machine]:
    """Yield the computes of a lake whose size is known and whose use was told."""
    lake = Lake(home / "lake")
    seen = lake.read(tables.NODE_DAYS)
    seen = seen[seen["cpu_hour_sums"].notna()]
    costs = lake.read(tables.COSTS)
    costs = costs[costs["component"] == "vm"]
    resources = lake.read(tables.RESOURCES).drop_duplicates("resource_id", keep="last")
    catalogue = snapshot()
    end = seen["day"].max() + pd.Timedelta(days=1)
    for row in resources.to_dict("records"):
        size = catalogue.size(str(row["sku"]))
        mine = seen[seen["resource_id"] == row["resource_id"]]
        if size is None or mine.empty:
            continue
        billed = costs[costs["resource_id"] == row["resource_id"]]
        months = 30 / max(costs["charge_date"].nunique(), 1)
        yield Machine(
            resource_id=row["resource_id"],
            interactive=row["kind"] == "instance",
            size=size,
            region=row["region"],
            catalogue=catalogue,
            cost_per_month=float(billed["effective_cost"].sum()) * months,
            hours_per_month=float(billed["quantity"].sum()) * months,
            node_days=mine,
            end=end,
        )


def advice_of(machines: Iterable[Machine], rules: Any) -> list[Advice]:
    """Return what every rule says of every machine."""
    return [said for machine in machines for rule in rules if (said := rule(machine)) is not None]
