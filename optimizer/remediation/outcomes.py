"""How steps and runs ended, and how sure their savings are."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date, datetime
from enum import StrEnum

from optimizer.model import Claim, Estimate, Json
from optimizer.units import round_money

FINAL_DAYS = 84
"""From so many days on a measurement is final and may speak of a year (methods §9)."""


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

    run_id: str
    finding_id: str
    detector: str
    resource_id: str
    setting: str
    before: Json
    after: Json
    how: str
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
class Parts:
    """What changed a bill, a month: its activity, then its settings, then its prices (methods §9).

    Each is worth what it adds to those before it, so that together they are the change of the
    bill and nothing is left over. Less to pay is negative.
    """

    volume: float
    """Other activity, under the old settings at the old prices."""
    policy: float
    """The new settings, on the new activity at the old prices: the saving, with its sign turned."""
    price: float
    """Other prices of what is used now."""

    @property
    def change(self) -> float:
        """What the bill changed by."""
        return self.volume + self.policy + self.price

    def to_cents(self) -> "Parts":
        """Return them in whole cents, so that they still sum to the change of the bill in cents.

        >>> Parts(volume=0.004, policy=0.004, price=0.004).to_cents()
        Parts(volume=0.0, policy=0.01, price=0.0)
        """
        ends = [round_money(end) for end in (self.volume, self.volume + self.policy, self.change)]
        return Parts(
            volume=ends[0],
            policy=round_money(ends[1] - ends[0]),
            price=round_money(ends[2] - ends[1]),
        )


def parts_of_all(parts: Iterable[Parts]) -> Parts:
    """Return what several bills changed by together: the sum of their cents."""
    cents = [each.to_cents() for each in parts]
    return Parts(
        volume=round_money(sum(each.volume for each in cents)),
        policy=round_money(sum(each.policy for each in cents)),
        price=round_money(sum(each.price for each in cents)),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """The days after a change that a measurement speaks of."""

    name: str
    """`interim`, `28 days`, `84 days`, or `to date` where the setting no longer stands."""
    start: date
    """The first day: whole ones only, and not before things had settled."""
    end: date
    """Excluded."""
    days: int
    """Billed days that count: those of dated events do not."""
    next_on: date | None
    """When the bill will allow the next report; None: this one is the last."""


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
    parts_per_month: Parts | None = None
    """Of this claim's share of its compute's bill; None: not measured."""
    volume_per_month: Measured | None = None
    """The part of other activity with its 90 % interval: it rests on the same replay."""
    report: Report | None = None
    """None: too few days, or nothing to measure."""
    shortfall: str | None = None
    """The likely cause, where the saving did not come as promised."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Verification:
    """Every claim, and their sum by replay of all old settings together."""

    currency: str
    claims: tuple[ClaimReport, ...]
    """Savings that did not come first, then in the order in which they were applied."""
    promised_per_month: Estimate
    measured_per_month: Measured | None
    parts_per_month: Parts | None = None
    """What changed the bill of all computes that were measured; None: none was."""
    suggested_events: tuple[str, ...] = ()
    """What looks like an event outside routine. Nothing follows from it until somebody dates it
    under `verify.events` of the configuration."""

    @property
    def is_run_rate(self) -> bool:
        """Whether a yearly figure would rest on fewer than 84 days of some claim."""
        measured = [claim.report for claim in self.claims if claim.measured_per_month]
        return any(report is None or report.days < FINAL_DAYS for report in measured)
