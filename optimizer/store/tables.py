"""Every table of the lake: its columns, their units, its grain and its key.

Times are UTC. A null was not observed; it is never 0. Rows with the same key describe the same
thing, and the later collection wins.
"""

from dataclasses import dataclass

import pyarrow as pa

UTC_SECOND = pa.timestamp("s", tz="UTC")
UTC_MILLI = pa.timestamp("ms", tz="UTC")


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """One table of the lake."""

    name: str
    key: tuple[str, ...]
    schema: pa.Schema
    day_column: str | None
    """The column whose UTC day names the file a row goes to; None: one file holds the table."""


def _table(
    name: str, key: tuple[str, ...], day_column: str | None, /, **columns: pa.DataType
) -> Table:
    return Table(name=name, key=key, day_column=day_column, schema=pa.schema(columns.items()))


RESOURCES = _table(
    "resources",
    ("resource_id", "collected_at_utc"),
    "collected_at_utc",
    resource_id=pa.string(),  # lower case
    collected_at_utc=UTC_SECOND,
    kind=pa.string(),
    name=pa.string(),
    workspace_id=pa.string(),
    region=pa.string(),
    sku=pa.string(),
    vm_priority=pa.string(),
    state=pa.string(),
    created_utc=UTC_SECOND,
    owner=pa.string(),
    tags=pa.string(),  # JSON
    settings=pa.string(),  # JSON, see model.Resource.settings
    arm=pa.string(),  # JSON, the document as sent
)

NODE_MINUTES = _table(
    "node_minutes",
    ("resource_id", "minute_utc"),
    "minute_utc",
    resource_id=pa.string(),
    minute_utc=UTC_SECOND,
    # Nodes in each state, averaged over the minute by time.
    active=pa.float32(),
    idle=pa.float32(),
    preparing=pa.float32(),
    leaving=pa.float32(),
    preempted=pa.float32(),
    unusable=pa.float32(),
    total=pa.float32(),
    source=pa.string(),  # log (AmlComputeClusterEvent) or metric (platform metrics)
)

SAMPLES = _table(
    "samples",
    ("resource_id", "node_id", "device_id", "minute_utc"),
    "minute_utc",
    resource_id=pa.string(),
    node_id=pa.string(),
    device_id=pa.string(),  # "" for the CPU
    minute_utc=UTC_SECOND,
    grain_minutes=pa.uint16(),
    # Per mille of capacity.
    cpu_avg=pa.uint16(),
    cpu_max=pa.uint16(),
    memory_avg=pa.uint16(),
    memory_max=pa.uint16(),
    gpu_avg=pa.uint16(),
    gpu_max=pa.uint16(),
    gpu_memory_max=pa.uint16(),
    busy=pa.bool_(),
)

RUNS = _table(
    "runs",
    ("resource_id", "node_id", "run_id", "started_utc"),
    "started_utc",
    resource_id=pa.string(),
    node_id=pa.string(),
    run_id=pa.string(),
    started_utc=UTC_SECOND,
    ended_utc=UTC_SECOND,
    state=pa.string(),
    reason=pa.string(),
)

HISTOGRAM = pa.list_(pa.struct({"rise": pa.uint16(), "minutes": pa.uint32()}))
"""A lossless histogram: minutes by per mille (0 to 1000), of those alone that hold any, in order.
Each tells how far it lies above the one before, the first above 0: small numbers take few bytes."""

NODE_DAYS = _table(
    "node_days",
    ("resource_id", "node_id", "day"),
    "day",
    resource_id=pa.string(),
    node_id=pa.string(),
    day=UTC_SECOND,
    minutes=pa.uint32(),  # observed
    busy_minutes=pa.uint32(),
    cpu_histogram=HISTOGRAM,
    memory_histogram=HISTOGRAM,
    gpu_histogram=HISTOGRAM,
    gpu_memory_histogram=HISTOGRAM,
    # All of the CPU's histogram; all of its sums below.
    cpu_minutes=pa.uint32(),
    cpu_sum=pa.int64(),
    # Sums of per mille over minutes, for each of the 24 hours.
    cpu_hour_sums=pa.list_(pa.uint32()),
    gpu_hour_sums=pa.list_(pa.uint32()),
    cpu_max=pa.uint16(),
    memory_max=pa.uint16(),
    gpu_max=pa.uint16(),
    gpu_memory_max=pa.uint16(),
    # GPUs whose use was told, and those of them ever above 1 %; null = no GPU was told of.
    gpus_seen=pa.uint16(),
    gpus_used=pa.uint16(),
)

USE_WEEKS = _table(
    "use_weeks",
    ("resource_id", "week"),
    "week",
    # All node-days of a compute in a week as one; see there.
    resource_id=pa.string(),
    week=UTC_SECOND,  # its Monday
    days=pa.uint32(),  # with any node
    machine_days=pa.uint32(),
    minutes=pa.uint32(),
    busy_minutes=pa.uint32(),
    cpu_histogram=HISTOGRAM,
    memory_histogram=HISTOGRAM,
    gpu_histogram=HISTOGRAM,
    gpu_memory_histogram=HISTOGRAM,
    cpu_sum=pa.int64(),
    # The most of any node-day.
    gpus_seen=pa.uint16(),
    gpus_used=pa.uint16(),
)

INTERVALS = _table(
    "intervals",
    ("resource_id", "node_id", "start_utc"),
    "start_utc",
    resource_id=pa.string(),
    node_id=pa.string(),
    start_utc=UTC_SECOND,
    end_utc=UTC_SECOND,  # cut at midnight; stitched when read
    busy=pa.bool_(),
)

INSTANCE_EVENTS = _table(
    "instance_events",
    ("resource_id", "at_utc", "operation"),
    "at_utc",
    resource_id=pa.string(),
    at_utc=UTC_SECOND,
    operation=pa.string(),  # Create, Start, Stop, Restart, Delete
    trigger=pa.string(),  # User, Schedule, IdleShutdown
    status=pa.string(),  # of a Start: Started at its beginning
)

JOBS = _table(
    "jobs",
    ("job_id",),
    None,
    job_id=pa.string(),  # the ARM id in lower case
    resource_id=pa.string(),
    experiment=pa.string(),
    kind=pa.string(),  # command, sweep, pipeline, batch
    parent_id=pa.string(),
    user=pa.string(),
    status=pa.string(),
    submitted_utc=UTC_SECOND,
    started_utc=UTC_SECOND,
    ended_utc=UTC_SECOND,
    nodes=pa.int32(),
    has_early_termination=pa.bool_(),
    time_limit_minutes=pa.int32(),
)

REQUESTS = _table(
    "requests",
    ("resource_id", "minute_utc"),
    "minute_utc",
    resource_id=pa.string(),
    minute_utc=UTC_SECOND,
    requests_per_minute=pa.float32(),
    latency_p95_ms=pa.float32(),
    instances=pa.float32(),
)

COSTS = _table(
    "costs",
    ("resource_id", "charge_date", "meter", "pricing_model", "compute_name", "component", "tags"),
    "charge_date",
    resource_id=pa.string(),  # the compute it is attributed to, or the workspace
    workspace_id=pa.string(),
    charge_date=UTC_SECOND,
    meter=pa.string(),
    pricing_model=pa.string(),
    # As FOCUS names them, in the billing currency; null = the source does not say.
    billed_cost=pa.float64(),
    effective_cost=pa.float64(),
    list_cost=pa.float64(),
    contracted_cost=pa.float64(),
    quantity=pa.float64(),
    unit=pa.string(),
    currency=pa.string(),
    compute_name=pa.string(),
    vm_size=pa.string(),
    component=pa.string(),  # vm, disk, ip, load_balancer, bandwidth, other
    attribution=pa.string(),  # exact, tag, estimated; null = still the workspace's
    tags=pa.string(),  # JSON
)

PRICES = _table(
    "prices",
    ("region", "sku", "offer", "term"),
    None,
    region=pa.string(),
    sku=pa.string(),
    offer=pa.string(),  # payg, low_priority, spot, reservation, savings_plan
    term=pa.string(),  # "", 1y, 3y
    price_per_hour=pa.float64(),
    currency=pa.string(),
    as_of=UTC_SECOND,
)

COMMITMENTS = _table(
    "commitments",
    ("id",),
    None,
    id=pa.string(),
    scope=pa.string(),
    sku=pa.string(),
    family=pa.string(),
    term=pa.string(),
    quantity=pa.float64(),
    hourly_commitment=pa.float64(),
    utilisation=pa.float64(),  # share of 1, mean of the days in `by_day`
    by_day=pa.string(),  # JSON: the share of 1 that was used on each UTC day that was told
    expiry=UTC_SECOND,
)

TABLES = {
    table.name: table
    for table in (
        RESOURCES,
        NODE_MINUTES,
        SAMPLES,
        RUNS,
        NODE_DAYS,
        USE_WEEKS,
        INTERVALS,
        INSTANCE_EVENTS,
        JOBS,
        REQUESTS,
        COSTS,
        PRICES,
        COMMITMENTS,
    )
}
