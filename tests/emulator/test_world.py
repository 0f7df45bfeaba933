"""The world: what it shows, what may be written to it, and that it is the same each time."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from optimizer.emulator.estate import load_estate
from optimizer.emulator.records import JobRecord
from optimizer.emulator.world import CreateOnlyError, World, WriteError
from tests.estates import (
    CPU_SKU,
    GPU_SKU,
    START_UTC,
    Arm,
    cluster,
    instance,
    job,
    session,
    workspace,
    write_estate,
    write_small_estate,
)

HOUR = timedelta(hours=1)
DAY = timedelta(days=1)
START_S = int(START_UTC.timestamp())
WS = workspace()
SCALE = "properties.properties.scaleSettings"


def world(folder: Path, *resources: Arm, **files: Any) -> World:
    return World(load_estate(write_estate(folder, resources=[WS, *resources], **files)))


def shown(of: World, resource: Arm) -> Mapping[str, Any]:
    document = of.document(resource["id"])
    assert document is not None
    properties: Mapping[str, Any] = document["properties"]["properties"]
    return properties


def nodes_at(of: World, resource: Arm) -> list[tuple[float, int]]:
    counts = of.node_counts(resource["id"])
    hours = ((counts.at_s - START_S) / 3600).tolist()
    return list(zip(hours, (counts.active + counts.idle).tolist(), strict=True))


def on(of: World, resource: Arm) -> list[tuple[float, float]]:
    spans = of.instance_on(resource["id"])
    return [((start - START_S) / 3600, (end - START_S) / 3600) for start, end in spans]


def whole_bill(of: World) -> dict[str, Any]:
    return of.bill(START_S, START_S + 1000 * 86_400)


# -- documents -----------------------------------------------------------------------------------


def test_a_cluster_shows_its_nodes_as_they_stand(tmp_path: Path) -> None:
    machine = cluster(WS, minimum=1, maximum=3)
    played = world(
        tmp_path,
        machine,
        jobs=[job(machine, START_UTC + DAY, nodes=2, run_seconds=7200)],
        physics={"allocation_seconds_median": 600},
        days=1 + 300 / 86_400,
    )
    found = shown(played, machine)
    assert (found["allocationState"], found["targetNodeCount"]) == ("Resizing", 2)
    assert found["nodeStateCounts"] == {
        "idleNodeCount": 1,
        "runningNodeCount": 0,
        "preparingNodeCount": 1,
        "unusableNodeCount": 0,
        "leavingNodeCount": 0,
        "preemptedNodeCount": 0,
    }
    played.advance(1)
    found = shown(played, machine)
    assert (found["allocationState"], found["currentNodeCount"]) == ("Steady", 2)
    assert found["nodeStateCounts"]["runningNodeCount"] == 2


def test_an_instance_shows_its_state_and_its_last_operation(tmp_path: Path) -> None:
    desk = instance(WS, idle_shutdown="PT60M")
    played = world(
        tmp_path,
        desk,
        sessions=[session(desk, START_UTC + HOUR, START_UTC + 2 * HOUR)],
        days=1.5 / 24,
    )
    assert shown(played, desk)["state"] == "Running"
    played.advance(2)
    assert shown(played, desk)["state"] == "Stopped"
    assert shown(played, desk)["lastOperation"] == {
        "operationName": "Stop",
        "operationTime": "2026-01-05T03:00:00Z",
        "operationStatus": "Succeeded",
        "operationTrigger": "IdleShutdown",
    }


def test_every_document_is_shown_and_ids_may_differ_in_case(tmp_path: Path) -> None:
    played = World(load_estate(write_small_estate(tmp_path)))
    assert len(played.documents()) == 9
    first = played.documents()[0]
    assert played.document(first["id"].upper()) == first
    assert played.document(first["id"] + "x") is None


def test_what_is_shown_is_a_copy(tmp_path: Path) -> None:
    machine = cluster(WS)
    played = world(tmp_path, machine)
    played.documents()[1]["properties"]["properties"]["vmSize"] = "Standard_X1"
    assert shown(played, machine)["vmSize"] == CPU_SKU


# -- writes --------------------------------------------------------------------------------------


def test_scale_settings_take_effect_now(tmp_path: Path) -> None:
    machine = cluster(WS, minimum=2)
    played = world(tmp_path, machine, days=1)
    played.set_scale(machine["id"], {"maxNodeCount": 4, "minNodeCount": 0})
    played.advance(24)
    assert nodes_at(played, machine) == [(0, 2), (24, 0)]
    assert shown(played, machine)["scaleSettings"] == {
        "minNodeCount": 0,
        "maxNodeCount": 4,
        "nodeIdleTimeBeforeScaleDown": "PT120S",
    }
    [write] = played.operations()
    assert (write.name, write.caller, write.at_s) == ("Write", "optimizer", START_S + 86_400)


def test_contradicting_scale_settings_are_refused_and_change_nothing(tmp_path: Path) -> None:
    machine = cluster(WS)
    played = world(tmp_path, machine)
    before = played.documents()
    with pytest.raises(WriteError, match="minNodeCount 9 and maxNodeCount 4"):
        played.set_scale(machine["id"], {"maxNodeCount": 4, "minNodeCount": 9})
    assert played.documents() == before
    assert played.operations() == ()


def test_idle_shutdown_takes_effect_now(tmp_path: Path) -> None:
    desk = instance(WS)
    work = session(desk, START_UTC + HOUR, START_UTC + 2 * HOUR)
    played = world(tmp_path, desk, sessions=[work], days=1)
    played.set_idle_shutdown(desk["id"], "PT30M")
    played.advance(24)
    assert on(played, desk) == [(1, 24.5)]
    assert shown(played, desk)["idleTimeBeforeShutdown"] == "PT30M"


def test_an_idle_time_that_azure_does_not_take_is_refused(tmp_path: Path) -> None:
    desk = instance(WS)
    with pytest.raises(WriteError, match="15 minutes"):
        world(tmp_path, desk).set_idle_shutdown(desk["id"], "PT10M")


def test_starting_and_stopping(tmp_path: Path) -> None:
    desk = instance(WS)
    played = world(tmp_path, desk, days=1)
    played.start(desk["id"])
    played.advance(2)
    played.stop(desk["id"], caller="ana")
    assert on(played, desk) == [(24, 26)]
    assert [(one.name, one.caller) for one in played.operations()] == [
        ("Start", "optimizer"),
        ("Stop", "ana"),
    ]


def test_only_instances_start_and_only_clusters_scale(tmp_path: Path) -> None:
    machine, desk = cluster(WS), instance(WS)
    played = world(tmp_path, machine, desk)
    with pytest.raises(WriteError, match="not of the kind"):
        played.start(machine["id"])
    with pytest.raises(WriteError, match="not of the kind"):
        played.set_scale(desk["id"], {"maxNodeCount": 1})
    with pytest.raises(WriteError, match="no compute"):
        played.stop(f"{desk['id']}-other")


def test_a_put_replaces_what_can_change(tmp_path: Path) -> None:
    machine = cluster(WS, minimum=1, tags={"owner": "ana"})
    played = world(tmp_path, machine, days=1)
    body = cluster(WS, minimum=0, idle="PT10M", tags={"owner": "ben"})
    played.put_compute(machine["id"], {**body, "identity": {"type": "SystemAssigned"}})
    document = played.document(machine["id"])
    assert document is not None
    assert document["tags"] == {"owner": "ben"}
    assert document["identity"] == {"type": "SystemAssigned"}
    assert document["properties"]["createdOn"] == machine["properties"]["createdOn"]
    assert nodes_at(played, machine) == [(0, 1), (24, 0)]


@pytest.mark.parametrize(
    "other", [{"sku": GPU_SKU}, {"priority": "LowPriority"}], ids=["size", "priority"]
)
def test_a_put_cannot_change_what_is_fixed(tmp_path: Path, other: dict[str, str]) -> None:
    machine = cluster(WS)
    with pytest.raises(CreateOnlyError, match="make a new compute"):
        world(tmp_path, machine).put_compute(machine["id"], cluster(WS, **other))  # type: ignore[arg-type]  # all are text


def test_a_put_keeps_the_idle_time_of_an_instance_which_has_its_own_action(
    tmp_path: Path,
) -> None:
    desk = instance(WS, idle_shutdown="PT60M")
    played = world(tmp_path, desk)
    played.put_compute(desk["id"], instance(WS, idle_shutdown="PT30M"))
    assert shown(played, desk)["idleTimeBeforeShutdown"] == "PT60M"


def test_a_put_of_a_new_name_makes_a_compute(tmp_path: Path) -> None:
    machine, desk = cluster(WS, "new", minimum=1), instance(WS, "fresh")
    played = world(tmp_path, days=1, physics={"allocation_seconds_median": 3600})
    played.put_compute(machine["id"], machine)
    played.put_compute(desk["id"], desk)
    played.advance(24)
    assert nodes_at(played, machine) == [(24, 0), (25, 1)]
    assert on(played, desk) == [(24, 48)]
    assert [one.name for one in played.operations()] == ["Create", "Create"]
    assert shown(played, desk)["lastOperation"]["operationName"] == "Create"


@pytest.mark.parametrize(
    ("made", "word"),
    [
        (cluster(WS, "new", sku="Standard_X1"), "no row for Standard_X1"),
        (cluster(workspace("elsewhere"), "new"), "workspace that does not exist"),
        ({**WS, "id": f"{WS['id']}/computes/new"}, "neither"),
    ],
    ids=["size", "workspace", "kind"],
)
def test_a_compute_that_cannot_be_made_is_refused(tmp_path: Path, made: Arm, word: str) -> None:
    with pytest.raises(WriteError, match=word):
        world(tmp_path).put_compute(made["id"], made)


def test_what_a_deleted_compute_did_stays_known(tmp_path: Path) -> None:
    machine = cluster(WS, minimum=1)
    played = world(tmp_path, machine, days=1, physics={"cluster_nodes_per_load_balancer": 0})
    played.delete_compute(machine["id"])
    played.advance(24)
    assert played.document(machine["id"]) is None
    assert whole_bill(played)["by_resource"] == {machine["id"]: pytest.approx(24 * 0.25)}
    with pytest.raises(WriteError, match="deleted"):
        played.set_scale(machine["id"], {"maxNodeCount": 1})
    played.put_compute(machine["id"], machine)
    played.advance(24)
    assert whole_bill(played)["total"] == pytest.approx(48 * 0.25)


def test_time_does_not_run_backwards(tmp_path: Path) -> None:
    with pytest.raises(WriteError, match="cannot go back"):
        world(tmp_path).advance(-1)


# -- changes of the past and of the future -------------------------------------------------------


def test_changes_happen_at_their_own_time_past_and_future(tmp_path: Path) -> None:
    machine, desk = cluster(WS), instance(WS)
    changes = [
        {"at_utc": START_UTC + at, "resource_id": of["id"], "path": path, "value": value}
        for at, of, path, value in (
            (6 * HOUR, machine, f"{SCALE}.minNodeCount", 2),
            (30 * HOUR, machine, f"{SCALE}.minNodeCount", 1),
            (12 * HOUR, desk, "tags.owner", "ben"),
        )
    ]
    work = [session(desk, START_UTC, START_UTC + HOUR)]
    played = world(tmp_path, machine, desk, sessions=work, changes=changes, days=1)
    assert nodes_at(played, machine) == [(0, 0), (6, 2)]
    document = played.document(desk["id"])
    assert document is not None
    assert document["tags"] == {"owner": "ben"}
    played.advance(24)
    assert nodes_at(played, machine) == [(0, 0), (6, 2), (30, 1)]
    assert [one.name for one in played.operations()] == ["Start", "Write", "Write", "Write"]


def test_a_change_of_ours_stands_until_the_customer_changes_it_again(tmp_path: Path) -> None:
    machine = cluster(WS, minimum=1)
    later = {
        "at_utc": START_UTC + 2 * DAY,
        "resource_id": machine["id"],
        "path": f"{SCALE}.minNodeCount",
        "value": 3,
    }
    played = world(tmp_path, machine, changes=[later], days=1)
    played.set_scale(machine["id"], {"maxNodeCount": 4, "minNodeCount": 0})
    played.advance(48)
    assert nodes_at(played, machine) == [(0, 1), (24, 0), (48, 3)]


# -- jobs and deployments ------------------------------------------------------------------------


def job_of(of: World, name: str) -> JobRecord:
    return next(record for record in of.jobs() if record.id == name)


def test_jobs_are_known_from_their_submission_on(tmp_path: Path) -> None:
    machine = cluster(WS, maximum=1)
    jobs = [
        job(machine, START_UTC + at * HOUR, run_seconds=7200, job_id=name, fails=name == "second")
        for at, name in ((0, "first"), (0.5, "second"), (1, "third"), (90, "future"))
    ]
    played = world(tmp_path, machine, jobs=jobs, days=2.5 / 24)
    assert [record.status for record in played.jobs()] == ["Completed", "Running", "Queued"]
    first = job_of(played, "first")
    assert (first.submitted_s, first.started_s, first.ended_s) == (
        START_S,
        START_S,
        START_S + 7200,
    )
    assert first.row["experiment"] == "train"
    played.advance(100)
    assert job_of(played, "second").status == "Failed"
    assert job_of(played, "future").status == "Completed"


def test_a_job_takes_longer_where_its_reference_size_was_larger(tmp_path: Path) -> None:
    machine = cluster(WS)
    jobs = [
        job(machine, START_UTC, job_id="slow", reference_sku=GPU_SKU, cpu_cores_needed=6.0),
        job(machine, START_UTC, job_id="same", cpu_cores_needed=6.0),
        job(machine, START_UTC, job_id="oom", reference_sku=GPU_SKU, memory_gib_needed=99.0),
    ]
    played = world(tmp_path, machine, jobs=jobs)
    lengths = {one.id: (one.ended_s or 0) - START_S for one in played.jobs()}
    assert lengths == {"slow": 5400, "same": 3600, "oom": 3600}
    assert job_of(played, "oom").status == "Failed"


def test_a_deployment_pays_for_the_instances_it_is_set_to(tmp_path: Path) -> None:
    endpoint = {
        "id": f"{WS['id']}/onlineEndpoints/score",
        "name": "score",
        "type": "Microsoft.MachineLearningServices/workspaces/onlineEndpoints",
        "location": "eastus",
        "properties": {},
    }
    blue = {
        "id": f"{endpoint['id']}/deployments/blue",
        "name": "blue",
        "type": "Microsoft.MachineLearningServices/workspaces/onlineEndpoints/deployments",
        "location": "eastus",
        "sku": {"name": "Default", "capacity": 3},
        "properties": {"instanceType": CPU_SKU},
    }
    played = world(tmp_path, endpoint, blue, days=1)
    played.set_capacity(str(blue["id"]), 1)
    played.advance(24)
    assert whole_bill(played)["by_resource"] == {blue["id"]: pytest.approx((72 + 24) * 0.25)}


# -- the same each time --------------------------------------------------------------------------

CHANCE = {
    "allocation_seconds_median": 300,
    "allocation_seconds_sigma": 0.5,
    "leaving_seconds": 60,
    "start_seconds": 120,
    "eviction_per_node_hour": 0.05,
}


def chancy(folder: Path) -> Path:
    low = cluster(WS, "low", priority="LowPriority", maximum=5)
    high = cluster(WS, "high", minimum=1)
    desk = instance(WS, idle_shutdown="PT60M")
    return write_estate(
        folder,
        resources=[WS, low, high, desk],
        jobs=[
            job(on, START_UTC + n * 3 * HOUR, nodes=1 + n % 3)
            for on in (low, high)
            for n in range(80)
        ],
        sessions=[
            session(desk, START_UTC + n * DAY, START_UTC + n * DAY + 4 * HOUR) for n in range(14)
        ],
        physics=CHANCE,
        days=7,
    )


def test_advancing_in_steps_is_advancing_at_once(tmp_path: Path) -> None:
    estate = load_estate(chancy(tmp_path))
    at_once, in_steps = World(estate), World(estate)
    at_once.advance(100)
    for _ in range(400):
        in_steps.advance(0.25)
    assert in_steps.now_utc == at_once.now_utc
    assert in_steps.charges(START_S, 2**40) == at_once.charges(START_S, 2**40)
    assert in_steps.jobs() == at_once.jobs()


def test_the_order_of_resources_makes_no_difference(tmp_path: Path) -> None:
    estate = load_estate(chancy(tmp_path))
    turned = replace(estate, resources=tuple(reversed(estate.resources)))
    assert whole_bill(World(turned))["by_resource"] == whole_bill(World(estate))["by_resource"]


def test_another_seed_is_another_world(tmp_path: Path) -> None:
    estate = load_estate(chancy(tmp_path))
    assert whole_bill(World(replace(estate, seed=8))) != whole_bill(World(estate))


# -- Microsoft's own clusters --------------------------------------------------------------------

TRACE = Path(__file__).parents[3] / "shared/data/traces/itp_jobs_odd.parquet"


@pytest.mark.skipif(not TRACE.exists(), reason=f"the trace {TRACE.name} is not beside the project")
@pytest.mark.parametrize(
    ("name", "gpus_per_node", "node_hours"),
    [
        ("cluster05", 8, [10_296, 10_405, 11_671, 15_161, 52_123]),
        ("cluster01", 4, [9_469, 9_538, 10_418, 12_895, 35_511]),
        ("cluster09", 1, [39_001, 39_335, 42_853, 51_215, 99_597]),
    ],
)
def test_node_hours_of_a_real_trace_at_five_idle_times(
    tmp_path: Path, name: str, gpus_per_node: int, node_hours: list[int]
) -> None:
    rows = pq.read_table(TRACE, filters=[("cluster", "==", name)]).to_pylist()
    jobs = [
        {
            "submit_utc": START_UTC + timedelta(seconds=row["submit_s"]),
            "run_seconds": row["duration_s"],
            "nodes": -(-row["num_gpus"] // gpus_per_node),
            "job_id": row["job_id"],
        }
        for row in rows
    ]
    billed = []
    for idle in ("PT0S", "PT2M", "PT30M", "PT2H", "P1D"):
        machine = cluster(WS, maximum=1000, idle=idle)
        on_it = [job(machine, **each) for each in jobs]
        played = world(tmp_path, machine, jobs=on_it, days=70)
        charges = played.charges(START_S, 2**40)
        billed.append(sum(each.quantity for each in charges if each.component == "vm"))
    assert [round(hours) for hours in billed] == node_hours
