"""How steps and runs ended, and how sure their savings are."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from optimizer.model import Claim, Estimate, Json


class Status(StrEnum):
    """How one step ended."""

    DONE = "done"
    UNCHANGED = "unchanged"
    """The setting already stood as wanted."""
    DRIFTED = "drifted"
    """Somebody changed it since the plan was made; left alone."""
    FAILED = "failed"
    """Azure refused or the operation ended Failed; the detail says why."""
    SKIPPED = "skipped"
    """Not tried: too many failures before it, what it builds on was not made, or it lies outside
    the maintenance window."""
    WITHHELD = "withheld"
    """Not tried, and rightly so: nobody confirmed a deletion, or nothing brings one back."""
    PENDING = "pending"
    """Written, and Azure had not ended it when we stopped waiting; the same command looks again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """How one step ended."""

    step_id: str
    resource_id: str
    setting: str
    before: Json
    after: Json
    status: Status
    detail: str
    at_utc: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One apply or rollback, as the ledger holds it."""

    id: str
    kind: str
    """`apply` or `rollback`."""
    plan_id: str
    scenario: str
    who: str
    started_utc: datetime
    ended_utc: datetime | None
    """None: it was interrupted, and the same command carries on."""
    outcomes: tuple[Outcome, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class AppliedChange:
    """A setting that this estate owes to a finding."""

    finding_id: str
    detector: str
    resource_id: str
    setting: str
    before: Json
    after: Json
    applied_utc: datetime
    ended_utc: datetime | None
    """When it was rolled back; None while it stands."""
    promised_per_month: Estimate
    """The step's marginal in its plan."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """A saving measured against the bill, with its 90 % interval."""

    low: float
    mid: float
    high: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ClaimReport:
    """How far one applied finding has come on the claims ladder."""

    finding_id: str
    resource_id: str
    applied_utc: datetime
    level: Claim
    promised_per_month: Estimate
    measured_per_month: Measured | None
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Verification:
    """Every claim, and their sum by replay of all old settings together."""

    currency: str
    claims: tuple[ClaimReport, ...]
    promised_per_month: Estimate
    measured_per_month: Measured | None
