"""Many findings at once: one replay of all their changes, so that no dollar counts twice.

Changes of one resource are replayed together; resources do not touch each other, but for pools of
commitments, which come last and see what all the others leave. The parts are what each finding adds
to those before it, in the order of the waterfall, so they sum to the whole.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from optimizer.analysis.case import Case, Saving
from optimizer.analysis.confidence import Floats, next_month
from optimizer.analysis.result import Together
from optimizer.model import Estimate
from optimizer.units import HOURS_PER_MONTH

DAYS_PER_MONTH = HOURS_PER_MONTH / 24


@dataclass(frozen=True, slots=True, kw_only=True)
class Move:
    """What one finding changes in the settings of its resource."""

    finding_id: str
    detector: str
    resource_id: str
    order: int
    overlay: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Joint:
    """Everything needed to total any choice of findings."""

    cases: Mapping[str, Case[Any]]
    moves: tuple[Move, ...]

    def together(self, finding_ids: Collection[str], /) -> Together:
        """Replay all changes of these findings at once."""
        chosen = sorted(
            (move for move in self.moves if move.finding_id in finding_ids),
            key=lambda move: (move.order, move.resource_id, move.finding_id),
        )
        marginal: dict[str, Saving] = {}
        settings: dict[str, Any] = {}
        for move in chosen:
            case = self.cases[move.resource_id].under(settings)
            before = settings.get(move.resource_id, case.settings)
            after = overlaid(before, move.overlay)
            marginal[move.finding_id] = case.saving(after, before)
            settings[move.resource_id] = after
        detectors: dict[str, list[Saving]] = {}
        for move in chosen:
            detectors.setdefault(move.detector, []).append(marginal[move.finding_id])
        return Together(
            total=estimate(*marginal.values()),
            marginal={finding_id: estimate(saving) for finding_id, saving in marginal.items()},
            by_detector={name: estimate(*savings) for name, savings in detectors.items()},
        )


def overlaid(settings: Any, overlay: Mapping[str, Any]) -> Any:
    """Return settings of any kind with some fields changed."""
    return replace(settings, **overlay)


def estimate(*savings: Saving) -> Estimate:
    """Return what savings make together in the coming month.

    The days' spread is bootstrapped on their sum, day beside day. What days cannot tell of one
    resource (open kernels) is independent of the next one's, so it adds in quadrature.
    """
    if not savings:
        return Estimate(p10=0.0, p50=0.0, p90=0.0)
    days = max(saving.daily.size for saving in savings)
    total = np.sum([_at_length(saving.daily, days) for saving in savings], axis=0)
    spread = next_month(total, days_per_month=DAYS_PER_MONTH)
    means = [float(saving.daily.mean()) * DAYS_PER_MONTH for saving in savings]
    below = [mean * (1 - saving.low) for mean, saving in zip(means, savings, strict=True)]
    above = [mean * (saving.high - 1) for mean, saving in zip(means, savings, strict=True)]
    return Estimate(
        p10=spread.p50 - float(np.hypot(spread.p50 - spread.p10, np.linalg.norm(below))),
        p50=spread.p50,
        p90=spread.p50 + float(np.hypot(spread.p90 - spread.p50, np.linalg.norm(above))),
    )


def _at_length(daily: Floats, days: int) -> Floats:
    """Put a shorter history beside longer ones without changing its mean: its end days align."""
    return np.concatenate((np.full(days - daily.size, daily.mean()), daily))
