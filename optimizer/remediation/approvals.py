"""A second person's word on a plan, before it is applied.

Who somebody is, is what this machine says: OPTIMIZER_USER, or else the user that is signed in. The
ledger proves nobody's identity. Whoever may write the ledger may write an approval, so where that
matters the ledger belongs to the pipeline that applies, and people reach it through that alone.
"""

from collections.abc import Iterable
from datetime import datetime, timedelta

from optimizer.errors import PlanError
from optimizer.remediation.plan import Plan
from optimizer.store.ledger import Approval, Ledger

APPROVAL_HOURS = 72.0
"""For how long an approval holds, where nobody says."""


def approve(
    plan: Plan, ledger: Ledger, *, who: str, at_utc: datetime, hours: float, comment: str
) -> Approval:
    """Keep that somebody agrees to exactly this plan; one that is made anew needs a new word.

    Raises:
        PlanError: the plan was edited.
        LedgerError: the ledger cannot be written.
    """
    plan.check_seal()
    approval = Approval(
        plan_digest=plan.digest,
        plan_id=plan.id,
        who=who,
        at_utc=at_utc,
        until_utc=at_utc + timedelta(hours=hours),
        comment=comment,
    )
    ledger.approve(approval)
    return approval


def of_others(approvals: Iterable[Approval], who: str) -> tuple[Approval, ...]:
    """Return the approvals that somebody else than `who` gave."""
    return tuple(one for one in approvals if one.who.casefold() != who.casefold())


def why_not_approved(
    plan: Plan, approvals: Iterable[Approval], *, who: str, at_utc: datetime
) -> str | None:
    """Return why `who` may not apply a plan, in one sentence; None where a second person agreed."""
    every = tuple(approvals)
    others = of_others(every, who)
    if any(one.at_utc <= at_utc < one.until_utc for one in others):
        return None
    if others:
        last = max(others, key=lambda one: one.until_utc)
        return (
            f"The approval of the plan {plan.id} by {last.who} expired on "
            f"{last.until_utc:%Y-%m-%d %H:%M} UTC: ask for a new one with `optimizer approve`."
        )
    alone = f", and so far only {who} did, who applies it" if every else ""
    return (
        f"The plan {plan.id} needs a second person to approve it{alone}: ask somebody else to run "
        "`optimizer approve` on it."
    )


def check_approved(plan: Plan, ledger: Ledger, *, who: str, at_utc: datetime) -> None:
    """Refuse a plan that no second person approved.

    Raises:
        PlanError: nobody else than `who` did, or it is too long ago.
    """
    approvals = ledger.approvals(plan.digest)
    if why_not := why_not_approved(plan, approvals, who=who, at_utc=at_utc):
        raise PlanError(why_not)
