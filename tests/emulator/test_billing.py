"""Money, worked out by hand."""

from datetime import timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from optimizer.emulator.billing import day_edges
from optimizer.emulator.estate import load_estate
from optimizer.emulator.records import Charge
from optimizer.emulator.world import World
from tests.estates import (
    CPU_SKU,
    START_UTC,
    Arm,
    cluster,
    instance,
    job,
    price,
    session,
    workspace,
    write_estate,
)

HOUR = timedelta(hours=1)
START_S = int(START_UTC.timestamp())
DAY_S = 86_400
WS = workspace()
NODES_ONLY = {"cluster_nodes_per_load_balancer": 0}


def world(folder: Path, *resources: Arm, **files: Any) -> World:
    return World(load_estate(write_estate(folder, resources=[WS, *resources], **files)))


def charged(of: World, component: str | None = None) -> list[Charge]:
    charges = of.charges(START_S, START_S + 1000 * DAY_S)
    return [each for each in charges if component in (None, each.component)]


def total(of: World) -> float:
    return sum(each.cost for each in charged(of))


@pytest.mark.parametrize(
    ("minimum", "idle_minutes", "dollars"),
    [(0, 2, 92.50), (0, 15, 125.00), (0, 60, 237.50), (0, 90, 300.25), (1, 2, 300.00)],
)
def test_fifty_jobs_of_half_an_hour_and_ninety_minutes_apart(
    tmp_path: Path, minimum: int, idle_minutes: int, dollars: float
) -> None:
    # A node comes up in 5 billed minutes at 3 dollars an hour; where one is kept there is nothing
    # to wait for, and 50 × 120 minutes are all there is.
    boot = 0 if minimum else 5
    machine = cluster(WS, minimum=minimum, idle=f"PT{idle_minutes}M")
    jobs = [
        job(
            machine,
            START_UTC + timedelta(minutes=n * 120 + (boot if n else 0)),
            run_seconds=1800,
        )
        for n in range(50)
    ]
    played = world(
        tmp_path,
        machine,
        jobs=jobs,
        prices=[price(CPU_SKU, 3.0)],
        physics={"allocation_seconds_median": 300, **NODES_ONLY},
        days=50 * 120 / 1440 if minimum else 8,
    )
    assert total(played) == pytest.approx(dollars, abs=1e-9)


def test_a_stopped_instance_pays_for_its_disk_address_and_load_balancer(tmp_path: Path) -> None:
    played = world(tmp_path, instance(WS), days=730 / 24)
    assert {each.component for each in charged(played)} == {"disk", "ip", "load_balancer"}
    monthly = {name: sum(one.cost for one in charged(played, name)) for name in ("disk", "ip")}
    assert monthly == {"disk": pytest.approx(19.71), "ip": pytest.approx(0.005 * 730)}
    assert total(played) == pytest.approx(19.71 + 3.65 + 0.33 * 730 / 24)


def test_an_instance_pays_for_its_vm_from_its_start_to_its_stop(tmp_path: Path) -> None:
    machine = instance(WS)
    work = session(machine, START_UTC + 9 * HOUR, START_UTC + 17 * HOUR, user_stops=True)
    for starting_billed, hours in ((True, 8.0), (False, 7.5)):
        physics = {"start_seconds": 1800, "starting_billed": starting_billed}
        played = world(tmp_path, machine, sessions=[work], physics=physics)
        assert sum(each.quantity for each in charged(played, "vm")) == hours


def test_a_discount_is_taken_off_everything(tmp_path: Path) -> None:
    machine = cluster(WS, minimum=1)
    played = world(tmp_path, machine, instance(WS), billing={"discount": 0.25}, days=2)
    for each in charged(played):
        assert each.cost == pytest.approx(0.75 * each.list_cost)
    assert sum(each.list_cost for each in charged(played, "vm")) == pytest.approx(48 * 0.25)


def test_low_priority_nodes_cost_their_own_price(tmp_path: Path) -> None:
    played = world(tmp_path, cluster(WS, minimum=2, priority="LowPriority"), days=1)
    [nodes] = charged(played, "vm")
    assert (nodes.quantity, nodes.cost, nodes.priority) == (48, 48 * 0.05, "LowPriority")
    assert nodes.meter == "DS3 v2 Low Priority"


def test_preempted_nodes_are_not_billed(tmp_path: Path) -> None:
    played = world(
        tmp_path,
        cluster(WS, minimum=1, maximum=1, priority="LowPriority"),
        physics={"eviction_per_node_hour": 0.5, "preempted_seconds": 3600},
    )
    counts = played.node_counts(played.documents()[1]["id"])
    seconds = np.diff(np.append(counts.at_s, START_S + 21 * DAY_S))
    away = int(counts.preempted @ seconds)
    assert away > 0
    billed = sum(each.quantity for each in charged(played, "vm"))
    assert billed == pytest.approx(21 * 24 - away / 3600)


@pytest.mark.parametrize(
    ("physics", "minutes"),
    [({}, 18), ({"preparing_billed": False}, 13), ({"leaving_billed": False}, 17)],
)
def test_which_node_states_are_billed_is_a_setting(
    tmp_path: Path, physics: dict[str, Any], minutes: int
) -> None:
    machine = cluster(WS)
    played = world(
        tmp_path,
        machine,
        jobs=[job(machine, START_UTC, run_seconds=600)],
        physics={"allocation_seconds_median": 300, "leaving_seconds": 60, **physics},
    )
    assert sum(each.quantity for each in charged(played, "vm")) == pytest.approx(minutes / 60)


def test_a_cluster_pays_a_load_balancer_for_each_fifty_nodes(tmp_path: Path) -> None:
    machine = cluster(WS, maximum=100, idle="PT0S")
    jobs = [
        job(machine, START_UTC, run_seconds=3600, nodes=51),
        job(machine, START_UTC + 2 * HOUR, run_seconds=3600, nodes=50),
    ]
    played = world(tmp_path, machine, jobs=jobs)
    assert sum(each.cost for each in charged(played, "load_balancer")) == pytest.approx(
        (2 + 1) * 0.33 / 24
    )


def test_days_and_parts_of_days_add_up_to_the_whole(tmp_path: Path) -> None:
    machine, desk = cluster(WS, minimum=1), instance(WS)
    jobs = [job(machine, START_UTC + n * 7.3 * HOUR, nodes=2) for n in range(60)]
    played = world(tmp_path, machine, desk, jobs=jobs)
    cuts = [START_S, START_S + 12_345, START_S + 5 * DAY_S + 1, START_S + 21 * DAY_S]
    parts = [played.bill(*pair)["total"] for pair in pairwise(cuts)]
    assert sum(parts) == pytest.approx(played.bill(cuts[0], cuts[-1])["total"], rel=1e-12)
    assert len({each.day for each in charged(played, "disk")}) == 21


def test_a_bill_holds_nothing_of_the_future_nor_of_before(tmp_path: Path) -> None:
    played = world(tmp_path, cluster(WS, minimum=1), days=1, physics=NODES_ONLY)
    everything = played.bill(START_S - 99 * DAY_S, START_S + 99 * DAY_S)
    assert everything["total"] == pytest.approx(24 * 0.25)
    assert everything["currency"] == "USD"
    assert played.bill(START_S + 2 * DAY_S, START_S + 3 * DAY_S)["by_resource"] == {}


def test_a_bill_names_each_compute(tmp_path: Path) -> None:
    machine, idle = cluster(WS, minimum=1), cluster(WS, "never-used")
    played = world(tmp_path, machine, idle, days=1, physics=NODES_ONLY)
    assert played.bill(START_S, START_S + DAY_S)["by_resource"] == {machine["id"]: 6.0}


def test_edges_are_the_midnights_between() -> None:
    assert day_edges(DAY_S - 5, 2 * DAY_S + 5).tolist() == [
        DAY_S - 5,
        DAY_S,
        2 * DAY_S,
        2 * DAY_S + 5,
    ]
    assert day_edges(0, DAY_S).tolist() == [0, DAY_S]
