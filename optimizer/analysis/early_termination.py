"""What a stopping rule would have done to sweeps whose metric curves are known.

Rules as Azure documents them (how-to-tune-hyperparameters): one logged value of the primary metric
is one interval; a rule is applied at each multiple of `evaluation_interval` that is at least
`delay_evaluation`. A trial is held against those that reached the same interval by then: what came
later could not have stopped it.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from operator import itemgetter

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

MIN_SWEEPS = 5
"""Fewer tell little of the next one (methods §11)."""

MIN_HARMLESS_SHARE = 0.95
"""Of past sweeps, in which the best trial must have gone on to its end (methods §11)."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Trial:
    """One trial of a sweep."""

    minutes: Floats
    """When each value was logged, from the sweep's start; increasing."""
    metric: Floats
    """The values; at least one."""
    end_minutes: float
    """When the trial ended."""
    nodes: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Sweep:
    """A sweep that was run to its end."""

    trials: tuple[Trial, ...]
    maximize: bool = True
    """Whether more of the metric is better."""

    @property
    def sign(self) -> int:
        """What turns the metric into one of which more is better."""
        return 1 if self.maximize else -1


@dataclass(frozen=True, kw_only=True)
class Policy(ABC):
    """When trials are judged."""

    evaluation_interval: int = 1
    delay_evaluation: int = 0

    def due(self, interval: int) -> bool:
        """Tell whether trials are judged at an interval, counted from 1."""
        return interval % self.evaluation_interval == 0 and interval >= self.delay_evaluation

    @abstractmethod
    def stops(self, mine: Floats, seen: Sequence[Floats], sign: int) -> bool:
        """Tell whether a trial is stopped.

        Args:
            mine: its values up to this interval.
            seen: those of all trials that reached this interval, itself among them.
            sign: 1 where more is better, −1 where less is.
        """


@dataclass(frozen=True, kw_only=True)
class Bandit(Policy):
    """Stops what is not within a slack of the best: 0.8 / (1 + 0.2) = 0.667, or 0.8 − 0.2.

    Where less is better the bounds are 0.8 × (1 + 0.2) and 0.8 + 0.2. A factor of a best that is
    not above 0 has no meaning that Azure tells of: nothing is stopped then.
    """

    slack_factor: float | None = None
    slack_amount: float = 0.0

    def stops(self, mine: Floats, seen: Sequence[Floats], sign: int) -> bool:
        """Compare the best so far with the best of all so far."""
        best = sign * max((sign * each).max() for each in seen)
        if self.slack_factor is None:
            bound = best - sign * self.slack_amount
        elif best > 0:
            bound = best * (1 + self.slack_factor) ** -sign
        else:
            return False
        return bool((sign * mine).max() < sign * bound)


@dataclass(frozen=True, kw_only=True)
class MedianStopping(Policy):
    """Stops what at its best is worse than the median of all running averages."""

    def stops(self, mine: Floats, seen: Sequence[Floats], sign: int) -> bool:
        """Compare the best so far with the median of the means so far."""
        return bool((sign * mine).max() < np.median([(sign * each).mean() for each in seen]))


@dataclass(frozen=True, kw_only=True)
class Truncation(Policy):
    """Stops a share of the worst at each interval, by their value there.

    Azure does not say how it rounds: down here, so that less is stopped rather than more. Trials
    that ended in the meantime count, as `exclude_finished_jobs` is off unless it is asked for.
    """

    truncation_percentage: int

    def stops(self, mine: Floats, seen: Sequence[Floats], sign: int) -> bool:
        """Compare the number of worse trials with the share that goes."""
        worse = sum(bool(sign * each[-1] < sign * mine[-1]) for each in seen)
        return worse < len(seen) * self.truncation_percentage // 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Replayed:
    """What a rule would have done to one sweep."""

    stopped: int
    node_minutes: float
    """Saved: the rest of each stopped trial. Nodes that are freed may take the next trial sooner;
    the sweep then ends sooner and costs the same."""
    regret: float
    """How much better the best final value was than that of the trials left; ∞: none was left."""


def replay(sweep: Sweep, policy: Policy) -> Replayed:
    """Play a rule over a sweep as it went, in the order in which values were logged."""
    trials, sign = sweep.trials, sweep.sign
    stopped: dict[int, float] = {}
    reached: dict[int, list[Floats]] = {}
    logged = sorted(
        (float(minute), number, at)
        for number, trial in enumerate(trials)
        for at, minute in enumerate(trial.minutes, start=1)
    )
    for minute, entries in groupby(logged, key=itemgetter(0)):
        now = [(number, at) for _, number, at in entries if number not in stopped]
        for number, at in now:
            reached.setdefault(at, []).append(trials[number].metric[:at])
        for number, at in now:
            mine = trials[number].metric[:at]
            if policy.due(at) and policy.stops(mine, reached[at], sign):
                stopped[number] = minute
    finals = [sign * float(trial.metric[-1]) for trial in trials]
    left = [final for number, final in enumerate(finals) if number not in stopped]
    return Replayed(
        stopped=len(stopped),
        node_minutes=sum(
            (trials[number].end_minutes - minute) * trials[number].nodes
            for number, minute in stopped.items()
        ),
        regret=max(finals) - max(left, default=-np.inf),
    )


def most_aggressive(sweeps: Sequence[Sweep], policies: Sequence[Policy]) -> Policy | None:
    """Return the rule that saves most and practically never costs the best trial.

    None where too few sweeps are known, or where no rule saves anything without harm.
    """
    if len(sweeps) < MIN_SWEEPS:
        return None
    best: Policy | None = None
    most = 0.0
    for policy in policies:
        played = [replay(sweep, policy) for sweep in sweeps]
        harmless = sum(each.regret == 0 for each in played) >= MIN_HARMLESS_SHARE * len(sweeps)
        saved = sum(each.node_minutes for each in played)
        if harmless and saved > most:
            best, most = policy, saved
    return best
