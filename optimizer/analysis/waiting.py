"""Which work finds its nodes gone and waits, under any scaling policy."""

import numpy as np

from optimizer.analysis.replay import SECONDS_PER_MINUTE, Bools, Ints, Levels
from optimizer.analysis.work import NO_RUNS, Runs
from optimizer.model import ClusterSettings

ONE_JOB_SECONDS = 120
"""Nodes that begin to work within it of each other are taken for those of one job."""


def cold_starts(
    levels: Levels,
    settings: ClusterSettings,
    *,
    was: ClusterSettings | None = None,
    runs: Runs = NO_RUNS,
    wait_seconds: float = 0.0,
) -> Ints:
    """Return when nodes begin to work that had to be allocated, in seconds, level by level.

    A pause as it was seen lasts until the next job had its node. The job itself came so much sooner
    as it waited, and work before it that now waits, and did not, ends so much later: a node stays
    for the job if what is left is no longer than the idle time. Where runs go on side by side the
    latter is left out: a late run there shortens one pause and runs into another job, which then
    wants a node more.

    Args:
        levels: the demand.
        settings: what decides how long nodes stay.
        was: what decided when demand was seen; None: `settings`.
        runs: they tell what went on side by side; where none is known, nothing did.
        wait_seconds: how long a job waits for a cold start.
    """
    cold = _is_cold(levels, settings)
    if was is not None and cold.size:
        waited = _waited(levels, was)
        warm_only = levels.warm & levels.closed & (levels.level > settings.min_nodes)
        earlier = (np.diff(levels.level, prepend=0) == 0) & _after_one_run(levels, runs)
        waited_before = np.append(False, waited[:-1]) & earlier
        left = levels.length - wait_seconds * (waited.astype(float) - waited_before)
        after_warm = np.where(warm_only, left > settings.idle_seconds, cold)
        after_cold = np.where(
            warm_only & earlier, left - wait_seconds > settings.idle_seconds, after_warm
        )
        cold = _one_after_another(after_warm, after_cold)
    moments: Ints = (levels.start + levels.length)[cold]
    return moments


def _is_cold(levels: Levels, settings: ClusterSettings) -> Bools:
    """Tell which pauses end in a cold start, whatever waits."""
    free = levels.level > settings.min_nodes
    outlived = levels.warm & (levels.length > settings.idle_seconds)
    cold: Bools = free & levels.closed & (outlived | ~levels.warm)
    return cold


def _after_one_run(levels: Levels, runs: Runs) -> Bools:
    """Tell which pauses follow on one run of the cluster, and nothing beside it."""
    began = np.append(0, (levels.start + levels.length)[:-1]) + SECONDS_PER_MINUTE
    started = np.searchsorted(np.sort(runs.start), levels.start - SECONDS_PER_MINUTE)
    ended = np.searchsorted(np.sort(runs.end), began, side="right")
    alone: Bools = started - ended <= 1
    return alone


def _waited(levels: Levels, settings: ClusterSettings) -> Bools:
    """Tell which pauses end with a job that waits: this node may be there when others are not."""
    ends = levels.start + levels.length
    cold = np.sort(ends[_is_cold(levels, settings)])
    # Minutes are means, so the nodes of one job may seem to begin in two of them.
    following = np.searchsorted(cold, ends - SECONDS_PER_MINUTE)
    nearest = np.append(cold, np.iinfo(np.int64).max)[following]
    waits: Bools = levels.closed & (nearest <= ends + SECONDS_PER_MINUTE)
    return waits


def _one_after_another(after_false: Bools, after_true: Bools) -> Bools:
    """Return flags each of which is the one or the other, by what the flag before it is.

    True after False and False after True is all that depends on it. The first depends on nothing.

    >>> after_false, after_true = np.array([[1, 1, 1, 0, 1], [1, 0, 0, 0, 0]], dtype=bool)
    >>> _one_after_another(after_false, after_true).astype(int)
    array([1, 0, 1, 0, 1])
    """
    place = np.arange(after_false.size)
    last = np.maximum.accumulate(np.where(after_false == after_true, place, 0))
    flags: Bools = after_false[last] ^ ((place - last) % 2 == 1)
    return flags


def together_at(moments: Ints) -> Ints:
    """Return how many nodes began to work on each occasion: what is near each other is one.

    >>> together_at(np.array([0, 30, 60, 7200])).tolist()
    [3, 1]
    """
    ordered = np.sort(moments)
    nodes: Ints = np.diff(np.append(_begins(ordered), ordered.size))
    return nodes


def _begins(ordered: Ints) -> Ints:
    """Return where in rising moments each occasion begins."""
    begins: Ints = np.flatnonzero(np.diff(ordered, prepend=-np.inf) > ONE_JOB_SECONDS)
    return begins


def jobs_at(moments: Ints, runs: Runs, *, spread: int = 1) -> Ints:
    """Return how many jobs waited on each occasion that nodes began to work at these moments.

    Each trial of a sweep waits for its own node, and a job of many nodes for all of them. Where
    runs that begin together want more nodes than came, only so many waited as these are enough for,
    one at least. Where no run is known, those of one occasion are taken for one job's.

    Args:
        moments: when nodes that had to be allocated begin to work, in seconds.
        runs: the runs.
        spread: how many nodes each takes in place of one.

    >>> from optimizer.analysis.work import anonymous
    >>> trials, gang = (anonymous(np.array(at), np.array(at) + 60, np.array(nodes))
    ...                 for at, nodes in (([0, 30, 60], [1, 1, 1]), ([10], [3])))
    >>> jobs_at(np.array([0, 30, 60]), trials), jobs_at(np.array([0, 30, 60]), gang)
    (array([3]), array([1]))
    """
    ordered = np.sort(moments)
    begins = _begins(ordered)
    if not runs.start.size or not ordered.size:
        return np.ones_like(begins)
    came = together_at(moments)
    by_start = np.argsort(runs.start)
    start = runs.start[by_start]
    wanted = np.append(0, np.cumsum(runs.nodes[by_start] * spread))
    last = ordered[np.append(begins[1:], ordered.size) - 1]
    first_run = np.searchsorted(start, ordered[begins] - SECONDS_PER_MINUTE)
    after_last = np.searchsorted(start, last + SECONDS_PER_MINUTE, side="right")
    began = after_last - first_run
    nodes = np.maximum(wanted[after_last] - wanted[first_run], 1)
    waited = np.ceil(np.minimum(came / nodes, 1.0) * began)
    jobs: Ints = np.maximum(waited, 1).astype(np.int64)
    return jobs
