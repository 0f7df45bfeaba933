"""Estates of months of machines by the hour: what a reservation would save, and what would not.

No purchase is played: the truth is S(Q) = Σ min(D, Q)·p − r·Q·T on the emulator's own hours, those
that were seen and those to come, in the estate as every other finding would have it.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import numpy.typing as npt

from benchmarks.closed_loop import Cli, emulator
from benchmarks.estate_files import write_estate
from benchmarks.planted_maker import PRICES, START_UTC, Maker, Need, Planted
from benchmarks.truth import DAYS_TO_COME, Player, changed
from optimizer.emulator import arm, billing
from optimizer.emulator.world import World
from optimizer.units import HOURS_PER_MONTH, utc

Floats = npt.NDArray[np.float64]

DETECTOR = "uncovered_steady_use"
HOUR = timedelta(hours=1)
SEEN_DAYS = 70
_PRICE = {price.sku: price for price in PRICES}


@dataclass(frozen=True, slots=True, kw_only=True)
class Bought:
    """A purchase that was advised. Money is over the days that were seen."""

    sku: str
    quantity: int
    term: str
    planted: bool
    said: float
    true: float
    promised_per_month: tuple[float, float]
    true_to_come_per_month: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Pools:
    """What was said of one estate's steady use, and what was true of it."""

    bought: tuple[Bought, ...]
    missed: tuple[tuple[str, float], ...]
    """Sizes in steady use of which nothing was said, and what the best quantity had saved."""
    unsaid: Mapping[str, str]
    """Why nothing was said, by pool."""

    @property
    def false(self) -> tuple[Bought, ...]:
        """Purchases of what is not in steady use."""
        return tuple(each for each in self.bought if not each.planted)


class Families(Maker):
    """Clusters, each of a family of its own, at work by the hour."""

    seen_days = SEEN_DAYS

    def planted(self) -> Planted:
        """Return an estate with steady use of two families, and decoys."""
        self.steady("Standard_D8ds_v5", Need(cpu=7.2, memory_gib=27), int(self.rng.integers(3, 7)))
        gpu = Need(cpu=5.5, memory_gib=95, gpus=1, gpu_busy=0.85, gpu_memory_gib=12)
        self.steady("Standard_NC6s_v3", gpu, int(self.rng.integers(2, 4)))
        self.declining("Standard_DS3_v2", Need(cpu=3.7, memory_gib=12))
        self.in_bursts("Standard_E8ds_v5", Need(cpu=7.3, memory_gib=55))
        return self.made()

    def steady(self, sku: str, need: Need, nodes: int) -> None:
        """Plant work around the clock that is paid by the hour."""
        made = self.cluster(f"steady-{sku.split('_')[1].lower()}", sku, most=nodes)
        for _ in range(nodes):
            at = START_UTC + timedelta(minutes=float(self.rng.uniform(0, 60)))
            while at < START_UTC + timedelta(days=self.days):
                hours = float(self.rng.uniform(3, 10))
                self.job(made, at, hours * 3600, need)
                at += timedelta(hours=hours, minutes=float(self.rng.exponential(20)))
        self.plant(made, (DETECTOR,))

    def declining(self, sku: str, need: Need) -> None:
        """Make work that moves away, a node every few weeks."""
        made = self.cluster("declining", sku, most=4)
        for until in (20, 45, 70, self.days):
            for hours in range(0, until * 24, 6):
                self.job(made, START_UTC + timedelta(hours=hours), 5.8 * 3600, need)
        self.plant(made, (), why="Its use declines.")

    def in_bursts(self, sku: str, need: Need) -> None:
        """Make work of a few hours in each night."""
        made = self.cluster("bursts", sku, most=4)
        self.nightly(made, need, nodes=4, kind="command", minutes=300)
        self.plant(made, (), why="It works for five hours a day.")


def judged_pools(seed: int, folder: Path) -> Pools:
    """Return what was said of the steady use of a seed's estate, and what was true of it.

    Raises:
        OptimizerError: the emulator or a command failed.
    """
    made = Families(seed).planted()
    write_estate(folder / "estate", made.estate)
    (folder / "optimizer.toml").write_text(f"[analysis]\nlookback_days = {SEEN_DAYS}\n")
    with emulator(folder / "estate") as azure:
        cli = Cli(azure, folder.resolve() / "home", folder)
        if not (folder / "home" / "lake").exists():
            cli("collect")
        said = json.loads(cli("findings", "--json"))
    now = utc(made.estate.manifest["now_utc"])
    after = made.estate
    for finding in said["findings"]:
        if finding["detector"] != DETECTOR and finding["saving_per_month"]["p50"] > 0:
            after = changed(after, finding)
    world = Player(folder, (START_UTC, now)).world(after)
    discount = made.estate.manifest["billing"]["discount"]
    steady = {
        _sku_of(made, plant.resource_id): plant.resource_id
        for plant in made.plants
        if plant.detectors
    }
    bought = []
    for finding in said["findings"]:
        if finding["detector"] != DETECTOR:
            continue
        order, promised = finding["change"]["after"], finding["saving_per_month"]
        sku, quantity, term = order["sku"], order["quantity"], order["term"]
        days = round(finding["evidence"]["observed_days"])
        seen = _units(world, made, sku, now - timedelta(days=days), now)
        to_come = _units(world, made, sku, now, now + timedelta(days=DAYS_TO_COME))
        true, later = (
            saved(demand, quantity, *_prices(sku, term, discount)) for demand in (seen, to_come)
        )
        bought.append(
            Bought(
                sku=sku,
                quantity=quantity,
                term=term,
                planted=sku in steady,
                said=promised["p50"] * days * 24 / HOURS_PER_MONTH,
                true=true,
                promised_per_month=(promised["p10"], promised["p90"]),
                true_to_come_per_month=later * HOURS_PER_MONTH / (DAYS_TO_COME * 24),
            )
        )
    return Pools(
        bought=tuple(bought),
        missed=tuple(
            (sku, _best(_units(world, made, sku, START_UTC, now), sku, discount))
            for sku in steady
            if sku not in {each.sku for each in bought}
        ),
        unsaid={
            each["resource_id"].rpartition("/")[2]: each["reason"]
            for each in said["not_assessed"]
            if each["detector"] == DETECTOR
        },
    )


def saved(demand: Floats, quantity: int, by_the_hour: float, reserved: float) -> float:
    """Return what so many reserved machines save over hours of so many machines in use.

    >>> saved(np.array([0.5, 2.0]), 1, 1.0, 0.5)
    0.5
    """
    return float(
        np.minimum(demand, quantity).sum() * by_the_hour - reserved * quantity * demand.size
    )


def _best(demand: Floats, sku: str, discount: float) -> float:
    return max(
        saved(demand, quantity, *_prices(sku, term, discount))
        for term in ("P1Y", "P3Y")
        for quantity in range(round(demand.max()) + 1)
    )


def _prices(sku: str, term: str, discount: float) -> tuple[float, float]:
    """Return what an hour costs by the hour, and reserved: a discount is of the former alone."""
    price = _PRICE[sku]
    reserved = price.ri_1y_per_hour if term == "P1Y" else price.ri_3y_per_hour
    return price.list_per_hour * (1 - discount), reserved or price.list_per_hour


def _sku_of(made: Planted, key: str) -> str:
    (document,) = (each for each in made.estate.resources if arm.key(each["id"]) == key)
    return arm.vm_size(document)


def _units(world: World, made: Planted, sku: str, start: datetime, end: datetime) -> Floats:
    """Return the machine-hours of a size that were paid for in each hour."""
    hours = round((end - start) / HOUR)
    edges_s = round(start.timestamp()) + 3600 * np.arange(hours + 1)
    total = np.zeros(hours)
    for plant in made.plants:
        if _sku_of(made, plant.resource_id) == sku:
            counts = world.node_counts(plant.resource_id)
            nodes = counts.active + counts.idle + counts.preparing + counts.leaving
            until_s = round(world.now_utc.timestamp())
            total += (
                billing.held_seconds(counts.at_s, nodes, until_s=until_s, edges_s=edges_s) / 3600
            )
    return total
