"""What a played world tells: plain records, times in whole seconds since the epoch (UTC)."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

Ints: TypeAlias = NDArray[np.int64]
Floats: TypeAlias = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeCounts:
    """A cluster's nodes as a step function: row i holds from `at_s[i]` until `at_s[i + 1]`.

    The last row holds until now. Times rise strictly. `unusable` is always 0: nothing breaks here.
    """

    at_s: Ints
    active: Ints
    idle: Ints
    preparing: Ints
    leaving: Ints
    preempted: Ints
    unusable: Ints
    target: Ints
    """Nodes that the cluster steers towards: running plus queued need, kept within min and max."""
    min_nodes: Ints
    max_nodes: Ints
    idle_seconds: Ints
    """The settings in force from that moment on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Spans:
    """Who ran where, in the order of starting. `end_s` is now where it still runs."""

    node_id: NDArray[np.str_]
    job_index: Ints
    """The row in `Estate.jobs`; -1 for a session on an instance."""
    start_s: Ints
    end_s: Ints


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionSpans:
    """When people really used an instance, and how hard. `end_s` is now where they still do."""

    session_index: Ints
    """The row in `Estate.sessions`. A session whose instance was shut down under it has several."""
    start_s: Ints
    end_s: Ints
    cpu_pct: Floats
    gpu_pct: Floats
    memory_pct: Floats


@dataclass(frozen=True, slots=True, kw_only=True)
class DeploymentMinutes:
    """A deployment by the minute, as each began."""

    minute: Ints
    """Minutes since the epoch."""
    instances: Ints
    ready: Ints
    """Those of them that take requests."""
    requests_per_minute: Floats
    service_ms: Floats


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """Something that was done to a resource: two rows of the activity log."""

    at_s: int
    resource_id: str
    name: str
    """Create, Start, Stop, Write or Delete."""
    trigger: str
    """User, Schedule or IdleShutdown."""
    status: str
    caller: str
    seconds: int = 0
    """From its beginning, `at_s`, to its end."""


@dataclass(frozen=True, slots=True, kw_only=True)
class JobRecord:
    """A job as it stands now."""

    job_index: int
    """The row in `Estate.jobs`."""
    id: str
    resource_id: str
    submitted_s: int
    started_s: int | None
    """When it first ran; None while it waits."""
    ended_s: int | None
    status: str
    """Queued, Running, Completed, Failed or Canceled."""
    restarts: int
    """How often it was evicted and began again."""
    row: Mapping[str, Any]
    """The job's row of `jobs.parquet`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Charge:
    """What one component of one compute cost on one UTC day: true, complete and not rounded.

    Or what a reservation cost that day beside the hours it covered: those are its own charges.
    """

    day: date
    workspace_id: str
    """Of a reservation's own charges, the subscription that pays."""
    compute_id: str
    """Of a reservation's own charges, the reservation."""
    compute_name: str
    region: str
    vm_size: str
    priority: str
    """Dedicated or LowPriority."""
    component: str
    """vm, disk, ip or load_balancer."""
    meter: str
    quantity: float
    unit: str
    list_cost: float
    contracted_cost: float
    """By the hour, at the customer's own prices."""
    cost: float
    """Amortised: an hour that a reservation covers costs its part of it."""
    reservation_id: str | None = None
    """What covered it, or went unused, or was bought; None: it is paid by the hour."""
    charge_type: Literal["Usage", "UnusedReservation", "Purchase"] = "Usage"
