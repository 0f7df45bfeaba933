"""Jobs that ran on for ever because nothing ended them."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from optimizer.analysis.case import Assumptions
from optimizer.analysis.clusters import ClusterCase
from optimizer.analysis.detectors import GUIDE, CannotAssessError, Detector, Proposal
from optimizer.analysis.work import Runs
from optimizer.model import Effort, How, Kind, Level, Source
from optimizer.units import duration, iso_from_seconds

SUCCEEDED = "completed"


@dataclass(frozen=True, kw_only=True)
class JobWithoutTimeLimit(Detector[ClusterCase]):
    """Fires where runs went on far beyond what their family ever needed to succeed."""

    source = Source(title="Set termination policies for training jobs", url=GUIDE)
    remedy_words = "limits.timeout in the job's YAML"
    kinds: ClassVar = (Kind.CLUSTER,)
    order: ClassVar = 60

    min_runs: int = 20
    """Successful ones of a family, an experiment (methods §11)."""
    times_p99: float = 1.5
    """Of the successful runs' 99th percentile: the proposed limit (methods §11)."""

    def propose(self, case: ClusterCase, assumptions: Assumptions) -> Proposal | None:  # noqa: ARG002
        """Propose a limit for each family that had runs beyond it, none of them successful."""
        runs = case.features.runs
        if not case.levels.busy_seconds:
            return None
        if not runs.start.size:
            raise CannotAssessError("Its jobs could not be read.")
        limits = dict(self._limits(runs))
        if not limits:
            successes = int((np.char.lower(runs.status) == SUCCEEDED).sum())
            if successes < self.min_runs:
                raise CannotAssessError(
                    f"Only {successes} successful runs were seen; {self.min_runs} of an experiment "
                    "are needed."
                )
            return None
        beyond = sum(
            int(((runs.experiment == name) & (runs.seconds > minutes * 60)).sum())
            for name, minutes in limits.items()
        )
        names = ", ".join(sorted(limits))
        return Proposal(
            setting="limits.timeout",
            before=None,
            after={name: iso_from_seconds(round(m * 60)) for name, m in sorted(limits.items())},
            how=How.ADVICE,
            overlay={"time_limits": tuple(sorted(limits.items()))},
            title=f"Jobs on {case.resource.name} have no time limit",
            why=(
                f"{beyond} runs of {names} went on beyond "
                f"{', '.join(duration(m * 60) for _, m in sorted(limits.items()))}, "
                f"{self.times_p99:g} times what 99 % of successful ones needed; none succeeded."
            ),
            evidence={
                "runs_beyond_the_limit": beyond,
                "successful_runs_it_would_have_ended": 0,
                "job_yaml": "limits: {timeout: <seconds>}",
            },
            effort=Effort.CODE_CHANGE,
            risk=Level.LOW,
            confidence=Level.MEDIUM,
            pillar_notes=(
                (
                    "Reliability: a longer run than ever before is ended; raise the limit with the "
                    "data."
                ),
            ),
        )

    def _limits(self, runs: Runs) -> Iterator[tuple[str, float]]:
        """Yield family and limit in minutes where ending runs there would have saved something."""
        done = np.char.lower(runs.status) == SUCCEEDED
        for name in np.unique(runs.experiment):
            mine = (runs.experiment == name) & np.isnan(runs.limit_minutes)
            succeeded = runs.seconds[mine & done]
            if not name or succeeded.size < self.min_runs:
                continue
            # Up to a whole minute, so that the limit can be written down as it is.
            limit = np.ceil(self.times_p99 * np.quantile(succeeded, 0.99) / 60)
            if succeeded.max() <= limit * 60 < runs.seconds[mine].max():
                yield str(name), float(limit)
