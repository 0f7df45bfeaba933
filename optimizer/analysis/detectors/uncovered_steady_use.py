"""Steady use that is paid by the hour: what a reservation would save, and whether to buy one."""

from dataclasses import dataclass
from typing import ClassVar

from optimizer.analysis.case import Assumptions
from optimizer.analysis.commitments import (
    HOURS_PER_DAY,
    Purchase,
    PurchaseRules,
    back_test,
    ladder,
    look_back_rule,
    purchase,
    utilisation,
    veto,
)
from optimizer.analysis.detectors import GUIDE, CannotAssessError, Detector, Proposal
from optimizer.analysis.forecast import DAYS_PER_WEEK, HourlyForecast, forecast_hours
from optimizer.analysis.pools import PoolCase
from optimizer.model import Effort, How, Kind, Level, Source

_WITHOUT_PLAN = (
    "unknown: Azure does not say whether a savings plan covers Azure Machine Learning, and your "
    "bill shows none that does"
)
_WITH_PLAN = (
    "not compared: your bill shows that a savings plan covers Azure Machine Learning; never buy "
    "both for the same hours"
)
_AZURE_TERMS = {"1y": "P1Y", "3y": "P3Y"}
_THIRDS = (1 / 6, 1 / 2, 5 / 6)
"""The middles of three equally likely ranges: what they use on average is the expectation."""


@dataclass(frozen=True, kw_only=True)
class UncoveredSteadyUse(Detector[PoolCase]):
    """Fires where a reservation pays on the hours that all other changes leave (methods §5)."""

    source = Source(title="Buy reserved instances for steady use", url=GUIDE)
    remedy_words = "purchase advice with break-even"
    kinds: ClassVar = (Kind.POOL,)
    order: ClassVar = 90

    min_history_days: int = 60
    """Fewer days say nothing of a year (methods §5.5)."""
    trend_tolerance: float = 0.05
    """Demand of the last third may lie so far below that of the first."""
    first_tranche: float = 0.5
    """Of what pays, bought at once; the rest month by month while it still pays."""
    risk_aversion: float = 0.5
    """λ in (1 − λ)·mean + λ·CVaR of the scenarios' savings."""
    gpu_migration_per_year: float = 0.25
    """Probability that demand of a GPU family halves within a year."""
    migration_per_year: float = 0.1
    """The same of any other family."""
    backtest_horizon_days: int = 28

    def propose(self, case: PoolCase, assumptions: Assumptions) -> Proposal | None:  # noqa: ARG002
        """Propose the first tranche of the term that is worth most under the scenarios."""
        demand, rules = case.uncovered, self._rules(case)
        pending = () if case.members else case.about_to_change_size
        if reason := veto(demand, rules, changes_pending=pending):
            raise CannotAssessError(reason)
        price = case.rate.per_hour
        offers = [
            bought
            for term, rate in case.terms.items()
            if rate.per_hour < price
            and (
                bought := purchase(
                    demand, term=term, price=price, committed=rate.per_hour, rules=rules
                )
            )
        ]
        if not offers:
            return None
        best = max(offers, key=self._worth)
        return self._proposal(case, best)

    def _rules(self, case: PoolCase) -> PurchaseRules:
        return PurchaseRules(
            min_history_days=self.min_history_days,
            trend_tolerance=self.trend_tolerance,
            first_tranche=self.first_tranche,
            risk_aversion=self.risk_aversion,
            migration_per_year=(
                self.gpu_migration_per_year if case.unit.gpus else self.migration_per_year
            ),
        )

    def _worth(self, bought: Purchase) -> float:
        risk = self.risk_aversion
        return (1 - risk) * bought.mean_per_hour + risk * bought.worst_per_hour

    def _proposal(self, case: PoolCase, bought: Purchase) -> Proposal:
        sku, name = case.unit.sku, case.resource.name
        years = "one year" if bought.term == "1y" else "three years"
        committed = case.terms[bought.term]
        tested = back_test(
            case.uncovered,
            look_back_rule(price=case.rate.per_hour, committed=committed.per_hour),
            price=case.rate.per_hour,
            committed=committed.per_hour,
            first_days=self.min_history_days // 2,
            every_days=7,
            horizon_days=self.backtest_horizon_days,
        )
        share = tested.share_of_oracle if tested else None
        ahead = self._ahead(case)
        expected = utilisation(ahead.quantiles, bought.now) if ahead else None
        declines = expected is not None and expected < bought.break_even_utilisation
        return Proposal(
            setting="Microsoft.Capacity/reservationOrders",
            before=None,
            after={
                "sku": sku,
                "location": case.resource.region,
                "reservedResourceType": "VirtualMachines",
                "term": _AZURE_TERMS[bought.term],
                "quantity": bought.now,
                "instanceFlexibility": "On",
            },
            how=How.PURCHASE,
            overlay={"machines": bought.now, "term": bought.term},
            title=f"{name}: reserve {bought.now} {sku} for {years}",
            why=(
                f"In {case.window.days:.0f} days {bought.utilisation:.0%} of the hours of "
                f"{bought.now} {sku} were used once all other changes are made; a reservation "
                f"pays from {bought.break_even_utilisation:.0%} on."
            ),
            evidence={
                "machines_now": bought.now,
                "machines_once_steps_are_done": bought.quantity,
                "machines_best_in_hindsight": bought.optimum,
                "purchases_by_month": ", ".join(
                    str(step) for step in ladder(bought.quantity, self.first_tranche)
                ),
                "machines_committed_already": round(case.held, 2),
                "utilisation": round(bought.utilisation, 3),
                "break_even_utilisation": round(bought.break_even_utilisation, 3),
                "break_even_months": bought.break_even_months,
                "reserved_rate_per_hour": round(committed.per_hour, 6),
                "saving_per_hour_over_scenarios": round(bought.mean_per_hour, 4),
                "saving_per_hour_in_worst_tenth": round(bought.worst_per_hour, 4),
                "backtest_purchases": tested.purchases if tested else None,
                "backtest_share_of_best": None if share is None else round(share, 3),
                "backtest_losing_share": tested.losing_share if tested else None,
                "forecast_utilisation": None if expected is None else round(expected, 3),
                "forecast_days": self.backtest_horizon_days,
                "forecast_method": ahead.method if ahead else None,
                "savings_plan": _WITH_PLAN if case.plan_applies else _WITHOUT_PLAN,
            },
            effort=Effort.PURCHASE,
            risk=Level.HIGH if bought.worst_per_hour < 0 else Level.MEDIUM,
            confidence=Level.LOW if declines else Level.MEDIUM,
            pillar_notes=(
                (
                    "Azure Machine Learning gets the discount only with instance size flexibility "
                    "on; what is reserved and not used within the hour is lost."
                ),
            ),
            sensitivity=(
                (
                    f"Pays as long as {bought.break_even_utilisation:.0%} of its hours are used; "
                    f"yours were {bought.utilisation:.0%}."
                ),
            ),
        )

    def _ahead(self, case: PoolCase) -> HourlyForecast | None:
        """Forecast the hours that the back-test's horizon holds, by the better of two methods."""
        days = self.backtest_horizon_days
        return forecast_hours(
            case.uncovered, days * HOURS_PER_DAY, _THIRDS, back_test_weeks=days // DAYS_PER_WEEK
        )
