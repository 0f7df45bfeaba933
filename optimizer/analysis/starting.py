"""How long jobs wait for nodes that have to be allocated, as the clusters of an estate show it."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.special import betainc

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

OWN_WEIGHT = 20
"""So many starts of its own tell as much of a cluster as all others of its estate: they scatter by
a third or so, which leaves a mean of twenty uncertain by a fourteenth."""

A_RISE = 1e-6
"""Of a mean of a minute; less is what arithmetic leaves."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Starts:
    """Occasions on which nodes came up, one array entry each."""

    nodes: Ints
    """How many were coming at once."""
    seconds: Floats
    """Until the last of them was there."""

    def wait(self, nodes: int, jobs: int = 1) -> float:
        """Return the mean seconds until each of some jobs has so many nodes; NaN: none ever came.

        Nodes asked for at once go to one job after the other as they come, so that job j of k waits
        for the jn-th of kn nodes, E[X₍ᵣ:ₘ₎] = Σ x₍ᵢ₎ (I(i/N; r, m−r+1) − I((i−1)/N; r, m−r+1)) over
        the N occasions with one node (order statistics; I is the regularised incomplete beta
        function). Where as many as one job wants were seen more often, it is their mean.

        >>> seen = Starts(nodes=np.array([1, 1]), seconds=np.array([100.0, 200.0]))
        >>> seen.wait(1), seen.wait(2), seen.wait(1, jobs=2)
        (150.0, 175.0, 150.0)
        """
        alike, alone = (np.sort(self.seconds[self.nodes == count]) for count in (nodes, 1))
        if jobs == 1 and alike.size >= alone.size and alike.size:
            return float(alike.mean())
        if not alone.size:
            return float(self.seconds.mean()) if self.seconds.size else np.nan
        upto = np.arange(alone.size + 1) / alone.size
        rank = nodes * np.arange(1, jobs + 1)[:, None]
        chance = np.diff(betainc(rank, nodes * jobs - rank + 1, upto), axis=1)
        return float((chance @ alone).mean())

    def waits(self, nodes: Ints, jobs: Ints | int = 1) -> Floats:
        """Return `wait` of each count of nodes, and of jobs."""
        pairs = np.stack(np.broadcast_arrays(nodes, jobs))
        unlike, which = np.unique(pairs, axis=1, return_inverse=True)
        each = [self.wait(count, of) for count, of in unlike.T.tolist()]
        return np.array(each, dtype=np.float64)[which.reshape(-1)]


def starts_of(preparing: Floats) -> Starts:
    """Return each unbroken stretch of minutes in which nodes asked for at once came up.

    Where more were asked for before all had come, the stretch tells of no job how long it waited,
    and is left out.

    Args:
        preparing: nodes coming up, averaged over each minute; NaN = not told.
    """
    coming = np.nan_to_num(preparing)
    edges = np.flatnonzero(np.diff(np.concatenate(([0], (coming > 0).astype(np.int8), [0]))))
    first, after = edges[::2], edges[1::2]
    if not first.size:
        return Starts(nodes=np.empty(0, np.int64), seconds=np.empty(0))
    # The first minute is a part of one, so that the second may show more of the same nodes.
    rises = np.append(0, np.diff(coming) > A_RISE)
    rises[first] = 0
    rises[np.minimum(first + 1, coming.size - 1)] = 0
    # What lies between two stretches is 0 and adds nothing, but the fall to it is none.
    upto = np.append(0, np.cumsum(rises))
    at_once = upto[after] == upto[first]
    most = np.maximum.reduceat(coming, first)[at_once]
    return Starts(
        nodes=np.maximum(np.rint(most), 1).astype(np.int64),
        seconds=(np.add.reduceat(np.minimum(coming, 1.0), first) * 60)[at_once],
    )


def together(every: Iterable[Starts]) -> Starts:
    """Return the starts of several clusters: Azure allocates the nodes of all alike."""
    parts = list(every)
    return Starts(
        nodes=np.concatenate([np.empty(0, np.int64), *(part.nodes for part in parts)]),
        seconds=np.concatenate([np.empty(0), *(part.seconds for part in parts)]),
    )


def pace(own: Starts, usual: Starts) -> float:
    """Return how many times as long as usual the starts of one cluster take.

    1 where it showed none; the more it showed, the more its own count.

    >>> slow = Starts(nodes=np.ones(20, np.int64), seconds=np.full(20, 300.0))
    >>> pace(slow, Starts(nodes=np.array([1]), seconds=np.array([200.0])))
    1.25
    """
    if not own.seconds.size:
        return 1.0
    expected = float(usual.waits(own.nodes).sum())
    share = own.seconds.size / (own.seconds.size + OWN_WEIGHT)
    return 1.0 + share * (float(own.seconds.sum()) / expected - 1.0)
