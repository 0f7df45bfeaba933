"""Choices among findings, each totalled by one joint replay."""

from dataclasses import dataclass

from optimizer.model import Estimate, Finding


@dataclass(frozen=True, slots=True, kw_only=True)
class ScenarioStep:
    """One finding of a scenario and what it adds to the steps before it."""

    finding: Finding
    marginal: Estimate


@dataclass(frozen=True, slots=True, kw_only=True)
class LeftOut:
    """A finding that the scenario does not hold, and why."""

    finding: Finding
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """A set of findings and what they save together."""

    name: str
    steps: tuple[ScenarioStep, ...]
    total: Estimate
    """By joint replay; the marginals sum to it at p50."""
    left_out: tuple[LeftOut, ...]
