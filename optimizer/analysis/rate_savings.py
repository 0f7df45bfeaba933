"""What the customer's rates save against list, before anything is changed: the FinOps measures.

Purchases and unused parts of commitments are no lines of a compute, so neither is in here; an hour
that a commitment covers counts at its share of it. Formulas: FinOps toolkit, "Savings calculations"
and the catalogue's savings summary (ESR).
"""

from collections.abc import Iterable
from dataclasses import dataclass

from optimizer.analysis.features import CostLine

_COMMITTED = frozenset({"reservation", "savingsplan"})
_INTERRUPTIBLE = frozenset({"spot", "lowpriority"})


def under_commitment(pricing_model: str | None) -> bool:
    """Tell whether a line of the bill was covered by a reservation or a savings plan."""
    return _plain(pricing_model) in _COMMITTED


def under_savings_plan(pricing_model: str | None) -> bool:
    """Tell whether a line of the bill was covered by a savings plan."""
    return _plain(pricing_model) == "savingsplan"


def pays_by_the_hour(pricing_model: str | None) -> bool:
    """Tell whether a line is of hours that a commitment could have covered, and none did."""
    model = _plain(pricing_model)
    return bool(model) and model not in _INTERRUPTIBLE | _COMMITTED


def _plain(pricing_model: str | None) -> str:
    return (pricing_model or "").lower().replace(" ", "")


@dataclass(frozen=True, slots=True, kw_only=True)
class RateSavings:
    """Amounts in the billing currency, over the lines whose list cost is known."""

    list_cost: float
    effective_cost: float
    known_share: float
    """Of all spend, what has a list cost."""
    negotiated: float | None
    """List − contracted; None where the source does not tell contracted cost."""
    commitment: float | None
    """Contracted − effective; negative where commitments cost more than they saved."""
    effective_savings_rate: float | None
    """ESR: Σ(list − effective) ÷ Σ list; None where nothing has a list cost."""
    coverage: float | None
    """Committed ÷ committable machine hours; None where no line says how it was bought.

    Hours of interruptible machines cannot be committed."""


def rate_savings(lines: Iterable[CostLine]) -> RateSavings:
    """Return the measures of some lines of the bill.

    100 hours list at 100, were contracted at 90, and cost 60 because a reservation covered half of
    them: negotiated 10, commitment 30, ESR (100 − 60) / 100 = 40 %, coverage 50 %.
    """
    every = list(lines)
    known = [line for line in every if line.list_cost is not None]
    listed = sum(line.list_cost or 0.0 for line in known)
    effective = sum(line.cost for line in known)
    contracted: float | None = None
    if known and all(line.contracted_cost is not None for line in known):
        contracted = sum(line.contracted_cost or 0.0 for line in known)
    spend = sum(line.cost for line in every)
    return RateSavings(
        list_cost=listed,
        effective_cost=effective,
        known_share=effective / spend if spend else 0.0,
        negotiated=None if contracted is None else listed - contracted,
        commitment=None if contracted is None else contracted - effective,
        effective_savings_rate=(listed - effective) / listed if listed else None,
        coverage=_coverage(every),
    )


def utilisation(used: float, unused: float) -> float | None:
    """Return the share of what was committed that was used; None where nothing was committed.

    >>> utilisation(used=80.0, unused=20.0)
    0.8
    """
    committed = used + unused
    return used / committed if committed else None


def _coverage(lines: Iterable[CostLine]) -> float | None:
    hours: dict[bool, float] = {True: 0.0, False: 0.0}
    for line in lines:
        if line.component == "vm" and line.hours is not None and line.pricing_model is not None:
            model = _plain(line.pricing_model)
            if model not in _INTERRUPTIBLE:
                hours[model in _COMMITTED] += line.hours
    total = sum(hours.values())
    return hours[True] / total if total else None
