"""Runs of jobs, and demand once they take longer or shorter than they did.

Activity is given (methods §0): a run still starts when it started. What a change of machine,
priority or time limit alters is when it ends.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from optimizer.analysis.replay import SECONDS_PER_MINUTE, Levels
from optimizer.units import SECONDS_PER_HOUR

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Runs:
    """The runs of one cluster, one array entry each, in seconds from the window's start."""

    start: Ints
    end: Ints
    """Of a run under way when the window ended: its end."""
    nodes: Ints
    experiment: npt.NDArray[np.str_]
    """The family: jobs of one experiment are alike."""
    kind: npt.NDArray[np.str_]
    """command, sweep (a trial of one too), pipeline or batch; empty where it is not known."""
    status: npt.NDArray[np.str_]
    """As Azure spells it; empty where it is not known."""
    limit_minutes: Floats
    """Of the job's own time limit; NaN where it has none."""
    unended_sweep: npt.NDArray[np.str_]
    """The sweep without an early termination policy that it is a trial of; empty elsewhere."""

    @property
    def node_hours(self) -> Floats:
        """What each held."""
        hours: Floats = self.seconds * self.nodes / SECONDS_PER_HOUR
        return hours

    @property
    def seconds(self) -> Floats:
        """How long each took."""
        length: Floats = (self.end - self.start).astype(np.float64)
        return length


def anonymous(start: Ints, end: Ints, nodes: Ints) -> Runs:
    """Return runs of which nothing else is known."""
    nothing = np.full(start.size, "")
    return Runs(
        start=start,
        end=end,
        nodes=nodes,
        experiment=nothing,
        kind=nothing,
        status=nothing,
        limit_minutes=np.full(start.size, np.nan),
        unended_sweep=nothing,
    )


NO_RUNS = anonymous(*(np.empty(0, np.int64),) * 3)


def reshaped(demand: Floats, runs: Runs, seconds: Floats, nodes: Ints | None = None) -> Floats:
    """Return nodes at work in each minute, had the runs taken `seconds` each on so many nodes.

    Minutes that no run explains stay as they were. What would reach past the window is left out.
    """
    before = _occupied(demand.size, runs.start, runs.end.astype(np.float64), runs.nodes)
    held = runs.nodes if nodes is None else nodes
    after = _occupied(demand.size, runs.start, runs.start + seconds, held)
    changed: Floats = np.maximum(demand + after - before, 0.0)
    # Sums of many runs leave dust where nothing ran.
    changed[changed < 1e-6] = 0.0  # noqa: PLR2004
    return changed


def nodes_by_share(demand: Floats, start: Ints, end: Ints, nodes: Floats) -> Ints:
    """Return the nodes of each run; those that were not told (NaN) share what the others leave.

    Azure tells how many nodes a command wants, and neither of a batch nor of a pipeline's step.
    Runs under way at the same time share alike, each of them holds one at least.
    """
    told = ~np.isnan(nodes)
    finish = end.astype(np.float64)
    held = _occupied(demand.size, start[told], finish[told], nodes[told])
    others = _occupied(demand.size, start[~told], finish[~told], np.ones(int((~told).sum())))
    left = np.maximum(demand - held, 0.0)
    each = np.divide(left, others, out=np.zeros_like(left), where=others > 0.5)  # noqa: PLR2004
    upto = np.concatenate(([0.0], each.cumsum()))
    first, last = start // SECONDS_PER_MINUTE, -(-end // SECONDS_PER_MINUTE)
    mean = (upto[np.minimum(last, demand.size)] - upto[first]) / np.maximum(last - first, 1)
    found: Ints = np.where(told, np.nan_to_num(nodes), np.maximum(np.rint(mean), 1)).astype(
        np.int64
    )
    return found


def _occupied(minutes: int, start: Ints, end: Floats, nodes: Ints | Floats) -> Floats:
    """Return the mean number of occupied nodes in each minute."""
    ramp = np.zeros(minutes + 2)
    for moment, sign in ((start.astype(np.float64), 1.0), (end, -1.0)):
        at = np.clip(moment / SECONDS_PER_MINUTE, 0, minutes)
        whole = np.floor(at).astype(np.int64)
        # A step within a minute counts for the rest of that minute, and in full from the next on.
        part = at - whole
        np.add.at(ramp, whole, sign * nodes * (1 - part))
        np.add.at(ramp, whole + 1, sign * nodes * part)
    occupied: Floats = ramp.cumsum()[:minutes]
    return occupied


def spells(levels: Levels) -> Runs:
    """Return each unbroken stretch of work of one level as a run, where no job is known."""
    start, end = [], []
    for level in range(1, levels.peak + 1):
        of_level = levels.level == level
        gap_start = levels.start[of_level]
        begin = np.append(0, gap_start + levels.length[of_level])
        until = np.append(gap_start, levels.seconds)
        start.append(begin[until > begin])
        end.append(until[until > begin])
    every = np.concatenate([np.empty(0, np.int64), *start])
    return anonymous(every, np.concatenate([np.empty(0, np.int64), *end]), np.ones_like(every))
