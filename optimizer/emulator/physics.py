"""The laws of the emulated world, and its dice."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True, kw_only=True)
class Physics:
    """The laws of the emulated world. What Azure's documents leave open is a setting here."""

    allocation_seconds_median: float = 300.0
    allocation_seconds_sigma: float = 0.3
    leaving_seconds: float = 60.0
    start_seconds: float = 120.0
    eviction_per_node_hour: float = 0.0
    preempted_seconds: float = 600.0
    preparing_billed: bool = True
    leaving_billed: bool = True
    starting_billed: bool = True
    node_choice: Literal["lifo", "fifo"] = "lifo"
    instance_disk_per_month: float = 19.71
    load_balancer_per_day: float = 0.33
    public_ip_per_hour: float = 0.005
    cluster_nodes_per_load_balancer: int = 50
