"""How long jobs wait for nodes that have to be allocated, as the clusters of an estate show it."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

OWN_WEIGHT = 20
"""So many starts of its own tell as much of a cluster as all others of its estate: they scatter by
a third or so, which leaves a mean of twenty uncertain by a fourteenth."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Starts:
    """Occasions on which nodes came up, one array entry each."""

    nodes: Ints
    """How many were coming at once."""
    seconds: Floats
    """Until the last of them was there."""

    def wait(self, nodes: int) -> float:
        """Return the mean seconds until the last of so many nodes is there; NaN: none ever came.

        A job waits for the slowest of its nodes, so the more of them, the longer. It is the mean of
        the occasions with as many, or of the largest of so many draws from those with one node,
        E[max] = Σ x₍ᵢ₎ ((i/n)ᵐ − ((i−1)/n)ᵐ), whichever were seen more often.

        >>> seen = Starts(nodes=np.array([1, 1]), seconds=np.array([100.0, 200.0]))
        >>> seen.wait(1), seen.wait(2)
        (150.0, 175.0)
        """
        alike, alone = (np.sort(self.seconds[self.nodes == count]) for count in (nodes, 1))
        if alike.size >= alone.size and alike.size:
            return float(alike.mean())
        if not alone.size:
            return float(self.seconds.mean()) if self.seconds.size else np.nan
        upto = (np.arange(alone.size + 1) / alone.size) ** nodes
        return float((alone * np.diff(upto)).sum())

    def waits(self, nodes: Ints) -> Floats:
        """Return `wait` of each count of nodes."""
        counts, which = np.unique(nodes, return_inverse=True)
        return np.array([self.wait(count) for count in counts.tolist()], dtype=np.float64)[which]


def starts_of(preparing: Floats) -> Starts:
    """Return each unbroken stretch of minutes in which nodes were coming up as one occasion.

    Args:
        preparing: nodes coming up, averaged over each minute; NaN = not told.
    """
    coming = np.nan_to_num(preparing)
    edges = np.flatnonzero(np.diff(np.concatenate(([0], (coming > 0).astype(np.int8), [0]))))
    first = edges[::2]
    if not first.size:
        return Starts(nodes=np.empty(0, np.int64), seconds=np.empty(0))
    # What lies between two stretches is 0 and adds nothing.
    most = np.maximum.reduceat(coming, first)
    return Starts(
        nodes=np.maximum(np.rint(most), 1).astype(np.int64),
        seconds=np.add.reduceat(np.minimum(coming, 1.0), first) * 60,
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
