"""The laws of the emulated world, and its dice."""

import math
from dataclasses import dataclass
from hashlib import blake2b
from statistics import NormalDist
from typing import Annotated, Literal

from pydantic import ConfigDict, Field, NonNegativeFloat, NonNegativeInt

from optimizer.units import SECONDS_PER_HOUR

_STANDARD_NORMAL = NormalDist()


@dataclass(frozen=True, slots=True, kw_only=True)
class Physics:
    """The laws of the emulated world. What Azure's documents leave open is a setting here."""

    __pydantic_config__ = ConfigDict(extra="forbid")

    allocation_seconds_median: NonNegativeFloat = 300.0
    """Median of the lognormal time that a node spends in `preparing`; 0 = at once."""
    allocation_seconds_sigma: NonNegativeFloat = 0.3
    """Standard deviation of its logarithm."""
    leaving_seconds: NonNegativeInt = 60
    start_seconds: NonNegativeInt = 120
    """From starting an instance to being able to work on it."""
    eviction_per_node_hour: NonNegativeFloat = 0.0
    """Of a low-priority node, from the moment it is ready."""
    preempted_seconds: NonNegativeInt = 600
    """How long an evicted node's place stays empty before Azure may fill it again."""
    preparing_billed: bool = True
    leaving_billed: bool = True
    starting_billed: bool = True
    node_choice: Literal["lifo", "fifo"] = "lifo"
    """Which idle node takes the next job: the one idle for the shortest or the longest time."""
    instance_disk_per_month: NonNegativeFloat = 19.71
    """The P10 disk of an instance, running or stopped, for 730 h, before discount."""
    load_balancer_per_day: NonNegativeFloat = 0.33
    """One for each instance, running or stopped, and for a cluster as below."""
    public_ip_per_hour: NonNegativeFloat = 0.005
    """One for each instance, running or stopped."""
    cluster_nodes_per_load_balancer: NonNegativeInt = 50
    """A cluster pays for one for each 50 nodes or part of them, while it has nodes; 0 = never."""
    deployments_reserved: bool = True
    """Whether reservations cover the machines of deployments, as they do those of computes."""
    deployment_start_seconds: NonNegativeInt = 300
    """From adding an instance to a deployment, when it begins to be paid for, to its first
    request."""
    request_service_ms: NonNegativeFloat = 50.0
    """How long a request takes that nobody is before, where its row does not say."""
    request_cpu_share: Annotated[float, Field(ge=0, le=1)] = 1.0
    """Of an instance's CPU, what it takes to serve as many requests at once as it may."""
    request_gpu_share: Annotated[float, Field(ge=0, le=1)] = 1.0
    """The same of its GPUs, where it has any."""
    deployment_cpu_at_rest: Annotated[float, Field(ge=0, le=100)] = 1.0
    """CPU percentage of an instance that serves nothing."""
    deployment_memory: Annotated[float, Field(ge=0, le=100)] = 30.0
    """Memory percentage of an instance: the model, whatever it is asked."""
    deployment_gpu_memory: Annotated[float, Field(ge=0, le=100)] = 40.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Capacity:
    """What a VM size holds. None = not known, which constrains nothing."""

    vcpus: float | None
    memory_gib: float | None
    gpus: float | None
    gpu_memory_gib: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Needs:
    """What a job needs of each of its nodes to run unhindered. None = nothing in particular."""

    cpu_cores: float | None = None
    memory_gib: float | None = None
    gpus: float | None = None
    gpu_busy_fraction: float | None = None
    gpu_memory_gib: float | None = None


def stretch(needs: Needs, reference: Capacity, actual: Capacity) -> float:
    """Return how many times longer a job takes on `actual` than on `reference`.

    The tightest resource sets the pace. GPU work does not overlap with the rest, the upper end
    of (1 − g) + g·ρ; ρ is the ratio of devices, since a price list says nothing of their speed.
    """
    return _slowness(needs, actual) / _slowness(needs, reference)


def fits(needs: Needs, capacity: Capacity) -> bool:
    """Say whether memory, GPU memory and the presence of a GPU let the job finish at all."""
    memory_fits = _at_most(needs.memory_gib, capacity.memory_gib)
    gpu_memory_fits = _at_most(needs.gpu_memory_gib, capacity.gpu_memory_gib)
    return memory_fits and gpu_memory_fits and not (needs.gpus and capacity.gpus == 0)


def uniform(*key: int | str) -> float:
    """Return a draw from (0, 1) that depends on its key alone, so no order of events changes it."""
    digest = blake2b("/".join(map(str, key)).encode(), digest_size=8).digest()
    return (int.from_bytes(digest) + 0.5) / 2**64


def allocation_seconds(physics: Physics, *key: int | str) -> int:
    """Return a draw of the whole seconds that a node takes to come up."""
    if physics.allocation_seconds_median == 0:
        return 0
    normal = _STANDARD_NORMAL.inv_cdf(min(uniform(*key), 1 - 2**-53))
    spread = math.exp(physics.allocation_seconds_sigma * normal)
    return round(physics.allocation_seconds_median * spread)


def eviction_seconds(physics: Physics, *key: int | str) -> int | None:
    """Return a draw of the seconds until a low-priority node is evicted; None = never."""
    if physics.eviction_per_node_hour == 0:
        return None
    hours = -math.log(uniform(*key)) / physics.eviction_per_node_hour
    return max(1, round(hours * SECONDS_PER_HOUR))


def _slowness(needs: Needs, capacity: Capacity) -> float:
    busy = needs.gpu_busy_fraction if needs.gpu_busy_fraction is not None else 1.0
    gpu = (1.0 - busy) + busy * _shortage(needs.gpus, capacity.gpus)
    return max(_shortage(needs.cpu_cores, capacity.vcpus), gpu)


def _shortage(need: float | None, capacity: float | None) -> float:
    if need is None or not capacity:
        return 1.0
    return max(1.0, need / capacity)


def _at_most(need: float | None, capacity: float | None) -> bool:
    return need is None or capacity is None or need <= capacity
