"""The nouns. Frozen, keyword-only, units in names; no method here decides anything.

Money is in the billing currency of the estate, which travels beside it; a month is 730 h.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, TypeAlias

from optimizer.units import HOURS_PER_MONTH

Json: TypeAlias = dict[str, Any] | list[Any] | str | int | float | bool | None


class Kind(StrEnum):
    """What a resource is."""

    WORKSPACE = "workspace"
    CLUSTER = "cluster"
    INSTANCE = "instance"
    DEPLOYMENT = "deployment"
    POOL = "pool"
    """What one commitment can cover: a family of sizes in a region of a subscription."""
    COMMITMENT = "commitment"
    """A reservation or a savings plan that was bought."""


class Attribution(StrEnum):
    """How a cost came to be a compute's, best first."""

    EXACT = "exact"
    """`AdditionalInfo.PoolName` of cost details or an export."""
    TAG = "tag"
    """A tag that only this compute carries."""
    ESTIMATED = "estimated"
    """The workspace's spend split by node-hours times list rate."""


class Basis(StrEnum):
    """Which price a saving is worked out at."""

    EFFECTIVE = "effective"
    LIST = "list"
    LIST_TIMES_DISCOUNT = "list_times_discount"


class Level(StrEnum):
    """A grade of confidence or of risk."""

    LOW = "low"
    MEDIUM = "medium"
    HIGH = "high"


class Effort(StrEnum):
    """What following a finding takes."""

    ONE_CLICK = "one_click"
    RECREATE = "recreate"
    CODE_CHANGE = "code_change"
    PURCHASE = "purchase"


class How(StrEnum):
    """How a change reaches Azure."""

    PATCH = "patch"
    ACTION = "action"
    RECREATE = "recreate"
    PURCHASE = "purchase"
    ADVICE = "advice"


class Claim(StrEnum):
    """How sure a saving is, least first."""

    ESTIMATED = "Estimated"
    APPLIED = "Applied"
    MEASURED = "Measured"
    VERIFIED = "Verified"


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """A stretch of time, its end excluded."""

    start_utc: datetime
    end_utc: datetime

    @property
    def length(self) -> timedelta:
        """How long it is."""
        return self.end_utc - self.start_utc

    @property
    def hours(self) -> float:
        """How long it is, in hours."""
        return self.length / timedelta(hours=1)

    @property
    def days(self) -> float:
        """How long it is, in days."""
        return self.length / timedelta(days=1)

    def per_month(self, amount: float) -> float:
        """Return what `amount` over this window makes in a month of 730 h."""
        return amount * HOURS_PER_MONTH / self.hours


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """An uncertain amount. `p50` is the replayed figure itself; see `analysis/confidence.py`."""

    p10: float
    p50: float
    p90: float

    def scaled(self, factor: float) -> "Estimate":
        """Return it in another unit; `factor` is positive."""
        return Estimate(p10=self.p10 * factor, p50=self.p50 * factor, p90=self.p90 * factor)


@dataclass(frozen=True, slots=True, kw_only=True)
class Resource:
    """A workspace, cluster, instance or deployment as Azure described it when last collected."""

    resource_id: str
    """Lower case: Azure spells one id in several ways."""
    kind: Kind
    name: str
    workspace_id: str
    region: str
    sku: str | None
    """As Azure's price list spells it, such as `Standard_NC6s_v3`; None for a workspace."""
    vm_priority: str | None
    """`dedicated` or `low_priority`; None where it means nothing."""
    state: str | None
    created_utc: datetime | None
    owner: str | None
    """None where neither a tag nor Azure names one: "unowned"."""
    tags: Mapping[str, str] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)
    """Cluster: min_nodes, max_nodes, idle_seconds. Instance: idle_shutdown_minutes (None = never),
    ssh_public_access, custom_applications, schedules. Deployment: managed (False: on Kubernetes,
    listed and not judged), endpoint, instances, autoscale (None = has none, absent = could not be
    read), traffic_percent, max_concurrent_requests_per_instance, request_timeout_ms and others.
    Workspace: log_categories, job_schedules and quotas (None = could not be read),
    attached_computes, sizes, sizes_offered (by name, whether as low priority too)."""
    arm: Mapping[str, Any] = field(default_factory=dict)
    """The document as Azure sent it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterSettings:
    """The policy of a cluster that costs money."""

    min_nodes: int
    max_nodes: int
    idle_seconds: int
    """`nodeIdleTimeBeforeScaleDown`."""
    sku: str | None = None
    """None: as it was bought."""
    vm_priority: str | None = None
    """None: as it was bought."""
    spread: int = 1
    """Nodes that share at once what each node did by itself."""
    time_limits: tuple[tuple[str, float], ...] = ()
    """Minutes after which runs of an experiment are ended, by its name."""
    deleted: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class StopTime:
    """A weekly schedule that stops a compute instance."""

    days: tuple[str, ...]
    """`Monday` to `Sunday`, as Azure spells them."""
    hour: int
    minute: int = 0
    time_zone: str = "UTC"
    """A name of the IANA database, such as `Europe/Berlin`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class InstanceSettings:
    """The policy of a compute instance that costs money."""

    idle_shutdown_minutes: int | None
    """None: it runs until somebody stops it."""
    stops: tuple[StopTime, ...] = ()
    """Weekly schedules that stop it, beside those it has; nothing starts it but its user."""
    rule_works: bool = False
    """Nothing keeps Azure's idle rule from stopping it, such as forgotten kernels."""
    sku: str | None = None
    """None: as it was bought."""
    deleted: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class AutoscaleRules:
    """A pair of autoscale rules on CPU, as Microsoft's sample has it (methods §3.2c)."""

    least: int
    most: int
    out_above: float = 0.7
    out_by: int = 2
    in_below: float = 0.3
    in_by: int = 1
    out_cooldown_minutes: int = 60
    in_cooldown_minutes: int = 60


@dataclass(frozen=True, slots=True, kw_only=True)
class DeploymentSettings:
    """The policy of a managed online deployment that costs money."""

    instances: int | None = None
    """`sku.capacity`; None: as many as there were."""
    autoscale: AutoscaleRules | None = None
    """None: as it was."""
    deleted: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolSettings:
    """What is bought for a pool, beside what it has."""

    machines: int = 0
    """Reserved, of the pool's unit."""
    term: str = "1y"
    """`1y` or `3y`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """The recommendation that a detector turns into a question."""

    title: str
    url: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One setting of one resource, before and after, as Azure spells it."""

    resource_id: str
    setting: str
    """The path in the ARM document, such as `properties.properties.scaleSettings.minNodeCount`."""
    before: Json
    after: Json
    how: How


@dataclass(frozen=True, slots=True, kw_only=True)
class Effects:
    """What people and jobs feel of a change. None = not known."""

    extra_waiting_minutes_per_month: float | None
    extra_restarts_per_month: float | None
    runtime_stretch: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One waste, what would end it and what that would have saved. The fields are §6 of design."""

    id: str
    detector: str
    resource_id: str
    workspace: str
    kind: Kind
    owner: str | None
    tags: Mapping[str, str]
    title: str
    why: str
    evidence: Mapping[str, float | int | str | None]
    change: Change
    saving_per_month: Estimate | None
    """Of this change alone, by replay. None: no price is known."""
    basis: Basis
    spend_per_month: float | None
    effects: Effects
    confidence: Level
    risk: Level
    effort: Effort
    pillar_notes: tuple[str, ...]
    source: Source
    claim: Claim = Claim.ESTIMATED


@dataclass(frozen=True, slots=True, kw_only=True)
class NotAssessed:
    """A question that could not be answered, and why: silence is always explained."""

    resource_id: str
    detector: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Gone:
    """A finding that is no longer there, and why."""

    finding_id: str
    detector: str
    resource_id: str
    title: str
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """Something that collection could not see; the rest was collected."""

    scope: str
    what: str
    permission: str | None = None
    """The missing Azure action, where that is the cause."""
