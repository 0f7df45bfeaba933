"""Estate folders: what a fictitious or reconstructed customer has and does."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import pyarrow as pa

from optimizer.emulator.physics import Physics


@dataclass(frozen=True, slots=True, kw_only=True)
class Billing:
    """How the customer's bill is made of list prices."""

    discount: float = 0.0
    lag_hours: float = 0.0
    round_to: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Telemetry:
    """What of the truth the customer can see."""

    missing_fraction: float = 0.0
    diagnostic_logs: bool = True
    cost_details: bool = True
    tags_on_costs: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Price:
    """A VM size in a region: what it holds and what an hour of it costs on the list."""

    region: str
    sku: str
    vcpus: float | None
    memory_gib: float | None
    gpus: float | None
    gpu_memory_gib: float | None
    list_per_hour: float | None
    low_priority_per_hour: float | None
    ri_1y_per_hour: float | None
    ri_3y_per_hour: float | None
    currency: str
    as_of: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SettingChange:
    """A setting that somebody changed at a moment."""

    at_utc: datetime
    resource_id: str
    path: str
    value: Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Estate:
    """A customer's estate, checked, with nothing played yet."""

    folder: Path
    name: str
    currency: str
    history_start_utc: datetime
    now_utc: datetime
    billing: Billing
    physics: Physics
    telemetry: Telemetry
    seed: int
    resources: tuple[dict[str, Any], ...]
    changes: tuple[SettingChange, ...]
    jobs: pa.Table
    sessions: pa.Table
    requests: pa.Table
    prices: Mapping[tuple[str, str], Price]
    """By (region, sku in lower case)."""


def load_estate(folder: Path) -> Estate:
    """Read and check an estate folder."""
    raise NotImplementedError(folder)
