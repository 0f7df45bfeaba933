"""What moves behind a resource: made of its document and its activity, set by its document."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from itertools import pairwise
from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from optimizer.emulator import arm
from optimizer.emulator.clusters import Cluster, ClusterJob
from optimizer.emulator.deployments import Deployment, Requests
from optimizer.emulator.estate import Estate, Price
from optimizer.emulator.files import table_rows
from optimizer.emulator.instances import Instance, Session
from optimizer.emulator.physics import Needs, fits, stretch

Engine: TypeAlias = Cluster | Instance | Deployment
Row: TypeAlias = Mapping[str, Any]

_US_PER_MINUTE = 60_000_000

NO_REQUESTS = Requests(minute=np.zeros(0, np.int64), per_minute=np.zeros(0), service_ms=np.zeros(0))


@dataclass(frozen=True, slots=True, kw_only=True)
class Activity:
    """What is done on a resource, whatever its settings: (row number, row) of each table."""

    jobs: Sequence[tuple[int, Row]] = ()
    sessions: Sequence[tuple[int, Row]] = ()
    requests: Requests = NO_REQUESTS


NO_ACTIVITY = Activity()


def read_activity(estate: Estate) -> dict[str, Activity]:
    """Return the activity of each resource that has any, by its id as it is compared."""
    jobs = _by_resource(table_rows(estate.jobs, estate.jobs.column_names))
    sessions = _by_resource(table_rows(estate.sessions, estate.sessions.column_names))
    requests = _requests(estate)
    return {
        key: Activity(
            jobs=jobs.get(key, ()),
            sessions=sessions.get(key, ()),
            requests=requests.get(key, NO_REQUESTS),
        )
        for key in jobs.keys() | sessions.keys() | requests.keys()
    }


def make_engine(
    estate: Estate, document: arm.Document, activity: Activity, *, start_s: int, is_new: bool
) -> Engine | None:
    """Return what plays a resource from `start_s`; None where nothing moves behind it.

    A cluster of the estate begins with its minimum of nodes; those of a new one must come up.

    Raises:
        EstateError: its settings cannot be played, or its VM size has no price.
    """
    if not arm.is_played(document):
        return None
    estate.rate(document)
    if arm.is_cluster(document):
        return _make_cluster(estate, document, activity, start_s=start_s, is_new=is_new)
    if arm.is_instance(document):
        return Instance(
            arm.key(document["id"]),
            arm.read_instance(document),
            [_session(index, row) for index, row in activity.sessions],
            running=is_new or arm.settings(document).get("state") == "Running",
            physics=estate.physics,
            start_s=start_s,
        )
    return Deployment(
        arm.read_deployment(document),
        activity.requests,
        physics=estate.physics,
        start_s=start_s,
        is_new=is_new,
    )


def configure(engine: Engine, document: arm.Document) -> None:
    """Put the settings of a document in force at the engine's now."""
    match engine:
        case Cluster():
            engine.configure(arm.read_scale(document))
        case Instance():
            engine.configure(arm.read_instance(document))
        case Deployment():
            engine.configure(arm.read_deployment(document))


def whole_seconds(moment: datetime) -> int:
    """Return a moment in whole seconds since the epoch; parts of a second are dropped."""
    return int(moment.timestamp() // 1)


def _by_resource(rows: Iterable[Row]) -> dict[str, list[tuple[int, Row]]]:
    found: dict[str, list[tuple[int, Row]]] = defaultdict(list)
    for index, row in enumerate(rows):
        found[arm.key(row["resource_id"])].append((index, row))
    return found


def _requests(estate: Estate) -> dict[str, Requests]:
    """Return the requests of each deployment, in order of time."""
    rows = estate.requests
    ids = pc.utf8_lower(rows["resource_id"]).combine_chunks().dictionary_encode()
    minute = rows["minute_utc"].cast(pa.int64()).to_numpy() // _US_PER_MINUTE
    columns = (
        minute,
        rows["requests_per_minute"].to_numpy(),
        pc.fill_null(rows["service_ms"], estate.physics.request_service_ms).to_numpy(),
    )
    whose = ids.indices.to_numpy()
    order = np.lexsort((minute, whose))
    ends = np.searchsorted(whose[order], np.arange(len(ids.dictionary) + 1))
    found: dict[str, Requests] = {}
    for resource_id, places in zip(
        ids.dictionary.to_pylist(), (order[a:b] for a, b in pairwise(ends.tolist())), strict=True
    ):
        at, per_minute, service_ms = (column[places] for column in columns)
        found[arm.key(resource_id)] = Requests(
            minute=at, per_minute=per_minute, service_ms=service_ms
        )
    return found


def _make_cluster(
    estate: Estate, document: arm.Document, activity: Activity, *, start_s: int, is_new: bool
) -> Cluster:
    price = estate.price(arm.region(document), arm.vm_size(document))
    jobs = [_job(estate, price, index, row) for index, row in activity.jobs]
    scale = arm.read_scale(document)
    cluster = Cluster(
        arm.key(document["id"]),
        replace(scale, min_nodes=0) if is_new else scale,
        sorted(jobs, key=lambda job: (job.submit_s, job.index)),
        low_priority=arm.is_low_priority(document),
        physics=estate.physics,
        seed=estate.seed,
        start_s=start_s,
    )
    cluster.configure(scale)
    return cluster


def _job(estate: Estate, price: Price, index: int, row: Row) -> ClusterJob:
    factor, works = _fate(estate, price, row)
    checkpoint_minutes = row["checkpoint_minutes"]
    run_seconds = max(1, round(row["run_seconds"] * factor))
    limit = row["time_limit_minutes"]
    limit_seconds = max(1, round(limit * 60)) if limit else run_seconds
    return ClusterJob(
        index=index,
        submit_s=whole_seconds(row["submit_utc"]),
        run_seconds=min(run_seconds, limit_seconds),
        nodes=row["nodes"],
        checkpoint_seconds=round(checkpoint_minutes * 60) if checkpoint_minutes else None,
        fails=(bool(row["fails"]) and run_seconds <= limit_seconds) or not works,
        times_out=run_seconds > limit_seconds,
    )


def _fate(estate: Estate, price: Price, row: Row) -> tuple[float, bool]:
    """Return how much longer a job takes here than on its reference size, and whether it can."""
    reference_sku = row["reference_sku"]
    if not reference_sku or reference_sku.lower() == price.sku.lower():
        return 1.0, True
    needs = Needs(
        cpu_cores=row["cpu_cores_needed"],
        memory_gib=row["memory_gib_needed"],
        gpus=row["gpus_needed"],
        gpu_busy_fraction=row["gpu_busy_fraction"],
        gpu_memory_gib=row["gpu_memory_gib_needed"],
    )
    reference = estate.price(price.region, reference_sku)
    return stretch(needs, reference.capacity, price.capacity), fits(needs, price.capacity)


def _session(index: int, row: Row) -> Session:
    return Session(
        index=index,
        user=row["user"] or "somebody",
        start_s=whole_seconds(row["start_utc"]),
        end_s=whole_seconds(row["end_utc"]),
        via=row["via"],
        keeps_kernel_open=bool(row["keeps_kernel_open"]),
        user_stops=bool(row["user_stops"]),
        cpu_pct=row["cpu_pct"] or 0.0,
        gpu_pct=row["gpu_pct"] or 0.0,
        memory_pct=row["memory_pct"] or 0.0,
    )
