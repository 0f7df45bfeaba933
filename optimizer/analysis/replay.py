"""Activity × settings → paid node time, cold starts and waiting; all candidate settings at once.

The replay knows no events and no machines. It cuts demand into **levels**: level k is busy while at
least k nodes are needed, so that a cluster which hands work to the node that went idle last (the
optimal assignment, methods §0) keeps exactly one node for each level. A level's idle **gaps** are
all that a scaling policy can change:

- a gap no longer than the idle time τ is paid in full;
- a longer one is paid for τ and the seconds of leaving, and ends with a cold start;
- levels up to `min_nodes` are paid throughout and never start.

Everything is integer seconds, so two ways of adding up agree to the second.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from optimizer.model import ClusterSettings

SECONDS_PER_MINUTE = 60

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True, kw_only=True)
class Physics:
    """What a node costs besides idling, as this customer's clusters show it."""

    start_seconds: float
    """Paid node time of one cold start, waiting for the other nodes of its job included."""
    leaving_seconds: float
    """Paid node time between the end of the idle time and the release."""
    wait_seconds: float
    """How long a job waits for a cold start."""
    late_share: float = 0.0
    """Share of cold starts whose node comes too late: its job found another one meanwhile, and it
    idles for the whole idle time."""

    def paid_per_start(self, idle_seconds: Floats | float) -> Floats | float:
        """Return the paid node-seconds of a cold start under some idle time."""
        return self.start_seconds + self.late_share * (idle_seconds + self.leaving_seconds)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Levels:
    """Demand cut into levels. One array entry per gap, times in seconds from the window's start."""

    seconds: int
    """Length of the window."""
    peak: int
    """Most nodes needed at once."""
    demand: Ints
    """Busy node-seconds of each minute."""
    level: Ints
    """Level of each gap, from 1."""
    start: Ints
    length: Ints
    warm: Bools
    """False where the gap precedes the level's first use and no node was there to idle."""
    closed: Bools
    """False where the window ends before the level is needed again."""

    @property
    def busy_seconds(self) -> int:
        """Node-seconds of work: what no scaling policy can save."""
        return int(self.demand.sum())


def cut_into_levels(demand: Floats, *, on_at_start: int = 0) -> Levels:
    """Return the levels of a demand curve.

    Args:
        demand: nodes needed, averaged over each minute of the window; no NaN.
        on_at_start: nodes already there when the window opens; they may idle before their first
            use, all others start cold.

    Within a minute that is partly idle, the idle part lies after the work where the minute before
    was busy too, and before it elsewhere.
    """
    first = np.append(0, np.flatnonzero(demand[1:] != demand[:-1]) + 1)[: demand.size]
    minutes = np.diff(first, append=demand.size)
    busy = np.rint(np.maximum(demand[first], 0.0) * SECONDS_PER_MINUTE).astype(np.int64)
    seconds = demand.size * SECONDS_PER_MINUTE
    at, nodes = _steps(first, minutes, busy)
    peak = int(nodes.max(initial=0))
    # The window opens with every level idle and closes as if every level were needed: levels then
    # fall as often as they rise, and each gap lasts from a fall to the rise of the same number.
    at = np.concatenate(([0], at, [seconds, seconds]))
    nodes = np.concatenate(([peak, 0], nodes, [0, peak]))
    level, start = _crossings(at, nodes[1:], nodes[:-1])
    _, end = _crossings(at, nodes[:-1], nodes[1:])
    warm = (np.diff(level, prepend=0) == 0) | (level <= on_at_start)
    # A cold first use is a start even where it comes at once.
    keep = (end > start) | ~warm
    return Levels(
        seconds=seconds,
        peak=peak,
        demand=np.repeat(busy, minutes),
        level=level[keep],
        start=start[keep],
        length=(end - start)[keep],
        warm=warm[keep],
        closed=np.diff(level, append=peak + 1)[keep] == 0,
    )


def _steps(first: Ints, minutes: Ints, busy: Ints) -> tuple[Ints, Ints]:
    """Return when the number of busy nodes may change and what it is from then on.

    Args:
        first: where each run of minutes of equal demand begins.
        minutes: length of each run.
        busy: busy node-seconds of each of its minutes.
    """
    # Each minute that is partly idle is two steps.
    times = np.where(busy % SECONDS_PER_MINUTE, minutes, 1)
    busy = np.repeat(busy, times)
    minute = np.repeat(first - times.cumsum() + times, times) + np.arange(busy.size)
    most = (busy + SECONDS_PER_MINUTE - 1) // SECONDS_PER_MINUTE
    rest = most * SECONDS_PER_MINUTE - busy
    follows = most <= np.append(0, most[:-1])[: most.size]
    at, nodes = np.empty((2, busy.size, 2), np.int64)
    at[:, 0] = minute * SECONDS_PER_MINUTE
    at[:, 1] = at[:, 0] + np.where(follows, SECONDS_PER_MINUTE - rest, rest)
    least = most - (rest > 0)
    nodes[:, 0] = np.where(follows, most, least)
    nodes[:, 1] = np.where(follows, least, most)
    return at.ravel(), nodes.ravel()


def _crossings(at: Ints, low: Ints, high: Ints) -> tuple[Ints, Ints]:
    """Return level and time of each level between `low` and `high`, in order of both."""
    crossed = np.flatnonzero(high > low)
    count = high[crossed] - low[crossed]
    before = count.cumsum() - count
    level = np.arange(count.sum()) + np.repeat(low[crossed] - before + 1, count)
    # Numbers of few bits are sorted by radix, in one pass over them.
    order = np.argsort(level.astype(np.min_scalar_type(high.max())), kind="stable")
    return level[order], np.repeat(at[crossed], count)[order]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Outcome:
    """What one policy pays for, beside the work itself."""

    start: Ints
    """Start of each paid stretch of idling, in seconds from the window's start."""
    paid: Ints
    """Its length."""
    nodes: Ints
    """How many nodes idle through it."""
    starts_at: Ints
    """When each cold start ends, that is, when its node is needed."""
    paid_per_start: float
    """Node-seconds of a cold start."""

    @property
    def idle_seconds(self) -> int:
        """Node-seconds of idling and leaving."""
        return int((self.paid * self.nodes).sum())

    @property
    def starts(self) -> int:
        """Cold starts."""
        return self.starts_at.size


def replay(levels: Levels, settings: ClusterSettings, physics: Physics) -> Outcome:
    """Return what `settings` would have paid for on this demand."""
    idle, leaving = settings.idle_seconds, round(physics.leaving_seconds)
    pinned = levels.level <= settings.min_nodes
    outlives = levels.length > idle
    paid = np.where(outlives, idle + leaving, levels.length)
    paid = np.where(levels.closed, paid, np.minimum(paid, levels.length))
    paid = np.where(levels.warm, paid, 0)
    paid = np.where(pinned, levels.length, paid)
    started = ~pinned & levels.closed & (outlives | ~levels.warm)
    spare = max(0, settings.min_nodes - levels.peak)
    return Outcome(
        start=np.append(levels.start, 0),
        paid=np.append(paid, levels.seconds if spare else 0),
        nodes=np.append(np.ones_like(paid), spare),
        starts_at=(levels.start + levels.length)[started],
        paid_per_start=float(physics.paid_per_start(idle)),
    )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Curve:
    """Every candidate at once. Rows are min nodes, columns idle times."""

    min_nodes: Ints
    idle_seconds: Ints
    paid_idle_seconds: Ints
    """Node-seconds of idling and leaving."""
    starts: Ints

    def node_seconds(self, busy_seconds: int, physics: Physics) -> Floats:
        """Return all paid node-seconds, cold starts included."""
        per_start = physics.paid_per_start(self.idle_seconds.astype(np.float64))
        return busy_seconds + self.paid_idle_seconds + self.starts * per_start


def sweep(
    levels: Levels, *, min_nodes: Sequence[int], idle_seconds: Sequence[int], physics: Physics
) -> Curve:
    """Return the exact answer of `replay` for every pair of candidates, without replaying each.

    Gaps fall into the bins between the candidate idle times; sums over bins serve all idle times
    and sums over levels all minimum node counts: O(gaps + levels × candidates), performance.md §3.
    """
    idle: Ints = np.asarray(sorted(idle_seconds), dtype=np.int64)
    floors = np.asarray(min_nodes, dtype=np.int64)
    leaving = round(physics.leaving_seconds)
    shape = (levels.peak + 1, idle.size + 1)

    # A warm closed gap in bin j outlives the idle times before j and is paid in full by the others.
    warm = np.flatnonzero(levels.warm & levels.closed)
    length = levels.length[warm]
    cell = levels.level[warm] * shape[1] + np.searchsorted(idle, length)
    count = np.bincount(cell, minlength=shape[0] * shape[1]).reshape(shape)
    # Floats are exact here: no sum of seconds comes near 2**53.
    total = np.bincount(cell, weights=length, minlength=count.size).reshape(shape).astype(np.int64)
    starts = count.sum(axis=1, keepdims=True) - count.cumsum(axis=1)[:, :-1]
    paid = total.cumsum(axis=1)[:, :-1] + starts * (idle + leaving)
    # Cold first uses start once whatever the idle time; open gaps never start.
    cold = levels.level[~levels.warm & levels.closed]
    starts += np.bincount(cold, minlength=shape[0])[:, None]
    last = np.flatnonzero(levels.warm & ~levels.closed)  # one at most for each level
    left = levels.length[last][:, None]
    paid[levels.level[last]] += np.where(left > idle, np.minimum(idle + leaving, left), left)

    pinned_paid = np.bincount(levels.level, weights=levels.length, minlength=shape[0])
    below = np.minimum(floors, levels.peak)
    spare = np.maximum(floors - levels.peak, 0) * levels.seconds
    pinned = pinned_paid.astype(np.int64).cumsum()[below] + spare
    free_paid = paid.sum(axis=0) - paid.cumsum(axis=0)[below]
    free_starts = starts.sum(axis=0) - starts.cumsum(axis=0)[below]
    return Curve(
        min_nodes=floors,
        idle_seconds=idle,
        paid_idle_seconds=free_paid + pinned[:, None],
        starts=free_starts,
    )


def covered(start: Ints, length: Ints, weight: Ints | Floats, edges: Ints) -> Floats:
    """Return the weighted seconds of stretches that fall between consecutive edges.

    Shape: one figure fewer than `edges`, which rise. O((stretches + edges) log stretches).
    """
    return np.diff(_ramp(start, weight, edges) - _ramp(start + length, weight, edges))


def _ramp(corner: Ints, weight: Ints | Floats, edges: Ints) -> Floats:
    """Return Σ weight × max(0, edge − corner) for each edge."""
    order = np.argsort(corner, kind="stable")
    corner, weight = corner[order], weight[order]
    upto = np.searchsorted(corner, edges, side="right")
    weights = np.concatenate(([0], weight.cumsum()))[upto]
    moments = np.concatenate(([0], (weight * corner).cumsum()))[upto]
    ramp: Floats = (weights * edges - moments).astype(np.float64)
    return ramp


def paid_by(levels: Levels, outcome: Outcome, edges: Ints) -> Floats:
    """Return the paid node-seconds between consecutive edges, in seconds from the window's start.

    Edges lie on whole minutes. A cold start counts where its node is needed, at its end.
    """
    work = np.concatenate(([0], levels.demand.cumsum()))[edges // SECONDS_PER_MINUTE]
    idle = covered(outcome.start, outcome.paid, outcome.nodes, edges)
    # A start at the very end of the window belongs to its last stretch.
    starts, _ = np.histogram(outcome.starts_at, bins=edges)
    paid: Floats = np.diff(work) + idle + starts * outcome.paid_per_start
    return paid
