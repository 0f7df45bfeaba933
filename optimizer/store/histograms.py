"""Lossless histograms of 1,001 bins, as tables keep them (`tables.HISTOGRAM`) and as numbers."""

from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

BINS = 1001

Ints = npt.NDArray[np.integer[Any]]
Floats = npt.NDArray[np.float64]


def coded(minutes: npt.NDArray[Any]) -> pa.Array:
    """Return histograms as tables keep them; null where no bin holds anything.

    Shape: `minutes` has a row for each histogram; bins from the 1,001st on are empty.
    """
    count, width = minutes.shape
    edges = np.arange(count + 1) * width
    cell = np.flatnonzero(minutes != 0)
    first = np.searchsorted(cell, edges)
    filled = np.diff(first) > 0
    rise = np.diff(cell, prepend=0)
    begins = first[:-1][filled]
    rise[begins] = cell[begins] - edges[:-1][filled]
    kept = {"rise": rise.astype(np.uint16), "minutes": minutes.ravel()[cell].astype(np.uint32)}
    entries = pa.StructArray.from_arrays([pa.array(each) for each in kept.values()], list(kept))
    return pa.ListArray.from_arrays(pa.array(first, pa.int32()), entries, mask=pa.array(~filled))


def decoded(histograms: pa.ChunkedArray) -> tuple[Ints, Ints, Ints]:
    """Return how many bins of each histogram hold anything, which they are, and their minutes."""
    lists = histograms.combine_chunks()
    entries, filled = lists.flatten(), lists.value_lengths().fill_null(0).to_numpy()
    risen = np.append(0, entries.field("rise").to_numpy().cumsum(dtype=np.int64))
    before = risen[filled.cumsum() - filled]
    return filled, risen[1:] - np.repeat(before, filled), entries.field("minutes").to_numpy()


def summed(histograms: pa.ChunkedArray, group: Ints, groups: int) -> Floats:
    """Return the minutes of each group's histograms by bin. Shape: groups × bins."""
    filled, bins, minutes = decoded(histograms)
    cell = bins + np.repeat(group * BINS, filled)
    total = np.bincount(cell, weights=minutes, minlength=groups * BINS)
    return total.astype(np.float64, copy=False).reshape(groups, BINS)
