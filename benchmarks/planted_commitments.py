"""Estates with reservations: some larger than what uses them, and some that only look so.

The truth is the emulator's bill of the hours that were reserved and not used. Nothing is claimed of
them, as they are owed for the term; what is scored is what was said to go unused.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from benchmarks.closed_loop import Cli, emulator
from benchmarks.estate_files import write_estate
from benchmarks.planted_maker import (
    REGION,
    SEEN_DAYS,
    START_UTC,
    Arm,
    Maker,
    Need,
    Planted,
)
from benchmarks.truth import DAYS_TO_COME, Player
from optimizer.emulator.world import World
from optimizer.units import HOURS_PER_MONTH, iso_utc, utc

DETECTOR = "underused_commitment"
ACCOUNT = "7000000"
LONG_AGO_UTC = START_UTC - timedelta(days=90)
OF_LATE_DAYS = 6
GPU = Need(cpu=5.5, memory_gib=95, gpus=1, gpu_busy=0.85, gpu_memory_gib=12)


@dataclass(frozen=True, slots=True, kw_only=True)
class Unused:
    """A commitment of which it was said that much goes unused. Money is over the window seen."""

    resource: str
    planted: bool
    said: float
    true: float
    promised_per_month: tuple[float, float]
    true_to_come_per_month: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Commitments:
    """What was said of one estate's commitments, and what was true of them."""

    found: tuple[Unused, ...]
    missed: tuple[tuple[str, float], ...]
    """Those that go unused and of which nothing was said, and what that cost."""
    unsaid: Mapping[str, str]
    """Why nothing was said, by commitment."""

    @property
    def false(self) -> tuple[Unused, ...]:
        """Findings on what is used well, or was not had for long."""
        return tuple(each for each in self.found if not each.planted)


class Reserved(Maker):
    """Clusters, each of a family of its own with a reservation of its own."""

    def __init__(self, seed: int) -> None:
        """Begin with an empty workspace and nothing reserved."""
        super().__init__(seed)
        self.reservations: list[Arm] = []

    def planted(self) -> Planted:
        """Return an estate with two reservations that are too large, and decoys."""
        self.larger_than_steady_use()
        self.for_office_hours()
        self.covers_larger_machines()
        self.rested_for_days()
        self.bought_of_late()
        return self.made()

    def made(self) -> Planted:
        """Return what was drawn so far as an estate, with what it committed to."""
        planted = super().made()
        manifest: dict[str, Any] = dict(planted.estate.manifest)
        manifest["billing"] = manifest["billing"] | {"reservations": self.reservations}
        return replace(planted, estate=replace(planted.estate, manifest=manifest))

    def larger_than_steady_use(self) -> None:
        """Plant a reservation of about twice the machines that work around the clock."""
        nodes = int(self.rng.integers(2, 5))
        made = self.cluster("steady", "Standard_D8ds_v5", most=nodes)
        self.around_the_clock(made, Need(cpu=7.2, memory_gib=27), nodes)
        more = int(self.rng.integers(nodes, 2 * nodes + 1))
        self.reserve("too-large", "Standard_D8ds_v5", nodes + more, exposes=(DETECTOR,))

    def for_office_hours(self) -> None:
        """Plant a reservation of GPUs that work by day alone."""
        made = self.cluster("office", "Standard_NC6s_v3", most=1)
        self.office(made, GPU)
        self.reserve("by-day", "Standard_NC6s_v3", 1, exposes=(DETECTOR,))

    def covers_larger_machines(self) -> None:
        """Make a reservation of small machines that larger ones of the family use up."""
        nodes = int(self.rng.integers(2, 5))
        made = self.cluster("larger", "Standard_DS4_v2", most=nodes)
        self.around_the_clock(made, Need(cpu=7.5, memory_gib=25), nodes)
        self.reserve(
            "well-used", "Standard_DS3_v2", 2 * (nodes - 1), why="Larger machines use it up."
        )

    def rested_for_days(self) -> None:
        """Make a reservation that is used but for three days."""
        nodes = int(self.rng.integers(2, 4))
        made = self.cluster("rests", "Standard_E8ds_v5", most=nodes)
        first = int(self.rng.integers(10, SEEN_DAYS - 5))
        rest = START_UTC + timedelta(days=first), START_UTC + timedelta(days=first + 3)
        self.around_the_clock(made, Need(cpu=7.3, memory_gib=55), nodes, rest=rest)
        self.reserve("rested", "Standard_E8ds_v5", nodes, why="Its use rested for three days.")

    def bought_of_late(self) -> None:
        """Make a reservation of which too little was seen, whatever becomes of it."""
        made = self.cluster("moves-in", "Standard_NC4as_T4_v3", most=1)
        need = Need(cpu=3.4, memory_gib=20, gpus=1, gpu_busy=0.7, gpu_memory_gib=9)
        self.around_the_clock(made, need, 1)
        bought = START_UTC + timedelta(days=self.seen_days - OF_LATE_DAYS)
        why = "It was bought days ago; work moves to it."
        self.reserve("young", "Standard_NC4as_T4_v3", 4, start_utc=bought, why=why)

    def around_the_clock(
        self, made: Arm, need: Need, nodes: int, *, rest: tuple[datetime, datetime] | None = None
    ) -> None:
        """Keep so many nodes at work but for short pauses, and for a longer rest."""
        for _ in range(nodes):
            at = START_UTC + timedelta(minutes=float(self.rng.uniform(0, 60)))
            while at < START_UTC + timedelta(days=self.days):
                if rest and rest[0] <= at < rest[1]:
                    at = rest[1]
                hours = float(self.rng.uniform(3, 10))
                self.job(made, at, hours * 3600, need)
                at += timedelta(hours=hours, minutes=float(self.rng.exponential(10)))

    def reserve(
        self,
        name: str,
        sku: str,
        quantity: int,
        *,
        start_utc: datetime = LONG_AGO_UTC,
        exposes: tuple[str, ...] = (),
        why: str = "",
    ) -> None:
        """Commit to machines for a year, and note what was planted in that."""
        order = f"/providers/Microsoft.Capacity/reservationOrders/order-{name}"
        made = {
            "id": f"{order}/reservations/{name}",
            "billing_account": ACCOUNT,
            "subscription": self.workspace["id"].split("/")[2],
            "region": REGION,
            "sku": sku,
            "quantity": quantity,
            "start_utc": iso_utc(start_utc),
        }
        self.reservations.append(made)
        self.plant(made, (), exposes=exposes, why=why)


def judged_commitments(seed: int, folder: Path) -> Commitments:
    """Return what was said of the commitments of a seed's estate, and what was true of them.

    Raises:
        OptimizerError: the emulator or a command failed.
    """
    made = Reserved(seed).planted()
    write_estate(folder / "estate", made.estate)
    (folder / "optimizer.toml").write_text(f'[azure]\nbilling_account = "{ACCOUNT}"\n')
    with emulator(folder / "estate") as azure:
        cli = Cli(azure, folder.resolve() / "home", folder)
        if not (folder / "home" / "lake").exists():
            cli("collect")
        said = json.loads(cli("findings", "--json"))
    window = utc(said["window"]["start_utc"]), utc(said["window"]["end_utc"])
    now = utc(made.estate.manifest["now_utc"])
    world = Player(folder, window).world(made.estate)
    seen = unused_costs(world, *window)
    to_come = unused_costs(world, now, now + timedelta(days=DAYS_TO_COME))
    months = (window[1] - window[0]) / timedelta(hours=HOURS_PER_MONTH)
    planted = {plant.resource_id for plant in made.plants if plant.exposes}
    found = {each["resource_id"]: each for each in said["findings"] if each["detector"] == DETECTOR}
    return Commitments(
        found=tuple(
            Unused(
                resource=_name(key),
                planted=key in planted,
                said=each["evidence"]["unused_cost_per_month_at_least"] * months,
                true=seen.get(key, 0.0),
                promised_per_month=(
                    each["evidence"]["unused_cost_per_month_p10"],
                    each["evidence"]["unused_cost_per_month_p90"],
                ),
                true_to_come_per_month=to_come.get(key, 0.0)
                * HOURS_PER_MONTH
                / (DAYS_TO_COME * 24),
            )
            for key, each in found.items()
        ),
        missed=tuple(
            (_name(key), seen.get(key, 0.0)) for key in sorted(planted) if key not in found
        ),
        unsaid={
            _name(each["resource_id"]): each["reason"]
            for each in said["not_assessed"]
            if each["detector"] == DETECTOR
        },
    )


def unused_costs(world: World, start: datetime, end: datetime) -> dict[str, float]:
    """Return what reservations cost between two moments for hours that nothing used."""
    costs: dict[str, float] = {}
    for charge in world.charges(round(start.timestamp()), round(end.timestamp())):
        if charge.charge_type == "UnusedReservation":
            key = charge.compute_id.lower()
            costs[key] = costs.get(key, 0.0) + charge.cost
    return costs


def _name(resource_id: str) -> str:
    return resource_id.rpartition("/")[2]
