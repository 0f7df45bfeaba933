"""Scenarios side by side."""

from dataclasses import dataclass

from optimizer.analysis.result import Analysis
from optimizer.scenarios import Scenario
from optimizer.scenarios.best import Front, best, front
from optimizer.scenarios.limits import Limits
from optimizer.scenarios.presets import PRESETS, preset


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """Presets and what the solver chooses, each totalled by joint replay."""

    presets: tuple[Scenario, ...]
    best: Scenario
    """Within the limits."""
    front: Front
    """Within the same limits, at less and less waiting."""


def compare(analysis: Analysis, limits: Limits) -> Comparison:
    """Return the presets beside what the solver chooses.

    Raises:
        InfeasibleError: a least saving cannot be had within the limits.
        NoDataError: the analysis was put together by hand.
    """
    return Comparison(
        presets=tuple(preset(analysis, name) for name in PRESETS),
        best=best(analysis, limits),
        front=front(analysis, limits),
    )
