"""Time limits: no successful run would have been ended by the one proposed."""

from dataclasses import replace

import numpy as np

from optimizer.analysis.case import Assumptions
from optimizer.analysis.detectors.job_without_time_limit import JobWithoutTimeLimit
from optimizer.analysis.work import anonymous
from tests.analysis.builders import cluster

RUNS = 300


def proposes(*, longest_success_minutes: int) -> bool:
    """299 runs of an hour or so succeed, and one of twenty hours fails."""
    minutes = np.full(RUNS, 60)
    minutes[0], minutes[1] = longest_success_minutes, 1200
    start = np.arange(RUNS) * 60
    runs = replace(
        anonymous(start, start + minutes * 60, np.ones(RUNS, np.int64)),
        experiment=np.full(RUNS, "x"),
        status=np.where(np.arange(RUNS) == 1, "Failed", "Completed"),
    )
    case = cluster([1.0] * 1440 * 28, runs=runs)
    return JobWithoutTimeLimit().propose(case, Assumptions()) is not None


def test_a_long_run_that_succeeded_forbids_a_limit_below_it() -> None:
    assert proposes(longest_success_minutes=80)
    assert not proposes(longest_success_minutes=300)
