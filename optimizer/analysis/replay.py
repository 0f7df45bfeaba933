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
    busy = np.rint(np.maximum(demand, 0.0) * SECONDS_PER_MINUTE).astype(np.int64)
    peak = -(-int(busy.max(initial=0)) // SECONDS_PER_MINUTE)
    parts = [_gaps_of_level(busy, k, warm_at_start=k <= on_at_start) for k in range(1, peak + 1)]
    level, start, length, warm, closed = (
        np.concatenate(columns) if parts else np.empty(0, dtype=dtype)
        for columns, dtype in zip(
            zip(*parts, strict=True) if parts else [()] * 5,
            (np.int64, np.int64, np.int64, np.bool_, np.bool_),
            strict=True,
        )
    )
    return Levels(
        seconds=busy.size * SECONDS_PER_MINUTE,
        peak=peak,
        demand=busy,
        level=level,
        start=start,
        length=length,
        warm=warm,
        closed=closed,
    )


def _gaps_of_level(
    busy: Ints, level: int, *, warm_at_start: bool
) -> tuple[Ints, Ints, Ints, Bools, Bools]:
    """Return level, start, length, warm and closed of the gaps of one level, in order of time."""
    minute = SECONDS_PER_MINUTE
    here = np.clip(busy - (level - 1) * minute, 0, minute)
    at = np.flatnonzero(here)
    rest = minute - here[at]
    follows = np.diff(at, prepend=-2) == 1
    before = np.where(follows, 0, rest)
    # Bounds of the gaps: the window's start, each busy minute, the window's end.
    gap_start = np.concatenate(([0], at * minute + before + here[at]))
    gap_end = np.concatenate((at * minute + before, [busy.size * minute]))
    count = gap_start.size
    warm = np.ones(count, dtype=np.bool_)
    warm[0] = warm_at_start
    closed = np.ones(count, dtype=np.bool_)
    closed[-1] = False
    length = gap_end - gap_start
    # A cold first use is a start even where it comes at once.
    keep = (length > 0) | ~warm
    return (
        np.full(int(keep.sum()), level, dtype=np.int64),
        gap_start[keep],
        length[keep],
        warm[keep],
        closed[keep],
    )


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
    idle = np.asarray(sorted(idle_seconds), dtype=np.int64)
    floors = np.asarray(min_nodes, dtype=np.int64)
    leaving = round(physics.leaving_seconds)
    shape = (levels.peak + 1, idle.size + 1)

    # A warm closed gap in bin j outlives the idle times before j and is paid in full by the others.
    paid, starts = (
        np.zeros(shape[:1] + idle.shape, np.int64),
        np.zeros_like(idle, shape=(shape[0], idle.size)),
    )
    warm = levels.warm & levels.closed
    bins = np.searchsorted(idle, levels.length[warm], side="left")
    count, total = np.zeros(shape, np.int64), np.zeros(shape, np.int64)
    np.add.at(count, (levels.level[warm], bins), 1)
    np.add.at(total, (levels.level[warm], bins), levels.length[warm])
    outlive = count.sum(axis=1, keepdims=True) - count.cumsum(axis=1)[:, :-1]
    paid += total.cumsum(axis=1)[:, :-1] + outlive * (idle + leaving)
    starts += outlive
    # Cold first uses start once whatever the idle time; open gaps never start.
    cold = ~levels.warm & levels.closed
    np.add.at(starts, levels.level[cold], 1)
    last = levels.warm & ~levels.closed
    length = levels.length[last][:, None]
    np.add.at(
        paid,
        levels.level[last],
        np.where(length > idle, np.minimum(idle + leaving, length), length),
    )

    pinned_paid = np.zeros(shape[0], np.int64)
    np.add.at(pinned_paid, levels.level, levels.length)
    below = np.minimum(floors, levels.peak)
    spare = np.maximum(floors - levels.peak, 0) * levels.seconds
    pinned = pinned_paid.cumsum()[below] + spare
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
