"""Scenarios in rows and in words, the same for terminal and page."""

from collections.abc import Iterable
from typing import TypedDict

from optimizer.model import Level
from optimizer.report.findings import owner_words
from optimizer.report.words import money_range, printable
from optimizer.scenarios import LeftOut, Scenario


class ScenarioRow(TypedDict):
    """One line of a table of scenarios; amounts are per month, money in the billing currency."""

    name: str
    changes: int
    saving_p10: float
    saving_p50: float
    saving_p90: float
    waiting_minutes: float
    restarts: float
    effort_points: float
    low_risk: int
    medium_risk: int
    high_risk: int


def scenario_rows(scenarios: Iterable[Scenario]) -> list[ScenarioRow]:
    """Return one row for each scenario, in their order."""
    return [
        ScenarioRow(
            name=printable(scenario.name),
            changes=len(scenario.steps),
            saving_p10=scenario.total.p10,
            saving_p50=scenario.total.p50,
            saving_p90=scenario.total.p90,
            waiting_minutes=scenario.felt.extra_waiting_minutes_per_month,
            restarts=scenario.felt.extra_restarts_per_month,
            effort_points=scenario.effort_points,
            low_risk=scenario.risks[Level.LOW],
            medium_risk=scenario.risks[Level.MEDIUM],
            high_risk=scenario.risks[Level.HIGH],
        )
        for scenario in scenarios
    ]


def share_lines(scenario: Scenario, currency: str) -> list[str]:
    """Return each owner's share of a scenario's saving, largest first."""
    shares = sorted(scenario.by_owner.items(), key=lambda each: -each[1].p50)
    return [f"{owner_words(owner)}: {money_range(share, currency)}" for owner, share in shares]


def would_add_words(left: LeftOut, currency: str) -> str:
    """Return what a finding that was left out would add, or why nobody can say."""
    if left.would_add_per_month is None:
        return left.no_figure
    return money_range(left.would_add_per_month, currency)
